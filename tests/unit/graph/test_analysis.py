"""The shape of a flow and its certificate, against numbers worked out by hand."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from apxm import Graph, RunOptions, Runtime, compile
from apxm.artifact.lift import lift
from apxm.graph.analysis import analyse, phases
from apxm.graph.bounds import bounds
from apxm.graph.model import AgentGraph, Dependency, Edge, Program
from apxm.graph.operation import TURN_CALLS
from apxm.graph.routes import SPLITS_MAX, Routes
from apxm.observability.history import History
from apxm.testing.clock import VirtualClock

PURE = {"c": "pure", "d": "pure"}


def analysed(graph, effects=None, **more):
    artifact = compile(graph, level=0)
    return analyse(lift(artifact), artifact.entry, effects=effects, **more)


def certificate(graph, effects=None):
    artifact = compile(graph, level=0)
    return bounds(lift(artifact), artifact.entry, effects)


def path(analysis):
    return [(*step.around, step.name) for step in analysis.shape.critical]


def program(*flows, agent="me"):
    for graph in flows[1:]:
        graph.metadata["is_entry"] = False
    return Program([AgentGraph(agent, list(flows))], "p")


# ---- shape -----------------------------------------------------------------------------------------------------------
def test_a_diamond_has_three_phases_and_two_operations_at_once():
    graph = Graph("g")
    first = graph.inv("x", name="first")  # 1 s: an effect that nobody described
    left = graph.ask("left {0}", first, name="left")  # 1 s
    right = graph.think("right {0}", first, name="right")  # 5 s
    graph.wait_all(left, right, name="join")  # 10 ms
    found = analysed(graph)
    assert found.shape.phases == (("first",), ("left", "right"), ("join",))
    assert (found.shape.critical_ms, found.shape.sequential_ms) == (6010, 7010)
    assert path(found) == [("first",), ("right",), ("join",)]
    assert found.shape.parallelism_max == 2
    assert found.shape.parallelism_avg == pytest.approx(7010 / 6010)


def test_a_phase_is_as_late_as_the_longest_way_to_it():
    graph = Graph("g")
    a = graph.inv("c", name="a")
    b = graph.inv("c", name="b", after=a)
    graph.inv("c", name="late", after=[a, b])
    graph.inv("c", name="early", after=a)
    (flow,) = lift(compile(graph, level=0)).values()
    assert [[node.name for node in level] for level in phases(flow)] == [["a"], ["b", "early"], ["late"]]
    without = {node.id for node in flow.nodes if node.name == "a"}
    assert [[node.name for node in level] for level in phases(flow, without)] == [["b", "early"], ["late"]]


def test_a_pure_capability_takes_no_longer_than_other_computing():
    graph = Graph("g")
    graph.inv("c", name="c")
    assert analysed(graph, PURE).shape.critical_ms == 10
    assert analysed(graph, {"c": "read"}).shape.critical_ms == 1000


def test_sides_that_exclude_each_other_are_never_at_once_and_only_the_dearest_counts():
    graph = Graph("g")
    test = graph.branch_on_value(graph.inv("c", name="c"), name="test")
    graph.ask("yes", on=(test, "true"), name="yes")
    graph.think("no", on=(test, "false"), name="no")
    found = analysed(graph, PURE)
    assert found.shape.parallelism_max == 1
    assert found.shape.sequential_ms == 10 + 10 + 5000


def test_what_fails_and_what_needs_it_exclude_each_other():
    graph = Graph("g")
    read = graph.inv("x", name="read")
    split = graph.inv("x", read, name="split")
    graph.ask("on with {0}", split, name="on")
    graph.ask("mend {0}", graph.merge(read.on("error"), split.on("error"), mode="any"), name="mend")
    assert analysed(graph).shape.parallelism_max == 1
    assert certificate(graph).llm_calls.limit == 4


def test_a_loop_takes_its_limit_and_says_so():
    graph = Graph("g")
    with graph.loop(max_iterations=7, name="loop") as body:
        body.ask("again", name="ask")
    found = analysed(graph)
    assert found.shape.critical_ms == found.shape.sequential_ms == 7000
    assert [(step.name, step.around, step.times) for step in found.shape.critical] == [("ask", ("loop",), 7)]
    assert found.assumed == ("LOOP `loop`: 7 iterations, its limit",)


@pytest.mark.parametrize(
    ("window", "items", "critical", "at_once"),
    [(4, [1] * 10, 3000, 4), (4, [1, 2], 1000, 2), (None, [1] * 3, 1000, 3), (2, [], 0, 1)],
)
def test_a_map_over_a_constant_list_takes_its_items_window_by_window(window, items, critical, at_once):
    graph = Graph("g")
    with graph.map(graph.const_str(items, name="items"), window=window, name="each") as item:
        graph.ask("{0}", item, name="ask")
    found = analysed(graph)
    assert found.shape.critical_ms == critical + 10
    assert found.shape.sequential_ms == len(items) * 1000 + 10
    assert (found.shape.parallelism_max, found.assumed) == (at_once, ())


def test_a_map_of_unknown_length_takes_as_many_items_as_its_window():
    graph = Graph("g")
    each = graph.map(graph.param("list", "json"), window=5, name="each")
    with each as item:
        graph.ask("{0}", item, name="ask")
    with each.reduce as results:
        graph.inv("c", results, name="join")
    found = analysed(graph, PURE)
    assert (found.shape.critical_ms, found.shape.sequential_ms, found.shape.parallelism_max) == (1010, 5010, 5)
    assert found.assumed == ("MAP `each`: 5 items, its window",)
    assert [inner.name for inner in found.shape.inside] == ["each / body", "each / reduce"]


def test_of_the_cases_of_a_switch_the_longest_counts_and_of_a_try_all_regions_do():
    graph = Graph("g")
    switch = graph.switch(graph.param("x"), name="switch")
    with switch.case("quick"):
        graph.inv("c", name="c")
    with switch.case("slow"):
        graph.think("hm", name="think")
    attempt = graph.try_(name="attempt", after=switch)
    with attempt.try_:
        graph.ask("a", name="ask")
    with attempt.catch:
        graph.ask("b", name="mend")
    with attempt.finally_:
        graph.inv("d", name="close")
    found = analysed(graph, PURE)
    assert found.shape.critical_ms == 5000 + 1000 + 1000 + 10
    assert [names[-1] for names in path(found)] == ["think", "ask", "mend", "close"]
    assert found.assumed == ("SWITCH `switch`: the case `slow`, which takes longest",)


def test_a_flow_that_is_called_takes_its_own_time_and_one_that_calls_itself_a_class():
    inner = Graph("inner")
    inner.ask("a", name="ask")
    outer = Graph("outer")
    outer.flow_call("inner", name="call")
    assert analysed(program(outer, inner)).shape.critical_ms == 1000
    endless = Graph("endless")
    endless.flow_call("endless", name="again")
    found = analysed(program(endless))
    assert found.shape.critical_ms == 5000
    assert "calls itself" in found.assumed[0]


def test_a_recorded_run_gives_means_and_how_often_things_happened():
    clock = VirtualClock()
    graph = Graph("g")
    with graph.map(graph.param("list", "json"), window=2, name="each") as item:
        graph.inv("nap", s=item, name="nap")
    test = graph.branch_on_value(graph.const_str(1, name="one"), value=1, name="test")
    graph.inv("nap", s=8.0, on=(test, "false"), name="never")

    async def nap(s: float) -> float:
        await asyncio.sleep(s)
        return s

    with Runtime(clock=clock, loop_factory=clock.new_event_loop) as runtime:
        runtime.capability("nap", effect="read")(nap)
        history = History.of(runtime.execute(graph, {"list": [1, 2, 3]}, run=RunOptions(trace=True)).events())
    found = analysed(graph, history=history)
    assert found.shape.sequential_ms == 6000  # three times the mean; what did not run took nothing
    assert found.shape.critical_ms == 4000  # two rounds of two
    assert (found.times, found.assumed) == (history.run_id, ())


def recorded_on_virtual_clock(graph, **params):
    """The history of a run of `graph`, where `nap` sleeps as long as it is told."""
    clock = VirtualClock()

    async def nap(s: float) -> float:
        await asyncio.sleep(s)
        return s

    with Runtime(clock=clock, loop_factory=clock.new_event_loop) as runtime:
        runtime.capability("nap", effect="read")(nap)
        return History.of(runtime.execute(graph, params, run=RunOptions(trace=True)).events())


def test_with_a_run_the_cases_that_were_chosen_are_alternatives_and_the_longest_counts():
    graph = Graph("g")
    with graph.map(graph.param("list", "json"), window=1, name="each") as item:
        route = graph.switch(item, name="route")
        with route.case("a"):
            graph.inv("nap", s=2.0, name="short")
        with route.case("b"):
            graph.inv("nap", s=5.0, name="long")
        with route.case("c"):
            graph.inv("nap", s=9.0, name="never")
    found = analysed(graph, history=recorded_on_virtual_clock(graph, list=["a", "b"]))
    assert [(names[-1], step.times) for names, step in zip(path(found), found.shape.critical)] == [("long", 2)]
    assert found.shape.critical_ms == 2 * 5000


def test_with_a_run_sides_of_a_branch_that_ran_for_different_items_are_never_on_one_path():
    graph = Graph("g")
    with graph.map(graph.param("list", "json"), window=1, name="each") as item:
        test = graph.branch_on_value(item, value=True, name="test")
        yes = graph.inv("nap", s=2.0, on=(test, "true"), name="yes")
        no = graph.inv("nap", s=5.0, on=(test, "false"), name="no")
        graph.inv("nap", s=1.0, after=graph.merge(yes, no, mode="any"), name="last")
    body = next(node for node in graph.nodes if node.name == "each").regions["body"]
    ids = {node.name: node.id for node in body.nodes}
    body.edges.append(Edge(ids["yes"], ids["no"], Dependency.EFFECT))  # what writes the same thing keeps its order
    found = analysed(graph, history=recorded_on_virtual_clock(graph, list=[True, False]))
    names = [names[-1] for names in path(found)]
    assert "no" in names
    assert "yes" not in names
    assert found.shape.critical_ms == 2 * (5000 + 1000)


# ---- bounds ----------------------------------------------------------------------------------------------------------
def test_an_ask_may_call_as_often_as_its_repairs_and_retries_allow():
    graph = Graph("g")
    graph.ask("a", name="plain")
    graph.ask("b", output_schema={"type": "object"}, max_schema_retries=2, max_retries=1, max_output_tokens=100, name="strict")
    found = certificate(graph)
    assert found.llm_calls.limit == (1 + 3) + (1 + 2) * (1 + 1)
    assert found.output_tokens.limit == 4 * 1024 + 6 * 100
    assert found.input_tokens.limit is None
    assert found.input_tokens.unbounded_by == (
        "ASK `plain`: the length of its prompt is not in the program",
        "ASK `strict`: the length of its prompt is not in the program",
    )
    assert found.cost_usd.unbounded_by == ("prices of models are not in the program",)
    assert found.included == ("1 answer with 3 retries: `plain`", "3 answers with 1 retries: `strict`")


def test_a_token_budget_bounds_input_and_output():
    graph = Graph("g")
    graph.ask("a", token_budget=500, name="ask")
    found = certificate(graph)
    assert (found.input_tokens.limit, found.output_tokens.limit) == (500, 500)


def test_a_model_with_tools_may_call_them_so_often_in_each_round_and_is_asked_again_after_it():
    graph = Graph("g")
    graph.ask("a", tools=["pay", "look"], max_iterations=2, max_retries=0, name="ask")
    found = certificate(graph, {"pay": "guarded", "look": "read"})
    most = 2 * TURN_CALLS
    assert found.llm_calls.limit == 3
    assert (found.capabilities["pay"].limit, found.capabilities["look"].limit) == (most, 3 * most)
    assert (found.tool_calls.limit, found.guarded["pay"].limit) == (3 * most, most)
    assert f"ASK `ask`: at most {most} calls of tools, as many as its model asks for" in found.included


@pytest.mark.parametrize(
    ("effect", "retries", "calls", "tool_calls", "guarded"),
    [
        ("pure", None, 3, 0, 0),
        ("read", None, 3, 3, 0),
        ("idempotent", 5, 6, 6, 0),
        ("read", 0, 1, 1, 0),
        ("guarded", None, 1, 1, 1),
        ("guarded", 5, 6, 6, 6),  # with its key, or when it is known not to have happened
        ("paid", None, 1, 1, 0),
        (None, None, 3, 3, 1),
    ],
)
def test_only_what_may_be_repeated_is_retried_and_only_what_may_not_is_guarded(effect, retries, calls, tool_calls, guarded):
    graph = Graph("g")
    graph.inv("c", retries=retries, name="call")
    found = certificate(graph, {"c": effect})
    assert found.capabilities["c"].limit == calls
    assert (found.tool_calls.limit, found.guarded_effects.limit) == (tool_calls, guarded)


def test_loops_multiply_and_maps_say_how_much_per_item():
    graph = Graph("g")
    with graph.loop(max_iterations=3, name="loop") as body:
        with body.map(body.inv("c", name="files"), name="each") as item:
            body.inv("act", item, name="act")
        body.inv("act", args=[1], name="log")
    found = certificate(graph, {"c": "pure", "act": "guarded"})
    assert str(found.guarded["act"]) == "3 + 3 per item of `files`"
    assert found.guarded["act"].limit is None
    assert found.guarded["act"].unbounded_by == ("MAP `each`: as many items as `files` has",)
    assert found.guarded["act"].at(lambda items: 10) == 33
    assert str(found.firings) == "10 + 3 per item of `files`"  # the loop, and three times files, each, log
    assert str(found.frames) == "3 + 3 per item of `files`"
    assert found.included[0] == "LOOP `loop`: at most 3 iterations"


def test_a_map_in_a_map_counts_per_item_of_both_lists():
    graph = Graph("g")
    with graph.map(graph.param("rows", "json"), name="outer") as row:
        inner = graph.map(graph.inv("c", row, name="cells"), name="inner")
        with inner as cell:
            graph.inv("act", cell, name="act")
    found = certificate(graph, {"c": "pure", "act": "guarded"})
    assert str(found.guarded["act"]) == "1 per item of `rows` and item of `cells`"
    assert found.guarded["act"].at(lambda items: {"rows": 3, "cells": 5}[items.listed]) == 15


def test_a_map_over_a_constant_list_is_bounded():
    graph = Graph("g")
    with graph.map(graph.const_str([1, 2, 3], name="items"), name="each") as item:
        graph.inv("act", item, name="act")
    found = certificate(graph, {"act": "guarded"})
    assert found.guarded_effects.limit == 3
    assert "MAP `each`: 3 items, as its constant list has" in found.included


def test_of_the_cases_of_a_switch_only_one_happens():
    graph = Graph("g")
    switch = graph.switch(graph.param("x"), name="switch")
    with switch.case("one"):
        graph.inv("act", args=[1], name="a")
    with switch.case("two"):
        graph.inv("act", args=[1], name="b")
        graph.inv("act", args=[2], name="c")
    assert certificate(graph, {"act": "guarded"}).guarded_effects.limit == 2


def test_try_catch_and_finally_may_all_happen():
    graph = Graph("g")
    attempt = graph.try_(name="attempt")
    for region in (attempt.try_, attempt.catch, attempt.finally_):
        with region:
            graph.inv("act", args=[1], name="act")
    assert certificate(graph, {"act": "guarded"}).guarded_effects.limit == 3


def test_a_flow_that_calls_itself_is_unbounded_only_in_what_happens_in_it():
    graph = Graph("down")
    graph.inv("act", args=[1], name="act")
    graph.flow_call("down", name="again")
    found = certificate(program(graph), {"act": "guarded"})
    cause = ("FLOW_CALL: `me.down` calls itself",)
    assert found.guarded_effects.unbounded_by == found.firings.unbounded_by == found.frames.unbounded_by == cause
    assert found.llm_calls.limit == 0


def test_flows_that_call_each_other_are_named_together():
    one, other = Graph("one"), Graph("other")
    one.flow_call("other", name="call")
    other.flow_call("one", name="call")
    assert certificate(program(one, other)).firings.unbounded_by == ("FLOW_CALL: `me.one` and `me.other` call each other",)


def test_a_flow_that_is_called_twice_counts_twice():
    inner = Graph("inner")
    inner.inv("act", args=[1], name="act")
    outer = Graph("outer")
    outer.flow_call("inner", name="once")
    outer.flow_call("inner", name="twice")
    found = certificate(program(outer, inner), {"act": "guarded"})
    assert (found.guarded_effects.limit, found.frames.limit, found.firings.limit) == (2, 2, 4)


def test_a_long_chain_of_calls_does_not_deepen_the_python_stack():
    flows = [Graph(f"f{number}") for number in range(3000)]
    for graph, callee in pairwise(flows):
        graph.flow_call(callee.name, name="call")
    flows[-1].inv("act", args=[1], name="act")
    graphs = {("me", graph.name): graph for graph in flows}
    assert bounds(graphs, ("me", "f0"), {"act": "guarded"}).guarded_effects.limit == 1


def test_whatever_is_not_in_the_program_makes_everything_unbounded():
    graph = Graph("g")
    graph.flow_call("elsewhere", agent_name="them", name="call")
    found = certificate(graph)
    cause = "FLOW_CALL `call`: flow `them.elsewhere` is not in this program"
    assert found.llm_calls.unbounded_by == found.tool_calls.unbounded_by == found.guarded_effects.unbounded_by == (cause,)


def test_a_plan_that_a_model_makes_is_a_splice_and_may_do_anything():
    graph = Graph("g")
    graph.plan("win", enable_inner_plan=True, name="plan")
    found = certificate(graph)
    assert found.splices.fixed == 1  # and those that the plan holds
    cause = "PLAN `plan`: a model decides what its inner plan does"
    assert found.splices.unbounded_by == found.tool_calls.unbounded_by == (cause,)
    assert "4 answers with 3 retries: `plan`" in found.included  # each repaired once, and asked once more for another plan
    graph = Graph("g")
    graph.plan("win", name="plan")
    assert certificate(graph).splices.limit == 0
    assert "2 answers with 3 retries: `plan`" in certificate(graph).included


def test_a_message_to_an_agent_of_the_program_counts_what_its_answer_does():
    asker = Graph("main")
    asker.communicate(recipient="other", message="hello", name="tell")
    answer = Graph("communicate")
    answer.ask("{m}", m=answer.param("m"), name="ask", max_retries=0)
    both = Program([AgentGraph("me", [asker]), AgentGraph("other", [answer])], "p")
    artifact = compile(both, level=0)
    found = bounds(lift(artifact), ("me", "main"))
    assert (found.llm_calls.limit, found.guarded["COMMUNICATE"].limit) == (1, 1)


def test_code_in_the_sandbox_is_a_guarded_effect_and_a_message_of_failure_is_none():
    graph = Graph("g")
    graph.exc(code="result = 1", name="run")
    graph.exc(message="no", name="fail")
    assert certificate(graph).guarded_effects.limit == 1


# ---- routes ----------------------------------------------------------------------------------------------------------
def test_when_choices_are_too_many_to_tell_apart_every_side_counts(monkeypatch):
    from apxm.graph import routes

    graph = Graph("g")
    test = graph.branch_on_value(graph.param("x", "bool"), name="test")
    graph.inv("act", args=[1], on=(test, "true"), name="yes")
    graph.inv("act", args=[2], on=(test, "false"), name="no")
    assert certificate(graph, {"act": "guarded"}).guarded_effects.limit == 1
    monkeypatch.setattr(routes, "SPLITS_MAX", 0)
    assert certificate(graph, {"act": "guarded"}).guarded_effects.limit == 2
    monkeypatch.setattr(routes, "SPLITS_MAX", SPLITS_MAX)
    monkeypatch.setattr(routes, "NODES_MAX", 1)
    assert certificate(graph, {"act": "guarded"}).guarded_effects.limit == 2


def test_sums_may_be_asked_for_a_part_of_the_nodes():
    graph = Graph("g")
    test = graph.branch_on_value(graph.param("x", "bool"), name="test")
    yes, no = graph.ask("y", on=(test, "true")), graph.ask("n", on=(test, "false"))
    (flow,) = lift(compile(graph, level=0)).values()
    routes = Routes(flow)
    weights = {node.id: 1 for node in flow.nodes}
    assert routes.largest(weights, sum, max) == 2
    assert routes.largest(weights, sum, max, [yes.node.id, no.node.id]) == 1


def test_that_a_node_fired_says_what_it_needed_and_that_it_did_not_says_nothing():
    graph = Graph("g")
    outer = graph.branch_on_value(graph.param("x", "bool"), name="outer")
    inner = graph.branch_on_value(outer.on("true"), name="inner")
    other = graph.ask("o", on=(outer, "false"), name="other")
    yes, no = graph.ask("y", on=(inner, "true"), name="yes"), graph.ask("n", on=(inner, "false"), name="no")
    (flow,) = lift(compile(graph, level=0)).values()
    true, false, silent = Routes(flow).cases(inner.node.id)
    ids = {ref.node.name: ref.node.id for ref in (other, yes, no)}
    assert true == {ids["other"], ids["no"]}
    assert false == {ids["other"], ids["yes"]}
    assert silent == {ids["yes"], ids["no"]}  # `other` may be why it did not fire


def test_what_takes_one_of_several_says_nothing_about_which():
    graph = Graph("g")
    first = graph.branch_on_value(graph.param("x", "bool"), name="first")
    yes, no = graph.ask("y", on=(first, "true"), name="yes"), graph.ask("n", on=(first, "false"), name="no")
    second = graph.branch_on_value(graph.merge(yes, no, mode="any"), name="second")
    last = graph.ask("l", on=(second, "true"), name="last")
    (flow,) = lift(compile(graph, level=0)).values()
    assert Routes(flow).cases(second.node.id) == [frozenset(), {last.node.id}]
