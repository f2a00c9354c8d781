"""How things end before their time: RETURN, RACE, a failure, the end of the run; in flight when it happens."""

from __future__ import annotations

import inspect
import sys

import pytest

from apxm.errors import DeadlineError, InvalidError, RaisedError
from apxm.outcome import Child, Spawn, Wait
from apxm.scheduler.binding import SYNC
from tests.unit.scheduler.dags import N, binding_of, effect, on
from tests.unit.scheduler.flights import Flights, bind, calls, flies

PURE_, READ, IDEMPOTENT, PAID, GUARDED = range(5)


def opens(name, *children, ins=(), **options):
    """A node that opens child frames; its value is the list of theirs."""
    then = options.pop("then", lambda results: [result.value for result in results])
    rest = {key: options.pop(key) for key in ("fallback",) if key in options}
    return N(name, lambda c, *_: Spawn(tuple(children), then, **options), ins, kind=SYNC, attributes={"opens": True}, **rest)


def region(*nodes):
    return bind(*nodes, region=True)


def child(*nodes, step="s"):
    return Child(region(*nodes), [], step)


def give(*ins):
    return N("give", lambda *values: 42, ins, op="RETURN")


def boom(*_):
    raise RaisedError("boom")


# ---- RETURN ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [PURE_, READ, PAID])
def test_return_stops_what_is_in_flight_and_may_be_repeated_or_does_nothing(number):
    run = Flights(bind(N("a"), flies("op", effect=number), give("a")))
    assert run.told == ["op"]
    run.land("op")
    assert (run.over, run.value, run.status["op"]) == (True, 42, "cancelled")


@pytest.mark.parametrize("number", [IDEMPOTENT, GUARDED])
def test_return_lets_an_effect_in_flight_finish(number):
    run = Flights(bind(N("a"), flies("op", effect=number), N("later", None, ("op",)), give("a")))
    assert (run.told, run.over) == ([], False)
    run.land("op")
    assert (run.over, run.value) == (True, 42)
    assert (run.status["op"], run.status["later"]) == ("done", "cancelled")


@pytest.mark.parametrize(
    ("number", "status"),
    [(PURE_, "cancelled"), (READ, "cancelled"), (IDEMPOTENT, "done"), (PAID, "cancelled"), (GUARDED, "done")],
)
def test_return_starts_of_what_is_ready_only_effects(number, status):
    run = Flights(bind(N("a"), N("op", lambda c, _: "did", ("a",), kind=SYNC, effect=number), give("a")))
    assert (run.over, run.value, run.status["op"]) == (True, 42, status)


def test_return_starts_no_effect_that_is_not_ready():
    run = Flights(bind(N("a"), flies("first"), flies("op", "first", effect=GUARDED), give("a"))).land("first")
    assert run.fired.count("op") == 0
    assert run.status["op"] == "cancelled"


def test_return_lets_an_effect_in_a_child_frame_finish():
    run = Flights(bind(flies("go"), opens("map", child(flies("op", effect=GUARDED))), give("go"))).land("go")
    assert (run.told, run.over) == ([], False)
    assert run.land("op").value == 42


def test_return_lets_an_effect_in_a_called_flow_finish():
    callee = bind(flies("op", effect=GUARDED))
    run = Flights(bind(flies("go"), calls("call", callee), give("go"))).land("go")
    assert (run.told, run.over) == ([], False)
    assert run.land("op").value == 42


def test_return_in_a_called_flow_is_the_value_of_the_call_only():
    callee = bind(N("x"), flies("slow"), give("x"))
    run = Flights(bind(calls("call", callee), N("out", lambda x: x + 1, ("call",)))).land("slow")
    assert run.root.outputs() == {"out": 43}


def test_a_wait_is_forgotten_when_its_node_is_stopped():
    nodes = bind(flies("go"), N("wait", lambda c: Wait(5.0, lambda: "woke"), kind=SYNC), give("go"))
    run = Flights(nodes)
    assert list(run.waiting) == ["wait"]
    run.land("go")
    assert (run.waiting, run.over, run.status["wait"]) == ({}, True, "cancelled")


def test_two_returns_are_an_error_when_one_of_them_is_in_a_region():
    inner = child(flies("x"), N("inner_give", lambda *_: 1, ("x",), op="RETURN"))
    run = Flights(bind(flies("y"), opens("map", inner), give("y")))
    worker, deep = run.workers[0], run.flying["x"].frame
    deep.running.pop(0)
    run.outcome(worker, deep, 0, "x")  # both RETURNs become ready before either of them fires
    run.land("y")
    assert isinstance(run.error, InvalidError)
    assert run.error.code == "two_values"


@pytest.mark.parametrize("call", [calls, lambda name, flow: opens(name, Child(flow, [], "call"))])
def test_a_return_that_is_ready_in_a_called_flow_is_not_ours(call):
    callee = bind(flies("x"), N("its_give", lambda *_: 1, ("x",), op="RETURN"), flies("rest"))
    run = Flights(bind(flies("y"), call("call", callee), give("y")))
    deep = run.flying["x"].frame
    deep.running.pop(0)
    run.outcome(run.workers[0], deep, 0, "x")
    run.land("y")
    assert run.error is None


# ---- a failure after a RETURN ----------------------------------------------------------------------------------------
def returning(**rest):
    return bind(flies("go"), flies("op", effect=GUARDED, **rest), give("go"))


def test_an_effect_that_fails_after_a_return_fails_the_flow():
    run = Flights(returning()).land("go").land("op", RaisedError("boom"))
    assert (run.over, str(run.error)) == (True, "boom")


def test_under_continue_it_does_not():
    run = Flights(returning(), keep_going=True).land("go").land("op", RaisedError("boom"))
    assert (run.over, run.error, run.value) == (True, None, 42)


def test_nor_when_it_has_a_fallback_itself():
    run = Flights(returning(fallback="fb")).land("go").land("op", RaisedError("boom"))
    assert (run.error, run.value) == (None, 42)


def test_nor_when_a_scope_between_it_and_the_flow_takes_the_failure():
    caught = opens("try", child(flies("op", effect=GUARDED)), isolate=True)
    run = Flights(bind(flies("go"), caught, give("go"))).land("go").land("op", RaisedError("boom"))
    assert (run.error, run.value) == (None, 42)
    kept = opens("map", child(flies("op", effect=GUARDED)), fallback="fb")
    run = Flights(bind(flies("go"), kept, give("go"))).land("go").land("op", RaisedError("boom"))
    assert (run.error, run.value) == (None, 42)


def test_a_scope_around_the_flow_takes_the_failure_of_the_flow():
    call = calls("call", returning(), fallback="fb")
    run = Flights(bind(call, N("out", lambda x: x, ("call",)))).land("go").land("op", RaisedError("boom"))
    assert run.root.outputs() == {"out": "fb"}


def test_a_flow_that_failed_after_its_return_has_no_output():
    leave = opens("switch", child(flies("go"), give("go")))
    run = Flights(bind(leave, flies("op", effect=GUARDED))).land("go").land("op", RaisedError("boom"))
    assert run.over
    assert run.root.outputs() == {}


# ---- the end of the run ----------------------------------------------------------------------------------------------
def aborted(run, text="late"):
    run.abort(run.workers[0], DeadlineError(text))
    return run.go()


def test_the_first_error_of_a_run_stays():
    run = Flights(bind(flies("a", effect=GUARDED), flies("b")))
    aborted(run, "first")
    aborted(run, "second")
    run.land("a").land("b")
    assert (run.over, str(run.error)) == (True, "first")


def test_a_deadline_after_a_return_stops_the_effects_it_waited_for():
    leave = opens("switch", child(flies("go"), give("go")))
    run = Flights(bind(leave, flies("op", effect=GUARDED))).land("go")
    assert run.told == []
    aborted(run)
    assert run.told == ["op"]
    run.land("op")
    assert (run.over, run.root.outputs()) == (True, {})


def test_a_failure_that_comes_after_the_end_began_is_no_new_reason():
    run = aborted(Flights(bind(flies("a"), flies("b"))))
    run.flying["b"].cancelled = False  # it failed in the same moment
    run.land("b", RaisedError("boom")).land("a")
    assert (run.over, str(run.error), run.status["b"]) == (True, "late", "failed")


def tidy(*tried, last, **rest):
    return opens("tidy", child(*tried), cleanup=Child(last, [], "finally"), isolate=True, **rest)


def test_cleanup_starts_once_what_it_follows_has_stopped_and_is_let_finish():
    run = aborted(Flights(bind(tidy(flies("x"), last=region(flies("clean"))))))
    assert "clean" not in run.fired
    run.land("x")
    assert (run.told, run.over, list(run.flying)) == (["x"], False, ["clean"])
    run.land("clean")
    assert (run.over, run.fired, run.status["tidy"]) == (True, ["tidy", "x", "clean"], "cancelled")


def test_cleanup_that_a_return_began_survives_the_end_of_the_run():
    run = Flights(bind(flies("go"), tidy(flies("x"), last=region(flies("clean"))), give("go"))).land("go").land("x")
    aborted(run)
    assert (run.told, run.over) == (["x"], False)
    assert run.land("clean").over


def test_shielded_children_are_not_stopped_and_their_node_ends_with_them():
    after = []
    shielded = opens("last", child(flies("x")), then=lambda results: after.append(1), shielded=True)
    run = aborted(Flights(bind(shielded)))
    assert (run.told, run.over) == ([], False)
    run.land("x")
    assert (run.over, after, run.status["last"]) == (True, [], "cancelled")


def test_force_gives_up_what_is_in_flight_and_names_it():
    run = aborted(Flights(bind(flies("deaf"), tidy(flies("x"), last=region(N("clean"))))))
    assert sorted(run.force(run.workers[0])) == ["deaf", "x"]
    assert run.over
    assert "clean" not in run.fired
    assert run.land("deaf").status["deaf"] == "cancelled"


def test_force_ends_shielded_children_and_what_they_would_do_next():
    last = child(flies("x"), flies("next", effect("x")))
    run = aborted(Flights(bind(opens("last", last, shielded=True))))
    assert run.force(run.workers[0]) == ["x"]
    assert run.go().over
    assert "next" not in run.fired


def returned_with_failing_cleanup(**options):
    leaving = tidy(flies("x"), give("x"), last=region(N("clean", boom)))
    return Flights(bind(leaving), **options).land("x")


def test_cleanup_that_fails_after_a_return_fails_the_flow():
    run = returned_with_failing_cleanup()
    assert (run.over, str(run.error)) == (True, "boom")


def test_cleanup_that_fails_after_a_return_is_ignored_under_continue():
    run = returned_with_failing_cleanup(keep_going=True)
    assert (run.over, run.error, run.root.outputs()) == (True, None, {"give": 42})


def test_cleanup_that_fails_when_the_run_ends_changes_nothing():
    callee = bind(tidy(flies("x"), last=region(N("clean", boom))))
    run = aborted(Flights(bind(calls("call", callee)))).land("x")
    assert (run.over, str(run.error), run.status["call"]) == (True, "late", "cancelled")


# ---- a failure that a scope takes ------------------------------------------------------------------------------------
def test_a_scope_goes_on_once_everything_beneath_it_has_stopped():
    failing = opens("outer", child(flies("x"), flies("slow")))
    run = Flights(bind(failing, N("caught", lambda e: e["message"], (on("outer", "error"),)))).land("x", RaisedError("boom"))
    assert (run.told, "caught" in run.fired) == (["slow"], False)
    run.land("slow")
    assert (run.root.outputs(), run.failures) == ({"caught": "boom"}, 2)


def test_a_call_that_failed_is_forgotten_by_its_caller():
    run = Flights(bind(calls("call", bind(flies("x")), fallback="fb"), flies("rest", "call"))).land("x", RaisedError("boom"))
    assert [frame.plan.dag.names[0] for frame in run.frames()] == ["call"]
    assert run.land("rest").over


def test_a_call_that_ended_is_forgotten_by_its_caller():
    run = Flights(bind(calls("call", bind(flies("x"))), flies("rest", "call"))).land("x")
    assert [frame.plan.dag.names[0] for frame in run.frames()] == ["call"]


def test_a_node_that_failed_is_no_longer_running():
    run = Flights(bind(flies("x", fallback="fb"), flies("rest", "x"))).land("x", RaisedError("boom"))
    assert list(run.root.running) == [1]


def test_a_scope_takes_a_failure_from_any_depth_below_it():
    deep = child(opens("inner", child(flies("x")), then=lambda results: results[0].value))
    run = Flights(bind(opens("outer", deep, fallback="fb"))).land("x", RaisedError("boom"))
    assert (run.error, run.value, run.live_frames) == (None, "fb", 0)


def test_a_scope_that_ends_while_it_handles_a_failure_is_not_revived():
    failing = opens("outer", child(flies("x"), flies("slow")))
    run = Flights(bind(failing, N("caught", lambda e: e, (on("outer", "error"),)))).land("x", RaisedError("boom"))
    aborted(run).land("slow")
    assert (run.over, str(run.error)) == (True, "late")
    assert run.status == {"outer": "failed", "caught": "cancelled"}
    assert "caught" not in run.fired


def test_a_scope_that_leads_only_to_first_success_forgives_what_it_opened():
    nodes = [opens("outer", child(N("x", boom))), flies("good"), N("first", None, ("outer", "good"), op="MERGE")]
    nodes[-1].attributes["mode"] = "first_success"
    run = Flights(bind(*nodes)).land("good")
    assert (run.error, run.value) == (None, "landed")


# ---- RACE ------------------------------------------------------------------------------------------------------------
def race(*ins):
    return N("race", lambda x: x, ins, op="MERGE", attributes={"mode": "race"})


def test_a_decided_race_stops_losers_in_flight_and_the_frame_ends():
    run = Flights(bind(flies("a"), flies("b"), race("a", "b"))).land("a", "won")
    assert (run.told, run.over) == (["b"], False)
    run.land("b")
    assert (run.over, run.value, run.status["b"]) == (True, "won", "cancelled")


def test_a_decided_race_lets_an_effect_finish():
    run = Flights(bind(flies("a"), flies("b", effect=GUARDED), race("a", "b"))).land("a", "won")
    assert (run.told, run.land("b").status["b"]) == ([], "done")
    assert (run.value, run.dropped) == ("won", 1)


def test_a_decided_race_stops_what_leads_to_a_loser():
    run = Flights(bind(flies("a"), flies("far"), N("near", None, ("far",)), race("a", "near"))).land("a")
    assert (run.told, run.status["near"]) == (["far"], "cancelled")


def test_a_decided_race_leaves_alone_what_is_an_output_too():
    run = Flights(bind(flies("a"), flies("b"), race("a", "b"), exits=("b", "race"))).land("a")
    assert run.told == []
    assert run.land("b", "mine").root.outputs() == {"b": "mine", "race": "landed"}


def test_a_decided_race_leaves_alone_what_gates_it_or_leads_to_its_winner():
    first = N("any", lambda x: x, ("x", "y"), op="MERGE", attributes={"mode": "any"})
    run = Flights(bind(flies("x"), flies("y"), flies("b"), first, race("any", "b"))).land("x")
    assert run.told == ["b"]
    run.land("y").land("b")
    assert (run.over, run.status["y"]) == (True, "done")


# ---- children --------------------------------------------------------------------------------------------------------
def test_results_are_in_the_order_of_the_children_whichever_ends_first():
    run = Flights(bind(opens("map", *(child(flies(f"x{step}"), step=step) for step in range(3)), window=3)))
    assert run.land("x2", "c").land("x0", "a").land("x1", "b").value == ["a", "b", "c"]


def test_a_node_goes_on_once_though_its_children_end_as_they_open():
    ended = []
    then = lambda results: ended.append(len(results)) or "done"  # noqa: E731
    run = Flights(bind(opens("map", child(), child(), child(), window=2, then=then)))
    assert (run.value, ended) == ("done", [3])


def test_every_turn_of_a_loop_sees_its_own_results_only():
    seen = []

    def turn(results):
        seen.append([result.value for result in results])
        return Spawn((child(N("x", lambda: len(seen))),), turn) if len(seen) < 3 else "done"

    assert Flights(bind(opens("loop", child(N("x", lambda: 0)), then=turn))).value == "done"
    assert seen == [[0], [1], [2]]


def test_a_child_that_stops_does_not_end_its_node_while_an_effect_beside_it_finishes():
    failing, lasting = child(flies("x"), flies("slow")), child(flies("op", effect=GUARDED), step="t")
    run = Flights(bind(flies("go"), opens("map", failing, lasting, window=2, isolate=True), give("go")))
    run.land("x", RaisedError("boom")).land("go").land("slow")
    assert (run.told, run.over) == (["slow"], False)
    assert run.land("op").value == 42


# ---- bounds ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("bound", "fits"), [(2, False), (3, True)])
def test_as_many_frames_may_be_alive_as_the_bound_says(bound, fits):
    two = [child(flies(f"x{step}"), step=step) for step in range(2)]
    run = Flights(bind(opens("map", *two, window=2)), max_frames=bound)
    if fits:
        assert run.land("x0").land("x1").value == ["landed", "landed"]
    else:
        assert run.error.code == "limit"


def test_no_more_children_are_open_than_the_window():
    run = Flights(bind(opens("map", *(child(flies(f"x{step}"), step=step) for step in range(4)), window=2)))
    assert sorted(run.flying) == ["x0", "x1"]
    run.land("x1")
    assert sorted(run.flying) == ["x0", "x2"]


@pytest.fixture
def little_stack():
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 120)
    yield 120
    sys.setrecursionlimit(limit)


def test_frames_nest_deeper_than_the_stack_of_python(little_stack):
    deep = little_stack // 2

    def down(context, *_):
        left.append(1)
        return Spawn((Child(body, [], 0),), lambda rs: rs[0].value) if len(left) < deep else "bottom"

    left: list[int] = []
    body = binding_of([N("down", down, kind=SYNC, attributes={"opens": True})], region=True)
    run = Flights(body, max_depth=deep)
    assert (run.over, run.value, run.live_frames) == (True, "bottom", 0)


def test_a_frame_without_nodes_is_over_at_once():
    run = Flights(bind())
    assert (run.over, run.root.outputs()) == (True, {})
