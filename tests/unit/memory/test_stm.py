import random
import threading

import numpy as np
import pytest

from apxm.errors import InvalidError
from apxm.memory.stm import ENTRY_BYTES, MISSING, Change, ShortTermMemory, search, size_of
from apxm.values import pack, unpack


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def memory(entries=100, size=1_000_000, **more):
    return ShortTermMemory(entries, size, **more)


def get(stm, key, *scopes):
    value = stm.get(scopes or ("s",), key)
    return None if value is MISSING else value


def test_what_was_put_is_read_back_by_scope():
    stm = memory()
    stm.put("a", "k", 1)
    stm.put("b", "k", [2])
    assert (get(stm, "k", "a"), get(stm, "k", "b"), get(stm, "k", "c")) == (1, [2], None)
    assert get(stm, "k", "c", "b", "a") == [2]  # the first scope that has it
    stm.put("a", "k", None)
    assert stm.get(("a",), "k") is None  # null is a value, not a gap


def test_an_entry_keeps_the_labels_it_was_put_with_until_it_is_replaced():
    stm = memory()
    stm.put("s", "k", "v", None, ("web", "user"))
    stm.put("s", "other", "v")
    assert stm.find(("r", "s"), "k") == ("v", ("web", "user"))
    assert stm.find(("s",), "other") == ("v", ())
    assert stm.find(("s",), "nothing") == (MISSING, ())
    assert {key: labels for key, *_, labels in search([(stm, ("s",))], "v")} == {"k": ("web", "user"), "other": ()}
    stm.put("s", "k", "w")
    assert stm.find(("s",), "k") == ("w", ())


def test_labels_take_room():
    plain, labelled = memory(), memory()
    plain.put("s", "k", 1)
    labelled.put("s", "k", 1, None, ("web", "llm:" + "x" * 500))
    assert labelled.bytes_used > plain.bytes_used + 500
    labelled.check()
    labelled.put("s", "k", 1)
    assert labelled.bytes_used == plain.bytes_used


def test_a_full_memory_forgets_what_was_used_least_recently():
    stm = memory(entries=3)
    for key in "abc":
        stm.put("s", key, key)
    get(stm, "a")
    stm.put("s", "b", "again")
    stm.put("s", "d", "d")
    assert [get(stm, key) for key in "abcd"] == ["a", "again", None, "d"]
    stm.check()


def test_bytes_are_bounded_too():
    stm = memory(size=10 * ENTRY_BYTES)
    for number in range(50):
        stm.put("s", f"k{number}", "x" * 400)
        stm.check()
    assert 0 < len(stm) < 10
    assert get(stm, "k49") is not None


def test_a_value_larger_than_the_memory_is_not_kept_and_costs_no_other():
    stm = memory(size=10_000)
    stm.put("s", "small", 1)
    stm.put("s", "big", "old")
    stm.put("s", "big", "x" * 20_000)
    assert (get(stm, "small"), get(stm, "big")) == (1, None)
    stm.check()


def test_a_time_to_live_ends_for_every_reader_at_once(clock):
    stm = memory(clock=clock)
    stm.put("s", "k", 1, ttl_ms=1_000)
    clock.now = 0.999
    assert get(stm, "k") == 1
    clock.now = 1.0
    assert search([(stm, ("s",))], "k") == []
    assert stm.snapshot() == {"entries": []}
    assert len(stm) == 0
    assert get(stm, "k") is None


def test_overwriting_ends_the_old_time_to_live(clock):
    stm = memory(clock=clock)
    stm.put("s", "k", 1, ttl_ms=10)
    stm.put("s", "k", 2)
    clock.now = 5.0
    stm.put("s", "other", 3)
    assert get(stm, "k") == 2


def test_what_an_overwritten_entry_would_have_expired_at_means_nothing_when_room_is_made(clock):
    stm = memory(entries=2, clock=clock)
    stm.put("s", "k", 1, ttl_ms=10)
    stm.put("s", "k", 2)
    stm.put("s", "old", 3)
    get(stm, "k")
    clock.now = 5.0
    stm.put("s", "new", 4)
    assert (get(stm, "k"), get(stm, "old"), get(stm, "new")) == (2, None, 4)


def test_overwriting_brief_entries_again_and_again_leaves_nothing_behind():
    stm = memory()
    for number in range(1_000):
        stm.put("s", "k", number, ttl_ms=1_000_000)
    assert len(stm._expiring) < 100
    stm.check()


def test_what_has_expired_makes_room_before_what_lives(clock):
    stm = memory(entries=2, clock=clock)
    stm.put("s", "living", 1)
    stm.put("s", "brief", 2, ttl_ms=10)
    clock.now = 1.0
    stm.put("s", "new", 3)
    assert (get(stm, "living"), get(stm, "brief"), get(stm, "new")) == (1, None, 3)


def test_changes_are_told_after_they_happened(clock):
    told = []
    stm = memory(entries=2, clock=clock, on_change=told.append)
    stm.put("s", "a", 1, ttl_ms=10)
    stm.put("s", "b", 2)
    clock.now = 1.0
    get(stm, "a")
    stm.put("s", "c", 3)
    stm.put("s", "d", 4)
    stm.delete("s", "d")
    assert stm.delete("s", "d") is False
    assert told == [
        Change("put", "s", "a"),
        Change("put", "s", "b"),
        Change("expire", "s", "a"),
        Change("put", "s", "c"),
        Change("put", "s", "d"),
        Change("evict", "s", "b"),
        Change("delete", "s", "d"),
    ]


def test_what_lapsed_is_told_of_though_a_wider_scope_has_the_key(clock):
    told = []
    stm = memory(clock=clock, on_change=told.append)
    stm.put("wide", "k", 1)
    stm.put("narrow", "k", 2, ttl_ms=10)
    assert (stm.holds(("narrow",), "k"), stm.holds(("other",), "k")) == (True, False)
    clock.now = 1.0
    assert stm.holds(("narrow",), "k") is False
    assert get(stm, "k", "narrow", "wide") == 1
    assert told[2:] == [Change("expire", "narrow", "k")]


def test_a_listener_may_use_the_memory():
    stm = memory(on_change=lambda change: get(stm, change.key))
    stm.put("s", "k", 1)
    assert get(stm, "k") == 1


def test_deleting_what_has_expired_deletes_nothing(clock):
    stm = memory(clock=clock)
    stm.put("s", "k", 1, ttl_ms=10)
    clock.now = 1.0
    assert stm.delete("s", "k") is False


def test_a_snapshot_is_a_value_and_comes_back_whole(clock):
    stm = memory(clock=clock)
    stm.put("s", "a", {"x": [1, b"y"]})
    stm.put("t", "b", np.arange(3))
    stm.put("s", "c", "brief", ttl_ms=1_000)
    clock.now = 0.4
    other = memory(clock=clock)
    other.put("s", "gone", 1)
    other.restore(unpack(pack(stm.snapshot())))
    assert (get(other, "a"), get(other, "gone"), get(other, "c")) == ({"x": [1, b"y"]}, None, "brief")
    assert get(other, "b", "t").tolist() == [0, 1, 2]
    clock.now = 1.0
    assert get(other, "c") is None
    other.check()


def test_the_order_of_use_survives_a_snapshot():
    stm = memory(entries=2)
    stm.put("s", "a", 1)
    stm.put("s", "b", 2)
    get(stm, "a")
    other = memory(entries=2)
    other.restore(stm.snapshot())
    other.put("s", "c", 3)
    assert (get(other, "a"), get(other, "b")) == (1, None)


@pytest.mark.parametrize(
    "snapshot",
    [
        *([], None, {}, {"entries": 3}, {"entries": [["s", "k"]]}, {"entries": [["s", "k", 1, None]]}),
        *({"entries": [["s", 1, 2, None, []]]}, {"entries": [["s", "k", 1, "x", []]]}),
        *({"entries": [["s", "k", 1, None, "web"]]}, {"entries": [["s", "k", 1, None, [3]]]}),
    ],
)
def test_what_is_no_snapshot_replaces_nothing(snapshot):
    stm = memory()
    stm.put("s", "k", 1)
    with pytest.raises(InvalidError, match="no snapshot"):
        stm.restore(snapshot)
    assert get(stm, "k") == 1


def test_search_ranks_by_words_then_by_age():
    stm = memory()
    stm.put("s", "apple", {"kind": "fruit", "text": "a red apple"})
    stm.put("s", "brick", {"kind": "stone", "text": "a red brick"})
    stm.put("s", "note", "nothing of interest")
    assert [(key, score) for key, _, score, _ in search([(stm, ("s",))], "red apple")] == [("apple", 0.725), ("brick", 0.3)]
    assert [key for key, *_ in search([(stm, ("s",))], "red", limit=1)] == ["brick"]  # the newer of two equals
    assert [key for key, *_ in search([(stm, ("s",))], "red apple", min_score=0.5)] == ["apple"]
    assert [key for key, *_ in search([(stm, ("s",))], "red", where={"kind": "fruit"})] == ["apple"]
    assert search([(stm, ("s",))], "") == []


def test_a_key_in_a_narrower_scope_hides_the_one_in_a_wider():
    stm = memory()
    stm.put("run", "plan", "old plan")
    stm.put("agent", "plan", "new plan")
    stm.put("run", "plan", "old plan")
    stm.put("other", "plan", "not mine")
    assert search([(stm, ("agent", "run"))], "plan") == [("plan", "new plan", 1.0, ())]
    stm.put("agent", "plan", 3)
    assert search([(stm, ("agent", "run"))], "old") == []


def test_sizes_follow_what_a_value_holds():
    assert size_of("x" * 1000) > 1000
    assert size_of([["x" * 1000] * 3]) > 3000
    assert size_of({"k": "x" * 1000}) > 1000
    assert size_of(np.zeros(1000)) > 8000


def test_any_history_keeps_the_bounds_and_the_newest_values(seed, clock):
    rng = random.Random(seed)
    stm = memory(entries=8, size=8_000, clock=clock)
    truth = {}
    for _ in range(3_000):
        clock.now += rng.random() / 10
        scope, key = rng.choice("st"), rng.choice("abcdefgh")
        match rng.randrange(4):
            case 0 | 1:
                value = "x" * rng.choice((1, 50, 500, 9_000))
                stm.put(scope, key, value, rng.choice((None, 100, 1_000)))
                truth[scope, key] = value
            case 2:
                stm.delete(scope, key)
                truth.pop((scope, key), None)
            case _:
                found = stm.get((scope,), key)
                assert found is MISSING or found == truth[scope, key]
        stm.check()
        assert len(stm._expiring) <= 2 * len(stm._entries) + 65


def test_threads_may_share_a_memory():
    stm = memory(entries=50)

    def work(name):
        for number in range(500):
            stm.put(name, f"k{number % 20}", number)
            stm.get((name,), f"k{number % 7}")

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stm.check()
    assert len(stm) == 50
