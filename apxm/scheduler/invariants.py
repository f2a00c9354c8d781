"""What must hold between two steps of a run, in words and in code; and what is missing when nothing can go on."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from apxm.errors import InternalError
from apxm.scheduler.dataflow import EMPTY, Frame
from apxm.scheduler.plan import ANY, RACE
from apxm.scheduler.splicing import Activation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apxm.scheduler.run import RunState


def check(run: RunState) -> None:
    """Raise InternalError when an invariant of a run is broken. Call it between jobs, never inside one: it costs O(slots)."""
    frames = list(run.frames()) if not run.root.gone else []
    queued: Counter[tuple[int, int]] = Counter()
    for worker in run.workers:
        for lane in worker.lanes:
            queued.update((id(frame), slot) for frame, slot in lane)
        for frame, ready in worker.batches:
            queued.update((id(frame), slot) for slot in ready)
    for frame in frames:
        _check_counts(frame)
        if frame.left is not None and frame.closing is None:
            _check_ready(frame, queued)
    live = sum(1 for frame in frames if not frame.gone)
    _hold(run.root.gone or live == run.live_frames, f"{live} frames are reachable, {run.live_frames} are counted")


def waiting_edges(frames: Iterable[Frame]) -> list[tuple[str, str]]:
    """(source, target) of every token that what is left still waits for; `(nothing)` for a node that waits for none, and
    `(a wait)` for one whose wait nobody ended."""
    edges: list[tuple[str, str]] = []
    for frame in frames:
        dag = frame.plan.dag
        for slot in range(frame.plan.parameters, frame.plan.size):
            if slot >= len(frame.v) or frame.v[slot] is not EMPTY:
                continue
            item = frame.running.get(slot) if frame.running else None
            if isinstance(item, Activation) and item.wake is not None:
                edges.append(("(a wait)", dag.names[slot]))
            elif item is None:
                edges += [
                    (dag.names[edge.source], dag.names[slot])
                    for edge in dag.in_edges(slot)
                    if edge.source >= len(frame.v) or frame.v[edge.source] is EMPTY
                ] or [("(nothing)", dag.names[slot])]
    return edges


def _check_counts(frame: Frame) -> None:
    """`todo` is the number of slots that did not end; a frame that is not gone has some."""
    plan = frame.plan
    if frame.left is None:
        _hold(frame.todo == plan.size - len(frame.v), f"{frame.path()}: static, but todo is {frame.todo}")
        return
    _hold(len(frame.v) == plan.size, f"{frame.path()}: {len(frame.v)} values for {plan.size} slots")
    empty = sum(1 for slot in range(plan.parameters, plan.size) if frame.v[slot] is EMPTY)
    _hold(empty == frame.todo, f"{frame.path()}: {empty} slots are open, todo is {frame.todo}")


def _check_ready(frame: Frame, queued: Counter[tuple[int, int]]) -> None:
    """No token is lost or doubled: what waits for k tokens has k predecessors that did not end; what waits for none is
    in exactly one queue or is running; what waits for some is in none."""
    plan, left = frame.plan, frame.left
    assert left is not None
    for slot in range(plan.parameters, plan.size):
        if frame.v[slot] is not EMPTY:
            continue
        name = f"{frame.path()} `{plan.dag.names[slot]}`"
        missing = sum(1 for edge in plan.dag.in_edges(slot) if edge.source >= plan.parameters and frame.v[edge.source] is EMPTY)
        _hold(left[slot] == missing, f"{name}: waits for {left[slot]} tokens, {missing} can still come")
        running = frame.running is not None and slot in frame.running
        if plan.rules[slot] in (ANY, RACE):
            assert frame.choices is not None
            ready = frame.choices[slot].fired
        else:
            ready = not left[slot]
        places = queued[id(frame), slot]
        _hold(ready or not (places or running), f"{name}: is not ready, and yet it is queued or running")
        if ready and not running:
            _hold(places == 1, f"{name}: is ready, and stands in {places} queues")
        _hold(not running or places <= 1, f"{name}: runs, and stands in {places} queues")


def _hold(holds: bool, otherwise: str) -> None:
    if not holds:
        raise InternalError(f"broken invariant: {otherwise}")
