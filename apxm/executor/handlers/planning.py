"""REASON and PLAN: a model says what it concludes or how a goal is reached, and may give a graph that is run in its place."""

from __future__ import annotations

import asyncio
import json
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from apxm.aam.beliefs import KEY_CHARS_MAX
from apxm.aam.goals import ID_CHARS_MAX, Goal
from apxm.aam.machine import BELIEFS_MAX, GOALS_MAX
from apxm.errors import ApxmError, BindError, InvalidError, PlanError
from apxm.executor.arguments import shown, where
from apxm.executor.asking import Asker, prompt_renderer, setting
from apxm.executor.believing import drawn_from, label_of
from apxm.executor.bind import Bound, Kind
from apxm.executor.handlers.memory import find, load_lasting, own, seen_by
from apxm.executor.inner import InnerPlans
from apxm.executor.plan_text import refusal
from apxm.graph.operation import Effect
from apxm.graph.template import as_text
from apxm.llm.base import Message
from apxm.llm.fencing import fence
from apxm.llm.prompts import built_in
from apxm.llm.structured import OutputSchema

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from apxm.aam.machine import Machine
    from apxm.executor.bind import Binder, NodeSpec, Services
    from apxm.executor.context import OpContext
    from apxm.executor.inner import Plan

STEPS_MAX, UPDATES_MAX = 200, 100  # steps of a plan; beliefs and goals of one answer
PRIORITY = 50  # of a goal of a REASON that has none: the middle of the reference's 0 to 100

_TEXT = {"type": "string", "minLength": 1}
_COUNT = {"type": "integer", "minimum": 0}
_INNER = {"inner_plan": {"type": ["object", "string", "null"]}}


def _map(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


# ---- what both share -----------------------------------------------------------------------------------------------------
class _Planner:
    """A node that asks a model for a map in which there may be an inner plan."""

    def __init__(self, spec: NodeSpec, services: Services, schema: OutputSchema, inner: InnerPlans, system: str) -> None:
        repairs = setting(spec, "max_schema_retries")
        self.asker = Asker(spec, services, system=system, schema=schema, repairs=repairs)
        self.inner = inner

    async def ask(self, context: OpContext, user: str, inputs: Sequence[Any]) -> tuple[dict[str, Any], Plan | None]:
        """The answer, and the plan in it, checked. One repair round for a plan that is refused, then PlanError."""
        messages, spending = self.asker.messages(user), self.asker.spending()
        if not self.inner.enabled:
            return await self.asker.answer(context, messages, spending), None
        self.inner.admit(context)
        messages = _told(messages, self.inner.guide(context))
        answer = await self.asker.answer(context, messages, spending)
        try:
            return answer, self._plan_in(context, answer, inputs)
        except PlanError as error:
            messages += [Message("assistant", json.dumps(answer, ensure_ascii=False)), Message("user", refusal(error.problems))]
        answer = await self.asker.answer(context, messages, spending)
        return answer, self._plan_in(context, answer, inputs)

    def _plan_in(self, context: OpContext, answer: dict[str, Any], inputs: Sequence[Any]) -> Plan | None:
        given = answer.get("inner_plan")
        return None if given is None or given == "" else self.inner.check(context, given, inputs)


def _told(messages: list[Message], more: str) -> list[Message]:
    """The turns of a conversation, with more at the end of the system prompt."""
    if messages[0].role == "system":
        return [Message("system", f"{messages[0].content}\n\n{more}"), *messages[1:]]
    return [Message("system", more), *messages]


def _knows(spec: NodeSpec) -> Callable[[OpContext], Awaitable[list[str]]]:
    """What gives what memory has under the `context_key`, as a part of the prompt; nothing when it has nothing."""
    key: str | None = spec.attributes.get("context_key")
    if key is not None:
        load_lasting()

    async def known(context: OpContext) -> list[str]:
        value, labels = (None, ()) if key is None else await find(seen_by(context), "all", key)
        if value is None:
            return []
        context.owe(("memory:all", *labels))
        return [f"What is remembered as `{key}`:\n{fence('memory', as_text(value))}"]

    return known


# ---- REASON --------------------------------------------------------------------------------------------------------------
def bind_reason(spec: NodeSpec, services: Services) -> Bound:
    """Resolve the model, compile the schema of its answer; a firing asks, then believes, wants and plans all of it or nothing."""
    inner = InnerPlans(spec, services)
    planner = _Planner(spec, services, _reason_schema(spec, inner), inner, built_in.REASON)
    render, known = prompt_renderer(spec, setting(spec, "template_str")), _knows(spec)
    source, durable = planner.asker.label, setting(spec, "durable")
    if durable:
        load_lasting()

    async def reason(context: OpContext, *inputs: Any) -> Any:
        asked = [render(inputs), *await known(context)]
        answer, plan = await planner.ask(context, "\n\n".join(asked), inputs)
        machine = context.run.machine(context.agent)
        beliefs = {key: _belief(given) for key, given in answer.get("belief_updates", {}).items()}
        goals = [_goal(given) for given in answer.get("new_goals", ())]
        _refuse_too_many(machine, beliefs, goals)
        outcome = answer["result"] if plan is None else inner.splice(context, plan, answer["result"])
        if durable and beliefs:
            await _store(context, beliefs)
            _refuse_too_many(machine, beliefs, goals)  # meanwhile others may have taken the room
        drawn, label = drawn_from(source, context, told=planner.asker.offers_agent), label_of(context)
        for key, (value, confidence) in beliefs.items():
            machine.believe(key, value, source=drawn, confidence=confidence, label=label)
        for goal in goals:
            machine.set_goal(goal, label=label)
        return outcome

    return Bound(Kind.ASYNC, reason, Effect.PAID, label=source)


def _reason_schema(spec: NodeSpec, inner: InnerPlans) -> OutputSchema:
    result = spec.attributes.get("output_schema", {})
    sure = {"properties": {"confidence": {"type": "number", "minimum": 0, "maximum": 1}}}
    belief = {"if": {"type": "object", "required": ["value", "confidence"], "maxProperties": 2}, "then": sure}
    key = {"minLength": 1, "maxLength": KEY_CHARS_MAX}
    name = {**_TEXT, "maxLength": ID_CHARS_MAX}
    goal = _map({"id": name, "description": _TEXT, "priority": _COUNT, "parent": name}, "description")
    properties = {
        "belief_updates": {
            "type": "object",
            "propertyNames": key,
            "additionalProperties": belief,
            "maxProperties": UPDATES_MAX,
        },
        "new_goals": {"type": "array", "items": goal, "maxItems": UPDATES_MAX},
        **(_INNER if inner.enabled else {}),
        "result": {"$id": "urn:apxm:result", **result} if result else {},  # references inside of it stay references into it
    }
    try:
        return OutputSchema(_map(properties, "result"))
    except InvalidError as error:
        raise BindError(f"{where(spec)}: {error}") from error


def _belief(given: Any) -> tuple[Any, float]:
    """Value and confidence of a belief: `{value, confidence}`, or a value that is held for certain."""
    if isinstance(given, dict) and given.keys() == {"value", "confidence"}:
        return given["value"], given["confidence"]
    return given, 1.0


async def _store(context: OpContext, beliefs: dict[str, tuple[Any, float]]) -> None:
    """Store beliefs for good, all or none, with the model and all that it was shown as their labels."""
    memory, labels = seen_by(context), context.origins()
    puts = [
        memory.lasting(key, value, None, labels, metadata={"confidence": confidence})
        for key, (value, confidence) in beliefs.items()
    ]
    try:
        await asyncio.wrap_future(memory.submit_all(puts))
    except ApxmError as error:
        error = own(error)
        error.called = True  # the model was paid: it is not asked once more for this
        raise error from error.__cause__


def _goal(given: dict[str, Any]) -> Goal:
    text = given["description"]
    id = given.get("id", text[:ID_CHARS_MAX])  # said again it is the same goal
    return Goal(id, text, int(given.get("priority", PRIORITY)), parent=given.get("parent"))  # 5.0 is an integer to a schema


def _refuse_too_many(machine: Machine, beliefs: dict[str, Any], goals: Sequence[Goal]) -> None:
    """All or nothing: the machine has room for everything, or gets none of it."""
    for what, new, known, most in (
        ("beliefs", set(beliefs), machine.beliefs(), BELIEFS_MAX),
        ("goals", {goal.id for goal in goals}, {goal.id for goal in machine.goals()}, GOALS_MAX),
    ):
        if len(new.union(known)) > most:
            raise InvalidError(f"agent `{machine.agent}` would hold more than {most:,} {what}", hint="forget some first")


# ---- PLAN ----------------------------------------------------------------------------------------------------------------
def bind_plan(spec: NodeSpec, services: Services) -> Bound:
    """Resolve the model, parse the goal; a firing asks for steps, and for a graph of them when inner plans are enabled."""
    inner = InnerPlans(spec, services)
    planner = _Planner(spec, services, _Steps(inner), inner, built_in.PLAN)
    goal, constraints = prompt_renderer(spec, spec.attributes.get("goal", "")), _constraints(spec)
    known = _knows(spec)

    async def plan(context: OpContext, *inputs: Any) -> Any:
        asked = [f"Goal: {goal(inputs)}", *constraints, *await known(context)]
        answer, found = await planner.ask(context, "\n\n".join(asked), inputs)
        steps, after = answer["plan"], dependencies(answer["plan"])[0]
        rows = [(step["description"], step.get("priority", 0), before) for step, before in zip(steps, after)]
        value = {"plan": [dict(zip(_ROW, row)) for row in rows], "result": answer["result"]}
        return value if found is None else inner.splice(context, found, value)

    return Bound(Kind.ASYNC, plan, Effect.PAID, label=planner.asker.label)


_ROW = ("description", "priority", "dependencies")


class _Steps(OutputSchema):
    """The schema of a PLAN's answer, which also looks at what the steps say of each other."""

    __slots__ = ()

    def __init__(self, inner: InnerPlans) -> None:
        names = {"type": "array", "items": {"type": ["integer", "string"]}}
        step = {"id": {"type": ["integer", "string"]}, "description": _TEXT, "priority": _COUNT, "dependencies": names}
        steps = {"type": "array", "items": _map(step, "description"), "minItems": 1, "maxItems": STEPS_MAX}
        super().__init__(_map({"plan": steps, **(_INNER if inner.enabled else {}), "result": {}}, "plan", "result"))

    def violations(self, value: Any) -> list[str]:
        return super().violations(value) or dependencies(value["plan"])[1]


def dependencies(steps: Sequence[dict[str, Any]]) -> tuple[list[list[int]], list[str]]:
    """For every step the positions of those it depends on, and what is wrong with what the steps say of them.

    A step is named by its `id`, by its description, or, where no step has that id, by its position from 0.
    """
    ids = [step.get("id") for step in steps]
    wrong = [
        f'at ["plan"][{at}]: the id {id!r} is that of another step'
        for at, id in enumerate(ids)
        if id in ids[:at] and id is not None
    ]
    names: dict[int | str, int] = {}
    for known in (range(len(steps)), (step["description"] for step in steps), ids):
        names.update((name, at) for at, name in enumerate(known) if name is not None)
    found = []
    for at, step in enumerate(steps):
        after = step.get("dependencies", [])
        wrong += [f'at ["plan"][{at}]["dependencies"]: there is no step {name!r}' for name in after if name not in names]
        found.append(sorted({names[name] for name in after if name in names}))
    try:
        TopologicalSorter(dict(enumerate(found))).prepare()
    except CycleError as error:
        wrong.append(f"the steps {', '.join(map(str, error.args[1]))} depend on each other in a circle")
    return found, wrong


def _constraints(spec: NodeSpec) -> list[str]:
    """What a plan must respect, as a part of the prompt."""
    given = spec.attributes.get("constraints")
    texts = given if isinstance(given, list) else [] if given is None else [given]
    if not all(isinstance(text, str) for text in texts):
        raise BindError(f"{where(spec)}: its `constraints` are {shown(given)}, expected a text or a list of texts")
    return ["\n".join(["Constraints:", *(f"- {text}" for text in texts)])] if texts else []


BINDERS: dict[str, Binder] = {"REASON": bind_reason, "PLAN": bind_plan}
