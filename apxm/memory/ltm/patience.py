"""Calls of an embedder that end in time for who asked, whatever the embedder does. Embeds nothing, and keeps no result.

A call runs on a thread of its own. Who has waited long enough goes on without: the call goes on too, and is counted as stuck
until it ends, for no thread can be stopped. Those threads keep no process alive.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, cast

from apxm.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apxm.memory.embed.base import Embedder, Fingerprint, Vectors

    T = TypeVar("T")

CALLS_MAX = 8  # at one time: as many threads, at most
IDLE_S = 10.0  # after which a thread without a call ends


@dataclass(eq=False, slots=True)
class _Call:
    work: Callable[[], Any]
    done: bool = False
    given_up: bool = False
    result: Any = None
    error: BaseException | None = None


class Patience:
    """Runs calls and waits for them. TransientError for one that takes too long, and for any once `close` was called."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: deque[_Call] = deque()  # that no thread has begun
        self._threads = self._idle = 0
        self._end = inf  # when nobody waits any more
        self.stuck = 0  # calls that go on although nobody waits for them
        self.recovered = -inf  # when the last of those gave something after all

    def ask(self, work: Callable[[], T], limit_s: float | None) -> T:
        """What `work` gives or raises. TransientError after `limit_s`; None: waits until `close`."""
        call, began = _Call(work), monotonic()
        with self._changed:
            if self._end < inf:
                raise TransientError("the memory is being closed: the embedder is not asked any more")
            if self.stuck >= CALLS_MAX:
                raise TransientError(f"the embedder has not answered {self.stuck} calls", hint="is what it needs running?")
            self._begin(call)
            try:
                self._wait(call, inf if limit_s is None else began + limit_s)
            finally:
                if not call.done:
                    self._give_up(call)
        if not call.done:
            raise TransientError(f"the embedder gave no answer within {monotonic() - began:.1f} s")
        if call.error is not None:
            raise call.error
        return cast("T", call.result)

    def settle(self, limit_s: float) -> None:
        """Wait until no call is stuck, at most `limit_s`."""
        with self._changed:
            self._changed.wait_for(lambda: not self.stuck or self._end < inf, limit_s)

    def close(self, limit_s: float) -> None:
        """Begin no call any more; who waits for one goes on without it after `limit_s`. Waits for nothing. Idempotent."""
        with self._changed:
            self._end = min(self._end, monotonic() + limit_s)
            self._changed.notify_all()

    # ---- under the lock ----------------------------------------------------------------------------------------------
    def _begin(self, call: _Call) -> None:
        self._calls.append(call)
        if self._idle < len(self._calls) and self._threads < CALLS_MAX:
            self._threads += 1
            try:
                threading.Thread(target=self._run, name="apxm-ltm-embedder", daemon=True).start()
            except RuntimeError as error:  # there is no thread to be had: too many, or the interpreter ends
                self._threads -= 1
                if not self._threads:
                    self._calls.remove(call)
                    raise TransientError("there is no thread for the embedder") from error
        self._changed.notify_all()

    def _wait(self, call: _Call, until: float) -> None:
        while not call.done and (left := min(until, self._end) - monotonic()) > 0:
            self._changed.wait(min(left, threading.TIMEOUT_MAX))

    def _give_up(self, call: _Call) -> None:
        call.given_up = True
        if call in self._calls:
            self._calls.remove(call)
        else:
            self.stuck += 1

    # ---- the threads -------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        while (call := self._next()) is not None:
            try:
                call.result = call.work()
            except BaseException as error:  # whoever waits is told, whatever it is
                call.error = error
            with self._changed:
                call.done = True
                if call.given_up:
                    self.stuck -= 1
                    self.recovered = monotonic() if call.error is None else self.recovered
                self._changed.notify_all()
            del call  # it may have large texts, and the next may be long in coming

    def _next(self) -> _Call | None:
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._calls or self._end < inf, IDLE_S)
            self._idle -= 1
            if self._calls:
                return self._calls.popleft()
            self._threads -= 1
            return None


class Limited:
    """An embedder each call of which takes at most `limit_s`; None: as long as it takes, until `patience` is closed."""

    def __init__(self, embedder: Embedder, patience: Patience, limit_s: float | None) -> None:
        self._embedder, self._patience, self._limit_s = embedder, patience, limit_s

    @property
    def fingerprint(self) -> Fingerprint:
        return self._patience.ask(lambda: self._embedder.fingerprint, self._limit_s)

    def embed(self, texts: Sequence[str]) -> Vectors:
        return self._patience.ask(lambda: self._embedder.embed(texts), self._limit_s)

    def embed_query(self, text: str) -> Vectors:
        return self._patience.ask(lambda: self._embedder.embed_query(text), self._limit_s)

    def close(self) -> None:
        """Whose embedder it is closes it."""


def limited(embedder: Embedder, patience: Patience, limit_s: float | None) -> Embedder:
    """The same with a limit; one that computes here and waits for nobody needs none."""
    from apxm.memory.embed.hashing import HashingEmbedder

    return embedder if type(embedder) is HashingEmbedder else Limited(embedder, patience, limit_s)
