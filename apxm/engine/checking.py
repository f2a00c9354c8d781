"""Check mode: a value must not change after it was emitted. Every handler's inputs are compared before and after its call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.errors import InvalidError
from apxm.scheduler.binding import ASYNC, PURE
from apxm.values import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def checked(fn: Callable[..., Any], kind: int, name: str) -> Callable[..., Any]:
    """A handler of that kind which fails with code `changed_input` when it changed what it was given."""
    if kind == PURE:

        def pure(*inputs: Any) -> Any:
            before = digest(list(inputs))
            result = fn(*inputs)
            _compare(before, inputs, name)
            return result

        return pure
    if kind == ASYNC:

        async def waits(context: Any, *inputs: Any) -> Any:
            before = digest(list(inputs))
            result = await fn(context, *inputs)
            _compare(before, inputs, name)
            return result

        return waits

    def runs(context: Any, *inputs: Any) -> Any:
        before = digest(list(inputs))
        result = fn(context, *inputs)
        _compare(before, inputs, name)
        return result

    return runs


def _compare(before: bytes, inputs: Sequence[Any], name: str) -> None:
    if digest(list(inputs)) != before:
        text = f"node `{name}` changed a value that it was given, and that others may have been given too"
        raise InvalidError(text, code="changed_input", hint="copy what is to be changed, inside the capability")
