"""What the extractive model answers when JSON is wanted: quotes where quotes can stand, an error where they cannot."""

import asyncio
import json

import pytest

from apxm.errors import ModelError
from apxm.llm.base import Message, Prompt
from apxm.llm.extractive import NOTICE, ExtractiveModel
from apxm.llm.fencing import fence
from apxm.llm.filling import DEPTH_MAX, ONE_STEP
from apxm.llm.structured import OutputSchema
from apxm.llm.verdict import VERDICT

CONTEXT = """\
[guide.md:1] The pump runs for 40 minutes every night. The red valve stays closed in winter.

[log.md:7] In March the red valve was open by mistake. The night crew closed it."""

TEXT, TEXTS = {"type": "string"}, {"type": "array", "items": {"type": "string"}}


def ask(schema, user, **settings):
    prompt = Prompt(
        (Message("system", f"JSON only: {json.dumps(schema)}"), Message("user", user)), output_schema=schema, **settings
    )
    value = json.loads(asyncio.run(ExtractiveModel(notice=False).complete(prompt)).text)
    assert OutputSchema(schema).violations(value) == []
    return value


def question(schema, text, **settings):
    return ask(schema, f"Question: {text}\n\n{CONTEXT}", **settings)


def map_of(*required, **properties):
    return {"type": "object", "properties": properties, "required": list(required or properties), "additionalProperties": False}


def test_texts_and_lists_of_texts_are_quotes_and_only_the_first_list_has_them():
    said = question(map_of(answer=TEXT, quotes=TEXTS, more=TEXTS), "When is the red valve closed?")
    quote = "The red valve stays closed in winter. [guide.md:1]"
    assert quote in said["answer"]
    assert quote in said["quotes"]
    assert said["more"] == []


def test_a_summary_is_of_the_most_central_sentences_and_ends_without_a_notice():
    said = question(map_of(summary=TEXT), "What is to be learned?")
    assert "valve" in said["summary"]
    assert NOTICE not in said["summary"]


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "integer"}, "How long does the pump run every night?", 40),
        ({"type": "number", "minimum": 1}, "How long does the pump run every night?", 40),
        ({"enum": ["green", "red"]}, "Which valve stays closed in winter?", "red"),
        ({"anyOf": [{"type": "boolean"}, {"type": "integer"}]}, "How long does the pump run every night?", 40),
        ({"$ref": "#/$defs/minutes"}, "How long does the pump run every night?", 40),
        ({"const": 1}, "What is it?", 1),
        ({"type": ["null", "integer"]}, "How long does the pump run every night?", 40),
    ],
)
def test_what_the_best_quote_names_once_is_taken_from_it(schema, text, value):
    whole = {**map_of(it=schema), "$defs": {"minutes": {"type": "integer"}}}
    assert question(whole, text) == {"it": value}


@pytest.mark.parametrize(
    ("schema", "text", "why"),
    [
        ({"type": "boolean"}, "Is the valve closed?", "neither a text nor a list"),
        ({"type": "integer"}, "Which valve stays closed in winter?", "the best quote has 0 numbers"),
        ({"type": "integer", "maximum": 10}, "How long does the pump run every night?", "greater than the maximum"),
        ({"enum": ["green", "blue"]}, "Which valve stays closed in winter?", "names 0 of the choices"),
        ({"type": "integer"}, "Who wrote the opera?", "nothing answers the question"),
        ({"type": "string", "pattern": "^[0-9]+$"}, "How long does the pump run?", "does not match"),
        ({"type": "array", "items": {"type": "string"}, "minItems": 50}, "Which valve?", "50"),
        ({"$ref": "https://example.org/schema"}, "Which valve?", "out of the schema"),
        ({"$ref": "#/properties/it"}, "Which valve?", "nested too deeply"),
    ],
)
def test_what_no_quote_can_say_is_an_error_that_says_so(schema, text, why):
    with pytest.raises(ModelError, match=f"quotes sentences and cannot answer in this JSON: .*{why}"):
        question(map_of(it=schema), text)


def test_optional_parts_are_left_out_and_those_of_a_map_without_required_ones_filled_where_they_can_be():
    assert question(map_of("a", a=TEXT, b={"type": "boolean"}), "Which valve?").keys() == {"a"}
    loose = {"type": "object", "properties": {"a": TEXT, "b": {"type": "boolean"}}}
    assert question(loose, "Which valve?").keys() == {"a"}


def test_a_schema_with_nothing_to_fill_is_refused():
    with pytest.raises(ModelError, match="nothing of it can be filled"):
        question({"type": "object"}, "Which valve?")


def test_a_deep_schema_ends():
    schema = TEXT
    for _ in range(DEPTH_MAX + 2):
        schema = map_of(a=schema)
    with pytest.raises(ModelError, match="nested too deeply"):
        question(schema, "Which valve?")


@pytest.mark.parametrize("user", ["Goal: Drain the pool.\n\nContext `x`: y", f"Plan this.\n\n{fence('goal', 'Drain the pool.')}"])
def test_a_plan_is_one_step_that_quotes_the_goal(user):
    step = map_of("description", description=TEXT, dependencies={"type": "array", "items": {"type": "integer"}})
    said = ask(map_of(plan={"type": "array", "items": step, "minItems": 1}, result={}), user)
    assert said == {"plan": [{"description": "Drain the pool."}], "result": ONE_STEP}


def test_material_between_tags_is_the_context_and_what_stands_around_it_asks():
    user = f"When is the red valve closed?\n\n{fence('notes', CONTEXT)}"
    assert "The red valve stays closed in winter. [guide.md:1]" in ask(map_of(answer=TEXT), user)["answer"]
    episodes = fence("episodes", "the pump was closed by mistake\nthe valve was opened by hand")
    user = f"What was closed by mistake?\n\n{episodes}"
    assert ask(map_of(quotes=TEXTS), user)["quotes"] == ["the pump was closed by mistake [episodes:1]"]


def test_a_verdict_is_by_words_alone_and_of_claims_only():
    claim = fence("claim", "The red valve stays closed in winter.")
    assert ask(VERDICT, f"Does it follow?\n\n{claim}\n\n{fence('evidence', CONTEXT)}")["verdict"] == "confirmed"
    assert ask(VERDICT, f"Is it true?\n\n{claim}")["verdict"] == "insufficient"
    tested = f"{fence('subject', CONTEXT)}\n\n{fence('condition', 'the red valve stays closed in winter')}"
    assert ask(VERDICT, f"Does it?\n\n{tested}")["verdict"] == "insufficient"
    assert ask(VERDICT, f"Confirm it: {CONTEXT}")["verdict"] == "insufficient"


def test_json_that_does_not_fit_into_the_answer_is_an_error():
    with pytest.raises(ModelError, match="does not fit into 5 tokens"):
        question(map_of(answer=TEXT), "Which valve?", max_output_tokens=5)
