"""A run that somebody watches while it goes on: its events, its end, a way to cancel it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.errors import InvalidError, RunCancelled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from apxm.engine.local import LocalRun
    from apxm.engine.result import ExecutionResult
    from apxm.observability.events import Event
    from apxm.observability.stream import EventStream


class RunHandle:
    """What `Runtime.start` gives back. As the last value of a notebook cell it shows how far the run is, until it ends."""

    def __init__(self, run: LocalRun, stream: EventStream) -> None:
        self.run_id = run.run_id
        self.dag = run.root.plan.dag
        self._run = run
        self._stream = stream
        self._future: Future[ExecutionResult] | None = None

    def attach(self, future: Future[ExecutionResult]) -> None:
        """Called once by the runtime: the future of the finished run."""
        self._future = future
        future.add_done_callback(lambda _: self._stream.close())

    def events(self, after: int = 0) -> Iterator[Event]:
        """Every event with a sequence number above `after`, then each as it happens; ends when the run has.

        May be called again, by several readers, and after the run: the newest 65,536 events are kept. In place of older ones
        there is a Gap. To go on where another reader stopped, pass the `seq` of the last event it took.
        """
        if after < 0:
            raise InvalidError(f"events(after={after}): a sequence number is 0 or more")
        return self._stream.read(after)

    def cancel(self, reason: str = "cancelled by its handle") -> None:
        """Ask the run to end; `result` then raises RunCancelled."""
        self._run.ask_cancel(RunCancelled(reason))

    def done(self) -> bool:
        return self._future is not None and self._future.done()

    def result(self, timeout_s: float | None = None) -> ExecutionResult:
        """Wait for the end. Raises what the run raised; TimeoutError when it is not over in time."""
        assert self._future is not None
        return self._future.result(timeout_s)

    def _ipython_display_(self) -> None:
        from apxm.observability.notebook import display_run

        display_run(self)
