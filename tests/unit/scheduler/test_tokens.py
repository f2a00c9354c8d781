"""Corners of the firing rules, of plans, and of what a frame says about itself."""

from __future__ import annotations

from array import array

import pytest

from apxm.errors import RaisedError
from apxm.outcome import Child, Spawn
from apxm.scheduler.binding import SYNC
from apxm.scheduler.dataflow import EMPTY
from apxm.scheduler.plan import ExecutionPlan
from tests.unit.scheduler.dags import PARAMETER, N, Steps, binding_of, control, dag_of, effect, on
from tests.unit.scheduler.flights import Flights, bind, flies
from tests.unit.scheduler.test_firing_rules import boom, one, route


def merge(mode, *ins):
    return N("first", lambda x: x, ins, op="MERGE", attributes={"mode": mode})


def collect(name, *ins):
    return N(name, lambda *values: list(values), ins, op="WAIT_ALL")


def test_one_dead_input_is_enough_to_skip_an_all_node():
    nodes = [N("r", route("x"), kind=SYNC), N("dead", one, (on("r", "y"),)), N("a", one), N("sum", one, ("a", "dead"))]
    assert Steps(binding_of(nodes)).run().status["sum"] == "skipped"


def test_a_dead_gate_skips_a_node_that_collects_live_inputs():
    nodes = [N("r", route("x"), kind=SYNC), N("a", one), N("b", one), collect("list", "a", "b", control("r", "y"))]
    assert Steps(binding_of(nodes)).run().status["list"] == "skipped"


def test_an_edge_without_a_label_is_live_whatever_was_chosen():
    nodes = [N("r", route("x"), kind=SYNC), N("always", one, ("r",)), N("never", one, (on("r", "y"),))]
    assert Steps(binding_of(nodes)).run().status == {"r": "done", "always": "done", "never": "skipped"}


def test_an_error_edge_is_dead_when_its_node_succeeds():
    run = Steps(binding_of([N("good", one), N("caught", one, (on("good", "error"),)), N("after", one, ("good",))])).run()
    assert run.status == {"good": "done", "caught": "skipped", "after": "done"}


def test_two_edges_to_one_node_may_have_different_labels():
    nodes = [N("r", route("x"), kind=SYNC), collect("list", on("r", "y"), on("r", "x"))]
    assert Steps(binding_of(nodes)).run().value == ["x"]


def test_the_first_live_token_of_a_choice_is_its_value_though_another_comes_before_it_fires():
    run = Flights(bind(flies("a"), flies("b"), flies("gate"), merge("any", "b", "a", control("gate"))))
    assert run.land("a", "early").land("b", "late").land("gate").value == "early"
    assert run.dropped == 1


def test_a_choice_that_a_dead_gate_bars_is_skipped_once_though_more_dead_tokens_are_on_their_way():
    far = N("far", one, (on("r", "y"),), rank=2)
    nodes = [N("r", route("x"), kind=SYNC), far, merge("any", "far", control("r", "y")), N("after", one, ("first",))]
    run = Steps(binding_of(nodes)).run()
    assert (run.status["after"], run.skipped) == ("skipped", 3)


def test_the_first_parameter_of_a_choice_is_its_value():
    nodes = [N("p", op=PARAMETER), N("q", op=PARAMETER), merge("any", "p", "q")]
    assert Steps(binding_of(nodes), "first given", "then").run().value == "first given"


def test_a_choice_that_a_parameter_decided_is_ready_once_though_another_token_comes_before_it_runs():
    last = N("first", lambda x: x, ("p", "a"), op="MERGE", attributes={"mode": "any", "opens": True})  # the last of what is ready
    run = Steps(binding_of([N("p", op=PARAMETER), N("a", one), last]), "given").run()
    assert (run.value, run.fired, run.dropped) == ("given", ["a", "first"], 1)


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


def test_failed_skipped_and_cancelled_nodes_are_counted_apart():
    run = Steps(binding_of([N("bad", boom), N("later", one, ("bad",))]), keep_going=True).run()
    assert (run.failures, run.skipped, run.cancelled) == (1, 1, 0)
    run = Steps(binding_of([N("bad", boom), N("later", one, ("bad",))])).run()
    assert (run.failures, run.skipped, run.cancelled) == (1, 0, 1)
    run = Flights(bind(flies("a"), flies("b"), merge("race", "a", "b"))).land("a").land("b")
    assert (run.skipped, run.cancelled, run.status["b"]) == (0, 1, "cancelled")


# ---- what a frame gives ----------------------------------------------------------------------------------------------
def test_several_live_exits_are_outputs_and_no_single_value():
    run = Steps(binding_of([N("a", lambda: 1), N("b", lambda: 2)])).run()
    assert (run.root.outputs(), run.value, run.root.result()) == ({"a": 1, "b": 2}, EMPTY, {"a": 1, "b": 2})


def test_a_yield_is_the_value_of_its_frame_though_there_are_other_exits():
    run = Steps(binding_of([N("a", lambda: 1), N("y", lambda x: x, ("a",), op="YIELD"), N("rest", lambda: 2)])).run()
    assert run.value == 1


def test_a_child_frame_whose_only_exit_was_skipped_gives_no_outputs():
    inner = binding_of([N("r", route("x"), kind=SYNC), N("out", one, (on("r", "y"),))], ("out",), region=True)
    outer = N("outer", lambda c: Spawn((Child(inner, [], 0),), lambda results: results[0].value), kind=SYNC)
    outer.attributes["opens"] = True
    assert Steps(binding_of([outer])).run().value == {}


def test_two_yields_that_both_gave_a_value_fail_the_node_around_them():
    inner = binding_of([N("y", lambda: 1, op="YIELD"), N("z", lambda: 2, op="YIELD")], region=True)
    outer = N("outer", lambda c: Spawn((Child(inner, [], 0),), lambda results: results[0].value), kind=SYNC)
    outer.attributes["opens"] = True
    assert Steps(binding_of([outer])).run().error.code == "two_values"


def test_a_node_that_failed_along_its_error_edge_is_no_output():
    nodes = [N("bad", boom), N("caught", lambda e: e["message"], (on("bad", "error"),))]
    assert Steps(binding_of(nodes, ("bad", "caught"))).run().root.outputs() == {"caught": "boom"}


def test_a_return_that_still_waits_for_its_input_is_no_second_one():
    nodes = bind(flies("a"), flies("b"), N("r", None, ("a",), op="RETURN"), N("s", None, ("b",), op="RETURN"))
    run = Flights(nodes).land("a", "first").land("b")
    assert (run.error, run.root.outputs()) == (None, {"r": "first"})


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
    plan = ExecutionPlan(dag)
    plan.link()
    assert [dag.names[slot] for slot in plan.successors[0]] == ["low", "mid", "high"]


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
