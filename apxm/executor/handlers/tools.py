"""INV and PRINT: calling the world, and telling whoever watches."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from apxm.capability.calling.run import failure_of
from apxm.capability.policy import breach_error, breaches
from apxm.capability.system import granted
from apxm.errors import ApxmError, BindError, CapabilityError
from apxm.executor.arguments import renderer, where
from apxm.executor.bind import Bound, Kind
from apxm.executor.call import Call
from apxm.executor.invoking import Invoker, labels_of
from apxm.executor.reporting import report, said_to_tool
from apxm.graph.operation import Effect
from apxm.graph.template import as_text, parse
from apxm.observability.events import Printed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apxm.capability.record import CapabilityRecord
    from apxm.executor.bind import Binder, NodeSpec, Services
    from apxm.executor.context import OpContext


class _Inline:
    """An INV whose capability is a plain function that the run loop calls itself, though it is not pure.

    Counted like any other call; the engine tries again where that does no harm. Nobody can stop it: it has no timeout. Its
    stages are those of stages.py, as far as they do not wait.
    """

    __slots__ = ("call", "name", "placing", "record", "recorded")

    def __init__(self, spec: NodeSpec, call: Call) -> None:
        self.recorded = call.record.effect not in (Effect.PURE, Effect.READ)
        if "timeout_ms" in spec.attributes:
            text = f"{where(spec)} has a timeout, but capability `{call.record.name}` runs inline and cannot be stopped"
            raise BindError(text, hint="register it with run='thread' or as an async function")
        self.call, self.record, self.name = call.closure(len(spec.inputs)), call.record, call.record.name
        self.placing = call if call.record.effect is Effect.GUARDED else None

    def fire(self, context: OpContext, *inputs: Any) -> Any:
        run, tally = context.run, self.record.tally
        if self.placing is not None:
            self._look(context, self.placing)
        run.ledger.take_tool_call()
        began, error = perf_counter(), None
        tally.began()
        try:
            return self._reported(context, inputs) if run.heard or (run.noted and self.recorded) else self.call(*inputs)
        except Exception as raised:
            error = raised if isinstance(raised, ApxmError) else self._failure(raised)
            error.called = error.called or not self.record.repeatable
            if error is raised:
                raise
            raise error from raised
        finally:
            tally.ended((perf_counter() - began) * 1e3, error)

    def read(self, context: OpContext, *inputs: Any) -> Any:
        """`fire` of what only reads, when nobody listens: counted, but not timed, for that would cost as much as the call."""
        run = context.run
        if run.heard:
            return self.fire(context, *inputs)
        run.ledger.take_tool_call()
        self.record.tally.quick += 1
        try:
            return self.call(*inputs)
        except Exception as raised:
            error = raised if isinstance(raised, ApxmError) else self._failure(raised)
            self.record.tally.failed(error)
            if error is raised:
                raise
            raise error from raised

    def _look(self, context: OpContext, call: Call) -> None:
        """Refuse untrusted arguments; there is nobody to ask, else this call would be able to wait."""
        run = context.run
        found = breaches(self.record, labels_of(call, context), run.capabilities.untrusted, run.trust.allows)
        if found:
            refused = breach_error(self.record, f"{context.op} `{context.name}`: capability `{self.name}`", found[0])
            self.record.tally.refused(refused)
            if run.noted:
                report(context, "capability", self.name, perf_counter(), refused)
            raise refused

    def _reported(self, context: OpContext, inputs: Sequence[Any]) -> Any:
        began = perf_counter()
        try:
            value = self.call(*inputs)
        except Exception as error:
            report(context, "capability", self.name, began, error, recorded=self.recorded)
            raise
        content = said_to_tool(inputs, {}, value) if context.run.content else None
        report(context, "capability", self.name, began, None, content=content, recorded=self.recorded)
        return value

    def _failure(self, error: Exception) -> ApxmError:
        failure = failure_of(self.record, error)
        failure.called = not self.record.repeatable
        return failure


def bind_inv(spec: NodeSpec, services: Services) -> Bound:
    """Find the capability, see that it is granted, and place its arguments.

    A capability of the host that the node names is allowed; a built-in tool needs a grant. A pure function is called by
    the run loop itself; its record's timeout does not apply, and it raises whatever it raises. Where somebody wants to see
    its calls, it goes through the stages as any other does.
    """
    record = granted(_record(spec, services), services.grants, explicit=services.explicit)
    call, system = Call(spec, record), services.capabilities
    seen = bool(system.hooks(record.name)) or (record.effect is Effect.GUARDED and system.approver is not None)
    if record.inline_pure and not seen:
        fn = call.closure(len(spec.inputs))
        anonymous = record.fn in (fn, getattr(fn, "func", None))
        return Bound(Kind.PURE, fn, Effect.PURE, owns=record.owns or call.confirms, anonymous=anonymous)
    label = record.label
    if record.plain and not seen:
        owns = record.owns or call.confirms
        inline = _Inline(spec, call)
        fire = inline.read if record.effect is Effect.READ else inline.fire
        return Bound(Kind.SYNC, fire, record.effect, label=label, owns=owns)
    invoker = Invoker(record, timeout_ms=spec.attributes.get("timeout_ms"), retries=spec.attributes.get("retries"))

    async def invoke(context: OpContext, *inputs: Any) -> Any:
        return await invoker.fire(context, call, inputs)

    return Bound(Kind.ASYNC, invoke, record.effect, label=label, owns=True)


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
