"""An event loop that runs what is ready in an order chosen by a seed, so that real engines meet schedules nobody thought of."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from apxm.testing.clock import JumpingSelector

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from apxm.testing.clock import VirtualClock


class SeededLoop(asyncio.SelectorEventLoop):
    """Runs one ready callback at a time, any of them; timers and I/O are as ever.

    Asyncio promises the order of callbacks only where one causes another, and no program may rely on more. With a
    `clock` its time is that of the clock, which it sets forward instead of sleeping.
    """

    def __init__(self, seed: int, clock: VirtualClock | None = None) -> None:
        super().__init__(JumpingSelector(clock) if clock is not None else None)
        self._chance = random.Random(seed)
        self._clock = clock

    def time(self) -> float:
        return self._clock() if self._clock is not None else super().time()

    def _run_once(self) -> None:
        ready: deque[Any] = self._ready  # type: ignore[attr-defined]
        rest: list[Any] = []
        if len(ready) > 1:
            ready.rotate(-self._chance.randrange(len(ready)))
            rest = [ready.pop() for _ in range(len(ready) - 1)]
        super()._run_once()  # type: ignore[misc]
        ready.extend(reversed(rest))


def seeded_loops(seed: int, clock: VirtualClock | None = None) -> Callable[[], asyncio.AbstractEventLoop]:
    """What a Runtime takes as `loop_factory`."""
    return lambda: SeededLoop(seed, clock)
