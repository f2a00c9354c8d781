"""What others may watch: one event type per thing that happens in a run. Imports nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

Path: TypeAlias = tuple[tuple[int, str | int], ...]  # a frame path: (authored node id, step) from the root


@dataclass(frozen=True, slots=True)
class NodeStarted:
    """A node begins to run; `at` is seconds since the run began."""

    path: Path
    node: int
    name: str
    op: str
    at: float


@dataclass(frozen=True, slots=True)
class NodeEnded:
    """A node is terminal. `outcome`: done, skipped, failed, cancelled. `winner` is the in-edge position an ANY or RACE took."""

    path: Path
    node: int
    name: str
    op: str
    outcome: str
    at: float
    duration_ms: float = 0.0
    error: str | None = None
    winner: int | None = None


@dataclass(frozen=True, slots=True)
class FrameOpened:
    """A child frame opens under node `node` of frame `path[:-1]`; `flow` names its dag, `total` counts its siblings if known."""

    path: Path
    flow: str
    nodes: int
    total: int | None


@dataclass(frozen=True, slots=True)
class FrameClosed:
    """A child frame ended: done, failed or cancelled."""

    path: Path
    outcome: str


@dataclass(frozen=True, slots=True)
class Printed:
    """PRINT said something."""

    path: Path
    node: int
    text: str


@dataclass(frozen=True, slots=True)
class NodeRetried:
    """A node failed with a transient error and is tried again after `seconds`."""

    path: Path
    node: int
    attempt: int
    seconds: float
    error: str


@dataclass(frozen=True, slots=True)
class Called:
    """One call to the world ended: a capability or a model. `usage` holds tokens and cost where known."""

    path: Path
    node: int
    kind: str
    target: str
    duration_ms: float
    ok: bool
    usage: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The first event of every run."""

    run_id: str
    flow: str
    nodes: int


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The last event of every run: done, failed, cancelled, or the class of what ended it."""

    run_id: str
    outcome: str
    duration_ms: float


Event: TypeAlias = NodeStarted | NodeEnded | FrameOpened | FrameClosed | Printed | NodeRetried | Called | RunStarted | RunEnded
