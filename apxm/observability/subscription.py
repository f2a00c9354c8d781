"""A subscriber to all runs of a runtime: its own thread and bounded queue, so that no run ever waits for it."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Protocol

from apxm.observability.events import Gap, RunEnded

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from apxm.observability.events import Event

QUEUE_MAX = 65_536  # events over all runs that a subscriber may be behind
CLOSE_S = 5.0  # how long closing waits for it to take what is left


class Subscriber(Protocol):
    """Takes one event of one run; called on a thread of its own, one event after the other."""

    def __call__(self, run_id: str, event: Event) -> None: ...


class Subscription:
    """What `Runtime.subscribe` gives back. A context manager; `close` delivers what is left, and may be called again.

    Where the queue was full, the oldest events are gone, and the subscriber is given a Gap for each run that lost some. A
    subscriber that raises is dropped; `error` keeps what it raised.
    """

    def __init__(
        self,
        take: Subscriber,
        *,
        nodes: bool = True,
        content: bool = False,
        bound: int = QUEUE_MAX,
        leave: Callable[[Subscription], None] = lambda _: None,
    ) -> None:
        self.nodes, self.content = nodes, content
        self.error: BaseException | None = None
        self._subscriber = take
        self._leave = leave
        self._bound = bound
        self._queue: deque[tuple[str, int, Event]] = deque()
        self._changed = threading.Condition()
        self._counts: dict[str, int] = {}  # events put for each live run: what it was given has no holes of its own
        self._seen: dict[str, tuple[int, int]] = {}  # the last (place, sequence number) delivered for each live run
        self._closed = False
        self._busy = False
        self._thread: threading.Thread | None = None

    def put(self, run_id: str, event: Event) -> None:
        """Queue an event; the oldest goes when the queue is full. Called by the run."""
        with self._changed:
            if self._closed:
                return
            place = self._counts[run_id] = self._counts.get(run_id, 0) + 1
            if isinstance(event, RunEnded):
                del self._counts[run_id]
            if len(self._queue) >= self._bound:
                self._queue.popleft()
            self._queue.append((run_id, place, event))
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="apxm-subscriber", daemon=True)
                self._thread.start()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                while not self._queue:
                    self._changed.notify_all()
                    if self._closed:
                        return
                    self._changed.wait()
                run_id, place, event = self._queue.popleft()
                self._busy = True
            try:
                self._deliver(run_id, place, event)
            except Exception as error:
                self._drop(error)
                return

    def _deliver(self, run_id: str, place: int, event: Event) -> None:
        known, last = self._seen.get(run_id, (0, 0))
        if place != known + 1:
            self._subscriber(run_id, Gap(last + 1, event.seq - 1, seq=event.seq - 1, at=event.at))
        self._seen[run_id] = (place, event.seq)
        if isinstance(event, RunEnded):
            del self._seen[run_id]
        self._subscriber(run_id, event)

    def _drop(self, error: BaseException) -> None:
        self.error = error
        with self._changed:
            self._closed = True
            self._busy = False
            self._queue.clear()
            self._changed.notify_all()
        self._leave(self)

    def flush(self, timeout_s: float = CLOSE_S) -> bool:
        """Wait until everything queued so far was taken; False when that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._busy, timeout_s)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Take no more, deliver what is queued, end the thread."""
        self._leave(self)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
