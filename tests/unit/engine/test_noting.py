"""What a run puts on record of its firings: the tries of a node, its times, and in batches."""

import pytest

from apxm.engine.noting import NotedRun
from apxm.memory.episodic import RecentEpisodes
from apxm.scheduler.binding import PURE
from tests.unit.engine.alone import Alone, does, waits
from tests.unit.engine.test_local import Flaky
from tests.unit.scheduler.dags import N
from tests.unit.scheduler.flights import bind, calls


class Noted(Alone, NotedRun):
    """A run by hand that notes its firings."""

    def kept(self):
        assert self.episodes is not None
        return {one.name: one for one in self.episodes}


def test_tries_are_counted_and_a_firing_takes_as_long_as_its_last():
    flaky = Flaky(2)
    run = Noted(bind(does("op", flaky), waits("nap", "op", seconds=7.0))).go()
    kept = run.kept()
    assert (kept["op"].attempt, kept["op"].outcome, kept["nap"].attempt) == (3, "done", 1)
    assert (kept["op"].duration_ms, kept["nap"].duration_ms) == (0.0, 7_000.0)


def test_a_node_that_fails_in_the_end_has_the_code_of_its_error():
    run = Noted(bind(does("op", Flaky(9)), N("after", lambda value: value, ("op",), kind=PURE))).go()
    kept = run.kept()
    assert (kept["op"].outcome, kept["op"].code, kept["op"].attempt) == ("failed", "transient", 3)
    assert "after" not in kept


def test_a_pure_node_that_raises_beside_one_that_is_not_pure_is_on_record():
    run = Noted(bind(does("slow", lambda *_: 0), N("fine", lambda: 1), N("bad", lambda one: 1 // 0, ("fine",)))).go()
    kept = run.kept()
    assert (kept["bad"].outcome, kept["bad"].code, kept["fine"].outcome) == ("failed", "handler", "done")


@pytest.mark.parametrize("beside", [[], [does("slow", lambda *_: 0)]], ids=["pure", "beside a slow one"])
def test_what_gives_a_list_the_first_time_is_on_record_once_and_so_is_what_follows(beside):
    run = Noted(
        bind(
            N("list", lambda: [1, 2]), N("first", lambda one: one[0], ("list",)), N("last", lambda one: one, ("first",)), *beside
        )
    )
    run.go()
    assert sorted(one.name for one in run.episodes) == sorted(["list", "first", "last", *(one.name for one in beside)])


def test_a_call_of_a_flow_of_pure_nodes_is_on_record_and_so_is_what_is_in_it():
    inner = bind(N("one", lambda: 1), N("two", lambda one: one + 1, ("one",)))
    run = Noted(bind(calls("call", inner), N("after", lambda one: one, ("call",)))).go()
    assert sorted(one.name for one in run.episodes) == ["after", "call", "one", "two"]
    assert run.kept()["call"].path == ()
    assert run.kept()["two"].path != ()


def test_a_node_that_is_cancelled_says_so():
    def fails(*_):
        raise ValueError("no")

    run = Noted(bind(waits("long", seconds=50.0), waits("short", seconds=1.0), does("bad", fails, "short"))).go()
    assert {name: one.code for name, one in run.kept().items()} == {"long": "cancelled", "short": None, "bad": "handler"}


def test_firings_are_handed_over_in_batches_and_the_rest_at_the_end(monkeypatch):
    monkeypatch.setattr("apxm.engine.noting.FIRINGS_MAX", 10)
    sizes = []
    fired = RecentEpisodes.fired
    monkeypatch.setattr(RecentEpisodes, "fired", lambda self, some: (sizes.append(len(some)), fired(self, some)))
    names = [f"n{number}" for number in range(25)]
    nodes = [N(name, lambda *_: 1, (names[at - 1],) if at else (), kind=PURE) for at, name in enumerate(names)]
    run = Noted(bind(*nodes)).go()
    assert sum(sizes) == 25
    assert len(sizes) > 1
    assert [one.name for one in reversed(list(run.episodes))] == names


@pytest.mark.parametrize("scope", ["effects", "all"])
def test_only_who_asks_for_all_firings_has_runs_that_note_them(scope):
    from apxm import MemoryConfig, Runtime, RuntimeConfig
    from apxm.engine.local import LocalRun

    for episodic, expected in (("memory", scope == "all"), ("off", False)):
        with Runtime(RuntimeConfig(memory_config=MemoryConfig(episodic=episodic, episode_scope=scope))) as runtime:
            assert (runtime._run_type is not LocalRun) == expected
