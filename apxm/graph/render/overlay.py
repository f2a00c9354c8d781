"""A run laid over the flows of its program: a mark for every box, the critical path, who worked when. Draws nothing.

A run is recorded by places, and a flow that is called stands under the node that called it. Here everything is gathered
at the box that a reader looks at: that of the flow, whoever called it.
"""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from apxm.errors import ApxmError
from apxm.graph.contract import from_json
from apxm.graph.critical import critical_path
from apxm.graph.model import Graph
from apxm.graph.render.marks import OUTCOMES, Mark
from apxm.graph.render.text import bounded, clean, duration
from apxm.observability.history import path_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from apxm.graph.critical import FlowKey
    from apxm.graph.model import Node
    from apxm.graph.render.drawing import Key
    from apxm.observability.events import Path
    from apxm.observability.history import History, Place, PlaceFacts, Span

Spot: TypeAlias = tuple["FlowKey", "Key"]


@dataclass(slots=True)
class Overlay:
    """`marks` by flow and box; `critical` are the firings of the critical path, `pairs` the boxes that they pass between.

    `homeless` counts firings without a box: in a flow that is not in the program, or at a node that this form of it lacks.
    """

    history: History
    atlas: Atlas
    marks: dict[FlowKey, dict[Key, Mark]] = field(default_factory=dict)
    critical: list[Span] = field(default_factory=list)
    pairs: set[tuple[Spot, Spot]] = field(default_factory=set)
    homeless: int = 0

    def pairs_of(self, flow: FlowKey) -> frozenset[tuple[Key, Key]]:
        """Those of one flow, by box."""
        return frozenset((one[1], other[1]) for one, other in self.pairs if one[0] == flow == other[0])


def with_plans(flows: Mapping[FlowKey, Graph], history: History) -> Mapping[FlowKey, Graph]:
    """The flows with the plans that the run took in, each as a region of the node whose model made it. `flows` stay as they are.

    Plans that are no graphs any more, or were made in a flow that is not there, are left out: a record may be anything.
    """
    if not history.splices:
        return flows
    found = deepcopy(dict(flows))
    atlas = Atlas(history, found)
    for plan in history.splices:
        node = atlas.node_at(plan.path, plan.node)
        with suppress(ApxmError):
            made = from_json(plan.graph)
            if node is not None and isinstance(made, Graph):
                node.regions[plan.step] = made
    return found


def overlay(history: History, flows: Mapping[FlowKey, Graph]) -> Overlay:
    """What the run left at each node of these flows."""
    atlas = Atlas(history, flows)
    found = Overlay(history, atlas, {key: {} for key in flows})
    for place, facts in history.places.items():
        spot = atlas.of_place(place)
        if spot is not None:
            _add(found, spot, facts)
        else:
            found.homeless += sum(facts.count.values())
    _follow(found, [step.span for step in critical_path(history, flows)])
    marks = [mark for flow in found.marks.values() for mark in flow.values()]
    longest = max((mark.total_ms for mark in marks), default=0.0)
    for mark in marks:
        mark.heat = mark.total_ms / longest if longest else 0.0
    return found


def _follow(found: Overlay, path: list[Span]) -> None:
    """Mark the boxes that the critical path goes through, those around them too, and between which boxes it passes."""
    found.critical = path
    before: list[Spot | None] = []
    for span in path:
        trail = found.atlas.trail(span)
        for spot in trail:
            if spot is not None and spot[1] in found.marks[spot[0]]:
                found.marks[spot[0]][spot[1]].critical = True
        parted = next(((one, other) for one, other in zip(before, trail) if one != other), None)
        if parted is not None and parted[0] is not None and parted[1] is not None:
            found.pairs.add((parted[0], parted[1]))
        before = trail


def _add(found: Overlay, spot: Spot, facts: PlaceFacts) -> None:
    mark = found.marks[spot[0]].setdefault(spot[1], Mark())
    mark.count.update(facts.count)
    mark.total_ms += facts.total_ms
    mark.max_ms = max(mark.max_ms, facts.max_ms)
    mark.retries += facts.retries
    mark.fallbacks += facts.fallbacks
    mark.calls += facts.calls
    mark.error = facts.error or mark.error
    for name, amount in facts.usage.items():
        mark.usage[name] = mark.usage.get(name, 0) + amount


def summary(run: Overlay) -> list[tuple[str, str, str]]:
    """The facts of a run that stand above its picture: name, text, and the outcome whose sign goes before it, if any."""
    history, stats = run.history, run.history.stats
    outcome = history.outcome if history.outcome in OUTCOMES else "cancelled" if history.outcome == "cancelled" else "failed"
    facts = [("run", clean(history.run_id), ""), ("outcome", clean(history.outcome), outcome)]
    facts.append(("duration", duration(history.duration_ms), ""))
    if run.critical:
        spent = sum(span.duration_ms for span in run.critical)
        facts.append(
            ("critical path", f"{len(run.critical):,} firing{'s' if len(run.critical) != 1 else ''}, {duration(spent)}", "")
        )
    if "parallelism_max" in stats:
        facts.append(("parallelism", f"{stats['parallelism_avg']:.1f} on average, {stats['parallelism_max']} at most", ""))
    marks = [mark for flow in run.marks.values() for mark in flow.values()]
    if history.splices:
        deep = max(plan.depth for plan in history.splices)
        within = f", up to {deep} within each other" if deep > 1 else ""
        facts.append(("plans of models", f"{len(history.splices):,}{within}", ""))
    facts.append(("firings", f"{sum(sum(mark.count.values()) - mark.count['skipped'] for mark in marks):,}", ""))
    used: dict[str, float] = {}
    for usage in stats.get("usage", {}).get("model", {}).values() if stats else (mark.usage for mark in marks):
        for name, amount in usage.items():
            used[name] = used.get(name, 0) + amount
    if used.get("llm_calls"):
        facts.append(("model calls", f"{used['llm_calls']:,.0f}", ""))
        facts.append(("tokens", f"{used.get('input_tokens', 0):,.0f} in, {used.get('output_tokens', 0):,.0f} out", ""))
    if used.get("cost_usd"):
        facts.append(("cost", f"${used['cost_usd']:.4f}", ""))
    if history.error:
        facts.append(("error", clean(bounded(history.error))[:300], ""))
    return facts


class Atlas:
    """Finds the box of a place or a firing."""

    def __init__(self, history: History, flows: Mapping[FlowKey, Graph]) -> None:
        self._flows = flows
        self._home = next((key for key in flows if f"{key[0]}.{key[1]}" == history.flow), None)
        self._nodes: dict[int, dict[int, Node]] = {}
        self._frames: dict[Path, tuple[FlowKey, Key, Graph] | None] = {}
        if self._home is not None:
            self._frames[()] = (self._home, (), flows[self._home])

    def of_span(self, span: Span) -> Spot | None:
        """The flow and key of the box where it fired."""
        frame = self._frame(span.path)
        if frame is None or span.node not in self._table(frame[2]):
            return None
        return frame[0], (*frame[1], span.node)

    def trail(self, span: Span) -> list[Spot | None]:
        """The boxes from the outermost that holds this firing down to its own."""
        ids = [*(id for id, _ in span.path), span.node]
        frames = [self._frame(span.path[:depth]) for depth in range(len(ids))]
        return [(frame[0], (*frame[1], id)) if frame is not None else None for frame, id in zip(frames, ids)]

    def of_place(self, place: Place) -> Spot | None:
        """The flow and key of the box at a place."""
        frame = self._frame(path_of(place))
        node = place[-1]
        return (frame[0], (*frame[1], node)) if frame is not None and node in self._table(frame[2]) else None

    def node_at(self, path: Path, id: int) -> Node | None:
        """The node with that id in the flow or region that a frame runs."""
        frame = self._frame(path)
        return self._table(frame[2]).get(id) if frame is not None else None

    def _within(self, frame: tuple[FlowKey, Key, Graph], id: int) -> Iterator[tuple[FlowKey, Key, Graph]]:
        flow, key, graph = frame
        node = self._table(graph).get(id)
        if node is None:
            return
        for name, region in node.regions.items():
            yield flow, (*key, id, name), region
        if node.op == "FLOW_CALL":
            called = (node.attributes.get("agent_name", flow[0]), node.attributes.get("flow_name", ""))
            if called in self._flows:
                yield called, (), self._flows[called]

    def _frame(self, path: Path) -> tuple[FlowKey, Key, Graph] | None:
        """The flow or region whose graph a frame runs; None when it is not in the program."""
        if path in self._frames:
            return self._frames[path]
        outer = self._frame(path[:-1]) if path else None
        found = None
        if outer is not None:
            id, step = path[-1]
            region = "body" if isinstance(step, int) else step
            candidates = list(self._within(outer, id))
            found = next((one for one in candidates if not one[1] or one[1][-1] == region), None)
        self._frames[path] = found
        return found

    def _table(self, graph: Graph) -> dict[int, Node]:
        table = self._nodes.get(id(graph))
        if table is None:
            table = self._nodes[id(graph)] = {node.id: node for node in graph.nodes}
        return table
