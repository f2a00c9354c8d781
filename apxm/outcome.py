"""What a handler may give back: a plain value, or one of Route, Spawn, Post, Wait, Hold, Fail; it never calls the scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from apxm.errors import ApxmError

Step: TypeAlias = str | int  # a case label, an item index or an iteration: one element of a frame path


@dataclass(frozen=True, slots=True)
class Route:
    """`value` goes out on the unlabelled edges and on those labelled `label`; every other edge is dead."""

    label: str
    value: Any


@dataclass(slots=True)
class Child:
    """One child frame to open: `body` is a bound dag, `args` its parameters in order, `step` its place in the frame path."""

    body: Any
    args: list[Any]
    step: Step


@dataclass(slots=True)
class ChildResult:
    """How a child frame ended: its value, or the error that closed it."""

    value: Any = None
    error: ApxmError | None = None


@dataclass(slots=True)
class Spawn:
    """Open child frames, at most `window` alive at once, and continue with `then` once all of them ended.

    `then` gets the results in the order of `children` and returns a value or an outcome. With `isolate` the failure of
    a child is one of those results; without it, it is the failure of this node. `hands_on` says that `then` will make
    an isolated failure that of this node after all. `cleanup` opens last when the node is cancelled meanwhile;
    `shielded` children are not cancelled with the node.
    """

    children: Iterable[Child]
    then: Callable[[list[ChildResult]], Outcome]
    window: int = 1
    isolate: bool = False
    hands_on: bool = False
    cleanup: Child | None = None
    shielded: bool = False


@dataclass(slots=True)
class Post:
    """`value` goes out at once, and the child frames run besides, at most `window` alive at once: nobody gets their results.

    The frame of the node is not over before they are. The first failure among them is a failure of that frame.
    """

    value: Any
    children: Iterable[Child]
    window: int = 1


@dataclass(slots=True)
class Wait:
    """Park this activation, holding no worker, until `seconds` have passed; then continue with `then`.

    When it is cancelled meanwhile, `dropped` is called in place of `then`. It must not block for long, nor raise.
    """

    seconds: float
    then: Callable[[], Outcome]
    dropped: Callable[[], object] | None = None


@dataclass(slots=True)
class Hold:
    """`value` goes out, and something stays held until everything downstream in the frame ended.

    Then `release` is called once: with True when all of it ended live or skipped (or was not needed any more, because of
    a RETURN or a RACE that it led to itself), with False after a failure or a cancellation. It must not block for long:
    where it would, it gives a future, and the run is not over before that is done. An error that it raises, or that the
    future has, ends the run.
    """

    value: Any
    release: Callable[[bool], Future[Any] | None]


@dataclass(frozen=True, slots=True)
class Fail:
    """The node failed."""

    error: ApxmError


Outcome: TypeAlias = Any | Route | Spawn | Post | Wait | Hold | Fail
OUTCOMES = frozenset((Route, Spawn, Post, Wait, Hold, Fail))
