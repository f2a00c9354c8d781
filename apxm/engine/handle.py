"""A run that somebody watches while it goes on: its events, its end, a way to cancel it."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from apxm.errors import RunCancelled
from apxm.observability.events import RunEnded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from apxm.engine.local import LocalRun
    from apxm.engine.result import ExecutionResult
    from apxm.observability.events import Event

EVENTS_MAX = 65_536  # what a subscriber may be behind; beyond it the oldest events go, and `missed` counts them


class RunHandle:
    """What `Runtime.start` gives back."""

    def __init__(self, run: LocalRun) -> None:
        self.run_id = run.run_id
        self.missed = 0
        self._run = run
        self._events: deque[Event] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._future: Future[ExecutionResult] | None = None
        run.watch(self._take)

    def attach(self, future: Future[ExecutionResult]) -> None:
        """Called once by the runtime: the future of the finished run."""
        self._future = future
        future.add_done_callback(self._over)

    def _take(self, event: Event) -> None:
        with self._changed:
            if len(self._events) >= EVENTS_MAX:
                self._events.popleft()
                self.missed += 1
            self._events.append(event)
            self._changed.notify_all()

    def _over(self, _: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def events(self) -> Iterator[Event]:
        """Every event not yet taken, then each as it happens; ends after RunEnded. For one consumer."""
        while True:
            with self._changed:
                while not self._events and not self._ended:
                    self._changed.wait()
                if not self._events:
                    return
                event = self._events.popleft()
            yield event
            if isinstance(event, RunEnded):
                return

    def cancel(self, reason: str = "cancelled by its handle") -> None:
        """Ask the run to end; `result` then raises RunCancelled."""
        self._run.ask_cancel(RunCancelled(reason))

    def done(self) -> bool:
        return self._future is not None and self._future.done()

    def result(self, timeout_s: float | None = None) -> ExecutionResult:
        """Wait for the end. Raises what the run raised; TimeoutError when it is not over in time."""
        assert self._future is not None
        return self._future.result(timeout_s)
