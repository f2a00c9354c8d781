"""A graph while it is lowered: every dependency is an edge, every region a draft of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apxm.graph.model import Dependency
from apxm.graph.ops import OPERATIONS, Rule, firing_rule
from apxm.graph.references import connect
from apxm.graph.region import is_position

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apxm.graph.model import Edge, Graph, Parameter
    from apxm.graph.ops import Operation


@dataclass(slots=True)
class Step:
    """A node of a draft."""

    id: int
    name: str
    op: Operation
    attributes: dict[str, Any] = field(default_factory=dict)
    regions: dict[str, Draft] = field(default_factory=dict)

    @property
    def rule(self) -> Rule:
        return firing_rule(self.op.name, self.attributes)


@dataclass(slots=True)
class Draft:
    """Steps by id, in the order in which they were written; `exits` are None until they are known."""

    name: str
    parameters: list[Parameter]
    steps: dict[int, Step]
    edges: list[Edge]
    metadata: dict[str, Any] = field(default_factory=dict)
    exits: list[int] | None = None

    def ins(self) -> dict[int, list[Edge]]:
        """In-edges by target: Data in argument order, then Control, then Effect."""
        found: dict[int, list[Edge]] = {id: [] for id in self.steps}
        for edge in self.edges:
            found[edge.target].append(edge)
        return {id: arranged(edges) if len(edges) > 1 else edges for id, edges in found.items()}

    def outs(self) -> dict[int, list[Edge]]:
        """Out-edges by source; those of parameters are not among them."""
        found: dict[int, list[Edge]] = {id: [] for id in self.steps}
        for edge in self.edges:
            if isinstance(edge.source, int):
                found[edge.source].append(edge)
        return found

    def order(self) -> list[int]:
        """Ids in topological order; among those that are free, the order in which they were written."""
        from heapq import heapify, heappop, heappush

        places = {id: place for place, id in enumerate(self.steps)}
        ids = list(self.steps)
        waiting = dict.fromkeys(ids, 0)
        outs = self.outs()
        for edges in outs.values():
            for edge in edges:
                waiting[edge.target] += 1
        ready = [places[id] for id in ids if not waiting[id]]
        heapify(ready)
        sorted_ids = []
        while ready:
            id = ids[heappop(ready)]
            sorted_ids.append(id)
            for edge in outs[id]:
                waiting[edge.target] -= 1
                if not waiting[edge.target]:
                    heappush(ready, places[edge.target])
        assert len(sorted_ids) == len(ids), f"cycle in `{self.name}`"
        return sorted_ids

    def walk(self) -> Iterator[Draft]:
        """This draft and those of all regions in it, inner ones first."""
        for step in self.steps.values():
            for region in step.regions.values():
                yield from region.walk()
        yield self


def draft_of(graph: Graph, name: str | None = None) -> Draft:
    """The draft of a valid graph in canonical form; `name` is how it is called in messages."""
    name = name or graph.name
    steps = {}
    for node in graph.nodes:
        regions = {label: draft_of(region, f"{name}/{node.name}/{label}") for label, region in node.regions.items()}
        steps[node.id] = Step(node.id, node.name, OPERATIONS[node.op], dict(node.attributes), regions)
    return Draft(name, list(graph.parameters), steps, connect(graph), dict(graph.metadata))


def arranged(edges: list[Edge]) -> list[Edge]:
    """The in-edges of one node: Data in argument order, then Control, then Effect.

    Data edges without a port, and those whose port is a number, come in the order of the edges, the latter at that
    position where there are enough of them; named ports come after.
    """
    data = [edge for edge in edges if edge.dependency is Dependency.DATA]
    if len(data) == len(edges) and all(edge.port is None for edge in edges):
        return edges
    numbered = sorted(((int(edge.port), edge) for edge in data if edge.port and is_position(edge.port)), key=lambda pair: pair[0])
    positional = [edge for edge in data if edge.port is None]
    for position, edge in numbered:
        positional.insert(position, edge)
    named = [edge for edge in data if not is_position(edge.port)]
    control = [edge for edge in edges if edge.dependency is Dependency.CONTROL]
    effect = [edge for edge in edges if edge.dependency is Dependency.EFFECT]
    return [*positional, *named, *control, *effect]
