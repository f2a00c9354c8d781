"""The fast tiers and the slow one: the same rules, on whatever way a frame runs."""

from __future__ import annotations

from apxm.outcome import Route
from tests.unit.engine.alone import Alone, does, waits
from tests.unit.engine.test_local import GUARDED, chain, opens, returns, ways
from tests.unit.scheduler.dags import N, on
from tests.unit.scheduler.flights import bind, calls


@ways
def test_a_pure_node_that_collects_is_never_called_with_a_dead_input(way):
    route = does("r", lambda c: Route("x", 1))
    dead, gather = N("dead", lambda x: x, (on("r", "y"),)), N("all", lambda *values: list(values), ("dead", "a"), op="WAIT_ALL")
    run = Alone(bind(route, N("a", lambda: 2), dead, gather, N("late", len, ("all",)), exits=("all", "late")), **way).go()
    assert run.root.outputs() == {"all": [2], "late": 1}


def test_frames_that_ended_in_static_form_are_not_alive_and_are_forgotten():
    callee = bind(N("x"), N("y", None, ("x",)))
    run = Alone(
        bind(opens("all", *([N("x")] for _ in range(9))), calls("call", callee, "all"), waits("nap", "call")), max_frames=2
    )
    assert not run.drive_inline()
    assert (list(run.frames()), run.live_frames) == ([run.root], 1)
    assert run.go().error is None


def test_a_return_does_not_begin_the_pure_nodes_that_are_ready():
    called = []
    nodes = [
        waits("nap"),
        waits("op", seconds=9, effect=GUARDED),
        N("pure", lambda x: called.append(x), ("nap",)),
        returns("nap"),
    ]
    run = Alone(bind(*nodes)).go()
    assert (run.root.value(), called, run.status["op"]) == (42, [], "done")


def test_a_lease_that_had_grown_shrinks_again():
    called = []

    def tick(*_):
        called.append(1)
        run.ticks.advance(0.1 if len(called) > 4_000 else 0)

    run = Alone(chain(9_000, tick))
    run.go()
    assert (run.error, run.quota < 64) == (None, True)
