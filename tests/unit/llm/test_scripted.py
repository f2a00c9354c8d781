import asyncio
import json

import pytest

from apxm.errors import InvalidError, ModelError, TransientError
from apxm.llm.base import LanguageModel, Message, Prompt, Reply, ToolCall, Usage, prompt_tokens
from apxm.llm.scripted import Rule, ScriptedModel


def prompt(text, node=None, **more):
    return Prompt((Message("system", "be kind"), Message("user", text)), metadata={"node": node} if node else {}, **more)


def say(model, text="hello", node=None, **more):
    return asyncio.run(model.complete(prompt(text, node, **more))).text


def test_the_first_rule_that_matches_answers():
    model = ScriptedModel(rules=[("(?i)capital of france", "Paris."), ("capital", "A city."), (".", "What?")])
    assert say(model, "The Capital of France?") == "Paris."
    assert say(model, "The capital of Spain?") == "A city."
    assert say(model, "Hi") == "What?"


def test_a_rule_is_found_by_the_name_of_its_node_too():
    model = ScriptedModel(rules=[("draft", "a draft"), (Rule("checked", node="check"))], default="else")
    assert say(model, "anything", node="draft") == "a draft"
    assert say(model, "please check", node="other") == "else"  # `node` is exact and only a node
    assert say(model, "x", node="check") == "checked"


def test_functions_may_choose_and_may_answer():
    async def later(asked):
        return asked.messages[-1].content[::-1]

    model = ScriptedModel(rules=[(lambda asked: asked.seed == 7, later), (".", lambda asked: asked.messages[-1].content.upper())])
    assert say(model, "abc", seed=7) == "cba"
    assert say(model, "abc") == "ABC"


def test_a_list_is_given_one_by_one_and_then_the_rule_is_used_up():
    model = ScriptedModel(rules=[("x", ["one", {"two": 2}, [3]]), ("x", "rest")])
    assert [say(model, "x") for _ in range(5)] == ["one", '{"two": 2}', "[3]", "rest", "rest"]


def test_failures_come_first_and_any_error_may_be_an_answer():
    model = ScriptedModel(
        rules=[Rule("fine", match="a", failures=2), ("b", [ValueError("no"), TransientError]), ("c", ModelError("never"))]
    )
    for _ in range(2):
        with pytest.raises(TransientError, match=r"scripted failure \d of 2"):
            say(model, "a")
    assert say(model, "a") == "fine"
    with pytest.raises(ValueError, match="no"):
        say(model, "b")
    with pytest.raises(TransientError):
        say(model, "b")
    caught = []
    for _ in range(2):
        with pytest.raises(ModelError, match="never") as error:
            say(model, "c")
        caught.append(error.value)
    assert caught[0] is not caught[1]  # who catches one may write on it


def test_an_unmatched_prompt_shows_itself_and_the_nearest_rule():
    model = ScriptedModel(rules=[("weather in Rome", "sun"), ("stock of bolts", "7")])
    with pytest.raises(
        ModelError,
        match=r"of node `n` `the weather in Roma\?`.*nearest of its 2 rules is for match `weather in Rome`",
    ):
        say(model, "the weather\nin Roma?", node="n")
    with pytest.raises(ModelError, match=r"it has no rules"):
        say(ScriptedModel())
    used_up = ScriptedModel(rules=[("x", ["one"])])
    say(used_up, "x")
    with pytest.raises(ModelError, match=r"rule for match `x` matches, but its 1 answers are used up"):
        say(used_up, "x")


def test_every_call_is_recorded_with_how_it_ended():
    model = ScriptedModel(rules=[("good", "yes")])
    say(model, "good", node="n")
    with pytest.raises(ModelError):
        say(model, "bad")
    first, second = model.calls
    assert (first.text, first.prompt.metadata["node"], first.reply.text, first.error) == ("good", "n", "yes", None)
    assert (second.text, second.reply, type(second.error)) == ("bad", None, ModelError)


def test_usage_is_counted_the_same_every_time_or_given():
    model = ScriptedModel(rules=[("a", "12345"), ("b", Reply("x", Usage(5, -1), "liar", "length"))])
    assert isinstance(model, LanguageModel)
    reply = asyncio.run(model.complete(prompt("a")))
    assert reply.usage == Usage(prompt_tokens(model, prompt("a")), 2)
    assert asyncio.run(model.complete(prompt("b"))) == Reply("x", Usage(5, -1), "liar", "length")


def test_a_delay_can_be_cancelled():
    async def cancelled():
        model = ScriptedModel(default="late", delay_s=3600)
        task = asyncio.ensure_future(model.complete(prompt("x")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return model.calls[0]

    assert isinstance(asyncio.run(cancelled()).error, asyncio.CancelledError)


def test_patterns_run_in_linear_time():
    assert say(ScriptedModel(rules=[("(a+)+$", "yes")], default="no"), "a" * 5_000 + "!") == "no"
    with pytest.raises(InvalidError, match=r"`\(\?=a\)` is no RE2 pattern"):
        ScriptedModel(rules=[("(?=a)", "x")])


@pytest.mark.parametrize("rule", ["text", ("a",), (3, "x")])
def test_what_is_no_rule_is_refused(rule):
    with pytest.raises(InvalidError, match="a scripted rule is"):
        ScriptedModel(rules=[rule])


# ---- files -----------------------------------------------------------------------------------------------------------
RULES = [
    {"match": "France", "answer": "Paris"},
    {"node": "check", "answers": ["no", {"ok": True}], "failures": 1},
    {"node": "list", "answer": [1, 2]},
    {"node": "broken", "error": "always"},
]


@pytest.mark.parametrize("form", ["map", "list", "lines"])
def test_a_script_may_be_a_file(tmp_path, form):
    path = tmp_path / ("s.jsonl" if form == "lines" else "s.json")
    rules = [*RULES, {"answer": "else"}]
    body = {"map": {"rules": RULES, "default": "else", "name": "mine"}, "list": rules}.get(form)
    path.write_text("\n".join(map(json.dumps, rules)) if body is None else json.dumps(body), encoding="utf-8")
    model = ScriptedModel.load(path)
    assert model.name == ("mine" if form == "map" else "scripted")
    assert say(model, "France") == "Paris"
    with pytest.raises(TransientError):
        say(model, node="check")
    assert [say(model, node="check") for _ in range(3)] == ["no", '{"ok": true}', "else"]
    assert say(model, node="list") == "[1, 2]"
    with pytest.raises(ModelError, match="always"):
        say(model, node="broken")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.json", "{", r"is no JSON.*jsonl"),
        ("s.json", "3", r"no list of rules"),
        ("s.json", '{"rule": []}', r"unknown key `rule`; close: `rules`"),
        ("s.json", '[{"match": "a", "anser": "b"}]', r"rule 1 has the unknown key `anser`; close: `answer`"),
        ("s.json", '[{"match": "a"}]', r"rule 1 has no answer"),
        ("s.json", '[{"answer": "a"}, {"answer": "a", "error": "b"}]', r"rule 2 has answer, error"),
        ("s.json", '[{"match": 3, "answer": "a"}]', r"`match` is 3, expected a text"),
        ("s.json", '[{"match": "a(", "answer": "a"}]', r"rule 1: scripted pattern `a\(` is no RE2 pattern"),
        ("s.json", '["a"]', r"rule 1 is a str, expected a map"),
        ("s.jsonl", '{"answer": "a"}\n\n{', r"line 3 is no JSON"),
    ],
)
def test_a_broken_script_says_where(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidError, match=message):
        ScriptedModel.load(path)


def test_a_script_that_is_not_there_says_so(tmp_path):
    with pytest.raises(InvalidError, match="cannot be read"):
        ScriptedModel.load(tmp_path / "none.json")


# ---- tools -----------------------------------------------------------------------------------------------------------
def turn(*tools, system="be kind"):
    """A prompt after the model has asked for calls and heard `tools`."""
    calls = tuple(ToolCall(f"c{n}", "look", {}) for n in range(len(tools)))
    heard = (Message("tool", text, tool_call_id=call.id) for text, call in zip(tools, calls))
    return Prompt((Message("system", system), Message("user", "hello"), Message("assistant", "", calls), *heard))


def test_an_answer_may_ask_for_calls_of_tools_one_or_several_at_once():
    one, two = ToolCall("", "look", {"at": 1}), ToolCall("mine", "look", {"at": 2})
    model = ScriptedModel(rules=[("hello", [one, (one, two), "done"])])
    replies = [asyncio.run(model.complete(prompt("hello"))) for _ in range(3)]
    assert [(reply.text, reply.finish, len(reply.tool_calls)) for reply in replies] == [
        ("", "tools", 1),
        ("", "tools", 2),
        ("done", "stop", 0),
    ]
    ids = [call.id for call in replies[1].tool_calls]
    assert ids[1] == "mine"
    assert ids[0]
    assert replies[0].usage.output_tokens > 0


def test_a_rule_may_be_for_what_the_tools_said_last():
    model = ScriptedModel(rules=[Rule("sorry", tool="^error"), Rule("good", tool="."), (".", "first")])
    assert asyncio.run(model.complete(turn("fine", "error: no"))).text == "sorry"
    assert asyncio.run(model.complete(turn("fine"))).text == "good"
    assert say(model) == "first"
    again = Prompt((*turn("error").messages, Message("user", "error")))  # the tools spoke before, not last
    assert asyncio.run(model.complete(again)).text == "first"


def test_a_rule_may_be_for_what_the_system_prompt_says():
    model = ScriptedModel(rules=[Rule("strict", system="^be strict"), (".", "any")])
    assert asyncio.run(model.complete(turn("x", system="be strict"))).text == "strict"
    assert say(model) == "any"


def test_a_file_may_ask_for_calls_too(tmp_path):
    file = tmp_path / "script.jsonl"
    calls = {"tool_calls": [{"name": "add", "arguments": {"a": 1}}, {"name": "now"}]}
    rules = [
        {"tool": "^3$", "answer": "three"},
        {"system": "kind", "answers": [calls, calls]},
        {"match": ".", "answer": {"tool_calls": 1, "x": 2}},
    ]
    file.write_text("\n".join(map(json.dumps, rules)))
    model = ScriptedModel.load(file)
    for _ in range(2):
        asked = asyncio.run(model.complete(prompt("hello"))).tool_calls
        assert [(call.name, call.arguments) for call in asked] == [("add", {"a": 1}), ("now", {})]
    assert asyncio.run(model.complete(turn("3"))).text == "three"
    assert say(model) == '{"tool_calls": 1, "x": 2}'  # any other map is an answer


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"answer": {"tool_calls": []}}, r"rule 1: `tool_calls` is \[\], expected a list of \{name, arguments\}"),
        ({"answer": {"tool_calls": [{"arguments": {}}]}}, "is no call"),
        ({"answers": [{"tool_calls": [{"name": "a", "arguments": [1]}]}]}, "is no call"),
        ({"answer": {"tool_calls": [{"name": "a", "args": {}}]}}, "unknown key `args`; close: `arguments`"),
        ({"answer": "x", "tool": 1}, "`tool` is 1, expected a text"),
        ({"answer": "x", "tool": "("}, r"pattern `\(` is no RE2 pattern"),
    ],
)
def test_a_mistake_in_such_a_rule_is_said_with_its_place(tmp_path, entry, message):
    file = tmp_path / "script.json"
    file.write_text(json.dumps([entry]))
    with pytest.raises(InvalidError, match=message):
        ScriptedModel.load(file)
