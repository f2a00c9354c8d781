"""Subscribers to all runs of a runtime: what they are given, and that no run waits for them."""

from __future__ import annotations

import threading

import pytest

from apxm import CapabilityRecord, InvalidError, RunOptions, Runtime, ScriptedModel, flow, step
from apxm.observability.events import Called, Gap, NodeEnded, Printed, RunEnded, RunStarted
from apxm.observability.subscription import Subscription


@flow
def asks(text: str):
    return step.inv("shout", text=step.ask(f"Say {text}", name="say"), name="shout")


@pytest.fixture
def runtime():
    with Runtime(model=ScriptedModel(default="hello")) as made:
        made.capability_system().register("shout", CapabilityRecord("Louder.", lambda text: text.upper(), effect="read"))
        yield made


def test_a_subscriber_sees_every_run_whole_and_in_order(runtime):
    seen = {}
    with runtime.subscribe(lambda run, event: seen.setdefault(run, []).append(event)):
        runs = [runtime.execute(asks, text=f"{number}").run_id for number in range(3)]
    assert list(seen) == runs
    for events in seen.values():
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert (type(events[0]), type(events[-1])) == (RunStarted, RunEnded)
        assert [event.at for event in events] == sorted(event.at for event in events)
        assert events[-1].stats["executed"] == 3  # RETURN is a node too


def test_without_nodes_only_the_run_and_its_calls_are_told(runtime):
    seen = []
    with runtime.subscribe(lambda run, event: seen.append(event), nodes=False):
        runtime.execute(asks, text="x")
    assert [type(event) for event in seen] == [RunStarted, Called, Called, RunEnded]
    assert [(event.kind, event.target) for event in seen[1:3]] == [("model", "scripted"), ("capability", "shout")]
    assert seen[1].content is None


def test_content_is_there_when_it_was_asked_for(runtime):
    seen = []
    with runtime.subscribe(lambda run, event: seen.append(event), nodes=False, content=True):
        runtime.execute(asks, text="x")
    model, tool = (event.content for event in seen if isinstance(event, Called))
    assert model["prompt"].endswith("user: Say x")
    assert model["reply"] == "hello"
    assert tool == {"arguments": '["hello"]', "result": "HELLO"}


def test_a_run_that_fails_says_how_it_ended(runtime):
    seen = []
    with runtime.subscribe(lambda run, event: seen.append(event)), pytest.raises(InvalidError):
        runtime.execute(asks, text="x", run=RunOptions(run_id="r"), more=1)
    assert seen == []  # refused before it was a run
    runtime.capability_system().unregister("shout")
    runtime.capability_system().register("shout", CapabilityRecord("Fails.", lambda text: 1 / 0, effect="read"))
    with runtime.subscribe(lambda run, event: seen.append(event)), pytest.raises(Exception, match="division"):
        runtime.execute(asks, text="x")
    assert seen[-1].outcome == "fatal"
    assert "division" in seen[-1].error
    assert [event.outcome for event in seen if isinstance(event, NodeEnded)] == ["done", "failed", "cancelled"]


def test_a_slow_subscriber_loses_events_and_learns_which():
    given, free = [], threading.Event()

    def slow(run, event):
        free.wait(5)
        given.append((run, event))

    with Subscription(slow, bound=10) as subscription:
        for seq in range(1, 101):
            subscription.put("a", Printed((), 1, "x", seq=seq))
            subscription.put("b", Printed((), 1, "x", seq=seq))
        free.set()
        assert subscription.flush()
    for run in "ab":
        events = [event for name, event in given if name == run]
        lost = sum(event.last - event.first + 1 for event in events if isinstance(event, Gap))
        assert lost
        assert lost + sum(not isinstance(event, Gap) for event in events) == 100
        assert [event.seq for event in events] == sorted(event.seq for event in events)


def test_a_subscriber_that_raises_is_dropped_and_no_run_suffers(runtime):
    def breaks(run, event):
        raise ValueError("mine")

    subscription = runtime.subscribe(breaks)
    assert runtime.execute(asks, text="x").value == "HELLO"
    assert subscription.flush()
    assert isinstance(subscription.error, ValueError)
    assert runtime.execute(asks, text="x").value == "HELLO"
    assert runtime._subscriptions == ()


def test_closing_the_runtime_delivers_what_is_left():
    seen = []
    with Runtime(model=ScriptedModel(default="x")) as runtime:
        runtime.subscribe(lambda run, event: seen.append(type(event)))
        runtime.execute(flow(lambda: step.ask("x", name="a"), name="f"))
    assert seen[-1] is RunEnded


def test_events_go_on_behind_a_number(runtime):
    handle = runtime.start(asks, text="x")
    everything = list(handle.events())
    assert [event.seq for event in everything] == list(range(1, len(everything) + 1))
    assert list(handle.events(after=3)) == everything[3:]
    assert list(handle.events()) == everything


def test_a_failure_that_a_fallback_makes_good_ends_its_node_once(runtime):
    runtime.capability_system().register("fail", CapabilityRecord("Fails.", lambda: 1 / 0, effect="read"))
    program = flow(lambda: step.inv("fail", name="breaks", fallback="none"), name="f")
    result = runtime.execute(program, run=RunOptions(trace=True))
    (ended,) = (event for event in result.events() if isinstance(event, NodeEnded) and event.name == "breaks")
    assert (ended.outcome, ended.code) == ("done", "capability")
    assert "division" in ended.error
    assert result.value == "none"
    assert result.stats.failed == 1
