"""Whether a run did what its program allows: the choices a run made, and a run held against the oracle's result."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apxm.observability.events import FrameOpened, NodeEnded
from apxm.testing.firing import canonical
from apxm.testing.meaning import same
from apxm.testing.oracle import Choices, OracleMismatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from apxm.errors import ApxmError
    from apxm.observability.events import Event
    from apxm.testing.oracle import Activation, OracleResult, Path


@dataclass(slots=True)
class Observed:
    """What a run was seen to do. `order` counts the ends of nodes as they were reported."""

    outputs: dict[str, Any] = field(default_factory=dict)
    value: Any = None
    error: ApxmError | None = None
    done: set[Activation] = field(default_factory=set)
    failed: set[Activation] = field(default_factory=set)
    skipped: set[Activation] = field(default_factory=set)
    cancelled: set[Activation] = field(default_factory=set)
    opened: set[Path] = field(default_factory=set)
    winners: dict[Activation, int] = field(default_factory=dict)
    order: dict[Activation, int] = field(default_factory=dict)
    calls: list[tuple[str, str]] | None = None  # (capability, arguments as JSON); None: nobody counted

    @property
    def fired(self) -> set[Activation]:
        return self.done | self.failed

    @property
    def choices(self) -> Choices:
        """What this run decided where its program leaves it open."""
        return Choices(self.winners, self.order)


def observe(events: Iterable[Event], *, outputs: dict[str, Any], value: Any, error: ApxmError | None = None) -> Observed:
    """Read what a run did from its events; raises OracleMismatch when an activation ended twice."""
    seen = Observed(outputs, value, error)
    ended = {"done": seen.done, "failed": seen.failed, "skipped": seen.skipped, "cancelled": seen.cancelled}
    for number, event in enumerate(events):
        if isinstance(event, FrameOpened):
            seen.opened.add(event.path)
        elif isinstance(event, NodeEnded):
            here, outcome = (event.path, event.node), event.outcome
            if any(here in one for one in ended.values()):
                raise OracleMismatch(f"activation {here} ended twice, the second time {outcome}")
            ended[outcome].add(here)
            if outcome == "done" and event.error is not None:  # a failure that a fallback made good
                seen.failed.add(here)
            if outcome in ("done", "failed"):
                seen.order.setdefault(here, number)
            if event.winner is not None:
                seen.winners[here] = event.winner
    return seen


def compare(expected: OracleResult, seen: Observed) -> None:
    """Hold a run against the oracle, which was given the run's own choices; raises OracleMismatch with every difference.

    - The same error (node, path, code, class, and message where its wording is promised), or none; without an error the
      same outputs and value.
    - Nothing fires, fails or is skipped that the oracle does not allow, and nothing fires before what it needs.
    - Everything the oracle fires has fired, unless it is `optional` (a RACE may have cancelled it) or its frame is
      closed (a failure or RETURN ended it early; how far its other branches came is a matter of timing). A `finally` is
      never cut short: once its TRY_CATCH ran, all of it ran.
    - Where calls were counted, the same calls with the same arguments; fewer are allowed only where something was cut short.
    """
    found = [*_errors(expected, seen), *_activations(expected, seen), *_calls(expected, seen)]
    if seen.error is None and expected.error is None:
        found += _values(expected, seen)
    if found:
        raise OracleMismatch("; ".join(found[:8]) + (f"; and {len(found) - 8} more" if len(found) > 8 else ""))


def _values(expected: OracleResult, seen: Observed) -> list[str]:
    found = []
    if not same(canonical(expected.outputs), canonical(seen.outputs)):
        found.append(f"outputs are {seen.outputs}, expected {expected.outputs}")
    if not same(canonical(expected.value), canonical(seen.value)):
        found.append(f"value is {seen.value!r}, expected {expected.value!r}")
    return found


def _errors(expected: OracleResult, seen: Observed) -> list[str]:
    wanted, error = expected.error, seen.error
    if wanted is None or error is None:
        return [] if wanted is None and error is None else [f"error is {error!r}, expected {wanted}"]
    got = (error.code, error.failure.value, error.node or "", tuple(error.path))
    if got != (wanted.code, wanted.failure, wanted.node, wanted.path):
        return [f"error is {got} ({error}), expected {wanted}; possible are {expected.possible}"]
    if wanted.message is not None and str(error) != wanted.message:
        return [f"error says {str(error)!r}, expected {wanted.message!r}"]
    return []


def _activations(expected: OracleResult, seen: Observed) -> list[str]:
    fired = seen.fired
    found = [f"{one} fired, though it could not" for one in _sorted(fired - expected.fired)]
    found += [f"{one} failed, though it could not" for one in _sorted(seen.failed - expected.failed)]
    odd = seen.skipped - expected.skipped - expected.optional
    found += [f"{one} was skipped, though it could not be" for one in _sorted(odd) if not expected.is_closed(one[0])]
    for name, wanted, got in (
        ("fire", expected.fired, fired),
        ("fail", expected.failed, seen.failed),
        ("become skipped", expected.skipped, seen.skipped),
    ):
        missing = [one for one in _sorted(wanted - got) if _was_due(expected, seen, one)]
        found += [f"{one} did not {name}" for one in missing]
    for one in _sorted(fired & expected.needs.keys()):
        found += [f"{one} fired before {need}" for need in _sorted(expected.needs[one] - fired) if not _began(seen, need)]
    return found


def _was_due(expected: OracleResult, seen: Observed, one: Activation) -> bool:
    """Whether nothing excuses that an activation did not come to its end."""
    path, _ = one
    if one in expected.optional or expected.is_closed(path):
        return False
    for depth, (node, step) in enumerate(path):
        cut_short = expected.is_closed(path[:depth]) or (path[:depth], node) in expected.optional
        if step == "finally" and cut_short and (*path[:depth], (node, "try")) not in seen.opened:
            return False  # its TRY_CATCH was cancelled before it began
    return True


def _began(seen: Observed, one: Activation) -> bool:
    return any(opened[:-1] == one[0] and opened[-1][0] == one[1] for opened in seen.opened)


def _calls(expected: OracleResult, seen: Observed) -> list[str]:
    if seen.calls is None:
        return []
    wanted, got = Counter(expected.calls), Counter(seen.calls)
    found = [f"call {call} made {count} times more than expected" for call, count in (got - wanted).items()]
    if not expected.closed and not expected.optional:
        found += [f"call {call} made {count} times less than expected" for call, count in (wanted - got).items()]
    return found


def _sorted(ones: Iterable[Activation]) -> Sequence[Activation]:
    return sorted(ones, key=repr)
