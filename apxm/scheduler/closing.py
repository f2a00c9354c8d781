"""How things end before their time: a frame that closes, a slot that is stopped, a RACE that was decided, a RETURN.

Closing is not an instant: handlers in flight have to come back first, and `finally` regions run. A frame that closes
takes no new work; when its last slot ended, `closing.then` runs. A later, harder reason replaces an earlier one.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from apxm.errors import InvalidError
from apxm.outcome import Spawn
from apxm.scheduler.dataflow import CANCELLED, DEAD, EMPTY, FAILED, Closing, Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apxm.errors import ApxmError
    from apxm.outcome import Child, ChildResult
    from apxm.scheduler.splicing import Activation
    from apxm.scheduler.work_stealing import Worker

Then: TypeAlias = "Callable[[Worker], None]"  # told which worker the rest is for: it is not the one that began the closing
KEPT = (2, 4)  # effect numbers of idempotent and guarded: started ones are left to finish when the reason is soft


class Closer:
    """The part of a run's state that ends what is not done. Mixed into RunState, which has the rest."""

    root: Frame
    error: ApxmError | None
    over: bool
    forced: bool
    watched: bool
    keep_going: bool
    cancelled: int
    posted: int

    if TYPE_CHECKING:

        def stop_left(self, worker: Worker, frame: Frame) -> None: ...

        def interrupt(self, activation: Activation) -> None: ...
        def unpark(self, activation: Activation) -> None: ...
        def note_ended(self, frame: Frame, slot: int, outcome: str, error: ApxmError | None = None) -> None: ...
        def failed(self, worker: Worker, frame: Frame, slot: int, error: ApxmError) -> None: ...
        def deliver(self, worker: Worker, frame: Frame) -> None: ...
        def _frame_over(self, worker: Worker, frame: Frame) -> None: ...
        def _open_child(self, worker: Worker, activation: Activation, child: Child) -> None: ...
        def _propagate(self, worker: Worker, frame: Frame, slot: int, value: Any, label: str | None) -> None: ...

    # ---- the run ---------------------------------------------------------------------------------------------------
    def abort(self, worker: Worker, error: ApxmError) -> None:
        """End the run with an error; the first one stays."""
        if self.error is None:
            self.error = error
        closing = self.root.closing
        if closing is None or closing.soft:
            self.root.returned = self.root.giver = None
            self.close(worker, self.root, self._finish)

    def _finish(self, worker: Worker) -> None:
        self.over = True

    def force(self, worker: Worker) -> list[str]:
        """The grace is over: give up what is still in flight. Gives the names of the nodes that were abandoned."""
        self.forced = True
        abandoned = []
        for frame in list(self.frames()):
            for slot, item in list((frame.running or {}).items()):
                if isinstance(item, Frame):
                    continue
                if item.spawn is None:
                    abandoned.append(frame.plan.dag.names[slot])
                    item.cancelled = True
                    self.stopped(worker, item)
                else:
                    self.stop(worker, frame, slot)
        return abandoned

    def frames(self) -> Iterator[Frame]:
        """Every live frame, parents first."""
        todo = [self.root]
        while todo:
            frame = todo.pop()
            yield frame
            for item in (frame.running or {}).values():
                if isinstance(item, Frame):
                    todo.append(item)
                else:
                    todo += item.open

    # ---- frames ----------------------------------------------------------------------------------------------------
    def close(self, worker: Worker, frame: Frame, then: Then, soft: bool = False) -> None:
        """Take no more work; cancel what has not started, stop what has; `then` runs once all of it ended."""
        if frame.gone or (frame.closing is not None and soft):
            return
        frame.closing = Closing(soft, then)
        if frame.left is None:
            frame.dataflow()
        effects, v = frame.binding.effects, frame.v
        for slot in range(frame.plan.parameters, frame.plan.size):
            if v[slot] is not EMPTY:
                continue
            if frame.running and slot in frame.running:
                self.stop(worker, frame, slot, soft)
            elif not (soft and effects[slot] in KEPT and frame.is_ready(slot)):
                self.mark(frame, slot, CANCELLED)
                v[slot] = DEAD
                frame.todo -= 1
        if self.posted and not soft:
            self.stop_left(worker, frame)
        if not frame.todo:
            self._frame_over(worker, frame)

    def end_slot(self, worker: Worker, frame: Frame, slot: int, value: Any, why: str | None = None) -> None:
        """End a slot of a frame that closes: its successors are not told."""
        if frame.v[slot] is not EMPTY:
            return
        frame.v[slot] = value
        frame.todo -= 1
        if why is not None:
            self.mark(frame, slot, why)
        if not frame.todo:
            self._frame_over(worker, frame)

    def mark(self, frame: Frame, slot: int, why: str) -> None:
        """Note why a slot has no value."""
        if frame.ended is None:
            frame.ended = {}
        frame.ended[slot] = why
        if why == CANCELLED:
            self.cancelled += 1
            if self.watched:
                self.note_ended(frame, slot, CANCELLED)

    # ---- slots -----------------------------------------------------------------------------------------------------
    def stop(
        self,
        worker: Worker,
        frame: Frame,
        slot: int,
        soft: bool = False,
        then: Then | None = None,
    ) -> None:
        """Stop a slot that is running: interrupt its handler, forget its wait, or close its child frames."""
        item = (frame.running or {}).get(slot)
        if item is None:
            return
        if isinstance(item, Frame):
            self.close(worker, item, then or partial(self._call_stopped, frame, slot), soft)
            return
        item.after = then or item.after
        if item.spawn is not None:
            self._stop_children(worker, item, soft)
        elif item.wake is not None:
            self.unpark(item)
            if item.dropped is not None:
                item.dropped()
            self.stopped(worker, item)
        elif not (soft and frame.binding.effects[slot] in KEPT):
            item.cancelled = True
            self.interrupt(item)

    def _stop_children(self, worker: Worker, activation: Activation, soft: bool) -> None:
        activation.cancelled = True
        assert activation.spawn is not None
        if activation.spawn.shielded and not self.forced:
            return
        for child in list(activation.open):
            self.close(worker, child, partial(self._child_gone, activation, child), soft)
        if not activation.open and not activation.busy:
            self.children_gone(worker, activation)

    def _call_stopped(self, frame: Frame, slot: int, worker: Worker) -> None:
        self._forget_slot(frame, slot)
        self._end_stopped(worker, frame, slot)

    def _child_gone(self, activation: Activation, child: Frame, worker: Worker) -> None:
        activation.open.discard(child)
        if not activation.open and not activation.busy:
            self.children_gone(worker, activation)

    def children_gone(self, worker: Worker, activation: Activation) -> None:
        """All children of a cancelled activation ended: its cleanup is next, then it has stopped."""
        frame, slot, spawn = activation.frame, activation.slot, activation.spawn
        if (frame.running or {}).get(slot) is not activation:
            return
        if spawn is not None and spawn.cleanup is not None and not self.forced:
            activation.arm(Spawn((spawn.cleanup,), lambda results: results, isolate=True, hands_on=True, shielded=True))
            child = activation.next_child()
            assert child is not None
            self._open_child(worker, activation, child)
            return
        failed: list[ChildResult] = [result for result in activation.results if result.error is not None]
        if failed and spawn is not None and spawn.shielded and not self.keep_going:
            assert failed[0].error is not None
            self._fail_flow(worker, frame, failed[0].error)
        self.stopped(worker, activation)

    def stopped(self, worker: Worker, activation: Activation) -> None:
        """A cancelled activation is over."""
        frame, slot = activation.frame, activation.slot
        if (frame.running or {}).get(slot) is not activation:
            return
        self._forget_slot(frame, slot)
        if activation.after is not None:
            activation.after(worker)
        else:
            self._end_stopped(worker, frame, slot)

    def _end_stopped(self, worker: Worker, frame: Frame, slot: int) -> None:
        if frame.closing is not None:
            self.end_slot(worker, frame, slot, DEAD, CANCELLED)
        else:  # a RACE was decided elsewhere: the frame goes on
            self.mark(frame, slot, CANCELLED)
            self._propagate(worker, frame, slot, DEAD, None)

    def _forget_slot(self, frame: Frame, slot: int) -> None:
        if frame.running is not None:
            frame.running.pop(slot, None)

    def end_failed(self, frame: Frame, slot: int, *, now: bool) -> None:
        """Note a failure; `now` also ends the slot (else whoever propagates does). One that ended already stays as it is."""
        if frame.v[slot] is not EMPTY:
            return
        self.mark(frame, slot, FAILED)
        if now:
            frame.v[slot] = DEAD
            frame.todo -= 1

    # ---- RACE ------------------------------------------------------------------------------------------------------
    def cancel_losers(self, worker: Worker, frame: Frame, slot: int) -> None:
        """Cancel what leads only to losing edges of a decided RACE; started effects are left to finish."""
        assert frame.choices is not None
        winner, plan = frame.choices[slot].winner, frame.plan
        lost: set[int] = set()
        for source in range(slot - 1, plan.parameters - 1, -1):
            edges = plan.out_edges(source)
            if (
                edges
                and source not in plan.dag.exits
                and all(target in lost or (target == slot and 0 <= place != winner) for target, place, _ in edges)
            ):
                lost.add(source)
        for source in sorted(lost, reverse=True):
            if frame.v[source] is not EMPTY:
                continue
            if frame.running and source in frame.running:
                self.stop(worker, frame, source, soft=True)
            else:
                self.mark(frame, source, CANCELLED)
                self._propagate(worker, frame, source, DEAD, None)

    # ---- RETURN ----------------------------------------------------------------------------------------------------
    def end_by_return(self, worker: Worker, frame: Frame, slot: int, value: Any) -> None:
        """RETURN fired: the value is that of the enclosing flow, from whatever depth of regions, through `finally`."""
        flow = flow_of(frame)
        name = frame.plan.dag.names[slot]
        if flow.returned is not None or (other := self._other_return(flow, frame, slot)) is not None:
            other = flow.returned[0] if flow.returned is not None else other
            text = f"two RETURNs of one activation of `{flow.plan.dag.name}` are live: {name} and {other}"
            self.failed(worker, frame, slot, InvalidError(text, code="two_values", hint="route to one of them"))
            return
        frame.v[slot] = value
        frame.todo -= 1
        flow.returned, flow.giver = (name, value), (frame, slot)
        if flow is frame and not frame.todo:
            self._frame_over(worker, frame)
        else:
            self.close(worker, flow, partial(self.deliver, frame=flow), soft=True)

    def _other_return(self, flow: Frame, frame: Frame, slot: int) -> str | None:
        """Another RETURN of this activation that is ready to fire."""
        todo = [flow]
        while todo:
            here = todo.pop()
            for other in here.plan.returns:
                if (here is not frame or other != slot) and here.is_ready(other):
                    return str(here.plan.dag.names[other])
            for item in (here.running or {}).values():
                if not isinstance(item, Frame):
                    todo += [child for child in item.open if child.plan.region]
        return None

    def _fail_flow(self, worker: Worker, frame: Frame, error: ApxmError) -> None:
        """Something that a RETURN waited for failed: the flow fails once it is closed."""
        flow = flow_of(frame)
        if flow.closing is None or not flow.closing.soft or flow.returned is None:  # None: it failed already
            return
        flow.returned = flow.giver = None
        flow.closing = Closing(True, partial(self._flow_failed, flow, error))

    def _flow_failed(self, flow: Frame, error: ApxmError, worker: Worker) -> None:
        if flow.up is None:
            self.error = self.error or error
            self.over = True
        else:
            self.failed(worker, flow.up, flow.node, error)


def flow_of(frame: Frame) -> Frame:
    """The frame of the flow that a frame belongs to: itself, or the one that its regions stand in."""
    while frame.plan.region and frame.up is not None:
        frame = frame.up
    return frame
