"""Work that a node leaves behind: it goes on at once, its frame waits for it, and nothing of it is lost."""

from __future__ import annotations

from typing import Any

import pytest

from apxm.errors import InvalidError, RaisedError, RunCancelled
from apxm.outcome import Child, Post, Spawn
from apxm.scheduler.binding import SYNC, Binding
from tests.unit.scheduler.dags import N, on
from tests.unit.scheduler.flights import Flights, bind, flies

GUARDED = 4


def posts(name: str, *bodies: Binding, ins: tuple[Any, ...] = (), value: Any = "ack", **rest: Any) -> N:
    """A node that gives `value`, and leaves a frame of each body behind."""

    def fire(context: Any, *_: Any) -> Post:
        return Post(value, [Child(body, [], f"m{step}") for step, body in enumerate(bodies)], window=8)

    return N(name, fire, ins, kind=SYNC, effect=GUARDED, attributes={"opens": True}, **rest)


def flight(name: str, **rest: Any) -> Binding:
    return bind(flies(name, **rest))


def boom(name: str = "boom") -> RaisedError:
    return RaisedError(name)


def tries(name: str, body: Binding) -> N:
    """A node that makes what its one child failed with its value."""

    def then(results: list[Any]) -> Any:
        return str(results[0].error) if results[0].error else results[0].value

    return N(name, lambda *_: Spawn((Child(body, [], "try"),), then, isolate=True), kind=SYNC, attributes={"opens": True})


def test_the_value_goes_out_while_what_was_left_behind_runs() -> None:
    run = Flights(bind(posts("tell", flight("theirs")), flies("mine", "tell")))
    assert (run.flying.keys(), run.status["tell"]) == ({"theirs", "mine"}, "done")
    assert run.land("mine").over is False
    run.land("theirs")
    assert (run.over, run.error, run.root.outputs()) == (True, None, {"mine": "landed"})
    assert (run.posted, run.live_frames, run.root.running) == (0, 0, {})


def test_a_frame_is_not_over_before_what_its_last_node_left_behind() -> None:
    run = Flights(bind(posts("tell", flight("one"), flight("two"))))
    run.land("two")
    assert run.over is False
    assert (run.land("one").over, run.root.outputs()) == (True, {"tell": "ack"})


def test_the_flow_that_leaves_it_behind_waits_and_not_the_one_beside() -> None:
    inner = bind(posts("tell", flight("theirs")), region=True)
    opener = N("open", lambda *_: Spawn((Child(inner, [], "b"),), lambda rs: rs[0].value), kind=SYNC, attributes={"opens": True})
    run = Flights(bind(opener, flies("after", "open"), flies("aside")))
    assert run.flying.keys() == {"theirs", "aside"}
    run.land("theirs")
    assert run.flying.keys() == {"after", "aside"}


def test_nothing_to_leave_behind_is_no_reason_to_wait() -> None:
    run = Flights(bind(posts("tell")))
    assert (run.over, run.posted, run.root.outputs()) == (True, 0, {"tell": "ack"})


def test_a_failure_left_behind_ends_the_run_and_the_node_stays_done() -> None:
    run = Flights(bind(posts("tell", flight("theirs")), flies("mine", "tell")))
    run.land("theirs", boom())
    assert (str(run.error), run.error.node, run.status["tell"]) == ("boom", "theirs", "done")
    run.land("mine")
    assert (run.over, run.posted, run.failures) == (True, 0, 1)


def test_a_failure_left_behind_is_no_matter_for_fallback_and_error_edges_of_the_node() -> None:
    run = Flights(bind(posts("tell", flight("theirs"), fallback="instead"), flies("mine", "tell")))
    run.land("theirs", boom())
    assert str(run.error) == "boom"
    edges = Flights(bind(posts("tell", flight("theirs")), flies("mine", "tell"), flies("rescue", on("tell", "error"))))
    assert edges.flying.keys() == {"theirs", "mine"}
    edges.land("theirs", boom())
    assert (str(edges.error), edges.status["rescue"]) == ("boom", "skipped")


def test_the_scope_around_the_node_takes_the_failure() -> None:
    inner = bind(posts("tell", flight("theirs")), region=True)
    run = Flights(bind(tries("try", inner)))
    run.land("theirs", boom())
    assert (run.over, run.error, run.root.outputs()) == (True, None, {"try": "boom"})


def test_under_continue_the_rest_goes_on_and_the_failure_is_reported() -> None:
    run = Flights(bind(posts("tell", flight("one"), flight("two")), flies("mine", "tell")), keep_going=True)
    run.land("one", boom())
    assert run.error is None
    run.land("two")
    run.land("mine")
    assert (run.over, [str(error) for error in run.unhandled], run.root.outputs()) == (True, ["boom"], {"mine": "landed"})


def test_a_cancellation_reaches_it() -> None:
    run = Flights(bind(posts("tell", flight("theirs"))))
    run.abort(run.workers[0], RunCancelled("enough"))
    assert run.told == ["theirs"]
    run.land("theirs")
    assert (run.over, run.posted, run.live_frames) == (True, 0, 0)


def test_a_failure_elsewhere_cancels_it() -> None:
    run = Flights(bind(posts("tell", flight("theirs")), flies("mine")))
    run.land("mine", boom())
    assert run.told == ["theirs"]
    assert (run.land("theirs").over, str(run.error)) == (True, "boom")


def test_a_return_waits_for_what_was_left_behind() -> None:
    give = N("give", lambda *_: 42, ("tell",), op="RETURN")
    run = Flights(bind(posts("tell", flight("theirs")), give))
    assert (run.over, run.told) == (False, [])
    run.land("theirs")
    assert (run.over, run.error, run.root.value()) == (True, None, 42)


def test_what_was_left_behind_may_still_fail_a_flow_that_returned() -> None:
    give = N("give", lambda *_: 42, ("tell",), op="RETURN")
    run = Flights(bind(posts("tell", flight("theirs")), give, flies("mine")))
    assert run.told == ["mine"]
    run.land("mine")
    run.land("theirs", boom())
    assert (run.over, str(run.error)) == (True, "boom")


def test_a_run_that_closes_begins_nothing_new() -> None:
    run = Flights(bind(flies("slow", effect=GUARDED), posts("tell", flight("theirs"), ins=("slow",)), flies("mine")))
    run.land("mine", boom())
    run.land("slow")
    assert (run.over, "theirs" in run.flying) == (True, False)


def test_what_cannot_be_opened_is_a_failure_of_the_frame() -> None:
    run = Flights(bind(posts("tell", flight("theirs"))), max_depth=0)
    assert isinstance(run.error, InvalidError)
    assert (run.error.code, run.error.node, run.over, run.posted) == ("limit", "tell", True, 0)


def test_it_may_leave_something_behind_itself() -> None:
    inner = bind(posts("again", flight("last")))
    run = Flights(bind(posts("tell", inner)))
    assert (run.flying.keys(), run.over) == ({"last"}, False)
    assert (run.land("last").over, run.posted) == (True, 0)


@pytest.mark.parametrize("good", [True, False])
def test_what_was_forced_to_end_is_counted_off(good: bool) -> None:
    run = Flights(bind(posts("tell", flight("theirs"), flight("others"))))
    if good:
        run.land("others")
    run.abort(run.workers[0], RunCancelled("enough"))
    assert "theirs" in run.force(run.workers[0])
    assert (run.over, run.posted) == (True, 0)
