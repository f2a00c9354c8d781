"""QMEM, UMEM, FENCE: what a flow remembers while it runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from apxm.errors import BindError, InvalidError
from apxm.executor.arguments import positions, renderer, where
from apxm.executor.believing import believed, source_of
from apxm.executor.bind import Bound, Kind
from apxm.graph.operation import Effect
from apxm.graph.template import as_text, fill, parse, parse_filled
from apxm.memory.system import LATER, tier_refusal
from apxm.values import settle

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from apxm.executor.bind import Binder, NodeSpec, Services
    from apxm.executor.context import OpContext


def _declared(spec: NodeSpec, services: Services) -> NodeSpec:
    """The node with the tier that its agent declares for exactly this key, unless it names one itself."""
    tier = services.memories.get(spec.attributes.get("key", ""))
    if tier is None or "memory_tier" in spec.attributes:
        return spec
    return replace(spec, attributes={**spec.attributes, "memory_tier": tier})


def _refuse_tier(spec: NodeSpec) -> None:
    reason = tier_refusal(spec.attributes.get("memory_tier", "stm"))
    if reason is not None:
        raise BindError(f"{where(spec)}: {reason}")


def _bind_query(spec: NodeSpec, services: Services) -> Bound:
    spec = _declared(spec, services)
    _refuse_tier(spec)
    read = _read_key(spec) if "key" in spec.attributes else _search(spec)
    tier = spec.attributes.get("memory_tier", "stm")
    bound = Bound(Kind.SYNC, read, Effect.READ, label=f"memory:{tier}", owns=True)
    if "staging_id" not in spec.attributes:
        return bound

    def sources(context: OpContext) -> str:
        return ", ".join(dict.fromkeys((f"memory:{tier}", *context.origins())))

    return believed(spec, bound, f"_stage:{spec.attributes['staging_id']}", sources)


def _read_key(spec: NodeSpec) -> Callable[..., Any]:
    key = renderer(spec, spec.attributes["key"])
    wanted, tier = spec.attributes.get("where"), spec.attributes.get("memory_tier", "stm")

    def read(context: OpContext, *inputs: Any) -> Any:
        memory = context.run.memory.view(context.agent)
        value, labels = memory.find_in(tier, key(inputs), wanted)
        context.owe(labels)
        return value

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
    tier = given.get("memory_tier", "stm")

    def read(context: OpContext, *inputs: Any) -> Any:
        memory = context.run.memory.view(context.agent)
        entries, labels = memory.search_in(tier, query(inputs), limit, min_score, wanted)
        context.owe(labels)
        return entries

    return read


def _bind_update(spec: NodeSpec, services: Services) -> Bound:
    spec = _declared(spec, services)
    _refuse_tier(spec)
    given = spec.attributes
    if given.get("durable"):
        raise BindError(f"{where(spec)} is durable, which {LATER['ltm']}", hint="leave out `durable`")
    key, (value, places), ttl_ms = renderer(spec, given["key"]), _stored(spec), given.get("ttl_ms")
    if given.get("memory_tier") == "episodic" and ttl_ms is not None:
        raise BindError(f"{where(spec)} has a ttl_ms, but an episode has no end", hint="leave it out, or write to `stm`")
    recorded = given.get("memory_tier") == "episodic"

    def write(context: OpContext, *inputs: Any) -> Any:
        name = key(inputs)
        try:
            memory = context.run.memory.view(context.agent)
            if recorded:
                return memory.record(name, value(inputs), context.place(), context.origins())
            return memory.keep(name, value(inputs), ttl_ms, context.origins())
        except InvalidError as error:
            raise InvalidError(f"UMEM `{context.name}`: {error}") from error

    bound = Bound(Kind.SYNC, write, Effect.IDEMPOTENT, owns=True)
    if "belief_key" not in given:
        return bound
    return believed(spec, bound, given["belief_key"], lambda context: source_of(spec, context, places))


def _stored(spec: NodeSpec) -> tuple[Callable[[Sequence[Any]], Any], Collection[int]]:
    """What a UMEM stores: the first input that no placeholder uses, else its attribute `value`; and the inputs it is made of."""
    key = positions(spec, parse(spec.attributes["key"]))
    given = spec.attributes.get("value")
    filled = positions(spec, parse_filled(given)) if given is not None else {}
    taken = {*key.values(), *filled.values()}
    free = next((at for at in range(len(spec.inputs)) if at not in taken), None)
    if free is not None:
        return lambda inputs: inputs[free], (free,)
    if "value" not in spec.attributes:
        raise BindError(f"{where(spec)} has nothing to store", hint="add a Data edge into it, or give it `value`")
    if not filled:
        constant = settle(given, where=f"{where(spec)}, attribute `value`")
        return lambda inputs: constant, ()
    return lambda inputs: fill(given, lambda part: inputs[filled[part]]), sorted(set(filled.values()))


def _bind_fence(spec: NodeSpec, services: Services) -> Bound:
    def passed(context: OpContext, *inputs: Any) -> Any:
        """Writes to short-term memory are visible when they return: the edges of the fence order everything."""
        return inputs[0] if inputs else None

    return Bound(Kind.SYNC, passed, Effect.IDEMPOTENT, owns=True)


BINDERS: dict[str, Binder] = {"QMEM": _bind_query, "UMEM": _bind_update, "FENCE": _bind_fence}
