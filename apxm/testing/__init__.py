"""What users test their own programs with: a pytest plugin, fault plans, a virtual clock, snapshots, an oracle, a simulator."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apxm.llm.scripted import Rule, ScriptedModel
    from apxm.testing.clock import VirtualClock
    from apxm.testing.faults import FaultPlan, FaultsMissed
    from apxm.testing.network import NetworkGuard, NetworkRefused
    from apxm.testing.seeded import seeded_loops
    from apxm.testing.simulator import Simulator
    from apxm.testing.snapshots import snapshot

__all__ = [
    "FaultPlan",
    "FaultsMissed",
    "NetworkGuard",
    "NetworkRefused",
    "Rule",
    "ScriptedModel",
    "Simulator",
    "VirtualClock",
    "seeded_loops",
    "snapshot",
]

# Loaded when asked for: the oracle must not bring along what it judges, and the pytest plugin must cost next to nothing.
_ROOMS = {
    "FaultPlan": "apxm.testing.faults",
    "FaultsMissed": "apxm.testing.faults",
    "NetworkGuard": "apxm.testing.network",
    "NetworkRefused": "apxm.testing.network",
    "Rule": "apxm.llm.scripted",
    "ScriptedModel": "apxm.llm.scripted",
    "Simulator": "apxm.testing.simulator",
    "VirtualClock": "apxm.testing.clock",
    "seeded_loops": "apxm.testing.seeded",
    "snapshot": "apxm.testing.snapshots",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'apxm.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(_ROOMS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *(name for name in __all__ if name not in globals())]
