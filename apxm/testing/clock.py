"""Time that passes only when everybody waits, or as ever but without the waits: clocks, and event loops that live by them."""

from __future__ import annotations

import asyncio
import selectors
from time import monotonic


class VirtualClock:
    """Seconds since it was made. Call it for the time; hand it to a Runtime as `clock`.

    `Runtime(clock=clock, loop_factory=clock.new_event_loop)` runs programs whose waits cost no real time. Work on real
    threads or processes is not waited for: keep to async capabilities.
    """

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """A loop whose timers follow this clock; when nothing is ready it jumps to the next one."""
        return _VirtualLoop(self)


class SkippingClock(VirtualClock):
    """Real time, in which nobody waits: where a loop would sleep until its next timer, the clock is set forward instead.

    What happens in which order is as open as ever. Nothing on it may wait for other threads while a timer is set.
    """

    def __init__(self) -> None:
        self.skipped = 0.0

    def __call__(self) -> float:
        return monotonic() + self.skipped

    def advance(self, seconds: float) -> None:
        """Skip some time."""
        self.skipped += seconds


class JumpingSelector(selectors.DefaultSelector):
    """Where a loop would sleep until its next timer, the clock is set forward instead."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:  # nothing is scheduled: only another thread can go on
            return super().select(None)
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if not ready and timeout > 0:
            self._clock.advance(timeout)
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(JumpingSelector(clock))
        self._clock = clock
        # A timer is due when it is earlier than now and this: added to years it must not be lost in rounding.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._clock()
