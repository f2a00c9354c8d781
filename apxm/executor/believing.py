"""How operations change what an agent believes: with where the value came from, and a label that says which node did it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from apxm.aam.beliefs import NODE, PROGRAM, Belief
from apxm.errors import BindError, InvalidError
from apxm.executor.arguments import where
from apxm.executor.bind import Bound, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from apxm.executor.bind import NodeSpec
    from apxm.executor.context import OpContext


def label_of(context: OpContext) -> str:
    """How transitions name the node that made them."""
    return f"{context.op} `{context.name}`"


def source_of(spec: NodeSpec, context: OpContext, places: Collection[int]) -> str:
    """Where a value that was made of these inputs came from: their provenance, else the nodes they are from.

    A value made of no input is the node's own: it comes from the program, or from the model that planned it.
    """
    if not places:
        return ", ".join(context.taint()) or PROGRAM
    sources = context.sources()
    labels = dict.fromkeys(label for at in places if at < len(sources) for label in sources[at])
    return ", ".join(labels or dict.fromkeys(f"{NODE}{spec.inputs[at].source.replace(',', ' ')}`" for at in places))


def drawn_from(own: str, context: OpContext, *, told: bool) -> str:
    """Where a conclusion of a model came from: the model (`own`), what it was given, and what it was `told` of beliefs."""
    labels = dict.fromkeys((own, *context.taint(), *(label for one in context.sources() for label in one)))
    held = context.run.machine(context.agent).beliefs().values() if told else ()
    return ", ".join(labels | dict.fromkeys(label for belief in held for label in belief.labels))


def believed(spec: NodeSpec, bound: Bound, key: str, sources: Callable[[OpContext], str]) -> Bound:
    """A handler whose result the agent believes too, under `key`. BindError when that is no key."""
    fn = bound.fn
    try:
        Belief(key, None)
    except InvalidError as error:
        raise BindError(f"{where(spec)}: {error.message}") from error

    def believe(context: OpContext, value: Any) -> Any:
        context.run.machine(context.agent).believe(key, value, source=sources(context), label=label_of(context))
        return value

    def sync(context: OpContext, *inputs: Any) -> Any:
        return believe(context, fn(context, *inputs))

    async def waiting(context: OpContext, *inputs: Any) -> Any:
        return believe(context, await fn(context, *inputs))

    assert bound.kind in (Kind.SYNC, Kind.ASYNC)
    return replace(bound, fn=waiting if bound.kind is Kind.ASYNC else sync)
