"""ASK with tools, through a whole runtime: what the model is offered, what is called, what it hears, what ends the node."""

import asyncio
import random
import threading
from contextlib import contextmanager

import pytest

from apxm import CapabilityRecord, Graph, RunOptions, Runtime, ScriptedModel, ToolCall
from apxm.budget import Limits
from apxm.errors import BindError, BudgetError, DeadlineError, DeniedError, ModelError, RunCancelled, TransientError
from apxm.executor.toolbox import CALLS_AT_ONCE, RESULT_CHARS_MAX
from apxm.graph.operation import TURN_CALLS
from apxm.llm.base import Reply, Tool, Usage
from apxm.llm.resilience import RetryPolicy
from apxm.llm.scripted import Rule
from apxm.observability.events import Called


class World:
    """Tools that tell what they were called with."""

    def __init__(self):
        self.calls = []
        self.at_once = self.most = 0

    async def look(self, place: str) -> str:
        """Look at a place.

        Args:
            place: where
        """
        self.calls.append(place)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if place == "nowhere":
            raise ValueError("there is no such place")
        return "x" * (RESULT_CHARS_MAX + 1) if place == "everywhere" else f"{place} is fine"

    async def wait(self) -> None:
        self.calls.append("wait")
        await asyncio.Event().wait()

    async def send(self, text: str) -> str:
        self.calls.append(f"sent {text}")
        return "sent"


@contextmanager
def world(model, source=None):
    made = World()
    with Runtime(model=model) as runtime:
        runtime.models.retry = RetryPolicy(base_s=0)
        system = runtime.capability_system()
        system.register("look", CapabilityRecord("Look at a place.", made.look, effect="read", source=source))
        system.register("wait", CapabilityRecord("Wait for ever.", made.wait, effect="read", timeout_ms=None))
        system.register("send", CapabilityRecord("Send a text.", made.send, effect="guarded"))
        yield runtime, made


def program(**attributes):
    graph = Graph("main")
    graph.ask("Look around.", name="ask", **{"tools": ["look"], **attributes})
    return graph


def run(model, *, grants=("look", "send", "wait"), source=None, options=None, **attributes):
    """(value of the node, what was called)."""
    with world(model, source) as (runtime, made):
        wanted = RunOptions(grants=grants, trace=True, **(options or {}))
        return runtime.execute(program(**attributes), run=wanted), made.calls


def look(*places):
    return tuple(ToolCall("", "look", {"place": place}) for place in places)


def scripted(*answers, **more):
    return ScriptedModel(rules=[(".", list(answers))], **more)


# ---- the conversation ------------------------------------------------------------------------------------------------
def test_the_turns_of_a_conversation_are_the_assistants_calls_and_an_answer_to_each_by_its_id():
    model = scripted(look("roof", "cellar"), look("garden"), "all fine")
    result, calls = run(model, system_prompt="")
    assert (result.value, calls) == ("all fine", ["roof", "cellar", "garden"])
    turns = model.calls[2].prompt.messages
    assert [turn.role for turn in turns] == ["user", "assistant", "tool", "tool", "assistant", "tool"]
    first, second = turns[1].tool_calls, turns[4].tool_calls
    assert [turn.tool_call_id for turn in turns if turn.role == "tool"] == [call.id for call in (*first, *second)]
    assert [turn.content for turn in turns if turn.role == "tool"] == ["roof is fine", "cellar is fine", "garden is fine"]
    assert len({call.id for call in (*first, *second)}) == 3
    assert turns == (*model.calls[1].prompt.messages, *turns[4:])  # nothing that was said is changed later


def test_a_model_is_offered_what_the_node_lists_with_its_closed_schema_each_time():
    model = scripted(look("roof"), "fine")
    run(model, tools=["look", "look"])
    for call in model.calls:
        (tool,) = call.prompt.tools
        assert (tool.name, tool.description) == ("look", "Look at a place.")
        assert tool.parameters["required"] == ["place"]
        assert tool.parameters["additionalProperties"] is False
    assert isinstance(tool, Tool)


@pytest.mark.parametrize("attributes", [{"tools": []}, {"tools_enabled": False}])
def test_without_tools_none_are_offered(attributes):
    model = scripted("fine")
    run(model, **attributes)
    assert model.calls[0].prompt.tools == ()


def test_ids_that_are_missing_or_used_twice_are_replaced():
    twice = tuple(ToolCall(id, "look", {"place": "roof"}) for id in ("a", "a", "", "call_3"))
    model = ScriptedModel(rules=[(".", [Reply("", Usage(1, 1), "m", "tools", twice), "fine"])])
    run(model)
    said, *heard = model.calls[1].prompt.messages[2:]
    ids = [call.id for call in said.tool_calls]
    assert ids[0] == "a"
    assert len(set(ids)) == 4
    assert [turn.tool_call_id for turn in heard] == ids


# ---- what the model hears --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "heard"),
    [
        (
            ToolCall("1", "look", {"place": "nowhere"}),
            "error [capability]: capability `look` raised ValueError: there is no such",
        ),
        (ToolCall("1", "lok", {}), "error [capability]: no tool `lok` is offered; close: `look`"),
        (
            ToolCall("1", "send", {"text": "x"}),
            "error [capability]: no tool `send` is offered; there are look",
        ),  # granted, not listed
        (ToolCall("1", "look", {"plce": "roof"}), "error [invalid]: ASK `ask`: capability `look` has no parameter `plce`"),
        (ToolCall("1", "look", {"place": 7}), "error [invalid]: argument `place` of ASK `ask`: capability `look` is 7"),
        (ToolCall("1", "look", {"place": float("nan")}), "error [value]: "),
        (ToolCall("1", "look", ["roof"]), "error [invalid]: the arguments of `look` are no map"),
        (ToolCall("1", "look", {"place": "everywhere"}), f"{'x' * 20}"),
    ],
)
def test_whatever_goes_wrong_with_a_call_is_told_to_the_model(call, heard):
    model = scripted(call, "I see.")
    result, _ = run(model)
    assert result.value == "I see."
    assert model.calls[1].prompt.messages[-1].content.startswith(heard)


def test_a_long_result_is_cut_and_says_so():
    model = scripted(look("everywhere"), "fine")
    run(model)
    heard = model.calls[1].prompt.messages[-1].content
    assert heard.endswith(f"… (cut: {RESULT_CHARS_MAX:,} of {RESULT_CHARS_MAX + 1:,} characters)")
    assert heard.count("x") == RESULT_CHARS_MAX


def test_a_turn_asks_for_so_many_calls_at_most_and_runs_so_many_at_once():
    model = scripted(look(*(f"place {n}" for n in range(TURN_CALLS + 2))), "fine")
    with world(model) as (runtime, made):
        runtime.execute(program(), run=RunOptions(grants=["look"]))
    assert len(made.calls) == TURN_CALLS
    assert made.most == CALLS_AT_ONCE
    heard = [turn.content for turn in model.calls[1].prompt.messages if turn.role == "tool"]
    assert len(heard) == TURN_CALLS + 2
    assert all("not called" in text for text in heard[TURN_CALLS:])


# ---- grants and provenance -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("tools", "grants", "error", "message"),
    [
        (["look"], (), DeniedError, r"ASK `ask` \(node 1\) of flow `main` offers its model a tool that is not granted: .*`look`"),
        (["read"], ("read",), DeniedError, r"`read` works beneath granted directories"),
        (["bash"], (), DeniedError, r"`bash` is not granted; grant it: .* or --grant bash; `bash=DIRECTORY`"),
        (["lok"], ("lok",), BindError, r"offers the tool `lok`, which is not registered; close: `look`"),
    ],
)
def test_a_tool_that_is_not_there_or_not_granted_is_refused_before_the_run(tools, grants, error, message):
    model = scripted("never")
    with pytest.raises(error, match=message):
        run(model, tools=tools, grants=grants)
    assert not model.calls


TRUSTED = {"trust": ["llm:*"]}


def sending(answer_from):
    """A flow whose last node sends what the model answered: refused when that comes from what is not trusted."""
    graph = Graph("main")
    said = graph.ask("Look around.", name="ask", tools=["look", "send"])
    graph.inv("send", text=said, name="send")
    with world(answer_from, source="web") as (runtime, made):
        runtime.execute(graph, run=RunOptions(grants=["look", "send"], **TRUSTED))
        return made.calls


def test_an_answer_comes_from_the_tools_that_were_called_and_from_no_others():
    assert sending(scripted("nothing was called")) == ["sent nothing was called"]
    assert sending(scripted(ToolCall("", "look", {"plce": "roof"}), "it was not reached")) == ["sent it was not reached"]
    for place in ("roof", "nowhere"):  # what a tool says when it fails comes from it too
        with pytest.raises(DeniedError, match=r"`text` comes from `web`") as refused:
            sending(scripted(look(place), "so it is"))
        assert refused.value.node == "send"


def test_an_argument_comes_from_the_model_from_its_inputs_and_from_what_tools_said_before():
    send = ToolCall("", "send", {"text": "x"})
    assert sending(scripted(send, "done")) == ["sent x", "sent done"]
    model = scripted(look("roof"), send, "I may not.")
    with pytest.raises(DeniedError):
        sending(model)
    told = model.calls[2].prompt.messages[-1].content
    assert "error [policy]" in told
    assert "RunOptions" not in told  # how to get around the policy is for the host, not for the model
    assert "comes from `web`" in model.calls[2].prompt.messages[-1].content
    model = scripted(send, "done")
    run(model, tools=["send"])
    assert "comes from `llm:scripted`" in model.calls[1].prompt.messages[-1].content


def remembering(model, **attributes):
    """A flow whose agent believes what it saw, and then is asked; what was called."""
    graph = Graph("main")
    fact = graph.inv("look", place="roof", name="fact")
    kept = graph.umem("seen", fact, belief_key="seen", name="kept")
    said = graph.ask("Where?", name="ask", order_after=kept, **attributes)
    graph.inv("send", text=said, name="send")
    with world(model, source="web") as (runtime, made):
        runtime.execute(graph, run=RunOptions(grants=["look", "send"], **TRUSTED))
        return made.calls


def test_an_answer_for_an_agent_comes_from_where_its_beliefs_came_from():
    assert remembering(scripted("here"), context="none") == ["roof", "sent here"]
    with pytest.raises(DeniedError, match=r"`text` comes from `web`"):
        remembering(scripted("here"), context="aam")


def test_an_argument_for_an_agent_comes_from_where_its_beliefs_came_from():
    model = scripted(ToolCall("", "send", {"text": "x"}), "done")
    with pytest.raises(DeniedError):
        remembering(model, context="aam", tools=["send"])
    assert "comes from `web`" in model.calls[1].prompt.messages[-1].content


def test_calls_of_one_firing_with_equal_arguments_have_keys_of_their_own():
    keys = []

    def pay(amount: int, idempotency_key: str) -> str:
        keys.append(idempotency_key)
        return "paid"

    model = scripted(
        (ToolCall("", "pay", {"amount": 1}), ToolCall("", "pay", {"amount": 1})), ToolCall("", "pay", {"amount": 1}), "paid"
    )
    with Runtime(model=model) as runtime:
        record = CapabilityRecord("Pay.", pay, effect="idempotent", keyed=True)
        runtime.capability_system().register("pay", record)
        runtime.execute(program(tools=["pay"]), run=RunOptions(grants=["pay"]))
    assert len(set(keys)) == 3


# ---- what ends the node ----------------------------------------------------------------------------------------------
def test_after_so_many_rounds_the_node_fails_and_names_what_was_asked_for_last():
    model = ScriptedModel(default=look("roof"))
    with pytest.raises(ModelError, match=r"gave no answer in 2 rounds of tool calls: at last it asked for `look`"):
        run(model, max_iterations=2)
    assert len(model.calls) == 3


def test_a_model_without_tools_that_asks_for_a_call_has_not_answered():
    with pytest.raises(ModelError, match="asked for calls of `look`, and it was offered no tools"):
        run(scripted(look("roof")), tools=[])


def test_an_exhausted_budget_ends_the_node_and_the_calls_beside_it():
    model = scripted(look("roof", "cellar", "garden"), "never")
    with pytest.raises(BudgetError, match="tool_calls"):
        run(model, options={"budget": Limits(tool_calls=2)})
    assert len(model.calls) == 1


def test_a_tool_that_hangs_ends_with_the_time_of_its_node():
    model = scripted(ToolCall("", "wait", {}), "never")
    with pytest.raises((DeadlineError, TransientError)) as late:
        run(model, tools=["wait"], timeout_ms=30)
    assert len(model.calls) == 1
    assert late.value.attempt == 1


def test_a_cancelled_run_ends_the_calls_of_its_model():
    model = scripted(tuple(ToolCall("", "wait", {}) for _ in range(3)), "never")
    with world(model) as (runtime, _):
        handle = runtime.start(program(tools=["wait"]), run=RunOptions(grants=["wait"]))
        for event in handle.events():
            if isinstance(event, Called):  # the model has asked for its calls
                handle.cancel()
        with pytest.raises(RunCancelled) as cancelled:
            handle.result()
    assert len(model.calls) == 1
    assert cancelled.value.result.stats.abandoned == ()


def test_a_cancellation_at_any_step_of_a_conversation_leaves_no_task_and_no_reservation():
    class Steps:
        """Cancels the run at its n-th step: a call of the model or of a tool."""

        def __init__(self, n):
            self.left, self.handle, self.known = n, None, threading.Event()

        async def take(self):
            self.left -= 1
            if self.left == 0:
                self.known.wait(10)
                self.handle.cancel()
            await asyncio.sleep(0)

    async def tasks():
        return len(asyncio.all_tasks())

    def cancelled_at(n):
        steps = Steps(n)

        async def answer(prompt):
            await steps.take()
            return look("roof", "cellar", "garden") if len(prompt.messages) < 9 else "fine"

        async def slow(place: str) -> str:
            await steps.take()
            return place

        with Runtime(model=ScriptedModel(default=answer)) as runtime:
            runtime.capability_system().register("look", CapabilityRecord("Look.", slow, effect="read"))
            steps.handle = runtime.start(program(), run=RunOptions(grants=["look"], budget=Limits(tool_calls=100)))
            steps.known.set()
            try:
                ended = steps.handle.result().value
            except RunCancelled:
                ended = None
            assert not any(steps.handle._run.ledger.reserved().values())
            assert runtime._loop.submit(tasks()).result() == 1
        return ended

    steps = 3 + 2 * 3  # three answers of the model, two turns of three calls
    assert [cancelled_at(n) for n in range(1, steps + 1)] == [None] * steps
    assert cancelled_at(steps + 1) == "fine"


def test_once_a_tool_was_called_the_engine_does_not_try_the_node_again():
    failing = Rule("never", tool="fine", failures=9)
    model = ScriptedModel(rules=[failing, (".", look("roof"))])
    with pytest.raises(ModelError) as error:
        run(model, max_retries=1, retries=5)
    assert error.value.called
    assert [len(call.prompt.tools) for call in model.calls] == [1, 1, 1]  # the first answer, and two tries of the second


# ---- events ----------------------------------------------------------------------------------------------------------
def test_events_have_the_calls_of_tools_and_what_was_said():
    model = scripted(look("roof"), "fine")
    with world(model) as (runtime, _):
        events = []
        with runtime.subscribe(lambda run_id, event: events.append(event), content=True) as subscription:
            runtime.execute(program(system_prompt=""), run=RunOptions(grants=["look"]))
            subscription.flush()
    first, tool, last = [event for event in events if isinstance(event, Called)]
    assert [(event.kind, event.target) for event in (first, tool, last)] == [
        ("model", "scripted"),
        ("capability", "look"),
        ("model", "scripted"),
    ]
    assert first.details["tool_calls"] == ["look"]
    assert first.content["reply"] == '-> look {"place": "roof"}'
    assert tool.content == {"arguments": '["roof"]', "result": "roof is fine"}
    assert last.content["prompt"] == 'user: Look around.\n\nassistant: -> look {"place": "roof"}\n\ntool: roof is fine'
    assert "tool_calls" not in last.details


# ---- any conversation ------------------------------------------------------------------------------------------------
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def any_turn(rng):
    """Something that a model may answer: calls that work, fail, are of no tool or of no sense; or JSON, good or bad."""
    if rng.random() < 0.7:
        calls = (
            ToolCall("", "look", {"place": rng.choice(("roof", "nowhere"))}),
            ToolCall("same", "look", {}),
            ToolCall("", "lok", {"place": "roof"}),
            ToolCall("", "send", {"text": "x"}),
        )
        return tuple(rng.choices(calls, k=rng.randrange(1, 4)))
    return rng.choice(("no JSON", {"n": "x"}, {"n": 1}))


def test_any_conversation_is_well_formed_and_ends_within_its_bounds(seed):
    rng = random.Random(seed)
    for _ in range(40):
        rounds, repairs = rng.randrange(1, 4), rng.randrange(3)
        turns = [any_turn(rng) for _ in range(12)]
        model = scripted(*turns)
        attributes = {"output_schema": SCHEMA, "max_schema_retries": repairs, "max_iterations": rounds}
        with world(model) as (runtime, _):
            try:
                result = runtime.execute(program(tools=["look", "send"], **attributes), run=RunOptions(grants=["look", "send"]))
                assert result.value == {"n": 1}
            except ModelError as error:
                result = error.result
        asked, used = len(model.calls), turns[: len(model.calls)]
        assert asked <= 1 + rounds + repairs
        assert sum(isinstance(turn, tuple) for turn in used[:-1]) <= rounds
        assert result.stats.usage["model"]["scripted"]["llm_calls"] == asked
        well_formed(model.calls[-1].prompt.messages)


def well_formed(messages):
    """Every turn with calls is followed by one tool turn for each of them, in their order, and ids are never used twice."""
    waiting, ids = [], []
    for message in messages:
        if message.role == "tool":
            assert message.tool_call_id == waiting.pop(0)
        else:
            assert not waiting
            waiting = [call.id for call in message.tool_calls]
            ids += waiting
    assert not waiting
    assert len(set(ids)) == len(ids)
