"""Transitive reduction: a Control edge says nothing where a longer way already says the same."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from apxm.graph.model import Dependency
from apxm.graph.ops import Rule

if TYPE_CHECKING:
    from apxm.compiler.draft import Draft
    from apxm.compiler.passes import Facts
    from apxm.compiler.report import PassLog
    from apxm.graph.model import Edge

NAME = "reduction"
SAFE_WHEN = (
    "the Control edge has no label, and another way leads from its source to its target over edges whose target is live "
    "only if their source is: Control edges, Data edges into nodes that need every input, none of them labelled `error`"
)
_STEPS_MAX = 2_000  # nodes looked at for one edge, and
_STEPS_TOTAL_MAX = 2_000_000  # for all edges of a draft: the pass must not cost more than it saves


def run(draft: Draft, facts: Facts, log: PassLog) -> None:
    """Remove Control edges that a longer way makes needless."""
    candidates = [e for e in draft.edges if e.dependency is Dependency.CONTROL and e.label is None and isinstance(e.source, int)]
    if not candidates:
        return
    places = {id: place for place, id in enumerate(draft.order())}
    binding: dict[int, list[Edge]] = {id: [] for id in draft.steps}
    for edge in draft.edges:
        if _binds(draft, edge):
            binding[edge.target].append(edge)
    needless: Counter[Edge] = Counter()
    budget = _STEPS_TOTAL_MAX
    for edge in candidates:
        if len(binding[edge.target]) < 2:
            continue
        found, looked = _other_way(edge, binding, places, min(budget, _STEPS_MAX))
        budget -= looked
        names = draft.steps[int(edge.source)].name, draft.steps[edge.target].name
        if found:
            needless[edge] += 1
            binding[edge.target].remove(edge)
            log.do(draft.name, names[1], f"needs no Control edge from `{names[0]}`: another way leads from there")
        elif found is None:
            log.decline(draft.name, names[1], f"Control edge from `{names[0]}`: too many ways to look at")
    draft.edges = _without(draft.edges, needless)


def _binds(draft: Draft, edge: Edge) -> bool:
    """Whether the target of an edge is live only if its source is."""
    if not isinstance(edge.source, int) or edge.label == "error" or edge.dependency is Dependency.EFFECT:
        return False
    return edge.dependency is Dependency.CONTROL or draft.steps[edge.target].rule is Rule.ALL


def _other_way(edge: Edge, binding: dict[int, list[Edge]], places: dict[int, int], budget: int) -> tuple[bool | None, int]:
    """Whether another way leads from the source to the target, None when that took too long; and how many nodes it took."""
    source, floor = edge.source, places[int(edge.source)]
    skipped = False
    stack = []
    for other in binding[edge.target]:
        if other is edge and not skipped:
            skipped = True  # only this one: the same edge written twice is another way
        else:
            stack.append(int(other.source))
    seen = set(stack)
    looked = 0
    while stack:
        id = stack.pop()
        if id == source:
            return True, looked
        looked += 1
        if looked > budget:
            return None, looked
        for before in binding[id]:
            earlier = int(before.source)
            if earlier not in seen and places[earlier] >= floor:
                seen.add(earlier)
                stack.append(earlier)
    return False, looked


def _without(edges: list[Edge], needless: Counter[Edge]) -> list[Edge]:
    kept = []
    for edge in edges:
        if needless[edge]:
            needless[edge] -= 1
        else:
            kept.append(edge)
    return kept
