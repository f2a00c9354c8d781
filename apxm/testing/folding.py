"""Loops and TRYs written as several nodes of one graph, read for the oracle as one node with regions. Never fires anything."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from apxm.testing.readgraph import ReadEdge, ReadGraph, ReadNode, assemble, topological, wire

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_PARTS = ("try", "catch", "finally")
_CARRIED, _INPUT = "(carried)", "(input)"  # parameters that no author could have written


def fold(nodes: dict[int, ReadNode], edges: list[ReadEdge]) -> list[ReadEdge]:
    """Put the bodies of loops and the parts of TRYs into regions, inner ones first; `nodes` keeps what is left."""
    if not any(node.op in ("LOOP_START", "TRY_CATCH") for node in nodes.values()):
        return edges
    wire(nodes, edges)
    for number in reversed(topological(nodes)):
        if number not in nodes:
            continue
        node = nodes[number]
        if node.op == "LOOP_START":
            edges = _fold_loop(nodes, edges, node)
        elif node.op == "TRY_CATCH" and any(e.source == number and e.label in _PARTS for e in edges):
            edges = _fold_try(nodes, edges, node)
    return edges


@dataclass(slots=True)
class _Cut:
    """What is taken out of a graph: `holder` gets the inputs that its regions need from outside."""

    holder: int
    names: dict[tuple[int | str, str | None], str] = field(default_factory=dict)
    inputs: list[ReadEdge] = field(default_factory=list)

    def region(self, edges: list[ReadEdge], members: Collection[int], own: int, entry: str | None) -> list[ReadEdge]:
        """The edges of a region of `members`. Data from `own` comes as the parameter `entry`, all else through the holder."""
        found = []
        for edge in edges:
            if edge.target not in members:
                continue
            if edge.source in members:
                found.append(edge)
            elif edge.kind != "Data":
                if edge.source != own:
                    self.inputs.append(replace(edge, target=self.holder))
            elif edge.source != own:
                found.append(self._from_outside(edge))
            elif entry is not None:
                found.append(replace(edge, source=entry, label=None, origin=own))
        return found

    def _from_outside(self, edge: ReadEdge) -> ReadEdge:
        key = (edge.source, edge.label)
        if key not in self.names:
            self.names[key] = f"(from outside {len(self.names)})"
            self.inputs.append(ReadEdge(edge.source, self.holder, port=self.names[key], label=edge.label, origin=edge.origin))
        origin = edge.source if isinstance(edge.source, int) else edge.origin
        return replace(edge, source=self.names[key], label=None, origin=origin)


def _made(name: str, nodes: Iterable[ReadNode], edges: list[ReadEdge], exits: list[int] | None) -> ReadGraph:
    parameters = dict.fromkeys(edge.source for edge in edges if isinstance(edge.source, str))
    return assemble(name, list(parameters), {node.id: node for node in nodes}, edges, exits)


def _reached(starts: Iterable[int], edges: list[ReadEdge], *, back: bool = False, stops: Collection[int] = ()) -> set[int]:
    """`starts`, and every node behind them (or before them)."""
    near: dict[int, list[int]] = {}
    for edge in edges:
        if isinstance(edge.source, int):
            here, there = (edge.target, edge.source) if back else (edge.source, edge.target)
            near.setdefault(here, []).append(there)
    found: set[int] = set()
    todo = list(starts)
    while todo:
        one = todo.pop()
        if one not in found and one not in stops:
            found.add(one)
            todo += near.get(one, [])
    return found


# ---- LOOP_START and LOOP_END -------------------------------------------------------------------------------------------
def _loop_name(node: ReadNode) -> str:
    return str(node.attributes.get("loop", node.attributes.get("label", "loop")))


def _fold_loop(nodes: dict[int, ReadNode], edges: list[ReadEdge], start: ReadNode) -> list[ReadEdge]:
    """The LOOP takes the place of the LOOP_END; what the LOOP_START got is carried first."""
    end = next(node for node in nodes.values() if node.op == "LOOP_END" and _loop_name(node) == _loop_name(start))
    wire(nodes, edges)
    members = _reached([start.id], edges) & _reached([end.id], edges, back=True) - {start.id, end.id}
    cut = _Cut(end.id)
    inside = cut.region(edges, members, start.id, _CARRIED)
    into = [edge for edge in edges if edge.target == end.id and (edge.source in members or edge.source == start.id)]
    body_nodes = [nodes[number] for number in members]
    sole = into[0] if len(into) == 1 else None
    if sole is not None and sole.kind == "Data" and sole.source in members and sole.label is None:
        result = sole.source
    else:  # a node of its own says what the iteration gives; it has the place of the LOOP_START, which is in no region
        result = start.id
        body_nodes.append(ReadNode(start.id, start.name, "YIELD", {}, {}))
        for edge in into:
            if edge.source == start.id:
                inside.append(ReadEdge(_CARRIED, start.id))
            else:
                inside.append(replace(edge, target=start.id, port=None))
    assert isinstance(result, int)
    body = _made(f"body of {end.name}", body_nodes, inside, [result])
    if _CARRIED not in body.parameters:
        body.parameters.append(_CARRIED)
    _become_loop(start, end, body)
    first = next((edge for edge in start.data if edge.port != "count"), None)
    kept = []
    for edge in edges:
        if edge.target == start.id:
            port = _CARRIED if edge == first else "count" if edge.port == "count" else None
            kept.append(replace(edge, target=end.id, port=port))
        elif edge.target == end.id and (edge.kind == "Data" or edge in into):
            continue
        elif edge.target not in members:
            kept.append(edge)
    for gone in (start.id, *members):
        del nodes[gone]
    return [*cut.inputs, *kept]


def _become_loop(start: ReadNode, end: ReadNode, body: ReadGraph) -> None:
    aside = ("loop", "label")
    mine = {name: value for one in (start, end) for name, value in one.attributes.items() if name not in aside}
    end.op, end.regions = "LOOP", {"body": body}
    end.attributes = {"max_iterations": 100, **mine, "carry": [_CARRIED]}


# ---- TRY_CATCH with labelled ways ----------------------------------------------------------------------------------------
def _fold_try(nodes: dict[int, ReadNode], edges: list[ReadEdge], head: ReadNode) -> list[ReadEdge]:
    """A part is what is behind its label, and behind no other way out of the node."""
    loops_around = [node.id for node in nodes.values() if node.op == "LOOP_END"]
    ways = {part: [e.target for e in edges if e.source == head.id and e.label == part] for part in _PARTS}
    ways[""] = [e.target for e in edges if e.source == head.id and e.label not in _PARTS]
    behind = {way: _reached(starts, edges, stops=loops_around) for way, starts in ways.items()}
    parts = {part: behind[part].difference(*(behind[way] for way in behind if way != part)) for part in _PARTS}
    wire(nodes, edges)
    first = head.data[0] if head.data else None
    cut = _Cut(head.id)
    for part in _PARTS:
        if ways[part]:
            entry = "error" if part == "catch" else _INPUT if first is not None else None
            head.regions[part] = _part(nodes, edges, head, part, parts[part], cut, entry)
    members = set().union(*parts.values())
    asked = any(_INPUT in region.parameters for region in head.regions.values())
    kept: list[ReadEdge] = []
    for edge in edges:
        if edge.target in members:
            continue
        if edge.target == head.id and edge.kind == "Data":
            kept.append(replace(edge, port=_INPUT if asked and edge == first else None))
        elif edge.source in members or (edge.source == head.id and edge.label in _PARTS):
            moved = ReadEdge(head.id, edge.target, edge.kind, edge.port)
            if moved not in kept:  # the ways out of `try` and of `catch` meet
                kept.append(moved)
        else:
            kept.append(edge)
    for gone in members:
        del nodes[gone]
    return [*cut.inputs, *kept]


def _part(
    nodes: dict[int, ReadNode],
    edges: list[ReadEdge],
    head: ReadNode,
    part: str,
    members: set[int],
    cut: _Cut,
    entry: str | None,
) -> ReadGraph:
    """One region. Its value is that of the node that the part is left by; a part without nodes gives what came in."""
    if not members:
        given = entry if any(e.source == head.id and e.label == part and e.kind == "Data" for e in edges) else None
        if given is None:
            return _made(part, [ReadNode(head.id, part, "CONST_STR", {"value": None}, {})], [], None)
        return _made(part, [ReadNode(head.id, part, "YIELD", {}, {})], [ReadEdge(given, head.id)], None)
    inside = cut.region(edges, members, head.id, entry)
    left_by = {e.source for e in edges if e.source in members and e.target not in members and e.kind == "Data"}
    exits = [number for number in left_by if isinstance(number, int)]
    return _made(part, [nodes[number] for number in members], inside, exits or None)
