"""What has become of the calls of one capability, counted. Decides nothing."""

from __future__ import annotations

from collections import Counter, deque
from threading import Lock
from typing import TYPE_CHECKING, Any

from apxm.errors import ApxmError, DeniedError

if TYPE_CHECKING:
    from collections.abc import Sequence

RECENT = 1024  # calls whose latencies are kept: percentiles are those of the last ones


class Tally:
    """Counts of one registered capability. Thread-safe. What the run loop calls by itself, pure functions, is not counted.

    `quick` are calls of plain functions that only read: counted and not timed. It may be added to without a call in between:
    then the GIL is not given up, and the sum is exact.
    """

    __slots__ = ("_calls", "_denied", "_failed", "_in_flight", "_lock", "_max_ms", "_recent_ms", "_retries", "quick")

    def __init__(self) -> None:
        self._lock = Lock()
        self._calls = self._denied = self._retries = self._in_flight = self.quick = 0
        self._failed: Counter[str] = Counter()
        self._recent_ms: deque[float] = deque(maxlen=RECENT)
        self._max_ms = 0.0

    def began(self) -> None:
        """An attempt goes out."""
        with self._lock:
            self._calls += 1
            self._in_flight += 1

    def ended(self, ms: float, error: BaseException | None) -> None:
        """It came back, or nobody waits for it any more."""
        with self._lock:
            self._in_flight -= 1
            self._recent_ms.append(ms)
            if ms > self._max_ms:
                self._max_ms = ms
            if error is not None:
                self._failed[_class_of(error)] += 1

    def failed(self, error: BaseException) -> None:
        """A quick one did not come back."""
        with self._lock:
            self._failed[_class_of(error)] += 1

    def refused(self, error: BaseException) -> None:
        """A call was not made."""
        with self._lock:
            if isinstance(error, DeniedError):
                self._denied += 1
            else:
                self._failed[_class_of(error)] += 1

    def retried(self) -> None:
        with self._lock:
            self._retries += 1

    def to_map(self) -> dict[str, Any]:
        """Counts as JSON. `calls` are attempts; `failed` counts by class; latencies are in milliseconds, None without calls."""
        with self._lock:
            recent = sorted(self._recent_ms)
            return {
                "calls": self._calls + self.quick,
                "in_flight": self._in_flight,
                "failed": dict(self._failed),
                "denied": self._denied,
                "retries": self._retries,
                "p50_ms": _percentile(recent, 0.50),
                "p95_ms": _percentile(recent, 0.95),
                "max_ms": self._max_ms if recent else None,
            }


def _class_of(error: BaseException) -> str:
    if isinstance(error, ApxmError):
        return error.failure.value
    return "fatal" if isinstance(error, Exception) else "cancelled"


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of all is not above."""
    if not ordered:
        return None
    return ordered[max(0, -(-len(ordered) * round(share * 100) // 100) - 1)]
