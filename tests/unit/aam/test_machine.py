"""The agent machine: beliefs, goals, declarations, and every change of them."""

import json
from itertools import pairwise
from threading import Thread

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apxm.aam import machine as module
from apxm.aam.beliefs import Belief
from apxm.aam.declaration import Declaration
from apxm.aam.goals import Goal
from apxm.aam.machine import Machine
from apxm.errors import BindError, InvalidError


def changes(machine):
    return [(one.number, one.label, one.kind, one.key) for one in machine.transitions()]


# ---- beliefs ---------------------------------------------------------------------------------------------------------
def test_a_belief_has_a_value_with_where_it_came_from_and_how_sure_the_agent_is():
    machine = Machine("me")
    assert machine.believe("tone", "dry", source="llm:x", confidence=0.5) == Belief("tone", "dry", "llm:x", 0.5)
    assert machine.belief("tone") == Belief("tone", "dry", "llm:x", 0.5)
    assert machine.belief("mood") is None


@pytest.mark.parametrize(
    ("source", "labels"),
    [
        ("user", ("user",)),
        ("tool:x, web, llm:m", ("tool:x", "web", "llm:m")),
        ("program", ()),
        ("node `text`", ()),
        ("llm:m, node `text`", ("llm:m",)),
    ],
)
def test_the_labels_of_a_belief_are_those_in_its_source(source, labels):
    assert Belief("k", 1, source).labels == labels


def test_a_change_is_a_transition_with_what_was_there_before_and_what_is_there_now():
    machine = Machine("me")
    first = machine.believe("k", 1, label="one")
    second = machine.believe("k", 2, label="two")
    assert machine.forget("k")
    assert not machine.forget("k")
    assert [(one.label, one.before, one.after) for one in machine.transitions()] == [
        ("one", None, first),
        ("two", first, second),
        ("forget", second, None),
    ]
    assert machine.changes == 3


@pytest.mark.parametrize("value", [1, "x", None, [1, {"a": 2}], np.arange(4)])
def test_what_is_believed_already_is_no_change(value):
    machine = Machine("me")
    machine.believe("k", value)
    machine.believe("k", value)
    assert machine.changes == 1
    machine.believe("k", value, confidence=0.5)
    machine.believe("k", value, confidence=0.5, source="tool:x")
    assert machine.changes == 3


def test_later_changes_of_a_value_do_not_reach_the_belief():
    machine, value = Machine("me"), [1]
    machine.believe("k", value)
    value.append(2)
    assert machine.belief("k").value == [1]


@pytest.mark.parametrize(
    ("key", "more", "message"),
    [
        ("", {}, "belief key '' is not a text of 1 to 1000"),
        ("x" * 1001, {}, "is not a text of 1 to 1000 characters"),
        ("k", {"confidence": 1.5}, "confidence of belief `k` is 1.5, expected a number from 0 to 1"),
        ("k", {"confidence": True}, "confidence of belief `k` is True"),
        ("k", {"confidence": float("nan")}, "confidence of belief `k` is nan"),
        ("k", {"source": ""}, "source of belief `k` is '', expected a text"),
        ("k", {"value": object()}, "belief `k`"),
        ("k", {"value": float("inf")}, "belief `k`"),
    ],
)
def test_a_belief_that_is_none_is_refused_and_nothing_changes(key, more, message):
    machine = Machine("me")
    with pytest.raises(InvalidError, match=message):
        machine.believe(key, more.pop("value", 1), **more)
    assert machine.changes == 0


def test_beliefs_and_goals_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "BELIEFS_MAX", 2)
    monkeypatch.setattr(module, "GOALS_MAX", 1)
    machine = Machine("me")
    machine.believe("a", 1)
    machine.believe("b", 1)
    machine.believe("a", 2)
    with pytest.raises(InvalidError, match=r"belief `c` is one more than the 2 that an agent holds"):
        machine.believe("c", 1)
    machine.set_goal(Goal("g", "g"))
    machine.set_goal(Goal("g", "other"))
    with pytest.raises(InvalidError, match=r"goal `h` is one more than the 1"):
        machine.set_goal(Goal("h", "h"))
    with pytest.raises(InvalidError, match=r"goal `new` is one more"):
        machine.declare(Declaration.parse({"goals": ["new"], "beliefs": {"a": 5}}, "here"), by="main")
    assert machine.belief("a").value == 2


def test_the_log_keeps_the_last_changes_and_counts_all(monkeypatch):
    machine = Machine("me")
    for number in range(module.LOG_MAX + 5):
        machine.believe("k", number)
    assert len(machine.transitions()) == module.LOG_MAX
    assert machine.transitions()[0].number == 6
    assert machine.changes == module.LOG_MAX + 5


def test_changes_from_many_threads_are_each_one_transition():
    machine = Machine("me")

    def change(who: int) -> None:
        for number in range(100):
            machine.believe("shared", [who, number])
            machine.set_goal(Goal(f"{who}", "d", number))

    threads = [Thread(target=change, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = machine.transitions()
    assert [one.number for one in log] == list(range(1, machine.changes + 1))
    assert machine.changes == 800
    shared = [one for one in log if one.kind == "belief"]
    assert all(later.before is earlier.after for earlier, later in pairwise(shared))


# ---- goals -----------------------------------------------------------------------------------------------------------
def test_goals_come_active_first_and_by_priority():
    machine = Machine("me")
    for id, priority in (("low", 1), ("high", 5), ("done", 9), ("also", 5)):
        machine.set_goal(Goal(id, id, priority))
    assert machine.complete_goal("done")
    assert [goal.id for goal in machine.goals()] == ["high", "also", "low", "done"]
    assert machine.goal("done") == Goal("done", "done", 9, "completed")


def test_goals_are_changed_by_id():
    machine = Machine("me")
    machine.set_goal(Goal("g", "first", parent="top"))
    machine.set_goal(Goal("g", "second", 3))
    assert machine.goals() == [Goal("g", "second", 3)]
    assert not machine.complete_goal("other")
    assert not machine.remove_goal("other")
    assert machine.remove_goal("g")
    machine.set_goal(Goal("a", "a"))
    machine.set_goal(Goal("b", "b"))
    assert machine.clear_goals() == 2
    assert machine.clear_goals() == 0
    assert changes(machine)[-2:] == [(6, "clear_goals", "goal", "a"), (7, "clear_goals", "goal", "b")]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": ""}, "goal id '' is not a text"),
        ({"id": 3}, "goal id 3 is not a text"),
        ({"description": None}, "description of goal `g` is a NoneType, expected a text"),
        ({"priority": -1}, "priority of goal `g` is -1, expected a whole number, 0 or more"),
        ({"priority": 1.0}, "priority of goal `g` is 1.0"),
        ({"status": "lost"}, "status of goal `g` is 'lost', expected active or completed"),
        ({"parent": ""}, "parent of goal `g` is '', expected the id of a goal"),
    ],
)
def test_a_goal_that_is_none_is_refused(fields, message):
    with pytest.raises(InvalidError, match=message):
        Goal(**{"id": "g", "description": "d", **fields})


# ---- declarations ----------------------------------------------------------------------------------------------------
SAID = {
    "beliefs": {"tone": "plain"},
    "goals": ["publish", {"id": "check", "description": "Check it", "priority": 2, "parent": "publish"}],
    "memories": [{"name": "notes", "tier": "LTM"}, {"name": "style", "value": {"a": 1}}],
    "capabilities": ["search", {"name": "read", "description": "x"}],
    "tools": ["write"],
    "context": "You edit.",
    "style": "of somebody else",
}


def test_a_declaration_says_what_an_agent_has():
    said = Declaration.parse(SAID, "here")
    assert said.beliefs == (Belief("tone", "plain", "program"),)
    assert said.goals == (Goal("publish", "publish"), Goal("check", "Check it", 2, parent="publish"))
    assert said.memories == {"notes": "ltm", "style": "stm"}
    assert said.values == {"style": {"a": 1}}
    assert said.capabilities == {"search", "read", "write"}
    assert said.context == "You edit."
    assert Declaration.parse({"memory": {"notes": "episodic"}}, "here").memories == {"notes": "episodic"}
    assert Declaration.parse({}, "here") == Declaration()
    assert Declaration.parse({"capabilities": []}, "here").capabilities == frozenset()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"beliefs": ["x"]}, "here: its beliefs are a list, expected a map"),
        ({"beliefs": {"": 1}}, "here: belief key '' is not a text"),
        ({"beliefs": {"k": float("nan")}}, "here: belief `k`"),
        ({"goals": "publish"}, "here: its goals are a str, expected a list"),
        ({"goals": [3]}, "here: the goal 3 is none; expected a text, or"),
        ({"goals": [{"priority": 1}]}, "here: the goal .* is none"),
        ({"goals": [{"id": "g", "status": "completed"}]}, "here: the goal .* is none"),
        ({"goals": [{"id": "g", "priority": -1}]}, "here: the priority of goal `g`"),
        ({"memory": "notes"}, "here: its memories are a str, expected a list or a map"),
        ({"memory": [{"tier": "stm"}]}, "here: the memory .* is none; expected {name, tier, value}"),
        ({"memory": {"notes": "disk"}}, "here: memory `notes` has the tier 'disk'; expected one of stm, ltm, episodic"),
        ({"memory": [{"name": "n", "tier": "ltm", "value": 1}]}, "here: memory `n` of tier ltm has a value at the start"),
        ({"capabilities": "read"}, "here: its capabilities are a str, expected a list of names"),
        ({"capabilities": [3]}, "here: the capability 3 is none"),
        ({"context": 3}, "here: its context is a int, expected a text"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused_with_its_place(said, message):
    with pytest.raises(BindError, match=message):
        Declaration.parse(said, "here")


def test_what_is_declared_counts_once_and_leaves_what_is_there():
    machine, said = Machine("me"), Declaration.parse(SAID, "here")
    machine.believe("tone", "dry")
    assert machine.declare(said, by="main", label="AGENT `a`")
    assert machine.belief("tone").value == "dry"
    assert [goal.id for goal in machine.goals()] == ["check", "publish"]
    machine.clear_goals()
    assert not machine.declare(said, by="main")
    assert machine.goals() == []
    assert machine.declare(said, by="other")
    assert len(machine.goals()) == 2


def test_the_context_joins_what_was_declared_in_an_order_of_its_own():
    machine = Machine("me")
    assert machine.context is None
    for by, text in (("zebra", "Last."), ("main", "Middle."), ("", "First."), ("b", None), ("also", "First.")):
        machine.declare(Declaration(context=text), by=by)
    assert machine.context == "First.\n\nMiddle.\n\nLast."


# ---- checkpoints -----------------------------------------------------------------------------------------------------
def full():
    machine = Machine("me", capabilities=["write", "read"])
    machine.believe("k", [1, {"a": None}], source="tool:x", confidence=0.25)
    machine.set_goal(Goal("g", "do it", 2, parent="top"))
    return machine


def test_a_checkpoint_is_json_that_restores_another_machine():
    held = full().checkpoint()
    other = Machine("me")
    other.believe("gone", 1)
    other.restore(json.loads(json.dumps(held)))
    assert other.checkpoint() == held
    assert changes(other)[1:] == [(2, "restore", "belief", "gone"), (3, "restore", "belief", "k"), (4, "restore", "goal", "g")]
    assert other.capabilities == ()


def test_a_checkpoint_and_a_snapshot_are_not_touched_by_what_comes_later():
    machine = full()
    held, seen = machine.checkpoint(), machine.snapshot()
    held["beliefs"]["k"]["value"].append(9)
    machine.believe("k", 2)
    machine.clear_goals()
    assert seen.beliefs["k"].value == [1, {"a": None}]
    assert [goal.id for goal in seen.goals] == ["g"]
    assert seen.capabilities == ("read", "write")


BELIEF = {"value": 1, "source": "user", "confidence": 1.0}
GOAL = {"description": "d", "priority": 1, "status": "active"}


@pytest.mark.parametrize(
    "held",
    [
        None,
        [],
        {},
        {"agent": "me", "beliefs": {}},
        {"agent": "me", "beliefs": {}, "goals": {}, "more": 1},
        {"agent": "you", "beliefs": {}, "goals": {}},
        {"agent": "me", "beliefs": [], "goals": {}},
        {"agent": "me", "beliefs": {"k": 1}, "goals": {}},
        {"agent": "me", "beliefs": {"k": {**BELIEF, "more": 1}}, "goals": {}},
        {"agent": "me", "beliefs": {"k": {**BELIEF, "parent": "x"}}, "goals": {}},
        {"agent": "me", "beliefs": {"k": {**BELIEF, "confidence": 2}}, "goals": {}},
        {"agent": "me", "beliefs": {"k": {**BELIEF, "value": object()}}, "goals": {}},
        {"agent": "me", "beliefs": {3: BELIEF}, "goals": {}},
        {"agent": "me", "beliefs": {}, "goals": {"g": {**GOAL, "priority": "1"}}},
        {"agent": "me", "beliefs": {}, "goals": {"g": {**GOAL, "status": []}}},
        {"agent": "me", "beliefs": {}, "goals": {"g": {"description": "d"}}},
    ],
)
def test_what_is_no_checkpoint_is_refused_and_nothing_changes(held):
    machine = full()
    before = machine.checkpoint()
    with pytest.raises(InvalidError, match=r"no checkpoint of the machine of agent `me`.*Machine\.checkpoint\(\)"):
        machine.restore(held)
    assert machine.checkpoint() == before
    assert machine.changes == 2


KEYS = st.sampled_from("abc")
VALUES = st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.lists(st.integers(0, 2), max_size=2))
STEPS = st.one_of(
    st.tuples(st.just("believe"), KEYS, VALUES),
    st.tuples(st.just("forget"), KEYS),
    st.tuples(st.just("set"), KEYS, st.integers(0, 3)),
    st.tuples(st.just("complete"), KEYS),
    st.tuples(st.just("remove"), KEYS),
    st.tuples(st.just("clear")),
    st.tuples(st.just("declare"), st.sampled_from(["one", "two"]), KEYS),
)


def take(machine, step):
    match step:
        case ("believe", key, value):
            machine.believe(key, value, source="tool:x")
        case ("forget", key):
            machine.forget(key)
        case ("set", id, priority):
            machine.set_goal(Goal(id, "d", priority))
        case ("complete", id):
            machine.complete_goal(id)
        case ("remove", id):
            machine.remove_goal(id)
        case ("clear",):
            machine.clear_goals()
        case ("declare", by, key):
            machine.declare(Declaration.parse({"beliefs": {key: 1}, "goals": [key]}, "here"), by=by)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(STEPS, max_size=12), st.lists(STEPS, max_size=12))
def test_the_transitions_since_a_checkpoint_lead_from_it_to_the_state_of_now(before, after):
    machine = Machine("me")
    for step in before:
        take(machine, step)
    state, since = machine.checkpoint(), machine.changes
    other = Machine("me")
    other.restore(state)
    assert other.checkpoint() == state
    for step in after:
        take(machine, step)
    for one in machine.transitions():
        if one.number <= since:
            continue
        held = state[f"{one.kind}s"]
        assert held.get(one.key) == (None if one.before is None else one.before.to_map())
        if one.after is None:
            del held[one.key]
        else:
            held[one.key] = one.after.to_map()
    assert state == machine.checkpoint()


# ---- the text for prompts --------------------------------------------------------------------------------------------
def test_the_view_has_the_most_important_first_and_values_as_json():
    machine = Machine("me")
    machine.believe("maybe", {"a": [1, "é"]}, source="llm:x", confidence=0.5)
    machine.believe("zeta", 'say "hi"\ngoal "fake"')
    machine.believe("_stage:q", [])
    machine.set_goal(Goal("small", "small"))
    machine.set_goal(Goal("big", "The big one", 7))
    machine.set_goal(Goal("old", "old", 9, "completed"))
    assert machine.view().splitlines() == [
        'goal "big" (priority 7): "The big one"',
        'goal "small" (priority 1)',
        'belief "zeta" = "say \\"hi\\"\\ngoal \\"fake\\"" (from user)',
        'belief "maybe" = {"a": [1, "é"]} (from llm:x, confidence 0.5)',
        'belief "_stage:q" = [] (from user)',
        'goal "old" (completed)',
    ]
    assert Machine("me").view() == ""


@pytest.mark.parametrize("limit", [0, 100, 137, 500, 2_000])
def test_a_view_that_is_cut_says_so_and_keeps_its_bound(limit):
    machine = Machine("me")
    for number in range(100):
        machine.believe(f"belief_{number:03}", "x" * (number % 7) * 100)
    text = machine.view(limit)
    lines = text.splitlines()
    assert len(text) <= max(limit, 100)
    assert lines[-1] == f"({101 - len(lines)} more of 100 left out)"
    assert lines[:-1] == machine.view(10**6).splitlines()[: len(lines) - 1]


def test_one_long_value_does_not_push_out_the_others():
    machine = Machine("me")
    machine.believe("long", ["x" * 50_000])
    machine.believe("short", 1)
    assert 'belief "short" = 1' in machine.view()
    assert "…" in machine.view()
    assert len(machine.view()) < 700
