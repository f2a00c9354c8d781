"""The state of one run: its frames, its workers' ready work, and every move between them. Pure: an engine drives it.

The engine pops a job, calls the handler and reports what came back through `outcome` or `failed`; what becomes ready
goes to the worker it names. What needs a clock or a loop is a method that engines override: `interrupt`, `park`, `note_*`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from apxm.errors import ApxmError, InvalidError, StuckError
from apxm.labels import LabelTable
from apxm.outcome import OUTCOMES, ChildResult, Fail, Hold, Post, Route, Spawn, Wait
from apxm.scheduler.binding import CHEAP, OPENING
from apxm.scheduler.dataflow import CANCELLED, DEAD, EMPTY, Frame
from apxm.scheduler.holding import Held
from apxm.scheduler.invariants import waiting_edges
from apxm.scheduler.plan import ANY, GATE, ORDER, RACE
from apxm.scheduler.posting import Poster
from apxm.scheduler.splicing import Activation
from apxm.scheduler.work_stealing import Worker
from apxm.values import SCALARS, settle

if TYPE_CHECKING:
    from concurrent.futures import Future

    from apxm.outcome import Child, Outcome
    from apxm.scheduler.binding import Binding


class RunState(Poster):
    """All frames of one run, and the ready work of its workers."""

    # What most runs never change; as class attributes they cost a run nothing.
    executed = failures = skipped = cancelled = dropped = retried = 0
    live_frames = 1
    error: ApxmError | None = None  # what ended the run
    over = False
    watched = False  # somebody wants an event for every node
    replay = True  # frames whose nodes are all fast may run in static form
    forced = False  # nothing is shielded any more
    held: Sequence[Held] = ()
    leaving: Sequence[tuple[Held, Future[Any]]] = ()  # what was let go and takes its time
    _unwinding = False

    def __init__(
        self,
        binding: Binding,
        args: list[Any],
        *,
        keep_going: bool = False,
        max_frames: int = 100_000,
        max_depth: int = 100,
    ) -> None:
        self.root = Frame(binding, args)
        self.workers = [Worker(0)]
        self.keep_going, self.max_frames, self.max_depth = keep_going, max_frames, max_depth
        self.errors: list[ApxmError] = []  # every failure, the handled ones too, up to ERRORS_MAX
        self.unhandled: list[ApxmError] = []  # those that nothing took, when the policy is to go on
        self._finished: list[tuple[Worker, Frame]] = []
        self._still_labels: dict[Binding, int] = {}  # of bindings in whose frames nothing was dead, chosen or opened

    @cached_property
    def labels(self) -> LabelTable:
        """Sources of provenance that this run met, made when first asked for."""
        return LabelTable()

    # ---- what an engine overrides ----------------------------------------------------------------------------------
    def interrupt(self, activation: Activation) -> None:
        """Make a handler in flight stop; it will report through `outcome`, `failed` or `stopped`."""
        raise NotImplementedError

    def park(self, activation: Activation, seconds: float) -> None:
        """Call `wake` on this activation after so many seconds."""
        raise NotImplementedError

    def unpark(self, activation: Activation) -> None:
        """Forget a wait."""
        raise NotImplementedError

    def run_static(self, worker: Worker, frame: Frame) -> bool:
        """Run a frame in static form here and now. False when it left that form: it then ends by itself."""
        raise NotImplementedError

    def note_ended(self, frame: Frame, slot: int, outcome: str, error: ApxmError | None = None) -> None:
        """A slot ended; called only when watched."""

    def note_opened(self, frame: Frame, total: int | None) -> None:
        """A child frame opened; called only when watched."""

    def note_closed(self, frame: Frame, outcome: str) -> None:
        """A child frame ended; called only when watched."""

    # ---- frames open -----------------------------------------------------------------------------------------------
    def start(self, worker: Worker, frame: Frame) -> None:
        """Bring a frame into dataflow form and give its ready slots to a worker."""
        ready = frame.dataflow()
        self.enqueue(worker, frame, ready)
        if not frame.todo:
            self._frame_over(worker, frame)

    def enqueue(self, worker: Worker, frame: Frame, ready: Iterable[int]) -> None:
        fast, lanes = frame.fast, frame.binding.lanes
        batch = []
        for slot in ready:
            if fast[slot]:
                batch.append(slot)
            else:
                worker.push(lanes[slot], frame, slot)
        if batch:
            worker.batches.append((frame, batch))

    def open_call(self, worker: Worker, frame: Frame, slot: int, body: Binding, args: list[Any], step: str) -> None:
        """Open the one child frame of a call: the cheap form of a Spawn whose `then` is the identity."""
        error = self._past_bounds(frame)
        if error is not None:
            self.failed(worker, frame, slot, error)
            return
        child = Frame(body, args, frame, slot, step)
        if frame.running is None:
            frame.running = {}
        frame.running[slot] = child
        self.live_frames += 1
        if body.static and self.replay:
            if self.run_static(worker, child):
                self._replayed(worker, child)
            return
        if self.watched:
            self.note_opened(child, 1)
        self.start(worker, child)

    def _replayed(self, worker: Worker, child: Frame) -> None:
        """A child frame ran to its end in static form: nothing in it is dead, so its result is where the plan says."""
        owner, sole = child.up, child.plan.sole
        if sole < 0 or owner is None:
            self._frame_over(worker, child)
            return
        child.gone = True
        self.live_frames -= 1
        activation = child.activation
        if activation is not None:
            activation.open.discard(child)
            activation.results[child.index] = ChildResult(child.v[sole])
            return
        slot = child.node
        del owner.running[slot]  # type: ignore[union-attr]
        self.executed += 1
        if owner.plan.plain[slot] and owner.closing is None:
            self.complete_plain(worker, owner, slot, child.v[sole])
        else:
            self.complete(worker, owner, slot, child.v[sole])

    def _past_bounds(self, frame: Frame) -> InvalidError | None:
        if frame.depth < self.max_depth and self.live_frames < self.max_frames:
            return None
        if frame.depth >= self.max_depth:
            text = f"child frames are nested {frame.depth} deep, the bound is SchedulerConfig.max_depth={self.max_depth}"
        else:
            text = f"{self.live_frames} frames are alive, the bound is SchedulerConfig.max_frames={self.max_frames}"
        hint = "is a flow calling itself without end? A MAP opens at most `window` at a time"
        return InvalidError(text, code="limit", hint=hint)

    def _spawn(self, worker: Worker, frame: Frame, slot: int, spawn: Spawn) -> None:
        if frame.running is None:
            frame.running = {}
        activation = frame.running.get(slot)
        if not isinstance(activation, Activation):
            activation = frame.running[slot] = Activation(frame, slot)
        activation.arm(spawn)
        self.advance(worker, activation)

    def advance(self, worker: Worker, activation: Activation) -> None:
        """Open children while the window allows; when all ended, continue with `then`. Never recurses over iterations."""
        if activation.busy:
            return
        activation.busy = True
        frame, slot = activation.frame, activation.slot
        try:
            while True:
                self._open_children(worker, activation)
                if activation.open:
                    return
                if activation.cancelled:
                    break
                spawn = activation.spawn
                assert spawn is not None
                try:
                    outcome = spawn.then(activation.results)
                except Exception as error:
                    outcome = Fail(self.as_error(frame, slot, error))
                if type(outcome) is Spawn:
                    activation.arm(outcome)
                    if not outcome.shielded and self.give_way():  # a `finally` opens before anybody can cancel it
                        worker.push(OPENING, frame, slot)
                        return
                    continue
                self._forget_slot(frame, slot)
                self.outcome(worker, frame, slot, outcome)
                return
        finally:
            activation.busy = False
        self.children_gone(worker, activation)

    def give_way(self) -> bool:
        """Whether a loop of frames should let others run before its next one."""
        return False

    def _open_children(self, worker: Worker, activation: Activation) -> None:
        """As many as the window allows. When one cannot be opened, those that are open are closed, then the node failed."""
        frame, slot = activation.frame, activation.slot
        while not activation.cancelled:
            error: ApxmError | None
            try:
                child = activation.next_child()
            except Exception as raised:  # children may be made as they are asked for
                child, error = None, self.as_error(frame, slot, raised)
            else:
                error = self._past_bounds(frame) if child is not None else None
            if error is not None:
                self.stop(worker, frame, slot, then=partial(self.failed, frame=frame, slot=slot, error=error))
            elif child is not None:
                self._open_child(worker, activation, child)
            else:
                return

    def _open_child(self, worker: Worker, activation: Activation, child: Child) -> None:
        frame = Frame(child.body, child.args, activation.frame, activation.slot, child.step, activation)
        frame.index = len(activation.results)
        activation.results.append(_NOTHING)
        activation.open.add(frame)
        self.live_frames += 1
        if child.body.static and self.replay:
            if self.run_static(worker, frame):
                self._replayed(worker, frame)
            return
        if self.watched:
            children = activation.spawn.children if activation.spawn is not None else ()
            self.note_opened(frame, len(children) if isinstance(children, Sized) else None)
        self.start(worker, frame)

    # ---- slots end -------------------------------------------------------------------------------------------------
    def outcome(self, worker: Worker, frame: Frame, slot: int, result: Outcome) -> None:
        """A handler gave something back."""
        kind = type(result)
        if kind in SCALARS:
            self.executed += 1
            self.complete(worker, frame, slot, result)
        elif kind not in OUTCOMES:
            self.executed += 1
            if not frame.binding.owns[slot]:
                try:
                    result = settle(result)
                except ApxmError as error:
                    self.executed -= 1
                    self.failed(worker, frame, slot, error)
                    return
            self.complete(worker, frame, slot, result)
        elif isinstance(result, Route):
            self.executed += 1
            if result.label == "error":
                self.mark(frame, slot, "done")  # it has a value for its error edges, but none as an exit
            self.complete(worker, frame, slot, result.value, result.label)
        elif isinstance(result, Spawn):
            self._spawn(worker, frame, slot, result)
        elif isinstance(result, Fail):
            self.failed(worker, frame, slot, result.error)
        elif isinstance(result, Post):
            self.post(worker, frame, slot, result)
        elif isinstance(result, Hold):
            self.held = [*self.held, Held(frame, slot, result.release)]
            self.outcome(worker, frame, slot, result.value)
        else:
            assert isinstance(result, Wait)
            self.wait(frame, slot, result)

    def wait(self, frame: Frame, slot: int, wait: Wait) -> None:
        """Park a slot: it holds no worker meanwhile."""
        if frame.running is None:
            frame.running = {}
        activation = frame.running.get(slot)
        if not isinstance(activation, Activation):
            activation = frame.running[slot] = Activation(frame, slot)
        activation.spawn, activation.wake, activation.dropped = None, wait.then, wait.dropped
        self.park(activation, wait.seconds)

    def complete(
        self, worker: Worker, frame: Frame, slot: int, value: Any, label: str | None = None, error: ApxmError | None = None
    ) -> None:
        """A slot ended with a value (or DEAD): store it and give it to every successor. `error` is what a fallback made good."""
        if self.watched and value is not DEAD:
            self.note_ended(frame, slot, "done", error)
        plan = frame.plan
        if frame.closing is not None:
            self.end_slot(worker, frame, slot, value)
        elif plan.plain[slot] and value is not DEAD and label != "error":
            self.complete_plain(worker, frame, slot, value)
        elif value is not DEAD and label != "error" and slot in plan.returns:
            self.end_by_return(worker, frame, slot, value)
        else:
            self._propagate(worker, frame, slot, value, label)

    def complete_plain(self, worker: Worker, frame: Frame, slot: int, value: Any) -> None:
        """A live value goes out on plain edges only."""
        v, left = frame.v, frame.left
        v[slot] = value
        frame.todo -= 1
        assert left is not None
        for target in frame.plan.successors[slot]:
            count = left[target] = left[target] - 1
            if not count:
                if frame.fast[target]:
                    self._ready_fast(worker, frame, target)
                elif v[target] is EMPTY:
                    lane = frame.binding.lanes[target]
                    if lane == CHEAP:
                        worker.cheap.append((frame, target))
                    else:
                        worker.push(lane, frame, target)
        if not frame.todo:
            self._frame_over(worker, frame)

    def _ready_fast(self, worker: Worker, frame: Frame, slot: int) -> None:
        if worker.batches and worker.batches[-1][0] is frame:
            worker.batches[-1][1].append(slot)
        else:
            worker.batches.append((frame, [slot]))

    def _propagate(self, worker: Worker, frame: Frame, slot: int, value: Any, label: str | None) -> None:
        """Full semantics: labels, dead tokens, choices. Skipped slots are ended in the same loop."""
        todo: list[tuple[int, Any, str | None]] = [(slot, value, label)]
        while todo:
            slot, value, label = todo.pop()
            if frame.v[slot] is not EMPTY:
                continue
            frame.v[slot] = value
            frame.todo -= 1
            if value is DEAD and not (frame.ended is not None and slot in frame.ended):
                self.skipped += 1
                if self.watched:
                    self.note_ended(frame, slot, "skipped")
            for target, position, wanted in frame.plan.out_edges(slot):
                if label == "error":
                    live = wanted == "error"
                else:
                    live = value is not DEAD and (wanted is None or wanted == label)
                self._arrive(worker, frame, target, position, live, todo)
                if frame.closing is not None:
                    break
        if not frame.todo:
            self._frame_over(worker, frame)

    def _arrive(
        self,
        worker: Worker,
        frame: Frame,
        slot: int,
        position: int,
        live: bool,
        todo: list[tuple[int, Any, str | None]],
    ) -> None:
        """One token reaches one in-edge."""
        left = frame.left
        assert left is not None
        count = left[slot] = left[slot] - 1
        if frame.plan.rules[slot] in (ANY, RACE):
            self._arrive_choice(worker, frame, slot, position, live, todo)
            return
        if frame.v[slot] is not EMPTY:
            return
        if not live and position != ORDER:
            frame.doom(slot, position)
        if count:
            return
        if frame.doomed(slot):
            todo.append((slot, DEAD, None))
        elif frame.fast[slot]:
            self._ready_fast(worker, frame, slot)
        else:
            worker.push(frame.binding.lanes[slot], frame, slot)

    def _arrive_choice(
        self,
        worker: Worker,
        frame: Frame,
        slot: int,
        position: int,
        live: bool,
        todo: list[tuple[int, Any, str | None]],
    ) -> None:
        assert frame.choices is not None
        assert frame.left is not None
        choice = frame.choices[slot]
        if position in (GATE, ORDER):
            choice.gates -= 1
            choice.barred |= position == GATE and not live
        elif live and choice.winner < 0 and frame.v[slot] is EMPTY:
            choice.winner = position
        elif live:
            self.dropped += 1
        if choice.fired or frame.v[slot] is not EMPTY:
            return
        if choice.barred and not choice.gates:
            todo.append((slot, DEAD, None))
        elif choice.winner >= 0 and not choice.gates:
            choice.fired = True
            worker.push(frame.binding.lanes[slot], frame, slot)
            if frame.plan.rules[slot] == RACE:
                self.cancel_losers(worker, frame, slot)
        elif not frame.left[slot] and choice.winner < 0:
            todo.append((slot, DEAD, None))

    def let_go(self, worker: Worker, *, final: bool = False) -> None:
        """Release what is held and need not be any more; in the end everything. An error of that ends the run."""
        for held in [one for one in self.held if final or one.over()]:
            self.held = [one for one in self.held if one is not held]
            left = held.let_go()
            if isinstance(left, ApxmError):
                self.lost(worker, held, left)
            elif left is not None:
                self.leaving = [*self.leaving, (held, left)]

    def lost(self, worker: Worker, held: Held, error: ApxmError) -> None:
        """What was held could not be released well: whoever relied on it must know, so nothing may handle this."""
        if error.node is None:
            self._locate(error, *held.place)
        self.abort(worker, error)

    # ---- frames end ------------------------------------------------------------------------------------------------
    def _frame_over(self, worker: Worker, frame: Frame) -> None:
        """Every slot of a frame ended. Worked off in a loop, so that deep nesting does not deepen the Python stack."""
        self._finished.append((worker, frame))
        if self._unwinding:
            return
        self._unwinding = True
        try:
            while self._finished:
                self._end_frame(*self._finished.pop())
        finally:
            self._unwinding = False

    def _end_frame(self, worker: Worker, frame: Frame) -> None:
        if frame.gone or (self.posted and self.awaits(frame)):
            return
        frame.gone = True
        self.live_frames -= 1
        if self.watched and frame.up is not None:
            closing = frame.closing is not None and frame.returned is None
            self.note_closed(frame, CANCELLED if closing else "done")
        if frame.closing is not None:
            frame.closing.then(worker)
            return
        self.deliver(worker, frame)

    def deliver(self, worker: Worker, frame: Frame) -> None:
        """A frame came to its end: its result goes to the slot that opened it."""
        owner = frame.up
        if owner is None:
            self.over = True
            return
        if frame.binding.has_labels:
            self._bring_labels(owner, frame)
        error = self._too_many_values(frame)
        if error is not None:
            self._locate(error, owner, frame.node)
        if frame.activation is not None:
            self.child_ended(worker, frame, ChildResult(error=error) if error else ChildResult(_result(frame)))
            return
        self._forget_slot(owner, frame.node)
        if error is not None:
            self.failed(worker, owner, frame.node, error)
            return
        self.executed += 1
        self.complete(worker, owner, frame.node, _result(frame))

    def _too_many_values(self, frame: Frame) -> ApxmError | None:
        plan = frame.plan
        if frame.returned is None and len(plan.yields) > 1:
            live = [plan.dag.names[slot] for slot in plan.yields if frame.is_live(slot)]
            if len(live) > 1:
                return InvalidError(f"two YIELDs of one region gave a value: {', '.join(live)}", code="two_values")
        return None

    def _bring_labels(self, owner: Frame, frame: Frame) -> None:
        """What a child frame adds to the provenance of its opener, which has that of its own inputs anyhow."""
        still = frame.dead is None and frame.choices is None and frame.own is None and frame.giver is None
        found = self._still_labels.get(frame.binding) if still else None
        if found is None:
            found = frame.value_labels(self.labels, inherited=False)
            if still:
                self._still_labels[frame.binding] = found
        if found:
            owner.bring(frame.node, found)

    def child_ended(self, worker: Worker, child: Frame, result: ChildResult) -> None:
        """A child of a Spawn ended."""
        activation = child.activation
        assert activation is not None
        activation.open.discard(child)
        activation.results[child.index] = result
        if activation.cancelled:
            if not activation.open and not activation.busy:
                self.children_gone(worker, activation)
            return
        spawn = activation.spawn
        if result.error is not None and spawn is not None and not spawn.isolate:
            error = result.error
            then = partial(self.failed, frame=activation.frame, slot=activation.slot, error=error)
            self.stop(worker, activation.frame, activation.slot, then=then)
            return
        self.advance(worker, activation)

    # ---- liveness --------------------------------------------------------------------------------------------------
    def stuck(self) -> StuckError:
        """Nothing runs, nothing is ready, nothing waits, and yet the run is not over."""
        edges = waiting_edges(self.frames())
        shown = ", ".join(f"{source} -> {target}" for source, target in edges[:5])
        return StuckError(f"nothing can make the rest ready; {len(edges)} edges wait: {shown}", edges)


_NOTHING = ChildResult()


def _result(frame: Frame) -> Any:
    """`frame.result()`, without a look at every exit when nothing in the frame was dead."""
    sole = frame.plan.sole
    if sole >= 0 and frame.ended is None and frame.returned is None and frame.v[sole] is not DEAD:
        return frame.v[sole]
    return frame.result()
