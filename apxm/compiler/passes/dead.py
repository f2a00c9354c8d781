"""Dead code: a pure or reading node goes when no path leads from it to an exit or to a node that must stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.compiler.cutting import neighbours, reached
from apxm.compiler.passes.effects import keeps

if TYPE_CHECKING:
    from apxm.compiler.draft import Draft
    from apxm.compiler.passes import Facts
    from apxm.compiler.report import PassLog

NAME = "dead"
SAFE_WHEN = (
    "the node is pure or only reads, has no regions, cannot fail on purpose, nothing that stays comes after it, and no node "
    "that stays counts on its edge to it: an `error` edge catches a failure, the edges of a SWITCH may be its cases"
)


def run(draft: Draft, facts: Facts, log: PassLog) -> None:
    """Remove every node that nobody can tell from one that is not there."""
    assert draft.exits is not None
    before = neighbours(draft, back=True)
    wanted = reached(draft.exits, before)
    if len(wanted) == len(draft.steps):
        return
    kept = {id: reason for id, step in draft.steps.items() if (reason := keeps(step, facts)) is not None}
    needed = reached([*draft.exits, *kept], before)
    while leant := _leant_on(draft, needed):
        kept.update(leant)
        needed = reached([*needed, *leant], before)
    for id, reason in kept.items():
        if id not in wanted:
            log.decline(draft.name, draft.steps[id].name, reason)
    for id in [id for id in draft.steps if id not in needed]:
        log.do(draft.name, draft.steps[id].name, f"removed: nobody sees the value of this {draft.steps[id].op.name}")
        del draft.steps[id]
    draft.edges = [edge for edge in draft.edges if edge.target in needed]


def _leant_on(draft: Draft, needed: set[int]) -> dict[int, str]:
    """Nodes not needed so far that a needed one counts on, with the reason."""
    found = {}
    for edge in draft.edges:
        if edge.label is None or edge.target in needed or edge.source not in needed or not isinstance(edge.source, int):
            continue
        source = draft.steps[edge.source]
        if edge.label == "error":
            found[edge.target] = f"it takes the failure of `{source.name}`"
        elif source.op.name == "SWITCH":
            found[edge.target] = f"its edge is a case of `{source.name}`"
    return found
