"""TRY_CATCH and ERR: what happens after a failure, and failing on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from apxm.errors import BindError, FailureClass, RaisedError
from apxm.executor.arguments import Arguments, Render, refuse_unused, region_arguments, renderer, strongest, where
from apxm.executor.bind import Bound, Kind
from apxm.graph.operation import Effect
from apxm.graph.template import as_text
from apxm.outcome import Child, ChildResult, Fail, Outcome, Spawn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apxm.errors import ApxmError
    from apxm.executor.bind import Binder, NodeSpec, Services
    from apxm.executor.context import OpContext


# ---- TRY_CATCH -------------------------------------------------------------------------------------------------------
class _Attempt:
    """One firing of a TRY_CATCH. Its `finally` opens exactly once: after it ended, or as the cleanup of a cancellation."""

    __slots__ = ("_catch", "_error", "_finally", "_inputs", "_value")

    def __init__(self, inputs: Sequence[Any], catch: Arguments | None, last: Arguments | None) -> None:
        self._inputs, self._catch = inputs, catch
        self._finally = Child(last.body, last.start(inputs), "finally") if last is not None else None
        self._value: Any = None
        self._error: ApxmError | None = None

    def start(self, body: Arguments) -> Outcome:
        return self._open(Child(body.body, body.start(self._inputs), "try"), self._after_try, hands_on=self._catch is None)

    def _open(self, child: Child, then: Any, *, hands_on: bool) -> Spawn:
        return Spawn((child,), then, isolate=True, hands_on=hands_on, cleanup=self._finally)

    def _after_try(self, results: Sequence[ChildResult]) -> Outcome:
        error = results[0].error
        if error is None or self._catch is None:
            return self._end(results[0].value, error)
        self._error = error
        row = self._catch.fill(self._inputs, "error", error.to_map())
        return self._open(Child(self._catch.body, row, "catch"), self._after_catch, hands_on=True)

    def _after_catch(self, results: Sequence[ChildResult]) -> Outcome:
        return self._end(results[0].value, _chained(results[0].error, self._error))

    def _end(self, value: Any, error: ApxmError | None) -> Outcome:
        self._value, self._error = value, error
        if self._finally is None:
            return value if error is None else Fail(error)
        return Spawn((self._finally,), self._after_finally, isolate=True, hands_on=True, shielded=True)

    def _after_finally(self, results: Sequence[ChildResult]) -> Outcome:
        error = _chained(results[0].error, self._error) or self._error
        return self._value if error is None else Fail(error)


def _chained(error: ApxmError | None, earlier: ApxmError | None) -> ApxmError | None:
    """A failure that replaces an earlier one keeps it as its cause."""
    if error is not None and error is not earlier and error.__cause__ is None:
        error.__cause__ = earlier
    return error


def _bind_try(spec: NodeSpec, services: Services) -> Bound:
    if "try" not in spec.regions:
        raise BindError(f"{where(spec)} has no region `try`", hint="put what may fail into a region named `try`")
    body = region_arguments(spec, "try")
    catch = region_arguments(spec, "catch") if "catch" in spec.regions else None
    last = region_arguments(spec, "finally") if "finally" in spec.regions else None
    refuse_unused(spec, (at for one in (body, catch, last) if one is not None for at in one.used))

    def attempt(context: OpContext, *inputs: Any) -> Outcome:
        return _Attempt(inputs, catch, last).start(body)

    effect = strongest(one.effect for one in spec.regions.values())
    return Bound(Kind.SYNC, attempt, effect, owns=True)


# ---- ERR -------------------------------------------------------------------------------------------------------------
def _bind_err(spec: NodeSpec, services: Services) -> Bound:
    message = spec.attributes.get("message")
    if message is not None:
        return Bound(Kind.SYNC, _failing(spec, renderer(spec, message)), Effect.PURE, owns=True)
    if not spec.inputs:
        raise BindError(f"{where(spec)} has neither a message nor an input", hint="give it a `message`, or an error to handle")
    template = spec.attributes.get("recovery_template")
    if template is None:
        return Bound(Kind.PURE, _recovery, Effect.PURE, owns=True)
    text = renderer(spec, template)
    return Bound(Kind.PURE, lambda *inputs: text(inputs), Effect.PURE, owns=True)


def _failing(spec: NodeSpec, text: Render) -> Any:
    code = spec.attributes.get("code")
    failure = FailureClass(spec.attributes.get("class", FailureClass.FATAL.value))

    def fail(context: OpContext, *inputs: Any) -> NoReturn:
        """Raises instead of giving a Fail: a transient failure may be tried again, as that of any other handler."""
        raise RaisedError(text(inputs), code=code, failure=failure)

    return fail


def _recovery(error: Any, *_: Any) -> str:
    """The text for an error map, or for whatever else came."""
    message = error.get("message", error) if isinstance(error, dict) else error
    return f"Error: {as_text(message)}"


BINDERS: dict[str, Binder] = {"TRY_CATCH": _bind_try, "ERR": _bind_err}
