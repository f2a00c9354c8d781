"""The fast tiers of the run loop: what pure inline nodes cost. Same semantics as firing them one by one.

static: every node of a frame is fast, so its topological order is replayed and nothing is counted.
spin:   dataflow over the fast nodes of one frame: counters, a LIFO stack, a quota.
Whatever is not needed per node happens per *lease* (8 to 1,024 nodes, aimed under a millisecond): cancellation,
deadline, node budget, clock, the look at the types of results. The plain loops were earned by benches/test_w1_w4.py.
"""

from __future__ import annotations

from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any

from apxm.errors import ApxmError, CapabilityError, DeadlineError, HandlerError, RunCancelled
from apxm.scheduler.binding import OPENING
from apxm.scheduler.run import RunState
from apxm.scheduler.work_stealing import RESUME
from apxm.values import SCALARS, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from apxm.budget import Ledger
    from apxm.scheduler.binding import Binding
    from apxm.scheduler.dataflow import Frame
    from apxm.scheduler.work_stealing import Worker

LEASE_MIN, LEASE_MAX = 4, 1024  # a run begins with 8: what a node costs is not known yet, and a deadline waits for a lease
CLEANUP_LEASE = 64
LEASE_SHORT_S, LEASE_LONG_S = 0.001, 0.003  # grow below, shrink above
SLICE_S = 0.003  # how long a run keeps a shared loop before others get their turn

_scalars_only: Callable[[Any], bool] = SCALARS.issuperset


class Tiers(RunState):
    """A run that can fire pure inline nodes, in leases."""

    def __init__(
        self,
        binding: Binding,
        args: list[Any],
        ledger: Ledger,
        deadline: float,
        *,
        static: bool = True,
        keep_going: bool = False,
        max_frames: int = 100_000,
        max_depth: int = 100,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(binding, args, keep_going=keep_going, max_frames=max_frames, max_depth=max_depth)
        self.ledger, self.deadline, self.clock = ledger, deadline, clock
        self.replay = static
        self.credit = 0  # nodes that may still fire under this lease
        self.owed = True  # what is left of this lease goes back to the ledger
        self.quota = LEASE_MIN
        self.lease_began = self.slice_began = clock()
        self.shared_loop = False  # other runs want their turn
        self.cancel_asked: RunCancelled | None = None

    # ---- leases ----------------------------------------------------------------------------------------------------
    def renew(self, worker: Worker) -> bool:
        """Take a new lease. False when the run has to end: closing it has then begun."""
        closing = self.root.closing
        if closing is not None and not closing.soft:  # only cleanup runs now, and it is bounded by the grace period
            self.credit, self.owed = CLEANUP_LEASE, False
            return True
        now = self.clock()
        if self.cancel_asked is not None:
            self.abort(worker, self.cancel_asked)
            return False
        if now > self.deadline:
            self.abort(worker, DeadlineError("the deadline of the run passed"))
            return False
        took, self.lease_began = now - self.lease_began, now
        if took < LEASE_SHORT_S:
            self.quota = min(LEASE_MAX, self.quota * 2)
        elif took > LEASE_LONG_S:
            self.quota = max(1, self.quota // 2)
        granted = self.ledger.lease_nodes(self.quota)
        if not granted:
            self.abort(worker, self.ledger.nodes_exhausted())
            return False
        self.credit, self.owed = granted, True
        return True

    def settle_lease(self) -> None:
        """Give back what the last lease did not use."""
        if self.credit > 0 and self.owed:
            self.ledger.return_nodes(self.credit)
            self.credit = 0

    def new_slice(self, before: float) -> None:
        """The first worker that comes back to the loop begins a slice; those that follow in the same pass share it."""
        if self.slice_began == before:
            self.slice_began = self.clock()

    def give_way(self) -> bool:
        return self.shared_loop and self.clock() - self.slice_began > SLICE_S

    # ---- tier 1: static --------------------------------------------------------------------------------------------
    def run_static(self, worker: Worker, frame: Frame) -> bool:
        binding, v, size = frame.binding, frame.v, frame.plan.size
        first = frame.plan.parameters
        put, rest = v.append, None
        while (start := len(v)) < size:
            if self.credit <= 0:
                if not self.renew(worker):
                    if frame.closing is None:  # the run ends, but this frame belongs to a `finally`
                        worker.push(OPENING, frame, RESUME)
                    return False
                if self.shared_loop and self.give_way():
                    worker.push(OPENING, frame, RESUME)
                    return False
            count = size - start
            try:
                if count <= self.credit and start == first:
                    for run, get in zip(*binding.order):
                        put(run(*get(v)))
                else:
                    count = min(count, self.credit)
                    if rest is None:
                        rest = islice(zip(*binding.order), start - first, None)
                    for run, get in islice(rest, count):
                        put(run(*get(v)))
            except Exception as raised:
                failure: Exception | None = raised
            else:
                failure = None
                if binding.trusted or _scalars_only(map(type, v[start:] if start else v)):
                    self._count_static(frame, start)
                    continue
            found, refused = self._settle_first(frame, start)
            if found:
                rest, failure = None, refused
            self._count_static(frame, start)
            if failure is not None:
                self._leave_static(worker, frame, failure)
                return False
        return True

    def _settle_first(self, frame: Frame, start: int) -> tuple[bool, ApxmError | None]:
        """Settle the first raw result of this lease, if there is one; the frame goes back to just behind it.

        Its node settles what it gives from now on, and so does every other that gave something raw. What is behind it is
        done again: it is pure, and it may have seen a value that was not yet what a token carries. That happens once for
        a binding, not once for a run. The error is that of a value that no token may carry.
        """
        v, binding = frame.v, frame.binding
        raw = [
            slot
            for slot in range(max(start, frame.plan.parameters), len(v))
            if type(v[slot]) not in SCALARS and not binding.owns[slot]
        ]
        if not raw:
            return False, None
        first = raw[0]
        value = v[first]
        del v[first:]
        for slot in raw:
            binding.settle_results(slot)
        try:
            v.append(settle(value))
        except ApxmError as error:
            return True, error
        return True, None

    def _count_static(self, frame: Frame, start: int) -> None:
        done = len(frame.v) - start
        self.credit -= done
        self.executed += done
        frame.todo -= done

    def _leave_static(self, worker: Worker, frame: Frame, error: Exception) -> None:
        """A node failed: go on in dataflow form with what the others can still do."""
        slot = len(frame.v)
        self.credit -= 1
        ready = frame.dataflow()
        ready.remove(slot)
        self.enqueue(worker, frame, ready)
        self._raised(worker, frame, slot, error)

    # ---- tier 2: spin ----------------------------------------------------------------------------------------------
    def batch(self, worker: Worker) -> None:
        """Spend a lease on the newest batch of fast nodes."""
        frame, ready = worker.batches[-1]
        if not ready or frame.closing is not None or frame.gone:
            worker.batches.pop()
            return
        if self.credit <= 0 and not self.renew(worker):
            return
        spend = self._spin_watched if self.watched else self._spin
        self.credit -= spend(worker, frame, ready, self.credit)
        if not frame.todo and not frame.gone:
            if worker.batches and worker.batches[-1][1] is ready:
                worker.batches.pop()
            self._frame_over(worker, frame)

    def _spin(self, worker: Worker, frame: Frame, ready: list[int], quota: int) -> int:
        """Fire at most `quota` fast nodes of one frame, newest first. Gives how many."""
        plan, binding = frame.plan, frame.binding
        run, get, successors, owns = binding.run, plan.getters, plan.successors, binding.owns
        v, left, fast = frame.v, frame.left, frame.fast
        pop, push, scalars = ready.pop, ready.append, SCALARS
        assert left is not None
        count = slot = 0
        try:
            for count in range(quota):  # noqa: B007  (how many fired is wanted after the loop)
                if not ready:
                    break
                slot = pop()
                value = run[slot](*get[slot](v))
                if type(value) not in scalars and not owns[slot]:
                    value = settle(value)
                v[slot] = value
                for target in successors[slot]:
                    missing = left[target] = left[target] - 1
                    if not missing:
                        if fast[target]:
                            push(target)
                        else:
                            worker.push(binding.lanes[target], frame, target)
            else:
                count = quota
        except Exception as error:
            frame.todo -= count
            self.executed += count
            self._raised(worker, frame, slot, error)
            return count + 1
        frame.todo -= count
        self.executed += count
        return count

    def _spin_watched(self, worker: Worker, frame: Frame, ready: list[int], quota: int) -> int:
        """One fast node, with its events."""
        slot = ready.pop()
        self.note_started(worker, frame, slot)
        try:
            value = frame.binding.run[slot](*frame.plan.getters[slot](frame.v))
        except Exception as error:
            self._raised(worker, frame, slot, error)
            return 1
        self.outcome(worker, frame, slot, value)
        return 1

    def _raised(self, worker: Worker, frame: Frame, slot: int, raised: BaseException) -> None:
        """A handler raised; an engine with a clock may try again."""
        self.failed(worker, frame, slot, self.as_error(frame, slot, raised))

    def note_started(self, worker: Worker, frame: Frame, slot: int) -> None:
        """A slot begins to run; called only when watched."""

    def as_error(self, frame: Frame, slot: int, error: BaseException) -> ApxmError:
        if isinstance(error, ApxmError):
            return error
        raised = f"{type(error).__name__}: {error}"
        name = frame.plan.dag.attributes.get(slot, {}).get("capability")
        wrapped = HandlerError(raised) if name is None else CapabilityError(f"capability `{name}` raised {raised}")
        wrapped.__cause__ = error
        return wrapped
