"""What is held until everything downstream ended: when it is let go, how, and once."""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest

from apxm.errors import InternalError, RaisedError, UnknownEffectError
from apxm.outcome import Child, Hold, Spawn
from apxm.scheduler.binding import SYNC
from tests.unit.scheduler.dags import N, control, on
from tests.unit.scheduler.flights import Flights, bind, calls, flies

IDEMPOTENT = 2


class Lock:
    """Something to hold; `ends` has how it was let go, each time."""

    def __init__(self, gives: Any = None) -> None:
        self.ends: list[bool] = []
        self.gives = gives

    def release(self, good: bool) -> Any:
        self.ends.append(good)
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives


class Holding(Flights):
    """Lets go as the engine does: after every step, and in the end."""

    def go(self) -> Holding:
        super().go()
        self.let_go(self.workers[0], final=self.over)
        return self


def holds(name: str, lock: Lock, *ins: Any, value: Any = 7) -> N:
    return N(name, lambda context, *_: Hold(value, lock.release), ins, kind=SYNC)


def fails(name: str, *ins: Any, **rest: Any) -> N:
    def boom(*_: Any) -> None:
        raise RaisedError("boom")

    return N(name, boom, ins, **rest)


def opens(name: str, *nodes: N, ins: tuple[str, ...] = (), isolate: bool = False) -> N:
    body = bind(*nodes, region=True)
    spawn = partial(Spawn, (Child(body, [], "body"),), lambda results: [each.value for each in results], isolate=isolate)
    return N(name, lambda context, *_: spawn(), ins, kind=SYNC, attributes={"opens": True})


def test_the_value_goes_out_and_the_lock_stays_until_all_downstream_is_done() -> None:
    lock = Lock()
    run = Holding(bind(holds("take", lock), flies("work", "take"), flies("last", "work"), flies("aside")))
    assert (run.flying.keys(), lock.ends) == ({"work", "aside"}, [])
    run.land("work")
    assert lock.ends == []
    run.land("last")
    assert (lock.ends, run.over) == ([True], False)
    assert (run.land("aside").over, lock.ends) == (True, [True])


def test_with_nothing_downstream_it_is_let_go_at_once() -> None:
    lock = Lock()
    run = Holding(bind(holds("take", lock), flies("aside")))
    assert (lock.ends, run.over, run.root.outputs()) == ([True], False, {"take": 7})


def test_skipped_counts_as_ended_well() -> None:
    lock = Lock()
    run = Holding(bind(holds("take", lock), flies("never", on("take", "no")), flies("after", "never", "take")))
    assert (lock.ends, run.status["never"], run.over) == ([True], "skipped", True)


def test_control_and_order_lead_downstream_too() -> None:
    lock = Lock()
    run = Holding(bind(holds("take", lock), flies("work", control("take"))))
    assert lock.ends == []
    assert (run.land("work").over, lock.ends) == (True, [True])


def test_a_failure_downstream_gives_it_back_at_once() -> None:
    lock = Lock()
    run = Holding(bind(holds("take", lock), flies("work", "take"), flies("aside", effect=IDEMPOTENT)))
    run.land("work", RaisedError("boom"))
    assert lock.ends == [False]
    assert run.land("aside").error is not None
    assert lock.ends == [False]


def test_under_continue_too_and_the_rest_goes_on() -> None:
    lock = Lock()
    run = Holding(bind(holds("take", lock), flies("work", "take"), flies("aside")), keep_going=True)
    run.land("work", RaisedError("boom"))
    assert (lock.ends, run.over) == ([False], False)
    assert (run.land("aside").over, lock.ends) == (True, [False])


@pytest.mark.parametrize("how", [{"fallback": "instead"}, {}])
def test_a_failure_that_is_handled_downstream_ends_well(how: dict[str, Any]) -> None:
    lock = Lock()
    nodes = [holds("take", lock), fails("work", "take", **how)]
    if not how:
        nodes.append(flies("rescue", on("work", "error")))
    run = Holding(bind(*nodes))
    if not how:
        assert lock.ends == []
        run.land("rescue")
    assert (run.error, lock.ends) == (None, [True])


def test_a_failure_elsewhere_cancels_the_work_and_gives_it_back() -> None:
    lock = Lock()
    run = Holding(bind(holds("take", lock), flies("work", "take"), flies("aside")))
    run.land("aside", RaisedError("boom"))
    assert (run.told, lock.ends) == (["work"], [])
    run.land("work")
    assert (run.over, lock.ends) == (True, [False])


def test_work_that_ended_before_a_failure_elsewhere_stays_done() -> None:
    lock = Lock()
    run = Holding(bind(holds("take", lock), flies("work", "take"), flies("aside")))
    run.land("work")
    run.land("aside", RaisedError("boom"))
    assert (type(run.error), lock.ends) == (RaisedError, [True])


# ---- frames ----------------------------------------------------------------------------------------------------------
def test_in_a_called_flow_it_is_held_for_that_frame_alone() -> None:
    lock = Lock()
    body = bind(holds("take", lock), flies("work", "take"))
    run = Holding(bind(calls("call", body), flies("after", "call")))
    assert lock.ends == []
    run.land("work")
    assert (lock.ends, run.over) == ([True], False)
    run.land("after", RaisedError("boom"))
    assert lock.ends == [True]


def test_a_failure_that_closes_its_region_gives_it_back_though_somebody_handles_it() -> None:
    lock = Lock()
    run = Holding(bind(opens("try", holds("take", lock), fails("work", "take"), isolate=True), flies("after", "try")))
    assert (lock.ends, run.over) == ([False], False)
    assert run.land("after").error is None


def test_a_child_frame_downstream_must_end_too() -> None:
    lock = Lock()
    run = Holding(bind(holds("take", lock), opens("loop", flies("inside"), ins=("take",))))
    assert lock.ends == []
    run.land("inside")
    assert (run.over, lock.ends) == (True, [True])


# ---- what is not needed any more -------------------------------------------------------------------------------------
def give(*ins: Any) -> N:
    return N("give", lambda *_: 42, ins, op="RETURN")


def test_a_return_that_it_led_to_makes_the_rest_unnecessary() -> None:
    lock = Lock()
    run = Holding(bind(holds("take", lock), flies("work", "take"), flies("more", "take"), give("work")))
    run.land("work")
    assert (run.told, lock.ends) == (["more"], [])
    run.land("more")
    assert (run.error, run.value, lock.ends) == (None, 42, [True])


def test_a_return_inside_a_region_that_it_led_to_counts() -> None:
    lock = Lock()
    region = opens("region", flies("deep"), give("deep"), ins=("take",))
    run = Holding(bind(holds("take", lock), region, flies("more", "take")))
    run.land("deep").land("more")
    assert (run.value, lock.ends) == (42, [True])


def test_a_return_that_came_of_something_else_gives_it_back() -> None:
    lock = Lock()
    run = Holding(bind(holds("take", lock), flies("work", "take"), flies("other"), give("other")))
    run.land("other").land("work")
    assert (run.error, run.value, lock.ends) == (None, 42, [False])


def race(*ins: str) -> N:
    return N("race", lambda value: value, ins, op="MERGE", attributes={"mode": "race"})


def test_the_loser_of_a_race_that_it_won_itself_was_not_needed() -> None:
    lock = Lock()
    run = Holding(bind(holds("take", lock), flies("fast", "take"), flies("slow", "take"), race("fast", "slow")))
    run.land("fast").land("slow")
    assert (run.value, lock.ends) == ("landed", [True])


def test_who_lost_a_race_against_others_gives_it_back() -> None:
    lock = Lock()
    run = Holding(bind(holds("take", lock), flies("work", "take"), flies("other"), race("work", "other")))
    run.land("other").land("work")
    assert (run.value, lock.ends) == ("landed", [False])


# ---- letting go goes wrong -------------------------------------------------------------------------------------------
def test_an_error_of_the_release_ends_the_run_and_says_where() -> None:
    lock = Lock(UnknownEffectError("too late", code="lease_lost"))
    run = Holding(bind(holds("take", lock), flies("work", "take"), flies("aside", effect=IDEMPOTENT)))
    run.land("work")
    assert run.told == ["aside"]
    run.land("aside")
    assert run.error is not None
    assert (run.error.code, run.error.node, lock.ends) == ("lease_lost", "take", [True])


def test_in_the_end_too() -> None:
    lock = Lock(UnknownEffectError("too late", code="lease_lost"))
    run = Holding(bind(holds("take", lock)))
    assert run.error is not None
    assert (run.over, run.error.code) == (True, "lease_lost")


def test_the_first_error_stays() -> None:
    lock = Lock(UnknownEffectError("too late"))
    run = Holding(bind(holds("take", lock), fails("work", "take")))
    assert (str(run.error), lock.ends) == ("boom", [False])


def test_an_error_of_another_kind_is_a_bug_with_its_cause() -> None:
    lock = Lock(ZeroDivisionError("oops"))
    run = Holding(bind(holds("take", lock)))
    assert isinstance(run.error, InternalError)
    assert (run.error.node, type(run.error.__cause__)) == ("take", ZeroDivisionError)


def test_what_takes_its_time_is_kept_for_the_engine_to_wait_for() -> None:
    later: Future[None] = Future()
    run = Holding(bind(holds("take", Lock(later))))
    assert [(held.place[1], future) for held, future in run.leaving] == [(0, later)]
    assert run.held == []


def test_many_are_let_go_each_when_its_own_is_over() -> None:
    locks = [Lock() for _ in range(3)]
    nodes = [node for number, lock in enumerate(locks) for node in (holds(f"t{number}", lock), flies(f"w{number}", f"t{number}"))]
    run = Holding(bind(*nodes))
    for number in (1, 0, 2):
        run.land(f"w{number}")
        assert [lock.ends for lock in locks].count([True]) == [1, 0, 2].index(number) + 1
        assert locks[number].ends == [True]
    assert run.over
