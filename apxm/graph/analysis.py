"""The shape of a flow in time: phases, parallelism, critical path, sequential time. An estimate; it runs nothing.

Every operation is expected to take what its latency class says, what it took on average in a recorded run, or the median of
what was measured of it or of its like. Then:

- phase n holds the nodes of the flow that have at most n nodes one after the other before them;
- the sequential time is the sum over all operations, one at a time, of the dearest sides that can be live together;
- the critical path is the longest chain of operations that wait for each other: no number of workers is faster;
- the average parallelism is the one over the other; the maximum is how many operations are in flight at once, at most,
  when each starts as soon as it can.

A node that opens frames takes as long as they do, and the operations inside are the ones that count. A LOOP has
`max_iterations`, a MAP as many items as its constant list, else as its window: `assumed` says which. A SWITCH takes its
longest case, a TRY_CATCH all of its regions. With a recorded run, frames are counted as they opened in it, and of a graph that
ran in several ways (other sides of a branch) the way that took longest stands for all.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, TypeAlias

from apxm.graph.bounds import circles
from apxm.graph.ops import OPERATIONS, Latency
from apxm.graph.routes import Routes
from apxm.graph.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from apxm.graph.latency import Latencies
    from apxm.graph.model import Graph, Node
    from apxm.observability.events import Path
    from apxm.observability.history import History

FlowKey: TypeAlias = tuple[str, str]  # agent, flow
_Around: TypeAlias = tuple[tuple[int, str], ...]  # the nodes that lead to a graph, each with its region or the flow it calls

WINDOW = 64  # of a MAP that does not say: SchedulerConfig.max_parallelism of a runtime that does not say either
NESTED_MAX = 100  # frames of a run nest no deeper, unless its configuration says so
WAYS_MAX = 32  # in which a graph ran that are looked at; of more, those with the most time in their operations


@dataclass(frozen=True, slots=True)
class Step:
    """An operation on the critical path: its name, those of the nodes around it, and its share in milliseconds.

    `times` is how often it comes one after the other there: iterations, or items that wait for their turn.
    """

    name: str
    around: tuple[str, ...]
    op: str
    ms: float
    times: int = 1


@dataclass(frozen=True, slots=True)
class Shape:
    """One graph: a flow or a region. Times are in milliseconds; `phases` has names of nodes, in the order of the graph."""

    name: str
    phases: tuple[tuple[str, ...], ...]
    parallelism_max: int
    critical: tuple[Step, ...]
    critical_ms: float
    sequential_ms: float
    inside: tuple[Shape, ...] = ()

    @property
    def parallelism_avg(self) -> float:
        return self.sequential_ms / self.critical_ms if self.critical_ms else 1.0


@dataclass(frozen=True, slots=True)
class Analysis:
    """The shape of a flow; where times come from (`classes`, a run id, what was measured); what had to be assumed, in words."""

    flow: str
    shape: Shape
    times: str
    assumed: tuple[str, ...] = ()


def analyse(
    flows: Mapping[FlowKey, Graph],
    entry: FlowKey,
    *,
    effects: Mapping[str, str | None] | None = None,
    history: History | None = None,
    latencies: Latencies | None = None,
) -> Analysis:
    """The shape of one flow of a program, as `lift` gives it.

    `effects` has the effect class of capabilities: a pure one is expected to take no longer than any other computation.
    With `history` every operation takes the mean of its firings in that run, and no time when it did not fire. With
    `latencies` it takes their median, whichever side of a branch it is on; `assumed` says of which nothing was measured.
    """
    shaping = _Shaping(flows, effects or {}, _Measured(history) if history is not None else None, latencies)
    shape = shaping.graph(flows[entry], ".".join(entry), entry[0], ())
    times = history.run_id if history is not None else latencies.source if latencies is not None else "classes"
    return Analysis(".".join(entry), shape, times, tuple(shaping.assumed))


def phases(graph: Graph, without: Collection[int] = ()) -> list[list[Node]]:
    """The nodes of a graph by how many nodes come before them, one after the other, at most. Some may be left out."""
    depth: dict[int, int] = {}
    levels: list[list[Node]] = []
    wiring = Wiring(graph)
    for node in graph.nodes:
        if node.id in without:
            continue
        level = depth[node.id] = max((depth[source] + 1 for source in wiring.before(node.id) if source in depth), default=0)
        if level == len(levels):
            levels.append([])
        levels[level].append(node)
    return levels


def regions_of(node: Node) -> list[str]:
    """The names of the regions of a node, in the order in which they may run; cases as they are tried."""
    known = [one for one in ("try", "catch", "body", "reduce") if one in node.regions]
    cases = [one for one in node.attributes.get("case_labels", ()) if one in node.regions and one not in known]
    rest = [one for one in node.regions if one not in (*known, *cases, "default", "finally")]
    return [*known, *cases, *rest, *(one for one in ("default", "finally") if one in node.regions)]


class _Measured:
    """What a recorded run says: mean times of firings, and how many frames a node opened. By place, with its regions."""

    def __init__(self, history: History) -> None:
        self._fired: Counter[tuple[_Around, int]] = Counter()
        self._total_ms: Counter[tuple[_Around, int]] = Counter()
        self._opened: Counter[_Around] = Counter()
        frames: dict[Path, set[int]] = {}
        for span in history.spans:
            around = _around(span.path)
            self._fired[around, span.node] += 1
            self._total_ms[around, span.node] += span.duration_ms  # type: ignore[assignment]
            inside = frames.get(span.path)
            if inside is None:
                inside = frames[span.path] = set()
                self._opened[around] += 1
            inside.add(span.node)
        self._ways: dict[_Around, dict[frozenset[int], None]] = {}
        for path, inside in frames.items():
            self._ways.setdefault(_around(path), {})[frozenset(inside)] = None

    def ways(self, around: _Around) -> list[frozenset[int]]:
        """The nodes that fired together in one frame of a graph, for every such set; none when there was no frame."""
        ways = list(self._ways.get(around, ()))
        if len(ways) > WAYS_MAX:
            ways.sort(key=lambda way: -sum(self.ms(around, node) for node in way))
        return ways[:WAYS_MAX]

    def fired(self, around: _Around, node: int) -> int:
        return self._fired[around, node]

    def ms(self, around: _Around, node: int) -> float:
        """The mean time of a firing; 0 when there was none."""
        return self._total_ms[around, node] / max(self._fired[around, node], 1)

    def frames(self, around: _Around, node: int) -> int:
        """Iterations or items of one firing on average, rounded up."""
        return ceil(self._opened[*around, (node, "body")] / max(self._fired[around, node], 1))


def _around(path: Path) -> _Around:
    return tuple((node, "body" if isinstance(step, int) else step) for node, step in path)


@dataclass(frozen=True, slots=True)
class _Time:
    """What one node takes: on the critical path, in all, and how many operations of it are in flight at most."""

    critical: tuple[Step, ...]
    critical_ms: float
    sequential_ms: float
    at_once: int
    inside: tuple[Shape, ...] = ()


@dataclass(slots=True)
class _Shaping:
    """Works from the inside out: regions and callees before the nodes that hold them."""

    flows: Mapping[FlowKey, Graph]
    effects: Mapping[str, str | None]
    measured: _Measured | None
    latencies: Latencies | None = None
    assumed: dict[str, None] = field(default_factory=dict)
    calls: tuple[FlowKey, ...] = ()  # those that are open
    _circles: Mapping[FlowKey, frozenset[FlowKey]] | None = None

    def graph(self, graph: Graph, name: str, agent: str, around: _Around) -> Shape:
        wiring = Wiring(graph)
        times = {node.id: self.node(node, wiring, agent, around) for node in graph.nodes}
        routes = Routes(graph)
        if self.measured is None:
            way = _way(graph, wiring, times, routes)
        else:
            fired = [{one: times[one] for one in each if one in times} for each in self.measured.ways(around)]
            ways = [_way(graph, wiring, each, routes) for each in fired or [{}]]
            way = max(ways, key=lambda one: (one.critical_ms, one.sequential_ms))
        return Shape(
            name=name,
            phases=tuple(tuple(node.name for node in level) for level in phases(graph)),
            parallelism_max=way.at_once,
            critical=way.critical,
            critical_ms=way.critical_ms,
            sequential_ms=way.sequential_ms,
            inside=tuple(shape for time in times.values() for shape in time.inside),
        )

    def node(self, node: Node, wiring: Wiring, agent: str, around: _Around) -> _Time:
        callee = (node.attributes.get("agent_name", agent), node.attributes["flow_name"]) if node.op == "FLOW_CALL" else None
        if callee in self.flows and callee is not None:
            return self._called(node, callee, around)
        if not node.regions:
            return self._alone(node, around)
        shapes = {
            region: self.graph(node.regions[region], f"{node.name} / {region}", agent, (*around, (node.id, region)))
            for region in regions_of(node)
        }
        match node.op:
            case "SWITCH":
                return self._chosen(node, list(shapes.values()))
            case "LOOP":
                return self._repeated(node, shapes["body"], around)
            case "MAP":
                return self._spread(node, wiring, shapes, around)
            case _:
                return _one_after_the_other(node, list(shapes.values()))

    # ---- operations ------------------------------------------------------------------------------------------------
    def _alone(self, node: Node, around: _Around) -> _Time:
        ms = self.measured.ms(around, node.id) if self.measured is not None else self._class_ms(node)
        return _Time((Step(node.name, (), node.op, ms),), ms, ms, 1)

    def _class_ms(self, node: Node) -> float:
        if self.latencies is not None and (ms := self.latencies.ms(node)) is not None:
            return ms
        if node.op == "INV" and self.effects.get(node.attributes["capability"]) == "pure":
            return Latency.NONE.value
        latency: float = OPERATIONS[node.op].latency.value
        if self.latencies is not None and latency > Latency.NONE.value:
            what = f"`{node.attributes['capability']}`" if node.op == "INV" else node.op
            self.assumed[f"{what}: {latency:,} ms by its class, for nothing of it was measured"] = None
        return latency

    def _called(self, node: Node, callee: FlowKey, around: _Around) -> _Time:
        if self._circles is None:
            self._circles = circles(self.flows)
        if callee in self._circles and self.measured is None:
            self.assumed[f"FLOW_CALL `{node.name}`: one operation of {Latency.HIGH.value:,} ms, for its flow calls itself"] = None
            return self._alone(node, around)
        fired = self.measured is None or self.measured.fired(around, node.id) > 0
        if not fired or len(self.calls) >= NESTED_MAX:
            return self._alone(node, around)
        outside, self.calls = self.calls, (*self.calls, callee)
        name = ".".join(callee)
        shape = self.graph(self.flows[callee], f"{node.name} / {name}", callee[0], (*around, (node.id, name)))
        self.calls = outside
        return _one_after_the_other(node, [shape])

    # ---- regions ---------------------------------------------------------------------------------------------------
    def _chosen(self, node: Node, shapes: Sequence[Shape]) -> _Time:
        longest = max(shapes, key=lambda shape: shape.critical_ms)
        if len(shapes) > 1 and self.measured is None:
            self.assumed[f"SWITCH `{node.name}`: the case `{longest.name.rpartition(' / ')[2]}`, which takes longest"] = None
        steps = _inside(node, longest.critical)
        most = max(shape.parallelism_max for shape in shapes)
        return _Time(steps, longest.critical_ms, longest.sequential_ms, most, tuple(shapes))

    def _repeated(self, node: Node, body: Shape, around: _Around) -> _Time:
        if self.measured is not None:
            times = self.measured.frames(around, node.id)
        else:
            times = int(node.attributes["max_iterations"])
            self.assumed[f"LOOP `{node.name}`: {_count(times, 'iteration')}, its limit"] = None
        steps = _inside(node, body.critical, times)
        most = body.parallelism_max if times else 1
        return _Time(steps, body.critical_ms * times, body.sequential_ms * times, most, (body,))

    def _spread(self, node: Node, wiring: Wiring, shapes: Mapping[str, Shape], around: _Around) -> _Time:
        body, window = shapes["body"], int(node.attributes.get("window", WINDOW))
        items = self._items(node, wiring, window, around)
        rounds = ceil(items / window)
        reduce = _one_after_the_other(node, [shapes["reduce"]]) if "reduce" in shapes else None
        critical_ms, sequential_ms = body.critical_ms * rounds, body.sequential_ms * items
        return _Time(
            (*_inside(node, body.critical, rounds), *(reduce.critical if reduce is not None else ())),
            critical_ms + (reduce.critical_ms if reduce is not None else 0.0),
            sequential_ms + (reduce.sequential_ms if reduce is not None else 0.0),
            max(body.parallelism_max * min(window, items), reduce.at_once if reduce is not None else 1),
            tuple(shapes.values()),
        )

    def _items(self, node: Node, wiring: Wiring, window: int, around: _Around) -> int:
        if self.measured is not None:
            return self.measured.frames(around, node.id)
        length = wiring.constant_length(wiring.list_of(node))
        if length is not None:
            return length
        whose = "its window" if "window" in node.attributes else "the default window"
        self.assumed[f"MAP `{node.name}`: {_count(window, 'item')}, {whose}"] = None
        return window


def _way(graph: Graph, wiring: Wiring, times: Mapping[int, _Time], routes: Routes) -> _Time:
    """What a graph takes when the nodes that have a time run, and the others let everything pass at once."""
    ended: dict[int, float] = {}
    last: dict[int, int | None] = {}  # the predecessor that ends last
    for node in graph.nodes:
        latest = max(wiring.before(node.id), key=lambda source: ended[source], default=None)
        last[node.id] = latest
        ended[node.id] = (ended[latest] if latest is not None else 0.0) + (
            times[node.id].critical_ms if node.id in times else 0.0
        )
    end = max(ended, key=lambda node: ended[node], default=None)
    chain = [node for node in _chain(end, last) if node in times]
    return _Time(
        critical=tuple(step for node in reversed(chain) for step in times[node].critical),
        critical_ms=ended[end] if end is not None else 0.0,
        sequential_ms=routes.largest({node: time.sequential_ms for node, time in times.items()}, sum, max),
        at_once=_at_once(times, ended, routes),
    )


def _one_after_the_other(node: Node, shapes: Sequence[Shape]) -> _Time:
    return _Time(
        tuple(step for shape in shapes for step in _inside(node, shape.critical)),
        sum(shape.critical_ms for shape in shapes),
        sum(shape.sequential_ms for shape in shapes),
        max((shape.parallelism_max for shape in shapes), default=1),
        tuple(shapes),
    )


def _inside(node: Node, steps: Sequence[Step], times: int = 1) -> tuple[Step, ...]:
    """Steps of a region as steps of the graph around it, `times` one after the other."""
    if not times:
        return ()
    return tuple(Step(one.name, (node.name, *one.around), one.op, one.ms * times, one.times * times) for one in steps)


def _chain(end: int | None, last: Mapping[int, int | None]) -> Iterator[int]:
    """From the last node of the longest chain to its first."""
    while end is not None:
        yield end
        end = last[end]


def _at_once(times: Mapping[int, _Time], ended: Mapping[int, float], routes: Routes) -> int:
    """The most that is in flight at one time, of what can be; what takes no time counts alone."""
    weights = {node: time.at_once for node, time in times.items()}
    moments: list[tuple[float, bool, int]] = []  # at the same moment ends come before starts
    for node, time in times.items():
        if time.critical_ms > 0:
            moments += [(ended[node] - time.critical_ms, True, node), (ended[node], False, node)]
    most, now, weight = max(weights.values(), default=0), set[int](), 0
    for _, starts, node in sorted(moments):
        weight += weights[node] if starts else -weights[node]
        if not starts:
            now.discard(node)
            continue
        now.add(node)
        if weight > most:
            most = max(most, routes.largest(weights, sum, max, now))
    return most


def _count(number: int, one: str) -> str:
    return f"{number:,} {one if number == 1 else one + 's'}"
