"""What runs of one session share."""

import threading

import pytest

from apxm.config import MemoryConfig
from apxm.errors import InvalidError, ValueRefused
from apxm.memory.system import MemorySystem
from apxm.values import pack, unpack


def test_runs_of_a_session_share_what_they_write_there_and_nothing_else():
    system = MemorySystem()
    one = system.run("r1", "a", session="chat")
    one.put("name", "Ann", scope="session")
    one.put("mine", 1, scope="run")
    one.close()
    two, other = system.run("r2", "b", session="chat"), system.run("r3", "b", session="other")
    assert (two.get("name"), two.get("mine")) == ("Ann", None)
    assert (other.get("name"), system.run("r4", "b").get("name")) == (None, None)


def test_the_narrowest_scope_is_read_first():
    memory = MemorySystem().run("r", "a", session="chat").view("a", "main")
    for scope in ("session", "run", "agent", "flow"):
        memory.put("k", scope, scope=scope)
        assert memory.get("k") == scope
        assert memory.search("k") == [{"key": "k", "value": scope, "score": 1.0}]
    for scope, next_one in (("flow", "agent"), ("agent", "run"), ("run", "session"), ("session", None)):
        assert memory.delete("k", scope=scope) is True
        assert memory.get("k") == next_one


def test_a_host_reads_and_writes_a_session_before_and_after_its_runs():
    system = MemorySystem()
    chat = system.session("chat")
    chat.put("name", "Ann", labels=["user"])
    with pytest.raises(InvalidError, match=r"pass \['web'\]"):
        chat.put("name", "Bo", labels="web")
    run = system.run("r", "a", session="chat")
    assert run.find_in("stm", "name") == ("Ann", ("user",))
    run.put("topic", ["tea"], scope="session")
    run.close()
    assert (chat.name, len(chat), chat.get("topic"), chat.get("other", "-")) == ("chat", 2, ["tea"], "-")
    assert [hit["key"] for hit in chat.search("tea")] == ["topic"]
    assert [chat.delete("topic"), chat.delete("topic")] == [True, False]
    chat.clear()
    assert run.get("name") is None


def test_a_snapshot_brings_a_session_back():
    one, two = MemorySystem().session("chat"), MemorySystem().session("chat")
    one.put("k", {"a": [1]}, labels=["web"])
    two.put("other", 1)
    two.restore(unpack(pack(one.snapshot())))
    assert (two.get("k"), two.get("other")) == ({"a": [1]}, None)


def test_a_session_keeps_what_a_run_may_keep_and_is_bounded_like_one():
    system = MemorySystem(MemoryConfig(stm_entries=3))
    chat = system.session("chat")
    for number in range(10):
        chat.put(f"k{number}", number)
    assert len(chat) == 3
    with pytest.raises(ValueRefused, match="memory key `k`"):
        chat.put("k", {1, 2})
    with pytest.raises(InvalidError, match="is not a text"):
        chat.put("", 1)
    with pytest.raises(InvalidError, match="ttl_ms of `k` is -1"):
        chat.put("k", 1, ttl_ms=-1)
    with pytest.raises(InvalidError, match="is not a text"):
        system.session("")


def test_an_entry_of_a_session_ends_with_its_time_to_live():
    now = [0.0]
    system = MemorySystem(clock=lambda: now[0])
    system.run("r", "a", session="chat").put("k", 1, scope="session", ttl_ms=1_000)
    now[0] = 0.9
    assert system.session("chat").get("k") == 1
    now[0] = 1.0
    assert system.session("chat").get("k") is None


def test_of_too_many_sessions_the_one_not_used_for_longest_goes():
    system = MemorySystem(MemoryConfig(sessions=2))
    for name in ("a", "b"):
        system.session(name).put("k", name)
    system.session("a")
    system.session("c").put("k", "c")
    assert system.sessions == ["a", "c"]
    assert (system.session("a").get("k"), system.session("b").get("k")) == ("a", None)


def test_a_session_that_a_run_still_uses_stays_the_same_for_the_runs_after_it():
    system = MemorySystem(MemoryConfig(sessions=1))
    run = system.run("r", "a", session="a")
    system.session("b")
    assert system.sessions == ["b"]
    run.put("k", 1, scope="session")
    assert system.run("r2", "a", session="a").get("k") == 1


def test_two_runs_in_one_session_at_once_lose_nothing():
    system = MemorySystem()

    def work(at):
        run = system.run(f"r{at}", "a", session="chat")
        for number in range(200):
            run.put(f"k{at}.{number}", number, scope="session")
        run.close()

    threads = [threading.Thread(target=work, args=(at,)) for at in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(system.session("chat")) == 800
