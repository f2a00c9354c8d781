"""When a model call that failed for the moment is tried again. Decides only: it neither sleeps nor calls."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apxm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with full jitter: a random part of `base_s` doubled with every failure, `cap_s` at most.

    `draw` gives the random part, from 0 to 1. Full jitter spreads the callers that one outage has synchronised better
    than a fixed wait with a little noise.
    """

    base_s: float = 0.5
    cap_s: float = 30.0
    draw: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        if not 0 <= self.base_s <= self.cap_s:
            raise ConfigError(f"RetryPolicy has base_s {self.base_s!r} and cap_s {self.cap_s!r}, expected 0 <= base_s <= cap_s")

    def delay_s(self, failures: int) -> float:
        """How long to wait after so many failures in a row."""
        return self.draw() * min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 60))
