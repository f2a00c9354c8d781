"""Episodes: what a call leaves behind, how many are kept, what of its content, and how they are found again."""

import json
from threading import Thread

import pytest

from apxm.config import MemoryConfig
from apxm.errors import ConfigError
from apxm.memory.episodic import CONTENT_CHARS_MAX, Episodes, digest


def place(name="get", op="INV", agent="a", path=()):
    return (path, 3, name, op, "main", agent)


def episodes(entries=100, content="off", times=None):
    moments = iter(times or range(1, 1_000))
    return Episodes(entries, content, clock=lambda: float(next(moments)))


def test_an_episode_says_who_called_what_when_and_how_it_ended():
    kept = episodes(times=[17])
    kept.add("r1", place(path=((2, "true"),)), "capability", "fetch", 4.5, "transient", {"llm_calls": 1})
    (one,) = kept
    assert (one.number, one.at, one.run, one.path, one.node, one.name, one.op) == (1, 17.0, "r1", ((2, "true"),), 3, "get", "INV")
    assert (one.flow, one.agent, one.kind, one.target, one.duration_ms) == ("main", "a", "capability", "fetch", 4.5)
    assert (one.outcome, one.code, one.usage, one.key) == ("failed", "transient", {"llm_calls": 1}, "capability:fetch")
    assert json.loads(json.dumps(one.to_map()))["path"] == [[2, "true"]]


def test_the_newest_are_kept_and_counted_on():
    kept = episodes(entries=3)
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
def test_episodes_are_found_by_everything_that_is_given(wanted, targets):
    kept = episodes()
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
def test_what_was_said_is_kept_as_far_as_the_policy_says(policy, expected):
    kept = episodes(content=policy)
    kept.add("r", place(), "capability", "fetch", 1.0, content={"arguments": "the password", "result": "x" * 5_000})
    (one,) = kept
    assert one.content == expected
    assert ("password" in json.dumps(one.to_map())) == (policy == "text")


def test_a_digest_tells_texts_apart_and_not_what_they_are():
    assert digest("a") == digest("a") != digest("b")
    assert "secret" not in digest("secret")
    assert digest("\ud800")


def test_a_search_ranks_what_an_agent_did():
    kept = episodes()
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


def test_many_threads_append_while_others_read():
    kept = Episodes(500)

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
