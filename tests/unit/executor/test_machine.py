"""AGENT and UPDATE_GOAL on a machine of their own; beliefs of UMEM and QMEM."""

import asyncio
from types import SimpleNamespace

import pytest

from apxm.aam.goals import Goal
from apxm.aam.machine import Machine
from apxm.errors import BindError, InvalidError
from apxm.executor.believing import believed, source_of
from apxm.executor.bind import Bound, Kind
from apxm.executor.context import OpContext
from apxm.executor.handlers.machine import BINDERS
from apxm.executor.handlers.memory import BINDERS as MEMORY
from apxm.graph.operation import Effect
from apxm.memory.system import MemorySystem
from tests.unit.executor.firing import services, spec


class Context(OpContext):
    """A firing with provenance of its own."""

    __slots__ = ("labels", "plan")

    def sources(self):
        return self.labels

    def taint(self):
        return self.plan


@pytest.fixture
def context():
    machine, memory = Machine("me"), MemorySystem().run("run-1", "me")
    run = SimpleNamespace(machine=lambda agent: {"me": machine}[agent], memory=memory)
    made = Context(run, node=7, name="n", op="OP", agent="me", attempt=1, deadline=float("inf"), locate=lambda: ())
    made.labels, made.plan = [], ()
    return made


def fire(context, op, attributes, *inputs, ports=None):
    bound = BINDERS[op](spec(op, attributes, ports or (None,) * len(inputs)), services())
    assert (bound.kind, bound.effect) == (Kind.SYNC, Effect.IDEMPOTENT)
    return bound.fn(context, *inputs)


def goals(context):
    return context.run.machine("me").goals()


# ---- UPDATE_GOAL -----------------------------------------------------------------------------------------------------
def test_a_goal_is_set_completed_removed_and_cleared(context):
    assert fire(context, "UPDATE_GOAL", {"goal_id": "g", "priority": 3}) == "set"
    assert goals(context) == [Goal("g", "g", 3)]
    assert fire(context, "UPDATE_GOAL", {"goal_id": "g", "action": "complete"}) == "completed"
    assert goals(context) == [Goal("g", "g", 3, "completed")]
    assert fire(context, "UPDATE_GOAL", {"goal_id": "h", "action": "complete"}) == "not_found"
    assert fire(context, "UPDATE_GOAL", {"goal_id": "h", "action": "remove"}) == "not_found"
    assert fire(context, "UPDATE_GOAL", {"goal_id": "g", "action": "remove"}) == "removed"
    fire(context, "UPDATE_GOAL", {"goal_id": "g"})
    assert fire(context, "UPDATE_GOAL", {"action": "clear"}) == "cleared"
    assert fire(context, "UPDATE_GOAL", {"action": "clear"}) == "cleared"
    assert goals(context) == []
    assert {one.label for one in context.run.machine("me").transitions()} == {"OP `n`"}


@pytest.mark.parametrize(
    ("attributes", "inputs", "ports", "goal"),
    [
        ({"goal_id": "g"}, (), (), Goal("g", "g")),
        ({"goal_id": "g"}, ("do it",), (None,), Goal("g", "do it")),
        ({"goal_id": "g"}, (17,), (None,), Goal("g", "g")),
        ({"goal_id": "g_{0}"}, (17,), (None,), Goal("g_17", "g_17")),
        ({"goal_id": "g_{0}"}, (17, "do it"), (None, None), Goal("g_17", "do it")),
        ({"goal_id": "g", "description": "<{0}>"}, ("do it",), (None,), Goal("g", "<do it>")),
        ({"goal_id": "{id}", "description": "fixed"}, ("do it", "g"), (None, "id"), Goal("g", "fixed")),
    ],
)
def test_the_description_is_the_attribute_else_an_input_else_the_id(context, attributes, inputs, ports, goal):
    assert fire(context, "UPDATE_GOAL", attributes, *inputs, ports=ports) == "set"
    assert goals(context) == [goal]


@pytest.mark.parametrize("action", ["set", "complete", "remove"])
def test_a_goal_without_an_id_is_refused_when_it_is_bound(action):
    with pytest.raises(BindError, match=rf"does not say which goal to {action}; give it `goal_id`"):
        BINDERS["UPDATE_GOAL"](spec("UPDATE_GOAL", {"action": action}), services())


def test_a_goal_whose_id_is_filled_with_nothing_is_refused(context):
    with pytest.raises(InvalidError, match="goal id '' is not a text"):
        fire(context, "UPDATE_GOAL", {"goal_id": "{0}"}, "")


# ---- AGENT -----------------------------------------------------------------------------------------------------------
SAID = {
    "memory": [{"name": "a", "value": [1]}, {"name": "b", "value": None}, {"name": "c", "tier": "ltm"}],
    "beliefs": {"tone": "plain"},
    "goals": ["publish"],
    "context": "You edit.",
}


def test_a_declaration_fills_the_machine_and_the_memory_once(context):
    memory, machine = context.run.memory, context.run.machine("me")
    memory.put("b", "there")
    assert fire(context, "AGENT", SAID) is None
    assert (memory.get("a"), memory.get("b"), memory.get("c")) == ([1], "there", None)
    assert (machine.belief("tone").value, machine.context) == ("plain", "You edit.")
    assert machine.goals() == [Goal("publish", "publish")]
    memory.delete("a")
    machine.forget("tone")
    fire(context, "AGENT", SAID)
    assert memory.get("a") is None
    assert machine.belief("tone") is None


def test_null_may_be_there_at_the_start(context):
    fire(context, "AGENT", {"memory": [{"name": "b", "value": None}]})
    assert context.run.memory.get("b", "nothing") is None


# ---- beliefs ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("places", "labels", "plan", "source"),
    [
        ((), [("tool:x",)], (), "program"),
        ((), [], ("llm:m",), "llm:m"),
        ((0,), [("tool:x", "web"), ("user",)], (), "tool:x, web"),
        ((0, 1), [("tool:x", "web"), ("web", "user")], (), "tool:x, web, user"),
        ((1,), [("tool:x",), ()], ("llm:m",), "node `source_2`"),
    ],
)
def test_a_source_is_the_provenance_of_what_was_used_else_its_node(context, places, labels, plan, source):
    context.labels, context.plan = labels, plan
    assert source_of(spec("UMEM", {}, (None, None)), context, places) == source


def test_a_handler_that_waits_can_be_believed_too(context):
    async def slow(context, value):
        return value + 1

    bound = believed(spec("QMEM"), Bound(Kind.ASYNC, slow, Effect.READ), "k", lambda context: "here")
    assert asyncio.run(bound.fn(context, 1)) == 2
    belief = context.run.machine("me").belief("k")
    assert (belief.value, belief.source) == (2, "here")


@pytest.mark.parametrize("key", ["", "x" * 1001])
def test_a_belief_without_a_usable_key_is_refused_when_it_is_bound(key):
    with pytest.raises(BindError, match=r"UMEM `n` \(node 7\) of flow `main`: belief key .* is not a text of 1 to 1000"):
        MEMORY["UMEM"](spec("UMEM", {"key": "k", "value": 1, "belief_key": key}), services())
