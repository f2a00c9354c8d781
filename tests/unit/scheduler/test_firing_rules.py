from __future__ import annotations

import pytest

from apxm.errors import ApxmError, InvalidError, RaisedError
from apxm.outcome import Child, Route, Spawn
from apxm.scheduler.binding import SYNC
from tests.unit.scheduler.dags import N, Steps, binding_of, control, effect, on


def route(label):
    return lambda context, *values: Route(label, values[0] if values else label)


def boom(*_):
    raise RaisedError("boom")


def one(*_):
    return 1


def test_a_node_fires_once_all_its_inputs_arrived():
    run = Steps(binding_of([N("a", one), N("b", lambda: 2), N("c", lambda x, y: x + y, ("a", "b"))])).run()
    assert run.value == 3
    assert sorted(run.fired) == ["a", "b", "c"]


def test_a_dead_data_token_skips_an_all_node_and_what_follows():
    nodes = [N("r", route("true"), kind=SYNC), N("no", one, (on("r", "false"),)), N("after", one, ("no",))]
    run = Steps(binding_of(nodes)).run()
    assert run.status == {"r": "done", "no": "skipped", "after": "skipped"}
    assert run.fired == ["r"]
    assert run.skipped == 2


def test_collect_leaves_dead_inputs_out():
    nodes = [
        N("r", route("true"), kind=SYNC),
        N("yes", lambda x: "yes", (on("r", "true"),)),
        N("no", lambda x: "no", (on("r", "false"),)),
        N("all", lambda *xs: list(xs), ("yes", "no"), op="WAIT_ALL"),
    ]
    assert Steps(binding_of(nodes)).run().value == ["yes"]


def test_collect_is_skipped_when_every_input_is_dead():
    nodes = [
        N("r", route("x"), kind=SYNC),
        N("a", one, (on("r", "1"),)),
        N("b", one, (on("r", "2"),)),
        N("all", lambda *xs: list(xs), ("a", "b"), op="WAIT_ALL"),
    ]
    assert Steps(binding_of(nodes)).run().status["all"] == "skipped"


def test_any_fires_with_the_first_live_token_and_counts_the_others():
    nodes = [
        N("a", lambda: "a"),
        N("b", lambda: "b"),
        N("first", lambda x: x, ("a", "b"), op="MERGE", attributes={"mode": "any"}),
    ]
    run = Steps(binding_of(nodes)).run()
    assert run.value in ("a", "b")
    assert run.dropped == 1


def test_any_is_skipped_only_when_all_its_inputs_are_dead():
    nodes = [
        N("r", route("false"), kind=SYNC),
        N("a", lambda x: "a", (on("r", "true"),)),
        N("b", lambda x: "b", (on("r", "false"),)),
        N("first", lambda x: x, ("a", "b"), op="MERGE", attributes={"mode": "any"}),
    ]
    assert Steps(binding_of(nodes)).run().value == "b"
    nodes[0].fn = route("neither")
    assert Steps(binding_of(nodes)).run().status["first"] == "skipped"


def test_a_dead_control_token_skips_a_node_whatever_its_rule():
    nodes = [
        N("r", route("x"), kind=SYNC),
        N("a", one),
        N("all", lambda *xs: list(xs), ("a", control("r", "y")), op="WAIT_ALL"),
        N("first", lambda x: x, ("a", control("r", "y")), op="MERGE", attributes={"mode": "any"}),
    ]
    run = Steps(binding_of(nodes)).run()
    assert run.status["all"] == run.status["first"] == "skipped"


def test_an_effect_edge_orders_and_never_kills():
    nodes = [N("r", route("x"), kind=SYNC), N("dead", one, (on("r", "y"),)), N("after", one, (effect("dead"),))]
    run = Steps(binding_of(nodes)).run()
    assert run.status["after"] == "done"
    assert run.fired.index("after") > run.fired.index("r")


def test_race_cancels_what_leads_only_to_its_losing_edges():
    nodes = [
        N("a", lambda: "a"),
        N("b", route("never"), ("a",), kind=SYNC),
        N("c", one, ("b",)),
        N("keeps", one, ("b",)),
        N("race", lambda x: x, ("a", "c"), op="MERGE", attributes={"mode": "race"}),
        N("out", lambda x, y: x, ("race", "keeps")),
    ]
    run = Steps(binding_of(nodes)).run()
    assert run.value == "a"
    assert run.status["c"] == "cancelled"
    assert run.status["keeps"] == "done"


def test_an_error_edge_carries_the_failure_and_the_others_are_dead():
    nodes = [N("bad", boom), N("ok", one, ("bad",)), N("caught", lambda e: e["message"], (on("bad", "error"),))]
    run = Steps(binding_of(nodes)).run()
    assert run.root.outputs() == {"caught": "boom"}
    assert run.status == {"bad": "failed", "ok": "skipped", "caught": "done"}


def test_a_fallback_supplies_the_value_before_any_error_edge():
    nodes = [N("bad", boom, fallback=7), N("ok", lambda x: x, ("bad",)), N("caught", one, (on("bad", "error"),))]
    run = Steps(binding_of(nodes)).run()
    assert run.root.outputs() == {"ok": 7}


def test_fail_fast_ends_the_run_with_the_first_error_and_where_it_happened():
    run = Steps(binding_of([N("bad", boom), N("later", one, ("bad",))])).run()
    assert isinstance(run.error, ApxmError)
    assert (run.error.node, run.error.op, run.error.flow) == ("bad", "INV", "default.by_hand")
    assert run.status["later"] == "cancelled"


def test_continue_finishes_the_rest():
    nodes = [N("bad", boom), N("later", one, ("bad",)), N("other", one)]
    run = Steps(binding_of(nodes), keep_going=True).run()
    assert run.error is None
    assert run.status == {"bad": "failed", "later": "skipped", "other": "done"}


def test_first_success_takes_a_failed_branch_for_a_dead_one():
    nodes = [
        N("bad", boom),
        N("good", lambda: "good"),
        N("first", lambda x: x, ("bad", "good"), op="MERGE", attributes={"mode": "first_success"}),
    ]
    run = Steps(binding_of(nodes)).run()
    assert (run.error, run.value) == (None, "good")


def test_two_live_returns_of_one_activation_are_an_error():
    nodes = [N("a", one), N("r1", lambda x: x, ("a",), op="RETURN"), N("r2", lambda x: x, ("a",), op="RETURN")]
    run = Steps(binding_of(nodes)).run()
    assert isinstance(run.error, InvalidError)
    assert run.error.code == "two_values"


def test_return_lets_ready_effects_finish_and_cancels_the_rest():
    nodes = [
        N("a", one),
        N("note", lambda c, x: "noted", ("a",), kind=SYNC, effect=2),
        N("after_note", one, ("note",)),
        N("pure", one, ("a",)),
        N("more", one, ("pure",)),
        N("give", lambda x: 42, ("a",), op="RETURN"),
    ]
    run = Steps(binding_of(nodes)).run()
    assert run.value == 42
    assert run.status["after_note"] in ("cancelled", "done")
    assert run.status["note"] == "done"


def body(*nodes):
    return binding_of(list(nodes), region=True)


def spawn(*children, **options):
    return lambda context, *values: Spawn(tuple(children), lambda results: [r.value for r in results], **options)


def test_child_frames_run_and_their_results_come_in_order():
    inner = body(N("x", one), N("y", lambda v: v + 1, ("x",)))
    children = [Child(inner, [], step) for step in range(5)]
    nodes = [N("map", spawn(*children, window=2), kind=SYNC, attributes={"opens": True})]
    assert Steps(binding_of(nodes)).run().value == [2] * 5


def test_a_failure_in_a_child_frame_reaches_the_scope_that_handles_it():
    inner = body(N("x", boom), N("slow", one))
    nodes = [
        N("outer", spawn(Child(inner, [], "s")), kind=SYNC, attributes={"opens": True}),
        N("caught", lambda e: (e["node"], e["message"])[1], (on("outer", "error"),)),
    ]
    run = Steps(binding_of(nodes)).run()
    assert run.root.outputs() == {"caught": "boom"}
    assert run.live_frames == 0


def test_an_isolated_child_hands_its_failure_to_then():
    inner = body(N("x", boom))
    nodes = [
        N(
            "outer",
            lambda c: Spawn((Child(inner, [], "s"),), lambda rs: str(rs[0].error), isolate=True),
            kind=SYNC,
            attributes={"opens": True},
        )
    ]
    assert Steps(binding_of(nodes)).run().value == "boom"


def test_cleanup_runs_when_its_node_is_cancelled():
    cleanup = body(N("clean", lambda: "cleaned"))
    trying = body(N("x", one), N("deep", boom, ("x",)))
    nodes = [
        N(
            "outer",
            lambda c: Spawn((Child(trying, [], "try"),), lambda rs: rs[0].value, cleanup=Child(cleanup, [], "finally")),
            kind=SYNC,
            attributes={"opens": True},
        )
    ]
    run = Steps(binding_of(nodes)).run()
    assert str(run.error) == "boom"
    assert "clean" in run.fired


def test_return_inside_a_region_ends_the_flow_through_cleanup():
    cleanup = body(N("clean", lambda: "cleaned"))
    trying = body(N("x", one), N("give", lambda v: 99, ("x",), op="RETURN"))
    nodes = [
        N(
            "outer",
            lambda c: Spawn((Child(trying, [], "try"),), lambda rs: rs[0].value, cleanup=Child(cleanup, [], "finally")),
            kind=SYNC,
            attributes={"opens": True},
        ),
        N("never", one, ("outer",)),
    ]
    run = Steps(binding_of(nodes)).run()
    assert run.root.outputs() == {"give": 99}
    assert "clean" in run.fired
    assert run.status["never"] == "cancelled"


def test_frames_deeper_than_the_bound_are_refused():
    inner = body(N("x", one))
    nodes = [N("outer", spawn(Child(inner, [], "s")), kind=SYNC, attributes={"opens": True})]
    run = Steps(binding_of(nodes), max_depth=0).run()
    assert run.error is not None
    assert run.error.code == "limit"


def test_a_lost_token_is_reported_with_the_edges_that_wait():
    run = Steps(binding_of([N("a", one), N("b", one, ("a",)), N("c", one, ("b",))]))
    run.workers[0].batches.clear()
    with pytest.raises(ApxmError) as caught:
        run.run()
    assert caught.value.code == "stuck"
    assert ("a", "b") in caught.value.edges
