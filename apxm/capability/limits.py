"""How many calls at once, and how often: resources, concurrency, rates. Waiters are served in order and hold no thread."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from apxm.errors import CapabilityError, InvalidError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Mapping, Sequence

WAITERS_MAX = 100_000  # calls that wait for their turn in one runtime
_SECONDS = {"s": 1.0, "second": 1.0, "min": 60.0, "minute": 60.0, "h": 3600.0, "hour": 3600.0}


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `calls` in `seconds`, evenly: one becomes free every `seconds / calls`, and `burst` of them can be saved up."""

    calls: float
    seconds: float
    burst: int = 1

    @classmethod
    def parse(cls, text: str, whose: str) -> Rate:
        """From `CALLS/UNIT` or `CALLS/UNIT burst N`, UNIT being s, min or h: `5/s`, `100/min burst 20`."""
        said, _, burst = text.partition("burst")
        calls, _, unit = (part.strip() for part in said.partition("/"))
        try:
            made = cls(float(calls), _SECONDS[unit], int(burst) if burst else 1)
            if 0 < made.calls < float("inf") and made.burst >= 1:
                return made
        except (KeyError, ValueError):
            pass
        raise InvalidError(f"{whose} has the rate {text!r}", hint="write e.g. `5/s`, `100/min` or `100/min burst 20`")

    @property
    def interval_s(self) -> float:
        return self.seconds / self.calls


class Bucket:
    """The free calls of one rate. Whoever asks holds its turn, so nobody else reads or writes meanwhile."""

    __slots__ = ("_at", "_free", "rate")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._free, self._at = float(rate.burst), float("-inf")

    def wait_s(self, now: float) -> float:
        """Take a call, and give 0; or leave it, and give the seconds until there is one."""
        interval = self.rate.interval_s
        self._free = min(float(self.rate.burst), self._free + max(0.0, now - self._at) / interval)
        self._at = now
        if self._free >= 1 - 1e-9:
            self._free -= 1
            return 0.0
        return (1 - self._free) * interval


class _Waiter:
    """One call in the queue, on the loop that it waits on."""

    __slots__ = ("future", "granted", "loop", "needs", "own")

    def __init__(self, needs: tuple[Hashable, ...], own: Mapping[Hashable, int]) -> None:
        self.needs, self.own = needs, own
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()
        self.granted = False

    def wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class Turnstile:
    """Everything that calls of one runtime must share. Thread-safe, and calls may wait on any loop.

    A call gets all that it needs at once, or waits; so nobody waits while holding something, and nothing can lock up. Of
    those that need the same thing the first in the queue is served first.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._sizes: dict[str, int] = {}
        self._taken: dict[Hashable, int] = {}
        self._queue: deque[_Waiter] = deque()

    def resize(self, sizes: Mapping[str, int]) -> None:
        """How many calls may hold each of these resources at once; what nobody mentioned has one holder."""
        for name, size in sizes.items():
            if type(size) is not int or size < 1:
                raise InvalidError(f"resource `{name}` has the size {size!r}, expected a whole number of 1 or more")
        with self._lock:
            self._sizes.update(sizes)
            self._serve()

    def sizes(self) -> dict[str, tuple[int, int]]:
        """(holders now, holders at most) by resource, for those that were given a size or are held."""
        with self._lock:
            names = {*self._sizes, *(need for need in self._taken if isinstance(need, str))}
            return {name: (self._taken.get(name, 0), self._sizes.get(name, 1)) for name in sorted(names)}

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return len(self._queue)

    @asynccontextmanager
    async def turn(self, needs: tuple[Hashable, ...], own: Mapping[Hashable, int] | None = None) -> AsyncIterator[None]:
        """Hold all of `needs` inside the block; `own` has the sizes of those that are no named resource."""
        waiter = self._enter(needs, own or {})
        try:
            if not waiter.granted:
                await waiter.future
            yield
        finally:
            self._leave(waiter)

    def _enter(self, needs: tuple[Hashable, ...], own: Mapping[Hashable, int]) -> _Waiter:
        waiter = _Waiter(needs, own)
        with self._lock:
            if len(self._queue) >= WAITERS_MAX:
                raise CapabilityError(f"{WAITERS_MAX:,} calls already wait for their turn", hint="raise a limit, or call less")
            self._queue.append(waiter)
            self._serve()
        return waiter

    def _leave(self, waiter: _Waiter) -> None:
        """After the call, or instead of it: a waiter that was cancelled may have been granted a moment before."""
        with self._lock:
            if waiter.granted:
                self._give_back(waiter)
            else:
                self._queue.remove(waiter)
            self._serve()

    def _give_back(self, waiter: _Waiter) -> None:
        for need in waiter.needs:
            left = self._taken[need] - 1
            if left:
                self._taken[need] = left
            else:
                del self._taken[need]
        waiter.needs = ()

    def _serve(self) -> None:
        """Grant what can be granted, in order; nobody passes one who waits for the same. Called under the lock."""
        if not self._queue:
            return
        wanted: set[Hashable] = set()  # by those that stay in the queue
        left: deque[_Waiter] = deque()
        for waiter in self._queue:
            if all(need not in wanted and self._free(need, waiter) for need in waiter.needs):
                self._grant(waiter)
            else:
                wanted.update(waiter.needs)
                left.append(waiter)
        self._queue = left

    def _free(self, need: Hashable, waiter: _Waiter) -> bool:
        return self._taken.get(need, 0) < (waiter.own.get(need) or self._sizes.get(need, 1))  # type: ignore[call-overload]

    def _grant(self, waiter: _Waiter) -> None:
        for need in waiter.needs:
            self._taken[need] = self._taken.get(need, 0) + 1
        waiter.granted = True
        try:
            waiter.loop.call_soon_threadsafe(waiter.wake)
        except RuntimeError:  # its loop is closed, and the call with it: nobody else will give this back
            self._give_back(waiter)


class Limits:
    """The limits of one capability: what its calls need a turn for, and its rate."""

    __slots__ = ("_bucket", "_needs", "_own", "_turn")

    def __init__(self, concurrency: int | None, rate: Rate | None, resources: Sequence[str]) -> None:
        self._own: dict[Hashable, int] = {} if concurrency is None else {self: concurrency}
        self._needs: tuple[Hashable, ...] = (*resources, *self._own)
        self._bucket = None if rate is None else Bucket(rate)
        self._turn: tuple[Any, ...] = (self._bucket,)

    @asynccontextmanager
    async def hold(self, turnstile: Turnstile) -> AsyncIterator[None]:
        """Wait for the rate, then for everything else; hold it inside the block."""
        if self._bucket is not None:
            loop = asyncio.get_running_loop()
            async with turnstile.turn(self._turn):
                while (seconds := self._bucket.wait_s(loop.time())) > 0:
                    await asyncio.sleep(seconds)
        if not self._needs:
            yield
            return
        async with turnstile.turn(self._needs, self._own):
            yield
