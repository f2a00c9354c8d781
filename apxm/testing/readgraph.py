"""One graph as the oracle sees it: nodes, ordered in-edges, exits, cones. Says nothing about how it was written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from apxm.errors import InvalidError

PLACEHOLDER = re.compile(r"\{\{\s*node_(?P<node>\d+)\s*\}\}|\{(?P<position>\d+)\}|\{(?P<name>[A-Za-z_]\w*)\}")

# Attributes whose strings may hold placeholders. Every other attribute is taken as it is.
_TEXTS: Mapping[str, tuple[str, ...]] = {
    "PRINT": ("message",),
    "GUARD": ("error_message",),
    "ERR": ("message", "recovery_template"),
    "INV": ("params_json",),
    "QMEM": ("key", "query"),
    "UMEM": ("key", "value"),
    "FLOW_CALL": ("args",),
    "ASK": ("template_str",),
}
_ROUTERS = frozenset({"BRANCH_ON_VALUE", "SWITCH"})


@dataclass(frozen=True, slots=True)
class ReadEdge:
    """One edge. `source` is a node id, or the name of a parameter."""

    source: int | str
    target: int
    kind: str = "Data"
    port: str | None = None
    label: str | None = None
    origin: int | None = None  # the node that its author wrote as the source, where that lies outside of the region

    @property
    def name(self) -> str | None:
        """The port, unless it is a position."""
        return None if self.port is None or self.port.isdecimal() else self.port

    def comes_from(self, node: int) -> bool:
        """Whether a text that asks for this node means this edge."""
        return node in (self.source, self.origin)


@dataclass(slots=True)
class ReadNode:
    """One node with its in-edges: Data in argument order, then Control and Effect."""

    id: int
    name: str
    op: str
    attributes: dict[str, Any]
    regions: dict[str, ReadGraph]
    data: list[ReadEdge] = field(default_factory=list)
    control: list[ReadEdge] = field(default_factory=list)
    effect: list[ReadEdge] = field(default_factory=list)
    out: list[ReadEdge] = field(default_factory=list)

    def texts(self) -> Iterator[str]:
        """Every string of its attributes that may hold placeholders."""
        names = [name for name in self.attributes if name in _TEXTS.get(self.op, ()) or (self.op == "INV" and name[:4] == "arg_")]
        todo = [self.attributes[name] for name in names]
        while todo:
            item = todo.pop()
            if isinstance(item, str):
                yield item
            elif isinstance(item, Mapping):
                todo += item.values()
            elif isinstance(item, list):
                todo += item

    @property
    def catches(self) -> bool:
        """Whether a failure of this node, or beneath it, ends here."""
        return "fallback" in self.attributes or any(edge.label == "error" for edge in self.out)


@dataclass(slots=True)
class ReadGraph:
    """One flow or region. `order` is topological; `exits` are node ids."""

    name: str
    parameters: list[str]
    nodes: dict[int, ReadNode]
    order: list[int]
    exits: list[int]
    forgiven: frozenset[int] = frozenset()  # nodes all of whose paths lead to first_success merges

    def rule(self, node: ReadNode) -> str:
        """Its firing rule: ALL, ANY, COLLECT or RACE."""
        if node.op == "WAIT_ALL":
            return "COLLECT"
        if node.op != "MERGE":
            return "ALL"
        mode = self.mode(node)
        return {"any": "ANY", "first_success": "ANY", "race": "RACE"}.get(mode, "COLLECT")

    def mode(self, node: ReadNode) -> str:
        """The mode of a MERGE; by default `any` if its inputs are the sides of one routing operation, else `array`."""
        given = node.attributes.get("mode", node.attributes.get("strategy"))
        return given if given is not None else "any" if self._joins_sides(node) else "array"

    def _joins_sides(self, node: ReadNode) -> bool:
        """Whether each input comes straight, or through single-input nodes, from another side of one routing node."""
        sides = [self._side(edge) for edge in node.data]
        return len(sides) > 1 and None not in sides and len(set(sides)) == len(sides) and len({s[0] for s in sides if s}) == 1

    def _side(self, edge: ReadEdge) -> tuple[int, str] | None:
        while isinstance(edge.source, int):
            source = self.nodes[edge.source]
            if source.op in _ROUTERS:
                return (source.id, edge.label) if edge.label is not None else None
            if len(source.data) + len(source.control) != 1:
                return None
            edge = (source.data + source.control)[0]
        return None

    def before(self, node: int, winners: Mapping[int, int]) -> set[int]:
        """Nodes that must have ended before `node` can fire, given which in-edge each ANY took."""
        found: set[int] = set()
        todo = [node]
        while todo:
            here = self.nodes[todo.pop()]
            data = here.data if here.id not in winners else [here.data[winners[here.id]]]
            for edge in (*data, *here.control, *here.effect):
                if isinstance(edge.source, int) and edge.source not in found:
                    found.add(edge.source)
                    todo.append(edge.source)
        return found

    def cone(self, merges: Mapping[int, int | None]) -> set[int]:
        """Nodes all of whose paths lead to Data in-edges of `merges` other than the position given for each."""
        found: set[int] = set()
        for node_id in reversed(self.order):
            node = self.nodes[node_id]
            if node.out and node_id not in self.exits and all(self._leads(edge, merges, found) for edge in node.out):
                found.add(node_id)
        return found

    def _leads(self, edge: ReadEdge, merges: Mapping[int, int | None], found: set[int]) -> bool:
        if edge.target in found:
            return True
        if edge.target not in merges or edge.kind != "Data":
            return False
        kept = merges[edge.target]
        return kept is None or self.nodes[edge.target].data[kept] is not edge


def assemble(
    name: str, parameters: list[str], nodes: dict[int, ReadNode], edges: list[ReadEdge], exits: list[int] | None
) -> ReadGraph:
    """A graph of these nodes and edges; without `exits` they are the RETURNs, else the nodes without an out-edge."""
    wire(nodes, edges)
    if exits is None:
        ends = [n.id for n in nodes.values() if not n.out]
        exits = [n.id for n in nodes.values() if n.op == "RETURN"] or [n for n in ends if nodes[n].op != "AGENT"] or ends
    made = ReadGraph(name, parameters, nodes, topological(nodes), exits)
    merges = {n.id: None for n in nodes.values() if n.op == "MERGE" and made.mode(n) == "first_success"}
    made.forgiven = frozenset(made.cone(merges)) if merges else frozenset()
    return made


def wire(nodes: Mapping[int, ReadNode], edges: list[ReadEdge]) -> None:
    """Give every node its in-edges and out-edges."""
    for node in nodes.values():
        node.data, node.control, node.effect, node.out = [], [], [], []
    for edge in edges:
        target = nodes[edge.target]
        {"Data": target.data, "Control": target.control, "Effect": target.effect}[edge.kind].append(edge)
        if isinstance(edge.source, int):
            nodes[edge.source].out.append(edge)
    for node in nodes.values():
        node.data = _in_argument_order(node.data)


def _in_argument_order(edges: list[ReadEdge]) -> list[ReadEdge]:
    """Edges without a name in edge order, numbered ones at their place; named ones after them."""
    places = {int(edge.port): edge for edge in edges if edge.port is not None and edge.port.isdecimal()}
    rest = iter([edge for edge in edges if edge.port is None])
    ordered: list[ReadEdge] = []
    for place in range(len(edges) + max(places, default=0)):
        edge = places.get(place) or next(rest, None)
        if edge is not None:
            ordered.append(edge)
    return ordered + [edge for edge in edges if edge.name is not None]


def topological(nodes: Mapping[int, ReadNode]) -> list[int]:
    """Ids in an order in which every node comes after what leads to it."""
    left = {n.id: len({e.source for e in (*n.data, *n.control, *n.effect) if isinstance(e.source, int)}) for n in nodes.values()}
    ready = [node_id for node_id, count in left.items() if not count]
    order: list[int] = []
    while ready:
        order.append(ready.pop(0))
        for target in dict.fromkeys(edge.target for edge in nodes[order[-1]].out):
            left[target] -= 1
            if not left[target]:
                ready.append(target)
    if len(order) != len(nodes):
        raise InvalidError("the graph has a cycle", code="graph.cycle")
    return order
