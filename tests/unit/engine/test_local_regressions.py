"""Each of these failed once: one run on its loop."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from apxm.errors import BudgetError, HandlerError, InvalidError, RunCancelled, TransientError
from apxm.outcome import Child, Spawn
from apxm.scheduler.binding import WAITING
from apxm.scheduler.work_stealing import RESUME, Worker
from tests.unit.engine.alone import Alone, awaits, does, waits
from tests.unit.scheduler.dags import N, on
from tests.unit.scheduler.flights import bind

GUARDED = 4


def opens(name, *bodies, then=lambda results: [each.value for each in results], fallback=None, timeout_s=None, ins=(), **spawn):
    attributes = {"opens": True} | ({"timeout_s": timeout_s} if timeout_s is not None else {})
    bound = [bind(*nodes, region=True) for nodes in bodies]

    def fire(context, *_):
        return Spawn(tuple(Child(body, [], step) for step, body in enumerate(bound)), then, **spawn)

    return does(name, fire, *ins, attributes=attributes, fallback=fallback)


def test_a_node_that_fails_at_a_bound_closes_what_it_has_open_first():
    marked = []

    async def mark(context):
        await asyncio.sleep(1)
        marked.append(1)

    items = opens("all", *([awaits("mark", mark)] for _ in range(6)), window=6, fallback="fb")
    later = [waits(f"t{place}", f"t{place - 1}" if place else "all") for place in range(10)]
    run = Alone(bind(items, *later), max_frames=3).go()
    assert (marked, run.error, run.root.outputs(), run.live_frames) == ([], None, {"t9": "woke"}, 0)
    assert [error.code for error in run.errors] == ["limit"]
    run = Alone(bind(opens("all", *([awaits("mark", mark)] for _ in range(6)), window=6)), max_frames=3).go()
    assert (type(run.error), marked, run.live_frames) == (InvalidError, [], 0)


@pytest.mark.parametrize("good", [0, 1, 3])
def test_a_child_that_cannot_be_made_is_a_failure_of_its_node(good):
    body = bind(waits("x"), region=True)

    def children():
        for step in range(good):
            yield Child(body, [], step)
        raise ValueError("no more")

    run = Alone(bind(does("all", lambda c: Spawn(children(), len, window=5), fallback="fb"), N("out", None, ("all",)))).go()
    assert (run.root.outputs(), run.errors[0].node, run.live_frames) == ({"out": "fb"}, "all", 0)


@pytest.mark.parametrize("bad", range(8, 60, 3))
def test_a_failure_after_any_number_of_turns_in_static_form_ends_nothing_but_its_node(bad):
    calls = []

    def tick(*_):
        calls.append(1)
        run.ticks.advance(0.004)  # longer than a slice: the run gives way at every lease, however long leases are
        if len(calls) == bad:
            raise ValueError("x")
        return 1

    nodes = [N("n0", tick), *(N(f"n{place}", tick, (f"n{place - 1}",), fallback=0) for place in range(1, 80))]
    run = Alone(bind(*nodes))
    run.shared_loop = True
    run.go()
    assert (len(calls), run.executed, run.failures) == (80, 79, 1)


def test_a_frame_that_gave_way_is_queued_once_however_often_its_run_begins():
    run = Alone(
        bind(N("n0"), *(N(f"n{place}", lambda *_: run.ticks.advance(0.004), (f"n{place - 1}",)) for place in range(1, 80)))
    )
    run.shared_loop = True
    worker = run.workers[0]
    assert not run.drive_inline()
    run._begin(worker)
    assert worker.opening == [(run.root, RESUME)]
    run.go()
    assert run.executed == 80


@pytest.mark.parametrize("later", [True, False])
def test_a_retry_that_meets_an_exhausted_budget_is_over(later):
    async def waits_first(context):
        raise TransientError("not yet")

    def at_once(context):
        raise TransientError("not yet")

    op = awaits("op", waits_first) if later else does("op", at_once)
    run = Alone(bind(op), nodes=2, retries=9).go()
    assert (type(run.error), run.abandoned, run.status["op"], run.executed) == (BudgetError, [], "cancelled", 0)


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("kind", ["pure", "sync", "async"])
def test_a_cleanup_that_has_begun_is_finished_though_the_budget_ends_in_it(kind, static):
    done = []

    async def later(context, *_):
        done.append(1)

    make = {
        "pure": lambda n, *i: N(n, lambda *_: done.append(1), i),
        "sync": lambda n, *i: does(n, lambda *_: done.append(1), *i),
    }
    node = make.get(kind, lambda n, *i: awaits(n, later, *i))
    steps = [node("s0"), *(node(f"s{place}", f"s{place - 1}") for place in range(1, 200))]
    run = Alone(bind(opens("last", steps, shielded=True, isolate=True)), nodes=50, static=static).go()
    assert (type(run.error), len(done)) == (BudgetError, 200)


def test_cleanup_gives_no_nodes_back_that_it_did_not_lease():
    steps = [does("s0", lambda c: 1), *(does(f"s{place}", lambda c, _: 1, f"s{place - 1}") for place in range(1, 300))]
    last = bind(*steps, region=True)
    bodies = bind(waits("x", seconds=60), region=True)
    tidy = does("t", lambda c: Spawn((Child(bodies, [], 0),), len, isolate=True, cleanup=Child(last, [], "finally")))
    for deadline_s in (1, 2):
        run = Alone(bind(waits("nap"), tidy), deadline_s=deadline_s).go()
        assert run.executed >= 300
        assert run.ledger.spent()["nodes"] >= 3


def test_a_cancellation_before_the_loop_needs_no_worker():
    run = Alone(bind(waits("nap", seconds=60)), enable_work_stealing=False)
    assert not run.drive_inline()
    run.ask_cancel(RunCancelled("no"))
    assert (type(run.go().error), run.ticks.now) == (RunCancelled, 0)


def test_a_handler_that_raises_a_cancellation_of_its_own_failed():
    async def drop(context):
        raise asyncio.CancelledError

    run = Alone(bind(waits("nap"), awaits("drop", drop, fallback="fb"), waits("after", "drop"))).go()
    assert (run.error, run.root.outputs()) == (None, {"nap": "woke", "after": "woke"})


@pytest.mark.parametrize("kind", ["pure", "sync", "async"])
def test_a_handler_that_exits_ends_its_run_and_not_the_loop(kind):
    def leave(*_):
        raise SystemExit(3)

    async def later(*_):
        raise SystemExit(3)

    make = {"pure": lambda: N("leave", leave, ("nap",)), "sync": lambda: does("leave", leave, "nap")}
    node = make.get(kind, lambda: awaits("leave", later, "nap"))()
    with pytest.raises(HandlerError, match="SystemExit"):
        Alone(bind(waits("nap"), node)).go()


def test_a_crash_does_not_wait_for_ever_for_a_handler_that_never_obeys():
    stop = []

    async def deaf(context):
        while not stop:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                continue

    async def alarm(context):
        await asyncio.sleep(1)
        raise SystemExit

    run = Alone(bind(awaits("deaf", deaf), awaits("alarm", alarm)), grace_ms=4_000)
    assert not run.drive_inline()
    loop = run.ticks.new_event_loop()
    try:
        with pytest.raises(HandlerError):
            loop.run_until_complete(asyncio.wait_for(run.drive(), 60))
        stop.append(1)
        loop.run_until_complete(asyncio.wait(asyncio.all_tasks(loop)))
    finally:
        loop.close()


def test_a_worker_that_was_stopped_twice_is_as_good_as_new():
    counts = []

    async def slow(context):
        try:
            await asyncio.sleep(100)
        finally:
            for _ in range(3):
                try:
                    await asyncio.sleep(1)
                except asyncio.CancelledError:
                    continue

    async def bad(context):
        await asyncio.sleep(0.1)
        raise ValueError

    async def later(context, *_):
        counts.append(asyncio.current_task().cancelling())

    items = opens("all", [awaits("slow", slow), awaits("bad", bad)], isolate=True, timeout_s=1.5, fallback="late")
    run = Alone(bind(items, *(awaits(f"n{place}", later, "all") for place in range(4))), max_parallelism=2).go()
    assert (run.error, counts) == (None, [0, 0, 0, 0])


def test_a_worker_that_two_time_limits_stopped_is_as_good_as_new():
    counts = []

    async def stubborn(context):
        try:
            await asyncio.sleep(100)
        finally:
            for _ in range(3):
                try:
                    await asyncio.sleep(1)
                except asyncio.CancelledError:
                    continue

    async def later(context, *_):
        counts.append(asyncio.current_task().cancelling())

    inner = opens("inner", [awaits("slow", stubborn)], timeout_s=1.5)
    outer = opens("outer", [inner], timeout_s=2.0, fallback="late")
    run = Alone(bind(outer, awaits("after", later, "outer")), max_parallelism=1).go()
    assert (run.error, counts) == (None, [0])


def test_what_a_run_remembers_does_not_grow_with_the_number_of_its_waits():
    most = []

    async def look(context, *_):
        await asyncio.sleep(1)
        most.append(len(run._rich))

    run = Alone(bind(*(awaits(f"n{place}", look) for place in range(500))), max_parallelism=2)
    run.go()
    assert max(most) <= 2


def test_a_worker_that_was_found_without_work_can_be_robbed_when_it_has_some_again():
    run = Alone(bind(N("x")))
    run._settle_in()
    poor, rich, thief = Worker(1), Worker(2), Worker(3)
    rich.push(WAITING, run.root, 0)
    for worker in (poor, rich):
        run._list(worker)
    while run._steal(thief):
        pass
    poor.push(WAITING, run.root, 0)
    run._list(poor)
    assert run._steal(thief)


def test_a_time_limit_is_forgotten_with_the_node_it_was_for():
    seen = []

    async def look(context, *_):
        await asyncio.sleep(1)
        seen.append(len(run._timers))

    one = opens("one", [awaits("x", look)], timeout_s=3_600)
    run = Alone(bind(opens("all", *([one] for _ in range(20)))))
    run.go()
    assert max(seen) <= 1
    assert run._timers == {}


@pytest.mark.parametrize("way", [{}, {"static": False}, {"watched": True}])
@pytest.mark.parametrize("edge", [True, False])
def test_a_transient_failure_of_a_pure_node_is_tried_again_on_whatever_way_it_runs(way, edge):
    tries = []

    def flaky():
        tries.append(1)
        if len(tries) < 3:
            raise TransientError("not yet")
        return len(tries)

    nodes = [N("op", flaky), N("beside", lambda: 1), N("after", lambda x: x, ("op",))]
    nodes += [N("caught", lambda e: e, (on("op", "error"),))] if edge else []
    run = Alone(bind(*nodes), **way).go()
    assert (run.error, run.retried, len(tries)) == (None, 2, 3)
    assert run.root.outputs() == {"beside": 1, "after": 3}


async def turns(run, seen, pause=0.0):
    while True:
        seen.append(run.ticks.now)
        await asyncio.sleep(pause)


@pytest.mark.parametrize("stealing", [True, False])
def test_a_run_that_does_not_wait_keeps_the_loop_for_one_slice_however_many_workers_it_may_have(stealing):
    seen: list[float] = []
    tick = lambda c, *_: run.ticks.advance(0.001)  # noqa: E731
    nodes = bind(does("n0", tick), *(does(f"n{place}", tick, f"n{place - 1}") for place in range(1, 300)))
    run = Alone(nodes, enable_work_stealing=stealing)
    run.go(turns(run, seen))
    assert max(later - sooner for sooner, later in pairwise(seen)) < 0.02


def test_a_run_that_waits_and_works_keeps_the_loop_for_one_slice():
    seen: list[float] = []
    tick = lambda c, *_: run.ticks.advance(0.001)  # noqa: E731
    lines = []
    for line in range(20):
        lines.append(waits(f"w{line}"))
        lines += [does(f"n{line}_{k}", tick, f"n{line}_{k - 1}" if k else f"w{line}") for k in range(20)]
    run = Alone(bind(*lines))
    run.go(turns(run, seen, 0.0005))
    assert max(later - sooner for sooner, later in pairwise(seen)) < 0.02
