"""How far a run is, from its events alone: one row per place in the program, however often it fires. Draws nothing."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from apxm.observability import events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from apxm.dag import ExecutionDag

Place: TypeAlias = tuple[int, ...]  # the authored node ids from the root to a node: a frame path without its steps

ROWS_MAX = 2_000  # past it the oldest finished rows go; the counts stay


@dataclass(slots=True)
class Row:
    """One node of the program: how often it ran, what is running now, and how many of its child frames are through."""

    place: Place
    name: str
    op: str
    running: int = 0
    ended: Counter[str] = field(default_factory=Counter)  # done, failed, skipped, cancelled
    since: float = 0.0  # when the first of those that run now began, in seconds of the clock
    seconds: float = 0.0  # of all that ended
    frames_total: int = 0
    frames_opened: int = 0
    frames_closed: int = 0
    planned: int = 0  # nodes of the last plan that its model made
    note: str = ""  # the last error or retry

    @property
    def depth(self) -> int:
        return len(self.place) - 1

    @property
    def state(self) -> str:
        """The worst thing to know: running, failed, cancelled, done, skipped, pending."""
        if self.running:
            return "running"
        for outcome in ("failed", "cancelled", "done", "skipped"):
            if self.ended[outcome]:
                return outcome
        return "pending"

    @property
    def finished(self) -> bool:
        return not self.running and bool(self.ended)


class Progress:
    """Applies events; may be read from another thread under `lock`. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float], nodes: Iterable[tuple[int, str, str]] = ()) -> None:
        self.lock = threading.RLock()
        self.rows: dict[Place, Row] = {}
        self.totals: Counter[str] = Counter()  # of every firing in every frame, by outcome
        self.calls: Counter[str] = Counter()  # model, capability, tokens in and out
        self.frames_open = 0
        self.nodes = 0
        self.top_ended = 0
        self.flow = ""
        self.ended: str | None = None
        self.clock = clock
        self.began = clock()
        self._counted: set[tuple[events.Path, int]] = set()  # activations whose number of child frames is in the total
        for node, name, op in nodes:
            self.rows[(node,)] = Row((node,), name, op)

    @classmethod
    def of(cls, dag: ExecutionDag, clock: Callable[[], float]) -> Progress:
        """With a pending row for each node of `dag`, unless they are too many to show."""
        from apxm.graph.ops import BY_CODE

        first = len(dag.parameters)
        if dag.node_count > ROWS_MAX // 2:
            return cls(clock)
        rows = ((s, BY_CODE[dag.ops[s]]) for s in range(first, len(dag)))
        return cls(clock, ((dag.ids[slot], dag.names[slot], op.name) for slot, op in rows if op))

    def now(self) -> float:
        """Seconds since the run began."""
        return self.clock() - self.began

    def running(self) -> Iterator[Row]:
        """Rows with something running, deepest last."""
        return (row for row in self.rows.values() if row.running)

    def apply(self, event: events.Event) -> None:
        """Book one event."""
        with self.lock:
            match event:
                case events.NodeStarted():
                    self._started(event)
                case events.NodeEnded():
                    self._node_ended(event)
                case events.FrameOpened():
                    self._opened(event)
                case events.FrameClosed():
                    self._closed(event)
                case events.NodeRetried():
                    row = self.rows.get(_place(event.path, event.node))
                    if row is not None:
                        row.note = f"attempt {event.attempt + 1} in {event.seconds:.1f} s: {event.error}"
                case events.Called():
                    self._called(event)
                case events.Spliced():
                    row = self.rows.get(_place(event.path, event.node))
                    if row is not None:
                        row.planned = event.nodes
                case events.Paused():
                    row = self.rows.get(_place(event.path, event.node))
                    if row is not None:
                        row.note = f"waits for a person: {event.checkpoint}"
                case events.RunStarted():
                    self.flow, self.nodes, self.began = event.flow, event.nodes, self.clock()
                case events.RunEnded():
                    self.ended = event.outcome
                case events.Printed():
                    pass

    def _row(self, event: events.NodeStarted | events.NodeEnded) -> Row:
        place = _place(event.path, event.node)
        row = self.rows.get(place)
        if row is None:
            if len(self.rows) >= ROWS_MAX:
                self._evict()
            row = self.rows[place] = Row(place, event.name, event.op)
        return row

    def _evict(self) -> None:
        for place, row in self.rows.items():
            if row.finished:
                del self.rows[place]
                return

    def _started(self, event: events.NodeStarted) -> None:
        row = self._row(event)
        if not row.running:
            row.since = self.began + event.at
        row.running += 1

    def _node_ended(self, event: events.NodeEnded) -> None:
        row = self._row(event)
        row.running = max(row.running - 1, 0) if event.outcome != "skipped" else row.running
        row.ended[event.outcome] += 1
        row.seconds += event.duration_ms / 1000
        row.note = event.error or ("" if event.outcome == "done" else row.note)
        self.totals[event.outcome] += 1
        self.top_ended += not event.path
        self._counted.discard((event.path, event.node))

    def _opened(self, event: events.FrameOpened) -> None:
        node, self.frames_open = event.path[-1][0], self.frames_open + 1
        row = self.rows.get(_place(event.path[:-1], node))
        if row is None:
            return
        row.frames_opened += 1
        if event.total is not None and (event.path[:-1], node) not in self._counted:
            self._counted.add((event.path[:-1], node))
            row.frames_total += event.total

    def _closed(self, event: events.FrameClosed) -> None:
        self.frames_open = max(self.frames_open - 1, 0)
        row = self.rows.get(_place(event.path[:-1], event.path[-1][0]))
        if row is not None:
            row.frames_closed += 1

    def _called(self, event: events.Called) -> None:
        self.calls[event.kind] += 1
        for name in ("input_tokens", "output_tokens"):
            self.calls[name] += int((event.usage or {}).get(name, 0))


def _place(path: events.Path, node: int) -> Place:
    return (*(step[0] for step in path), node)
