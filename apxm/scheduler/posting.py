"""Work that a slot leaves behind: child frames that nobody waits for, except the frame that the slot stands in.

The slot ends at once with its value; its Activation stays in `running` until the last of the children ended, and the frame
is not over before. What such a child fails with is a failure of the frame: the slot has ended, and cannot take it any more.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from apxm.outcome import Fail, Post, Spawn
from apxm.scheduler.dataflow import EMPTY
from apxm.scheduler.failing import Failer
from apxm.scheduler.splicing import Activation

if TYPE_CHECKING:
    from apxm.errors import ApxmError
    from apxm.outcome import ChildResult, Outcome
    from apxm.scheduler.dataflow import Frame
    from apxm.scheduler.work_stealing import Worker


class Left(Activation):
    """What a slot left behind: it stays in `running` though the slot has ended."""

    __slots__ = ()


class Poster(Failer):
    """The part of a run's state that knows of work left behind. Mixed into RunState, which has the rest."""

    posted = 0  # activations that are left behind now
    executed: int

    if TYPE_CHECKING:

        def advance(self, worker: Worker, activation: Activation) -> None: ...

    def post(self, worker: Worker, frame: Frame, slot: int, post: Post) -> None:
        """Complete a slot with its value, and open what it leaves behind; or that is what has just ended."""
        if frame.v[slot] is not EMPTY:
            self.left_ended(frame, worker)
            return
        self.executed += 1
        activation = Left(frame, slot)
        activation.after = partial(self.left_ended, frame)
        activation.arm(Spawn(post.children, _left_over, window=post.window, isolate=True, hands_on=True))
        if frame.running is None:
            frame.running = {}
        frame.running[slot] = activation
        self.posted += 1
        self.complete(worker, frame, slot, post.value)
        self.advance(worker, activation)

    def left_ended(self, frame: Frame, worker: Worker) -> None:
        """Work that was left behind is over; perhaps the frame waited for that only."""
        self.posted -= 1
        if not frame.todo:
            self._frame_over(worker, frame)

    def left_failed(self, worker: Worker, frame: Frame, slot: int, error: ApxmError) -> None:
        """Work that was left behind failed: whoever handles failures of the frame does."""
        if error.node is None:  # it could not even begin
            self._locate(error, frame, slot)
            self.failures += 1
            self.errors.append(error)
        if frame.closing is None:
            self.fail_above(worker, frame, slot, error)
        elif frame.closing.soft and not self.keep_going and not self._handled_inside(frame, slot, itself=False):
            self._fail_flow(worker, frame, error)
        self.left_ended(frame, worker)

    def awaits(self, frame: Frame) -> bool:
        """Whether all slots of a frame ended, and something that one of them left behind did not."""
        return any(type(item) is Left for item in (frame.running or {}).values())

    def stop_left(self, worker: Worker, frame: Frame) -> None:
        """A frame closes for a hard reason: what was left behind is stopped with it."""
        for slot in [slot for slot, item in (frame.running or {}).items() if type(item) is Left]:
            self.stop(worker, frame, slot)


def _left_over(results: list[ChildResult]) -> Outcome:
    """All of it ended: the first failure there is, else the mark that the end was reached."""
    failed = next((result.error for result in results if result.error is not None), None)
    return _ENDED if failed is None else Fail(failed)


_ENDED: Any = Post(None, ())
