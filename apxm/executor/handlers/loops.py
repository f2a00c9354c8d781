"""LOOP and MAP: one region, many child frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.errors import BindError, InvalidError
from apxm.executor.arguments import (
    Arguments,
    Test,
    condition,
    own,
    refuse_unused,
    region_arguments,
    shown,
    strongest,
    subject,
    where,
)
from apxm.executor.bind import Bound, Kind
from apxm.outcome import Child, ChildResult, Outcome, Spawn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from apxm.executor.bind import Binder, NodeSpec, Services
    from apxm.executor.context import OpContext


def _needs_body(spec: NodeSpec) -> None:
    if "body" not in spec.regions:
        raise BindError(f"{where(spec)} has no region `body`", hint="put what is to be repeated into a region named `body`")


# ---- LOOP ------------------------------------------------------------------------------------------------------------
class _Turns:
    """What never changes about a LOOP node: where its carried values go, and when it ends."""

    __slots__ = ("arguments", "carried", "first", "iteration", "limit", "place", "until", "while_")

    def __init__(self, spec: NodeSpec, arguments: Arguments, carry: Sequence[str]) -> None:
        parameters = arguments.body.parameters
        self.arguments, self.place = arguments, where(spec)
        self.carried = [(name, parameters.index(name)) for name in carry]
        self.first: int | None = self.carried[0][1] if self.carried else None
        self.iteration: int | None = arguments.places.get("iteration")
        self.limit: int = spec.attributes["max_iterations"]
        tests = {name: condition(spec, spec.attributes[name]) for name in ("while", "until") if name in spec.attributes}
        self.while_: Test | None = tests.get("while")
        self.until: Test | None = tests.get("until")


class _Loop:
    """One firing of a LOOP. Its one Spawn and one Child serve every iteration: only `args` and `step` are new."""

    __slots__ = ("_child", "_row", "_spawn", "_turn", "_turns", "limit")

    def __init__(self, turns: _Turns, row: list[Any], limit: int) -> None:
        self._turns, self._row, self.limit, self._turn = turns, row, limit, 0
        self._child = Child(turns.arguments.body, row, 0)
        self._spawn = Spawn((self._child,), self._after)

    def start(self) -> Outcome:
        turns, row = self._turns, self._row
        before = row[turns.first] if turns.first is not None else None
        if self.limit <= 0 or (turns.first is not None and turns.while_ is not None and not turns.while_(before)):
            return before
        return self._open(0)

    def _open(self, turn: int) -> Spawn:
        row = self._row
        if self._turns.iteration is not None:
            row[self._turns.iteration] = turn
        child = self._child
        child.args, child.step = row.copy(), turn
        return self._spawn

    def _after(self, results: Sequence[ChildResult]) -> Outcome:
        turns, value = self._turns, results[0].value
        carried = turns.carried
        if len(carried) == 1:
            self._row[carried[0][1]] = value
        elif carried:
            self._carry(value)
        turn = self._turn = self._turn + 1
        if turn >= self.limit or (turns.until is not None and turns.until(value)):
            return value
        if turns.while_ is not None and not turns.while_(value if turns.first is None else self._row[turns.first]):
            return value
        return self._open(turn)

    def _carry(self, value: Any) -> None:
        missing = [name for name, _ in self._turns.carried if not isinstance(value, dict) or name not in value]
        if missing:
            raise InvalidError(
                f"{self._turns.place}: the result of iteration {self._turn} has no `{missing[0]}`: {shown(value)}",
                hint=f"a body that carries several values gives a map with {', '.join(name for name, _ in self._turns.carried)}",
            )
        for name, target in self._turns.carried:
            self._row[target] = value[name]


def _bind_loop(spec: NodeSpec, services: Services) -> Bound:
    _needs_body(spec)
    body = spec.regions["body"]
    carry = spec.attributes.get("carry") or ()
    unknown = [name for name in carry if name not in body.parameters]
    if unknown:
        declared = ", ".join(f"`{name}`" for name in body.parameters) or "none"
        raise BindError(f"{where(spec)} carries `{unknown[0]}`, which its body does not declare; it declares {declared}")
    counted = own(spec)
    arguments = region_arguments(spec, "body", optional=carry)
    refuse_unused(spec, arguments.used if counted is None else (*arguments.used, counted))
    turns = _Turns(spec, arguments, carry)

    def loop(context: OpContext, *inputs: Any) -> Outcome:
        limit = turns.limit if counted is None else min(turns.limit, _count(turns.place, inputs[counted]))
        return _Loop(turns, arguments.start(inputs), limit).start()

    return Bound(Kind.SYNC, loop, body.effect, owns=True)


def _count(place: str, value: Any) -> int:
    if type(value) is not int:
        raise InvalidError(f"{place}: its input `count` is {shown(value)}, expected an int")
    return value


# ---- MAP -------------------------------------------------------------------------------------------------------------
class _Items:
    """The child frames of one MAP, made as they are asked for; its length is known, its children are not kept."""

    __slots__ = ("_arguments", "_items", "_row")

    def __init__(self, arguments: Arguments, inputs: Sequence[Any], items: Sequence[Any]) -> None:
        self._arguments, self._items, self._row = arguments, items, arguments.start(inputs)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Child]:
        body, places, row = self._arguments.body, self._arguments.places, self._row
        item_at, index_at = places.get("item"), places.get("index")
        for index, item in enumerate(self._items):
            args = row.copy()
            if item_at is not None:
                args[item_at] = item
            if index_at is not None:
                args[index_at] = index
            yield Child(body, args, index)


def _all_values(results: Sequence[ChildResult]) -> list[Any]:
    return [result.value for result in results]


def _without_failed(results: Sequence[ChildResult]) -> list[Any]:
    return [result.value for result in results if result.error is None]


def _reduced(results: Sequence[ChildResult]) -> Any:
    return results[0].value


# on_item_error -> how the results become a list; a failed item has the value None
_GATHER = {"fail": _all_values, "skip": _without_failed, "null": _all_values}


def _bind_map(spec: NodeSpec, services: Services) -> Bound:
    _needs_body(spec)
    place, listed = where(spec), subject(spec)
    body = region_arguments(spec, "body")
    reduce = region_arguments(spec, "reduce") if "reduce" in spec.regions else None
    refuse_unused(spec, (listed, *body.used, *(reduce.used if reduce is not None else ())))
    on_error = spec.attributes.get("on_item_error", "fail")
    gather, isolate = _GATHER[on_error], on_error != "fail"
    window = spec.attributes.get("window") or services.window

    def spread(context: OpContext, *inputs: Any) -> Outcome:
        items = inputs[listed]
        if not isinstance(items, (list, tuple)):
            raise InvalidError(
                f"{place} takes a list, not {shown(items)} ({type(items).__name__})",
                hint="give it the list at port `items`",
            )

        def then(results: Sequence[ChildResult]) -> Outcome:
            values = gather(results)
            if reduce is None:
                return values
            return Spawn((Child(reduce.body, reduce.fill(inputs, "items", values), "reduce"),), _reduced)

        return Spawn(_Items(body, inputs, items), then, window=window, isolate=isolate) if items else then(())

    effect = strongest(one.effect for one in spec.regions.values())
    return Bound(Kind.SYNC, spread, effect, owns=True)


BINDERS: dict[str, Binder] = {"LOOP": _bind_loop, "MAP": _bind_map}
