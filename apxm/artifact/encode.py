"""Artifact -> payload. The same program gives the same bytes, in every process.

    payload   {name, compiler, level, entry, metadata, agents, dags}     entry: index into dags
    agent     {name, metadata, flows}                                    sorted by name
    flow      {dag, capabilities}                                        dag: index; capabilities: {name: {effect, schema}}
    dag       {name, ops, ids, names, offsets, sources, kinds, exits, ranks, parameters, attributes, attribute_of,
               ports, labels, regions, metadata}

Maps have exactly these keys in this order. A dag is columns over its slots and edges (see `apxm.dag`), packed as bytes:
`ops` and `kinds` one byte each, `ids` and `ranks` 64 bits, `offsets`, `sources` and `exits` 32 bits; `names` is UTF-8
joined by NUL. `attributes` is the list of the different attribute maps, `attribute_of` has for every slot 0 or one more
than the index of its map. `ports` and `labels` are sparse columns of texts. `parameters` is a list of [name, type],
`regions` a list of [slot, name, index of dag]; the dags of regions come after the dag that holds them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.artifact.columns import INT64, UINT, pack, pack_texts
from apxm.artifact.format import NESTING_MAX, Artifact
from apxm.artifact.scan import scan
from apxm.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.dag import ExecutionDag

PAYLOAD_FIELDS = ("name", "compiler", "level", "entry", "metadata", "agents", "dags")
AGENT_FIELDS = ("name", "metadata", "flows")
FLOW_FIELDS = ("dag", "capabilities")
CAPABILITY_FIELDS = ("effect", "schema")
DAG_FIELDS = (
    *("name", "ops", "ids", "names", "offsets", "sources", "kinds", "exits", "ranks", "parameters"),
    *("attributes", "attribute_of", "ports", "labels", "regions", "metadata"),
)


def encode(artifact: Artifact) -> bytes:
    """The payload of an artifact; ArtifactError when the program holds what an artifact cannot."""
    dags: list[dict[str, Any]] = []
    agents: dict[str, list[dict[str, Any]]] = {name: [] for name in sorted(artifact.agents)}
    entry = -1
    for (agent, flow), dag in sorted(artifact.flows().items()):
        if (agent, flow) == artifact.entry:
            entry = len(dags)
        facts = sorted(artifact.manifest.get((agent, flow), {}).items())
        capabilities = {name: {"effect": fact.effect, "schema": fact.schema} for name, fact in facts}
        agents[agent].append({"dag": len(dags), "capabilities": capabilities})
        _add_dag(dag, dags, 1)
    payload = {
        "name": artifact.name,
        "compiler": artifact.compiler,
        "level": artifact.level,
        "entry": entry,
        "metadata": _by_key(artifact.metadata),
        "agents": [{"name": name, "metadata": _by_key(artifact.agents[name]), "flows": flows} for name, flows in agents.items()],
        "dags": dags,
    }
    data = _packed(payload, f"program `{artifact.name}`")
    scan(data, len(data))  # what could not be read back must not be written
    return data


def _by_key(values: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {key: values[key] for key in sorted(values)}
    except TypeError:
        raise ArtifactError(f"keys that are no text: {list(values)!r}") from None


def _packed(value: Any, where: str) -> bytes:
    import msgpack

    try:
        return msgpack.packb(value, use_bin_type=True)  # type: ignore[no-any-return]
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ArtifactError(f"{where} holds a value that cannot be stored: {error}") from error


def _add_dag(dag: ExecutionDag, dags: list[dict[str, Any]], depth: int) -> None:
    """Append the columns of a dag, then those of the dags in its regions."""
    where = f"flow `{dag.agent}.{dag.name}`"
    if depth > NESTING_MAX:
        raise ArtifactError(f"{where}: regions nested deeper than {NESTING_MAX}")
    try:
        columns = _columns(dag)
    except (OverflowError, TypeError) as error:
        raise ArtifactError(f"{where} has a number that does not fit its column: {error}") from error
    dags.append(columns)
    for slot in sorted(dag.regions):
        for name in sorted(dag.regions[slot]):
            columns["regions"].append([slot, name, len(dags)])
            _add_dag(dag.regions[slot][name], dags, depth + 1)


def _columns(dag: ExecutionDag) -> dict[str, Any]:
    attributes, attribute_of = _attribute_columns(dag)
    return {
        "name": dag.name,
        "ops": bytes(dag.ops),
        "ids": pack(INT64, dag.ids),
        "names": _joined(dag),
        "offsets": pack(UINT, dag.in_offsets),
        "sources": pack(UINT, dag.in_sources),
        "kinds": bytes(dag.in_kinds),
        "exits": pack(UINT, dag.exits),
        "ranks": pack(INT64, dag.ranks),
        "parameters": [[parameter.name, parameter.type_name] for parameter in dag.parameters],
        "attributes": attributes,
        "attribute_of": attribute_of,
        "ports": pack_texts(dag.ports),
        "labels": pack_texts(dag.labels),
        "regions": [],
        "metadata": _by_key(dag.metadata),
    }


def _attribute_columns(dag: ExecutionDag) -> tuple[list[Any], bytes]:
    """The different attribute maps in order of first use, and which one each slot has."""
    seen: dict[bytes, int] = {}
    shared: dict[int, int] = {}  # id of a map -> its place: nodes of one kind often share their map
    table: list[Any] = []
    places = [0] * len(dag)
    for slot in sorted(dag.attributes):
        values = dag.attributes[slot]
        if not values:
            continue
        place = shared.get(id(values))
        if place is None:
            ordered = _by_key(values)
            key = _packed(ordered, f"node `{dag.names[slot]}` of flow `{dag.name}`")
            place = seen.setdefault(key, len(seen) + 1)
            if place > len(table):
                table.append(ordered)
            shared[id(values)] = place
        places[slot] = place
    return table, pack(UINT, places)


def _joined(dag: ExecutionDag) -> bytes:
    text = "\0".join(dag.names)
    if text.count("\0") != max(len(dag.names) - 1, 0):
        raise ArtifactError(f"flow `{dag.name}`: a node name holds a NUL character")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ArtifactError(f"flow `{dag.name}`: a node name that is no Unicode text: {error}") from error
