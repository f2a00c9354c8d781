"""A dag as tests like to read it: by names instead of slots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.compiler.compile import compile
from apxm.graph.ops import BY_CODE

if TYPE_CHECKING:
    from apxm.dag import ExecutionDag


def lowered(nodes: list[dict[str, Any]], edges: list[Any], level: int = 0, **more: Any) -> ExecutionDag:
    """The dag of a graph; an edge is a map or (from, to) or (from, to, "label" or "@port" or "Control" ...)."""
    graph = {"name": "g", "nodes": nodes, "edges": [edge(*e) if isinstance(e, tuple) else e for e in edges], **more}
    return compile(graph, level=level).into_dag()


def edge(source: int | str, target: int, *extras: str) -> dict[str, Any]:
    found: dict[str, Any] = {"from": source, "to": target}
    for extra in extras:
        if extra in ("Control", "Effect", "Data"):
            found["dependency"] = extra
        elif extra.startswith("@"):
            found["port"] = extra[1:]
        else:
            found["label"] = extra
    return found


def node(id: int, op: str, name: str | None = None, **attributes: Any) -> dict[str, Any]:
    """A node with `name` as given, or the letter for its id."""
    regions = attributes.pop("regions", {})
    return {"id": id, "name": name or chr(96 + id), "op": op, "attributes": attributes, "regions": regions}


def const(id: int, value: Any = "v", name: str | None = None) -> dict[str, Any]:
    return node(id, "CONST_STR", name, value=value)


def inputs(dag: ExecutionDag, name: str) -> list[str]:
    """The in-edges of a node: `source`, `source@port`, `source!label`, and `~source` for Control, `^source` for Effect."""
    found = []
    for one in dag.in_edges(slot(dag, name)):
        text = ("", "~", "^")[one.kind] + dag.names[one.source]
        found.append(text + (f"@{one.port}" if one.port else "") + (f"!{one.label}" if one.label else ""))
    return found


def slot(dag: ExecutionDag, name: str) -> int:
    return list(dag.names).index(name)


def attributes(dag: ExecutionDag, name: str) -> dict[str, Any]:
    return dict(dag.attributes.get(slot(dag, name), {}))


def op(dag: ExecutionDag, name: str) -> str:
    row = BY_CODE[dag.ops[slot(dag, name)]]
    return row.name if row else "parameter"


def region(dag: ExecutionDag, name: str, label: str) -> ExecutionDag:
    return dag.regions[slot(dag, name)][label]


def exits(dag: ExecutionDag) -> list[str]:
    return [dag.names[slot] for slot in dag.exits]


def names(dag: ExecutionDag) -> list[str]:
    """Names of the nodes in topological order."""
    return list(dag.names)[len(dag.parameters) :]


def parameters(dag: ExecutionDag) -> list[str]:
    return [parameter.name for parameter in dag.parameters]
