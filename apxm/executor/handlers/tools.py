"""INV and PRINT: calling the world, and telling whoever watches."""

from __future__ import annotations

from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any

from apxm.capability.run import failure_of, with_retries
from apxm.capability.system import granted
from apxm.errors import ApxmError, BindError, CapabilityError, TransientError
from apxm.executor.arguments import renderer, where
from apxm.executor.bind import Bound, Kind
from apxm.executor.call import Call
from apxm.executor.reporting import report, said_to_tool
from apxm.graph.operation import Effect
from apxm.graph.template import as_text, parse
from apxm.observability.events import NodeRetried, Printed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from apxm.capability.record import CapabilityRecord
    from apxm.executor.bind import Binder, NodeSpec, Services
    from apxm.executor.context import OpContext

RETRIES = 2  # of a call that may be repeated, when the node does not say


class _Invocation:
    """An INV whose capability waits, or touches the world: counted, timed, retried where that does no harm."""

    def __init__(self, spec: NodeSpec, call: Call) -> None:
        self.call, self.record = call, call.record
        limits = [each for each in (call.record.timeout_ms, spec.attributes.get("timeout_ms")) if each is not None]
        self.timeout_s = min(limits) / 1e3 if limits else None
        self.retries = spec.attributes.get("retries", RETRIES) if call.record.repeatable else 0

    async def fire(self, context: OpContext, *inputs: Any) -> Any:
        args, kwargs = self.call.arguments(inputs)
        try:
            return await self._attempt(context, args, kwargs)
        except TransientError as error:
            return await self._again(context, args, kwargs, error)

    async def _again(self, context: OpContext, args: Sequence[Any], kwargs: dict[str, Any], first: TransientError) -> Any:
        """The first attempt failed: go on from there."""
        failures = [first]

        async def attempt() -> Any:
            if failures:
                raise failures.pop()
            return await self._attempt(context, args, kwargs)

        def announce(attempt: int, seconds: float, error: ApxmError) -> None:
            if context.run.heard:
                context.run.publish(NodeRetried(context.path, context.node, attempt, seconds, str(error)))

        return await with_retries(
            attempt, retries=self.retries, permit=context.run.retry_permit, announce=announce, until=context.deadline
        )

    async def _attempt(self, context: OpContext, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        record, run = self.record, context.run
        if record.effect is not Effect.PURE:
            run.ledger.take_tool_call()
        until = context.deadline if context.deadline < run.deadline else inf  # of this node, not of the run
        call = run.capabilities.calls.call(record, args, kwargs, timeout_s=self.timeout_s, until=until)
        return await (_reported(context, record.name, call, args, kwargs) if run.heard else call)


async def _reported(context: OpContext, name: str, call: Awaitable[Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Wait for a call, and tell whoever listens how it went."""
    began = perf_counter()
    try:
        value = await call
    except BaseException as error:
        report(context, "capability", name, began, error)
        raise
    content = said_to_tool(args, kwargs, value) if context.run.content else None
    report(context, "capability", name, began, None, content=content)
    return value


class _Inline:
    """An INV whose capability is a plain function that the run loop calls itself, though it is not pure.

    Counted like any other call; the engine tries again where that does no harm. Nobody can stop it: it has no timeout.
    """

    __slots__ = ("call", "name", "record")

    def __init__(self, spec: NodeSpec, call: Call) -> None:
        if "timeout_ms" in spec.attributes:
            text = f"{where(spec)} has a timeout, but capability `{call.record.name}` runs inline and cannot be stopped"
            raise BindError(text, hint="register it with run='thread' or as an async function")
        self.call, self.record, self.name = call.closure(len(spec.inputs)), call.record, call.record.name

    def fire(self, context: OpContext, *inputs: Any) -> Any:
        run = context.run
        run.ledger.take_tool_call()
        if run.heard:
            return self._reported(context, inputs)
        try:
            return self.call(*inputs)
        except ApxmError as error:
            error.called = error.called or not self.record.repeatable
            raise
        except Exception as error:
            raise self._failure(error) from error

    def _reported(self, context: OpContext, inputs: Sequence[Any]) -> Any:
        began = perf_counter()
        try:
            value = self.call(*inputs)
        except Exception as error:
            report(context, "capability", self.name, began, error)
            if isinstance(error, ApxmError):
                error.called = error.called or not self.record.repeatable
                raise
            raise self._failure(error) from error
        content = said_to_tool(inputs, {}, value) if context.run.content else None
        report(context, "capability", self.name, began, None, content=content)
        return value

    def _failure(self, error: Exception) -> ApxmError:
        failure = failure_of(self.record, error)
        failure.called = not self.record.repeatable
        return failure


def bind_inv(spec: NodeSpec, services: Services) -> Bound:
    """Find the capability, see that it is granted, and place its arguments.

    A capability of the host that the node names is allowed; a built-in tool needs a grant. A pure function is called by
    the run loop itself; its record's timeout does not apply, and it raises whatever it raises.
    """
    record = granted(_record(spec, services), services.grants, explicit=services.explicit)
    call = Call(spec, record)
    if record.inline_pure:
        fn = call.closure(len(spec.inputs))
        anonymous = record.fn in (fn, getattr(fn, "func", None))
        return Bound(Kind.PURE, fn, Effect.PURE, owns=record.owns or call.confirms, anonymous=anonymous)
    label = None if record.effect is Effect.PURE else f"tool:{record.name}"
    if record.run == "inline" and not record.is_async:
        owns = record.owns or call.confirms
        return Bound(Kind.SYNC, _Inline(spec, call).fire, record.effect, label=label, owns=owns)
    return Bound(Kind.ASYNC, _Invocation(spec, call).fire, record.effect, label=label, owns=True)


def bind_print(spec: NodeSpec, services: Services) -> Bound:
    """Fill the message; without placeholders the inputs follow it, separated by spaces."""
    message = spec.attributes.get("message", "")
    filled = renderer(spec, message) if parse(message).placeholders else None

    def show(context: OpContext, *inputs: Any) -> Any:
        if filled is not None:
            text = filled(inputs)
        else:
            text = " ".join([*([message] if message else ()), *map(as_text, inputs)])
        if context.run.heard:
            context.run.publish(Printed(context.path, context.node, text))
        return inputs[0] if inputs else text

    return Bound(Kind.SYNC, show, Effect.IDEMPOTENT, owns=True)


def _record(spec: NodeSpec, services: Services) -> CapabilityRecord:
    name = spec.attributes["capability"]
    try:
        return services.capabilities.get(name)
    except CapabilityError as error:
        text = f"flow `{spec.flow}` calls capability `{name}`, which is not registered (node `{spec.name}`)"
        raise BindError(text, hint=error.hint) from None


BINDERS: dict[str, Binder] = {"INV": bind_inv, "PRINT": bind_print}
