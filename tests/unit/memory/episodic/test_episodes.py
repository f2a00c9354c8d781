"""Episodes, wherever they are kept: what a call leaves behind, how many there are, what of its content, how they are found."""

import json
import random
from functools import partial
from threading import Thread

import pytest

from apxm.config import MemoryConfig
from apxm.errors import ConfigError
from apxm.memory.episodic import CONTENT_CHARS_MAX, RecentEpisodes, Wanted, digest
from apxm.memory.episodic.episodes import SECRET_CHARS
from apxm.memory.episodic.firings import Columns, Firings, Sheet
from apxm.memory.episodic.store import StoredEpisodes


def place(name="get", op="INV", agent="a", path=()):
    return (path, 3, name, op, "main", agent)


@pytest.fixture(params=["memory", "sqlite"])
def make(request, tmp_path):
    """Makes a store of either kind; its clock counts the seconds from 1, or gives `times`."""
    made = []

    def make(entries=100, content="off", times=None, **more):
        moments = iter(times or range(1, 100_000))
        clock = more.pop("clock", lambda: float(next(moments)))
        kind = RecentEpisodes if request.param == "memory" else partial(StoredEpisodes, lambda: tmp_path)
        made.append(kind(entries_max=entries, content=content, clock=clock, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_an_episode_says_who_called_what_when_and_how_it_ended(make):
    kept = make(times=[17])
    kept.add("r1", place(path=((2, "true"),)), "capability", "fetch", 4.5, "transient", {"llm_calls": 1})
    (one,) = kept
    assert (one.number, one.at, one.run, one.path, one.node, one.name, one.op) == (1, 17.0, "r1", ((2, "true"),), 3, "get", "INV")
    assert (one.flow, one.agent, one.kind, one.target, one.duration_ms) == ("main", "a", "capability", "fetch", 4.5)
    assert (one.outcome, one.code, one.usage, one.key) == ("failed", "transient", {"llm_calls": 1}, "capability:fetch")
    assert json.loads(json.dumps(one.to_map()))["path"] == [[2, "true"]]


def test_the_newest_are_kept_and_counted_on(make):
    kept = make(entries=3)
    for number in range(10):
        kept.add("r", place(), "capability", f"c{number}", 1.0)
    assert [(one.number, one.target) for one in kept] == [(10, "c9"), (9, "c8"), (8, "c7")]
    assert len(kept) == 3


@pytest.mark.parametrize(
    ("wanted", "targets"),
    [
        ({}, ["d", "c", "b", "a"]),
        ({"run": "r1"}, ["b", "a"]),
        ({"agent": "y"}, ["d"]),
        ({"op": "ASK"}, ["c"]),
        ({"kind": "model"}, ["c"]),
        ({"target": "a"}, ["a"]),
        ({"outcome": "failed"}, ["b"]),
        ({"since": 2.0, "until": 3.0}, ["c", "b"]),
        ({"text": "LOOK"}, ["d", "a"]),
        ({"text": "look", "run": "r1"}, ["a"]),
        ({"limit": 2}, ["d", "c"]),
        ({"run": "r1", "outcome": "done", "agent": "y"}, []),
    ],
)
def test_episodes_are_found_by_everything_that_is_given(make, wanted, targets):
    kept = make()
    kept.add("r1", place("look"), "capability", "a", 1.0)
    kept.add("r1", place("get"), "capability", "b", 1.0, "capability")
    kept.add("r2", place("say", op="ASK"), "model", "c", 1.0)
    kept.add("r2", place("look_up", agent="y"), "capability", "d", 1.0)
    assert [one.target for one in kept.find(**wanted)] == targets


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("off", None),
        ("digest", {"arguments": digest("the password"), "result": digest("x" * 5_000)}),
        ("text", {"arguments": "the password", "result": "x" * CONTENT_CHARS_MAX + "… (5000 characters)"}),
    ],
)
def test_what_was_said_is_kept_as_far_as_the_policy_says(make, policy, expected):
    kept = make(content=policy)
    kept.add("r", place(), "capability", "fetch", 1.0, content={"arguments": "the password", "result": "x" * 5_000})
    (one,) = kept
    assert one.content == expected
    assert ("password" in json.dumps(one.to_map())) == (policy == "text")


def test_a_digest_tells_texts_apart_and_not_what_they_are():
    assert digest("a") == digest("a") != digest("b")
    assert "secret" not in digest("secret")
    assert digest("\ud800")


def test_a_search_ranks_what_an_agent_did(make):
    kept = make()
    kept.add("r", place(), "capability", "fetch", 1.0, "transient")
    kept.add("r", place(), "record", "lesson", 0.0, value={"text": "fetch fails on Mondays"})
    kept.add("r", place(agent="b"), "capability", "fetch", 1.0)
    (best, second) = kept.search("fetch", "a")
    assert (best[0].key, best[0].remembered["outcome"], best[1]) == ("capability:fetch", "failed", 0.9)
    assert (second[0].key, second[0].remembered) == ("lesson", {"text": "fetch fails on Mondays"})
    assert kept.search("fetch", "a", min_score=0.9) == [best]
    assert kept.search("fetch", "a", limit=1) == [best]
    assert kept.search("fetch", "a", where={"outcome": "failed"}) == [best]
    assert kept.search("tides", "a") == []


def test_many_threads_append_while_others_read(make):
    kept = make(500, clock=lambda: 1.0)

    def work(name):
        for number in range(400):
            kept.add(name, place(), "capability", str(number), 1.0)
            if number % 40 == 0:
                assert all(one.kind == "capability" for one in kept.find(run=name))

    threads = [Thread(target=work, args=(f"r{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept) == 500
    assert len({one.number for one in kept}) == 500


@pytest.mark.parametrize(
    "wrong", [{"episodic": "disk"}, {"episode_content": "all"}, {"episodes": 0}], ids=lambda wrong: next(iter(wrong))
)
def test_a_configuration_out_of_range_is_refused(wrong):
    with pytest.raises(ConfigError, match=f"MemoryConfig.{next(iter(wrong))}"):
        MemoryConfig(**wrong)


# ---- firings ---------------------------------------------------------------------------------------------------------
PLAN = Columns("main", "a", [10, 20, 30], ["first", "second", "third"], ["INV", "INV", "MERGE"])


def fired(run="r", agent="a", path=(), slots=(0, 1, 2), at=100.0):
    columns = Columns("main", agent, PLAN.ids, PLAN.names, PLAN.ops)
    ends = [at + number for number in range(len(slots))]
    sheet = Sheet(path, columns, list(slots), ends, [0.25] * len(slots))
    if len(slots) > 1:
        sheet.codes[1], sheet.attempts[1] = "model", 3
    return Firings(run, 1_000.0, [sheet])


def test_firings_are_episodes_like_all_others(make):
    kept = make()
    kept.add("r", place(), "capability", "fetch", 1.0)
    kept.fired(fired(path=((7, 2), (8, "true"))))
    kept.add("r", place(), "capability", "send", 1.0)
    assert [one.key for one in kept] == ["capability:send", "firing:third", "firing:second", "firing:first", "capability:fetch"]
    assert [one.number for one in kept] == [5, 4, 3, 2, 1]
    second = kept.find(target="second")[0]
    assert (second.run, second.path, second.node, second.name, second.op) == ("r", ((7, 2), (8, "true")), 20, "second", "INV")
    assert (second.flow, second.agent, second.kind, second.at, second.duration_ms) == ("main", "a", "firing", 1_101.0, 250.0)
    assert (second.outcome, second.code, second.attempt, second.to_map()["attempt"]) == ("failed", "model", 3, 3)
    assert "attempt" not in kept.find(target="third")[0].to_map()
    assert kept.last("firing:first", "a").node == 10
    assert kept.search("second", "a") == []


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({"run": "r"}, ["third", "second", "first"]),
        ({"run": "other"}, ["first"]),
        ({"agent": "b"}, ["first"]),
        ({"op": "INV", "outcome": "done"}, ["first", "first"]),
        ({"outcome": "failed"}, ["second"]),
        ({"since": 1_101.0, "until": 1_102.0}, ["third", "second"]),
        ({"until": 1_099.0}, []),
        ({"text": "THI"}, ["third"]),
        ({"firings": False}, ["get"]),
        ({"kind": "capability"}, ["get"]),
    ],
)
def test_firings_are_found_by_everything_that_is_given(make, wanted, names):
    kept = make()
    kept.add("call", place(agent="c"), "capability", "get", 1.0)
    kept.fired(fired())
    kept.fired(fired("other", "b", slots=(0,), at=500.0))
    assert [
        one.name for one in kept.select(Wanted(**{"kind": "firing"} | wanted if "firings" not in wanted else wanted))
    ] == names


def test_a_bound_may_fall_within_a_batch_of_firings(make):
    kept = make(entries=2)
    kept.fired(fired())
    assert [one.name for one in kept] == ["third", "second"]
    assert len(kept) == 2


def test_the_last_of_a_key_is_the_newest_whatever_it_is(make):
    kept = make()
    for _ in range(2):
        kept.record("r", place(), "capability:x", "said")
        assert kept.last("capability:x", "a").kind == "record"
        kept.add("r", place(), "capability", "x", 1.0)
        assert kept.last("capability:x", "a").kind == "capability"
    assert kept.last("capability:x", "b") is None


# ---- what goes -------------------------------------------------------------------------------------------------------
def test_what_is_too_old_is_no_longer_found(make):
    now = [0.0]
    kept = make(days_max=1.0, clock=lambda: now[0])
    for hour in (0, 10, 20, 30):
        now[0] = hour * 3_600.0
        kept.add("r", place(), "capability", f"at {hour}", 1.0)
    assert [one.target for one in kept] == ["at 30", "at 20", "at 10"]
    assert kept.last("capability:at 0", "a") is None
    now[0] = 36 * 3_600.0  # and nothing more happened
    assert [one.target for one in kept] == ["at 30", "at 20"]
    assert kept.last("capability:at 10", "a") is None
    assert {one.target for one, _ in kept.search("at", "a")} == {"at 30", "at 20"}


def test_everything_can_be_forgotten_and_numbers_go_on(make):
    kept = make()
    kept.add("r", place(), "capability", "old", 1.0)
    kept.fired(fired())
    kept.clear()
    assert list(kept) == []
    assert (len(kept), kept.search("old", "a")) == (0, [])
    kept.add("r", place(), "capability", "new", 1.0)
    assert [(one.number, one.target) for one in kept] == [(5, "new")]


def test_what_is_secret_is_blacked_out_before_a_text_is_cut(make):
    kept = make(content="text", redact=lambda text: text.replace("S" * 100, "[redacted]"))
    long = "x" * (CONTENT_CHARS_MAX - 50) + "S" * 100 + "y"
    kept.add("r", place(), "capability", "fetch", 1.0, content={"result": long, "error": "S" * 100})
    (one,) = kept
    assert "S" not in one.content["result"] + one.content["error"]
    assert one.content["error"] == "[redacted]"


def test_what_is_blacked_out_brings_no_half_of_a_secret_into_what_is_kept(make):
    kept = make(content="text", redact=lambda text: text.replace("B" * 1_000, "[redacted]").replace("S" * 100, "[redacted]"))
    long = "B" * 5_000 + "x" * (CONTENT_CHARS_MAX + SECRET_CHARS - 5_099) + "S" * 100 + "y"  # one letter is past what is read
    kept.add("r", place(), "capability", "fetch", 1.0, content={"result": long})
    (one,) = kept
    assert "S" not in one.content["result"]
    assert one.content["result"].endswith(f"… ({len(long)} characters)")


# ---- both alike ------------------------------------------------------------------------------------------------------
WORDS = (
    "fetch",
    "fetching",
    "fetch_page",
    "SendMail",
    "mail",
    "tides",
    "of",
    "the",
    "Übung",
    "naïve",
    "100%",
    "a_b",
    "x",
    "🙂",
    "東京",
)


def test_the_file_finds_what_memory_finds(tmp_path, seed):
    chance = random.Random(seed)
    memory = RecentEpisodes(60, "text", clock=lambda: 1.0)
    stored = StoredEpisodes(lambda: tmp_path, entries_max=60, content="text", clock=lambda: 1.0)

    def words(most):
        return " ".join(chance.choices(WORDS, k=chance.randrange(1, most)))

    for number in range(100):
        what = chance.randrange(3)
        if what == 0:
            args = (f"r{number % 7}", place(agent=chance.choice("ab"), path=((1, number),)), words(3), {"text": words(6)})
            calls = [(one.record, args) for one in (memory, stored)]
        elif what == 1:
            args = ("r", place(chance.choice(WORDS), agent=chance.choice("ab")), "capability", chance.choice(WORDS), 1.5)
            more = (chance.choice([None, "transient"]), {"llm_calls": 1}, {"result": words(6)}, None, ("web",))
            calls = [(one.add, (*args, *more)) for one in (memory, stored)]
        else:
            some = fired(agent=chance.choice("ab"), slots=(0, 2))
            calls = [(one.fired, (some,)) for one in (memory, stored)]
        for call, given in calls:
            call(*given)
    try:
        assert list(stored) == list(memory)
        for _ in range(60):
            query, agent = words(4), chance.choice("ab")
            assert stored.search(query, agent, limit=100) == memory.search(query, agent, limit=100), query
            key = chance.choice([query, f"capability:{chance.choice(WORDS)}"])
            assert stored.last(key, agent) == memory.last(key, agent), key
            wanted = {"agent": agent, "text": chance.choice(WORDS), "outcome": chance.choice(["done", "failed", None])}
            assert stored.find(**wanted) == memory.find(**wanted), wanted
    finally:
        stored.close()
