"""QMEM, UMEM, FENCE: what a flow remembers, while it runs and for good. Whatever may block runs on another thread."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from apxm.errors import ApxmError, BindError, InvalidError, LockedError
from apxm.executor.arguments import positions, renderer, where
from apxm.executor.believing import believed, source_of
from apxm.executor.bind import Bound, Kind
from apxm.graph.operation import Effect
from apxm.graph.template import as_text, fill, parse, parse_filled
from apxm.memory.matching import fits
from apxm.memory.run import TIERS
from apxm.outcome import Wait
from apxm.values import settle

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from concurrent.futures import Future

    from apxm.executor.bind import Binder, NodeSpec, Services
    from apxm.executor.context import OpContext
    from apxm.memory.run import RunMemory
    from apxm.memory.stm import Labels

FENCE_S = 0.001  # between two looks at whether everything is written: less than a disk takes


def _declared(spec: NodeSpec, services: Services) -> NodeSpec:
    """The node with the tier that its agent declares for exactly this key, unless it names one itself."""
    tier = services.memories.get(spec.attributes.get("key", ""))
    if tier is None or "memory_tier" in spec.attributes:
        return spec
    return replace(spec, attributes={**spec.attributes, "memory_tier": tier})


def _tier(spec: NodeSpec) -> str:
    tier: str = spec.attributes.get("memory_tier", "stm")
    if tier not in TIERS:
        raise BindError(f"{where(spec)}: there is no memory tier `{tier}`", hint=f"expected {', '.join(TIERS)}")
    return tier


def load_lasting() -> None:
    """Import long-term memory while a program is bound, rather than on the loop when its first run gets there."""
    import apxm.memory.ltm.system  # noqa: F401


def seen_by(context: OpContext) -> RunMemory:
    """The memory of the run as the agent and the flow of this firing see it."""
    flow = context.flow
    return context.run.memory.view(context.agent, None if flow is None else flow.name)


# ---- QMEM ----------------------------------------------------------------------------------------------------------------
def _bind_query(spec: NodeSpec, services: Services) -> Bound:
    spec = _declared(spec, services)
    tier = _tier(spec)
    if tier in ("ltm", "all"):
        load_lasting()
    _check_filter(spec, tier)
    bound = (_read_key if "key" in spec.attributes else _search)(spec, services, tier)
    if "staging_id" not in spec.attributes:
        return bound

    def sources(context: OpContext) -> str:
        return ", ".join(dict.fromkeys((f"memory:{tier}", *context.origins())))

    return believed(spec, bound, f"_stage:{spec.attributes['staging_id']}", sources)


def _check_filter(spec: NodeSpec, tier: str) -> None:
    """BindError for a `where` that could never be asked for."""
    wanted = spec.attributes.get("where")
    try:
        if wanted and tier in ("ltm", "all"):
            from apxm.memory.ltm.where import refuse_unfit

            refuse_unfit(wanted)
        fits({}, wanted)
    except InvalidError as error:
        raise BindError(f"{where(spec)}: {error.message}", hint=error.hint) from error


def _read(services: Services, tier: str, sync: Callable[..., Any], waiting: Callable[..., Any]) -> Bound:
    """A read that may block waits; what lies in this process is read at once."""
    kind, fn = (Kind.ASYNC, waiting) if services.memory_waits(tier) else (Kind.SYNC, sync)
    return Bound(kind, fn, Effect.READ, label=f"memory:{tier}", owns=True)


def _read_key(spec: NodeSpec, services: Services, tier: str) -> Bound:
    key, wanted = renderer(spec, spec.attributes["key"]), spec.attributes.get("where")

    def read(context: OpContext, *inputs: Any) -> Any:
        value, labels = seen_by(context).find_in(tier, key(inputs), wanted)
        context.owe(labels)
        return value

    async def waiting(context: OpContext, *inputs: Any) -> Any:
        value, labels = await find(seen_by(context), tier, key(inputs), wanted)
        context.owe(labels)
        return value

    return _read(services, tier, read, waiting)


async def find(memory: RunMemory, tier: str, key: str, wanted: Any = None) -> tuple[Any, Labels]:
    """`RunMemory.find_in`, without blocking the loop."""
    found = memory.find_at_once(tier, key, wanted)
    return await memory.later(partial(memory.find_in, tier, key, wanted)) if found is None else found


def _search(spec: NodeSpec, services: Services, tier: str) -> Bound:
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
        entries, labels = seen_by(context).search_in(tier, query(inputs), limit, min_score, wanted)
        context.owe(labels)
        return entries

    async def waiting(context: OpContext, *inputs: Any) -> Any:
        memory = seen_by(context)
        search = partial(memory.search_in, tier, query(inputs), limit, min_score, wanted)
        entries, labels = await memory.later(search, "searching")
        context.owe(labels)
        return entries

    return _read(services, tier, read, waiting)


# ---- UMEM ----------------------------------------------------------------------------------------------------------------
def _bind_update(spec: NodeSpec, services: Services) -> Bound:
    spec = _declared(spec, services)
    given, tier = spec.attributes, _tier(spec)
    if tier == "all":
        raise BindError(f"{where(spec)}: tier `all` is for reading", hint="write to `stm`, `ltm` or `episodic`")
    if tier == "episodic" and "ttl_ms" in given:
        raise BindError(f"{where(spec)} has a ttl_ms, but an episode has no end", hint="leave it out, or write to `stm`")
    if tier != "stm" and "scope" in given:
        raise BindError(f"{where(spec)} has a scope, but tier `{tier}` has none", hint="leave it out, or write to `stm`")
    if tier == "ltm" or given.get("durable"):
        load_lasting()
    value, places = _stored(spec)
    if services.memory_waits(tier) or given.get("durable"):
        bound = Bound(Kind.ASYNC, _write_for_good(spec, services, tier, value), Effect.IDEMPOTENT, owns=True)
    else:
        bound = Bound(Kind.SYNC, _write(spec, tier, value), Effect.IDEMPOTENT, owns=True)
    if "belief_key" not in given:
        return bound
    return believed(spec, bound, given["belief_key"], lambda context: source_of(spec, context, places))


def _write(spec: NodeSpec, tier: str, value: Callable[[Sequence[Any]], Any]) -> Callable[..., Any]:
    """Store in this process."""
    key = renderer(spec, spec.attributes["key"])
    ttl_ms, scope = spec.attributes.get("ttl_ms"), spec.attributes.get("scope", "agent")

    def write(context: OpContext, *inputs: Any) -> Any:
        name = key(inputs)
        try:
            if tier == "episodic":
                return seen_by(context).record(name, value(inputs), context.place(), context.origins())
            return seen_by(context).keep(name, value(inputs), ttl_ms, context.origins(), scope)
        except InvalidError as error:
            raise _said(context, error) from error

    return write


def _write_for_good(spec: NodeSpec, services: Services, tier: str, value: Callable[[Sequence[Any]], Any]) -> Callable[..., Any]:
    """Store on disk: in long-term memory, and once that is done in the other tier, if there is one."""
    key = renderer(spec, spec.attributes["key"])
    ttl_ms, scope = spec.attributes.get("ttl_ms"), spec.attributes.get("scope", "agent")
    lasting, waits = tier == "ltm" or spec.attributes.get("durable"), services.memory_waits(tier)

    async def write(context: OpContext, *inputs: Any) -> Any:
        memory, name, stored, labels = seen_by(context), key(inputs), value(inputs), context.origins()
        try:
            if tier == "stm":
                memory.check_scope(scope)
            if lasting:  # what was accepted is written, whether or not the node still waits for it
                await asyncio.wrap_future(memory.submit(name, stored, ttl_ms, labels))
            if tier == "stm":
                memory.keep(name, stored, ttl_ms, labels, scope)
            elif tier == "episodic":
                record = partial(memory.record, name, stored, context.place(), labels)
                _ = await memory.later(record) if waits else record()
        except InvalidError as error:
            raise _said(context, error) from error
        except ApxmError as error:
            raise own(error) from error
        return stored

    return write


def _said(context: OpContext, error: ApxmError) -> InvalidError:
    return InvalidError(f"UMEM `{context.name}`: {error.message}", hint=error.hint)


def own(error: ApxmError) -> ApxmError:
    """The same failure for this node alone: writes that were to be committed together fail with one error."""
    own = type(error)(error.message, code=error.code, hint=error.hint)
    own.called = isinstance(error, LockedError)  # it waited for the owner already: to try again is for the program to decide
    return own


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


# ---- FENCE ---------------------------------------------------------------------------------------------------------------
def _bind_fence(spec: NodeSpec, services: Services) -> Bound:
    def passed(context: OpContext, *inputs: Any) -> Any:
        """A UMEM is done when its write is. What may be left are episodes, and what capabilities wrote."""
        value = inputs[0] if inputs else None
        waiting = context.run.memory.fence()
        return _once_written(waiting, value) if waiting else value

    return Bound(Kind.SYNC, passed, Effect.IDEMPOTENT, owns=True)


def _once_written(waiting: Sequence[Future[Any]], value: Any) -> Wait:
    """Look again and again: a run with nothing to wait for needs no loop for its fences then."""

    def look() -> Any:
        if not all(one.done() for one in waiting):
            return Wait(FENCE_S, look)
        for one in waiting:
            one.result()
        return value

    return Wait(FENCE_S, look)


BINDERS: dict[str, Binder] = {"QMEM": _bind_query, "UMEM": _bind_update, "FENCE": _bind_fence}
