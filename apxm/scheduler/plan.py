"""ExecutionDag -> flat lists that a run loop can index. Structure only: no handlers, no values, no state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, groupby, pairwise, starmap
from operator import itemgetter, sub
from typing import TYPE_CHECKING, Any, TypeAlias

from apxm.dag import CONTROL, DATA, PARAMETER_CODE
from apxm.graph.ops import BY_CODE, OPERATIONS, Rule, firing_rule

if TYPE_CHECKING:
    from apxm.dag import ExecutionDag

ALL, ANY, COLLECT, RACE = (rule.value for rule in Rule)
GATE, ORDER = -1, -2  # positions of in-edges that carry no value: Control, Effect

Getter: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]
OutEdge: TypeAlias = tuple[int, int, str | None]  # target slot, position among its Data in-edges (or GATE, ORDER), label


_RULES = bytes(operation.rule.value if operation is not None else 0 for operation in BY_CODE).ljust(256, b"\0")
_MERGE, _RETURN, _YIELD = (OPERATIONS[name].code for name in ("MERGE", "RETURN", "YIELD"))


def _getter(sources: Sequence[int]) -> Getter:
    """A C callable from the slot values to the arguments of a node (two or more sources: a tuple, else a slice)."""
    if len(sources) > 1:
        return itemgetter(*sources)
    return itemgetter(slice(sources[0], sources[0] + 1) if sources else slice(0, 0))


def _slots_of(code: int, ops: bytes) -> list[int]:
    return [slot for slot, op in enumerate(ops) if op == code] if code in ops else []


class ExecutionPlan:
    """What never changes about a dag while it runs. Immutable, shared by every frame and every run.

    `successors`, `indegree` and `roots` are what dataflow needs and the replay of a static frame does not: `link` makes them.
    `indegree` counts in-edges that do not come from parameters: those tokens are there when a frame opens.
    `plain` marks slots whose out-edges are all unlabelled and lead to ALL or COLLECT nodes, and that do not end their flow:
    completing one is a loop over `successors`. Written in columns: benches/test_w7.py earned it.
    """

    __slots__ = (
        "_out",
        "choosers",
        "dag",
        "forgiven",
        "getters",
        "has_choice",
        "indegree",
        "linked",
        "parameters",
        "plain",
        "region",
        "return_is_last",
        "returns",
        "roots",
        "rules",
        "size",
        "sole",
        "successors",
        "yields",
    )
    successors: list[tuple[int, ...]]
    indegree: list[int]
    roots: list[int]

    def __init__(self, dag: ExecutionDag, region: bool = False) -> None:
        self.dag = dag
        self.linked = False
        self.region = region  # a RETURN inside it ends the flow around it
        self.size, self.parameters = len(dag), len(dag.parameters)
        self.returns, self.yields = _slots_of(_RETURN, dag.ops), _slots_of(_YIELD, dag.ops)
        self.rules = self._rules()
        choice = ANY in self.rules or RACE in self.rules
        self.choosers = [slot for slot, rule in enumerate(self.rules) if rule in (ANY, RACE)] if choice else []
        self.has_choice = choice
        self.getters = self._getters()
        # True when everything else is over once the only RETURN fires, so that it needs no closing of its frame.
        self.return_is_last = not region and not choice and len(self.returns) == 1 and self._only_sink(self.returns[0])
        self.plain = self._plain()
        values = self.returns or self.yields or dag.exits
        self.sole = values[0] if len(values) == 1 else -1  # the slot whose value is the result when nothing is dead
        self._out: dict[int, tuple[OutEdge, ...]] = {}
        self.forgiven = self._forgiven()

    def _rules(self) -> bytes:
        rules = bytearray(self.dag.ops.translate(_RULES))
        for slot in _slots_of(_MERGE, self.dag.ops):
            rules[slot] = firing_rule("MERGE", self.dag.attributes.get(slot, {})).value
        return bytes(rules)

    def _getters(self) -> list[Getter]:
        """What picks the arguments of each slot out of the values of a frame."""
        kinds, flat, bounds = self.dag.in_kinds, self._sources(), self.dag.in_offsets.tolist()
        if kinds.count(DATA) != len(kinds):  # Data edges come first
            spans = ((start, start + kinds.count(DATA, start, end)) for start, end in pairwise(bounds))
            return [_getter(flat[start:end]) for start, end in spans]
        found: list[Getter] = []
        for degree, alike in groupby(map(sub, bounds[1:], bounds)):
            start, count = bounds[len(found)], len(list(alike))
            if degree > 1 and count > 1:
                found += starmap(itemgetter, zip(*[iter(flat[start : start + degree * count])] * degree))
            else:
                found += [_getter(flat[at : at + degree]) for at in range(start, start + max(degree, 1) * count, max(degree, 1))]
        return found

    def _sources(self) -> list[int]:
        """The sources of all in-edges, with one int object for each slot."""
        return list(map(list(range(self.size)).__getitem__, self.dag.in_sources))

    def _only_sink(self, slot: int) -> bool:
        used = set(self.dag.in_sources)
        return slot not in used and sum(source >= self.parameters for source in used) == self.size - self.parameters - 1

    def _plain(self) -> bytes:
        dag = self.dag
        plain = bytearray(b"\x01" * self.size)
        for slot in self.choosers:
            for edge in range(dag.in_offsets[slot], dag.in_offsets[slot + 1]):
                plain[dag.in_sources[edge]] = 0
        for edge in dag.labels:
            plain[dag.in_sources[edge]] = 0
        if not self.return_is_last:
            for slot in self.returns:
                plain[slot] = 0
        return bytes(plain)

    def link(self) -> None:
        """Make what dataflow needs: successors by ascending rank, so that a LIFO pops the most urgent; in-degrees; roots.

        Asked for by name and not by `__getattr__`, which would slow down every access to every attribute.
        """
        if self.linked:
            return
        n, first, ranks = self.size, self.parameters, self.dag.ranks.tolist()
        flat, bounds = self._sources(), self.dag.in_offsets.tolist()
        followers: list[Any] = [[] for _ in range(n)]
        for slot in sorted(range(first, n), key=ranks.__getitem__):
            for source in flat[bounds[slot] : bounds[slot + 1]]:
                followers[source].append(slot)
        indegree = list(map(sub, bounds[1:], bounds))
        for target in chain.from_iterable(followers[:first]):
            indegree[target] -= 1
        followers[:first] = [()] * first
        roots = [slot for slot in range(first, n) if not indegree[slot]]
        if self.has_choice:
            roots = [slot for slot in roots if self.rules[slot] not in (ANY, RACE)]
        self.roots = sorted(roots, key=ranks.__getitem__)
        self.indegree = indegree
        self.successors = list(map(tuple, followers))
        self.linked = True

    def _forgiven(self) -> frozenset[int]:
        """Slots all of whose paths lead to Data in-edges of `first_success` merges: their failure is a dead token."""
        attributes = self.dag.attributes
        merges = {slot for slot in self.choosers if attributes.get(slot, {}).get("mode") == "first_success"}
        found: set[int] = set()
        if merges:
            for slot in range(max(merges) - 1, self.parameters - 1, -1):
                edges = self.out_edges(slot)
                if (
                    edges
                    and slot not in self.dag.exits
                    and all(target in found or (target in merges and place >= 0) for target, place, _ in edges)
                ):
                    found.add(slot)
        return frozenset(found)

    def out_edges(self, slot: int) -> tuple[OutEdge, ...]:
        """The out-edges of a slot with everything about them; made when first asked for, as plain slots never need it."""
        edges = self._out.get(slot)
        if edges is None:
            self.link()
            dag, found = self.dag, []
            for target in dict.fromkeys(self.successors[slot] if slot >= self.parameters else ()):
                for edge in dag.in_edges(target):
                    if edge.source == slot:
                        place = edge.position if edge.kind == DATA else GATE if edge.kind == CONTROL else ORDER
                        found.append((target, place, edge.label))
            edges = self._out[slot] = tuple(found)
        return edges

    def sources(self, slot: int) -> list[int]:
        """Sources of the Data in-edges of a slot, in argument order."""
        return [edge.source for edge in self.dag.in_edges(slot) if edge.kind == DATA]

    def operation(self, slot: int) -> str:
        code = self.dag.ops[slot]
        return "parameter" if code == PARAMETER_CODE else str(BY_CODE[code].name)  # type: ignore[union-attr]
