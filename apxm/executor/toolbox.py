"""What a model may call from one node: which tools it is offered, how the calls of one turn are run, what it hears of them.

A call that goes wrong is an answer like any other: the model is told and may do something else. Only what ends the run
ends the node: an exhausted budget, a deadline, a cancellation.
"""

from __future__ import annotations

import asyncio
from difflib import get_close_matches
from itertools import count
from typing import TYPE_CHECKING, Any

from apxm.capability.system import granted
from apxm.errors import (
    ApxmError,
    BindError,
    BudgetError,
    CapabilityError,
    DeadlineError,
    DeniedError,
    InternalError,
    InvalidError,
    RunCancelled,
)
from apxm.executor.arguments import where
from apxm.executor.invoking import Invoker
from apxm.graph.operation import TURN_CALLS
from apxm.graph.template import as_text
from apxm.llm.base import Message, Tool, ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from apxm.capability.record import CapabilityRecord
    from apxm.executor.bind import NodeSpec, Services
    from apxm.executor.context import OpContext
    from apxm.llm.base import Reply

CALLS_AT_ONCE = 8
RESULT_CHARS_MAX = 16_384  # of a result, as the model gets it
ERROR_CHARS_MAX = 1_000
_ENDS = (BudgetError, DeadlineError, RunCancelled, InternalError)  # no matter for the model


class Toolbox:
    """The capabilities that one node offers its model: those that it lists, each of them granted."""

    def __init__(self, names: Iterable[str], spec: NodeSpec, services: Services) -> None:
        """BindError for a name that is not registered, DeniedError for one that is not granted: a model may call it at will."""
        records = [_record(name, spec, services) for name in dict.fromkeys(names)]
        self.invokers = {record.name: Invoker(record) for record in records}
        self.tools = tuple(Tool(record.name, record.description, record.parameters) for record in records)

    def open(self, context: OpContext, sources: Iterable[str]) -> ToolUse:
        """What one firing does with the tools; `sources` is where what the model says comes from, besides its inputs."""
        return ToolUse(self, context, sources)


class ToolUse:
    """The tool calls of one firing. `called` has every tool that a call went out to."""

    def __init__(self, toolbox: Toolbox, context: OpContext, sources: Iterable[str]) -> None:
        self.called: dict[str, None] = {}
        self._toolbox, self._context, self._own = toolbox, context, tuple(sources)
        self._sources: dict[str, None] | None = None  # where arguments may come from; grows with every result
        self._ids: set[str] = set()

    async def turn(self, reply: Reply) -> list[Message]:
        """The assistant turn that asked for calls, and a tool turn for each of them. They run at the same time."""
        first = len(self._ids)
        calls = [self._numbered(call) for call in reply.tool_calls]
        sources = tuple(self._known())
        gate = asyncio.Semaphore(CALLS_AT_ONCE)

        async def one(number: int, call: ToolCall) -> Message:
            async with gate:
                return Message("tool", await self._heard(call, sources, number), tool_call_id=call.id)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(number, call)) for number, call in enumerate(calls[:TURN_CALLS], first)]
        except BaseExceptionGroup as failures:
            raise _first(failures) from None
        left = [Message("tool", _REFUSED, tool_call_id=call.id) for call in calls[TURN_CALLS:]]
        return [Message("assistant", reply.text, tuple(calls)), *(task.result() for task in tasks), *left]

    def _numbered(self, call: ToolCall) -> ToolCall:
        """A call with an id that no other call of this firing has: what joins it with its answer."""
        id = call.id
        if not isinstance(id, str) or not id or id in self._ids:
            id = next(made for n in count(len(self._ids) + 1) if (made := f"call_{n}") not in self._ids)
        self._ids.add(id)
        return ToolCall(id, str(call.name), call.arguments)

    def _known(self) -> dict[str, None]:
        """Where what the model writes may come from: itself, the inputs of the node, and the tools that answered so far."""
        if self._sources is None:
            inputs = [source for each in self._context.sources() for source in each]
            self._sources = dict.fromkeys((*self._own, *inputs, *self._context.taint()))
        return self._sources

    async def _heard(self, call: ToolCall, sources: Sequence[str], number: int) -> str:
        """What the model hears of one call; `number` tells it apart from the others of this firing."""
        context, invoker = self._context, self._toolbox.invokers.get(call.name)
        if invoker is None:
            return self._unknown(call.name)
        if not isinstance(call.arguments, dict):
            return f"error [invalid]: the arguments of `{call.name}` are no map of names to values"
        self.called[call.name] = None
        try:
            said = as_text(await invoker.call(context, call.arguments, sources, index=number))
        except _ENDS:
            raise
        except ApxmError as error:
            if asyncio.get_running_loop().time() >= context.deadline:
                raise  # it may have failed for want of time: the model gets no more turns
            if error.called or not isinstance(error, (InvalidError, DeniedError)):  # else it never got there
                self._note(invoker.record)
            told = error.message if isinstance(error, DeniedError) else str(error)  # ways around are for the host
            return f"error [{error.code}]: {_cut(told, ERROR_CHARS_MAX)}"
        self._note(invoker.record)
        return _cut(said, RESULT_CHARS_MAX)

    def _note(self, record: CapabilityRecord) -> None:
        """A tool has spoken: what the model says from now on may come from that."""
        if record.label is not None:
            self._known()[record.label] = None
            self._context.owe((record.label,))

    def _unknown(self, name: str) -> str:
        known = list(self._toolbox.invokers)
        close = get_close_matches(name, known, n=1)
        there = f"close: `{close[0]}`" if close else f"there are {', '.join(known)}"
        return f"error [capability]: no tool `{_cut(name, 80)}` is offered; {there}"


_REFUSED = f"error [limit]: not called, because one turn may ask for at most {TURN_CALLS} calls; ask again if it is still needed"


def _record(name: str, spec: NodeSpec, services: Services) -> CapabilityRecord:
    try:
        record = services.capabilities.get(name)
    except CapabilityError as error:
        raise BindError(f"{where(spec)} offers the tool `{name}`, which is not registered", hint=error.hint) from None
    try:
        return granted(record, services.grants, explicit=True)
    except DeniedError as error:
        text = f"{where(spec)} offers its model a tool that is not granted: {error.message}"
        raise DeniedError(text, hint=error.hint) from None


def _first(failures: BaseExceptionGroup[Any]) -> BaseException:
    """The failure that ended a turn; the other calls were cancelled for it."""
    found: BaseException = failures
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… (cut: {most:,} of {len(text):,} characters)"
