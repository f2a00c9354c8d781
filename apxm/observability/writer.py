"""Writes the events of one run to a file while it goes on. Never slows or ends the run: what it cannot write is said once."""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from apxm.errors import InvalidError
from apxm.observability.events import Event, Gap, RunEnded, RunStarted
from apxm.observability.lines import bulk_encoder, encode, line_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from apxm.observability.lines import Encode

QUEUE_MAX = 65_536  # events that may wait for a slow disk
BATCH = 512  # events that are written at once, when so many come
BULK = 2_000  # lines after which a faster encoder is worth its import
FLUSH_S = 0.5  # how long an event waits for others: what a killed process loses
CLOSE_S = 5.0  # how long closing waits for a slow disk


class RecordWriter:
    """Takes events from any thread, encodes and writes them on its own. A context manager; `close` may be called again.

    An existing file is replaced, unless it is `new`: then it must not exist, and InvalidError says so. A regular file is locked
    until the writer is closed or its process is gone. `file` may also be a duplicate of standard output, closed in the end.
    Past `bytes_max`, on a full disk and after any other error nothing but the end of the run is written, behind a Gap;
    `warn` is told why, once, on a thread of the writer.
    """

    def __init__(
        self,
        file: str | os.PathLike[str] | int,
        *,
        new: bool = False,
        bytes_max: int | None = None,
        warn: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._own = not isinstance(file, int)
        self.name = "standard output" if isinstance(file, int) else os.fspath(file)
        self._descriptor = file if isinstance(file, int) else _opened(self.name, new)
        self._bytes_max, self._warn = bytes_max, warn
        self._size = self._lines = 0
        self._encode: Encode = encode
        self._stopped_at: int | None = None  # the sequence number of the first event that was not written
        self._queue: list[Event] = []
        self._lost: tuple[int, int] | None = None  # the events that found the queue full, until a Gap says so
        self._urgent = self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._serve, name="apxm-record", daemon=True)
        self._thread.start()

    # ---- called by whoever watches the run ---------------------------------------------------------------------------
    def write(self, event: Event) -> None:
        """Take the next event; never waits for the disk."""
        last = isinstance(event, RunEnded)
        with self._changed:
            if self._closed:
                return
            if len(self._queue) >= QUEUE_MAX and not last:
                self._lost = (self._lost[0] if self._lost else event.seq, event.seq)
                return
            if self._lost is not None:
                self._queue.append(Gap(*self._lost, seq=self._lost[1], at=event.at))
                self._lost = None
            self._queue.append(event)
            if last or len(self._queue) >= BATCH or isinstance(event, RunStarted):
                self._urgent = True
                self._changed.notify()
            elif len(self._queue) == 1:
                self._changed.notify()

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write what is left and let go of the file; a disk that takes longer loses the rest."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                self._warn(f"{self.name} takes too long to write: the last events of the run are not recorded")

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # ---- its thread ----------------------------------------------------------------------------------------------------
    def _serve(self) -> None:
        try:
            while batch := self._take():
                for start in range(0, len(batch), BATCH):
                    self._store(batch[start : start + BATCH])
        finally:
            with suppress(OSError):  # a disk that is full may say so only now
                os.close(self._descriptor)

    def _take(self) -> list[Event]:
        """What came, a moment after it came unless it is urgent; nothing once the writer is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            self._changed.wait_for(lambda: self._urgent or self._closed, FLUSH_S)
            batch, self._queue, self._urgent = self._queue, [], False
            return batch

    def _store(self, batch: list[Event]) -> None:
        if self._stopped_at is not None:
            self._end(batch)
            return
        self._lines += len(batch)
        if self._lines > BULK and self._encode is encode:
            self._encode = bulk_encoder()
        data = b"".join(line_of(event, self._encode) for event in batch)
        if self._bytes_max is not None and self._size + len(data) > self._bytes_max:
            self._stop(batch, f"it reached {self._bytes_max:,} bytes")
            return
        try:
            self._put(data)
        except OSError as error:
            self._stop(batch, error.strerror or str(error))

    def _put(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError:
            if self._own:  # no half line; a pipe or a device keeps it
                with suppress(OSError):
                    os.ftruncate(self._descriptor, self._size)
                    os.lseek(self._descriptor, self._size, os.SEEK_SET)
            raise
        self._size += len(data)

    def _stop(self, batch: list[Event], why: str) -> None:
        self._stopped_at = batch[0].seq
        self._warn(f"the run goes on, but is no longer recorded in {self.name}: {why}")
        self._end(batch)

    def _end(self, batch: list[Event]) -> None:
        """After recording stopped: how the run ended still fits, or it does not."""
        last = batch[-1]
        if isinstance(last, RunEnded) and self._stopped_at is not None:
            gap = Gap(self._stopped_at, last.seq - 1, seq=last.seq - 1, at=last.at)
            with suppress(OSError):
                self._put((line_of(gap) if gap.first <= gap.last else b"") + line_of(last))


def _opened(name: str, new: bool) -> int:
    """The file, empty, locked where that can be, for its owner alone where it is made."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_EXCL | os.O_NOFOLLOW if new else 0)
    while True:
        try:
            descriptor = os.open(name, flags, 0o600)
        except FileExistsError:
            raise InvalidError(f"{name} exists already", code="record", hint="records are never overwritten") from None
        except OSError as error:
            raise InvalidError(f"cannot write {name}: {error.strerror or error}", code="record") from None
        try:
            if _claim(descriptor, wait=new):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise InvalidError(f"another run writes {name}", code="record", hint="give each run a file of its own") from None
        os.close(descriptor)  # somebody cleaned up between the two calls


def _claim(descriptor: int, *, wait: bool) -> bool:
    """Lock and empty a regular file; False when it was deleted meanwhile. Whoever looks at a lock holds it for an instant."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        pass
    os.ftruncate(descriptor, 0)
    return os.fstat(descriptor).st_nlink > 0
