"""Which firings made a run take as long as it did: its exact critical path. Reads events and graphs; estimates nothing.

The walk goes backwards from the firing that ended the run. What a firing waited for is, of all that its edges come from,
what ended last; what a frame waited for is what its node waited for, or the frame before it: the iteration before, the
item whose place it took, the `try` before a `catch`. A node that opened frames stands on the path as the firings in them.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from apxm.graph.model import Dependency

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from apxm.graph.model import Graph, Node
    from apxm.observability.events import Path
    from apxm.observability.history import History, Span

FlowKey: TypeAlias = tuple[str, str]  # agent, flow

_BEFORE = {"finally": ("try", "catch"), "catch": ("try",)}


@dataclass(frozen=True, slots=True)
class Step:
    """A firing on the critical path, and the seconds that passed between the end of the one before and its start."""

    span: Span
    waited: float


def critical_path(history: History, flows: Mapping[FlowKey, Graph]) -> list[Step]:
    """The critical path of a run, first firing first; [] when nothing fired.

    `flows` are those of the program that ran, as `lift` gives them; a frame whose graph they do not have is passed as one.
    The durations and waits of the steps add up to the time from the start of the run to the end of the last step.
    """
    kept = [span for span in history.spans if span.outcome != "cancelled"] or history.spans
    if not kept:
        return []
    walk = _Walk(history.spans, flows, history.flow)
    steps: list[Step] = []
    ended = 0.0
    for span in reversed(list(walk.back(walk.latest(kept)))):
        steps.append(Step(span, max(span.start_at - ended, 0.0)))
        ended = span.end_at
    return steps


@dataclass(slots=True)
class _Opened:
    """The frames that one firing opened: when each began, and the last firing of each, by its end."""

    began: dict[str | int, float]
    ends: list[tuple[float, int, str | int]]  # end, order of the span, step; sorted


class _Walk:
    """The spans of one run by where they are, and the graph of every frame."""

    def __init__(self, spans: Sequence[Span], flows: Mapping[FlowKey, Graph], flow: str) -> None:
        self.spans = spans
        self.flows = {f"{agent}.{name}": graph for (agent, name), graph in flows.items()}
        self.order = {id(span): number for number, span in enumerate(spans)}
        self.frames: dict[Path, dict[int, Span]] = {}
        self.children: dict[tuple[Path, int], list[Path]] = {}  # the frames that a firing opened
        for span in spans:
            inside = self.frames.get(span.path)
            if inside is None:
                inside = self.frames[span.path] = {}
                if span.path:
                    self.children.setdefault((span.path[:-1], span.path[-1][0]), []).append(span.path)
            inside[span.node] = span
        self.opened: dict[tuple[Path, int], _Opened] = {}
        self.tables: dict[int, _Table] = {}
        self.graphs: dict[Path, Graph | None] = {(): self.flows.get(flow)}

    def back(self, last: Span | None) -> Iterator[Span]:
        """Firings from `last` to the first; each ended before the one given before it began."""
        seen: set[int] = set()  # the events of a damaged file may lead in a circle
        span = last
        while span is not None and id(span) not in seen:
            seen.add(id(span))
            inner = self._opened(span.path, span.node).ends
            if inner:
                span = self.spans[inner[-1][1]]
                continue
            yield span
            span = self._before(span)

    def latest(self, spans: Iterable[Span]) -> Span | None:
        """The one that ended last."""
        return max(spans, key=lambda span: (span.end_at, self.order[id(span)]), default=None)

    def _opened(self, path: Path, node: int) -> _Opened:
        found = self.opened.get((path, node))
        if found is None:
            found = self.opened[path, node] = _Opened({}, [])
            for frame in self.children.get((path, node), ()):
                spans = self.frames[frame].values()
                found.began[frame[-1][1]] = min(span.start_at for span in spans)
                end = self.latest(span for span in spans if span.outcome != "cancelled") or self.latest(spans)
                assert end is not None
                found.ends.append((end.end_at, self.order[id(end)], frame[-1][1]))
            found.ends.sort(key=lambda end: end[:2])
        return found

    def _before(self, span: Span) -> Span | None:
        """What a firing waited for: a firing of its frame, else what its frame waited for."""
        table = self._table(span.path)
        if table is not None:
            sources = table.sources(span.node, span.winner)
            fired = _fired(sources, table, self.frames[span.path])
            found = self.latest(one for one in fired if one.end_at <= span.start_at)
            if found is not None:
                return found
        return self._before_frame(span.path)

    def _before_frame(self, frame: Path) -> Span | None:
        """What the opening of a frame waited for: a frame beside it, else what the node that opened it waited for."""
        while frame:
            outer, (node, step) = frame[:-1], frame[-1]
            beside = self._beside(outer, node, step)
            if beside is not None:
                return beside
            opener = self.frames.get(outer, {}).get(node)
            if opener is not None:
                return self._before(opener)
            frame = outer
        return None

    def _beside(self, outer: Path, node: int, step: str | int) -> Span | None:
        """The last firing of the frame whose end let this one begin."""
        opened = self._opened(outer, node)
        began = opened.began[step]
        last = bisect_right(opened.ends, began, key=lambda end: end[0])
        allowed = self._allowed(outer, node, step)
        for _, order, other in reversed(opened.ends[:last]):
            if other != step and allowed(other):
                return self.spans[order]
        return None

    def _allowed(self, outer: Path, node: int, step: str | int) -> Callable[[str | int], bool]:
        """Which frames of a node may come before one of them."""
        if not isinstance(step, int):
            before = _BEFORE.get(step, ())
            return lambda other: other in before or (step == "reduce" and isinstance(other, int))
        opener = self._node(outer, node)
        if opener is not None and step < opener.attributes.get("window", 0):
            return lambda other: False  # the first items begin at once
        return lambda other: isinstance(other, int) and other < step

    def _node(self, frame: Path, node: int) -> Node | None:
        table = self._table(frame)
        return table.nodes.get(node) if table is not None else None

    def _table(self, frame: Path) -> _Table | None:
        graph = self._graph(frame)
        if graph is None:
            return None
        table = self.tables.get(id(graph))
        if table is None:
            table = self.tables[id(graph)] = _Table(graph)
        return table

    def _graph(self, frame: Path) -> Graph | None:
        """The graph that a frame runs: the flow of the run, a region of a node in it, or a flow that was called."""
        if frame in self.graphs:
            return self.graphs[frame]
        graph = None
        node = self._node(frame[:-1], frame[-1][0])
        if node is not None:
            step = frame[-1][1]
            region = "body" if isinstance(step, int) else step
            graph = node.regions[region] if region in node.regions else self.flows.get(region)
        self.graphs[frame] = graph
        return graph


class _Table:
    """The nodes of one graph, and where the edges into each come from."""

    def __init__(self, graph: Graph) -> None:
        self.nodes = {node.id: node for node in graph.nodes}
        self.data: dict[int, list[int | str]] = {}
        self.others: dict[int, list[int | str]] = {}
        for edge in graph.edges:
            kind = self.data if edge.dependency is Dependency.DATA else self.others
            kind.setdefault(edge.target, []).append(edge.source)

    def sources(self, node: int, winner: int | None = None) -> list[int]:
        """The nodes with an edge into this one; of the Data edges only the one at position `winner`, if given."""
        data, others = self.data.get(node, []), self.others.get(node, [])
        if winner is not None and winner < len(data):
            data = [data[winner]]
        return [source for source in (*data, *others) if isinstance(source, int)]


def _fired(sources: Sequence[int], table: _Table, known: Mapping[int, Span]) -> Iterator[Span]:
    """The firings that led to a node; where one was skipped or never began, those that led to it."""
    todo, seen = list(sources), set(sources)
    while todo:
        source = todo.pop()
        if source in known:
            yield known[source]
            continue
        further = [one for one in table.sources(source) if one not in seen]
        seen.update(further)
        todo += further
