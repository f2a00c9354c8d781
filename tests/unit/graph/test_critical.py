"""The critical path of a run explains its time to the second. Real runs on a virtual clock, so that times are exact."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from apxm import Graph, RunOptions, Runtime, RuntimeConfig, SchedulerConfig, compile
from apxm.artifact.lift import lift
from apxm.errors import ApxmError
from apxm.graph.critical import critical_path
from apxm.graph.model import AgentGraph, Program
from apxm.observability.events import NodeEnded, NodeStarted
from apxm.observability.history import History
from apxm.testing.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apxm.observability.events import Event


async def nap(s: float) -> float:
    await asyncio.sleep(s)
    return s


async def fall(s: float) -> float:
    await asyncio.sleep(s)
    raise ValueError("fell")


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    clock = VirtualClock()
    with Runtime(clock=clock, loop_factory=clock.new_event_loop) as made:
        made.capability("nap", effect="read")(nap)
        made.capability("fall", effect="guarded")(fall)
        yield made


def events_of(runtime: Runtime, graph: Graph | Program) -> list[Event]:
    try:
        return runtime.execute(graph, run=RunOptions(trace=True)).events()
    except ApxmError as error:
        return list(error.result.events())


def path(graph: Graph | Program, events: list[Event]) -> list[tuple[str, float]]:
    """The firings of the path that took time: (name, seconds). Its sums are checked: it explains every second."""
    steps = critical_path(History.of(events), lift(compile(graph)))
    total = sum(step.waited + step.span.duration_ms / 1e3 for step in steps)
    assert total == pytest.approx(steps[-1].span.end_at)
    assert all(step.waited >= 0 for step in steps)
    assert sum(step.waited for step in steps) == pytest.approx(0)  # nothing in these programs waits for a worker
    return [(step.span.name, round(step.span.duration_ms / 1e3, 6)) for step in steps if step.span.duration_ms]


def test_of_two_branches_the_slow_one_is_the_path(runtime: Runtime) -> None:
    graph = Graph("g")
    slow = graph.inv("nap", s=2.0, name="slow")
    quick = graph.inv("nap", s=1.0, name="quick")
    graph.inv("nap", s=3.0, name="last", after=[slow, quick])
    assert path(graph, events_of(runtime, graph)) == [("slow", 2), ("last", 3)]


@pytest.mark.parametrize("kind", ["after", "order_after"])
def test_control_and_effect_edges_count_like_data_edges(runtime: Runtime, kind: str) -> None:
    graph = Graph("g")
    slow = graph.inv("nap", s=2.0, name="slow")
    graph.inv("nap", graph.const_str(0.5, name="half"), name="last", **{kind: [slow]})
    assert path(graph, events_of(runtime, graph)) == [("slow", 2), ("last", 0.5)]


def test_a_map_shows_the_items_that_held_it_up(runtime: Runtime) -> None:
    graph = Graph("g")
    each = graph.map(graph.const_str([1, 2, 3, 1], name="items"), window=2, name="each")
    with each as item:
        graph.inv("nap", s=item, name="nap")
    graph.inv("nap", s=0.5, name="last", after=each)
    # 1 and 2 begin at once; 3 takes the place of 1, the last 1 that of 2 and is over earlier
    assert path(graph, events_of(runtime, graph)) == [("nap", 1), ("nap", 3), ("last", 0.5)]


def test_iterations_of_a_loop_follow_each_other(runtime: Runtime) -> None:
    graph = Graph("g")
    loop = graph.loop(max_iterations=3, name="loop")
    with loop as body:
        body.inv("nap", s=loop.iteration, name="nap")
    graph.inv("nap", s=4.0, name="last", after=loop)
    assert path(graph, events_of(runtime, graph)) == [("nap", 1), ("nap", 2), ("last", 4)]


def test_try_then_catch_then_finally_are_one_after_the_other(runtime: Runtime) -> None:
    graph = Graph("g")
    attempt = graph.try_(name="attempt")
    with attempt.try_:
        graph.inv("fall", s=1.0, name="fall")
        graph.inv("nap", s=9.0, name="other")
    with attempt.catch:
        graph.inv("nap", s=2.0, name="mend")
    with attempt.finally_:
        graph.inv("nap", s=3.0, name="close")
    assert path(graph, events_of(runtime, graph)) == [("fall", 1), ("mend", 2), ("close", 3)]


def test_reduce_waits_for_the_last_item(runtime: Runtime) -> None:
    graph = Graph("g")
    each = graph.map(graph.const_str([2, 1], name="items"), name="each")
    with each as item:
        graph.inv("nap", s=item, name="nap")
    with each.reduce:
        graph.inv("nap", s=0.5, name="join")
    assert path(graph, events_of(runtime, graph)) == [("nap", 2), ("join", 0.5)]


def test_a_called_flow_is_followed_into_and_out_of(runtime: Runtime) -> None:
    inner = Graph("inner")
    first = inner.inv("nap", s=1.0, name="first")
    inner.inv("nap", s=2.0, name="second", after=first)
    outer = Graph("outer")
    before = outer.inv("nap", s=0.5, name="before")
    call = outer.flow_call("inner", name="call", after=before)
    outer.inv("nap", s=0.25, name="behind", after=call)
    inner.metadata["is_entry"] = False
    program = Program([AgentGraph("me", [outer, inner])], "p")
    found = path(program, events_of(runtime, program))
    assert found == [("before", 0.5), ("first", 1), ("second", 2), ("behind", 0.25)]


def test_what_a_skipped_node_waited_for_counts(runtime: Runtime) -> None:
    graph = Graph("g")
    slow = graph.inv("nap", s=3.0, name="slow")
    side = graph.branch_on_value(slow, value=99, name="side")
    never = graph.inv("nap", s=1.0, name="never", on=(side, "true"))
    other = graph.inv("nap", s=1.0, name="other")
    graph.wait_all(never, other, name="all")
    assert path(graph, events_of(runtime, graph)) == [("slow", 3)]


def test_an_any_merge_waited_only_for_its_winner(runtime: Runtime) -> None:
    graph = Graph("g")
    slow = graph.inv("nap", s=3.0, name="slow")
    quick = graph.inv("nap", s=1.0, name="quick")
    first = graph.merge(slow, quick, mode="any", name="first")
    graph.inv("nap", s=5.0, name="last", after=first)
    assert path(graph, events_of(runtime, graph)) == [("quick", 1), ("last", 5)]


def test_of_two_that_end_at_the_same_moment_the_winner_is_on_the_path(runtime: Runtime) -> None:
    graph = Graph("g")
    inputs = [graph.inv("nap", s=1.0, name=f"n{number}") for number in range(4)]
    graph.inv("nap", s=1.0, name="last", after=graph.merge(*inputs, mode="any", name="first"))
    events = events_of(runtime, graph)
    winner = next(event.winner for event in events if isinstance(event, NodeEnded) and event.name == "first")
    assert path(graph, events) == [(f"n{winner}", 1), ("last", 1)]


def test_the_path_of_a_run_that_failed_leads_to_the_failure(runtime: Runtime) -> None:
    graph = Graph("g")
    before = graph.inv("nap", s=1.0, name="before")
    graph.inv("fall", s=1.0, name="fall", after=before)
    graph.inv("nap", s=9.0, name="other")
    assert path(graph, events_of(runtime, graph)) == [("before", 1), ("fall", 1)]


def test_the_path_of_a_run_that_was_killed_leads_to_what_it_was_doing(runtime: Runtime) -> None:
    graph = Graph("g")
    first = graph.inv("nap", s=1.0, name="first")
    second = graph.inv("nap", s=2.0, name="second", after=first)
    graph.inv("nap", s=3.0, name="third", after=second)
    events = events_of(runtime, graph)
    cut = next(n for n, event in enumerate(events) if isinstance(event, NodeStarted) and event.name == "third")
    steps = critical_path(History.of(events[: cut + 1]), lift(compile(graph)))
    assert [(step.span.name, step.span.outcome) for step in steps] == [
        ("first", "done"),
        ("second", "done"),
        ("third", "unfinished"),
    ]


def test_without_the_graphs_the_path_is_the_last_firing_and_without_events_it_is_empty(runtime: Runtime) -> None:
    graph = Graph("g")
    graph.inv("nap", s=1.0, name="only")
    steps = critical_path(History.of(events_of(runtime, graph)), {})
    assert [step.span.name for step in steps] == ["only"]
    assert critical_path(History.of([]), {}) == []


def test_the_wait_for_a_worker_is_part_of_the_path() -> None:
    graph = Graph("g")
    first = graph.inv("nap", s=1.0, name="first")
    graph.inv("nap", s=2.0, name="second", order_after=first)
    graph.inv("nap", s=4.0, name="hog")
    clock = VirtualClock()
    config = RuntimeConfig(scheduler_config=SchedulerConfig(max_parallelism=1))
    with Runtime(config, clock=clock, loop_factory=clock.new_event_loop) as alone:
        alone.capability("nap", effect="read")(nap)
        steps = critical_path(History.of(events_of(alone, graph)), lift(compile(graph)))
    assert sum(step.waited + step.span.duration_ms / 1e3 for step in steps) == pytest.approx(7)
    assert sum(step.waited for step in steps) > 0
