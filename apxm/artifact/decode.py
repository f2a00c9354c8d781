"""Payload -> Artifact. Inert: every field is checked, nothing is imported by name, nothing runs, only ArtifactError comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.artifact.check import check_dag
from apxm.artifact.columns import INT64, UINT, check_growing, fields, unpack, unpack_texts
from apxm.artifact.encode import AGENT_FIELDS, CAPABILITY_FIELDS, DAG_FIELDS, FLOW_FIELDS, PAYLOAD_FIELDS
from apxm.artifact.format import EDGES_MAX, NESTING_MAX, NODES_MAX, Artifact, CapabilityFacts, FlowKey
from apxm.artifact.manifest import capabilities_of
from apxm.artifact.scan import scan
from apxm.collector import collector_paused
from apxm.dag import Attributes, ExecutionDag
from apxm.errors import ArtifactError
from apxm.graph.model import PARAMETER_TYPES, Parameter
from apxm.graph.ops import Effect

if TYPE_CHECKING:
    from collections.abc import Mapping

_EFFECTS = frozenset(effect.value for effect in Effect)
_COLLECTOR_BYTES = 1 << 16  # from here on the cyclic collector costs more than it finds
_Regions = list[tuple[int, str, int]]


def decode(payload: bytes, values_max: int) -> Artifact:
    """The artifact in a payload of at most `values_max` msgpack values."""
    scan(payload, values_max)
    with collector_paused(len(payload) >= _COLLECTOR_BYTES):
        try:
            return _artifact(_unpacked(payload))
        except MemoryError as error:
            raise ArtifactError("the artifact needs more memory than there is") from error


def _unpacked(payload: bytes) -> Any:
    """The plain values. There is one way to write an artifact: bytes that would be written otherwise are refused.

    That also finds what a decoder silently accepts: a key given twice, a number longer than it needs to be.
    """
    import msgpack

    try:
        value = msgpack.unpackb(payload, raw=False, strict_map_key=True, max_ext_len=0)
        same = msgpack.packb(value, use_bin_type=True) == payload
    except (ValueError, TypeError, RecursionError, OverflowError, msgpack.UnpackException) as error:
        raise ArtifactError(f"the payload is no msgpack of ours: {error}") from error
    if not same:
        raise ArtifactError("the payload is not written the one way there is: a key given twice, or a longer form than needed")
    return value


def _record(data: Any, names: tuple[str, ...], types: tuple[type, ...], what: str) -> list[Any]:
    """The values of a map with exactly these keys, in this order, of exactly these types."""
    if type(data) is not dict or tuple(data) != names:
        found = f"with {', '.join(map(repr, data))}"[:200] if type(data) is dict else type(data).__name__
        raise ArtifactError(f"{what}: expected a map with the keys {', '.join(names)}, found {found}")
    values = list(data.values())
    for name, value, kind in zip(names, values, types):
        if type(value) is not kind:
            raise ArtifactError(f"{what}: `{name}` is {type(value).__name__}, expected {kind.__name__}")
    return values


def _artifact(data: Any) -> Artifact:
    types = (str, str, int, int, dict, list, list)
    name, compiler, level, entry, metadata, agents, packed = _record(data, PAYLOAD_FIELDS, types, "payload")
    if not name or level not in (0, 1):
        raise ArtifactError(f"payload: name {name!r} and level {level}, expected a name and level 0 or 1")
    read: list[tuple[ExecutionDag, _Regions]] = []
    room = (NODES_MAX, EDGES_MAX)
    for index, columns in enumerate(packed):
        dag, regions = _dag(columns, f"dag {index}", room)
        room = (room[0] - len(dag), room[1] - dag.edge_count)
        read.append((dag, regions))
    flows, manifest = _agents(agents, read)
    if not 0 <= entry < len(read) or (key := (read[entry][0].agent, read[entry][0].name)) not in flows:
        raise ArtifactError(f"payload: `entry` is {entry}, which is not one of the flows")
    return Artifact(
        name,
        flows,
        entry=key,
        level=level,
        compiler=compiler,
        manifest=manifest,
        agents={agent["name"]: agent["metadata"] for agent in agents},
        metadata=metadata,
    )


def _agents(
    agents: list[Any], read: list[tuple[ExecutionDag, _Regions]]
) -> tuple[dict[FlowKey, ExecutionDag], dict[FlowKey, Mapping[str, CapabilityFacts]]]:
    """The flows of all agents; every dag must be one flow or one region."""
    flows: dict[FlowKey, ExecutionDag] = {}
    manifest: dict[FlowKey, Mapping[str, CapabilityFacts]] = {}
    names: list[str] = []
    following, last = 0, None  # type: int, FlowKey | None
    for data in agents:
        name, _, listed = _record(data, AGENT_FIELDS, (str, dict, list), "agent")
        names.append(name)
        for flow in listed:
            index, facts = _record(flow, FLOW_FIELDS, (int, dict), f"flow of agent `{name}`")
            if index != following or index >= len(read):
                raise ArtifactError(f"flow of agent `{name}`: dag {index}, expected {following} of {len(read)}")
            following = _join_regions(read, index, name)
            dag = read[index][0]
            key = (name, dag.name)
            if last is not None and last >= key:
                raise ArtifactError(f"flow `{name}.{dag.name}`: flows are not sorted, or one is there twice")
            flows[key], manifest[key] = dag, _facts(facts, dag)
            last = key
    if following != len(read) or any(not a or a >= b for a, b in zip(names, [*names[1:], "\U0010ffff"])):
        raise ArtifactError("agents: expected different names, sorted, and every dag in one of them")
    return flows, manifest


def _join_regions(read: list[tuple[ExecutionDag, _Regions]], first: int, agent: str) -> int:
    """Put the dags of regions where they belong; gives the index after the last of them. They follow their dag in order."""
    following = first + 1
    pending = [(first, iter(read[first][1]))]  # the dags that are open, innermost last
    read[first][0].agent = agent
    while pending:
        holder, regions = pending[-1]
        region = next(regions, None)
        if region is None:
            pending.pop()
            continue
        slot, name, index = region
        if index != following or index >= len(read):
            raise ArtifactError(f"dag {holder}: region `{name}` is dag {index}, expected {following} of {len(read)}")
        if len(pending) >= NESTING_MAX:
            raise ArtifactError(f"dag {index}: regions nested deeper than {NESTING_MAX}")
        following += 1
        dag = read[index][0]
        dag.agent = agent
        read[holder][0].regions[slot][name] = dag  # type: ignore[index]
        pending.append((index, iter(read[index][1])))
    return following


def _facts(data: dict[str, Any], dag: ExecutionDag) -> dict[str, CapabilityFacts]:
    """The capability manifest of a flow, which has to be what the flow says."""
    where = f"flow `{dag.agent}.{dag.name}`"
    if list(data) != sorted(capabilities_of(dag)):
        raise ArtifactError(f"{where}: its capability manifest {list(data)} is not what its nodes name")
    facts = {}
    for name, value in data.items():
        if type(value) is not dict or tuple(value) != CAPABILITY_FIELDS:
            raise ArtifactError(f"{where}: capability `{name}`: expected a map with {', '.join(CAPABILITY_FIELDS)}")
        effect, schema = value["effect"], value["schema"]
        if (effect is not None and (type(effect) is not str or effect not in _EFFECTS)) or type(schema) not in (dict, type(None)):
            raise ArtifactError(f"{where}: capability `{name}` has no known effect class, or a schema that is no map")
        facts[name] = CapabilityFacts(effect, schema)
    return facts


def _dag(data: Any, where: str, room: tuple[int, int]) -> tuple[ExecutionDag, _Regions]:
    types = (str, bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes, list, list, bytes, list, list, list, dict)
    values = _record(data, DAG_FIELDS, types, where)
    name, ops, ids, names, offsets, sources, kinds, exits, ranks, parameters, table, which, ports, labels, regions, meta = values
    size, edges = len(ops), len(kinds)
    if size > room[0] or edges > room[1]:
        raise ArtifactError(f"{where}: more than {NODES_MAX} nodes or {EDGES_MAX} edges in all")
    listed = _regions(regions, size, where)
    holders: dict[int, dict[str, ExecutionDag]] = {slot: {} for slot, _, _ in listed}
    named: dict[int, set[str]] = {slot: set() for slot in holders}
    for slot, region, _ in listed:
        named[slot].add(region)
    dag = ExecutionDag(
        name=name,
        ops=ops,
        ids=unpack(INT64, ids, size, f"{where}: ids"),
        names=_names(names, size, where),
        in_offsets=unpack(UINT, offsets, size + 1, f"{where}: offsets"),
        in_sources=unpack(UINT, sources, edges, f"{where}: sources"),
        in_kinds=kinds,
        exits=unpack(UINT, exits, None, f"{where}: exits"),
        ranks=unpack(INT64, ranks, size, f"{where}: ranks"),
        parameters=_parameters(parameters, where),
        attributes=_attributes(table, which, size, where),
        ports=unpack_texts(ports, edges, f"{where}: ports"),
        labels=unpack_texts(labels, edges, f"{where}: labels"),
        regions=holders,
        metadata=meta,
    )
    check_dag(dag, named, where)
    return dag, listed


def _regions(data: list[Any], size: int, where: str) -> _Regions:
    listed: _Regions = []
    for entry in data:
        slot, name, index = fields(entry, (int, str, int), f"{where}: region")
        if listed and (slot, name) <= listed[-1][:2]:
            raise ArtifactError(f"{where}: regions are not sorted, or one is there twice")
        listed.append((slot, name, index))
    check_growing(sorted({slot for slot, _, _ in listed}), size, f"{where}: regions")
    return listed


def _names(data: bytes, size: int, where: str) -> list[str]:
    if data.count(0) != max(size - 1, 0):
        raise ArtifactError(f"{where}: {data.count(0) + 1} names for {size} slots")
    try:
        return data.decode().split("\0") if size else []
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{where}: names are no UTF-8: {error}") from error


def _parameters(data: list[Any], where: str) -> list[Parameter]:
    found: dict[str, Parameter] = {}
    for entry in data:
        name, kind = fields(entry, (str, str), f"{where}: parameter")
        if not name or name in found or kind not in PARAMETER_TYPES:
            raise ArtifactError(f"{where}: parameter {name!r} of type {kind!r}: no name, or there twice, or an unknown type")
        found[name] = Parameter(name, kind)
    return list(found.values())


def _attributes(table: list[Any], which: bytes, size: int, where: str) -> Attributes:
    """Attribute maps by slot. Slots with the same map share it."""
    if not all(type(values) is dict and values for values in table):
        raise ArtifactError(f"{where}: attributes: expected maps that are not empty")
    places = unpack(UINT, which, size, f"{where}: attribute_of")
    if set(places) - {0} != set(range(1, len(table) + 1)):
        raise ArtifactError(f"{where}: attribute_of uses maps that are not there, or not all that are")
    return Attributes(table, places)
