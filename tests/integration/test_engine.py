"""What the local engine promises, through the public API."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from apxm import CapabilityRecord, Graph, Limits, Program, RunOptions, Runtime, RuntimeConfig, SchedulerConfig
from apxm.errors import ApxmError, BudgetError, DeadlineError, HandlerError, RunCancelled, TransientError
from apxm.graph.model import AgentGraph
from apxm.observability.events import NodeEnded, NodeRetried, RunEnded, RunStarted


@pytest.fixture
def runtime(apxm_runtime):
    return apxm_runtime()


@pytest.fixture
def clock(virtual_clock):
    return virtual_clock


@pytest.fixture
def virtual(apxm_runtime, clock):
    return apxm_runtime(clock=clock)


def nap(runtime, effect="read", seconds=10.0, name="nap"):
    async def nap(*values):
        await asyncio.sleep(seconds)
        return values[0] if values else "woke"

    runtime.capability_system().register(name, CapabilityRecord("Wait.", nap, effect=effect))


def naps(count, name="nap"):
    graph = Graph("naps")
    graph.wait_all(*(graph.inv(name) for _ in range(count)))
    return graph


# ---- time ------------------------------------------------------------------------------------------------------------
def test_waits_overlap_and_a_run_takes_as_long_as_its_critical_path(virtual, clock):
    nap(virtual, seconds=5)
    result = virtual.execute(naps(50))
    assert result.value == ["woke"] * 50
    assert clock.now == pytest.approx(5)
    assert result.stats.parallelism_max == 50


def test_no_barrier_holds_back_a_branch_whose_inputs_are_there(virtual, clock):
    for name, seconds in (("slow", 6), ("quick", 1)):
        nap(virtual, seconds=seconds, name=name)
    graph = Graph("skewed")
    a = graph.inv("quick")
    b = graph.inv("slow")
    graph.wait_all(graph.inv("slow", a), graph.inv("quick", b))
    virtual.execute(graph)
    assert clock.now == pytest.approx(7)


def test_max_parallelism_bounds_how_many_operations_wait_at_once(apxm_runtime, clock):
    runtime = apxm_runtime(RuntimeConfig(scheduler_config=SchedulerConfig(max_parallelism=4)), clock=clock)
    nap(runtime, seconds=1)
    result = runtime.execute(naps(12))
    assert clock.now == pytest.approx(3)
    assert result.stats.parallelism_max == 4


def test_without_stealing_the_results_are_the_same(apxm_runtime, clock):
    config = RuntimeConfig(scheduler_config=SchedulerConfig(max_parallelism=4, enable_work_stealing=False))
    runtime = apxm_runtime(config, clock=clock)
    nap(runtime, seconds=1)
    assert runtime.execute(naps(12)).value == ["woke"] * 12


def test_a_deadline_ends_the_run_in_time_with_its_partial_result(virtual, clock):
    nap(virtual, seconds=60)
    graph = Graph("late")
    graph.const_str("early", name="first")
    graph.inv("nap", name="second")
    with pytest.raises(DeadlineError) as caught:
        virtual.execute(graph, run=RunOptions(deadline_s=3))
    assert clock.now == pytest.approx(3, abs=0.1)
    assert caught.value.result.outputs == {"first": "early"}
    assert caught.value.result.stats.node_status["second"] == "cancelled"


def test_the_timeout_of_a_node_is_a_failure_of_that_node(virtual, clock):
    nap(virtual, seconds=60)
    graph = Graph("slow")
    slow = graph.inv("nap", timeout_ms=2_000, name="slow", retries=0)
    graph.merge(slow.on("error"), name="caught")
    result = virtual.execute(graph)
    assert clock.now == pytest.approx(2, abs=0.1)
    assert "did not answer within 2 s" in result.value[0]["message"]


def test_the_timeout_of_a_node_with_child_frames_closes_them(virtual, clock):
    nap(virtual, seconds=60)
    graph = Graph("outer")
    with graph.map(graph.const_str([1, 2, 3], name="list"), timeout_ms=1_000, name="all") as item:
        item.graph.yield_(item.graph.inv("nap", item))
    with pytest.raises(DeadlineError) as caught:
        virtual.execute(graph)
    assert caught.value.node == "all"
    assert clock.now == pytest.approx(1, abs=0.1)


def test_a_flow_call_with_a_timeout_closes_its_frame(virtual, clock):
    nap(virtual, seconds=60)
    inner, outer = Graph("inner"), Graph("outer", metadata={"is_entry": True})
    inner.metadata["is_entry"] = False
    inner.inv("nap")
    outer.flow_call("inner", timeout_ms=1_000, name="call")
    with pytest.raises(DeadlineError) as caught:
        virtual.execute(Program([AgentGraph("default", [outer, inner])]))
    assert caught.value.node == "call"
    assert clock.now == pytest.approx(1, abs=0.1)


def test_nested_time_limits_take_the_minimum(virtual, clock):
    nap(virtual, seconds=60)
    with pytest.raises(DeadlineError):
        virtual.execute(Graph("n").inv("nap", timeout_ms=50_000).graph, run=RunOptions(deadline_s=1))
    assert clock.now == pytest.approx(1, abs=0.1)


# ---- cancellation ----------------------------------------------------------------------------------------------------
def left_over():
    gc.collect()
    return {thread.name for thread in threading.enumerate() if thread is not threading.main_thread()}


def test_cancel_reaches_what_is_in_flight_and_leaves_nothing(runtime):
    stopped = []

    async def stubborn():
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(True)

    runtime.capability_system().register("stubborn", CapabilityRecord("Wait.", stubborn, effect="read"))
    handle = runtime.start(naps(20, "stubborn"))
    for event in handle.events():
        if getattr(event, "name", "").startswith("inv"):
            break
    handle.cancel("enough")
    with pytest.raises(RunCancelled, match="enough") as caught:
        handle.result(10)
    stats = caught.value.result.stats
    assert stats.abandoned == ()
    assert stats.cancelled == 21
    assert len(stopped) <= 20
    loop = runtime._loop._loop
    names = asyncio.run_coroutine_threadsafe(_task_names(), loop).result(5)
    assert names == ["_task_names"]


async def _task_names():
    return sorted(task.get_coro().__name__ for task in asyncio.all_tasks())


def test_an_operation_that_ignores_cancellation_is_abandoned_and_named():
    began, end = threading.Event(), threading.Event()

    async def deaf():
        began.set()
        while not end.is_set():
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue

    config = RuntimeConfig(scheduler_config=SchedulerConfig(grace_ms=100))
    with Runtime(config) as runtime:
        runtime.capability_system().register("deaf", CapabilityRecord("Do not listen.", deaf, effect="read"))
        graph = Graph("deaf")
        graph.inv("deaf", name="tool")
        handle = runtime.start(graph)
        assert began.wait(10)
        handle.cancel()
        with pytest.raises(RunCancelled) as caught:
            handle.result(10)
        assert caught.value.result.stats.abandoned == ("tool",)
        end.set()


def test_a_thread_that_cannot_be_stopped_is_abandoned_and_named(runtime):
    began, go_on = threading.Event(), threading.Event()

    def block():
        began.set()
        go_on.wait(30)

    runtime.capability_system().register("block", CapabilityRecord("Block.", block, effect="read"))
    graph = Graph("blocked")
    graph.inv("block", name="tool")
    try:
        handle = runtime.start(graph)
        assert began.wait(10)
        handle.cancel()
        with pytest.raises(RunCancelled) as caught:
            handle.result(10)
        assert caught.value.result.stats.abandoned == ("tool",)
    finally:
        go_on.set()


def test_cancelling_the_awaiting_task_cancels_the_run(runtime):
    nap(runtime)

    async def main():
        task = asyncio.create_task(runtime.execute_async(naps(3)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert not runtime._live


def test_a_busy_run_is_cancelled_at_its_next_lease(runtime):
    started = threading.Event()

    def tick(value):
        started.set()
        return value + 1

    runtime.capability_system().register("tick", CapabilityRecord("Count.", tick, effect="pure"))
    graph = Graph("busy")
    with graph.loop(graph.const_str(0), max_iterations=10**9, carry=["n"]) as body:
        body.yield_(body.inv("tick", body.param("n", "int")))
    handle = runtime.start(graph)
    started.wait(10)
    handle.cancel()
    with pytest.raises(RunCancelled):
        handle.result(10)


def test_closing_a_runtime_ends_its_runs_and_its_thread():
    before = left_over()
    runtime = Runtime()
    nap(runtime)
    handle = runtime.start(naps(3))
    runtime.close()
    runtime.close()
    with pytest.raises(RunCancelled):
        handle.result(5)
    assert left_over() <= before
    with pytest.raises(ApxmError, match="closed"):
        runtime.execute(naps(1))


def test_cleanup_runs_on_cancellation(virtual):
    done = []
    nap(virtual, seconds=60)
    virtual.capability_system().register(
        "note", CapabilityRecord("Note.", lambda: done.append(1), effect="guarded", run="inline")
    )
    graph = Graph("tidy")
    attempt = graph.try_()
    with attempt.try_ as region:
        region.graph.inv("nap")
    with attempt.finally_ as region:
        region.graph.inv("note")
    with pytest.raises(DeadlineError):
        virtual.execute(graph, run=RunOptions(deadline_s=1))
    assert done == [1]


@pytest.mark.parametrize("effect", ["pure", "idempotent"])
def test_a_finally_that_runs_when_time_is_up_goes_on_to_its_end(virtual, clock, effect):
    ticks = []

    def tick(value):
        ticks.append(value)
        clock.advance(1)
        return value

    virtual.capability_system().register("tick", CapabilityRecord("Tick.", tick, effect=effect, run="inline"))
    graph = Graph("tidy")
    attempt = graph.try_()
    with attempt.try_ as region:
        region.graph.const_str("tried")
    with attempt.finally_ as region:
        last = region.graph.const_str(1)
        for _ in range(300):  # longer than a lease
            last = region.graph.inv("tick", last)
    with pytest.raises(DeadlineError):
        virtual.execute(graph, run=RunOptions(deadline_s=1.5))
    assert len(ticks) == 300


# ---- failure ---------------------------------------------------------------------------------------------------------
def test_a_transient_failure_is_tried_again_within_the_budget_of_the_run(virtual, fault_plan):
    nap(virtual)
    fault_plan.capability("nap").fail("transient", calls=(1, 2))
    fault_plan.install(virtual)
    result = virtual.execute(naps(1), run=RunOptions(trace=True))
    assert (result.value, result.stats.retried) == (["woke"], 2)


def test_a_guarded_failure_is_never_tried_again(virtual, fault_plan):
    nap(virtual, effect="guarded")
    fault_plan.capability("nap").fail("transient")
    fault_plan.install(virtual)
    with pytest.raises(TransientError):
        virtual.execute(naps(1))
    assert [fault.call for fault in fault_plan.log] == [1]


def test_what_a_handler_raises_is_chained_and_located(runtime):
    def bad(value):
        raise ZeroDivisionError("by zero")

    runtime.capability_system().register("bad", CapabilityRecord("Fail.", bad, effect="pure"))
    graph = Graph("outer")
    with graph.map(graph.const_str([1]), name="each") as item:
        item.graph.inv("bad", item, name="inner")
    with pytest.raises(HandlerError) as caught:
        runtime.execute(graph)
    error = caught.value
    assert (error.node, error.op, error.path) == ("inner", "INV", ((graph.nodes[1].id, 0),))
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert error.result is not None


def test_the_node_budget_is_exact_and_its_exhaustion_has_the_partial_result(runtime):
    calls = []
    runtime.capability_system().register("one", CapabilityRecord("Count.", lambda *_: calls.append(1), effect="pure"))
    graph = Graph("chain")
    last = graph.inv("one")
    for _ in range(99):
        last = graph.inv("one", last)
    assert runtime.execute(graph, run=RunOptions(budget=Limits(nodes=100))).stats.executed == 100
    calls.clear()
    with pytest.raises(BudgetError) as caught:
        runtime.execute(graph, run=RunOptions(budget=Limits(nodes=60)))
    assert len(calls) == 60
    assert caught.value.result.stats.executed == 60


def test_tool_calls_are_reserved_before_they_go_out(virtual):
    nap(virtual, effect="guarded", seconds=1)
    with pytest.raises(BudgetError):
        virtual.execute(naps(5), run=RunOptions(budget=Limits(tool_calls=3)))


def test_nodes_that_differ_only_in_the_kind_of_an_edge_get_their_own_arguments(runtime):
    runtime.capability_system().register("pair", CapabilityRecord("Pair.", lambda a, b=None: [a, b], effect="pure"))
    graph = Graph("kinds")
    x, y = graph.const_str("x"), graph.const_str("y")
    graph.inv("pair", x, after=[y], name="gated")
    graph.inv("pair", x, y, name="fed")
    assert runtime.execute(graph).outputs == {"gated": ["x", None], "fed": ["x", "y"]}


# ---- many at once ----------------------------------------------------------------------------------------------------
def counting():
    graph = Graph("count")
    key = graph.param("key", "str")
    stored = graph.umem("mine", key)
    waited = graph.inv("nap", stored)
    read = graph.qmem(key="mine", after=[waited])
    graph.return_(read)
    return graph


def test_runs_at_once_from_threads_share_no_memory(runtime):
    nap(runtime, seconds=0.01)
    graph = counting()
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda n: runtime.execute(graph, key=f"k{n}").value, range(40)))
    assert values == [f"k{n}" for n in range(40)]


def test_runs_at_once_from_tasks_share_no_memory_stats_or_budget(runtime):
    nap(runtime, seconds=0.01)
    graph = counting()

    async def main():
        return await asyncio.gather(
            *(runtime.execute_async(graph, key=f"k{n}", run=RunOptions(budget=Limits(nodes=5))) for n in range(40))
        )

    results = asyncio.run(main())
    assert [result.value for result in results] == [f"k{n}" for n in range(40)]
    assert {result.stats.executed for result in results} == {4}


def test_execute_inside_a_running_loop_says_what_to_use(runtime):
    async def main():
        runtime.execute(naps(0))

    with pytest.raises(ApxmError, match="execute_async"):
        asyncio.run(main())


def test_a_small_async_run_never_leaves_the_callers_loop(runtime):
    graph = Graph("quick")
    graph.const_str("x")
    assert asyncio.run(runtime.execute_async(graph)).value == "x"
    assert runtime._loop._loop is None


def test_blocking_functions_run_on_threads_and_overlap(runtime):
    barrier = threading.Barrier(4, timeout=10)
    runtime.capability_system().register("meet", CapabilityRecord("Meet.", lambda: barrier.wait() >= 0, effect="read"))
    assert runtime.execute(naps(4, "meet")).value == [True] * 4


# ---- events ----------------------------------------------------------------------------------------------------------
def test_a_trace_has_every_node_once_between_start_and_end(runtime):
    runtime.capability_system().register("one", CapabilityRecord("One.", lambda *_: 1, effect="pure"))
    graph = Graph("g")
    graph.merge(graph.inv("one"), graph.inv("one"))
    events = runtime.execute(graph, run=RunOptions(trace=True)).events()
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunEnded)
    ended = [event for event in events if isinstance(event, NodeEnded)]
    assert sorted(event.op for event in ended) == ["INV", "INV", "MERGE"]
    assert not any(isinstance(event, NodeRetried) for event in events)


def test_events_without_a_trace_name_the_option(runtime):
    graph = Graph("g")
    graph.const_str("a")
    with pytest.raises(ApxmError, match="trace=True"):
        runtime.execute(graph).events()


def test_a_handle_gives_events_while_the_run_goes_on(runtime):
    nap(runtime, seconds=0.02)
    handle = runtime.start(naps(2))
    kinds = [type(event).__name__ for event in handle.events()]
    assert kinds[0] == "RunStarted"
    assert kinds[-1] == "RunEnded"
    assert handle.result(5).value == ["woke", "woke"]


# ---- labels ----------------------------------------------------------------------------------------------------------
def test_an_output_knows_where_its_value_came_from(virtual):
    nap(virtual, effect="read", seconds=1)
    virtual.capability_system().register("pair", CapabilityRecord("Pair.", lambda *xs: list(xs), effect="pure"))
    graph = Graph("labels")
    topic = graph.param("topic", "str")
    answer = graph.ask("About {topic}", name="answer")
    graph.inv("pair", answer, graph.inv("nap"), name="both")
    graph.inv("pair", topic, name="given")
    graph.inv("pair", name="plain")
    result = virtual.execute(graph, topic="tea")
    assert result.labels("both") == {"user", "llm:extractive", "tool:nap"}
    assert result.labels("given") == {"user"}
    assert result.labels("plain") == frozenset()


def test_labels_come_home_from_child_frames(virtual):
    nap(virtual, effect="read", seconds=1)
    graph = Graph("outer")
    with graph.map(graph.const_str([1, 2]), name="all") as item:
        item.graph.yield_(item.graph.inv("nap", item))
    assert virtual.execute(graph).labels("all") == {"tool:nap"}
