"""What a slot is while it is neither ready nor over: a handler in flight, a wait, or open child frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apxm.outcome import Child, ChildResult, Outcome, Spawn
    from apxm.scheduler.closing import Then
    from apxm.scheduler.dataflow import Frame


class Activation:
    """One firing that did not end at once.

    A handler in flight and a wait have no `spawn`; `wake` is what a wait continues with, `dropped` what is called when it
    is cancelled. `after` replaces the usual end once everything beneath a cancelled activation is over.
    """

    __slots__ = (
        "after",
        "attempt",
        "busy",
        "cancelled",
        "children",
        "dropped",
        "exhausted",
        "frame",
        "handle",
        "open",
        "results",
        "slot",
        "spawn",
        "wake",
    )

    def __init__(self, frame: Frame, slot: int) -> None:
        self.frame, self.slot = frame, slot
        self.spawn: Spawn | None = None
        self.children: Iterator[Child] = iter(())
        self.exhausted = True
        self.open: set[Frame] = set()
        self.results: list[ChildResult] = []
        self.wake: Callable[[], Outcome] | None = None
        self.dropped: Callable[[], object] | None = None
        self.cancelled = False
        self.busy = False  # inside its own loop: a child that ends only leaves its result
        self.after: Then | None = None
        self.handle: Any = None  # what the engine needs to interrupt it: a worker, a timer
        self.attempt = 1

    def arm(self, spawn: Spawn) -> None:
        """Take the children of a spawn."""
        self.spawn = spawn
        self.children = iter(spawn.children)
        self.exhausted = False
        self.results = []

    def next_child(self) -> Child | None:
        """The next child to open, None when the window is full or there is none left."""
        if self.exhausted or self.spawn is None or len(self.open) >= self.spawn.window:
            return None
        child = next(self.children, None)
        if child is None:
            self.exhausted = True
        return child
