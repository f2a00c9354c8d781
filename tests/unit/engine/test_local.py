"""One run on its loop: waits, retries, time limits, workers, the end."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest

from apxm.errors import BudgetError, DeadlineError, HandlerError, RaisedError, RunCancelled, StuckError, TransientError
from apxm.observability.events import NodeEnded, NodeRetried, NodeStarted
from apxm.outcome import Child, Fail, Route, Spawn, Wait
from apxm.scheduler.dataflow import CANCELLED
from tests.unit.engine.alone import Alone, awaits, does, waits
from tests.unit.scheduler.dags import N, control, on
from tests.unit.scheduler.flights import bind, calls

GUARDED = 4
both = pytest.mark.parametrize("stealing", [True, False])


def opens(name, *bodies, ins=(), then=lambda results: [each.value for each in results], fallback=None, timeout_s=None, **spawn):
    """A node that opens a child frame for each of these lists of nodes."""
    attributes = {"opens": True} | ({"timeout_s": timeout_s} if timeout_s is not None else {})
    bound = [bind(*nodes, region=True) for nodes in bodies]

    def fire(context, *_):
        return Spawn(tuple(Child(body, [], step) for step, body in enumerate(bound)), then, **spawn)

    return does(name, fire, *ins, attributes=attributes, fallback=fallback)


def returns(*ins):
    return N("give", lambda *_: 42, ins, op="RETURN")


# ---- waits -----------------------------------------------------------------------------------------------------------
@both
def test_a_wait_goes_on_after_its_time_whether_it_began_before_the_loop_or_on_it(stealing):
    before = does("before", lambda c: Wait(5, lambda: "first"))
    after = does("after", lambda c, x: Wait(2, lambda: [x, "second"]), "nap")
    run = Alone(bind(before, waits("nap", "before"), after), enable_work_stealing=stealing).go()
    assert (run.root.outputs(), run.ticks.now) == ({"after": ["woke", "second"]}, 8)
    assert (run._parked, run._timers, run.left) == ({}, {}, [])


def test_a_wait_that_is_over_is_forgotten():
    run = Alone(bind(does("a", lambda c: Wait(1, lambda: "woke")), waits("rest", "a"))).go()
    assert (run.root.running, run.root.outputs()) == ({}, {"rest": "woke"})


def test_a_wait_may_wait_again_open_frames_and_fail():
    again = does("again", lambda c: Wait(1, lambda: Wait(2, lambda: "twice")))
    deep = bind(waits("x", seconds=4), region=True)
    frames = does("frames", lambda c: Wait(1, lambda: Spawn((Child(deep, [], 0),), lambda rs: rs[0].value)))
    run = Alone(bind(again, frames)).go()
    assert (run.root.outputs(), run.ticks.now) == ({"again": "twice", "frames": "woke"}, 5)
    failing = does("failing", lambda c: Wait(1, lambda: Fail(RaisedError("boom"))), fallback="fb")
    raising = does("raising", lambda c: Wait(1, lambda: int("x")), fallback="fb")
    assert Alone(bind(failing, raising)).go().root.outputs() == {"failing": "fb", "raising": "fb"}


def test_the_end_of_a_run_forgets_its_waits():
    run = Alone(bind(does("long", lambda c: Wait(500, lambda: 1))), deadline_s=3).go()
    assert (type(run.error), run.ticks.now) == (DeadlineError, 3)
    assert (run._parked, run._timers, run.left) == ({}, {}, [])


def test_a_return_forgets_a_wait():
    run = Alone(bind(does("long", lambda c: Wait(500, lambda: 1)), waits("nap"), returns("nap"))).go()
    assert (run.root.value(), run.ticks.now, run.left, run.status["long"]) == (42, 1, [], "cancelled")


# ---- retries ---------------------------------------------------------------------------------------------------------
class Flaky:
    """Fails so many times, then gives its number of calls."""

    def __init__(self, failures, error=TransientError, raises=True):
        self.failures, self.error, self.raises, self.attempts = failures, error, raises, []

    def __call__(self, context, *_):
        self.attempts.append(context.attempt)
        if len(self.attempts) <= self.failures:
            if self.raises:
                raise self.error("not yet")
            return Fail(self.error("not yet"))
        return len(self.attempts)

    async def later(self, context, *_):
        return self(context)


@pytest.mark.parametrize("failures", [1, 2])
@pytest.mark.parametrize("raises", [True, False])
def test_a_transient_failure_of_a_node_that_waits_is_tried_again(failures, raises):
    flaky = Flaky(failures, raises=raises)
    run = Alone(bind(awaits("op", flaky.later)), watched=True).go()
    assert (run.root.value(), run.retried, flaky.attempts) == (failures + 1, failures, list(range(1, failures + 2)))
    assert [event.attempt for event in run.seen(NodeRetried)] == list(range(1, failures + 1))
    assert len(run.seen(NodeStarted)) == 1


@pytest.mark.parametrize("watched", [True, False])
def test_a_transient_failure_of_a_node_that_does_not_wait_is_tried_again(watched):
    flaky = Flaky(2)
    run = Alone(bind(does("op", flaky), waits("nap", "op")), watched=watched).go()
    assert (run.error, run.retried, len(flaky.attempts)) == (None, 2, 3)
    assert not run.root.running


@pytest.mark.parametrize(("config", "own", "calls_made"), [(2, None, 3), (0, None, 1), (2, 0, 1), (0, 4, 5)])
def test_a_node_is_tried_again_as_often_as_it_says_or_else_the_configuration(config, own, calls_made):
    flaky = Flaky(100)
    attributes = {} if own is None else {"retries": own}
    run = Alone(bind(does("op", flaky, attributes=attributes)), retries=config).go()
    assert (len(flaky.attempts), run.error.attempt, run.retried) == (calls_made, calls_made, calls_made - 1)


@pytest.mark.parametrize("budget", [0, 1, 3])
def test_all_retries_of_a_run_draw_from_one_budget(budget):
    first, second = Flaky(100), Flaky(100)
    nodes = bind(does("a", first, fallback=0), does("b", second, fallback=0))
    run = Alone(nodes, retries=50, retry_budget=budget).go()
    assert run.retried == budget
    assert len(first.attempts) + len(second.attempts) == budget + 2


def test_the_pause_before_a_retry_grows_to_its_cap_with_full_jitter():
    flaky, chance = Flaky(5), random.Random(7)
    run = Alone(bind(does("op", flaky)), watched=True, retries=9, retry_base_ms=1_000, retry_cap_ms=5_000, seed=7).go()
    pauses = [event.seconds for event in run.seen(NodeRetried)]
    assert pauses == pytest.approx([chance.random() * most for most in (1, 2, 4, 5, 5)])
    assert run.ticks.now == pytest.approx(sum(pauses))


@pytest.mark.parametrize("error", [RaisedError, ValueError, DeadlineError])
def test_other_failures_are_not_tried_again(error):
    flaky = Flaky(1, error)
    assert Alone(bind(does("op", flaky, fallback="fb"))).go().root.value() == "fb"
    assert flaky.attempts == [1]


def test_a_failure_after_a_call_went_out_is_its_callers_business():
    tries = []

    def called(context):
        tries.append(1)
        error = TransientError("lost")
        error.called = True
        raise error

    assert Alone(bind(does("op", called, fallback="fb"))).go().root.value() == "fb"
    assert tries == [1]


def test_nothing_is_tried_again_once_a_return_fired():
    tries = []

    async def slow(context):
        tries.append(1)
        await asyncio.sleep(5)
        raise TransientError("not yet")

    run = Alone(bind(awaits("op", slow, effect=GUARDED), waits("nap"), returns("nap"))).go()
    assert (tries, run.retried, str(run.error)) == ([1], 0, "not yet")


# ---- time limits -----------------------------------------------------------------------------------------------------
def test_a_node_that_waits_too_long_failed():
    run = Alone(bind(waits("op", seconds=60, attributes={"timeout_s": 2.0}, fallback="fb"))).go()
    assert (run.root.value(), run.ticks.now, type(run.errors[0])) == ("fb", 2, DeadlineError)


def test_a_timeout_that_a_handler_raises_itself_is_no_time_limit_of_the_node():
    async def own(context):
        raise TimeoutError("its own")

    run = Alone(bind(awaits("op", own, attributes={"timeout_s": 9.0}))).go()
    assert (type(run.error), run.error.message) == (HandlerError, "TimeoutError: its own")


@pytest.mark.parametrize(
    ("run_s", "node_s", "expected"), [(None, 4.0, 5.0), (3.0, 4.0, 3.0), (60.0, 4.0, 5.0), (60.0, None, 60.0)]
)
def test_a_handler_knows_the_nearest_of_its_deadlines(run_s, node_s, expected):
    seen = []

    async def look(context, *_):
        seen.append(context.deadline)

    limits = {} if node_s is None else {"timeout_s": node_s}
    Alone(bind(waits("nap"), awaits("look", look, "nap", attributes=limits)), deadline_s=run_s).go()
    assert seen == [pytest.approx(expected)]


@both
def test_frames_that_wait_longer_than_the_time_of_their_node_are_closed_and_the_run_goes_on(stealing):
    nodes = bind(
        opens("all", [does("long", lambda c: Wait(500, lambda: 1))], timeout_s=2.0, fallback="fb"),
        N("next", lambda x: x, ("all",)),
    )
    run = Alone(nodes, enable_work_stealing=stealing).go()
    assert (run.root.outputs(), run.ticks.now, run.left) == ({"next": "fb"}, 2, [])


def test_frames_that_wait_too_long_end_the_run_though_no_worker_is_awake():
    run = Alone(bind(opens("all", [does("long", lambda c: Wait(500, lambda: 1))], timeout_s=2.0))).go()
    assert (type(run.error), run.error.node, run.ticks.now) == (DeadlineError, "all", 2)


def test_a_node_that_ended_in_time_is_left_alone_by_its_time_limit():
    run = Alone(bind(opens("all", [waits("x")], timeout_s=2.0), waits("long", seconds=9))).go()
    assert (run.error, run.root.outputs()) == (None, {"all": ["woke"], "long": "woke"})


def test_a_node_that_was_cancelled_does_not_fail_when_its_time_is_up():
    async def stubborn(context):
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(5)

    run = Alone(bind(opens("all", [awaits("x", stubborn)], timeout_s=2.0)), deadline_s=1, grace_ms=60_000).go()
    assert (run.failures, run.status["all"], run.ticks.now) == (0, CANCELLED, 6)


# ---- workers ---------------------------------------------------------------------------------------------------------
def test_a_second_wave_waits_at_once_as_the_first_did():
    first = [waits(f"a{place}") for place in range(4)]
    names = tuple(node.name for node in first)
    between = does("between", lambda c, *_: 1, *names)
    run = Alone(bind(*first, between, *(waits(f"b{place}", "between") for place in range(4)))).go()
    assert run.ticks.now == 2
    assert run.parallelism_max == 4


def test_every_wave_waits_at_once_whoever_had_the_wave_before():
    nodes = []
    for wave in range(8):
        before = (f"join{wave - 1}",) if wave else ()
        nodes += [waits(f"a{wave}", *before), waits(f"b{wave}", *before)]
        nodes.append(does(f"join{wave}", lambda c, *_: 1, f"a{wave}", f"b{wave}"))
    assert Alone(bind(*nodes), max_parallelism=2).go().ticks.now == 8


@both
@pytest.mark.parametrize("most", [1, 2, 3])
def test_nested_frames_wait_at_most_as_many_at_once_as_the_configuration_says(most, stealing):
    inner = opens("inner", *([waits("x"), waits("y", "x")] for _ in range(3)), window=3)
    outer = [[inner] for _ in range(2)]
    config = {"max_parallelism": most, "enable_work_stealing": stealing}
    run = Alone(bind(opens("outer", *outer, window=2), waits("last", "outer")), **config).go()
    assert (run.root.value(), run.error) == ("woke", None)
    assert run.parallelism_max <= most
    assert run.live_frames == 0


def test_what_was_cancelled_while_it_stood_in_line_is_not_started():
    started = []

    async def loser(context):
        started.append(1)

    first = N("race", lambda x: x, ("a", "b"), op="MERGE", attributes={"mode": "race"})
    run = Alone(bind(awaits("b", loser), waits("a"), first), max_parallelism=1).go()  # of two ready nodes the newest is first
    assert started == []
    assert (run.root.value(), run.status["b"]) == ("woke", CANCELLED)


def test_a_decided_race_does_not_start_pure_nodes_that_lost():
    called = []
    lost = [N("far", lambda: called.append(1)), N("near", None, ("far",))]
    race = N("race", lambda x: x, ("near", "won"), op="MERGE", attributes={"mode": "race"})
    run = Alone(bind(N("rest"), *lost, does("won", lambda c: "won"), race, does("after", lambda c, x: x, "rest"))).go()
    assert (run.root.outputs(), called, run.status["far"]) == ({"race": "won", "after": "rest"}, [], CANCELLED)


def test_a_worker_whose_handler_was_stopped_is_as_good_as_new():
    counts = []

    async def later(context, *_):
        counts.append(asyncio.current_task().cancelling())
        await asyncio.sleep(1)  # so that every worker takes one

    race = N("race", lambda x: x, ("quick", "slow"), op="MERGE", attributes={"mode": "race"})
    nodes = [waits("quick"), waits("slow", seconds=60), race, *(awaits(f"n{place}", later, "race") for place in range(2))]
    run = Alone(bind(*nodes), max_parallelism=2).go()
    assert (counts, run.error, run.ticks.now) == ([0, 0], None, 2)


def test_an_exception_that_is_no_failure_ends_the_run_as_itself():
    class Alarm(BaseException):
        pass

    async def alarm(context):
        raise Alarm

    run = Alone(bind(waits("nap"), awaits("alarm", alarm)))
    with pytest.raises(Alarm):
        run.go()


@both
def test_a_lost_token_is_reported_instead_of_waited_for(stealing):
    def lose(context, *_):
        run.workers[0].cheap.clear()

    nodes = [does("kept", lambda c, _: 1, "first"), does("lose", lose, "first")]
    run = Alone(bind(waits("first"), *nodes), enable_work_stealing=stealing)
    assert isinstance(run.go().error, StuckError)
    run = Alone(bind(does("first", lambda c: 1), *nodes))
    assert isinstance(run.go().error, StuckError)


async def turns(run, seen):
    while True:
        seen.append(run.ticks.now)
        await asyncio.sleep(0)


def longest_gap(seen):
    return max(later - sooner for sooner, later in pairwise(seen))


def test_nodes_that_do_not_wait_let_others_have_their_turn():
    seen = [0.0]
    tick = lambda c, *_: run.ticks.advance(0.001)  # noqa: E731
    nodes = bind(does("n0", tick), *(does(f"n{place}", tick, f"n{place - 1}") for place in range(1, 100)))
    run = Alone(nodes, max_parallelism=1)
    run.go(turns(run, seen))
    assert run.ticks.now == pytest.approx(0.1)
    assert longest_gap(seen) < 0.01


@pytest.mark.parametrize("static", [True, False])
def test_pure_nodes_let_others_have_their_turn_between_leases(static):
    seen = [0.0]
    tick = lambda *_: run.ticks.advance(0.001)  # noqa: E731
    run = Alone(chain(1_000, tick), static=static, max_parallelism=1)
    run.go(turns(run, seen))
    assert run.ticks.now == pytest.approx(1)
    assert longest_gap(seen) < 0.2
    assert run.executed == 1_000


def test_a_run_on_the_loop_of_its_caller_leaves_it_when_its_turn_is_over():
    tick = lambda c, *_: run.ticks.advance(0.001)  # noqa: E731
    run = Alone(bind(does("n0", tick), *(does(f"n{place}", tick, f"n{place - 1}") for place in range(1, 100))))
    run.shared_loop = True
    assert not run.drive_inline()
    assert run.ticks.now < 0.01
    assert run.go().executed == 100


def test_a_loop_that_gives_way_opens_its_cleanup_first_so_that_no_cancellation_comes_between():
    done = []
    last = bind(does("clean", lambda c: done.append(1)), region=True)

    def finish(results):
        run.ticks.advance(0.004)  # the slice is over
        run.ask_cancel(RunCancelled("no"))
        return Spawn((Child(last, [], "finally"),), lambda results: "value", shielded=True)

    tried = bind(waits("x"), region=True)
    run = Alone(bind(does("try", lambda c: Spawn((Child(tried, [], "try"),), finish), attributes={"opens": True})))
    assert (type(run.go().error), done) == (RunCancelled, [1])


@pytest.mark.parametrize("loops", [5, 500])
def test_a_loop_of_frames_gives_way_and_comes_back(loops):
    tick = lambda *_: run.ticks.advance(0.001)  # noqa: E731
    body, turns_done = bind(N("tick", tick), region=True), []

    def again(results):
        turns_done.append(1)
        return Spawn((Child(body, [], len(turns_done)),), again) if len(turns_done) < loops else "done"

    run = Alone(bind(does("loop", lambda c: Spawn((Child(body, [], 0),), again), attributes={"opens": True})))
    run.shared_loop = True
    assert (run.go().root.value(), len(turns_done)) == ("done", loops)


# ---- the end ---------------------------------------------------------------------------------------------------------
def test_a_cancellation_before_anything_began_lets_nothing_begin():
    begun = []
    for node in (does("n", lambda c: begun.append(1)), N("n", lambda: begun.append(1)), waits("n")):
        run = Alone(bind(node))
        run.ask_cancel(RunCancelled("no"))
        run.go()
        assert (type(run.error), run.executed, begun) == (RunCancelled, 0, [])
        assert run.ticks.now == 0


def test_a_cancellation_between_the_callers_thread_and_the_loop_is_not_lost():
    run = Alone(bind(does("first", lambda c: 1), waits("nap", "first", seconds=60)))
    assert not run.drive_inline()
    run.ask_cancel(RunCancelled("no"))
    assert (type(run.go().error), run.ticks.now, run.executed) == (RunCancelled, 0, 1)


@both
def test_cleanup_runs_though_no_worker_was_awake_when_the_deadline_came(stealing):
    done = []
    last = Child(bind(does("clean", lambda c: done.append(1)), region=True), [], "finally")
    tried = opens("try", [does("long", lambda c: Wait(500, lambda: 1))], isolate=True, cleanup=last)
    run = Alone(bind(tried), deadline_s=3, enable_work_stealing=stealing).go()
    assert (done, type(run.error), run.ticks.now) == ([1], DeadlineError, 3)


def test_the_end_of_a_run_leaves_no_timer_on_the_loop():
    run = Alone(bind(opens("all", [waits("x")], timeout_s=500.0)), deadline_s=900).go()
    assert (run.error, run.ticks.now, run.left) == (None, 1, [])


def test_a_handler_that_never_obeys_is_given_up_after_the_grace_period():
    stop = []

    async def deaf(context):
        while not stop:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                continue

    run = Alone(bind(awaits("deaf", deaf), waits("fine", seconds=60)), deadline_s=3, grace_ms=4_000)
    assert not run.drive_inline()
    loop = run.ticks.new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(run.drive(), 60))
        assert (run.abandoned, type(run.error)) == (["deaf"], DeadlineError)
        assert run.ticks.now == pytest.approx(7, abs=0.1)
        stop.append(1)
        loop.run_until_complete(asyncio.wait(asyncio.all_tasks(loop)))
    finally:
        loop.close()
    assert (run.status["deaf"], run.root.todo) == (CANCELLED, 0)


def test_the_first_error_of_a_run_stays_whatever_comes_while_it_ends():
    async def bad(context):
        await asyncio.sleep(1)
        raise RaisedError("first")

    async def slow(context):
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(5)

    run = Alone(bind(awaits("bad", bad), awaits("slow", slow)), deadline_s=3, grace_ms=60_000).go()
    assert (str(run.error), run.ticks.now, run.left) == ("first", 6, [])


# ---- leases ----------------------------------------------------------------------------------------------------------
def chain(count, fn=lambda *_: 1, **special):
    nodes = [N("n0", fn)] + [N(f"n{place}", fn, (f"n{place - 1}",)) for place in range(1, count)]
    for name, (own, fallback) in special.items():
        nodes[int(name[1:])].fn, nodes[int(name[1:])].fallback = own, fallback
    return bind(*nodes)


ways = pytest.mark.parametrize("way", [{}, {"static": False}, {"watched": True}])


@ways
@pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 129, 300, 3_000])
def test_what_ran_is_what_the_ledger_was_charged(way, count):
    run = Alone(chain(count), nodes=10_000, **way).go()
    assert (run.executed, run.ledger.spent()["nodes"]) == (count, count)
    run.release()
    assert run.ledger.spent()["nodes"] == count


@ways
@pytest.mark.parametrize("kind", ["pure", "sync", "async"])
def test_exactly_as_many_nodes_run_as_the_budget_says(way, kind):
    ran = []

    async def later(context, *_):
        ran.append(1)

    make = {"pure": lambda n, *i: N(n, lambda *_: ran.append(1), i), "sync": lambda n, *i: does(n, lambda *_: ran.append(1), *i)}
    node = make.get(kind, lambda n, *i: awaits(n, later, *i))
    run = Alone(bind(node("n0"), *(node(f"n{place}", f"n{place - 1}") for place in range(1, 200))), nodes=150, **way).go()
    assert (type(run.error), len(ran), run.executed) == (BudgetError, 150, 150)


@ways
@pytest.mark.parametrize("bad", [0, 1, 63, 64, 65, 130, 199])
@pytest.mark.parametrize("how", ["raises", "refused"])
def test_a_failed_node_fires_once_is_charged_once_and_the_rest_goes_on(way, bad, how):
    tries = []

    def failing(*_):
        tries.append(1)
        return 1 // 0 if how == "raises" else object()

    run = Alone(chain(200, **{f"n{bad}": (failing, "fb")}), nodes=10_000, **way).go()
    assert (tries, run.error, run.failures, run.executed) == ([1], None, 1, 199)
    assert {run.status[f"n{place}"] for place in range(200)} == {"done"}
    spent = run.ledger.spent()["nodes"]
    assert spent >= 200
    assert how == "refused" or spent == 200


@ways
def test_a_structured_result_is_copied_on_whatever_way_it_goes(way):
    mine = [1]
    nodes = [N("plain", lambda: mine), N("routed", lambda: mine), N("after", lambda x: x, ("plain",))]
    seen = N("caught", lambda e: e, (on("routed", "error"),))
    run = Alone(bind(*nodes, seen, exits=("plain", "routed", "after")), **way).go()
    mine.append(2)
    assert run.root.outputs() == {"plain": [1], "routed": [1], "after": [1]}


@ways
@pytest.mark.parametrize("routed", [True, False])
def test_a_result_that_no_token_may_carry_is_a_failure_and_not_counted_as_done(way, routed):
    nodes = [N("fine", lambda: 1), N("bad", lambda x: object(), ("fine",)), N("met", lambda x: x, ("bad",))]
    nodes += [N("caught", lambda e: e["code"], (on("bad", "error"),))] if routed else []
    run = Alone(bind(*nodes), **way).go()
    assert [(error.code, error.node) for error in run.errors] == [("value", "bad")]
    assert run.executed == (2 if routed else 1)


@ways
def test_a_node_that_gave_what_no_token_may_carry_is_to_blame_for_what_its_consumers_did_with_it(way):
    nodes = [N("fine", lambda: 1), N("bad", lambda x: object(), ("fine",)), N("met", int, ("bad",))]
    run = Alone(bind(*nodes), **way).go()
    assert [(error.code, error.node) for error in run.errors] == [("value", "bad")]
    assert run.status == {"fine": "done", "bad": "failed", "met": "cancelled"}


def test_a_lease_grows_while_nodes_are_quick_and_shrinks_when_they_are_slow():
    run = Alone(chain(5_000)).go()
    assert run.quota == 1_024
    slow = Alone(chain(600, lambda *_: slow.ticks.advance(0.1)))
    slow.go()
    assert slow.quota < 64


def test_a_deadline_is_seen_between_leases_though_nothing_waits():
    run = Alone(chain(2_000, lambda *_: run.ticks.advance(0.01)), deadline_s=0.5)
    assert run.drive_inline()
    assert isinstance(run.error, DeadlineError)
    assert run.ticks.now < 5


def test_cleanup_needs_no_budget():
    done = []
    last = Child(bind(does("clean", lambda c: done.append(1)), region=True), [], "finally")
    tried = opens("try", [waits("x", seconds=60)], isolate=True, cleanup=last)
    run = Alone(bind(tried, waits("short"), waits("over", "short"), waits("budget", "over")), nodes=3).go()
    assert (type(run.error), done) == (BudgetError, [1])


def test_after_a_return_effects_still_need_budget():
    done = []
    nodes = [waits("nap"), does("op", lambda *_: done.append(1), "nap", effect=GUARDED), returns("nap")]
    assert (Alone(bind(*nodes), nodes=3).go().error, done) == (None, [1])
    run = Alone(bind(*nodes), nodes=2).go()
    assert (type(run.error), done) == (BudgetError, [1])


# ---- events ----------------------------------------------------------------------------------------------------------
def test_every_node_that_ran_says_when_it_started_and_ended():
    callee = bind(N("pure"), does("sync", lambda c: 1), waits("async"))
    run = Alone(
        bind(calls("call", callee), does("skips", lambda c: Route("x", 1)), N("dead", None, (on("skips", "y"),))), watched=True
    )
    run.go()
    assert sorted(event.name for event in run.seen(NodeStarted)) == ["async", "call", "pure", "skips", "sync"]
    ended = {event.name: event.outcome for event in run.seen(NodeEnded)}
    assert ended == dict.fromkeys(("async", "call", "pure", "skips", "sync"), "done") | {"dead": "skipped"}
    assert run._started == {}


def test_only_a_choice_that_fired_has_a_winner():
    route = does("r", lambda c: Route("x", 1))
    merge = {"op": "MERGE", "attributes": {"mode": "any"}}
    barred = N("barred", lambda x: x, ("a", control("late", "y")), **merge)
    fired = N("fired", lambda x: x, ("r", "a"), **merge)
    late = does("late", lambda c, _: Route("x", 1), "a")
    run = Alone(bind(N("a"), route, late, barred, fired), watched=True).go()
    winners = {event.name: event.winner for event in run.seen(NodeEnded)}
    assert (winners["barred"], winners["fired"] in (0, 1), winners["a"]) == (None, True, None)
