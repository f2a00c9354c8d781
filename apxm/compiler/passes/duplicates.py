"""Duplicate pure nodes: of two nodes that compute the same from the same, one is enough."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from apxm.compiler.passes.effects import effect_of
from apxm.graph.model import Dependency
from apxm.graph.ops import Effect, Rule
from apxm.graph.references import texts_of

if TYPE_CHECKING:
    from collections.abc import Hashable

    from apxm.compiler.draft import Draft, Step
    from apxm.compiler.passes import Facts
    from apxm.compiler.report import PassLog
    from apxm.graph.model import Edge

NAME = "duplicates"
SAFE_WHEN = (
    "both nodes are pure, have equal attributes, inputs, gates and order, no error edge, neither chooses among its inputs "
    "nor is chosen from, no text names either by its id, and not both are exits"
)
_CHOOSING = (Rule.ANY, Rule.RACE)
_OPERATIONS = ("CONST_STR", "MERGE", "WAIT_ALL", "BRANCH_ON_VALUE", "INV")


def run(draft: Draft, facts: Facts, log: PassLog) -> None:
    """Merge along the order, so that what comes after merged nodes is found equal too."""
    if sum(_may_merge(step, facts) for step in draft.steps.values()) < 2:
        return
    merging = _Merging(draft, log)
    for id in draft.order():
        if _may_merge(draft.steps[id], facts):
            merging.visit(draft.steps[id])
    merging.finish()


def _may_merge(step: Step, facts: Facts) -> bool:
    """Whether a step only computes a value from its inputs: of those with an operation that may be merged, the pure ones."""
    if step.op.name not in _OPERATIONS or step.rule in _CHOOSING:
        return False
    return effect_of(step, facts) is Effect.PURE


class _Merging:
    """One walk over a draft. `instead` has the node that stands for each removed one."""

    def __init__(self, draft: Draft, log: PassLog) -> None:
        self.draft, self.log = draft, log
        self.exits = set(draft.exits or ())
        self.ins = draft.ins()
        self.failing = {edge.source for edge in draft.edges if edge.label == "error"}
        self.by_id = _named_by_id(draft)
        self.chosen = {edge.source for edge in draft.edges if draft.steps[edge.target].rule in _CHOOSING}
        self.known: dict[Hashable, Step] = {}
        self.instead: dict[int, int] = {}

    def visit(self, step: Step) -> None:
        first = self.known.setdefault(self._key(step), step)
        if first is step:
            return
        reason = self._refusal(first, step)
        if reason is not None:
            self.log.decline(self.draft.name, step.name, f"equal to `{first.name}`, but {reason}")
        elif step.id in self.exits:
            self._merge(kept=step, gone=first)
            self.known[self._key(step)] = step
        else:
            self._merge(kept=first, gone=step)

    def _key(self, step: Step) -> Hashable:
        """What makes two nodes equal."""
        edges = [
            (self.instead.get(e.source, e.source) if isinstance(e.source, int) else e.source, e.dependency, e.port, e.label)
            for e in self.ins[step.id]
        ]
        data = tuple(edge for edge in edges if edge[1] is Dependency.DATA)
        gates = frozenset(edge for edge in edges if edge[1] is not Dependency.DATA)
        return step.op.name, _frozen(dict(sorted(step.attributes.items()))), data, gates

    def _refusal(self, first: Step, step: Step) -> str | None:
        if first.id in self.exits and step.id in self.exits:
            return "both are exits"
        if first.id in self.failing or step.id in self.failing:
            return "one of them has an error edge"
        if first.id in self.chosen or step.id in self.chosen:
            return "a node that takes the first of its inputs follows one of them"
        if first.id in self.by_id or step.id in self.by_id:
            return "a text names one of them by its id"
        return None

    def _merge(self, kept: Step, gone: Step) -> None:
        self.log.do(self.draft.name, gone.name, f"the same as `{kept.name}`, which stands for it now")
        for id, other in self.instead.items():
            if other == gone.id:
                self.instead[id] = kept.id
        self.instead[gone.id] = kept.id

    def finish(self) -> None:
        if not self.instead:
            return
        moved: list[Edge] = []
        gates: set[Edge] = set()
        for edge in self.draft.edges:
            if edge.target in self.instead:
                continue
            if isinstance(edge.source, int) and edge.source in self.instead:
                edge = replace(edge, source=self.instead[edge.source])
            if edge.dependency is not Dependency.DATA:
                if edge in gates:
                    continue
                gates.add(edge)
            moved.append(edge)
        self.draft.edges = moved
        for id in self.instead:
            del self.draft.steps[id]


def _named_by_id(draft: Draft) -> set[int]:
    """Nodes that a text refers to as `{{node_N}}`."""
    found: set[int] = set()
    for step in draft.steps.values():
        text = texts_of(step.op, step.attributes) if step.attributes else None
        if text is not None:
            found.update(text.node_ids)
    return found


def _frozen(value: Any) -> Hashable:
    """A value as a key. 1, 1.0 and true differ here, as do 0.0 and -0.0 and maps in another order: they show differently."""
    if isinstance(value, dict):
        return "map", tuple((key, _frozen(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return "list", tuple(map(_frozen, value))
    if isinstance(value, (str, bytes, int, type(None))):
        return type(value), value
    return ("float", repr(value)) if isinstance(value, float) else ("object", id(value))
