"""Cutting a part out of a draft into a region: what comes in from outside becomes an input of the node that holds it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from apxm.compiler.draft import Draft
from apxm.graph.model import Dependency, Edge, Parameter
from apxm.graph.references import texts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from apxm.graph.model import Source


class Inlets:
    """The inputs that the holder of a region gets for what its regions take from outside, one for each source."""

    def __init__(self, holder: int, taken: Iterable[str]) -> None:
        self._holder = holder
        self._taken = set(taken)
        self._ports: dict[tuple[Source, str | None], str] = {}
        self.edges: list[Edge] = []

    def port(self, edge: Edge) -> str:
        """The port, and region parameter, through which the value of this edge comes in."""
        key = (edge.source, edge.label)
        if key not in self._ports:
            port = self._ports[key] = self.fresh(edge.source if isinstance(edge.source, str) else f"node_{edge.source}")
            self.edges.append(Edge(edge.source, self._holder, port=port, label=edge.label))
        return self._ports[key]

    def gate(self, edge: Edge) -> None:
        """A Control or Effect edge into the part is one into its holder: the part as a whole waits for it."""
        moved = replace(edge, target=self._holder)
        if moved not in self.edges:
            self.edges.append(moved)

    def fresh(self, name: str) -> str:
        """`name`, or the next name like it that is not taken."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


def cut(
    draft: Draft,
    members: Collection[int],
    name: str,
    inlets: Inlets,
    entry: Callable[[Edge], str | None],
    own: Collection[Source],
) -> Draft:
    """The region of `members`, without anything that goes out of them. `draft` stays as it is.

    `own` are the sources that the operation itself speaks for: `entry` gives the parameter that an edge from one of them
    stands for, or None when it carries nothing. Every other edge from outside goes through `inlets`.
    """
    edges: list[Edge] = []
    parameters: dict[str, None] = {}
    for edge in draft.edges:
        if edge.target not in members:
            continue
        if edge.source in members:
            edges.append(edge)
        elif edge.dependency is not Dependency.DATA:
            if edge.source not in own:
                inlets.gate(edge)
        else:
            parameter = entry(edge) if edge.source in own else inlets.port(edge)
            if parameter is not None:
                parameters[parameter] = None
                edges.extend(_inside(draft, edge, parameter))
    steps = {id: step for id, step in draft.steps.items() if id in members}
    return Draft(name, [Parameter(name, "json") for name in parameters], steps, edges)


def _inside(draft: Draft, edge: Edge, parameter: str) -> list[Edge]:
    """An edge from outside, as an edge from a parameter; twice when the text of its target also names its source by id."""
    inside = [replace(edge, source=parameter, label=None)]
    port = f"node_{edge.source}"
    step = draft.steps[edge.target]
    text = texts_of(step.op, step.attributes) if isinstance(edge.source, int) and edge.port != port else None
    if text is not None and edge.source in text.node_ids:
        inside.append(Edge(parameter, edge.target, port=port))
    return inside


def neighbours(draft: Draft, *, back: bool = False) -> dict[int, list[int]]:
    """The steps behind the out-edges of every step, or before its in-edges."""
    found: dict[int, list[int]] = {id: [] for id in draft.steps}
    for edge in draft.edges:
        if isinstance(edge.source, int):
            if back:
                found[edge.target].append(edge.source)
            else:
                found[edge.source].append(edge.target)
    return found


def reached(starts: Iterable[int], ways: Mapping[int, Iterable[int]], stops: Collection[int] = ()) -> set[int]:
    """`starts` and every step behind them, without `stops` and what is reached only through them."""
    found = set(starts).difference(stops)
    stack = list(found)
    while stack:
        for id in ways[stack.pop()]:
            if id not in found and id not in stops:
                found.add(id)
                stack.append(id)
    return found
