"""AGENT and UPDATE_GOAL: what the agent of a flow has at the start, and what it wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.aam.declaration import Declaration
from apxm.aam.goals import Goal
from apxm.errors import BindError
from apxm.executor.arguments import positions, renderer, where
from apxm.executor.believing import label_of
from apxm.executor.bind import Bound, Kind
from apxm.graph.operation import Effect
from apxm.graph.template import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apxm.executor.bind import Binder, NodeSpec, Services
    from apxm.executor.context import OpContext

_MISSING: Any = object()


def _bind_agent(spec: NodeSpec, services: Services) -> Bound:
    """What is declared takes effect once in a run, however often the flow is called. Grants are the binding's affair."""
    said = Declaration.parse(spec.attributes, where(spec))

    def declare(context: OpContext) -> None:
        machine = context.run.machine(context.agent)
        if machine.declare(said, by=spec.flow, label=label_of(context)) and said.values:
            memory = context.run.memory.view(context.agent)
            for key, value in said.values.items():
                if memory.get(key, _MISSING) is _MISSING:
                    memory.keep(key, value)

    return Bound(Kind.SYNC, declare, Effect.IDEMPOTENT, owns=True)


def _bind_goal(spec: NodeSpec, services: Services) -> Bound:
    action = spec.attributes.get("action", "set")
    if action == "clear":
        return Bound(Kind.SYNC, _clear, Effect.IDEMPOTENT, owns=True)
    if "goal_id" not in spec.attributes:
        raise BindError(f"{where(spec)} does not say which goal to {action}", hint="give it `goal_id`; only `clear` needs none")
    goal_id = renderer(spec, spec.attributes["goal_id"])
    if action == "set":
        return Bound(Kind.SYNC, _setting(spec, goal_id), Effect.IDEMPOTENT, owns=True)

    def change(context: OpContext, *inputs: Any) -> str:
        machine, id = context.run.machine(context.agent), goal_id(inputs)
        if action == "complete":
            return "completed" if machine.complete_goal(id, label=label_of(context)) else "not_found"
        return "removed" if machine.remove_goal(id, label=label_of(context)) else "not_found"

    return Bound(Kind.SYNC, change, Effect.IDEMPOTENT, owns=True)


def _clear(context: OpContext, *inputs: Any) -> str:
    context.run.machine(context.agent).clear_goals(label=label_of(context))
    return "cleared"


def _setting(spec: NodeSpec, goal_id: Callable[[Sequence[Any]], str]) -> Callable[..., str]:
    """The description is the attribute, else the first input that `goal_id` does not use, if it is text, else the id."""
    priority = spec.attributes.get("priority", 1)
    given = renderer(spec, spec.attributes["description"]) if "description" in spec.attributes else None
    taken = set(positions(spec, parse(spec.attributes["goal_id"])).values())
    free = next((at for at in range(len(spec.inputs)) if at not in taken), None)

    def set_goal(context: OpContext, *inputs: Any) -> str:
        id = goal_id(inputs)
        said = given(inputs) if given is not None else inputs[free] if free is not None else None
        goal = Goal(id, said if isinstance(said, str) else id, priority)
        context.run.machine(context.agent).set_goal(goal, label=label_of(context))
        return "set"

    return set_goal


BINDERS: dict[str, Binder] = {"AGENT": _bind_agent, "UPDATE_GOAL": _bind_goal}
