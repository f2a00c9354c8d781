"""An event loop that runs what is ready in an order chosen by a seed, so that real engines meet schedules nobody thought of."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable


class SeededLoop(asyncio.SelectorEventLoop):
    """Runs one ready callback at a time, any of them; timers and I/O are as ever.

    Asyncio promises the order of callbacks only where one causes another, and no program may rely on more.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._chance = random.Random(seed)

    def _run_once(self) -> None:
        ready: deque[Any] = self._ready  # type: ignore[attr-defined]
        rest: list[Any] = []
        if len(ready) > 1:
            ready.rotate(-self._chance.randrange(len(ready)))
            rest = [ready.pop() for _ in range(len(ready) - 1)]
        super()._run_once()  # type: ignore[misc]
        ready.extend(reversed(rest))


def seeded_loops(seed: int) -> Callable[[], asyncio.AbstractEventLoop]:
    """What a Runtime takes as `loop_factory`."""
    return lambda: SeededLoop(seed)
