"""What a slot holds until everything downstream of it in its frame ended: a lease, a lock. See outcome.Hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.errors import ApxmError, InternalError
from apxm.scheduler.closing import flow_of
from apxm.scheduler.dataflow import CANCELLED, EMPTY, FAILED
from apxm.scheduler.plan import RACE

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import Any

    from apxm.scheduler.dataflow import Frame


class Held:
    """One thing held. `over` looks only at what had not ended when it looked last, so all looks together cost one walk."""

    __slots__ = ("_frame", "_good", "_mine", "_rest", "place", "release")

    def __init__(self, frame: Frame, slot: int, release: Callable[[bool], Future[Any] | None]) -> None:
        self._frame, self.release = frame, release
        self.place = frame, slot
        self._rest = _downstream(frame, slot)
        self._mine = frozenset((slot, *self._rest))
        self._good = True

    def over(self) -> bool:
        """Whether everything downstream ended."""
        frame, rest = self._frame, self._rest
        while rest and frame.v[rest[-1]] is not EMPTY:
            self._good = self._good and self._ended_well(rest.pop())
            if not self._good:
                return True
        return not rest

    def let_go(self) -> ApxmError | Future[Any] | None:
        """Release it; gives the error of doing so, or what there is still to wait for."""
        try:
            return self.release(self.over() and self._good)
        except Exception as error:
            return release_error(error)

    def _ended_well(self, slot: int) -> bool:
        """Live, skipped, failed where its own edges or fallback took it, or not needed any more."""
        frame = self._frame
        why = frame.ended.get(slot) if frame.ended is not None else None
        if why == FAILED:
            return slot in frame.binding.errors or slot in frame.binding.forgiven
        return why != CANCELLED or self._led_to_the_return() or self._won_a_race(slot)

    def _led_to_the_return(self) -> bool:
        """Whether the RETURN that ended the flow came of what is held: then what it cancelled was not needed."""
        giver = flow_of(self._frame).giver
        while giver is not None and giver[0] is not self._frame:
            giver = (giver[0].up, giver[0].node) if giver[0].up is not None else None
        return giver is not None and giver[1] in self._mine

    def _won_a_race(self, loser: int) -> bool:
        """Whether a cancelled slot led to a RACE that another one won, and that one came of what is held too."""
        plan, choices = self._frame.plan, self._frame.choices or {}
        for race in (slot for slot in _downstream(self._frame, loser) if plan.rules[slot] == RACE):
            choice = choices[race]
            if choice.fired and plan.sources(race)[choice.winner] in self._mine:
                return True
        return False


def release_error(error: BaseException) -> ApxmError:
    """What a release raised, as an error of the run."""
    if isinstance(error, ApxmError):
        return error
    wrapped = InternalError(f"what was held could not be released: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


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
