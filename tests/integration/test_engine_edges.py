"""Corners of what the local engine promises, through the public API."""

from __future__ import annotations

import asyncio
import threading

import pytest

from apxm import CapabilityRecord, Graph, Limits, Program, RunOptions, Runtime, RuntimeConfig, SchedulerConfig
from apxm.compiler.compile import compile
from apxm.errors import ApxmError, BindError, BudgetError, CapabilityError, DeadlineError, DeniedError, InvalidError, RunCancelled
from apxm.graph.model import AgentGraph
from apxm.observability.events import NodeEnded, NodeStarted, RunEnded, RunStarted


@pytest.fixture
def clock(virtual_clock):
    return virtual_clock


@pytest.fixture
def runtime_with(apxm_runtime, clock):
    """Makes runtimes on the virtual clock with a scheduler configuration."""

    def make(**config):
        runtime = apxm_runtime(RuntimeConfig(scheduler_config=SchedulerConfig(**config)), clock=clock)
        register(runtime, "nap", nap(1))
        register(runtime, "one", lambda *_: 1, "pure")
        return runtime

    return make


@pytest.fixture
def runtime(runtime_with):
    return runtime_with()


def register(runtime, name, fn, effect="read", **rest):
    runtime.capability_system().register(name, CapabilityRecord("For a test.", fn, effect=effect, **rest))


def nap(seconds, value=None):
    async def nap(*values):
        await asyncio.sleep(seconds)
        return value or (values[0] if values else "woke")

    return nap


def program(outer, *inner):
    outer.metadata["is_entry"] = True
    for graph in inner:
        graph.metadata["is_entry"] = False
    return Program([AgentGraph("default", [outer, *inner])])


# ---- bounds ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("bound", "fits"), [(2, False), (3, True)])
def test_max_depth_bounds_how_deep_frames_nest(runtime_with, bound, fits):
    runtime = runtime_with(max_depth=bound)
    graph = Graph("deep")
    with graph.map(graph.const_str([1])) as a, graph.map(graph.const_str([a])) as b, graph.map(graph.const_str([b])) as c:
        graph.yield_(c)
    if fits:
        assert runtime.execute(graph).value is not None
    else:
        with pytest.raises(InvalidError, match="max_depth=2"):
            runtime.execute(graph)


@pytest.mark.parametrize(("bound", "fits"), [(3, False), (4, True)])
def test_max_frames_bounds_how_many_frames_are_alive(runtime_with, bound, fits):
    runtime = runtime_with(max_frames=bound)
    graph = Graph("wide")
    with graph.map(graph.const_str([1, 2, 3]), window=3) as item:
        graph.yield_(graph.inv("nap", item))
    if fits:
        assert runtime.execute(graph).value == [1, 2, 3]
    else:
        with pytest.raises(InvalidError, match="max_frames=3"):
            runtime.execute(graph)


def test_a_window_bounds_how_many_items_are_worked_on_at_once(runtime, clock):
    graph = Graph("window")
    with graph.map(graph.const_str(list(range(6))), window=2) as item:
        graph.yield_(graph.inv("nap", item))
    result = runtime.execute(graph)
    assert (result.value, clock.now, result.stats.parallelism_max) == (list(range(6)), 3, 2)


def test_only_frames_that_are_alive_count_and_every_node_in_them(runtime_with):
    runtime = runtime_with(max_frames=3)
    inner, outer = Graph("inner"), Graph("outer")
    inner.inv("one", inner.param("n", "json"))
    with outer.loop(outer.const_str(0), max_iterations=10, carry=["n"]) as body:
        outer.yield_(outer.inv("one", body.param("n", "json")))
    with outer.map(outer.const_str([1, 2, 3, 4]), window=1) as item:
        outer.yield_(outer.flow_call("inner", item))
    stats = runtime.execute(program(outer, inner)).stats
    assert stats.executed == (1 + 1 + 10 * 2) + (1 + 1 + 4 * 3)


@pytest.mark.parametrize("trace", [True, False])
def test_the_node_budget_is_exact_in_child_frames_too(runtime, trace):
    called = []
    register(runtime, "count", lambda *_: called.append(1), "pure")
    graph = Graph("items")
    with graph.map(graph.const_str(list(range(300)))) as item:
        graph.yield_(graph.inv("count", item))
    with pytest.raises(BudgetError):
        runtime.execute(graph, run=RunOptions(budget=Limits(nodes=202), trace=trace))
    assert len(called) == 100  # the list, the MAP, and two nodes for each item


def test_a_run_keeps_a_bounded_number_of_errors(runtime):
    register(runtime, "bad", lambda *_: 1 // 0, "pure")
    graph = Graph("bad")
    for _ in range(1_050):
        graph.inv("bad")
    result = runtime.execute(graph, run=RunOptions(on_failure="continue"))
    assert (result.stats.failed, len(result.errors)) == (1_050, 1_000)


def test_a_runtime_keeps_a_bounded_number_of_bound_programs(runtime):
    for number in range(300):
        graph = Graph("g")
        graph.const_str(str(number))
        runtime.execute(graph)
    assert len(runtime._bindings) == 256


def test_nothing_of_a_run_stays_in_the_runtime(runtime):
    graph = Graph("g")
    graph.umem("key", graph.const_str("x"))
    handle = runtime.start(graph, run=RunOptions(budget=Limits(nodes=1_000)))
    assert handle.result(5).value == "x"
    assert runtime.memory.open_runs == 0
    assert handle._run.ledger.spent()["nodes"] == 2
    assert not runtime._live


# ---- values ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bad", [2**70, float("nan")])
def test_a_value_that_may_not_leave_the_run_is_refused_at_its_output(runtime, bad):
    register(runtime, "bad", lambda *_: bad, "pure")
    graph = Graph("g")
    graph.inv("bad", name="odd")
    with pytest.raises(ApxmError, match="output `odd`"):
        runtime.execute(graph)


def test_the_value_of_a_region_is_what_it_yields_whatever_else_it_does(runtime):
    graph = Graph("g")
    with graph.map(graph.const_str([1, 2])) as item:
        graph.inv("one", item)
        graph.yield_(item)
    assert runtime.execute(graph).value == [1, 2]


def test_a_list_from_a_pure_function_is_copied_though_its_neighbours_need_no_copy(runtime):
    mine = [1]
    register(runtime, "mine", lambda *_: mine, "pure")
    graph = Graph("g")
    graph.const_str("x", name="text")
    graph.inv("mine", name="list")
    outputs = runtime.execute(graph).outputs
    mine.append(2)
    assert outputs == {"text": "x", "list": [1]}


def test_a_node_goes_on_once_when_its_children_end_as_they_open(runtime):
    graph = Graph("g")
    every = graph.map(graph.const_str([1, 2, 3]))
    with every as item:
        graph.inv("one", item, name="left")
        graph.inv("one", item, name="right")
    last = every
    for _ in range(3):
        last = graph.inv("nap", last)
    assert runtime.execute(graph).value == [{"left": 1, "right": 1}] * 3


def test_two_yields_of_one_region_are_an_error_only_when_both_give_a_value(runtime):
    def both(value):
        graph = Graph("g")
        with graph.map(graph.const_str([value])) as item:
            way = graph.branch_on_value(item, condition="> 1")
            graph.yield_(way.on("true"))
            graph.yield_(way.on("false") if value == 5 else graph.inv("one", item))
        return graph

    assert runtime.execute(both(5)).value == [5]
    with pytest.raises(InvalidError, match="two YIELDs"):
        runtime.execute(both(7))


def test_an_early_return_is_the_value_of_its_call(runtime):
    inner, outer = Graph("inner"), Graph("outer")
    case = inner.switch(inner.const_str("a"))
    with case.case("a") as value:
        inner.return_(inner.inv("one", value))
    inner.inv("nap", case, name="late")
    outer.inv("nap", outer.flow_call("inner"), name="out")
    assert runtime.execute(program(outer, inner)).outputs == {"out": 1}


# ---- RETURN, choices -------------------------------------------------------------------------------------------------
def test_a_return_does_not_wait_for_another_output(runtime, clock):
    register(runtime, "long", nap(60))
    graph = Graph("g")
    graph.inv("long", name="other")
    graph.return_(graph.inv("nap"))
    result = runtime.execute(graph)
    assert (result.value, clock.now, result.stats.node_status["other"]) == ("woke", 1, "cancelled")


def test_a_return_does_not_wait_for_what_a_choice_dropped(runtime, clock):
    register(runtime, "long", nap(60))
    graph = Graph("g")
    graph.return_(graph.merge(graph.inv("nap"), graph.inv("long"), mode="any"))
    assert runtime.execute(graph).value == "woke"
    assert clock.now == 1


def test_a_return_lets_a_flow_with_an_effect_that_is_ready_run(runtime):
    noted = []
    register(runtime, "note", lambda *_: noted.append(1), "guarded", run="inline")
    inner, outer = Graph("inner"), Graph("outer")
    inner.inv("note", inner.inv("one"))
    start = outer.inv("nap")
    outer.flow_call("inner", after=[start])
    outer.return_(start)
    assert runtime.execute(program(outer, inner)).value == "woke"
    assert noted == [1]


def test_a_choice_takes_a_parameter_at_once_but_waits_for_its_gates(runtime, clock):
    graph = Graph("g")
    given = graph.param("given")
    graph.merge(given, graph.inv("nap"), mode="any", after=[given], name="now")
    graph.merge(given, graph.inv("nap"), mode="any", after=[graph.inv("nap", name="gate")], name="gated")
    ways = graph.branch_on_value(graph.inv("nap"), value="woke")
    graph.merge(given, graph.inv("nap"), mode="any", on=(ways, "false"), name="barred")
    result = runtime.execute(graph, given="x", run=RunOptions(trace=True))
    assert result.outputs == {"now": "x", "gated": "x"}
    ended = {event.name: event.at for event in result.events() if isinstance(event, NodeEnded)}
    assert (ended["now"], ended["gated"]) == (0, 1)


def test_a_choice_that_a_dead_gate_bars_has_no_winner(runtime):
    graph = Graph("g")
    ways = graph.branch_on_value(graph.inv("nap"), value="woke")
    graph.merge(graph.inv("one"), mode="any", on=(ways, "false"), name="barred")
    result = runtime.execute(graph, run=RunOptions(trace=True))
    winners = {event.name: event.winner for event in result.events() if isinstance(event, NodeEnded)}
    assert winners["barred"] is None


# ---- handled failures ------------------------------------------------------------------------------------------------
def test_a_failure_in_the_middle_of_pure_nodes_leaves_the_others_as_they_are(runtime):
    called = []

    def step(*values):
        called.append(values)
        return len(called)

    register(runtime, "step", step, "pure")
    register(runtime, "bad", lambda *_: 1 // 0, "pure")
    graph = Graph("g")
    first = graph.inv("step")
    second = graph.inv("step", first)
    middle = graph.inv("bad", second, fallback="fb")
    graph.inv("step", middle, name="after")
    graph.inv("step", first, name="beside")
    result = runtime.execute(graph)
    assert result.stats.executed == 4
    assert sorted(map(str, called)) == sorted(map(str, [(), (1,), ("fb",), (1,)]))


def test_a_deaf_cleanup_is_given_up_and_nothing_of_it_follows(runtime_with):
    runtime = runtime_with(grace_ms=2_000)
    done = []
    register(runtime, "long", nap(60))
    register(runtime, "note", lambda *_: done.append(1), "guarded", run="inline")
    graph = Graph("g")
    attempt = graph.try_()
    with attempt.try_:
        graph.inv("one")
    with attempt.finally_:
        graph.inv("note", order_after=[graph.inv("long", name="stuck")])
    with pytest.raises(DeadlineError) as caught:
        runtime.execute(graph, run=RunOptions(deadline_s=1))
    assert caught.value.result.stats.abandoned == ("stuck",)
    assert done == []


# ---- labels ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def labelled(runtime):
    for name in ("left", "right", "gate"):
        register(runtime, name, nap(1, name))
    return runtime


def test_a_choice_has_the_labels_of_its_winner_only(labelled):
    register(labelled, "slow", nap(9))
    graph = Graph("g")
    graph.merge(graph.inv("slow"), graph.inv("left"), mode="any", name="out")
    assert labelled.execute(graph).labels("out") == {"tool:left"}


def test_a_value_has_no_labels_of_a_path_that_was_not_taken(labelled):
    graph = Graph("g")
    ways = graph.branch_on_value(graph.inv("left"), value="left")
    graph.wait_all(graph.inv("one", ways.on("true")), graph.inv("right", ways.on("false")), name="out")
    assert labelled.execute(graph).labels("out") == {"tool:left"}


def test_a_gate_labels_what_it_lets_through_and_an_order_does_not(labelled):
    graph = Graph("g")
    graph.inv("one", after=[graph.inv("gate")], name="gated")
    graph.inv("one", order_after=[graph.inv("right")], name="ordered")
    graph.merge(graph.inv("one"), mode="any", after=[graph.inv("gate")], name="chosen")
    result = labelled.execute(graph)
    assert (result.labels("gated"), result.labels("ordered")) == ({"tool:gate"}, frozenset())
    assert result.labels("chosen") == {"tool:gate"}


def test_labels_of_all_child_frames_join_at_whatever_depth(labelled):
    graph = Graph("g")
    with graph.map(graph.const_str(["a", "b"]), name="all") as item, graph.map(graph.const_str([1])):
        case = graph.switch(item)
        with case.case("a"):
            graph.yield_(graph.inv("left"))
        with case.default():
            graph.yield_(graph.inv("right"))
        graph.yield_(case)
    assert labelled.execute(graph).labels("all") == {"tool:left", "tool:right"}


def test_labels_come_home_through_calls_with_a_time_limit(labelled):
    inner, middle, outer = Graph("inner"), Graph("middle"), Graph("outer")
    inner.inv("left")
    middle.flow_call("inner", timeout_ms=60_000)
    outer.flow_call("middle", name="call")
    assert labelled.execute(program(outer, middle, inner)).labels("call") == {"tool:left"}


# ---- binding ---------------------------------------------------------------------------------------------------------
def test_grants_of_one_run_are_not_those_of_the_next(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    graph = Graph("g")
    graph.inv("read", arg_path="a.txt")
    dag = compile(graph).into_dag()
    granted = RunOptions(grants=[f"read={tmp_path}"])
    with Runtime() as runtime:
        assert "text" in str(runtime.execute(dag, run=granted).value)
        with pytest.raises(DeniedError):
            runtime.execute(dag)
        assert "text" in str(runtime.execute(dag, run=granted).value)


def test_a_capability_registered_anew_is_the_one_that_runs(runtime):
    register(runtime, "pick", lambda: "old", "pure")
    graph = Graph("g")
    graph.inv("pick")
    dag = compile(graph).into_dag()
    assert runtime.execute(dag).value == "old"
    runtime.capability_system().unregister("pick")
    register(runtime, "pick", lambda: "new", "pure")
    assert runtime.execute(dag).value == "new"


def test_a_flow_may_call_itself(runtime):
    flow = Graph("down")
    number = flow.param("n", "int")
    ways = flow.branch_on_value(number, condition="> 0")
    less = flow.inv("less", ways.on("true"))
    deeper = flow.flow_call("down", less)
    flow.return_(flow.merge(deeper, ways.on("false"), mode="any"))
    register(runtime, "less", lambda n: n - 1, "pure")
    assert runtime.execute(program(flow), n=20).value == 0


def test_a_time_limit_on_what_cannot_wait_is_refused(runtime):
    graph = Graph("g")
    graph.merge(graph.inv("one"), timeout_ms=5)
    with pytest.raises(BindError, match="timeout"):
        runtime.execute(graph)


# ---- watching --------------------------------------------------------------------------------------------------------
def test_a_trace_and_a_handle_see_the_same_events(runtime):
    graph = Graph("g")
    graph.print("hello", graph.inv("nap", graph.inv("one")))
    handle = runtime.start(graph, run=RunOptions(trace=True))
    seen = list(handle.events())
    assert seen == handle.result(5).events()
    assert (type(seen[0]), type(seen[-1])) == (RunStarted, RunEnded)
    started = [event.name for event in seen if isinstance(event, NodeStarted)]
    assert sorted(started) == sorted(event.name for event in seen if isinstance(event, NodeEnded))


def test_statistics_name_nodes_only_and_know_that_one_thing_ran(runtime):
    graph = Graph("g")
    graph.inv("one", graph.param("given"), name="node")
    stats = runtime.execute(graph, given="x").stats
    assert (stats.node_status, stats.parallelism_max, stats.parallelism_avg) == ({"node": "done"}, 1, 1.0)


def test_what_models_used_adds_up(runtime):
    graph = Graph("g")
    graph.ask("Say a.", name="a")
    graph.ask("Say b.", name="b")
    usage = runtime.execute(graph).stats.usage
    assert usage["model"]["extractive"]["llm_calls"] == usage["agent"]["default"]["llm_calls"] == 2
    assert usage["node"]["a"]["llm_calls"] == 1


def test_a_long_run_does_not_hold_the_loop_of_its_caller(runtime, clock):
    threads = []

    def tick(*_):
        clock.advance(0.001)
        threads.append(threading.current_thread())

    register(runtime, "tick", tick, "pure")
    graph = Graph("long")
    last = graph.inv("tick")
    for _ in range(500):
        last = graph.inv("tick", last)
    assert asyncio.run(runtime.execute_async(graph)).stats.executed == 501
    here = threads.count(threading.current_thread())
    assert 0 < here < 300


# ---- cancellation ----------------------------------------------------------------------------------------------------
def test_cancelling_the_awaiting_task_stops_what_is_in_flight_before_it_returns():
    stopped, waiting = [], threading.Event()

    async def long():
        waiting.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(1)

    with Runtime() as runtime:
        register(runtime, "long", long)
        graph = Graph("g")
        graph.inv("long")

        async def main():
            task = asyncio.create_task(runtime.execute_async(graph))
            await asyncio.to_thread(waiting.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return list(stopped)

        assert asyncio.run(main()) == [1]


def test_closing_a_runtime_stops_tasks_that_are_not_runs():
    stopped, waiting = [], threading.Event()

    async def other():
        waiting.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(1)

    runtime = Runtime(RuntimeConfig(scheduler_config=SchedulerConfig(grace_ms=0)))
    runtime._loop.submit(other())
    waiting.wait(10)
    runtime.close()
    assert stopped == [1]


def test_a_run_that_is_over_cannot_be_cancelled(runtime):
    graph = Graph("g")
    graph.inv("nap")
    handle = runtime.start(graph)
    assert handle.result(5).value == "woke"
    handle.cancel()
    assert handle.result(5).value == "woke"
    runtime.close()
    handle.cancel()


def test_a_capability_that_ends_its_process_or_its_task_only_fails(runtime):
    async def leave():
        raise SystemExit(3)

    async def drop():
        raise asyncio.CancelledError

    for name, fn in (("leave", leave), ("drop", drop)):
        register(runtime, name, fn)
        graph = Graph("g")
        graph.inv(name)
        with pytest.raises(CapabilityError):
            runtime.start(graph).result(5)
    graph = Graph("g")
    graph.inv("nap")
    assert runtime.execute(graph).value == "woke"


def test_the_time_limit_of_a_loop_of_pure_steps_ends_it(runtime, clock):
    def tick(*_):
        clock.advance(0.01)
        return 1

    register(runtime, "tick", tick, "pure")
    graph = Graph("g")
    with graph.loop(graph.const_str(0), max_iterations=10**6, carry=["n"], timeout_ms=1_000, name="loop") as body:
        graph.yield_(graph.inv("tick", body.param("n", "int")))
    with pytest.raises(DeadlineError) as caught:
        runtime.execute(graph)
    assert caught.value.node == "loop"


def test_a_handler_that_gives_something_to_await_where_nobody_awaits_is_refused(runtime):
    class Later:
        def __await__(self):
            yield

    register(runtime, "later", lambda: Later(), "pure")
    graph = Graph("g")
    graph.inv("later")
    with pytest.raises(ApxmError, match="no token may carry"):
        runtime.execute(graph)


def test_a_cancelled_run_says_so_before_anything_ran(runtime):
    gate, inside = threading.Event(), threading.Event()

    def hold(*_):
        inside.set()
        return gate.wait(10)

    register(runtime, "hold", hold, "pure")
    first, second = Graph("first"), Graph("second")
    first.inv("hold")
    second.inv("nap")
    holding = runtime.start(first)
    inside.wait(10)
    waiting = runtime.start(second)  # the loop is busy, so it has not begun
    waiting.cancel("never mind")
    gate.set()
    assert holding.result(5).value is True
    with pytest.raises(RunCancelled, match="never mind") as caught:
        waiting.result(5)
    assert caught.value.result.stats.executed == 0
