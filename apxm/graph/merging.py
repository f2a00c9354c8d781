"""Which mode a MERGE has that does not say: `any` when its inputs exclude each other, else `array`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from apxm.graph.model import Dependency, Node
from apxm.graph.ops import OPERATIONS, Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apxm.graph.model import Edge, Source

# Under which choices a node can be live: routing node -> labels. A routing node that is not there makes no difference.
Sides: TypeAlias = dict[int, frozenset[str]]

_OTHERWISE = ""  # stands for what an unlabelled edge is: live unless its node fails
_SIDES_MAX = 64  # routing nodes remembered per node; a MERGE behind more of them than that has to say its mode


def merge_modes(nodes: Sequence[Node], edges: Sequence[Edge]) -> list[Node]:
    """The nodes, with `mode` written out at every MERGE that lacks it."""
    silent = {node.id for node in nodes if node.op == "MERGE" and "mode" not in node.attributes}
    if not silent:
        return list(nodes)
    modes = _Modes(nodes, edges, silent).run() if any(edge.label for edge in edges) else {}
    return [
        replace(node, attributes={**node.attributes, "mode": modes.get(node.id, "array")}) if node.id in silent else node
        for node in nodes
    ]


def contradictions(nodes: Sequence[Node], edges: Sequence[Edge]) -> list[tuple[int, int]]:
    """(node, routing node) where the node needs several sides of the routing node that exclude each other."""
    if not any(edge.label for edge in edges):
        return []
    walk = _Modes(nodes, edges, set())
    walk.run()
    return walk.contradictions


class _Modes:
    """Walks the graph in topological order, carrying the sides on which each node can be live."""

    def __init__(self, nodes: Sequence[Node], edges: Sequence[Edge], silent: set[int]) -> None:
        self.nodes = {node.id: node for node in nodes}
        self.silent = silent
        self.incoming: dict[int, list[Edge]] = {}
        self.outgoing: dict[Source, list[Edge]] = {}
        for edge in edges:
            self.incoming.setdefault(edge.target, []).append(edge)
            self.outgoing.setdefault(edge.source, []).append(edge)
        self.labels = {
            source: frozenset(edge.label or _OTHERWISE for edge in out)
            for source, out in self.outgoing.items()
            if any(edge.label for edge in out)
        }
        self.sides: dict[Source, Sides] = {}
        self.modes: dict[int, str] = {}
        self.contradictions: list[tuple[int, int]] = []

    def run(self) -> dict[int, str]:
        waiting = {id: sum(isinstance(e.source, int) for e in self.incoming.get(id, ())) for id in self.nodes}
        ready = [id for id, count in waiting.items() if not count]
        while ready:
            id = ready.pop()
            self._visit(id)
            for edge in self.outgoing.get(id, ()):
                if edge.target in waiting:
                    waiting[edge.target] -= 1
                    if not waiting[edge.target]:
                        ready.append(edge.target)
        return self.modes

    def _visit(self, id: int) -> None:
        node = self.nodes[id]
        data = [self._through(edge) for edge in self.incoming.get(id, ()) if edge.dependency is Dependency.DATA]
        gates = [self._through(edge) for edge in self.incoming.get(id, ()) if edge.dependency is Dependency.CONTROL]
        if id in self.silent:
            self.modes[id] = "any" if len(data) > 1 and _exclude_each_other(data) else "array"
        row = OPERATIONS.get(node.op)
        all_needed = row is None or row.rule is Rule.ALL
        inner = _both(data) if all_needed else _either(data)
        sides = _both([inner, *gates])
        empty = next((router for router, labels in sides.items() if not labels), None)
        if empty is not None:
            self.contradictions.append((id, empty))
            sides = {}
        self.sides[id] = sides if len(sides) <= _SIDES_MAX else {}

    def _through(self, edge: Edge) -> Sides:
        """The sides on which an edge can be live: those of its source, and its own label."""
        base = self.sides.get(edge.source, {})
        labels = self.labels.get(edge.source)
        if labels is None or not isinstance(edge.source, int):
            return base
        mine = frozenset((edge.label,)) if edge.label else labels - {"error"}
        return {**base, edge.source: base.get(edge.source, mine) & mine}


def _both(several: Sequence[Sides]) -> Sides:
    joined: Sides = {}
    for sides in several:
        for router, labels in sides.items():
            joined[router] = joined[router] & labels if router in joined else labels
    return joined


def _either(several: Sequence[Sides]) -> Sides:
    if not several:
        return {}
    common = set(several[0]).intersection(*several[1:])
    return {router: frozenset().union(*(sides[router] for sides in several)) for router in common}


def _exclude_each_other(several: Sequence[Sides]) -> bool:
    """Whether one routing node sends every one of them another way."""
    for router in set(several[0]).intersection(*several[1:]):
        labels = [label for sides in several for label in sides[router]]
        if len(labels) == len(set(labels)):
            return True
    return False
