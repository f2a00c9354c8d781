"""A run is read back from its events as it happened; a run that was killed, too. Times are those of a virtual clock."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from apxm import Graph, RunOptions, Runtime
from apxm.errors import ApxmError
from apxm.observability import history as module
from apxm.observability.events import Called, Event, Gap, NodeEnded, NodeStarted, RunEnded, RunStarted
from apxm.observability.history import History, path_of, place_of
from apxm.testing.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Iterator


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


def events_of(runtime: Runtime, graph: Graph) -> list[Event]:
    try:
        return runtime.execute(graph, run=RunOptions(trace=True)).events()
    except ApxmError as error:
        return list(error.result.events())


def napping(*seconds: float) -> Graph:
    """One nap after the other."""
    graph = Graph("naps")
    before = None
    for number, length in enumerate(seconds):
        before = graph.inv("nap", s=length, name=f"nap{number}", after=[before] if before is not None else [])
    return graph


# ---- places and spans ------------------------------------------------------------------------------------------------
def test_a_place_has_its_firings_and_their_times(runtime: Runtime) -> None:
    graph = Graph("g")
    with graph.map(graph.const_str([1, 2, 3], name="items"), window=1, name="each") as item:
        graph.yield_(graph.inv("nap", s=item, name="nap"), name="out")
    history = History.of(iter(events_of(runtime, graph)))
    assert (history.flow, history.outcome, history.duration_ms) == ("default.g", "done", 6000)
    facts = history.places[2, 3]
    assert (facts.name, facts.op, facts.count, facts.calls) == ("nap", "INV", {"done": 3}, 3)
    assert (facts.total_ms, facts.max_ms, facts.mean_ms) == (6000, 3000, 2000)
    assert (facts.first_at, facts.last_at) == (0, 6)
    assert history.stats["executed"] == 8
    assert [(s.start_at, s.end_at, s.outcome) for s in history.spans if s.place == (2, 3)] == [
        (0, 1, "done"),
        (1, 3, "done"),
        (3, 6, "done"),
    ]


def test_a_skipped_node_is_counted_and_has_no_span(runtime: Runtime) -> None:
    graph = Graph("g")
    found = graph.branch_on_value(graph.const_str(1, name="one"), value=1, name="found")
    graph.print("yes", on=(found, "true"), name="yes")
    graph.print("no", on=(found, "false"), name="no")
    history = History.of(events_of(runtime, graph))
    facts = next(one for one in history.places.values() if one.name == "no")
    assert (facts.count, facts.fired, facts.mean_ms) == ({"skipped": 1}, 0, 0)
    assert "no" not in [span.name for span in history.spans]


def test_a_failure_leaves_its_error_at_its_place(runtime: Runtime) -> None:
    graph = Graph("g")
    graph.inv("fall", s=1.0, name="fall")
    graph.inv("nap", s=9.0, name="nap")
    history = History.of(events_of(runtime, graph))
    assert history.outcome == "fatal"
    assert "fell" in (history.error or "")
    facts = {one.name: one for one in history.places.values()}
    assert "fell" in (facts["fall"].error or "")
    assert facts["nap"].count == {"cancelled": 1}
    assert facts["nap"].total_ms == 1000  # it had begun


def test_a_firing_that_gave_its_fallback_is_one_firing_that_is_done_and_says_why(runtime: Runtime) -> None:
    graph = Graph("g")
    graph.inv("fall", s=2.0, fallback=0, name="fall")
    history = History.of(events_of(runtime, graph))
    (facts,) = history.places.values()
    assert (facts.count, facts.fired, facts.fallbacks, facts.mean_ms) == ({"done": 1}, 1, 1, 2000)
    assert "fell" in (facts.error or "")
    (span,) = history.spans
    assert (span.outcome, span.fell_back, span.start_at, span.end_at) == ("done", True, 0, 2)


def test_nodes_of_sibling_regions_with_the_same_id_have_places_of_their_own(runtime: Runtime) -> None:
    graph = Graph("g")
    attempt = graph.try_(name="attempt")
    with attempt.try_:
        graph.inv("fall", s=1.0, name="first")
    with attempt.catch:
        graph.inv("nap", s=2.0, name="mend")
    history = History.of(events_of(runtime, graph))
    (first,) = (one for one in history.places.values() if one.name == "first")
    (mend,) = (one for one in history.places.values() if one.name == "mend")
    assert [one for one in first.place if isinstance(one, str)] == ["try"]
    assert [one for one in mend.place if isinstance(one, str)] == ["catch"]
    assert (first.count, mend.count, mend.total_ms) == ({"failed": 1}, {"done": 1}, 2000)


def test_a_place_forgets_items_and_iterations_and_keeps_cases_and_flows() -> None:
    path = ((3, 7), (1, "a"), (4, "me.other"), (2, 0))
    place = place_of(path, 9)
    assert place == (3, 1, "a", 4, "me.other", 2, 9)
    assert place_of(path_of(place), 9) == place
    assert path_of((5,)) == ()


def test_usage_of_calls_is_summed_per_place() -> None:
    used = {"llm_calls": 1, "input_tokens": 10, "cost_usd": 0.5}
    events = [Called((), 7, "model", "m", 1.0, True, usage=used) for _ in range(3)]
    facts = History.of(events).places[7,]
    assert facts.usage == {"llm_calls": 3, "input_tokens": 30, "cost_usd": 1.5}


def test_a_run_that_was_killed_is_unfinished_and_so_is_what_it_was_doing(runtime: Runtime) -> None:
    events = events_of(runtime, napping(1, 2, 3))
    cut = next(n for n, event in enumerate(events) if isinstance(event, NodeStarted) and event.name == "nap2")
    history = History.of(events[: cut + 1])
    assert (history.outcome, history.duration_ms) == ("unfinished", 3000)
    assert [(span.name, span.outcome) for span in history.spans] == [
        ("nap0", "done"),
        ("nap1", "done"),
        ("nap2", "unfinished"),
    ]


def test_a_firing_whose_start_was_lost_begins_where_its_duration_says() -> None:
    events = [Gap(1, 4), NodeEnded((), 3, "n", "INV", "done", 1500.0)]
    for event in events:
        event.stamp(4, 2.0)
    history = History.of(events)
    assert [(span.start_at, span.end_at) for span in history.spans] == [(0.5, 2.0)]
    assert [(gap.first, gap.last) for gap in history.gaps] == [(1, 4)]


def test_no_events_at_all_are_a_run_that_nobody_saw() -> None:
    history = History.of([])
    assert (history.outcome, history.spans, history.places) == ("unfinished", [], {})


def test_what_is_past_the_bounds_is_counted_not_kept(monkeypatch: pytest.MonkeyPatch, runtime: Runtime) -> None:
    monkeypatch.setattr(module, "SPANS_MAX", 2)
    monkeypatch.setattr(module, "PLACES_MAX", 1)
    history = History.of(events_of(runtime, napping(1, 1, 1, 1)))
    assert (len(history.spans), history.spans_left_out) == (2, 2)
    assert (len(history.places), history.places_left_out) == (1, 3)


def test_metadata_and_error_come_from_the_first_and_the_last_event() -> None:
    first = RunStarted("r1", "a.f", 1, 12.5, {"file": "x.json"})
    history = History.of([first, RunEnded("r1", "deadline", 7.0, "too late", {"executed": 1})])
    assert (history.run_id, history.began, history.metadata) == ("r1", 12.5, {"file": "x.json"})
    assert (history.outcome, history.error, history.duration_ms, history.stats) == ("deadline", "too late", 7.0, {"executed": 1})
