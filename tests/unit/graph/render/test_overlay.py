from __future__ import annotations

from apxm.graph.model import Edge, Graph, Node
from apxm.graph.render.overlay import overlay, summary
from apxm.observability.events import NodeRetried
from tests.unit.graph.render.programs import MAIN, called, diamond, fired, opened, print_node, run_of, skipped, tried


def test_every_node_has_its_firings_time_and_usage() -> None:
    events = [
        *fired((), 1, 0.0, 0.1),
        *fired((), 2, 0.1, 0.9, "failed", error="no such file"),
        *called((), 2, 0.5, llm_calls=1, input_tokens=10),
        *called((), 2, 0.6, llm_calls=1, input_tokens=5),
        *skipped((), 3, 0.1),
    ]
    marks = overlay(run_of(events), {MAIN: diamond()}).marks[MAIN]
    assert (marks[(1,)].outcome, marks[(2,)].outcome, marks[(3,)].outcome) == ("done", "failed", "skipped")
    assert round(marks[(2,)].total_ms) == 800
    assert marks[(2,)].error == "no such file"
    assert marks[(2,)].usage == {"llm_calls": 2, "input_tokens": 15}
    assert (marks[(2,)].heat, round(marks[(1,)].heat, 3)) == (1.0, 0.125)
    assert (4,) not in marks


def test_the_worst_outcome_of_several_firings_is_shown_and_all_are_counted() -> None:
    body = {"body": Graph("b", [print_node(1, "inner")])}
    graph = Graph("main", [Node(7, "map", "MAP", {}, body)])
    frames = [((7, step),) for step in range(3)]
    events = [*fired((), 7, 0.0, 1.0), *(event for frame in frames for event in opened(frame, 0.01))]
    for step, frame in enumerate(frames):
        events += fired(frame, 1, 0.1 * step, 0.1 * step + 0.1, "failed" if step == 1 else "done")
    mark = overlay(run_of(events), {MAIN: graph}).marks[MAIN][7, "body", 1]
    assert mark.outcome == "failed"
    assert mark.count == {"done": 2, "failed": 1}
    assert mark.note == "3 ×, 300 ms, 1 failed"


def test_nodes_of_one_id_in_two_regions_of_a_node_are_told_apart() -> None:
    events = [
        *fired((), 1, 0.0, 1.0),
        *fired(((1, "try"),), 1, 0.1, 0.2, "failed"),
        *fired(((1, "catch"),), 1, 0.3, 0.7),
    ]
    marks = overlay(run_of(events), {MAIN: tried()}).marks[MAIN]
    assert marks[1, "try", 1].count == {"failed": 1}
    assert marks[1, "catch", 1].count == {"done": 1}
    assert round(marks[1, "catch", 1].total_ms) == 400


def test_a_flow_that_is_called_from_two_places_gathers_both_calls() -> None:
    calls = Graph("main", [Node(1, "a", "FLOW_CALL", {"flow_name": "sub"}), Node(2, "b", "FLOW_CALL", {"flow_name": "sub"})])
    flows = {MAIN: calls, ("default", "sub"): Graph("sub", [print_node(5, "work")])}
    events = [event for id in (1, 2) for event in fired(((id, "default.sub"),), 5, 0.1 * id, 0.1 * id + 0.05)]
    found = overlay(run_of(events), flows)
    assert found.marks["default", "sub"][(5,)].count == {"done": 2}
    assert found.homeless == 0


def test_what_happened_at_no_node_of_the_program_is_counted() -> None:
    found = overlay(run_of([*fired((), 1, 0.0, 0.1), *fired((), 77, 0.1, 0.2)]), {MAIN: diamond()})
    assert found.homeless == 1


def test_a_run_of_another_flow_leaves_no_marks() -> None:
    found = overlay(run_of(fired((), 1, 0.0, 0.1), flow="default.other"), {MAIN: diamond()})
    assert found.marks == {MAIN: {}}
    assert found.homeless == 1


def test_the_critical_path_marks_its_nodes_and_the_edges_between_them() -> None:
    events = [*fired((), 1, 0.0, 0.1), *fired((), 2, 0.1, 0.9), *fired((), 3, 0.1, 0.2), *fired((), 4, 0.9, 1.0)]
    found = overlay(run_of(events), {MAIN: diamond()})
    assert [key for key, mark in found.marks[MAIN].items() if mark.critical] == [(1,), (2,), (4,)]
    assert found.pairs_of(MAIN) == {((1,), (2,)), ((2,), (4,))}


def test_a_node_around_the_critical_path_is_on_it_and_its_edge_too() -> None:
    events = [
        *fired((), 1, 0.0, 0.5),
        *fired(((1, "try"),), 1, 0.0, 0.2),
        *fired(((1, "try"),), 2, 0.2, 0.5),
        *fired((), 2, 0.5, 1.0),
    ]
    found = overlay(run_of(events), {MAIN: tried()})
    assert found.marks[MAIN][(1,)].critical
    assert found.pairs_of(MAIN) == {((1, "try", 1), (1, "try", 2)), ((1,), (2,))}


def test_the_summary_names_outcome_time_and_cost() -> None:
    events = [*fired((), 1, 0.0, 0.1), *called((), 1, 0.05, llm_calls=2, input_tokens=1000, output_tokens=7, cost_usd=0.25)]
    said = {name: text for name, text, _ in summary(overlay(run_of(events, "budget", seconds=2.5), {MAIN: diamond()}))}
    assert said["outcome"] == "budget"
    assert said["duration"] == "2.50 s"
    assert said["tokens"] == "1,000 in, 7 out"
    assert said["cost"] == "$0.2500"
    assert said["firings"] == "1"


def test_an_overlay_of_a_graph_with_an_edge_from_nowhere_is_made() -> None:
    graph = Graph("main", [print_node(1, "a")], [Edge(9, 1)])
    assert overlay(run_of(fired((), 1, 0.0, 0.1)), {MAIN: graph}).marks[MAIN][(1,)].critical


def test_nodes_of_one_id_in_two_regions_have_their_skips_usage_retries_and_errors() -> None:
    events = [
        *fired((), 1, 0.0, 1.0),
        *fired(((1, "try"),), 1, 0.1, 0.2, "failed", error="no paper"),
        NodeRetried(((1, "catch"),), 1, 1, 0.1, "busy", at=0.35),
        *called(((1, "catch"),), 1, 0.4, llm_calls=1),
        *fired(((1, "catch"),), 1, 0.3, 0.7),
        *skipped(((1, "try"),), 2, 0.2),
    ]
    marks = overlay(run_of(events), {MAIN: tried()}).marks[MAIN]
    assert (marks[1, "try", 1].error, marks[1, "try", 1].usage, marks[1, "try", 1].retries) == ("no paper", {}, 0)
    assert (marks[1, "catch", 1].error, marks[1, "catch", 1].usage) == ("busy", {"llm_calls": 1})
    assert marks[1, "catch", 1].retries == 1
    assert marks[1, "try", 2].count == {"skipped": 1}


def test_a_firing_that_used_its_fallback_is_done_and_says_so() -> None:
    mark = overlay(run_of(fired((), 1, 0.0, 0.5, error="no paper")), {MAIN: diamond()}).marks[MAIN][(1,)]
    assert (mark.outcome, mark.count, mark.error) == ("done", {"done": 1}, "no paper")
    assert mark.note == "500 ms, fallback used"
