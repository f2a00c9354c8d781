"""QMEM, UMEM, FENCE: what a flow remembers while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.errors import BindError, InvalidError
from apxm.executor.arguments import positions, renderer, where
from apxm.executor.bind import Bound, Kind
from apxm.graph.operation import Effect
from apxm.graph.template import as_text, fill, parse, parse_filled
from apxm.memory.matching import fits
from apxm.memory.system import tier_refusal
from apxm.values import settle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apxm.executor.bind import Binder, NodeSpec, Services
    from apxm.executor.context import OpContext


def _refuse_tier(spec: NodeSpec) -> None:
    reason = tier_refusal(spec.attributes.get("memory_tier", "stm"))
    if reason is not None:
        raise BindError(f"{where(spec)}: {reason}")


def _bind_query(spec: NodeSpec, services: Services) -> Bound:
    # `staging_id` names a belief that would hold the result too. Graphs of the reference must give one, and nothing reads
    # beliefs before the agent machine exists: it is accepted, and there is nothing to do for it yet.
    _refuse_tier(spec)
    read = _read_key(spec) if "key" in spec.attributes else _search(spec)
    return Bound(Kind.SYNC, read, Effect.READ, label="memory:stm", owns=True)


def _read_key(spec: NodeSpec) -> Callable[..., Any]:
    key = renderer(spec, spec.attributes["key"])
    wanted = spec.attributes.get("where")

    def read(context: OpContext, *inputs: Any) -> Any:
        value = context.run.memory.view(context.agent).find(key(inputs))
        return value if fits(value, wanted) else None

    return read


def _search(spec: NodeSpec) -> Callable[..., Any]:
    given = spec.attributes
    if "query" in given:
        query = renderer(spec, given["query"])
    elif spec.inputs:

        def query(inputs: Sequence[Any]) -> str:
            return as_text(inputs[0])
    else:
        raise BindError(f"{where(spec)} has neither a key nor a query nor an input", hint="give it `key` or `query`")
    limit, min_score, wanted = given.get("limit", 10), given.get("min_score", 0.0), given.get("where")

    def read(context: OpContext, *inputs: Any) -> Any:
        memory = context.run.memory.view(context.agent)
        return memory.search(query(inputs), limit=limit, min_score=min_score, where=wanted)

    return read


def _bind_update(spec: NodeSpec, services: Services) -> Bound:
    _refuse_tier(spec)
    given = spec.attributes
    if given.get("durable"):
        raise BindError(f"{where(spec)} is durable, which comes with the long-term memory", hint="leave out `durable`")
    if "belief_key" in given:
        raise BindError(f"{where(spec)} sets a belief, which comes with the agent machine", hint="leave out `belief_key`")
    key, value, ttl_ms = renderer(spec, given["key"]), _stored(spec), given.get("ttl_ms")

    def write(context: OpContext, *inputs: Any) -> Any:
        name = key(inputs)
        try:
            return context.run.memory.view(context.agent).keep(name, value(inputs), ttl_ms)
        except InvalidError as error:
            raise InvalidError(f"UMEM `{context.name}`: {error}") from error

    return Bound(Kind.SYNC, write, Effect.IDEMPOTENT, owns=True)


def _stored(spec: NodeSpec) -> Callable[[Sequence[Any]], Any]:
    """What a UMEM stores: the first input that no placeholder uses, else its attribute `value`."""
    key = positions(spec, parse(spec.attributes["key"]))
    given = spec.attributes.get("value")
    filled = positions(spec, parse_filled(given)) if given is not None else {}
    taken = {*key.values(), *filled.values()}
    free = next((at for at in range(len(spec.inputs)) if at not in taken), None)
    if free is not None:
        return lambda inputs: inputs[free]
    if "value" not in spec.attributes:
        raise BindError(f"{where(spec)} has nothing to store", hint="add a Data edge into it, or give it `value`")
    if not filled:
        constant = settle(given, where=f"{where(spec)}, attribute `value`")
        return lambda inputs: constant
    return lambda inputs: fill(given, lambda part: inputs[filled[part]])


def _bind_fence(spec: NodeSpec, services: Services) -> Bound:
    def passed(context: OpContext, *inputs: Any) -> Any:
        """Writes to short-term memory are visible when they return: the edges of the fence order everything."""
        return inputs[0] if inputs else None

    return Bound(Kind.SYNC, passed, Effect.IDEMPOTENT, owns=True)


BINDERS: dict[str, Binder] = {"QMEM": _bind_query, "UMEM": _bind_update, "FENCE": _bind_fence}
