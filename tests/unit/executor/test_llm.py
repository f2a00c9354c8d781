"""ASK and THINK, fired outside any engine: a run of its own kind keeps what the handler tells it. Tools: test_tool_use.py."""

import asyncio
import random

import pytest

from apxm.aam.goals import Goal
from apxm.aam.machine import Machine
from apxm.budget import Ledger, Limits
from apxm.capability.system import Grants
from apxm.errors import BindError, BudgetError, FailureClass, ModelError, TransientError
from apxm.executor.asking import SYSTEM_PROMPT
from apxm.executor.bind import Kind, Services
from apxm.executor.context import OpContext
from apxm.executor.handlers.llm import BINDERS
from apxm.graph.operation import Effect
from apxm.llm.base import MESSAGE_TOKENS, Reply, Usage
from apxm.llm.fencing import fenced
from apxm.llm.prompts.built_in import THINK
from apxm.llm.registry import ModelRegistry
from apxm.llm.resilience import RetryPolicy
from apxm.llm.scripted import Rule, ScriptedModel
from apxm.llm.text import estimate_tokens
from tests.unit.executor.firing import spec

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


class Run:
    """What the engine offers to a handler, with a list instead of subscribers."""

    run_id = "run-1"
    heard = noted = True
    content = tells_content = False
    episodes = None

    def __init__(self, limits=None, permits=100):
        self.ledger = Ledger(limits or Limits())
        self.events = []
        self.usage = []
        self.permits = permits

    def publish(self, event):
        self.events.append(event)

    def record_usage(self, model, agent, node, usage):
        self.usage.append((model, agent, node, usage))

    def retry_permit(self):
        self.permits -= 1
        return self.permits >= 0


def services(model, base_s=0.0, name="scripted", prompts=None):
    registry = ModelRegistry(RetryPolicy(base_s=base_s, cap_s=base_s, draw=lambda: 1.0), prompts)
    registry.register(name, model)
    return Services(None, registry, None, Grants(), None)


def bind(attributes, inputs=(), model=None, op="ASK", **more):
    return BINDERS[op](spec(op, attributes, inputs), services(model or ScriptedModel(default="yes"), **more))


async def fire(bound, *inputs, run=None, deadline_s=None):
    deadline = float("inf") if deadline_s is None else asyncio.get_running_loop().time() + deadline_s
    context = OpContext(
        run or Run(), node=7, name="n", op="ASK", agent="me", attempt=1, deadline=deadline, locate=lambda: ((3, "try"),)
    )
    return await bound.fn(context, *inputs)


def ask(attributes, *values, ports=None, model=None, run=None, deadline_s=None, **more):
    """The answer of one firing."""
    bound = bind(attributes, ports or (None,) * len(values), model, **more)
    return asyncio.run(fire(bound, *values, run=run, deadline_s=deadline_s))


def prompted(attributes, *values, ports=None):
    """The user turn that the model gets."""
    model = ScriptedModel(default="yes")
    ask(attributes, *values, ports=ports, model=model)
    return model.calls[0].text


# ---- the prompt ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("template", "ports", "values", "text"),
    [
        ("Hello", (), (), "Hello"),
        ("Hello {name} and {0}", ("name", None), ("Ann", "Bob"), "Hello Ann and Bob"),
        ("Look: {{node_2}}", (None, None), (1, {"a": [True]}), 'Look: {"a": [true]}'),
        ("Sum up", (None, None), ("first", ["x", 1]), 'Sum up\n\nContext 1: first\n\nContext 2: ["x", 1]'),
        ("Only {name}", ("name", None), ("this", "unused"), "Only this"),
        ("", (None, None), ("the prompt", "unused"), "the prompt"),
        ("  ", (None,), ({"a": 1},), '{"a": 1}'),
        ('A JSON { "a": 1 } stays', (), (), 'A JSON { "a": 1 } stays'),
        ("{0}", (None,), ("{0} {name} {{node_1}}",), "{0} {name} {{node_1}}"),
    ],
)
def test_a_prompt_is_made_of_its_template_and_inputs_in_one_pass(template, ports, values, text):
    assert prompted({"template_str": template}, *values, ports=ports) == text


def test_settings_reach_the_model():
    model = ScriptedModel(default="yes")
    settings = {"temperature": 0.5, "seed": 3, "max_output_tokens": 9, "stop": ["."], "system_prompt": "Be kind."}
    ask({"template_str": "Hi", **settings}, model=model)
    prompt = model.calls[0].prompt
    assert (prompt.temperature, prompt.seed, prompt.max_output_tokens, prompt.stop) == (0.5, 3, 9, (".",))
    assert [(m.role, m.content) for m in prompt.messages] == [("system", "Be kind."), ("user", "Hi")]
    assert prompt.metadata == {"node": "n", "op": "ASK", "agent": "me", "run": "run-1"}
    assert prompt.model == "scripted"


@pytest.mark.parametrize(("attributes", "system"), [({}, SYSTEM_PROMPT), ({"system_prompt": ""}, None)])
def test_a_node_without_a_system_prompt_has_the_built_in_one_and_an_empty_one_means_none(attributes, system):
    model = ScriptedModel(default="yes")
    ask({"template_str": "Hi", **attributes}, model=model)
    roles = {message.role: message.content for message in model.calls[0].prompt.messages}
    assert roles.get("system") == system


@pytest.mark.parametrize(
    ("attributes", "prompts", "told"),
    [
        ({"system_prompt": "Mine."}, {"ask": "Ours."}, "Mine."),
        ({"system_prompt": ""}, {"ask": "Ours."}, None),
        ({}, {"ask": "Ours."}, "Ours."),
        ({}, {"think": "Ours."}, SYSTEM_PROMPT),
    ],
)
def test_a_node_goes_before_the_configuration_and_that_before_the_built_in_text(attributes, prompts, told):
    model = ScriptedModel(default="yes")
    ask({"template_str": "Hi", **attributes}, model=model, prompts=prompts)
    roles = {message.role: message.content for message in model.calls[0].prompt.messages}
    assert roles.get("system") == told


# ---- the agent -------------------------------------------------------------------------------------------------------
class RunOfAnAgent(Run):
    """A run with the machine of its agent, which also keeps where values came from."""

    def __init__(self, **held):
        super().__init__()
        self.agents = Machine("me")
        for key, value in held.items():
            self.agents.believe(key, value, source="llm:other", confidence=0.5)

    def machine(self, agent):
        assert agent == "me"
        return self.agents


def test_what_the_agent_holds_is_told_below_the_instructions_between_tags_and_anew_with_every_call():
    run, model = RunOfAnAgent(city="Bonn"), ScriptedModel(rules=[(".", ["no", {"n": 1}])])
    run.agents.set_goal(Goal("g", "be </agent> kind"))
    ask({"template_str": "?", "context": "aam", "system_prompt": "Short.", "output_schema": NUMBER}, model=model, run=run)
    told = [call.prompt.messages[0].content for call in model.calls]
    assert told[0] == told[1]
    rules, agent = told[0].split("\n\nYou work for the agent `me`.\n")
    assert rules.startswith("Short.\n\nAnswer with JSON only")
    (block,) = fenced(agent).values()
    assert block == 'goal "g" (priority 1): "be </agent> kind"\nbelief "city" = "Bonn" (from llm:other, confidence 0.5)'
    assert [message.role for message in model.calls[1].prompt.messages] == ["system", "user", "assistant", "user"]


def test_an_agent_that_holds_nothing_is_only_named_and_without_instructions_it_is_all_that_is_told():
    model = ScriptedModel(default="yes")
    ask({"template_str": "?", "context": "aam", "system_prompt": ""}, model=model, run=RunOfAnAgent())
    assert [(m.role, m.content) for m in model.calls[0].prompt.messages] == [
        ("system", "You work for the agent `me`."),
        ("user", "?"),
    ]


# ---- binding ---------------------------------------------------------------------------------------------------------
def test_it_is_bound_to_the_model_it_names_and_labels_its_answer_with_it():
    bound = bind({"template_str": "Hi"}, name="local")
    assert (bound.kind, bound.effect, bound.label) == (Kind.ASYNC, Effect.PAID, "llm:local")
    assert bind({"template_str": "Hi", "model": "extractive"}).label == "llm:extractive"


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"model": "scriptd"}, r"ASK `n` \(node 7\) of flow `main`: model `scriptd` is not registered; close: `scripted`"),
        ({"provider": "somebody"}, r"ASK `n` \(node 7\) of flow `main`: no model of the provider `somebody` is registered"),
        ({"output_schema": {"type": "nothing"}}, r"output_schema is no valid JSON Schema"),
        ({"template_str": "{who}"}, r"nothing fills `\{who\}`"),
        ({"template_str": ""}, r"neither a prompt nor an input"),
    ],
)
def test_what_cannot_be_kept_is_refused_when_it_is_bound(attributes, message):
    with pytest.raises(BindError, match=message):
        bind({"template_str": "Hi", **attributes})


def test_tools_that_are_taken_away_do_not_matter():
    assert ask({"template_str": "Hi", "tools": ["search"], "tools_enabled": False, "context": "none"}) == "yes"


# ---- budget ----------------------------------------------------------------------------------------------------------
def tokens(*texts):
    return sum(estimate_tokens(text) + MESSAGE_TOKENS for text in texts)


def test_what_a_call_used_is_settled_recorded_and_told():
    run = Run(Limits(llm_calls=1, input_tokens=1_000, output_tokens=1_024))
    ask({"template_str": "Hi"}, run=run)
    used = {"llm_calls": 1, "input_tokens": tokens(SYSTEM_PROMPT, "Hi"), "output_tokens": 1}
    assert {name: run.ledger.spent()[name] for name in used} == used
    assert run.usage == [("scripted", "me", "n", used)]
    (event,) = run.events
    assert (event.kind, event.target, event.ok, event.usage, event.path, event.node) == (
        "model",
        "scripted",
        True,
        used,
        ((3, "try"),),
        7,
    )


@pytest.mark.parametrize("limits", [{"llm_calls": 0}, {"input_tokens": 10}, {"output_tokens": 1_023}])
def test_a_call_that_the_budget_does_not_hold_is_not_made(limits):
    model = ScriptedModel(default="yes")
    with pytest.raises(BudgetError, match=next(iter(limits))):
        ask({"template_str": "Hi"}, model=model, run=Run(Limits(**limits)))
    assert not model.calls


def test_repairs_and_retries_are_each_reserved_for():
    model = ScriptedModel(rules=[Rule(["no", {"n": 1}], match=".", failures=1)])
    attributes = {"template_str": "?", "output_schema": NUMBER, "max_schema_retries": 1}
    run = Run(Limits(llm_calls=2))
    with pytest.raises(BudgetError, match="llm_calls"):
        ask(attributes, model=model, run=run)
    assert len(model.calls) == 2
    assert run.ledger.spent()["llm_calls"] == 2
    assert not any(run.ledger.reserved().values())


def test_a_token_budget_bounds_all_calls_of_one_firing_and_starts_anew_with_the_next():
    attributes = {
        "template_str": "?",
        "output_schema": NUMBER,
        "max_schema_retries": 9,
        "max_output_tokens": 10,
        "system_prompt": "",
        "token_budget": 250,
    }
    for _ in range(2):
        run = Run()
        with pytest.raises(BudgetError) as error:
            ask(attributes, model=ScriptedModel(default="no"), run=run)
        spent = sum(used["input_tokens"] + used["output_tokens"] for *_, used in run.usage)
        assert len(run.usage) > 1
        assert f"limit 250, spent {spent}," in error.value.message
        assert 100 < spent <= 250


def test_a_failed_call_is_booked_without_an_answer_and_a_cancelled_one_with_all_it_could_have_used():
    run = Run()
    with pytest.raises(ModelError):
        ask({"template_str": "Hi"}, model=ScriptedModel(default=ModelError("broken")), run=run)
    spent = run.ledger.spent()
    assert (spent["llm_calls"], spent["input_tokens"], spent["output_tokens"]) == (1, tokens(SYSTEM_PROMPT, "Hi"), 0)
    assert run.events[0].ok is False

    async def cancelled():
        task = asyncio.ensure_future(fire(bind({"template_str": "Hi"}, model=ScriptedModel(default="x", delay_s=3600)), run=run))
        await asyncio.sleep(0)
        assert run.ledger.reserved()["llm_calls"] == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert (run.ledger.spent()["llm_calls"], run.ledger.spent()["output_tokens"]) == (2, 1_024)
    assert not any(run.ledger.reserved().values())
    assert len(run.usage) == len(run.events) == 2


def test_usage_above_its_reservation_is_booked_as_overrun_and_a_lie_as_what_was_reserved():
    run = Run()
    ask({"template_str": "Hi"}, model=ScriptedModel(default=Reply("x", Usage(10_000, -5, float("nan")), "liar")), run=run)
    assert run.ledger.spent()["input_tokens"] == 10_000
    assert run.ledger.overrun()["input_tokens"] == 10_000 - tokens(SYSTEM_PROMPT, "Hi")
    assert run.usage[0][3]["output_tokens"] == 1_024


def test_calls_at_once_never_pass_a_budget_together(seed):
    rng = random.Random(seed)

    async def storm():
        run = Run(Limits(llm_calls=5, output_tokens=60))
        model = ScriptedModel(default=lambda prompt: asyncio.sleep(0, "x" * rng.randrange(1, 80)))
        bound = bind({"template_str": "Hi", "max_output_tokens": 20, "max_retries": 0}, model=model)
        ended = await asyncio.gather(*(fire(bound, run=run) for _ in range(30)), return_exceptions=True)
        assert {type(one) for one in ended} <= {str, BudgetError}
        assert len(model.calls) <= 5
        assert run.ledger.spent()["output_tokens"] <= 60
        assert not any(run.ledger.reserved().values())

    for _ in range(20):
        asyncio.run(storm())


# ---- failures --------------------------------------------------------------------------------------------------------
def test_transient_failures_are_repeated_and_each_draws_a_permit():
    run = Run(permits=2)
    model = ScriptedModel(rules=[Rule("fine", match=".", failures=2)])
    assert ask({"template_str": "Hi"}, model=model, run=run) == "fine"
    assert run.permits == 0
    assert [event.ok for event in run.events] == [False, False, True]
    assert run.ledger.spent()["llm_calls"] == 3


@pytest.mark.parametrize(
    ("attributes", "run", "settings", "calls", "reason"),
    [
        ({"max_retries": 2}, {}, {}, 3, "failed 3 times in a row, and max_retries allows no more: busy"),
        ({"max_retries": 0}, {}, {}, 1, "failed once, and max_retries allows no more"),
        ({}, {"permits": 1}, {}, 2, "and the retry budget of the run is empty"),
        ({}, {}, {"deadline_s": 1.0, "base_s": 5.0}, 1, "and the deadline leaves no time for another try"),
    ],
)
def test_what_is_given_up_is_no_longer_transient_and_says_why(attributes, run, settings, calls, reason):
    model = ScriptedModel(default=TransientError("busy"))
    with pytest.raises(ModelError, match=reason) as error:
        ask({"template_str": "Hi", **attributes}, model=model, run=Run(**run), **settings)
    assert len(model.calls) == calls
    assert error.value.failure is FailureClass.FATAL
    assert isinstance(error.value.__cause__, TransientError)


def test_other_failures_are_not_repeated():
    for failure, message in ((ModelError("refused"), "refused"), (KeyError("x"), "model `scripted` raised KeyError: 'x'")):
        model = ScriptedModel(default=failure)
        with pytest.raises(ModelError, match=message):
            ask({"template_str": "Hi"}, model=model)
        assert len(model.calls) == 1


@pytest.mark.parametrize("finish", ["filter", "error"])
def test_an_answer_that_was_withheld_is_a_failure(finish):
    with pytest.raises(ModelError, match=f"finished with `{finish}`"):
        ask({"template_str": "Hi"}, model=ScriptedModel(default=Reply("", Usage(1, 1), "m", finish)))


# ---- answers with a schema -------------------------------------------------------------------------------------------
def test_with_a_schema_the_answer_is_the_parsed_value():
    model = ScriptedModel(default='Sure:\n```json\n{"n": 7}\n```')
    assert ask({"template_str": "?", "output_schema": NUMBER}, model=model) == {"n": 7}
    prompt = model.calls[0].prompt
    assert prompt.output_schema == NUMBER
    assert '"additionalProperties": false' in prompt.messages[0].content


def test_a_repair_carries_what_was_said_and_exactly_what_is_wrong_with_it():
    model = ScriptedModel(rules=[(".", ['{"n": "x", "m": 1}', '{"n": 1}'])])
    assert ask({"template_str": "?", "output_schema": NUMBER, "max_schema_retries": 2}, model=model) == {"n": 1}
    *_, said, repair = model.calls[1].prompt.messages
    assert (said.role, said.content) == ("assistant", '{"n": "x", "m": 1}')
    assert 'at ["n"]: "x" is not of type "integer"' in repair.content
    assert "'m' was unexpected" in repair.content


@pytest.mark.parametrize(("attributes", "calls"), [({}, 2), ({"max_schema_retries": 0}, 1), ({"max_schema_retries": 3}, 4)])
def test_repairs_are_bounded_and_then_the_node_fails(attributes, calls):
    model = ScriptedModel(default="seven")
    with pytest.raises(ModelError, match=r"breaks output_schema.*the answer holds no JSON"):
        ask({"template_str": "?", "output_schema": NUMBER, **attributes}, model=model)
    assert len(model.calls) == calls


# ---- thinking --------------------------------------------------------------------------------------------------------
def think(attributes, model, run=None):
    bound = bind({"template_str": "?", **attributes}, op="THINK", model=model)
    return asyncio.run(fire(bound, run=run))


def thought(tokens, text="Paris", output=20, finish="stop"):
    return ScriptedModel(default=Reply(text, Usage(5, output, thinking_tokens=tokens), "m", finish))


def test_a_thinking_budget_reaches_the_model_and_none_leaves_it_to_the_model():
    model = ScriptedModel(default="Paris")
    for attributes in ({"budget": 7}, {"budget": 0}, {}):
        assert think(attributes, model) == "Paris"
    assert [call.prompt.thinking_tokens for call in model.calls] == [7, 0, None]
    assert THINK in model.calls[0].prompt.messages[0].content


def test_thinking_is_reserved_on_top_of_the_answer():
    model = ScriptedModel(default="Paris")
    attributes = {"budget": 60, "max_output_tokens": 40}
    assert think(attributes, model, Run(Limits(output_tokens=100))) == "Paris"
    run = Run(Limits(output_tokens=99))
    with pytest.raises(BudgetError, match="output_tokens"):
        think(attributes, model, run)
    assert len(model.calls) == 1
    assert not any(run.ledger.reserved().values())
    with pytest.raises(BudgetError, match="token_budget"):
        think({**attributes, "token_budget": 100, "system_prompt": ""}, model)


def test_an_answer_that_took_more_thinking_than_allowed_is_refused_and_the_excess_booked_as_overrun():
    run = Run()
    with pytest.raises(BudgetError, match=r"thought for 30 tokens, and `budget` allows 10; they are booked"):
        think({"budget": 10, "max_output_tokens": 100}, thought(30, output=50), run)
    assert run.ledger.spent()["output_tokens"] == 50
    assert run.ledger.overrun() == {"output_tokens": 20}  # though all of it is less than what was reserved in all
    assert run.usage[0][3]["output_tokens"] == 50
    assert run.events[0].details["thinking_tokens"] == 30


def test_thinking_within_its_budget_is_no_overrun():
    run = Run()
    assert think({"budget": 30, "max_output_tokens": 20}, thought(30, output=50), run) == "Paris"
    assert run.ledger.spent()["output_tokens"] == 50
    assert run.ledger.overrun() == {}


def test_thinking_inside_of_the_text_is_taken_out_and_counted_when_the_model_reports_none():
    inside = "<think>Is it Lyon? It is not.</think>\nParis"
    assert think({}, ScriptedModel(default=inside)) == "Paris"
    with pytest.raises(BudgetError, match="thought for 6 tokens"):
        think({"budget": 5}, ScriptedModel(default=inside))
    assert think({"budget": 6}, thought(5, inside)) == "Paris"  # what the model reports counts
    assert ask({"template_str": "?"}, model=ScriptedModel(default=inside)) == inside  # ASK takes a text as it is


def test_a_repair_after_thinking_carries_the_answer_alone():
    model = ScriptedModel(rules=[(".", ["<think>hm</think>seven", '<think>{"n": 1}?</think>{"n": 7}'])])
    assert think({"output_schema": NUMBER, "budget": 50}, model) == {"n": 7}
    assert [m.content for m in model.calls[1].prompt.messages if m.role == "assistant"] == ["seven"]


def test_a_model_that_was_cut_off_while_it_thought_has_given_no_answer():
    with pytest.raises(ModelError, match="was cut off before it answered"):
        think({"budget": 90}, thought(0, "<think>It might be", finish="length"))


def test_what_cannot_be_true_about_thinking_counts_as_none_and_the_tokens_are_booked():
    run = Run()
    for said in (float("nan"), -5, float("inf")):
        assert think({"budget": 10}, thought(said), run) == "Paris"
    assert run.ledger.spent()["output_tokens"] == 60
    assert run.ledger.overrun() == {}
    assert not any(run.ledger.reserved().values())


def test_a_cancelled_call_is_booked_with_all_it_might_have_thought():
    async def cancelled():
        run = Run()
        bound = bind(
            {"template_str": "?", "budget": 50, "max_output_tokens": 30}, op="THINK", model=ScriptedModel("", "x", delay_s=9)
        )
        task = asyncio.ensure_future(fire(bound, run=run))
        await asyncio.sleep(0)
        assert run.ledger.reserved()["output_tokens"] == 80
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert run.ledger.spent()["output_tokens"] == 80

    asyncio.run(cancelled())
