"""Writes that come close together become one transaction: who wrote waits until it is committed. Stores nothing itself.

A thread of its own commits while there is something to commit, and ends when there is nothing. The process does not end before
it has: what was accepted is not lost by a program that runs out.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from apxm.errors import EmbedderError, InvalidError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apxm.memory.ltm.entry import Entry, Put

WAITING_MAX = 20_000  # writes that were accepted and are not committed: who brings more waits
WAITING_CHARS_MAX = 64 * 1024 * 1024  # of their texts


@dataclass(frozen=True, slots=True)
class _Job:
    writes: Sequence[Put | str]
    chars: int
    done: Future[list[Any]]


class Writer:
    """Commits in the order of `submit`. What is given at once is committed at once: all of it or nothing.

    `commit` stores writes (entries, or ids that are to go) in one transaction, and gives what each of them gave. It is called
    with what came within `batch_ms`, at most `batch_max` writes, unless one submission has more. `then` is called when those
    who waited for a batch have been told.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Put | str]], Sequence[Entry | bool]],
        *,
        batch_ms: float,
        batch_max: int,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        self._commit, self._then, self._batch_s, self._batch_max = commit, then, batch_ms / 1000, batch_max
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()  # an interrupt cannot come between taking it and `with`, as it can with a Condition
        self._changed = threading.Condition(self._lock)
        self._jobs: deque[_Job] = deque()  # that no batch has yet
        self._waiting = self._chars = self._queued = 0  # bounds: of jobs that are not done, and writes of those in `_jobs`
        self._taken = self._settled = self._done = 0  # jobs ever: that a batch has, that are written, after which all is done
        self._thread: threading.Thread | None = None  # that commits
        self._closed = False
        self._hurry = 0  # how many wait for everything to be done

    @property
    def pending(self) -> bool:
        """Whether something was accepted that is not committed yet. Cheap: no lock."""
        return self._settled < self._taken + len(self._jobs)

    def submit(self, writes: Sequence[Put | str]) -> Future[list[Any]]:
        """Accept writes; the future is done when they are committed, or failed. Waits while too many wait already."""
        job = self._job(writes)
        with self._lock:
            self._changed.wait_for(lambda: self._closed or self._has_room(job))
            self._accept(job)
        self._work()
        return job.done

    def offer(self, writes: Sequence[Put | str]) -> Future[list[Any]] | None:
        """`submit` for who must not wait: None where it would, and then nothing was accepted."""
        job = self._job(writes)
        with self._lock:
            if not self._closed and not self._has_room(job):
                return None
            self._accept(job)
        self._work()
        return job.done

    def _job(self, writes: Sequence[Put | str]) -> _Job:
        self._here()
        job = _Job(writes, sum(0 if isinstance(one, str) else len(one.text) for one in writes), Future())
        job.done.set_running_or_notify_cancel()  # who stops waiting does not take back what was accepted
        return job

    def _accept(self, job: _Job) -> None:
        """Under the lock. An interrupt between two lines leaves bounds that are too low until nothing waits, and no more."""
        if self._closed:
            raise InvalidError("this memory is closed")
        self._waiting += len(job.writes)
        self._queued += len(job.writes)
        self._chars += job.chars
        self._jobs.append(job)
        if self._queued >= self._batch_max:
            self._changed.notify_all()

    def _work(self) -> None:
        """Let a thread commit what waits, unless one does: also what an interrupt left behind without one."""
        with self._lock:
            if not self._jobs or (self._thread is not None and self._thread.is_alive()):
                return
            self._thread = threading.Thread(target=self._run, name="apxm-ltm-writer", daemon=False)
            try:
                self._thread.start()
            except RuntimeError:  # there is no thread to be had: too many, or the interpreter ends
                self._thread = threading.current_thread()
        if self._thread is threading.current_thread():
            self._run()

    def _here(self) -> None:
        """In a forked child: begin anew, what waits is the parent's."""
        if os.getpid() != self._pid:
            self._start()

    def _has_room(self, job: _Job) -> bool:
        if not self.pending:
            return True
        return self._waiting + len(job.writes) <= WAITING_MAX and self._chars + job.chars <= WAITING_CHARS_MAX

    def flush(self) -> None:
        """Wait until everything that was accepted until now is committed or has failed."""
        self._here()
        self._work()
        with self._lock:
            last = self._taken + len(self._jobs)
            self._hurry += 1
            try:
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._done >= last)
            finally:
                self._hurry -= 1

    def close(self) -> None:
        """Accept nothing more, and wait for what was accepted. Idempotent."""
        self._here()
        with self._lock:
            self._closed = True
            self._changed.notify_all()
        self.flush()

    # ---- the thread --------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        try:
            while batch := self._next():
                self._do(batch)
                with suppress(Exception):  # nobody waits for it, and those who come next must not wait in vain
                    self._then()
                with self._lock:
                    self._done += len(batch)
                    self._changed.notify_all()
        finally:
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _next(self) -> list[_Job]:
        """The jobs of the next transaction; none when nothing is left to do, or another thread does it: then this one is over."""
        with self._lock:
            if self._thread is not threading.current_thread():
                return []
            if not self._jobs:
                self._thread = None
                self._waiting = self._chars = self._queued = 0
                return []
            give_up = monotonic() + self._batch_s
            while self._queued < self._batch_max and not self._hurry and not self._closed:
                if not self._changed.wait(give_up - monotonic()):
                    break
            batch: list[_Job] = []
            count = 0
            while self._jobs and (not batch or count + len(self._jobs[0].writes) <= self._batch_max):
                self._taken += 1  # first, so that it is pending at every moment
                batch.append(self._jobs.popleft())
                count += len(batch[-1].writes)
            self._queued -= count
            return batch

    def _do(self, batch: Sequence[_Job]) -> None:
        try:
            done = self._commit([one for job in batch for one in job.writes])
        except BaseException as error:  # whoever waits is told, whatever it is
            if len(batch) > 1 and not isinstance(error, (TransientError, EmbedderError)):  # which are the same for all
                for job in batch:  # only those fail that cannot be written
                    self._do([job])
                return
            self._leave(batch)
            for job in batch:  # to each an error of its own: it says where it was raised, and what it failed
                job.done.set_exception(copy(error).with_traceback(error.__traceback__) if len(batch) > 1 else error)
            return
        self._leave(batch)
        at = 0
        for job in batch:
            job.done.set_result(list(done[at : at + len(job.writes)]))
            at += len(job.writes)

    def _leave(self, batch: Sequence[_Job]) -> None:
        """They wait no more. Before anybody is told: what is done is not pending."""
        with self._lock:
            self._settled += len(batch)
            self._waiting -= sum(len(job.writes) for job in batch)
            self._chars -= sum(job.chars for job in batch)
            self._changed.notify_all()
