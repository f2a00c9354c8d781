"""REASON and PLAN: what is asked, what is taken from the answer, what of it is refused."""

from __future__ import annotations

import json

import pytest

from apxm.budget import Limits
from apxm.errors import ModelError
from apxm.executor.handlers.planning import dependencies
from apxm.testing.sketch import sketch
from tests.unit.executor.planners import STEPS, VALUE, answer, planning, run


def plain(op, attributes=None, edges="", nodes=None, **more):
    """A flow with one node that reasons or plans, without inner plans."""
    return sketch({**(nodes or {}), 9: (op, {**(attributes or {})})}, edges, exits=["n9"], **more)


def asked(ran):
    """The user turn that the model got first."""
    return ran.model.calls[0].text


# ---- REASON ----------------------------------------------------------------------------------------------------------
REASON = plain("REASON", {"prompt": "What now?"})


def test_reason_gives_its_result_and_applies_beliefs_and_goals_to_its_agent():
    beliefs = {"sky": "blue", "rain": {"value": False, "confidence": 0.8}, "map": {"value": 1, "confidence": 1, "more": 2}}
    goals = [{"description": "stay dry"}, {"id": "g", "description": "go home", "priority": 3.0, "parent": "stay dry"}]
    ran = run({"result": [1, {"a": None}], "belief_updates": beliefs, "new_goals": goals}, REASON)
    assert ran.value == [1, {"a": None}]
    held = {key: (belief.value, belief.confidence, belief.source) for key, belief in ran.machine.beliefs().items()}
    source = "llm:scripted"
    assert held == {"sky": ("blue", 1.0, source), "rain": (False, 0.8, source), "map": (beliefs["map"], 1.0, source)}
    wanted = [(goal.id, goal.description, goal.priority, goal.status, goal.parent) for goal in ran.machine.goals()]
    assert wanted == [("stay dry", "stay dry", 50, "active", None), ("g", "go home", 3, "active", "stay dry")]
    assert {change.label for change in ran.machine.transitions()} == {"REASON `n9`"}


def test_a_goal_that_is_said_again_is_the_same_goal():
    answers = [{"result": n, "new_goals": [{"description": "stay dry", "priority": n}]} for n in (1, 2)]
    ran = run(
        answers,
        plain("REASON", {"prompt": "What now?"}, nodes={})
        | {
            "nodes": [
                {"id": 8, "name": "n9", "op": "REASON", "attributes": {"prompt": "What now?"}},
                {"id": 9, "name": "n9", "op": "REASON", "attributes": {"prompt": "{0}?"}},
            ],
            "edges": [{"from": 8, "to": 9}],
            "metadata": {},
        },
    )
    assert [(goal.id, goal.priority) for goal in ran.machine.goals()] == [("stay dry", 2)]


@pytest.mark.parametrize(
    ("wrong", "violation"),
    [
        ("no JSON", "the answer holds no JSON"),
        ({"belief_updates": {"a": 1}}, '"result" is a required property'),
        ({"result": 1, "belief_updates": [1]}, "is not of type"),
        ({"result": 1, "belief_updates": {"": 1}}, "belief_updates"),
        ({"result": 1, "belief_updates": {"a": {"value": 1, "confidence": 2}}}, "maximum of 1"),
        ({"result": 1, "belief_updates": {"a": {"value": 1, "confidence": "high"}}}, 'is not of type "number"'),
        ({"result": 1, "new_goals": [{"priority": 1}]}, '"description" is a required property'),
        ({"result": 1, "new_goals": [{"description": "x", "priority": -1}]}, "minimum of 0"),
        ({"result": 1, "new_goals": [{"description": "x", "when": "now"}]}, "'when' was unexpected"),
        ({"result": 1, "thoughts": "hm"}, "'thoughts' was unexpected"),
        ({"result": 2**70}, "of 71 bits"),
    ],
)
def test_reason_repairs_what_breaks_its_schema_and_applies_nothing_of_it(wrong, violation):
    whole = {**wrong, "belief_updates": {"bad": 1}} if isinstance(wrong, dict) and "belief_updates" not in wrong else wrong
    ran = run([whole, {"result": "better"}], REASON)
    assert (ran.value, ran.machine.beliefs(), ran.machine.goals()) == ("better", {}, [])
    assert violation in ran.model.calls[1].prompt.messages[-1].content
    ran = run(whole, REASON)
    assert isinstance(ran.error, ModelError)
    assert (len(ran.asked), ran.machine.changes) == (2, 0)


def test_reason_repairs_as_often_as_it_says():
    assert len(run("no", plain("REASON", {"prompt": "x", "max_schema_retries": 3})).asked) == 4
    assert len(run("no", plain("REASON", {"prompt": "x", "max_schema_retries": 0})).asked) == 1


def test_the_result_of_a_reason_fits_its_output_schema_with_references_of_its_own():
    schema = {"$ref": "#/$defs/number", "$defs": {"number": {"type": "integer"}}}
    graph = plain("REASON", {"prompt": "x", "output_schema": schema})
    assert run([{"result": "five"}, {"result": 5}], graph).value == 5
    assert run({"result": "five"}, graph).error.code == "model"
    assert run({"result": 1}, plain("REASON", {"prompt": "x", "output_schema": {"type": "nothing"}})).error.code == "bind"


def test_reason_with_a_bad_plan_believes_and_wants_nothing():
    bad = {"result": 1, "belief_updates": {"a": 1}, "new_goals": [{"description": "g"}], "inner_plan": sketch({1: "SING"})}
    ran = run(bad, planning(op="REASON"))
    assert (ran.error.code, ran.machine.changes, ran.result.splices) == ("plan", 0, ())


def test_reason_believes_nothing_when_its_plan_is_over_the_budget():
    told = {"result": 1, "belief_updates": {"a": 1}, "inner_plan": sketch({1: ("CONST_STR", {"value": 1})})}
    ran = run(told, planning(op="REASON"), budget=Limits(splices=0))
    assert (ran.error.code, ran.machine.changes) == ("budget", 0)


def test_reason_with_a_plan_believes_first_and_gives_what_the_plan_gives():
    inner = sketch({5: ("UPDATE_GOAL", {"goal_id": "g", "action": "complete"})})
    told = {"result": 1, "belief_updates": {"a": 1}, "new_goals": [{"id": "g", "description": "g"}], "inner_plan": inner}
    ran = run(told, planning(op="REASON"))
    assert (ran.error, ran.value) == (None, "completed")
    assert (ran.machine.goal("g").status, ran.machine.belief("a").value) == ("completed", 1)
    assert run(told, planning({"bind_inner_plan_outputs": False}, op="REASON")).value == 1


def test_an_agent_that_is_full_of_beliefs_takes_all_of_an_answer_or_nothing(monkeypatch):
    from apxm.executor.handlers import planning as handlers

    monkeypatch.setattr(handlers, "BELIEFS_MAX", 1)
    ran = run({"result": 1, "belief_updates": {"a": 1, "b": 2}}, REASON)
    assert "would hold more than 1 beliefs" in str(ran.error)
    assert ran.machine.changes == 0
    assert run({"result": 1, "belief_updates": {"a": 1}}, REASON).machine.changes == 1


def test_reason_is_asked_with_its_template_and_inputs():
    graph = plain("REASON", {"prompt": "Is {0} so?"}, "1->9", {1: ("CONST_STR", {"value": "it"})})
    assert asked(run({"result": 1}, graph)) == "Is it so?"


def test_what_memory_has_under_the_context_key_is_part_of_the_prompt_of_a_reason():
    nodes = {1: ("UMEM", {"key": "k", "value": {"a": 1}})}
    ran = run({"result": 1, "belief_updates": {"b": 2}}, plain("REASON", {"prompt": "x", "context_key": "k"}, "1=>9", nodes))
    assert asked(ran) == 'x\n\nWhat is remembered as `k`:\n<memory>\n{"a": 1}\n</memory>'
    assert "memory:all" in ran.result.labels("n9")
    assert ran.machine.belief("b").source == "llm:scripted"


# ---- PLAN ------------------------------------------------------------------------------------------------------------
def test_plan_gives_steps_with_priorities_and_dependencies_as_positions():
    assert run(answer(), plain("PLAN", {"goal": "x"})).value == VALUE


def test_the_goal_of_a_plan_is_its_text_or_else_its_first_input():
    nodes = {1: ("CONST_STR", {"value": "tea"}), 2: ("CONST_STR", {"value": 2})}
    assert asked(run(answer(), plain("PLAN", {"goal": "Make {0}"}, "1->9", nodes))) == "Goal: Make tea"
    assert asked(run(answer(), plain("PLAN", {"goal": "Make it"}, "1->9 2->9", nodes))) == (
        "Goal: Make it\n\nContext 1: tea\n\nContext 2: 2"
    )
    assert asked(run(answer(), plain("PLAN", {}, "1->9", nodes))) == "Goal: tea"


@pytest.mark.parametrize("constraints", ["cheap", ["cheap"]])
def test_constraints_are_part_of_the_prompt(constraints):
    assert asked(run(answer(), plain("PLAN", {"goal": "x", "constraints": constraints}))) == "Goal: x\n\nConstraints:\n- cheap"


def test_constraints_that_are_no_texts_are_refused():
    assert "expected a text or a list of texts" in str(run(answer(), plain("PLAN", {"goal": "x", "constraints": {"a": 1}})).error)


def test_what_memory_has_under_the_context_key_is_part_of_the_prompt():
    nodes = {1: ("UMEM", {"key": "k", "value": {"a": 1}})}
    ran = run(answer(), plain("PLAN", {"goal": "x", "context_key": "k"}, "1=>9", nodes))
    assert asked(ran) == 'Goal: x\n\nWhat is remembered as `k`:\n<memory>\n{"a": 1}\n</memory>'
    assert "memory:all" in ran.result.labels("n9")
    nodes = {1: ("UMEM", {"key": "k", "value": "long ago", "memory_tier": "episodic"})}
    assert "long ago" in asked(run(answer(), plain("PLAN", {"goal": "x", "context_key": "k"}, "1=>9", nodes)))
    ran = run(answer(), plain("PLAN", {"goal": "x", "context_key": "none"}))
    assert (asked(ran), ran.result.labels("n9")) == ("Goal: x", {"llm:scripted"})


@pytest.mark.parametrize(
    ("steps", "violation"),
    [
        ([], "less than 1 item"),
        ([{"priority": 1}], '"description" is a required property'),
        ([{"description": "a", "dependencies": [1]}], "there is no step 1"),
        ([{"description": "a", "dependencies": ["b"]}], "there is no step 'b'"),
        ([{"description": "a", "dependencies": [-1]}], "there is no step -1"),
        ([{"description": "a", "dependencies": [0]}], "depend on each other in a circle"),
        ([{"description": "a", "dependencies": [1]}, {"description": "b", "dependencies": ["a"]}], "in a circle"),
        ([{"description": "a", "id": 7}, {"description": "b", "id": 7}], "the id 7 is that of another step"),
    ],
)
def test_steps_that_contradict_each_other_are_repaired(steps, violation):
    wrong = {"plan": steps, "result": "x"}
    ran = run([wrong, answer()], plain("PLAN", {"goal": "x"}))
    assert (ran.value, len(ran.asked)) == (VALUE, 2)
    assert violation in ran.model.calls[1].prompt.messages[-1].content
    assert run(wrong, plain("PLAN", {"goal": "x"})).error.code == "model"
    assert len(run(wrong, plain("PLAN", {"goal": "x", "max_schema_retries": 0})).asked) == 1


def test_a_step_is_named_by_its_id_its_description_or_its_position():
    steps = [
        {"description": "a", "id": 2},
        {"description": "b", "id": "b2", "dependencies": ["a"]},
        {"description": "c", "dependencies": [2, "b2", "b2"]},
        {"description": "d", "dependencies": [1, "c"]},
    ]
    assert dependencies(steps) == ([[], [0], [0, 1], [1, 2]], [])


def test_what_was_spent_on_repairs_is_settled():
    bad = {"nodes": [{"id": 1, "name": "a", "op": "SING"}]}
    ran = run([json.dumps({"plan": STEPS}), answer(bad), "no", answer()], planning({"max_schema_retries": 1}))
    assert (ran.value, ran.ledger.spent()["llm_calls"], ran.ledger.reserved()["llm_calls"]) == (VALUE, 4, 0)
