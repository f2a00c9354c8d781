"""The passes of O1, one module each: `run` changes a draft where that is safe, and logs what it did and what it declined.

A module says in SAFE_WHEN what must hold. Whatever the level, a program gives the same outputs; nothing with an effect
is ever merged or removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from apxm.compiler.passes import constants, dead, duplicates, prompts, reduction
from apxm.compiler.report import PassLog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.artifact.format import CapabilityFacts
    from apxm.compiler.draft import Draft

    Facts: TypeAlias = Mapping[str, CapabilityFacts]

# Constants before duplicates, so that equal results are found; dead code after both, since they leave nodes behind.
_PASSES = (prompts, constants, duplicates, dead, reduction)


def optimise(draft: Draft, facts: Facts, logs: dict[str, PassLog]) -> None:
    """Run every pass over a draft and the regions in it."""
    for module in _PASSES:
        log = logs.setdefault(module.NAME, PassLog(module.NAME, module.SAFE_WHEN))
        for inner in draft.walk():
            module.run(inner, facts, log)
