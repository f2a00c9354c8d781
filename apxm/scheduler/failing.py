"""Who takes a failure: the node's own fallback or `error` edges, the smallest scope above that does, else the policy of the run.

See docs/adr/0002-who-handles-a-failure.md.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from apxm.errors import InvalidError
from apxm.outcome import ChildResult
from apxm.scheduler.closing import Closer
from apxm.scheduler.dataflow import DEAD, EMPTY, FAILED

if TYPE_CHECKING:
    from apxm.errors import ApxmError
    from apxm.labels import LabelTable
    from apxm.scheduler.dataflow import Frame
    from apxm.scheduler.splicing import Activation
    from apxm.scheduler.work_stealing import Worker

ERRORS_MAX = 1_000


class Failer(Closer):
    """The part of a run's state that finds who handles a failure. Mixed into RunState, which has the rest."""

    errors: list[ApxmError]
    unhandled: list[ApxmError]
    failures: int

    if TYPE_CHECKING:

        @property
        def labels(self) -> LabelTable: ...
        def complete(
            self, worker: Worker, frame: Frame, slot: int, value: Any, label: str | None = None, error: ApxmError | None = None
        ) -> None: ...
        def child_ended(self, worker: Worker, child: Frame, result: ChildResult) -> None: ...
        def left_failed(self, worker: Worker, frame: Frame, slot: int, error: ApxmError) -> None: ...

    def failed(self, worker: Worker, frame: Frame, slot: int, error: ApxmError) -> None:
        """A slot failed, after whatever retries it had: the smallest scope that handles it does, else the policy."""
        self._forget_slot(frame, slot)
        if frame.v[slot] is not EMPTY:
            self.left_failed(worker, frame, slot, error)
            return
        self.failures += 1
        if error.node is None:
            self._locate(error, frame, slot)
        if len(self.errors) < ERRORS_MAX:
            self.errors.append(error)
        self._note_failed(frame, slot, error)
        if frame.closing is not None:
            if frame.closing.soft and not self.keep_going and not self._handled_inside(frame, slot):
                self._fail_flow(worker, frame, error)
            self.end_slot(worker, frame, slot, DEAD, FAILED)
            return
        if not self._handled_here(worker, frame, slot, error):
            self.fail_above(worker, frame, slot, error)

    def fail_above(self, worker: Worker, frame: Frame, slot: int, error: ApxmError) -> None:
        """A failure that its own node did not take: the smallest scope above does, else the policy."""
        child = frame
        while child.up is not None:
            owner, opener = child.up, child.node
            activation = child.activation
            if activation is not None and activation.spawn is not None and activation.spawn.isolate:
                self._bring_failure(owner, opener, frame, slot)
                self.end_failed(frame, slot, now=True)
                self._isolate(worker, child, activation, error)
                return
            if self._handles(owner, opener):
                self._bring_failure(owner, opener, frame, slot, handled=True)
                self.end_failed(frame, slot, now=True)
                self._handle_above(worker, owner, opener, error)
                return
            child = owner
        if self.keep_going:
            if len(self.unhandled) < ERRORS_MAX:
                self.unhandled.append(error)
            self.end_failed(frame, slot, now=False)
            self._propagate(worker, frame, slot, DEAD, None)
        else:
            self.end_failed(frame, slot, now=True)
            self.abort(worker, error)

    def _bring_failure(self, owner: Frame, opener: int, frame: Frame, slot: int, *, handled: bool = False) -> None:
        """What an error says comes from what its node was given: whoever takes it up there inherits that.

        Not a MAP that goes on without the item: it says nothing of what failed.
        """
        if handled or owner.plan.operation(opener) != "MAP":
            owner.bring(opener, frame.labels(slot, self.labels))

    def _note_failed(self, frame: Frame, slot: int, error: ApxmError) -> None:
        """Tell that a slot failed, unless its fallback makes it good at once: it ends once, and then that is told."""
        if self.watched and (frame.closing is not None or slot not in frame.binding.fallbacks):
            self.note_ended(frame, slot, FAILED, error)

    def _locate(self, error: ApxmError, frame: Frame, slot: int) -> None:
        dag = frame.plan.dag
        error.node, error.op, error.flow = dag.names[slot], frame.plan.operation(slot), f"{dag.agent}.{dag.name}"
        error.path = frame.path()
        error.attempt = error.attempt or 1

    def _handles(self, frame: Frame, slot: int) -> bool:
        binding = frame.binding
        return slot in binding.fallbacks or slot in binding.errors or slot in binding.forgiven

    def _handled_inside(self, frame: Frame, slot: int, *, itself: bool = True) -> bool:
        """Whether a scope between a slot (or that `itself`) and its flow takes its failure, though nothing runs there now."""
        if itself and self._handles(frame, slot):
            return True
        child = frame
        while child.up is not None and child.plan.region:
            spawn = child.activation.spawn if child.activation is not None else None
            if spawn is not None and spawn.isolate and not spawn.hands_on:
                return True
            if self._handles(child.up, child.node):
                return True
            child = child.up
        return False

    def _handled_here(self, worker: Worker, frame: Frame, slot: int, error: ApxmError) -> bool:
        """`fallback`, then `error` edges, then a first_success that everything below leads to."""
        binding = frame.binding
        if slot in binding.fallbacks:
            self.complete(worker, frame, slot, binding.fallbacks[slot], error=error)
        elif slot in binding.errors:
            self.end_failed(frame, slot, now=False)
            self._propagate(worker, frame, slot, error.to_map(), "error")
        elif slot in binding.forgiven:
            self.end_failed(frame, slot, now=False)
            self._propagate(worker, frame, slot, DEAD, None)
        else:
            return False
        return True

    def _isolate(self, worker: Worker, child: Frame, activation: Activation, error: ApxmError) -> None:
        if child.index and len(self.errors) >= ERRORS_MAX:
            error = _ONE_OF_MANY  # of a million items that fail nobody reads each traceback, and together they fill the memory
        self.close(worker, child, partial(self.child_ended, child=child, result=ChildResult(error=error)))

    def _handle_above(self, worker: Worker, frame: Frame, slot: int, error: ApxmError) -> None:
        def then(worker: Worker) -> None:
            self._forget_slot(frame, slot)
            self.failures += 1  # what it opened failed, and so did it; its own fallback or edges go on from there
            self._note_failed(frame, slot, error)
            if frame.closing is not None:
                self.end_slot(worker, frame, slot, DEAD, FAILED)
            else:
                self._handled_here(worker, frame, slot, error)

        self.stop(worker, frame, slot, then=then)

    def as_error(self, frame: Frame, slot: int, error: BaseException) -> ApxmError:
        """What a handler raised, as one of ours."""
        raise NotImplementedError


_ONE_OF_MANY = InvalidError("one failure of very many; the first ones are among the errors of the run")
