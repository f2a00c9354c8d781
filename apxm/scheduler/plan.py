"""ExecutionDag -> flat lists that a run loop can index. Structure only: no handlers, no values, no state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from apxm.dag import CONTROL, DATA, PARAMETER_CODE
from apxm.graph.ops import BY_CODE, Rule, firing_rule

if TYPE_CHECKING:
    from apxm.dag import ExecutionDag

ALL, ANY, COLLECT, RACE = (rule.value for rule in Rule)
GATE, ORDER = -1, -2  # positions of in-edges that carry no value: Control, Effect

Getter: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]
OutEdge: TypeAlias = tuple[int, int, str | None]  # target slot, position among its Data in-edges (or GATE, ORDER), label


def _getter(sources: Sequence[int]) -> Getter:
    """A C callable from the slot values to the arguments of a node (two or more sources: a tuple, else a slice)."""
    if len(sources) > 1:
        return itemgetter(*sources)
    return itemgetter(slice(sources[0], sources[0] + 1) if sources else slice(0, 0))


class ExecutionPlan:
    """What never changes about a dag while it runs. Immutable, shared by every frame and every run.

    `indegree` counts in-edges that do not come from parameters: those tokens are there when a frame opens. `plain` marks
    slots whose out-edges are all unlabelled and lead to ALL or COLLECT nodes, and that do not end their flow: completing one
    is a loop over `successors`.
    """

    __slots__ = (
        "_out",
        "choosers",
        "dag",
        "forgiven",
        "getters",
        "has_choice",
        "indegree",
        "parameters",
        "plain",
        "region",
        "returns",
        "roots",
        "rules",
        "size",
        "sole",
        "successors",
        "yields",
    )

    def __init__(self, dag: ExecutionDag, region: bool = False) -> None:
        self.dag = dag
        self.region = region  # a RETURN inside it ends the flow around it
        n = self.size = len(dag)
        first = self.parameters = len(dag.parameters)
        shared = list(range(n))  # one int object per slot number, shared by every list below
        rules = bytearray(n)
        plain = bytearray(b"\x01" * n)
        indegree = [0] * n
        successors: list[Any] = [()] * n
        self.getters: list[Getter] = [_getter(())] * n
        names = {code: operation.name for code, operation in enumerate(BY_CODE) if operation is not None}
        offsets, sources, kinds, labels = dag.in_offsets, dag.in_sources, dag.in_kinds, dag.labels
        self.returns, self.yields, self.choosers = [], [], []
        for slot in range(first, n):
            name = names[dag.ops[slot]]
            rule = rules[slot] = firing_rule(name, dag.attributes.get(slot, {})).value
            if name == "RETURN":
                self.returns.append(slot)
            elif name == "YIELD":
                self.yields.append(slot)
            chooser = rule in (ANY, RACE)
            if chooser:
                self.choosers.append(slot)
            data = []
            count = 0
            for edge in range(offsets[slot], offsets[slot + 1]):
                source = sources[edge]
                if kinds[edge] == DATA:
                    data.append(shared[source])
                if source >= first:
                    count += 1
                    followers = successors[source]
                    if followers:
                        followers.append(shared[slot])
                    else:
                        successors[source] = [shared[slot]]
                if chooser or (labels and edge in labels):
                    plain[source] = 0
            indegree[slot] = shared[count] if count < n else count
            self.getters[slot] = _getter(data)
        ranks = dag.ranks
        for slot in range(first, n):
            followers = successors[slot]
            if followers:  # ascending rank: a LIFO pops the most urgent
                successors[slot] = tuple(sorted(followers, key=ranks.__getitem__) if len(followers) > 1 else followers)
        self.successors: list[tuple[int, ...]] = successors
        self.indegree, self.rules = indegree, bytes(rules)
        roots = [shared[slot] for slot in range(first, n) if not indegree[slot] and rules[slot] not in (ANY, RACE)]
        self.roots = sorted(roots, key=ranks.__getitem__) if len(roots) > 1 else roots
        self.has_choice = bool(self.choosers)
        if not self.return_is_last:
            for slot in self.returns:
                plain[slot] = 0
        self.plain = bytes(plain)
        values = self.returns or self.yields or dag.exits
        self.sole = values[0] if len(values) == 1 else -1  # the slot whose value is the result when nothing is dead
        self._out: dict[int, tuple[OutEdge, ...]] = {}
        self.forgiven = self._forgiven()

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

    @property
    def return_is_last(self) -> bool:
        """True when everything else is over once the only RETURN fires, so that it needs no closing of its frame."""
        if self.region or self.has_choice or len(self.returns) != 1:
            return False
        sinks = [slot for slot in range(self.parameters, self.size) if not self.successors[slot]]
        return sinks == self.returns
