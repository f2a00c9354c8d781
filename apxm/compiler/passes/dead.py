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
SAFE_WHEN = "the node is pure or only reads, has no regions, cannot fail on purpose, and nothing that stays comes after it"


def run(draft: Draft, facts: Facts, log: PassLog) -> None:
    """Remove every node that nobody can tell from one that is not there."""
    assert draft.exits is not None
    before = neighbours(draft, back=True)
    wanted = reached(draft.exits, before)
    if len(wanted) == len(draft.steps):
        return
    kept = {id: reason for id, step in draft.steps.items() if (reason := keeps(step, facts)) is not None}
    needed = reached([*draft.exits, *kept], before)
    for id, reason in kept.items():
        if id not in wanted:
            log.decline(draft.name, draft.steps[id].name, reason)
    for id in [id for id in draft.steps if id not in needed]:
        log.do(draft.name, draft.steps[id].name, f"removed: nobody sees the value of this {draft.steps[id].op.name}")
        del draft.steps[id]
    draft.edges = [edge for edge in draft.edges if edge.target in needed]
