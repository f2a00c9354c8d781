"""A valid graph in canonical form becomes a draft that can be emitted: folded into regions, with its exits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.compiler.draft import Draft, draft_of
from apxm.compiler.loops import fold_loop
from apxm.compiler.tries import fold_try
from apxm.errors import CompileError
from apxm.graph.model import Dependency, Edge

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


def put_agent_first(draft: Draft) -> None:
    """Let everything in a flow wait for its AGENT: an Effect edge to each step that waits for no other step.

    The last thing done to a draft, as a pass may make a step the first of its flow. A RETURN, which takes only Data, needs
    none: it lets effects finish that are ready.
    """
    agent = next((id for id, step in draft.steps.items() if step.op.name == "AGENT"), None)
    if agent is None:
        return
    waiting = {edge.target for edge in draft.edges if isinstance(edge.source, int)}
    waiting |= {id for id, step in draft.steps.items() if step.op.name == "RETURN"}
    draft.edges += [Edge(agent, id, Dependency.EFFECT) for id in draft.steps if id != agent and id not in waiting]


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
    ends = [id for id in draft.steps if not outs[id]]
    return [id for id in ends if draft.steps[id].op.name != "AGENT"] or ends  # an AGENT alone in its flow


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
