"""Corners of the firing rules, of plans, and of what a frame says about itself."""

from __future__ import annotations

from array import array

import pytest

from apxm.errors import RaisedError
from apxm.scheduler.binding import SYNC
from apxm.scheduler.plan import ExecutionPlan
from tests.unit.scheduler.dags import N, Steps, binding_of, control, dag_of, effect, on
from tests.unit.scheduler.flights import Flights, bind, flies
from tests.unit.scheduler.test_firing_rules import boom, one, route


def merge(mode, *ins):
    return N("first", lambda x: x, ins, op="MERGE", attributes={"mode": mode})


def test_a_choice_whose_dead_tokens_come_from_one_node_is_skipped_once():
    nodes = [N("r", route("x"), kind=SYNC), merge("any", on("r", "y"), control("r", "y"))]
    run = Steps(binding_of(nodes)).run()
    assert (run.status["first"], run.skipped) == ("skipped", 1)


@pytest.mark.parametrize("mode", ["any", "race"])
def test_a_dead_effect_token_does_not_keep_a_choice_from_firing(mode):
    nodes = [N("r", route("x"), kind=SYNC), N("dead", one, (on("r", "y"),)), N("a", one), merge(mode, "a", effect("dead"))]
    assert Steps(binding_of(nodes)).run().status["first"] == "done"


@pytest.mark.parametrize("mode", ["any", "race"])
def test_a_choice_waits_for_its_gates_and_keeps_the_first_value(mode):
    run = Flights(bind(flies("a"), flies("b"), flies("gate"), merge(mode, "a", "b", control("gate")))).land("a", "early")
    assert "first" not in run.fired
    run.land("gate")
    assert run.value == "early"
    assert run.land("b").over


def test_a_token_that_comes_after_a_choice_fired_is_counted_and_fires_nothing():
    run = Flights(bind(flies("a"), flies("b"), flies("c"), merge("any", "a", "b", "c"))).land("b").land("a").land("c")
    assert (run.fired.count("first"), run.dropped) == (1, 2)


def test_a_failed_node_that_is_an_output_too_is_not_forgiven():
    run = Steps(binding_of([N("bad", boom), N("good", one), merge("first_success", "bad", "good")], ("bad", "first"))).run()
    assert str(run.error) == "boom"


def test_a_failure_is_forgiven_along_the_way_to_first_success():
    run = Steps(
        binding_of([N("bad", boom), N("mid", one, ("bad",)), N("good", one), merge("first_success", "mid", "good")])
    ).run()
    assert (run.error, run.value) == (None, 1)


def test_a_failed_gate_of_first_success_is_not_forgiven():
    run = Steps(binding_of([N("bad", boom), N("good", one), merge("first_success", "good", control("bad"))])).run()
    assert str(run.error) == "boom"


@pytest.mark.parametrize("mode", ["any", "race"])
def test_only_first_success_forgives(mode):
    run = Flights(bind(flies("bad"), flies("good"), merge(mode, "bad", "good"))).land("bad", RaisedError("boom")).land("good")
    assert str(run.error) == "boom"


def test_a_node_that_also_leads_elsewhere_is_not_forgiven():
    nodes = [N("bad", boom), N("good", one), N("else", one, ("bad",)), merge("first_success", "bad", "good")]
    assert str(Steps(binding_of(nodes)).run().error) == "boom"


def test_a_return_that_takes_an_error_edge_ends_nothing():
    nodes = [N("bad", boom, op="RETURN"), N("caught", lambda e: e["message"], (on("bad", "error"),)), N("rest", one)]
    run = Steps(binding_of(nodes)).run()
    assert run.status == {"bad": "failed", "caught": "done", "rest": "done"}


def test_a_node_in_flight_is_running_and_one_that_waits_for_it_pending():
    run = Flights(bind(flies("a"), N("b", one, ("a",))))
    assert run.status == {"a": "running", "b": "pending"}


def test_a_plan_puts_the_most_urgent_successor_where_it_is_taken_first():
    dag = dag_of([N("a"), N("low", None, ("a",)), N("high", None, ("a",)), N("mid", None, ("a",))])
    dag.ranks = array("i", [0, 1, 9, 5])
    assert [dag.names[slot] for slot in ExecutionPlan(dag).successors[0]] == ["low", "mid", "high"]


@pytest.mark.parametrize(
    ("nodes", "last"),
    [
        ([N("a"), N("r", None, ("a",), op="RETURN")], True),
        ([N("a"), N("r", None, ("a",), op="RETURN"), N("more", None, ("a",))], False),
        ([N("a"), N("r", None, ("a",), op="RETURN"), N("s", None, ("a",), op="RETURN")], False),
        ([N("a"), N("b"), merge("any", "a", "b"), N("r", None, ("first",), op="RETURN")], False),
    ],
)
def test_a_return_needs_no_closing_only_when_everything_else_is_over(nodes, last):
    assert ExecutionPlan(dag_of(nodes)).return_is_last is last
    assert not ExecutionPlan(dag_of(nodes), region=True).return_is_last
