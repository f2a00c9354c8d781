"""VERIFY, fired outside any engine: which input is what, how it is marked off, what comes out."""

import asyncio
import json

import pytest

from apxm.errors import BindError, ModelError
from apxm.executor.bind import Kind, Services
from apxm.executor.context import OpContext
from apxm.executor.handlers.judging import BINDERS
from apxm.graph.operation import Effect
from apxm.llm.fencing import fenced
from apxm.llm.prompts.built_in import VERIFY
from apxm.llm.registry import ModelRegistry
from apxm.llm.scripted import ScriptedModel
from apxm.llm.verdict import VERDICT
from tests.unit.executor.firing import spec
from tests.unit.executor.test_llm import Run

YES = {"reasoning": "It says so.", "verdict": "confirmed", "confidence": 1}


def bind(attributes, inputs=(), model=None):
    registry = ModelRegistry()
    registry.register("scripted", model or ScriptedModel(default=YES))
    return BINDERS["VERIFY"](spec("VERIFY", attributes, inputs), Services(None, registry, None, None, None))


def verify(attributes, *values, ports=None, model=None):
    bound = bind(attributes, ports or (None,) * len(values), model)
    context = OpContext(Run(), node=7, name="n", op="VERIFY", agent="me", attempt=1, deadline=float("inf"), locate=lambda: ())
    return asyncio.run(bound.fn(context, *values))


def asked(attributes, *values, ports=None):
    """The user turn that the model gets."""
    model = ScriptedModel(default=YES)
    verify(attributes, *values, ports=ports, model=model)
    return model.calls[0].text


@pytest.mark.parametrize(
    ("attributes", "ports", "values", "blocks"),
    [
        ({"claim": "a", "evidence": "b"}, (), (), {"claim": "a", "evidence": "b"}),
        ({"claim": "a"}, (), (), {"claim": "a"}),
        ({}, (None,), ("a",), {"claim": "a"}),
        ({}, (None, None, None), ("a", ["b"], "c"), {"claim": "a", "evidence": '["b"]'}),
        ({"claim": "a"}, (None,), ("b",), {"claim": "a", "evidence": "b"}),
        ({"evidence": "b"}, (None,), ("a",), {"claim": "a", "evidence": "b"}),
        ({"claim": "{0}!"}, (None, None), ("a", "b"), {"claim": "a!", "evidence": "b"}),
        ({"claim": "{{node_2}}", "evidence": "{{node_1}}"}, (None, None), ("b", "a"), {"claim": "a", "evidence": "b"}),
        ({}, ("evidence", None), ("b", "a"), {"claim": "a", "evidence": "b"}),
        ({}, ("evidence", "claim"), ("b", "a"), {"claim": "a", "evidence": "b"}),
        ({"condition": "c"}, (None, None), ("a", "ignored"), {"subject": "a", "condition": "c"}),
        ({"condition": "c", "claim": "a"}, (), (), {"subject": "a", "condition": "c"}),
        ({"condition": "c"}, (None, "evidence"), ("a", "b"), {"subject": "a", "evidence": "b", "condition": "c"}),
        ({"condition": "is {what}"}, (None, "what"), ("a", "kind"), {"subject": "a", "condition": "is kind"}),
        ({"claim": "{0}"}, (None,), ("{0} </claim> {{node_1}}",), {"claim": "{0} </claim> {{node_1}}"}),  # in one pass
    ],
)
def test_what_is_judged_comes_from_attributes_then_by_port_then_in_order(attributes, ports, values, blocks):
    text = asked(attributes, *values, ports=ports)
    assert fenced(text) == blocks
    assert list(fenced(text)) == list(blocks)


def test_the_question_fits_what_there_is_and_a_template_takes_its_place():
    assert asked({"claim": "a", "evidence": "b"}).startswith("Does the claim follow from the evidence?\n\n<claim>\na\n</claim>")
    assert asked({"claim": "a"}).startswith("Is the claim true, as far as you can know?")
    assert asked({"condition": "c"}, "a").startswith("Does the subject meet the condition?")
    own = asked({"template_str": "So?"}, "a", "b")
    assert own == "So?\n\n<claim>\na\n</claim>\n\n<evidence>\nb\n</evidence>"
    placed = asked({"template_str": "Is {0} so?", "evidence": "b"}, "a")
    assert placed == "Is a so?\n\n<evidence>\nb\n</evidence>"  # what the template places is not said twice
    assert asked({"template_str": "Is the sky blue?"}).strip() == "Is the sky blue?"


def test_it_asks_with_the_schema_of_a_verdict_and_the_instructions_for_one():
    model = ScriptedModel(default=YES)
    verify({"claim": "a"}, model=model)
    assert model.calls[0].prompt.output_schema == VERDICT
    assert VERIFY in model.calls[0].prompt.messages[0].content


@pytest.mark.parametrize(("verdict", "as_bool"), [("confirmed", True), ("refuted", False), ("insufficient", False)])
def test_it_gives_the_verdict_or_whether_it_is_confirmed(verdict, as_bool):
    model = ScriptedModel(default={**YES, "verdict": verdict})
    assert verify({"claim": "a", "as_bool": True}, model=model) is as_bool
    said = verify({"claim": "a"}, model=model)
    assert said == {"verdict": verdict, "confidence": 1.0, "reasoning": "It says so."}
    assert type(said["confidence"]) is float


@pytest.mark.parametrize(
    "answer",
    [
        "true",
        "not true",
        "",
        {"verdict": "confirmed"},
        {**YES, "verdict": "CONFIRMED"},
        {**YES, "confidence": 1.1},
        {**YES, "more": 1},
    ],
)
def test_an_answer_that_is_no_verdict_is_repaired_and_else_fails(answer):
    model = ScriptedModel(rules=[(".", [answer, YES])])
    assert verify({"claim": "a", "as_bool": True}, model=model) is True
    with pytest.raises(ModelError, match="breaks output_schema and no repair is allowed"):
        verify({"claim": "a", "max_schema_retries": 0}, model=ScriptedModel(default=answer))


def test_it_is_bound_as_what_asks_a_model():
    bound = bind({"claim": "a"})
    assert (bound.kind, bound.effect, bound.label) == (Kind.ASYNC, Effect.PAID, "llm:scripted")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"condition": "c"}, r"VERIFY `n` \(node 7\) of flow `main` has nothing to judge"),
        ({"claim": "{who}"}, r"nothing fills `\{who\}`"),
        ({"claim": "a", "model": "scriptd"}, "model `scriptd` is not registered"),
    ],
)
def test_what_cannot_be_judged_is_refused_when_it_is_bound(attributes, message):
    with pytest.raises(BindError, match=message):
        bind(attributes)


def test_the_offline_model_confirms_only_what_is_said():
    claim = {"claim": "The bridge opens in May.", "model": "extractive"}
    assert verify({**claim, "evidence": "Surely the bridge opens in May."})["verdict"] == "confirmed"
    assert verify({**claim, "evidence": "The bridge never opens in May."})["verdict"] == "insufficient"
    assert verify({**claim, "evidence": json.dumps("x" * 50_000)})["verdict"] == "insufficient"
