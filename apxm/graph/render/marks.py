"""What a run left at each box, ready to be drawn: an outcome, a line of words, how hot it is. Draws nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from apxm.graph.render.text import duration

# Worst first: the badge of a box shows the first of these that happened there.
OUTCOMES = ("failed", "unfinished", "cancelled", "done", "skipped")


@dataclass(slots=True)
class Mark:
    """Over all firings of one node. `heat` is its share of the longest total time, from 0 to 1."""

    count: Counter[str] = field(default_factory=Counter)
    total_ms: float = 0.0
    max_ms: float = 0.0
    retries: int = 0
    fallbacks: int = 0
    error: str | None = None
    calls: int = 0
    usage: dict[str, float] = field(default_factory=dict)
    heat: float = 0.0
    critical: bool = False

    @property
    def outcome(self) -> str:
        """The worst one."""
        return next((outcome for outcome in OUTCOMES if self.count[outcome]), "")

    @property
    def note(self) -> str:
        """`3 ×, 1.25 s, 1 failed`."""
        ran = sum(self.count.values()) - self.count["skipped"]
        parts = [f"{ran:,} ×"] if ran > 1 else []
        if ran:
            parts.append(duration(self.total_ms))
        parts += [f"{self.count[outcome]:,} {outcome}" for outcome in ("failed", "cancelled") if self.count[outcome] and ran > 1]
        if self.fallbacks:
            parts.append(f"fallback used {self.fallbacks:,} ×" if ran > 1 else "fallback used")
        if self.count["skipped"]:
            parts.append(f"{self.count['skipped']:,} skipped" if ran or self.count["skipped"] > 1 else "skipped")
        return ", ".join(parts)
