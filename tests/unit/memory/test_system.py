import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from apxm.config import MemoryConfig
from apxm.errors import ConfigError, InvalidError, ValueRefused
from apxm.memory.ltm.entry import Put
from apxm.memory.system import MemorySystem
from apxm.values import pack, unpack


def test_two_runs_never_share_their_memory_even_under_one_id():
    system = MemorySystem()
    one, two = system.run("r"), system.run("r")
    one.put("k", 1)
    assert (one.get("k"), two.get("k")) == (1, None)


def test_agents_of_a_run_see_their_own_and_what_the_run_shares():
    mine = MemorySystem().run("r", "writer")
    other = mine.view("reader")
    mine.put("k", "private")
    mine.put("s", "shared", scope="run")
    assert (mine.get("k"), other.get("k")) == ("private", None)
    assert (mine.get("s"), other.get("s")) == ("shared", "shared")
    other.put("s", "mine now")
    assert (mine.get("s"), other.get("s")) == ("shared", "mine now")
    assert mine.view("reader") is other
    fresh = MemorySystem().run("r").view("a", "main")
    assert fresh.view("a", "main") is fresh  # with nothing in it, too
    assert mine.view("writer") is mine


def test_a_flow_has_a_scope_of_its_own_when_asked_for():
    memory = MemorySystem().run("r", "a")
    flow = memory.view("a", "main")
    flow.put("k", 1, scope="flow")
    assert (flow.get("k"), memory.get("k"), memory.view("a", "other").get("k")) == (1, None, None)
    memory.put("k", 2)
    assert flow.get("k") == 1
    with pytest.raises(InvalidError, match=r"no memory scope `flow` here; make a view"):
        memory.put("k", 3, scope="flow")
    with pytest.raises(InvalidError, match=r"expected run, agent, flow or session"):
        memory.put("k", 3, scope="team")


def test_names_with_dots_do_not_share_a_flow():
    memory = MemorySystem().run("r")
    memory.view("a.b", "c").put("k", 1, scope="flow")
    assert memory.view("a", "b.c").get("k") is None


def test_what_is_stored_cannot_be_changed_from_outside():
    memory = MemorySystem().run("r")
    value = {"list": [1]}
    memory.put("k", value)
    value["list"].append(2)
    memory.get("k")["list"].append(3)
    assert memory.get("k") == {"list": [1]}
    array = np.zeros(2)
    memory.put("a", array)
    array[0] = 7
    assert memory.get("a").tolist() == [0, 0]


def test_only_values_that_may_leave_a_run_are_stored():
    memory = MemorySystem().run("r")
    with pytest.raises(ValueRefused, match=r'memory key `k`: the value at \["a"\] is nan'):
        memory.put("k", {"a": float("nan")})
    with pytest.raises(ValueRefused, match=r"a set"):
        memory.put("k", {1, 2})
    for bad in ("", "x" * 1_001, 3):
        with pytest.raises(InvalidError, match="is not a text of 1 to 1000"):
            memory.put(bad, 1)
    with pytest.raises(InvalidError, match="ttl_ms of `k` is 0"):
        memory.put("k", 1, ttl_ms=0)


def test_what_is_no_tier_says_so():
    memory = MemorySystem().run("r")
    for use in (
        lambda: memory.put("k", 1, tier="disk"),
        lambda: memory.get("k", tier="disk"),
        lambda: memory.search("k", tier="disk"),
        lambda: memory.delete("k", tier="disk"),
    ):
        with pytest.raises(InvalidError, match="no memory tier `disk`; expected stm, ltm, episodic, all"):
            use()


def test_what_is_put_on_record_is_read_by_its_type_newest_first_by_its_agent_in_every_run():
    system = MemorySystem()
    one, two, other = system.run("r1", "a"), system.run("r2", "a"), system.run("r3", "b")
    one.put("lesson", {"n": 1}, tier="episodic")
    one.put("lesson", {"n": 2}, tier="episodic")
    assert one.get("lesson") is None
    assert two.get("lesson", tier="episodic") == {"n": 2}
    assert two.find_in("episodic", "lesson", {"n": 1}) == ({"n": 1}, ())
    assert other.get("lesson", "nothing", tier="episodic") == "nothing"
    assert [one.run for one in system.episodes] == ["r1", "r1"]


def test_all_tiers_are_asked_in_their_order():
    memory = MemorySystem().run("r", "a")
    memory.put("k", "on record", tier="episodic")
    assert memory.get("k", tier="all") == "on record"
    memory.put("k", None)
    assert memory.get("k", "default", tier="all") is None
    memory.put("j", {"at": "stm"})
    memory.put("j", {"at": "record"}, tier="episodic")
    assert memory.find_in("all", "j") == ({"at": "stm"}, ())
    assert memory.find_in("all", "j", {"at": "record"}) == ({"at": "record"}, ())


def test_a_search_in_all_tiers_gives_the_best_of_all_and_the_short_term_first_among_equals():
    memory = MemorySystem().run("r", "a")
    memory.put("note", "red", tier="episodic")
    memory.put("red", "exactly", tier="episodic")
    memory.put("other", "red")
    found = [(hit["key"], hit["score"]) for hit in memory.search("red", tier="all")]
    assert found == [("red", 1.0), ("other", 0.6), ("note", 0.6)]
    assert [hit["key"] for hit in memory.search("red", tier="all", limit=2)] == ["red", "other"]
    assert [hit["key"] for hit in memory.search("red", tier="episodic")] == ["red", "note"]
    assert [hit["key"] for hit in memory.search("red")] == ["other"]


def test_a_record_cannot_be_deleted_and_all_tiers_are_not_written_at_once():
    memory = MemorySystem().run("r", "a")
    memory.put("k", 1, tier="episodic")
    with pytest.raises(InvalidError, match="episodes are only ever added"):
        memory.delete("k", tier="episodic")
    with pytest.raises(InvalidError, match="`all` is for reading"):
        memory.put("k", 1, tier="all")
    with pytest.raises(InvalidError, match="is not a text of 1 to 1000"):
        memory.put("", 1, tier="episodic")
    assert memory.get("k", tier="episodic") == 1


def test_without_episodes_their_tier_is_refused_and_all_is_what_there_is():
    memory = MemorySystem(MemoryConfig(episodic="off")).run("r", "a")
    memory.put("k", 1)
    assert memory.get("k", tier="all") == 1
    assert memory.search("k", tier="all") == [{"key": "k", "value": 1, "score": 1.0}]
    for use in (lambda: memory.put("k", 1, tier="episodic"), lambda: memory.get("k", tier="episodic")):
        with pytest.raises(InvalidError, match="no episodes are kept here"):
            use()


def test_null_and_nothing_can_be_told_apart():
    memory = MemorySystem().run("r")
    memory.put("k", None)
    assert memory.get("k", "default") is None
    assert memory.get("other", "default") == "default"
    assert memory.delete("k") is True
    assert memory.delete("k") is False
    assert memory.get("k", "default") == "default"


def test_search_gives_entries_as_maps():
    memory = MemorySystem().run("r")
    memory.put("apple", "a red fruit")
    assert memory.search("red") == [{"key": "apple", "value": "a red fruit", "score": 0.6}]


def test_the_bounds_come_from_the_configuration():
    memory = MemorySystem(MemoryConfig(stm_entries=2)).run("r")
    for number in range(5):
        memory.put(f"k{number}", number)
    assert len(memory) == 2


def test_a_snapshot_brings_a_run_back():
    one = MemorySystem().run("r", "a")
    one.put("k", [1])
    one.view("b").put("k", 2)
    two = MemorySystem().run("r2", "a")
    two.restore(one.snapshot())
    assert (two.get("k"), two.view("b").get("k")) == ([1], 2)


def test_what_the_host_says_of_where_a_value_came_from_is_kept_in_every_tier_and_in_snapshots():
    one, two = MemorySystem().run("r", "a"), MemorySystem().run("r2", "a")
    one.put("page", "text", labels=["web"])
    one.put("page", "text", labels=["web", "user"], scope="run")
    one.put("noted", "text", labels=["web"], tier="episodic")
    assert one.find_in("episodic", "noted") == ("text", ("web",))
    two.restore(unpack(pack(one.snapshot())))
    for memory in (one, two):
        assert memory.find_in("stm", "page") == ("text", ("web",))
        assert memory.view("b").find_in("all", "page") == ("text", ("web", "user"))
        assert memory.search_in("stm", "page", 10, 0.0, None)[1] == ("web",)


def test_a_closed_run_is_forgotten():
    system = MemorySystem()
    memory = system.run("r")
    memory.put("k", 1)
    assert system.open_runs == 1
    memory.close()
    memory.close()
    assert system.open_runs == 0
    assert memory.get("k") is None


def test_closing_the_system_forgets_every_run():
    system = MemorySystem()
    one = system.run("a")
    one.put("k", 1)
    system.close()
    system.close()
    one.close()
    assert (one.get("k"), system.open_runs) == (None, 0)


def test_what_changes_in_short_term_memory_can_be_watched_and_no_longer():
    told = []
    system = MemorySystem()
    before = system.run("before", "me")
    before.put("k", 0)
    end = system.subscribe(lambda whose, change: told.append((whose, change.kind, change.scope, change.key)))
    other = system.subscribe(lambda whose, change: None)
    before.put("k", 1)
    after = system.run("after", "me", session="chat")
    after.put("k", 1, scope="run")
    after.put("k", 1, scope="session")
    system.session("chat").delete("k")
    end()
    before.put("k", 2)
    assert told == [
        ("before", "put", "agent:me", "k"),
        ("after", "put", "run", "k"),
        ("chat", "put", "session", "k"),
        ("chat", "delete", "session", "k"),
    ]
    other()
    assert before._stm.on_change is None  # who has nobody to tell pays nothing for it


def test_nothing_of_long_term_memory_is_loaded_or_made_before_it_is_used(tmp_path):
    code = f"""
        import sys
        from apxm import Runtime, RuntimeConfig, RunOptions, flow, step
        from pathlib import Path

        @flow
        def main(q: str):
            kept = step.umem("k", q, scope="session")
            return step.fence(step.qmem(key="k", order_after=kept))

        state = Path({str(tmp_path / "state")!r})
        with Runtime(RuntimeConfig(state_dir=str(state))) as runtime:
            assert runtime.execute(main, q="x", run=RunOptions(session="s")).value == "x"
        loaded = [name for name in sys.modules if name.startswith("apxm.memory.ltm.") or name in ("numpy", "chromadb")]
        assert not loaded, loaded
        assert not state.exists()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_without_a_folder_there_is_no_long_term_memory():
    memory = MemorySystem().run("r")
    with pytest.raises(ConfigError, match="no folder to keep anything in"):
        memory.put("k", 1, tier="ltm")
    assert memory.get("k", "nothing", tier="all") == "nothing"


def test_a_closed_system_opens_nothing(tmp_path):
    system = MemorySystem(folder=lambda: tmp_path)
    run, chat = system.run("r"), system.session("chat")
    run.put("k", 1, tier="ltm")
    chat.put("k", 1)
    system.close()
    system.close()
    assert chat.get("k") is None
    with pytest.raises(InvalidError, match="closed"):
        run.put("k", 2, tier="ltm")
    with pytest.raises(InvalidError, match="this memory is closed"):
        _ = MemorySystem.ltm.fget(_closed(tmp_path))


def _closed(folder):
    system = MemorySystem(folder=lambda: folder)
    system.close()
    return system


def test_a_fence_is_nothing_to_wait_for_once_everything_is_written(tmp_path):
    system = MemorySystem(folder=lambda: tmp_path)
    run = system.run("r")
    assert run.fence() == []
    run.put("k", 1, tier="ltm")
    assert run.fence() == []
    written = [run.submit(f"k{number}", number) for number in range(50)]
    for one in run.fence():
        one.result(timeout=10)
    assert all(one.done() for one in written)
    system.close()


def test_who_stores_does_not_block_however_many_writes_wait(tmp_path, monkeypatch):
    monkeypatch.setattr("apxm.memory.ltm.writer.WAITING_MAX", 50)
    system = MemorySystem(folder=lambda: tmp_path)
    writer = system.ltm._writer
    commit, go = writer._commit, threading.Event()
    writer._commit = lambda writes: (go.wait(10), commit(writes))[1]
    crowd = system.ltm.submit([Put("other", f"k{number}", number, "") for number in range(50)])
    assert system.ltm.offer([Put("other", "more", 1, "")]) is None
    run = system.run("r")
    stored = [run.submit(f"mine{number}", number) for number in range(3)]  # and this came back
    assert not any(one.done() for one in stored)
    go.set()
    for one in (crowd, *stored):
        one.result(timeout=30)
    assert run.get("mine2", tier="ltm") == 2
    system.close()
