"""A flow in words: what it takes and gives, what happens when, what it may touch. The words are part of the promise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apxm import Artifact, Graph, compile
from apxm.artifact.lift import lift
from apxm.errors import ApxmError
from apxm.graph.contract import from_json
from apxm.graph.explain import STEPS_MAX, explain
from apxm.graph.model import AgentGraph, Edge, Node, Parameter, Program
from apxm.graph.ops import OPERATIONS
from apxm.graph.sentences import SENTENCES
from apxm.graph.wording import condition, constant, count, duration, listed, quoted, several, shortened

ARTIFACTS = Path(__file__).parents[3] / "artifacts"


def told(program, effects=None, width=200):
    artifact = compile(program, level=0)
    return explain(lift(artifact), artifact.entry, effects, width)


def steps(text):
    """The numbered lines, without their numbers."""
    return [line.strip().partition(" ")[2] for line in text.splitlines() if line.strip()[:1].isdigit()]


def test_every_operation_that_can_be_in_an_artifact_has_its_sentence():
    assert set(OPERATIONS) - set(SENTENCES) == {"LOOP_START", "LOOP_END"}  # compiled to LOOP


def test_the_brief_reads_as_a_person_would_tell_it():
    artifact = Artifact.load(ARTIFACTS / "brief" / "brief.apxm")
    text = explain(lift(artifact), artifact.entry, {"list": "read", "read": "read"}, width=1000)
    assert text.startswith(
        "The flow `brief`: answers a question from a folder of notes, with sources.\n"
        "It takes `folder` (text) and `question` (text) and returns the result of `compose`.\n"
    )
    for sentence in (
        "3. `files` lets the result of `list` pass only if it is not empty; otherwise the step fails with",
        "4. `notes` does the following for each item of the result of `list`, at most 32 at a time, and gives the list of",
        "4.3b. If `read` fails or if `split` fails, `failure` takes the error of `read` or the error of `split`, whichever",
        "4.4. One of these:",
        "8a. If `found` holds, `answer` asks a model: “Question: {question}",
        "8b. If `found` does not hold, `nothing` gives “No passage of these files has the words of the question.”",
        "It asks a model in two steps: `summarise` and `answer`.",
        "The capabilities `list` and `read` only read.",
        "A failure that no step above takes care of ends the run.",
    ):
        assert sentence in text


def test_what_an_agent_has_is_told_of_its_node_and_of_its_metadata_alike():
    said = {
        "memory": [{"name": "style", "value": "dry"}, {"name": "notes", "tier": "ltm"}],
        "beliefs": {"tone": "plain"},
        "goals": ["publish", {"id": "check", "description": "Check it"}],
        "capabilities": ["read", "search"],
        "context": "You edit.",
    }
    words = (
        "gives {0} the memory `style` and `notes`, the belief that `tone` is “plain” and the goals “publish” and “Check it”, "
        "lets {0} use no capability but `read` and `search` and says what {0} is: “You edit.”"
    )
    node = Graph("g", [Node(1, "self", "AGENT", said)])
    assert steps(told(node, width=1000)) == [f"`self` {words.format('the agent')}"]
    program = Program([AgentGraph("editor", [Graph("g", [Node(1, "f", "FENCE")])], said)])
    artifact = compile(program, level=0)
    text = explain(lift(artifact), artifact.entry, width=1000, agents=artifact.agents)
    assert f"From the start, the program {words.format('the agent `editor`')}" in text
    assert "lets the agent use no capability." in told(Graph("g", [Node(1, "self", "AGENT", {"capabilities": []})]))
    assert steps(told(Graph("g", [Node(1, "self", "AGENT")]))) == ["`self` declares the agent."]


@pytest.mark.parametrize("op", ["PLAN", "REASON"])
def test_a_plan_that_runs_says_what_it_may_call(op):
    text = {"goal": "x"} if op == "PLAN" else {"prompt": "x"}

    def said(**more):
        return steps(told(Graph("g", [Node(1, "p", op, {**text, **more})]), width=1000))[0]

    run = "the plan that the model makes is then run, and may call"
    assert said(enable_inner_plan=True, tools=["find", "look"]).endswith(f"; {run} `find` and `look`, if granted.")
    assert said(enable_inner_plan=True).endswith(f"; {run} what this flow names, if granted.")
    assert "may call" not in said()


@pytest.mark.parametrize("metadata", [{"goals": "x"}, {"beliefs": [1]}, {"capabilities": "all"}, {"memories": 3}, {"context": 1}])
def test_metadata_that_makes_no_sense_is_no_reason_not_to_tell_the_flow(metadata):
    artifact = compile(Program([AgentGraph("editor", [Graph("g", [Node(1, "f", "FENCE")])], metadata)]), level=0)
    assert "The flow `g` of the agent `editor`" in explain(lift(artifact), artifact.entry, agents=artifact.agents)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"goal_id": "g"}, "sets the goal “g”."),
        ({"goal_id": "g", "priority": 3, "description": "Do {x}"}, "sets the goal “g” with priority 3: “Do {x}”."),
        ({"goal_id": "{x}", "action": "complete"}, "marks the goal `x` as reached."),
        ({"goal_id": "g", "action": "remove"}, "drops the goal “g”."),
        ({"action": "clear"}, "drops all goals of the agent."),
    ],
)
def test_what_happens_to_a_goal_is_told(attributes, words):
    graph = Graph("g", [Node(1, "goal", "UPDATE_GOAL", attributes)], [], [Parameter("x")])
    assert steps(told(graph)) == [f"`goal` {words}"]


def test_what_may_happen_at_once_stands_under_one_number():
    graph = Graph("g")
    left, right = graph.ask("Left?", name="left"), graph.ask("Right?", name="right")
    graph.wait_all(left, right, name="both")
    assert told(graph).splitlines()[2:6] == [
        "1. At the same time:",
        "   1a. `left` asks a model: “Left?”",
        "   1b. `right` asks a model: “Right?”",
        "2. `both` waits for the results of `left` and `right` and gives their list.",
    ]


def test_a_constant_is_said_where_it_is_used_and_a_result_as_it_came_through_a_guard():
    graph = Graph("g")
    checked = graph.guard(graph.param("x"), condition="len >= 3", name="checked")
    graph.inv("send", graph.const_str("hello", name="greeting"), to=checked, name="send")
    assert steps(told(graph)) == [
        "`checked` lets `x` pass only if it has a length of at least 3; otherwise the step fails.",
        "`send` calls the capability `send` with “hello” and `x` as `to`.",
    ]


def test_branches_loops_and_failures_are_said_with_their_conditions():
    graph = Graph("g")
    text = graph.param("text")
    with graph.loop(text=text, carry=["text"], max_iterations=3, until="contains done", name="polish") as body:
        body.ask("Shorten {text}", name="shorten")
    attempt = graph.try_(name="attempt")
    with attempt.try_:
        graph.inv("risky", name="risky", timeout_ms=5000)
    with attempt.catch as error:
        graph.print("Failed: {0}", error, name="say")
    with attempt.finally_:
        graph.fence(name="settle")
    said = told(graph)
    assert (
        "`polish` repeats the following at most three times, until the result contains “done”; "
        "`text` begins as it came in and is then the result of the time before:"
    ) in said
    assert "`shorten` asks a model: “Shorten {text}”." in said
    assert "`attempt` tries the following:" in said
    assert "`risky` calls the capability `risky` (it may take 5 s)." in said
    assert "If anything of that fails:" in said
    assert "`say` shows “Failed: {error}”." in said
    assert "At the end, whatever happened:" in said


def test_cases_of_a_switch_come_as_they_are_tried_and_the_default_last():
    graph = Graph("g")
    switch = graph.switch(graph.param("kind"), case_labels=["z", "a"], name="switch")
    with switch.default():
        graph.const_str("other", name="other")
    with switch.case("a"):
        graph.const_str("A", name="first")
    with switch.case("z"):
        graph.const_str("Z", name="last")
    lines = [line.strip() for line in told(graph).splitlines()]
    headings = [line for line in lines if line.startswith(("If it is", "In every"))]
    assert headings == ["If it is “z”:", "If it is “a”:", "In every other case:"]
    assert "1.3. `other` gives “other”." in lines


def test_items_of_nested_maps_are_told_apart():
    graph = Graph("g")
    with graph.map(graph.param("rows", "json"), name="rows_of") as row:
        inner = graph.map(row, name="cells_of")
        with inner as cell:
            graph.inv("mix", cell, row, name="mix")
    said = told(graph)
    assert "for each item of that item (a list itself)" in said
    assert "with the item of `cells_of` and the item" in said


def test_a_fallback_is_said_and_a_model_with_its_rules():
    graph = Graph("g")
    graph.ask(
        "Rate {x}", graph.param("x"), model="big", tools=["look"], max_iterations=2, output_schema={}, fallback=[], name="rate"
    )
    said = told(graph)
    assert (
        "asks the model `big`: “Rate {x}”; the model may call `look` for at most two rounds and the answer must fit a JSON schema"
        in said
    )
    assert "(if it fails, its result is an empty list)." in said
    assert "A model may call `look` as it sees fit." in said


def test_inputs_that_a_prompt_does_not_mention_are_its_context():
    graph = Graph("g")
    draft = graph.ask("Draft.", name="draft")
    graph.ask("Shorten.", draft, name="short")
    assert "`short` asks a model, with the result of `draft` as context: “Shorten.”" in told(graph)


def test_flows_that_are_called_are_told_behind_their_callers():
    outer, inner = Graph("main"), Graph("check")
    inner.inv("look", inner.param("what"), name="look")
    inner.metadata["is_entry"] = False
    outer.flow_call("check", args={"what": "the roof"}, name="call")
    said = told(Program([AgentGraph("boss", [outer, inner])], "p"))
    assert "`call` calls the flow `check` with “the roof” as `what`." in said
    assert said.index("The flow `main` of the agent `boss`") < said.index(
        "The flow `check` of the agent `boss` takes `what` (text)"
    )


def test_what_a_flow_may_touch_is_said_by_effect():
    graph = Graph("g")
    for name in ("count", "look", "save", "pay", "mystery"):
        graph.inv(name, name=name)
    graph.umem("k", value=1, memory_tier="ltm", name="keep")
    graph.pause("Go on?", name="person")
    text = " ".join(told(graph, {"count": "pure", "look": "read", "save": "idempotent", "pay": "guarded"}).split())
    for sentence in (
        "The capability `count` only computes.",
        "The capability `look` only reads.",
        "The capability `save` changes something, and may be repeated without harm.",
        "The capability `pay` does what cannot be undone, and is never repeated by itself.",
        "What the capability `mystery` does is not in the program, so it is treated like what cannot be undone.",
        "It writes long-term memory.",
        "It waits for a person in `person`.",
    ):
        assert sentence in text


def test_who_shares_what_is_stored_and_where_it_lasts_is_said():
    graph = Graph("g")
    for scope in ("flow", "agent", "run", "session"):
        graph.umem("k", value=scope, scope=scope, name=f"for_{scope}")
    graph.umem("k", value="kept", durable=True, name="durable")
    graph.reason("Think.", durable=True, context_key="k", name="weigh")
    graph.plan("Go.", context_key="k", name="steps")
    text = " ".join(told(graph).split())
    for sentence in (
        "stores “flow” under “k” in short-term memory of this flow.",
        "stores “agent” under “k” in short-term memory.",
        "stores “run” under “k” in short-term memory of the whole run.",
        "stores “session” under “k” in short-term memory of the session.",
        "stores “kept” under “k” in short-term memory, and in long-term memory too.",
        "“Think.”; the model is told what memory has under `k`; what it comes to believe is stored in long-term memory too.",
        "“Go.”; the model is told what memory has under `k`.",
        "It reads all memory and writes short-term memory and long-term memory.",
    ):
        assert sentence in text


def test_a_flow_that_only_computes_touches_nothing():
    graph = Graph("g")
    graph.merge(graph.param("a", "int"), graph.param("b", "int"), mode="sum", name="sum")
    said = told(graph)
    assert "It touches nothing outside of itself." in said
    assert "failure" not in said


def test_what_is_wide_or_long_is_cut_with_a_count():
    wide = Graph("wide")
    for number in range(40):
        wide.ask(f"Question {number}?", name=f"ask{number}")
    assert "… and 28 more steps (ASK)." in told(wide)
    long = Graph("long")
    before = long.ask("Begin.", name="begin")
    for number in range(STEPS_MAX + 5):
        before = long.inv("c", before, name=f"s{number}")
    said = told(long)
    assert "… and six more steps." in said
    assert len(said.splitlines()) < STEPS_MAX + 20


def test_what_a_jump_passes_over_never_runs():
    case = json.loads((ARTIFACTS / "cases" / "jump-by-name.json").read_text(encoding="utf-8"))
    assert "`skipped` never runs: `jump` jumps over it." in told(from_json(case["program"]))


@pytest.mark.parametrize("file", sorted((ARTIFACTS / "cases").glob("*.json")), ids=lambda file: file.stem)
def test_every_program_of_the_corpus_is_told_twice_alike_within_the_width(file):
    try:
        artifact = compile(from_json(json.loads(file.read_text(encoding="utf-8"))["program"]), level=0)
    except ApxmError:
        return  # a case about what is refused
    text = explain(lift(artifact), artifact.entry, width=90)
    again = explain(lift(Artifact.from_bytes(artifact.to_bytes())), artifact.entry, width=90)
    assert text == again
    assert max(len(line) for line in text.splitlines()) <= 90
    assert "None" not in text
    assert not [line for line in text.splitlines() if line.endswith(" ") or ".." in line.replace("…", "")]


# ---- words -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("not_empty", "is not empty"),
        ("true", "is true"),
        (">= 0.5", "is at least 0.5"),
        ("== yes", "is “yes”"),
        ("== 'yes'", "is “yes”"),
        ("!= null", "is not null"),
        ("len == 2", "has a length of 2"),
        ("contains x", "contains “x”"),
        ("matches ^a+$", "matches the pattern “^a+$”"),
    ],
)
def test_a_condition_becomes_a_predicate(said, words):
    assert condition(said) == words


def test_lists_numbers_and_texts_are_said_as_a_person_does():
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed([str(n) for n in range(20)], most=3) == "0, 1, 2 and 17 more"
    assert several([constant("x"), constant(3)], "or") == "“x” or 3"
    assert (count(1, "call"), count(2, "call"), count(1200, "call")) == ("one call", "two calls", "1,200 calls")
    assert (duration(20), duration(5000), duration(90_000), duration(600_000)) == ("20 ms", "5 s", "90 s", "10 min")
    assert shortened("a  b\nc") == "a b c"
    assert quoted("word " * 100, 20) == "“word word word word …”"
    assert len(shortened("x" * 500, 40)) <= 42


def test_the_item_of_a_map_is_that_of_the_map_inside_of_a_switch_too():
    graph = Graph("g")
    with graph.map(graph.param("mails", "json"), name="each mail") as item:
        route = graph.switch(graph.inv("kind", item, name="kind"), name="route")
        with route.case("order"):
            graph.inv("find", mail=item, name="order")
    assert "`order` calls the capability `find` with the item as `mail`." in steps(told(graph))


def test_the_item_of_a_map_is_that_of_the_map_inside_of_a_loop_too():
    graph = Graph("g")
    with graph.map(graph.param("mails", "json"), name="each mail") as item, graph.loop(max_iterations=2, name="again") as body:
        body.inv("find", mail=item, name="order")
    assert "`order` calls the capability `find` with the item as `mail`." in steps(told(graph))


def test_items_of_a_map_in_a_map_are_told_apart():
    graph = Graph("g")
    with graph.map(graph.param("rows", "json"), name="rows") as row, graph.map(row, name="cells") as cell:
        graph.inv("put", row=row, cell=cell, name="put")
    assert "`put` calls the capability `put` with the item as `row` and the item of `cells` as `cell`." in steps(told(graph))


def test_a_text_that_takes_a_value_by_id_through_a_parameter_says_whose_it_is():
    say = Node(1, "say", "PRINT", {"message": "say {{node_7}}"})
    graph = Graph("f", [say], [Edge("x", 1, port="node_7")], [Parameter("x", "json")])
    assert "`say` shows “say {x}”." in explain({("a", "f"): graph}, ("a", "f"))
