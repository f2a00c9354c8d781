"""A valid graph in canonical form becomes a draft that can be emitted: folded into regions, with its exits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.compiler.draft import Draft, draft_of
from apxm.compiler.loops import fold_loop
from apxm.compiler.tries import fold_try
from apxm.errors import CompileError

if TYPE_CHECKING:
    from apxm.graph.model import Graph

_HEADS = ("LOOP_START", "TRY_CATCH")


def lower(graph: Graph) -> Draft:
    """The draft of a graph that `require_valid` has given."""
    draft = draft_of(graph)
    for inner in list(draft.walk()):
        _fold(inner)
    for inner in draft.walk():
        if inner.exits is None:
            inner.exits = _exits(inner)
        _check_exit_names(inner)
    return draft


def _fold(draft: Draft) -> None:
    """Fold what is written as several nodes into one with regions; inner ones first, which come later in the order."""
    if all(step.op.name not in _HEADS for step in draft.steps.values()):
        return
    heads = [id for id in draft.order() if draft.steps[id].op.name in _HEADS]
    for id in reversed(heads):
        step = draft.steps[id]
        if step.op.name == "LOOP_START":
            fold_loop(draft, step)
        else:
            fold_try(draft, step)


def _exits(draft: Draft) -> list[int]:
    """The steps whose values are the outputs: those that are named, else every RETURN, else every step without an out-edge."""
    if "exits" in draft.metadata:
        return [_named(draft, name) for name in draft.metadata["exits"]]
    returns = [id for id, step in draft.steps.items() if step.op.name == "RETURN"]
    if returns:
        return returns
    outs = draft.outs()
    return [id for id in draft.steps if not outs[id]]


def _named(draft: Draft, name: str | int) -> int:
    for id, step in draft.steps.items():
        if name in (step.name, id):
            return id
    raise CompileError(
        f"`{draft.name}`: the exit `{name}` lies in the part of a TRY_CATCH or the body of a loop",
        hint="name the node that holds it",
    )


def _check_exit_names(draft: Draft) -> None:
    seen: dict[str, int] = {}
    for id in draft.exits or ():
        step = draft.steps[id]
        if seen.setdefault(step.name, id) != id and step.op.name != "RETURN":
            raise CompileError(f"`{draft.name}`: nodes {seen[step.name]} and {id} are both exits named `{step.name}`")
