"""CONST_STR, MERGE, WAIT_ALL: values that are there, and values that come together."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from apxm.errors import BindError, InvalidError
from apxm.executor.arguments import shown, where
from apxm.executor.bind import Bound, Kind
from apxm.graph.operation import Effect
from apxm.graph.template import as_text
from apxm.values import SCALARS, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from apxm.executor.bind import Binder, NodeSpec, Services

INT_MAX = 2**63 - 1  # a value's int has 64 bits with a sign


def _pure(fn: Callable[..., Any]) -> Bound:
    return Bound(Kind.PURE, fn, Effect.PURE, owns=True)


def _bind_constant(spec: NodeSpec, services: Services) -> Bound:
    value = settle(spec.attributes["value"], where=f"{where(spec)}, attribute `value`")
    if type(value) not in SCALARS:  # a copy for every firing: whoever changed the constant would change every later run
        return _pure(lambda *inputs: settle(value))
    return _pure((lambda *inputs: value) if spec.inputs else (lambda: value))


def _listed(*inputs: Any) -> list[Any]:
    return list(inputs)


def _texts(*inputs: Any) -> str:
    return "".join([as_text(value) for value in inputs])


def _total(place: str, *inputs: Any) -> int | float:
    for number, value in enumerate(inputs):
        if type(value) not in (int, float):
            raise InvalidError(
                f"{place}: its live input {number} is {shown(value)}, expected a number",
                hint="mode `array` takes any value, mode `concat` joins texts",
            )
    total: int | float = sum(inputs)
    if type(total) is int and not -INT_MAX - 1 <= total <= INT_MAX:
        raise InvalidError(f"{place}: the sum {total} does not fit into 64 bits", hint="add floats")
    return total


def _winner(value: Any) -> Any:
    return value


def _bind_merge(spec: NodeSpec, services: Services) -> Bound:
    match spec.attributes.get("mode", "array"):
        case "array":
            return _pure(_listed)
        case "concat":
            return _pure(_texts)
        case "sum":
            return _pure(partial(_total, where(spec)))
        case "any" | "race" | "first_success":
            return _pure(_winner)
        case mode:
            raise BindError(f"{where(spec)} has mode `{mode}`; expected array, concat, sum, any, race or first_success")


def _bind_wait_all(spec: NodeSpec, services: Services) -> Bound:
    return _pure(_listed)


BINDERS: dict[str, Binder] = {"CONST_STR": _bind_constant, "MERGE": _bind_merge, "WAIT_ALL": _bind_wait_all}
