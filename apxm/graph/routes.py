"""Which nodes of a graph cannot both fire: what a choice makes live and dead around it. Runs nothing.

A node that may choose among labels, or fail into an `error` edge, has a few cases: each label, the failure, and that it
does not fire at all. In each case some nodes are surely dead. That it fired says that what it needs was live; a node
whose inputs are dead is skipped. What follows from several choices together is not found: bounds stay bounds.
"""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, TypeVar

from apxm.graph.model import Dependency
from apxm.graph.ops import Rule, firing_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from apxm.graph.model import Edge, Graph

T = TypeVar("T")

NODES_MAX = 500  # in a larger graph every side counts: following each of its choices takes seconds
SPLITS_MAX = 20_000  # choices that are told apart for one sum, before the rest of it counts every side


class Routes:
    """The choices of one graph."""

    def __init__(self, graph: Graph) -> None:
        self._nodes = {node.id: firing_rule(node.op, node.attributes) for node in graph.nodes}
        self._into: dict[int, list[Edge]] = {}
        self._out: dict[int, list[Edge]] = {}
        for edge in graph.edges:
            if edge.dependency is not Dependency.EFFECT:  # an Effect edge orders, whether it is live or dead
                self._into.setdefault(edge.target, []).append(edge)
                if isinstance(edge.source, int):
                    self._out.setdefault(edge.source, []).append(edge)
        self._bits = {node: 1 << place for place, node in enumerate(self._nodes)}
        self._order = list(self._nodes)
        self._choices = self._all_choices()
        self._splits = 0

    def _all_choices(self) -> list[tuple[int, list[int]]]:
        """For every routing node: what may be dead, and what is dead in each of its cases, as sets of bits.

        A case in which more is dead than in another adds nothing to a largest sum and is left out.
        """
        if len(self._nodes) > NODES_MAX:
            return []
        routers = [node for node, edges in self._out.items() if any(edge.label is not None for edge in edges)]
        found = []
        for router in routers:
            dead = list(dict.fromkeys(sum(self._bits[node] for node in case) for case in self.cases(router)))
            least = [one for one in dead if not any(other != one and other & ~one == 0 for other in dead)]
            if len(least) > 1:
                found.append((functools.reduce(operator.or_, least), least))
        return found

    def cases(self, router: int) -> list[frozenset[int]]:
        """The nodes that are dead in each case of a node; [] for one that chooses nothing."""
        labels = dict.fromkeys(edge.label for edge in self._out.get(router, ()))
        chosen: list[str | None] = [label for label in labels if label not in (None, "error")]
        if not chosen and "error" not in labels:
            return []
        cases: list[str | None] = [*(chosen or [None]), *(["error"] if "error" in labels else [])]
        dead = [self._dead(self._needs(router, case)) for case in cases]
        return [*dead, self._dead(self._out[router])]  # the last: it does not fire

    def largest(
        self,
        of: Mapping[int, T],
        plus: Callable[[Iterable[T]], T],
        most: Callable[[Iterable[T]], T],
        ids: Iterable[int] | None = None,
    ) -> T:
        """The largest sum of `of` over nodes that can all fire, or more; `plus` adds up, `most` takes the largest."""
        wanted_ids = of if ids is None else ids
        if not self._choices:
            return plus(of[node] for node in wanted_ids)
        self._splits = 0
        wanted = sum(self._bits[node] for node in wanted_ids)
        return self._sum(wanted, 0, of, plus, most)

    def _sum(
        self,
        ids: int,
        first: int,
        of: Mapping[int, T],
        plus: Callable[[Iterable[T]], T],
        most: Callable[[Iterable[T]], T],
    ) -> T:
        parts: list[T] = []
        for number in range(first, len(self._choices) if ids & (ids - 1) else first):  # one node excludes nothing
            varied, cases = self._choices[number]
            if not ids & varied or self._splits >= SPLITS_MAX:
                continue
            rests = dict.fromkeys(ids & varied & ~dead for dead in cases)
            if len(rests) > 1:
                self._splits += 1
                parts.append(most([self._sum(rest, number + 1, of, plus, most) for rest in rests]))
                ids &= ~varied
        return plus([*parts, *(of[node] for node in self._nodes_of(ids))])

    def _nodes_of(self, ids: int) -> Iterator[int]:
        """The nodes of a set of bits, in the order of the graph."""
        while ids:
            bit = ids & -ids
            yield self._order[bit.bit_length() - 1]
            ids ^= bit

    # ---- what follows from a choice --------------------------------------------------------------------------------
    def _needs(self, node: int, label: str | None) -> list[Edge]:
        """The edges that are dead when a node ended with a label (None: with none of them), having fired."""
        dead: list[Edge] = []
        todo: list[tuple[int, str | None]] = [(node, label)]
        seen = {node}
        while todo:
            node, label = todo.pop()
            dead += [edge for edge in self._out.get(node, ()) if not _goes_with(edge.label, label)]
            for edge in self._into.get(node, ()):
                sure = edge.dependency is Dependency.CONTROL or self._nodes[node] is Rule.ALL
                if sure and isinstance(edge.source, int) and edge.source not in seen:
                    seen.add(edge.source)
                    todo.append((edge.source, edge.label))
        return dead

    def _dead(self, edges: Sequence[Edge]) -> frozenset[int]:
        """The nodes that cannot fire when these edges are dead."""
        gone = {id(edge) for edge in edges}
        dead: set[int] = set()
        todo = [edge.target for edge in edges]
        while todo:
            node = todo.pop()
            if node in dead or not self._dies(node, gone):
                continue
            dead.add(node)
            out = self._out.get(node, ())
            gone.update(map(id, out))
            todo += [edge.target for edge in out]
        return frozenset(dead)

    def _dies(self, node: int, gone: set[int]) -> bool:
        into = self._into.get(node, ())
        if any(id(edge) in gone for edge in into if edge.dependency is Dependency.CONTROL):
            return True
        data = [id(edge) in gone for edge in into if edge.dependency is Dependency.DATA]
        return any(data) if self._nodes[node] is Rule.ALL else bool(data) and all(data)


def _goes_with(label: str | None, chosen: str | None) -> bool:
    """Whether an edge of that label can be live when its node ended with `chosen`."""
    if chosen == "error" or label == "error":
        return label == chosen
    return label is None or chosen is None or label == chosen
