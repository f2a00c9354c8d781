"""What a slot holds until everything downstream of it in its frame ended: a lease, a lock. See outcome.Hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.errors import ApxmError, InternalError
from apxm.scheduler.closing import flow_of
from apxm.scheduler.dataflow import CANCELLED, EMPTY, FAILED

if TYPE_CHECKING:
    from collections.abc import Callable

    from apxm.scheduler.dataflow import Frame


class Held:
    """One thing held. `over` looks only at what had not ended when it looked last, so all looks together cost one walk."""

    __slots__ = ("_frame", "_good", "_rest", "release")

    def __init__(self, frame: Frame, slot: int, release: Callable[[bool], None]) -> None:
        self._frame, self.release = frame, release
        self._rest = _downstream(frame, slot)
        self._good = True

    def over(self) -> bool:
        """Whether everything downstream ended."""
        frame, rest = self._frame, self._rest
        while rest and frame.v[rest[-1]] is not EMPTY:
            self._good = self._good and self._ended_well(rest.pop())
            if not self._good:
                return True
        return not rest

    def let_go(self) -> ApxmError | None:
        """Release it; gives the error of doing so."""
        try:
            self.release(self._good and not self._rest)
        except ApxmError as error:
            return error
        except Exception as error:
            return InternalError(f"what was held could not be released: {type(error).__name__}: {error}")
        return None

    def _ended_well(self, slot: int) -> bool:
        """Live, skipped, failed where its own edges or fallback took it, or not needed any more."""
        frame = self._frame
        why = frame.ended.get(slot) if frame.ended is not None else None
        if why == FAILED:
            return slot in frame.binding.errors or slot in frame.binding.forgiven
        return why != CANCELLED or frame.closing is None or flow_of(frame).returned is not None


def _downstream(frame: Frame, slot: int) -> list[int]:
    """Every slot of the frame that a path leads to from `slot`, the first ones last."""
    successors = frame.plan.successors
    seen, todo = set(successors[slot]), list(successors[slot])
    while todo:
        for target in successors[todo.pop()]:
            if target not in seen:
                seen.add(target)
                todo.append(target)
    return sorted(seen, reverse=True)
