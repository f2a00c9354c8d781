"""Each of these failed once: through the public API."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

from apxm import CapabilityRecord, Graph, Program, RunOptions, Runtime, RuntimeConfig, SchedulerConfig
from apxm.errors import ApxmError, DeadlineError, InvalidError, RunCancelled
from apxm.graph.model import AgentGraph
from apxm.testing.clock import VirtualClock


def register(runtime, name, fn, effect="read"):
    runtime.capability_system().register(name, CapabilityRecord("For a test.", fn, effect=effect))


async def short(*values):
    await asyncio.sleep(0.001)
    return values[0] if values else "woke"


@pytest.fixture
def runtime():
    with Runtime() as runtime:
        register(runtime, "nap", short)
        yield runtime


def test_a_pure_function_that_exits_fails_its_run_and_the_runtime_goes_on(runtime):
    def leave(*_):
        raise SystemExit(3)

    register(runtime, "leave", leave, "pure")
    graph = Graph("g")
    graph.inv("leave", graph.inv("nap"))
    with pytest.raises(ApxmError, match="SystemExit"):
        runtime.start(graph).result(5)
    fine = Graph("fine")
    fine.inv("nap")
    assert runtime.execute(fine).value == "woke"


def test_a_run_that_crashed_is_dropped(runtime):
    def leave(*_):
        raise SystemExit(3)

    register(runtime, "leave", leave, "pure")
    graph = Graph("g")
    graph.inv("leave", graph.inv("nap"))
    with pytest.raises(ApxmError):
        runtime.start(graph).result(5)
    assert not runtime._live


def test_an_interrupted_run_says_that_it_was_interrupted_whatever_it_does():
    gate = threading.Event()

    def hold(*_):
        os.kill(os.getpid(), signal.SIGINT)
        return gate.wait(10)

    with Runtime(RuntimeConfig(scheduler_config=SchedulerConfig(grace_ms=0))) as runtime:
        register(runtime, "nap", short)
        register(runtime, "hold", hold, "pure")
        graph = Graph("g")
        graph.inv("hold", graph.inv("nap"))
        with pytest.raises(KeyboardInterrupt):
            runtime.execute(graph)
        gate.set()


def test_a_run_that_needs_the_loop_after_the_runtime_was_closed_is_cancelled_and_starts_no_thread():
    gate, inside, ended = threading.Event(), threading.Event(), []

    def hold(*_):
        inside.set()
        return gate.wait(10)

    runtime = Runtime()
    register(runtime, "nap", short)
    register(runtime, "hold", hold, "pure")
    graph = Graph("g")
    graph.inv("nap", graph.inv("hold"))

    def work():
        try:
            runtime.execute(graph)
        except ApxmError as error:
            ended.append(error)

    before = set(threading.enumerate())
    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(10)
    runtime.close()
    gate.set()
    thread.join(10)
    assert [type(error) for error in ended] == [RunCancelled]
    assert not [each for each in threading.enumerate() if each not in before]


def test_closing_a_runtime_gives_handlers_the_whole_grace_and_gives_up_the_deaf():
    inside, released = threading.Event(), threading.Event()

    async def deaf():
        inside.set()
        while not released.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    runtime = Runtime(RuntimeConfig(scheduler_config=SchedulerConfig(grace_ms=1_500)))
    register(runtime, "deaf", deaf)
    graph = Graph("g")
    graph.inv("deaf", name="tool")
    handle = runtime.start(graph)
    inside.wait(10)
    runtime.close()
    with pytest.raises(RunCancelled) as caught:
        handle.result(5)
    assert caught.value.result.stats.abandoned == ("tool",)
    released.set()


def test_close_called_by_what_the_runtime_runs_is_refused_and_harms_nothing(runtime):
    said = []

    def close(*_):
        try:
            runtime.close()
        except InvalidError as error:
            said.append(str(error))

    register(runtime, "close", close, "pure")
    graph = Graph("g")
    graph.inv("nap", graph.inv("close", graph.inv("nap")))
    runtime.start(graph).result(5)
    assert len(said) == 1


def test_the_value_of_a_return_in_a_region_is_checked_too(runtime):
    register(runtime, "big", lambda *_: 2**70, "pure")
    graph = Graph("g")
    case = graph.switch(graph.param("which"))
    with case.case("a"):
        graph.return_(graph.inv("big"))
    graph.inv("nap", case)
    with pytest.raises(ApxmError, match="64"):
        runtime.execute(graph, which="a")


@pytest.mark.parametrize("depth", ["flow", "region"])
def test_a_return_has_the_labels_of_its_value(runtime, depth):
    def fill(graph):
        if depth == "flow":
            graph.return_(graph.inv("nap"), name="give")
            graph.const_str("beside")
        else:
            case = graph.switch(graph.const_str("a"))
            with case.case("a"):
                graph.return_(graph.inv("nap"), name="give")
            graph.const_str("after", after=[case])

    alone, inner, outer = (
        Graph("alone"),
        Graph("inner", metadata={"is_entry": False}),
        Graph("outer", metadata={"is_entry": True}),
    )
    fill(alone)
    fill(inner)
    outer.flow_call("inner", name="call")
    assert runtime.execute(alone).labels("give") == {"tool:nap"}
    assert runtime.execute(Program([AgentGraph("default", [outer, inner])])).labels("call") == {"tool:nap"}


def test_a_return_of_what_a_region_was_given_has_its_labels(runtime):
    graph = Graph("g")
    case = graph.switch(graph.inv("nap"))
    with case.default() as value:
        graph.return_(value, name="give")
    graph.const_str("after", after=[case])
    assert runtime.execute(graph).labels("give") == {"tool:nap"}


def test_a_runtime_keeps_a_bounded_number_of_grants(runtime):
    graph = Graph("g")
    graph.const_str("x")
    for number in range(300):
        runtime.execute(graph, run=RunOptions(grants=[f"read=/tmp/{number}"]))
    assert len(runtime._grants) <= 256


@pytest.mark.parametrize("trace", [True, False])
def test_what_is_made_of_a_structured_result_is_made_of_its_copy(runtime, trace):
    mine = [1]
    register(runtime, "mine", lambda *_: mine, "pure")
    register(runtime, "pair", lambda *_: (1, 2), "pure")
    graph = Graph("g")
    graph.merge(graph.merge(graph.const_str("x"), graph.inv("mine")), name="nested")
    graph.merge(graph.inv("pair"), name="pairs")
    outputs = runtime.execute(graph, run=RunOptions(trace=trace)).outputs
    mine.append(2)
    assert outputs == {"nested": [["x", [1]]], "pairs": [[1, 2]]}


@pytest.mark.parametrize("trace", [True, False])
def test_a_node_meets_the_value_that_a_token_carries_and_never_the_raw_one(runtime, trace):
    kept = [1]
    register(runtime, "tuple", lambda *_: (1, 2), "pure")
    register(runtime, "kept", lambda *_: kept, "pure")
    register(runtime, "kind", lambda value: type(value).__name__, "pure")
    register(runtime, "is_kept", lambda value: value is kept, "pure")
    graph = Graph("g")
    graph.inv("kind", graph.inv("tuple"), name="kind")
    graph.inv("is_kept", graph.inv("kept"), name="same")
    for _ in range(2):
        outputs = runtime.execute(graph, run=RunOptions(trace=trace)).outputs
        assert outputs == {"kind": "list", "same": False}


def test_a_deadline_does_not_wait_for_a_hundred_slow_pure_nodes():
    clock = VirtualClock()
    calls = []

    def slow(*_):
        calls.append(1)
        clock.advance(1)

    with Runtime(clock=clock, loop_factory=clock.new_event_loop) as runtime:
        register(runtime, "slow", slow, "pure")
        graph = Graph("g")
        last = graph.inv("slow")
        for _ in range(99):
            last = graph.inv("slow", last)
        with pytest.raises(DeadlineError):
            runtime.execute(graph, run=RunOptions(deadline_s=3))
    assert len(calls) <= 8


def test_a_timeout_on_a_node_that_cannot_wait_is_refused(runtime):
    graph = Graph("g")
    graph.guard(graph.const_str("x"), condition="not_empty", timeout_ms=5)
    with pytest.raises(ApxmError, match="cannot wait"):
        runtime.execute(graph)
