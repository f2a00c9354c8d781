"""A run of which every firing is put on record. Its own class, so that all other runs pay nothing for it.

The same semantics: it takes the ways of a run that is watched, and writes down slots and times in place of events. Pure nodes
are fired in leases; what one costs here was earned by benches/test_episodes.py.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from apxm.engine.local import LocalRun
from apxm.graph.template import as_text
from apxm.memory.episodic.firings import FIRINGS_MAX, Columns, Firings, Sheet, spans
from apxm.scheduler.binding import OPENING
from apxm.scheduler.dataflow import CANCELLED
from apxm.scheduler.splicing import Activation
from apxm.scheduler.work_stealing import RESUME
from apxm.values import SCALARS, settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apxm.dag import ExecutionDag
    from apxm.errors import ApxmError
    from apxm.scheduler.dataflow import Frame
    from apxm.scheduler.plan import ExecutionPlan
    from apxm.scheduler.work_stealing import Worker

_scalars_only = SCALARS.issuperset
_COLUMNS: WeakKeyDictionary[ExecutionDag, Columns] = WeakKeyDictionary()


def columns_of(plan: ExecutionPlan) -> Columns:
    """What episodes say of the nodes of a plan; looked up once for its dag."""
    dag = plan.dag
    found = _COLUMNS.get(dag)
    if found is None:
        ops = [plan.operation(slot) for slot in range(plan.size)]
        found = _COLUMNS[dag] = Columns(dag.name, dag.agent, list(dag.ids), dag.names, ops)
    return found


class NotedRun(LocalRun):
    """Hands its firings over in batches, the last when it ends."""

    watched = True  # all nodes but pure ones take the ways that tell of every start and end

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        assert self.episodes is not None
        self._record = self.episodes
        self._columns: dict[ExecutionPlan, Columns] = {}  # looked up once for a run: many frames have a single node
        self._sheets: dict[Frame, Sheet] = {}  # of frames that are open
        self._closed: list[Sheet] = []  # of those that are not: a sheet must not keep a frame and its values
        self._noted = 0  # firings in these sheets
        self._fired_at: dict[tuple[Frame, int], tuple[float, int]] = {}  # of what runs now: since when, at which attempt

    def release(self) -> None:
        super().release()
        self._hand_over()

    # ---- pure nodes: `Tiers`, with a look at the clock for every one -------------------------------------------------
    def run_static(self, worker: Worker, frame: Frame) -> bool:
        binding, v, size = frame.binding, frame.v, frame.plan.size
        put, clock, rest = v.append, self.clock, None
        while (start := len(v)) < size:
            if self.credit <= 0:
                if not self.renew(worker):
                    if frame.closing is None:  # the run ends, but this frame belongs to a `finally`
                        worker.push(OPENING, frame, RESUME)
                    return False
                if self.shared_loop and self.give_way():
                    worker.push(OPENING, frame, RESUME)
                    return False
            if rest is None:
                rest = islice(zip(*binding.order), start - frame.plan.parameters, None)
            ends: list[float] = []
            ended, failure, began = ends.append, None, clock()
            try:
                for run, get in islice(rest, min(size - start, self.credit)):
                    put(run(*get(v)))
                    ended(clock())
            except Exception as raised:
                failure = raised
            if failure is not None or not (binding.trusted or _scalars_only(map(type, v[start:] if start else v))):
                found, refused = self._settle_first(frame, start)
                if found:  # what is behind it is done again, and counts then
                    rest, failure = None, refused
            self._count_static(frame, start)
            del ends[len(v) - start :]
            self._note(frame, range(start, len(v)), began, ends)
            if failure is not None:
                self._fired_at[frame, len(v)] = ends[-1] if ends else began, 1
                self._leave_static(worker, frame, failure)
                return False
        if frame.up is not None:
            self._put_away(frame)
        return True

    def _replayed(self, worker: Worker, child: Frame) -> None:
        if child.activation is not None:
            super()._replayed(worker, child)
        else:
            self._frame_over(worker, child)  # so that the end of the call is told

    def _note(self, frame: Frame, slots: Sequence[int], began: float, ends: list[float]) -> None:
        """Write down pure nodes that fired one right after the other."""
        if ends:
            sheet = self._sheets.get(frame) or self._sheet(frame)
            before = len(sheet.slots)
            sheet.slots += slots
            sheet.ends += ends
            sheet.tooks += spans(began, ends)
            self._keep_values(frame, sheet, before)
            self._noted += len(ends)
            if self._noted >= FIRINGS_MAX:
                self._hand_over()

    def _put_away(self, frame: Frame) -> None:
        """A frame is over: its sheet must not keep it and its values."""
        sheet = self._sheets.pop(frame, None)
        if sheet is not None:
            self._closed.append(sheet)

    def _spin_watched(self, worker: Worker, frame: Frame, ready: list[int], quota: int) -> int:
        """`_spin`, with a look at the clock for every node; and one node at a time when somebody takes its events."""
        if self.subscribers:
            return super()._spin_watched(worker, frame, ready, quota)
        plan, binding = frame.plan, frame.binding
        run, get, successors, owns = binding.run, plan.getters, plan.successors, binding.owns
        v, left, fast = frame.v, frame.left, frame.fast
        pop, push, scalars, clock = ready.pop, ready.append, SCALARS, self.clock
        assert left is not None
        slots: list[int] = []
        ends: list[float] = []
        fired, ended, slot, failure = slots.append, ends.append, 0, None
        began = clock()
        try:
            for _ in range(quota):
                if not ready:
                    break
                slot = pop()
                value = run[slot](*get[slot](v))
                if type(value) not in scalars and not owns[slot]:
                    value = settle(value)
                v[slot] = value
                fired(slot)
                ended(clock())
                for target in successors[slot]:
                    missing = left[target] = left[target] - 1
                    if not missing:
                        if fast[target]:
                            push(target)
                        else:
                            worker.push(binding.lanes[target], frame, target)
        except Exception as error:
            failure = error
        count = len(slots)
        self._note(frame, slots, began, ends)
        frame.todo -= count
        self.executed += count
        if failure is None:
            return count
        self._fired_at[frame, slot] = ends[-1] if ends else began, 1
        self._raised(worker, frame, slot, failure)
        return count + 1

    # ---- all others --------------------------------------------------------------------------------------------------
    def note_started(self, worker: Worker, frame: Frame, slot: int) -> None:
        item = frame.running.get(slot) if frame.running else None
        self._fired_at[frame, slot] = self.clock(), item.attempt if isinstance(item, Activation) else 1
        if self.subscribers:
            super().note_started(worker, frame, slot)

    def note_ended(self, frame: Frame, slot: int, outcome: str, error: ApxmError | None = None) -> None:
        fired = self._fired_at.pop((frame, slot), None)
        if fired is not None:  # else it never began: it was skipped, or cancelled before
            began, attempt = fired
            sheet = self._sheets.get(frame) or self._sheet(frame)
            now, slots = self.clock(), sheet.slots
            at = len(slots)
            slots.append(slot)
            sheet.ends.append(now)
            sheet.tooks.append(now - began)
            if attempt > 1:
                sheet.attempts[at] = attempt
            if outcome != "done":
                sheet.codes[at] = CANCELLED if error is None else error.code
            self._keep(frame, sheet, at, outcome, error)
            self._noted += 1
            if self._noted >= FIRINGS_MAX:
                self._hand_over()
        if self.subscribers:
            super().note_ended(frame, slot, outcome, error)

    def note_opened(self, frame: Frame, total: int | None) -> None:
        if self.subscribers:
            super().note_opened(frame, total)

    def note_closed(self, frame: Frame, outcome: str) -> None:
        self._put_away(frame)
        if self.subscribers:
            super().note_closed(frame, outcome)

    # ---- what is kept ------------------------------------------------------------------------------------------------
    def _sheet(self, frame: Frame) -> Sheet:
        """A new sheet for a frame."""
        plan = frame.plan
        columns = self._columns.get(plan)
        if columns is None:
            columns = self._columns[plan] = columns_of(plan)
        sheet = self._sheets[frame] = Sheet(frame.path(), columns)
        return sheet

    def _keep_values(self, frame: Frame, sheet: Sheet, start: int) -> None:
        """Keep what the policy says of the values of pure nodes, from this position of the sheet on: of none here."""

    def _keep(self, frame: Frame, sheet: Sheet, at: int, outcome: str, error: ApxmError | None) -> None:
        """Keep what the policy says of the value or the error of one firing: nothing here."""

    def _hand_over(self) -> None:
        """Put what was noted on record, and begin anew."""
        sheets = [sheet for sheet in (*self._closed, *self._sheets.values()) if sheet.slots]
        self._sheets, self._closed, self._noted = {}, [], 0
        if sheets:
            self._record.fired(Firings(self.run_id, self._record.clock() - self.clock(), sheets))


class TellingRun(NotedRun):
    """The same where episodes keep something of what was said: of the values of nodes, and of their errors."""

    _value: Any = None  # of the slot that ends now

    def complete(
        self, worker: Worker, frame: Frame, slot: int, value: Any, label: str | None = None, error: ApxmError | None = None
    ) -> None:
        self._value = value
        super().complete(worker, frame, slot, value, label, error)

    def _keep_values(self, frame: Frame, sheet: Sheet, start: int) -> None:
        for at in range(start, len(sheet.slots)):
            self._keep_said(frame, sheet, at, "value", as_text(frame.v[sheet.slots[at]]))

    def _keep(self, frame: Frame, sheet: Sheet, at: int, outcome: str, error: ApxmError | None) -> None:
        if outcome == "done":
            self._keep_said(frame, sheet, at, "value", as_text(self._value))
        elif error is not None:
            self._keep_said(frame, sheet, at, "error", str(error))

    def _keep_said(self, frame: Frame, sheet: Sheet, at: int, name: str, text: str) -> None:
        kept = self._record.kept({name: text})
        if kept is not None:
            sheet.contents[at] = kept
            if self._record.content == "text":
                sheet.labels[at] = self.labels.names(frame.labels(sheet.slots[at], self.labels))
