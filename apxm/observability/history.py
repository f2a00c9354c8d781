"""A run read back from its events: what happened at every place, every firing with its times. Judges and draws nothing.

One pass over the events in their order, live or from a file. A run that was killed has no RunEnded: its outcome is
`unfinished`, and so is that of every firing that had begun and not ended.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from apxm.observability import events

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apxm.observability.events import Path

# The authored node ids from the root to a node, each that opened a frame followed by its region, case or called flow. The
# bodies of MAP and LOOP have no name: their steps are items and iterations, and every one of them is at the same place.
Place: TypeAlias = tuple[int | str, ...]

UNFINISHED = "unfinished"
SPANS_MAX = 200_000  # a picture of more shows nothing; at about 300 bytes each they stay under 64 MiB
SPLICES_MAX = 1_000  # plans of models that are kept: each may have 256 KiB
PLACES_MAX = 20_000  # a program has as many places as nodes, unless a flow calls itself


@dataclass(slots=True)
class PlaceFacts:
    """What happened at one place of the program, over all its firings. Times are in milliseconds, `*_at` in seconds.

    `count` is by outcome: done, failed, skipped, cancelled, unfinished. `fallbacks` counts those that are done because they
    gave their fallback. `fired` counts those that began, and only these have a time. `error` is the last one. `usage` sums
    what its calls used.
    """

    place: Place
    name: str = ""
    op: str = ""
    count: Counter[str] = field(default_factory=Counter)
    fired: int = 0
    total_ms: float = 0.0
    max_ms: float = 0.0
    first_at: float | None = None
    last_at: float | None = None
    retries: int = 0
    fallbacks: int = 0
    error: str | None = None
    calls: int = 0
    usage: dict[str, float] = field(default_factory=dict)

    @property
    def mean_ms(self) -> float:
        """Time of one firing; 0 when nothing fired."""
        return self.total_ms / self.fired if self.fired else 0.0

    def seen(self, at: float) -> None:
        """Something happened here at that second."""
        if self.first_at is None:
            self.first_at = at
        self.last_at = at


@dataclass(frozen=True, slots=True)
class Span:
    """One firing: where, on which worker, from when to when in seconds of the run. `error`, `winner` are as in NodeEnded."""

    path: Path
    node: int
    name: str
    op: str
    worker: int
    start_at: float
    end_at: float
    outcome: str
    winner: int | None = None
    error: str | None = None

    @property
    def fell_back(self) -> bool:
        """It failed and gave its fallback."""
        return self.outcome == "done" and self.error is not None

    @property
    def place(self) -> Place:
        return place_of(self.path, self.node)

    @property
    def duration_ms(self) -> float:
        return (self.end_at - self.start_at) * 1e3


@dataclass(slots=True)
class History:
    """One run. `spans` are in the order in which they ended, unfinished ones last; nodes that never began have none.

    `began` is Unix time in seconds. `duration_ms` of an unfinished run reaches to its last event. `spans_left_out`
    counts those past SPANS_MAX, `places_left_out` the firings at places past PLACES_MAX. `gaps` are events that whoever
    recorded them lost. `splices` are the plans of models that it took in, the first SPLICES_MAX of them.
    """

    run_id: str = ""
    flow: str = ""
    outcome: str = UNFINISHED
    error: str | None = None
    began: float = 0.0
    duration_ms: float = 0.0
    metadata: dict[str, str] = field(default_factory=dict)
    stats: dict[str, Any] = field(default_factory=dict)
    gaps: list[events.Gap] = field(default_factory=list)
    splices: list[events.Spliced] = field(default_factory=list)
    places: dict[Place, PlaceFacts] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    spans_left_out: int = 0
    places_left_out: int = 0

    @classmethod
    def of(cls, recorded: Iterable[events.Event]) -> History:
        """Read the events of one run."""
        reading = _Reading(cls())
        for event in recorded:
            reading.take(event)
        return reading.end()


class _Reading:
    """A history while it is being read: what began and did not end yet."""

    def __init__(self, history: History) -> None:
        self.history = history
        self._open: dict[tuple[Path, int], events.NodeStarted] = {}
        self._last_at = 0.0
        self._ended = False

    def take(self, event: events.Event) -> None:
        history = self.history
        self._last_at = max(self._last_at, event.at)
        match event:
            case events.NodeStarted():
                self._open[event.path, event.node] = event
                if (facts := self._facts(event.path, event.node, event)) is not None:
                    facts.seen(event.at)
            case events.NodeEnded():
                self._node_ended(event)
            case events.NodeRetried():
                if (facts := self._facts(event.path, event.node)) is not None:
                    facts.retries, facts.error = facts.retries + 1, event.error
            case events.Called():
                self._called(event)
            case events.Spliced():
                if len(history.splices) < SPLICES_MAX:
                    history.splices.append(event)
            case events.RunStarted():
                history.run_id, history.flow, history.began = event.run_id, event.flow, event.began
                history.metadata = dict(event.metadata)
            case events.RunEnded():
                self._ended = True
                history.run_id = history.run_id or event.run_id
                history.outcome, history.error = event.outcome, event.error
                history.duration_ms, history.stats = event.duration_ms, dict(event.stats)
            case events.Gap():
                history.gaps.append(event)

    def end(self) -> History:
        """The history, with what was still running when the events stopped."""
        history = self.history
        if not self._ended:
            history.duration_ms = self._last_at * 1e3
        for begun in self._open.values():
            if (facts := self._facts(begun.path, begun.node, begun)) is not None:
                self._book(facts, UNFINISHED, begun.at, self._last_at)
            self._span(begun, begun.worker, begun.at, self._last_at, UNFINISHED)
        self._open.clear()
        return history

    def _node_ended(self, event: events.NodeEnded) -> None:
        begun = self._open.pop((event.path, event.node), None)
        facts = self._facts(event.path, event.node, event)
        if facts is not None:
            facts.error = event.error or facts.error
            facts.fallbacks += event.outcome == "done" and event.error is not None
        if begun is None and event.outcome in ("skipped", "cancelled") and not event.duration_ms:  # it never began
            if facts is not None:
                facts.count[event.outcome] += 1
                facts.seen(event.at)
            return
        start_at = begun.at if begun is not None else max(event.at - event.duration_ms / 1e3, 0.0)  # its start was lost
        if facts is not None:
            self._book(facts, event.outcome, start_at, event.at)
        self._span(event, begun.worker if begun is not None else 0, start_at, event.at, event.outcome)

    def _book(self, facts: PlaceFacts, outcome: str, start_at: float, end_at: float) -> None:
        ms = (end_at - start_at) * 1e3
        facts.count[outcome] += 1
        facts.fired += 1
        facts.total_ms += ms
        facts.max_ms = max(facts.max_ms, ms)
        facts.seen(end_at)

    def _span(
        self,
        event: events.NodeStarted | events.NodeEnded,
        worker: int,
        start_at: float,
        end_at: float,
        outcome: str,
    ) -> None:
        spans = self.history.spans
        if len(spans) >= SPANS_MAX:
            self.history.spans_left_out += 1
            return
        winner, error = (event.winner, event.error) if isinstance(event, events.NodeEnded) else (None, None)
        spans.append(Span(event.path, event.node, event.name, event.op, worker, start_at, end_at, outcome, winner, error))

    def _called(self, event: events.Called) -> None:
        facts = self._facts(event.path, event.node)
        if facts is None:
            return
        facts.calls += 1
        facts.error = event.error or facts.error
        for quantity, amount in (event.usage or {}).items():
            if isinstance(amount, (int, float)):
                facts.usage[quantity] = facts.usage.get(quantity, 0) + amount

    def _facts(self, path: Path, node: int, said: events.NodeStarted | events.NodeEnded | None = None) -> PlaceFacts | None:
        """The facts of a place, None past PLACES_MAX. `said` tells its name."""
        places, place = self.history.places, place_of(path, node)
        facts = places.get(place)
        if facts is None:
            if len(places) >= PLACES_MAX:
                if isinstance(said, events.NodeEnded):
                    self.history.places_left_out += 1
                return None
            facts = places[place] = PlaceFacts(place)
        if said is not None and not facts.op:
            facts.name, facts.op = said.name, said.op
        return facts


def place_of(path: Path, node: int) -> Place:
    """The place of a node: what leads to it, without the items and iterations."""
    return (*(part for step in path for part in (step if isinstance(step[1], str) else step[:1])), node)


def path_of(place: Place) -> Path:
    """The path of one frame whose nodes have places like this one: the first item or iteration of each MAP and LOOP."""
    path: list[tuple[int, str | int]] = []
    for part in place[:-1]:
        if isinstance(part, int):
            path.append((part, 0))
        else:
            path[-1] = (path[-1][0], part)
    return tuple(path)
