"""What waits to be written, and the thread that hands it over in batches. Knows nothing of files.

Whoever appends never waits for a disk: past a bound what comes is dropped and counted. A batch that could not be written stays
where it is, and is tried again after a while, or at once when somebody waits for it.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from concurrent.futures import Future
from os import getpid
from time import monotonic
from typing import TYPE_CHECKING, Generic, TypeVar

from apxm.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

WAITING_MAX = 200_000  # episodes that wait: half a minute of a busy process, some 50 MB
BATCH_MAX = 20_000  # episodes of one transaction
BATCH_ITEMS_MAX = 1_000  # calls and records of one transaction: with what was said in them, a few megabytes
BATCH_S = 0.01  # how long a batch fills before it is written, unless somebody waits for it
RETRY_S = 1.0  # after a batch that could not be written


class Waiting(Generic[T]):
    """A bounded queue and its one writer, a daemon thread that begins with the first item and ends with `close`.

    `write(batch)` runs on that thread and raises StorageError when it cannot. `failed(error)` is told once when writing begins
    to fail, `end()` when the thread ends. `name` is that of the thread.
    """

    def __init__(
        self, name: str, write: Callable[[Sequence[T]], None], failed: Callable[[StorageError], None], end: Callable[[], None]
    ) -> None:
        self._name, self._write, self._failed, self._end = name, write, failed, end
        self._changed = threading.Condition(threading.Lock())
        self._items: deque[tuple[T, int]] = deque()
        self._thread: threading.Thread | None = None
        self._accepted = self._written = 0  # episodes, ever
        self._waiters: list[tuple[int, int, Future[None]]] = []  # done once so many are written, failed once so many batches did
        self._attempts = 0  # batches that were tried, ever
        self._busy = False  # one is being tried
        self._closed = self._ended = False
        self._pid = getpid()  # a thread does not live on in a process that is forked
        self.dropped = 0
        self.failure: StorageError | None = None  # why the last batch could not be written

    @property
    def waiting(self) -> int:
        """Episodes that were accepted and are not written yet."""
        return self._accepted - self._written

    def put(self, item: T, weight: int = 1) -> bool:
        """Accept an item of so many episodes; False when there is no room, or the end has come. Never waits."""
        with self._changed:
            if self._closed or self._pid != getpid() or self.waiting + weight > WAITING_MAX:
                self.dropped += weight
                return False
            self._items.append((item, weight))
            self._accepted += weight
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
                atexit.register(self.close)  # who forgets to close loses nothing
            elif len(self._items) == 1:
                self._changed.notify_all()
        return True

    def flushed(self) -> Future[None]:
        """Done when everything accepted so far is written; StorageError when an attempt that began since then failed."""
        done: Future[None] = Future()
        with self._changed:
            if self._pid != getpid():
                done.set_exception(StorageError("episodes are written by the process that this one was forked from"))
            elif not self.waiting:
                done.set_result(None)
            elif self._ended:
                done.set_exception(StorageError("the store of episodes was closed before they were written"))
            else:
                self._waiters.append((self._accepted, self._attempts + self._busy, done))
                self._changed.notify_all()
        return done

    def close(self) -> None:
        """Write what is left, in one last attempt, and end the thread. What cannot be written is dropped. Idempotent."""
        if self._pid != getpid():
            return
        with self._changed:
            self._closed = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join()
            atexit.unregister(self.close)

    # ---- on the thread -----------------------------------------------------------------------------------------------
    def _work(self) -> None:
        try:
            while (batch := self._next()) is not None:
                self._attempt(batch)
        finally:
            self._end()

    def _next(self) -> list[tuple[T, int]] | None:
        """The next batch, when it is time for it; None at the end."""
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait()
            ready = monotonic() + (BATCH_S if self.failure is None else RETRY_S)
            while not self._waiters and not self._closed and (left := ready - monotonic()) > 0:
                self._changed.wait(left)
            if not self._items:
                self._ended = True
                return None
            batch: list[tuple[T, int]] = []
            weight = 0
            for item in self._items:
                weight += item[1]
                if batch and (weight > BATCH_MAX or len(batch) == BATCH_ITEMS_MAX):
                    break
                batch.append(item)
            self._busy = True
            return batch

    def _attempt(self, batch: list[tuple[T, int]]) -> None:
        error, lost = None, False
        try:
            self._write([item for item, _ in batch])
        except StorageError as raised:
            error = raised
        except Exception as raised:  # a bug of ours: the next batches may still be written
            error, lost = StorageError(f"episodes cannot be written: {type(raised).__name__}: {raised}"), True
            error.__cause__ = raised
        before = self.failure
        with self._changed:
            self._busy = False
            self._attempts += 1
            self.failure = error
            if error is None or lost or self._closed:
                over = list(self._items) if self._closed and error is not None else batch  # at the end none is tried again
                weight = sum(weight for _, weight in over)
                for _ in over:
                    self._items.popleft()
                self._written += weight
                self.dropped += weight if error is not None else 0
            told, self._waiters = self._waiters, [one for one in self._waiters if not self._is_over(*one[:2])]
        for until, tried, done in told:
            if error is not None and self._is_over(until, tried):
                done.set_exception(StorageError(error.message, hint=error.hint))
            elif self._is_over(until, tried):
                done.set_result(None)
        if error is not None and before is None:
            self._failed(error)

    def _is_over(self, until: int, tried: int) -> bool:
        """Whether somebody who waits has waited enough."""
        return self._written >= until or (self.failure is not None and self._attempts > tried)
