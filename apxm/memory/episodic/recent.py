"""The newest episodes of one runtime, in this process: gone when it ends."""

from __future__ import annotations

import itertools
from collections import deque
from time import time
from typing import TYPE_CHECKING, Any

from apxm.memory.episodic.episode import Episode
from apxm.memory.episodic.episodes import Episodes, EpisodeStats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from apxm.config import EpisodeContent
    from apxm.memory.episodic.episode import Place
    from apxm.memory.episodic.episodes import Wanted
    from apxm.memory.episodic.firings import Firings


class RecentEpisodes(Episodes):
    """At most `entries_max`, none older than `days_max`. A run only ever appends one row."""

    def __init__(
        self,
        entries_max: int,
        content: EpisodeContent = "off",
        *,
        days_max: float | None = None,
        clock: Callable[[], float] = time,
        redact: Callable[[str], str] | None = None,
    ) -> None:
        super().__init__(content, clock, redact)
        self._seconds_max = None if days_max is None else days_max * 86_400
        self._numbers = itertools.count(1)
        self._rows: deque[tuple[Any, ...]] = deque(maxlen=entries_max)  # the fields of an Episode: made when somebody looks

    def add(
        self,
        run: str,
        place: Place,
        kind: str,
        target: str,
        duration_ms: float,
        code: str | None = None,
        usage: Mapping[str, float] | None = None,
        content: Mapping[str, str] | None = None,
        value: Any = None,
        labels: tuple[str, ...] = (),
    ) -> None:
        if content is not None:
            content = self.kept(content)
        row = (next(self._numbers), self.clock(), run, *place, kind, target, duration_ms, code, usage, content, value, labels)
        self._rows.append(row)

    def record(self, run: str, place: Place, key: str, value: Any, labels: tuple[str, ...] = ()) -> None:
        self.add(run, place, "record", key, 0.0, value=value, labels=labels)

    def fired(self, firings: Firings) -> None:
        numbers = itertools.islice(self._numbers, len(firings))  # taken one by one: others add meanwhile
        self._rows.extend((number, *row[1:]) for number, row in zip(numbers, firings.rows(0)))

    def select(self, wanted: Wanted) -> Iterator[Episode]:
        since = None if self._seconds_max is None else self.clock() - self._seconds_max
        for row in reversed(self._rows.copy()):
            if (since is None or row[1] >= since) and wanted.holds(one := Episode(*row)):
                yield one

    def stats(self) -> EpisodeStats:
        rows = self._rows
        first, last = (rows[0][0], rows[-1][0]) if rows else (0, 0)
        return EpisodeStats("memory", len(rows), first, last)

    def clear(self) -> None:
        self._rows.clear()

    def __len__(self) -> int:
        return len(self._rows)
