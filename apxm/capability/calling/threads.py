"""Daemon threads for calls that block. A thread cannot be stopped: one whose caller gave up is abandoned and counted."""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter, deque
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from threading import Condition, Thread, current_thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from apxm.errors import CapabilityError

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_S = 10.0  # a thread without work ends after this time
ABANDONED_MAX = 256  # beyond this, tools do not come back at all, and more threads would only hide it


class Job:
    """One call on its way through a lane."""

    __slots__ = ("abandoned", "context", "future", "name", "thread", "work")

    def __init__(self, name: str, work: Callable[[], Any]) -> None:
        self.name = name
        self.work = work
        self.context = contextvars.copy_context()
        self.future: Future[Any] = Future()
        self.thread: Thread | None = None
        self.abandoned = False

    def run(self) -> None:
        """On the lane's thread. Whatever the call raises becomes the future's exception."""
        try:
            value = self.context.run(self.work)
        except BaseException as error:
            # These three mean something else to whoever waits for a future.
            odd = isinstance(error, (StopIteration, CancelledError)) or not isinstance(error, Exception)
            self.future.set_exception(Odd(error) if odd else error)
        else:
            self.future.set_result(value)


class Odd(RuntimeError):
    """An exception that must not cross a future as itself (SystemExit, StopIteration, a cancellation of its own)."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.__cause__ = error


class Lane:
    """At most `limit` threads that are of use, started when needed. `leave` runs on each thread when it ends."""

    def __init__(self, name: str, limit: int, leave: Callable[[], None] | None = None) -> None:
        self._name, self._limit, self._leave = name, limit, leave
        self._queue: deque[Job] = deque()
        self._ready = Condition()
        self._idle = 0
        self._serving = 0  # threads that take from the queue: neither abandoned nor about to end
        self._threads: set[Thread] = set()  # those that `close` waits for
        self._abandoned: Counter[str] = Counter()
        self._closed = False

    def submit(self, name: str, work: Callable[[], Any]) -> Job:
        """Queue a call; `job.future` is a concurrent future. `job.future.cancel()` works until it started."""
        job = Job(name, work)
        with self._ready:
            if self._closed:
                raise CapabilityError(f"capability `{name}` cannot be called: the runtime is closed")
            if self._abandoned.total() >= ABANDONED_MAX:
                raise CapabilityError(
                    f"capability `{name}` cannot be called: {ABANDONED_MAX} abandoned calls have not returned",
                    hint='they ignore their timeout; run="process" can be killed',
                )
            self._queue.append(job)
            if self._idle >= len(self._queue):
                self._ready.notify()
            elif self._serving < self._limit:
                try:
                    self._start()
                except RuntimeError as error:
                    self._queue.pop()
                    raise CapabilityError(f"capability `{name}` cannot be called: {error}") from error
        return job

    def abandon(self, job: Job) -> None:
        """Nobody waits for this call any more: drop it, or count it until it returns."""
        if job.future.cancel():
            return
        with self._ready:
            if job.future.done() or job.abandoned:
                return
            job.abandoned = True
            self._abandoned[job.name] += 1
            self._serving -= 1
            if job.thread is not None:
                self._threads.discard(job.thread)
            if self._queue and not self._closed:
                with suppress(RuntimeError):  # the next call tries again
                    self._start()

    def abandoned(self) -> list[str]:
        """Names of the calls that nobody waits for and that have not returned, one entry for each."""
        with self._ready:
            return sorted(self._abandoned.elements())

    def close(self, wait_s: float) -> None:
        """Drop what is queued and end the threads. Bounded: a thread in a call is left behind after `wait_s` (a daemon)."""
        with self._ready:
            self._closed = True
            while self._queue:
                self._queue.popleft().future.cancel()
            self._ready.notify_all()
            threads = list(self._threads)
        until = monotonic() + wait_s
        for thread in threads:
            thread.join(max(0.0, until - monotonic()))

    def _start(self) -> None:
        thread = Thread(target=self._work, name=f"apxm-{self._name}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads; those there are serve the queue
            if self._serving == 0:
                raise
            return
        self._threads.add(thread)
        self._serving += 1

    def _work(self) -> None:
        thread = current_thread()
        while (job := self._next()) is not None:
            job.thread = thread
            if job.future.set_running_or_notify_cancel():
                job.run()
            if self._returned(job):
                break
        if self._leave is not None:
            self._leave()
        with self._ready:
            self._threads.discard(thread)

    def _next(self) -> Job | None:
        """The next call; None when this thread shall end. It stops to count as serving in the same breath."""
        with self._ready:
            while not self._queue:
                self._idle += 1
                woken = not self._closed and self._ready.wait(IDLE_S)
                self._idle -= 1
                if not woken and not self._queue:
                    self._serving -= 1
                    return None
            return self._queue.popleft()

    def _returned(self, job: Job) -> bool:
        """True when the job was abandoned meanwhile: then this thread no longer serves."""
        with self._ready:
            if job.abandoned:
                self._abandoned[job.name] -= 1
            return job.abandoned


async def outcome(lane: Lane, job: Job, stop: Callable[[], None] | None = None, grace_s: float = 0.0) -> Any:
    """Await a job. When this is cancelled, the job is stopped and waited for up to `grace_s`, else it is abandoned."""
    future = asyncio.wrap_future(job.future)
    try:
        await asyncio.wait((future,))
    except asyncio.CancelledError:
        try:
            if stop is not None and not job.future.cancel():
                stop()
                await asyncio.wait((future,), timeout=grace_s)
        finally:
            if future.done() and not future.cancelled():
                future.exception()  # seen: it only says that it was stopped
            lane.abandon(job)
            future.cancel()
        raise
    if future.cancelled():
        raise CapabilityError(f"the call of capability `{job.name}` was dropped: the runtime is closed")
    future.exception()  # seen; asyncio has made a copy of some exceptions, the original has the traceback
    return job.future.result()
