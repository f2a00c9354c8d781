"""The tiers of one run's memory, on a real long-term memory."""

import random
import threading

import numpy as np
import pytest

from apxm.config import MemoryConfig
from apxm.errors import InvalidError, ValueRefused
from apxm.memory.stm import MISSING
from apxm.memory.system import MemorySystem


@pytest.fixture
def now():
    return [1_000.0]


@pytest.fixture
def system(tmp_path, now):
    made = MemorySystem(MemoryConfig(batch_ms=0), folder=lambda: tmp_path, clock=lambda: now[0], wall_clock=lambda: now[0])
    yield made
    made.close()


def test_what_is_stored_for_good_is_read_by_every_run_of_the_agent_and_by_no_other_agent(system):
    system.run("r1", "a").put("k", {"n": 1}, tier="ltm")
    later = system.run("r2", "a")
    assert later.get("k", tier="ltm") == {"n": 1}
    assert later.get("k", "nothing") == "nothing"  # it is not in short-term memory
    for tier in ("ltm", "all"):
        assert later.view("b").get("k", "nothing", tier=tier) == "nothing"
        assert later.view("b").search("k", tier=tier) == []


def test_it_is_still_there_for_the_next_process(tmp_path):
    for value in (1, None, True, 2.5, "text", b"bytes", [1, "a"], {"a": {"b": [None]}}, np.arange(3.0)):
        one = MemorySystem(folder=lambda: tmp_path)
        one.run("r", "a").put("k", value, tier="ltm", labels=["web"])
        one.close()
        two = MemorySystem(folder=lambda: tmp_path)
        found, labels = two.run("r", "a").find_in("ltm", "k")
        two.close()
        assert (type(found), str(found), labels) == (type(value), str(value), ("web",))


def test_the_same_key_again_replaces_and_delete_forgets(system):
    memory = system.run("r", "a")
    assert [memory.put("k", value, tier="ltm") for value in (1, 2)] == [1, 2]
    assert [(one.key, one.value) for one in system.ltm.list(namespace="a")] == [("k", 2)]
    assert memory.delete("k", tier="ltm") is True
    assert memory.delete("k", tier="ltm") is False
    assert memory.get("k", "nothing", tier="ltm") == "nothing"


def test_a_search_finds_by_words_and_says_where_from(system):
    memory = system.run("r", "a")
    memory.put("sky", "the sky is blue", tier="ltm", labels=["web"])
    memory.put("sea", "the sea is deep", tier="ltm", labels=["user"])
    memory.put("table", [1, 2], tier="ltm", text="a table of sky colours")
    hits, labels = memory.search_in("ltm", "colour of the sky", 10, 0.0, None)
    assert {hit["key"] for hit in hits[:2]} == {"sky", "table"}
    assert all(0 < hit["score"] <= 1 for hit in hits)
    assert set(labels) >= {"web"}
    assert [hit["key"] for hit in memory.search("colour of the sky", tier="ltm", limit=1)] == [hits[0]["key"]]
    assert memory.search("colour of the sky", tier="ltm", min_score=0.999) == []


def test_fields_of_the_value_and_its_metadata_can_be_asked_for(system):
    memory = system.run("r", "a")
    memory.put("apple", {"kind": "fruit", "text": "red"}, tier="ltm")
    memory.put("brick", {"kind": "stone", "text": "red"}, tier="ltm")
    memory.put("rose", "red", tier="ltm", metadata={"kind": "flower", "petals": 12})
    for tier in ("ltm", "all"):
        assert [hit["key"] for hit in memory.search("red", tier=tier, where={"kind": "stone"})] == ["brick"]
    assert [hit["key"] for hit in memory.search("red", tier="ltm", where={"petals": {"$gt": 10}})] == ["rose"]
    assert memory.find_in("ltm", "apple", {"kind": "fruit"})[0] == {"kind": "fruit", "text": "red"}
    assert memory.find_in("ltm", "apple", {"kind": "stone"}) == (None, ())
    assert memory.find_in("ltm", "rose", {"kind": "flower"}) == ("red", ())
    with pytest.raises(InvalidError, match=r"there is no `\$near`"):
        memory.find_in("ltm", "rose", {"petals": {"$near": 1}})


def test_all_tiers_are_asked_in_their_order(system):
    memory = system.run("r", "a")
    memory.put("k", "record", tier="episodic")
    assert memory.get("k", tier="all") == "record"
    memory.put("k", "long", tier="ltm")
    assert memory.get("k", tier="all") == "long"
    memory.put("k", "short")
    assert memory.get("k", tier="all") == "short"
    assert memory.get("k", tier="ltm") == "long"


def test_what_all_tiers_find_in_the_long_term_is_in_the_short_term_with_where_it_came_from(system):
    system.run("r1", "a").put("k", "v", tier="ltm", labels=["web"])
    memory = system.run("r2", "a")
    assert memory.find_in("all", "k") == ("v", ("web", "memory:ltm"))
    assert memory.find_in("stm", "k") == ("v", ("web", "memory:ltm"))
    assert memory.view("b").get("k") is None
    assert system.run("r3", "a").get("k") is None  # a copy is the run's own


def test_a_search_in_all_tiers_copies_what_it_finds_too(system):
    system.run("r1", "a").put("sky", "blue sky", tier="ltm", labels=["web"])
    memory = system.run("r2", "a")
    memory.put("other", "a sky of mine")
    memory.put("noted", "the sky at night", tier="episodic")
    hits, labels = memory.search_in("all", "sky", 10, 0.0, None)
    assert sorted(hit["key"] for hit in hits) == ["noted", "other", "sky"]
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    assert {"web", "memory:ltm"} <= set(labels)
    assert memory.find_in("stm", "sky") == ("blue sky", ("web", "memory:ltm"))
    assert [hit["key"] for hit in memory.search("sky", tier="all", limit=1)] == [hits[0]["key"]]


def test_what_the_run_has_under_a_key_hides_what_is_stored_for_good(system):
    memory = system.run("r", "a")
    memory.put("plan", "old plan of the garden", tier="ltm")
    memory.put("plan", "a new idea")
    assert memory.search("garden", tier="all") == []
    assert [hit["value"] for hit in memory.search("garden", tier="ltm")] == ["old plan of the garden"]


def test_a_copy_stands_behind_everything_that_the_run_itself_writes(system):
    system.run("r1", "a").put("k", "stored", tier="ltm")
    memory = system.run("r2", "a", session="chat")
    assert memory.get("k", tier="all") == "stored"
    for scope in ("session", "run", "agent"):
        memory.put("k", scope, scope=scope)
        assert memory.get("k", tier="all") == memory.get("k") == scope


def test_a_copy_is_gone_when_the_run_writes_the_key_for_good(system):
    memory = system.run("r", "a")
    memory.put("k", 1, tier="ltm")
    assert memory.get("k", tier="all") == 1
    memory.put("k", 2, tier="ltm")
    assert memory.get("k", "not copied") == "not copied"
    assert memory.get("k", tier="all") == 2
    memory.delete("k", tier="ltm")
    assert memory.get("k", "nothing", tier="all") == "nothing"


def test_what_was_read_before_a_write_is_not_copied_after_it(system):
    memory = system.run("r", "a")
    memory.put("k", "old", tier="ltm")
    recall = system.recall

    def slowly(*asked):
        entry = recall(*asked)
        memory.put("k", "new", tier="ltm")  # between the look into the store and the copy
        return entry

    system.recall = slowly
    assert memory.get("k", tier="all") == "old"
    system.recall = recall
    assert memory._stm.get((memory._copies,), "k") is MISSING
    assert memory.get("k", tier="all") == "new"


def test_a_copy_lives_no_longer_than_its_entry(system, now):
    memory = system.run("r", "a")
    memory.put("k", 1, tier="ltm", ttl_ms=1_000)
    now[0] += 0.4
    assert memory.get("k", tier="all") == 1
    now[0] += 0.5
    assert memory.get("k") == 1
    now[0] += 0.2
    for tier in ("stm", "ltm", "all"):
        assert memory.get("k", "gone", tier=tier) == "gone"


def test_a_durable_write_is_in_both_tiers(system):
    memory = system.run("r", "a")
    assert memory.put("k", [1], durable=True, labels=["web"], scope="run") == [1]
    assert memory.find_in("stm", "k") == memory.find_in("ltm", "k") == ([1], ("web",))
    assert memory.view("b").get("k") == [1]  # the scope of what is in short-term memory
    assert memory.view("b").get("k", "nothing", tier="ltm") == "nothing"
    memory.put("noted", 2, tier="episodic", durable=True)
    assert (memory.get("noted", tier="ltm"), memory.get("noted", tier="episodic"), memory.get("noted")) == (2, 2, None)


def test_facts_of_the_agent_are_found_and_not_taken_for_entries(system):
    system.facts.store("The sky is blue at noon.", namespace="a", labels=["web"])
    memory = system.run("r", "a")
    hits, labels = memory.search_in("all", "sky at noon", 10, 0.0, None)
    assert len(hits) == 1
    assert "web" in labels
    assert len(memory) == 0
    assert memory.view("b").search("sky at noon", tier="all") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tier": "all"}, "`all` is for reading"),
        ({"tier": "ltm", "scope": "run"}, "`ltm` has no scopes"),
        ({"tier": "episodic", "scope": "run"}, "`episodic` has no scopes"),
        ({"tier": "episodic", "ttl_ms": 5}, "has no end"),
        ({"tier": "ltm", "ttl_ms": 0}, "ttl_ms of `k` is 0"),
        ({"text": "t"}, "takes neither `text` nor `metadata`"),
        ({"tier": "episodic", "metadata": {}}, "takes neither `text` nor `metadata`"),
        ({"scope": "session"}, "no memory scope `session` here; give the run one"),
        ({"scope": "team", "durable": True}, "expected run, agent, flow or session"),
    ],
)
def test_what_a_tier_cannot_keep_is_refused_and_nothing_is_stored(system, arguments, message):
    memory = system.run("r", "a")
    with pytest.raises(InvalidError, match=message):
        memory.put("k", 1, **arguments)
    assert (memory.get("k", tier="all"), system.ltm.list()) == (None, [])


def test_what_cannot_be_stored_is_refused(system):
    memory = system.run("r", "a")
    for value in (float("nan"), {"a": float("inf")}, {1, 2}):
        with pytest.raises(ValueRefused, match="memory key `k`"):
            memory.put("k", value, tier="ltm")
    for key in ("", "x" * 1_001, 3):
        with pytest.raises(InvalidError, match="is not a text of 1 to 1000"):
            memory.put(key, 1, tier="ltm")
    with pytest.raises(ValueRefused, match="memory key `k`"):
        memory.submit("k", float("nan"))


def test_what_was_submitted_is_copied_nowhere_and_read_once_it_is_done(system):
    memory = system.run("r", "a")
    done = [memory.submit(f"k{number}", number, labels=("user",)) for number in range(100)]
    for one in done:
        one.result(timeout=10)
    assert [memory.find_in("ltm", f"k{number}") for number in range(100)] == [(number, ("user",)) for number in range(100)]
    assert len(memory) == 0


def test_many_threads_read_and_write_all_tiers_at_once(system):
    memory = system.run("r", "a", session="s")
    wrong = []

    def work(at):
        for number in range(20):
            key = f"k{at}.{number % 5}"
            memory.put(key, number, tier="ltm")
            if memory.get(key, tier="all") != number:
                wrong.append(key)
            memory.put("shared", number, scope="session")
            memory.search("k", limit=3)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert wrong == []
    memory._stm.check()


def test_whatever_is_written_is_read_as_the_tiers_and_scopes_say(system, seed):
    """A random run against a model of it: a map for each scope, and one for what lasts."""
    rng = random.Random(seed)
    views = {(agent, flow): system.run("r", "a", session="s").view(agent, flow) for agent in "ab" for flow in ("f",)}
    first = next(iter(views.values()))
    views = {place: first.view(*place) for place in views}
    model: dict[tuple[str, ...], dict[str, int]] = {}
    for number in range(150):
        agent, flow = rng.choice(list(views))
        memory, key, scope = views[agent, flow], rng.choice("xyz"), rng.choice(["flow", "agent", "run", "session", "ltm"])
        place = {"flow": ("flow", agent, flow), "agent": ("agent", agent), "ltm": ("ltm", agent)}.get(scope, (scope,))
        where = {"tier": "ltm"} if scope == "ltm" else {"scope": scope}
        if rng.random() < 0.6:
            memory.put(key, number, **where)
            model.setdefault(place, {})[key] = number
        else:
            assert memory.delete(key, **where) is (model.get(place, {}).pop(key, None) is not None), (seed, number)
        agent, flow = rng.choice(list(views))
        order = [("flow", agent, flow), ("agent", agent), ("run",), ("session",), ("ltm", agent)]
        for key in "xyz":
            known = [model[place][key] for place in order if key in model.get(place, {})]
            found = views[agent, flow].get(key, None, tier="all")
            assert found == (known[0] if known else None), (seed, number, key)
            assert views[agent, flow].get(key, None, tier="ltm") == model.get(("ltm", agent), {}).get(key), (seed, number, key)
