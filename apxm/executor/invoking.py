"""Calling one capability for a node: an INV, a tool of a model, a tool of somebody else's server. The stages are stages.py's."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from apxm.capability.policy import CALL
from apxm.capability.stages import perform, place_by_name
from apxm.executor.reporting import report, said_chunk, said_to_tool
from apxm.graph.operation import Effect
from apxm.observability.events import Chunk, NodeRetried
from apxm.values import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from apxm.budget import Reservation
    from apxm.capability.record import CapabilityRecord
    from apxm.capability.signature import Placed
    from apxm.capability.stages import Prepared
    from apxm.errors import ApxmError
    from apxm.executor.call import Call
    from apxm.executor.context import OpContext

RETRIES = 2  # of a call that may be repeated, when the node does not say
CHUNKS_TOLD = 1_000  # events of one call; those who want to see more of it have its value


class Invoker:
    """A granted capability as one node calls it. Keeps nothing of a call, so that calls may overlap.

    `timeout_ms` limits one attempt further than the record does. `retries` is how often a call that may be repeated is: by
    default twice, and not at all when it is guarded, whose key or reconcile hook would allow it.
    """

    def __init__(self, record: CapabilityRecord, *, timeout_ms: float | None = None, retries: int | None = None) -> None:
        limits = [each for each in (record.timeout_ms, timeout_ms) if each is not None]
        self.record = record
        self.timeout_s = min(limits) / 1e3 if limits else None
        self.retries = (RETRIES if record.harmless else 0) if retries is None else retries

    async def call(self, context: OpContext, arguments: Mapping[str, Any], sources: Sequence[str] = (), *, index: int = 0) -> Any:
        """By name; closed schema; all stages; the ApxmError of whatever refused or failed.

        `sources` says where the arguments come from, all of them. `index` tells the calls of one firing apart: without it
        two calls with the same arguments have the same idempotency key, and count as one.
        """
        return await perform(context.run.capabilities, self.record, _ByName(self, context, arguments, sources, index))

    async def fire(self, context: OpContext, call: Call, inputs: Sequence[Any]) -> Any:
        """The same with arguments that a node places: see Call."""
        return await perform(context.run.capabilities, self.record, _Placing(self, context, call, inputs))


class _Client:
    """A node as a client of the capability system: what it brings along is looked up in its context."""

    __slots__ = ("context", "invoker")

    def __init__(self, invoker: Invoker, context: OpContext) -> None:
        self.invoker, self.context = invoker, context

    @property
    def where(self) -> str:
        return f"{self.context.op} `{self.context.name}`: capability `{self.invoker.record.name}`"

    @property
    def run(self) -> str:
        return self.context.run.run_id

    @property
    def agent(self) -> str:
        return self.context.agent

    @property
    def node(self) -> str:
        return self.context.name

    @property
    def timeout_s(self) -> float | None:
        return self.invoker.timeout_s

    @property
    def retries(self) -> int:
        return self.invoker.retries

    @property
    def deadline(self) -> float:
        return self.context.deadline

    @property
    def until(self) -> float:
        """A limit of this node, not of the run."""
        deadline = self.context.deadline
        return deadline if deadline < self.context.run.deadline else inf

    def trusts(self, label: str, capability: str) -> bool:
        return self.context.run.trust.allows(label, capability)

    def key(self, arguments: Mapping[str, Any]) -> str:
        context = self.context
        path = [[node, step] for node, step in context.path]
        named = [context.run.run_id, path, context.node, context.plan_digest(), self.invoker.record.name, dict(arguments)]
        return digest([*named, self.index]).hex()

    @property
    def index(self) -> int:
        return 0

    def reserve(self) -> Reservation | None:
        return self.context.run.ledger.reserve(tool_calls=1)

    def spend(self) -> None:
        self.context.run.ledger.take_tool_call()

    def permit(self) -> bool:
        return self.context.run.retry_permit()

    def announce(self, attempt: int, seconds: float, error: ApxmError) -> None:
        context = self.context
        if context.run.heard:
            context.run.publish(NodeRetried(context.path, context.node, attempt, seconds, str(error)))

    def tell(self, began: float, error: BaseException | None, said: Prepared, value: Any, details: dict[str, Any] | None) -> None:
        context = self.context
        run, record = context.run, self.invoker.record
        recorded = record.effect is not Effect.PURE
        if run.heard or (recorded and run.noted):
            content = said_to_tool(said[0], dict(said[1]), value) if run.content and error is None else None
            about = (context, "capability", record.name, began, error)
            report(*about, details=details, content=content, recorded=recorded, label=record.label)

    def chunk(self) -> Callable[[int, Any], None] | None:
        context = self.context
        if not context.run.heard:
            return None
        path, name = context.path, self.invoker.record.name

        def tell(index: int, value: Any) -> None:
            if index < CHUNKS_TOLD:
                said = said_chunk(value) if context.run.tells_content else None
                context.run.publish(Chunk(path, context.node, name, index, said))

        return tell


class _ByName(_Client):
    """Arguments by name, all of one origin."""

    __slots__ = ("arguments", "number", "sources")

    def __init__(
        self, invoker: Invoker, context: OpContext, arguments: Mapping[str, Any], sources: Sequence[str], number: int
    ) -> None:
        super().__init__(invoker, context)
        self.arguments, self.sources, self.number = arguments, tuple(sources), number

    @property
    def index(self) -> int:
        return self.number

    def placed(self) -> Placed[Any]:
        return place_by_name(self.invoker.record, self.arguments, self.where)

    def prepared(self) -> Prepared:
        placed = self.placed()
        self.invoker.record.signature.verify(placed, self.where)
        return placed.args, placed.kwargs

    def labels(self) -> dict[str, tuple[str, ...]]:
        return dict.fromkeys(self.arguments or (CALL,), self.sources)


class _Placing(_Client):
    """The inputs of a node, placed by a Call."""

    __slots__ = ("call", "inputs")

    def __init__(self, invoker: Invoker, context: OpContext, call: Call, inputs: Sequence[Any]) -> None:
        super().__init__(invoker, context)
        self.call, self.inputs = call, inputs

    def placed(self) -> Placed[Any]:
        return self.call.placed(self.inputs)

    def prepared(self) -> Prepared:
        return self.call.arguments(self.inputs)

    def labels(self) -> dict[str, tuple[str, ...]]:
        return labels_of(self.call, self.context)


def labels_of(call: Call, context: OpContext) -> dict[str, tuple[str, ...]]:
    """For every argument of a call where it came from: its inputs, and the plan that its constants are part of.

    Of a call without arguments, whose plan it is part of: a model that makes it needs no text to do harm.
    """
    taint, inputs = context.taint(), context.sources() if any(call.origins.values()) else []
    if not call.origins:
        return {CALL: taint}
    return {
        name: tuple(dict.fromkeys((*taint, *(label for position in positions for label in inputs[position]))))
        for name, positions in call.origins.items()
    }
