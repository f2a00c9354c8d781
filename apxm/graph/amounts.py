"""How often something can happen at most: a number, a number per item of a list, or no bound with its cause. Only arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


@dataclass(frozen=True, slots=True, order=True)
class Items:
    """The list that one MAP goes over. `flow` is `agent.flow`, `place` the nodes and regions that lead to its body.

    `name` is that of the MAP, `listed` that of the node or parameter that gives the list.
    """

    flow: str
    place: tuple[tuple[int, str], ...]
    name: str
    listed: str

    @property
    def cause(self) -> str:
        return f"MAP `{self.name}`: as many items as `{self.listed}` has"


Product: TypeAlias = tuple[Items, ...]  # sorted; () does not occur: that is `fixed`


@dataclass(frozen=True, slots=True)
class Bound:
    """An upper bound: `fixed` + the sum of `per[lists]` times the lengths of those lists; no bound at all if `causes`."""

    fixed: int = 0
    per: Mapping[Product, int] = field(default_factory=dict)
    causes: tuple[str, ...] = ()

    @property
    def limit(self) -> int | None:
        """The bound as a number; None when there is none, or when it hangs on the length of a list."""
        return None if self.per or self.causes else self.fixed

    @property
    def unbounded_by(self) -> tuple[str, ...]:
        """Why there is no number."""
        lists = (items.cause for product in self.per for items in product)
        return tuple(dict.fromkeys((*self.causes, *lists)))

    @property
    def nothing(self) -> bool:
        """It cannot happen."""
        return not (self.fixed or self.per or self.causes)

    def at(self, length: Callable[[Items], int]) -> int | None:
        """The bound for lists of known lengths; None when there is none even then."""
        if self.causes:
            return None
        total = self.fixed
        for product, number in self.per.items():
            for items in product:
                number *= length(items)
            total += number
        return total

    def __add__(self, other: Bound) -> Bound:
        if not other.per and not other.causes:
            return Bound(self.fixed + other.fixed, self.per, self.causes)
        per = dict(self.per)
        for product, number in other.per.items():
            per[product] = per.get(product, 0) + number
        return Bound(self.fixed + other.fixed, per, _joined(self.causes, other.causes))

    def __or__(self, other: Bound) -> Bound:
        """A bound for whichever of the two happens."""
        per = {product: max(self.per.get(product, 0), other.per.get(product, 0)) for product in {**self.per, **other.per}}
        return Bound(max(self.fixed, other.fixed), per, _joined(self.causes, other.causes))

    def times(self, number: int) -> Bound:
        """As often as it happens `number` times; nothing when that is never."""
        if number == 0:
            return NOTHING
        return Bound(self.fixed * number, {product: n * number for product, n in self.per.items()}, self.causes)

    def each(self, items: Items) -> Bound:
        """As often as it happens once per item of a list."""
        per = {tuple(sorted((*product, items))): number for product, number in self.per.items()}
        if self.fixed:
            per[items,] = per.get((items,), 0) + self.fixed
        return Bound(0, per, self.causes)

    def capped(self, most: int) -> Bound:
        """This bound, unless `most` is one already and lower."""
        return self if self.limit is not None and self.limit <= most else Bound(most)

    def __str__(self) -> str:
        """`3`, `1 + 2 per item of files`, `unbounded`."""
        if self.causes:
            return "unbounded"
        lists: dict[tuple[str, ...], int] = {}
        for product, number in self.per.items():
            named = tuple(items.listed for items in product)
            lists[named] = lists.get(named, 0) + number
        parts = [f"{number:,} per {' and '.join(f'item of `{one}`' for one in named)}" for named, number in lists.items()]
        return " + ".join([f"{self.fixed:,}", *parts] if self.fixed or not parts else parts)


NOTHING = Bound()
ONCE = Bound(1)

Amounts: TypeAlias = dict[str, Bound]  # quantity -> how much of it at most; what is not there is nothing


def total(several: Iterable[Mapping[str, Bound]]) -> Amounts:
    """All of them."""
    found: Amounts = {}
    for amounts in several:
        for name, bound in amounts.items():
            found[name] = found[name] + bound if name in found else bound
    return found


def either(several: Iterable[Mapping[str, Bound]]) -> Amounts:
    """Whichever of them it is."""
    found: Amounts = {}
    for amounts in several:
        for name, bound in amounts.items():
            found[name] = found[name] | bound if name in found else bound
    return found


def _joined(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*one, *other))) if other else one
