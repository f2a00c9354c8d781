"""What may be spent: a tree of ledgers in which an amount is reserved before it is used and settled after. Knows no time."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import ceil, isfinite
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias

from apxm.errors import BudgetError, ConfigError, InternalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Amount: TypeAlias = int | float

LEASE_MAX = 1024  # nodes at a time: what a run loop may do before it looks again
_COST_UNITS = 1_000_000_000  # money is counted in billionths, as integers: sums of floats would drift across a limit


@dataclass(frozen=True, slots=True)
class Limits:
    """What one level of the tree may spend; None is without limit. `cost_usd` is in US dollars, the rest are counts."""

    llm_calls: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    tool_calls: int | None = None
    nodes: int | None = None
    splices: int | None = None

    def __post_init__(self) -> None:
        for name in QUANTITIES:
            limit = getattr(self, name)
            if limit is None:
                continue
            counts = (int, float) if name == "cost_usd" else (int,)
            if type(limit) not in counts or not isfinite(limit) or limit < 0:
                expected = "an amount of dollars" if name == "cost_usd" else "a whole number"
                raise ConfigError(f"budget {name} is {limit!r}, expected {expected}, 0 or more")


QUANTITIES: tuple[str, ...] = tuple(field.name for field in fields(Limits))
_INDEX = {name: place for place, name in enumerate(QUANTITIES)}
_COST, _NODES, _TOOLS = _INDEX["cost_usd"], _INDEX["nodes"], _INDEX["tool_calls"]


UNLIMITED = Limits()


class Ledger:
    """One level of the tree (tenant → run → flow → node).

    What a level spends its parents spend too: an amount is reserved at every level or nowhere. Thread-safe; the whole
    tree shares one lock, held for a few additions. `scope` says in messages whose budget it is.
    """

    __slots__ = ("_free", "_free_tools", "_limits", "_lock", "_overrun", "_parent", "_reserved", "_spent", "scope")

    def __init__(self, limits: Limits, parent: Ledger | None = None, *, scope: str = "run") -> None:
        self.scope = scope
        self._parent = parent
        self._lock: Lock = Lock() if parent is None else parent._lock
        self._limits = _in_units(limits)
        self._spent = _NOTHING.copy()
        self._reserved = _NOTHING.copy()
        self._overrun = _NOTHING.copy()
        self._free = parent is None and limits.nodes is None
        self._free_tools = parent is None and limits.tool_calls is None

    def reserve(self, **amounts: Amount) -> Reservation:
        """Set amounts aside. BudgetError, with nothing set aside anywhere, when one of them does not fit at some level."""
        asked = [(_place(name), _asked(name, amount)) for name, amount in amounts.items()]
        with self._lock:
            for level in self._levels():
                for place, units in asked:
                    limit = level._limits[place]
                    if limit is not None and level._spent[place] + level._reserved[place] + units > limit:
                        raise level._exhausted(place, units)
            for level in self._levels():
                for place, units in asked:
                    level._reserved[place] += units
        return Reservation(self, asked)

    def take_tool_call(self) -> None:
        """Spend one tool call, reserved and settled at once: it counts from its start, however it ends."""
        if self._free_tools:
            self._spent[_TOOLS] += 1
        else:
            self.reserve(tool_calls=1).settle(tool_calls=1)

    def lease_nodes(self, want: int) -> int:
        """Up to `want` nodes, taken as spent at every level; 0 when there are none left. Give back what is not used."""
        if self._free:
            # No call between the read and the write, so the GIL is not given up between them: exact without the lock.
            self._spent[_NODES] += want
            return want
        with self._lock:
            left = self._fewest_nodes()
            granted = want if left is None else max(0, min(want, left))
            for level in self._levels():
                level._spent[_NODES] += granted
            return granted

    def return_nodes(self, count: int) -> None:
        """Give back leased nodes that did not run."""
        if self._free:
            self._spent[_NODES] -= count
            return
        with self._lock:
            for level in self._levels():
                level._spent[_NODES] -= count

    def nodes_left(self) -> int | None:
        """Nodes that may still be leased, at the tightest level; None when no level limits them."""
        if self._free:
            return None
        with self._lock:
            left = self._fewest_nodes()
            return None if left is None else max(0, left)

    def nodes_exhausted(self) -> BudgetError:
        """What to raise when `lease_nodes` gave 0: names the tightest level."""
        with self._lock:
            for level in self._levels():
                limit = level._limits[_NODES]
                if limit is not None and level._spent[_NODES] + level._reserved[_NODES] >= limit:
                    return level._exhausted(_NODES, 1)
        return self._exhausted(_NODES, 1)

    def spent(self) -> dict[str, Amount]:
        """What is settled, by quantity: at this level and below. Leased nodes count until they are returned."""
        return self._report(self._spent)

    def reserved(self) -> dict[str, Amount]:
        """What is set aside and not settled yet; all zeros when nothing is in flight."""
        return self._report(self._reserved)

    def overrun(self) -> dict[str, Amount]:
        """What was used above its reservation; it is part of `spent`. Only quantities with an overrun."""
        return {name: amount for name, amount in self._report(self._overrun).items() if amount}

    def _settle(self, asked: list[tuple[int, int]], used: list[int]) -> None:
        """Book `used` (one entry per quantity) against what was asked, at every level. Called under the lock."""
        excess = used.copy()
        for place, units in asked:
            excess[place] -= units
        for level in self._levels():
            for place, units in asked:
                level._reserved[place] -= units
            for place, units in enumerate(used):
                if units:
                    level._spent[place] += units
                    level._overrun[place] += max(0, excess[place])

    def _levels(self) -> Iterator[Ledger]:
        level: Ledger | None = self
        while level is not None:
            yield level
            level = level._parent

    def _fewest_nodes(self) -> int | None:
        lefts = [
            limit - level._spent[_NODES] - level._reserved[_NODES]
            for level in self._levels()
            if (limit := level._limits[_NODES]) is not None
        ]
        return min(lefts, default=None)

    def _exhausted(self, place: int, units: int) -> BudgetError:
        name, limit = QUANTITIES[place], self._limits[place]
        assert limit is not None
        amounts = [_amount(place, each) for each in (limit, self._spent[place], self._reserved[place], units)]
        text = "limit {}, spent {}, reserved {}, asked for {}".format(*amounts)
        over = self._overrun[place]
        if over:
            text += f" (overrun {_amount(place, over)})"
        return BudgetError(
            f"budget {name} of the {self.scope} is exhausted: {text}",
            hint=f"raise it where the {self.scope} gets its budget, e.g. Limits({name}=…) or --budget {name}=…",
        )

    def _report(self, units: list[int]) -> dict[str, Amount]:
        with self._lock:
            return {name: _amount(place, units[place]) for place, name in enumerate(QUANTITIES)}


class Reservation:
    """Amounts set aside by `Ledger.reserve`. Somebody must settle it, whatever happened."""

    __slots__ = ("_asked", "_ledger", "_open")

    def __init__(self, ledger: Ledger, asked: list[tuple[int, int]]) -> None:
        self._ledger = ledger
        self._asked = asked
        self._open = True

    def settle(self, **used: Amount) -> None:
        """Book what was used; the rest goes back. The first call counts, later ones do nothing.

        A quantity that is not named was not used. What cannot be true (a negative or infinite amount, from a provider
        that lies) counts as what was reserved.
        """
        reserved = dict(self._asked)
        booked = [0] * len(QUANTITIES)
        for name, amount in used.items():
            place = _place(name)
            booked[place] = _units(place, amount) if isfinite(amount) and amount >= 0 else reserved.get(place, 0)
        with self._ledger._lock:
            if self._open:
                self._open = False
                self._ledger._settle(self._asked, booked)


def _place(name: str) -> int:
    place = _INDEX.get(name)
    if place is None:
        raise InternalError(f"no budget quantity `{name}`; there are {', '.join(QUANTITIES)}")
    return place


def _asked(name: str, amount: Amount) -> int:
    if not isfinite(amount) or amount < 0:
        raise InternalError(f"{amount!r} of {name} cannot be reserved")
    return _units(_place(name), amount)


_NOTHING = [0] * len(QUANTITIES)
_NO_LIMITS: Sequence[int | None] = (None,) * len(QUANTITIES)


def _in_units(limits: Limits) -> Sequence[int | None]:
    if limits is UNLIMITED:  # the usual case costs nothing
        return _NO_LIMITS
    return [_limit(place, getattr(limits, name)) for place, name in enumerate(QUANTITIES)]


def _limit(place: int, amount: Amount | None) -> int | None:
    return None if amount is None else _units(place, amount)


def _units(place: int, amount: Amount) -> int:
    return round(amount * _COST_UNITS) if place == _COST else ceil(amount)


def _amount(place: int, units: int) -> Amount:
    return units / _COST_UNITS if place == _COST else units
