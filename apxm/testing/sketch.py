"""Graphs in a few lines, for tests: nodes as a map, edges as text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ARROWS = {"->": "Data", "=>": "Control", "~>": "Effect"}
_EDGE = re.compile(r"(?P<source>\w+)(@(?P<label>[^-=~]+))?(?P<arrow>->|=>|~>)(?P<target>\d+)(:(?P<port>\w+))?")


def sketch(
    nodes: Mapping[int, Any],
    edges: str = "",
    *,
    parameters: Iterable[str] = (),
    exits: Iterable[str] = (),
    name: str = "main",
) -> dict[str, Any]:
    """A graph in the JSON contract.

    `nodes` maps an id to an operation name, to `(operation, attributes)` or to `(operation, attributes, regions)`; a node
    is named `n<id>`. `edges` are separated by blanks: `1->2` Data, `1=>2` Control, `1~>2` Effect; `1@true->2` has a
    label, `1->2:a` a port, `topic->2` comes from a parameter. Parameters are of type json unless written `name:type`.
    """
    made: dict[str, Any] = {
        "name": name,
        "nodes": [_node(node_id, spec) for node_id, spec in nodes.items()],
        "edges": [_edge(text) for text in edges.split()],
    }
    if parameters := list(parameters):
        split = [one.partition(":") for one in parameters]
        made["parameters"] = [{"name": one, "type_name": kind or "json"} for one, _, kind in split]
    if exits := list(exits):
        made["metadata"] = {"exits": exits}
    return made


def _node(node_id: int, spec: Any) -> dict[str, Any]:
    op, *rest = (spec,) if isinstance(spec, str) else spec
    node: dict[str, Any] = {"id": node_id, "name": f"n{node_id}", "op": op, "attributes": dict(rest[0]) if rest else {}}
    if len(rest) > 1:
        node["regions"] = dict(rest[1])
    return node


def _edge(text: str) -> dict[str, Any]:
    match = _EDGE.fullmatch(text)
    assert match is not None, f"`{text}` is no edge; write for example 1@true->2:port"
    source = match["source"]
    edge = {
        "from": int(source) if source.isdigit() else source,
        "to": int(match["target"]),
        "dependency": _ARROWS[match["arrow"]],
    }
    return edge | {key: match[key] for key in ("port", "label") if match[key] is not None}
