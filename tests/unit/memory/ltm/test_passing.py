"""What passed a filter is kept, and is at every moment what the record says now."""

import random

import pytest

from apxm.errors import InvalidError
from apxm.memory.ltm.entry import Put, entry_id
from apxm.memory.ltm.passing import Passing
from apxm.memory.ltm.record import Record

FILTERS = ({"n": 1}, {"n": {"$ne": 1}}, {"n": {"$gt": 0}}, {"tag": {"$exists": True}}, {"n": True}, {"n": 1.0})


@pytest.fixture
def record(tmp_path):
    record = Record(tmp_path, clock=lambda: 1_000.0)
    yield record
    record.close()


def put(key, n, namespace="a", kind="entry", expires_at=None):
    more = {"tag": "x"} if key == "k1" else {}
    return Put(namespace, key, None, key, kind, {"n": n, **more}, expires_at=expires_at), None


def test_it_follows_writes_deletes_and_forgotten_deletes(record, tmp_path, seed):
    rng = random.Random(seed)
    passing, other = Passing(record), Record(tmp_path)  # what another connection writes counts too
    for _ in range(40):
        writer = rng.choice((record, other))
        puts = [
            put(f"k{rng.randrange(6)}", rng.choice((0, 1, 2, True, "1")), rng.choice("ab"), rng.choice(("entry", "fact")))
            for _ in range(rng.randrange(3))
        ]
        gone = [entry_id(rng.choice("ab"), "entry", f"k{rng.randrange(6)}") for _ in range(rng.randrange(2))]
        writer.write(puts, gone)
        if rng.random() < 0.2:
            writer.prune(writer.last_seq())
        for where in FILTERS:
            for namespace in "ab":
                for kind in (None, "fact"):
                    found = passing.passed(namespace, kind, where)
                    now = Passing(record).passed(namespace, kind, where)
                    places = range(1, 60)
                    ranked = [(place, 1.0) for place in places]
                    assert found.ids == now.ids
                    assert found.living(ranked, 0.0) == now.living(ranked, 0.0)
                    assert {id for id, _ in found.living(ranked, 0.0)} == set(found.ids)
    other.close()


def test_what_was_deleted_and_forgotten_passes_no_more(record):
    (entry, _) = record.write([put("k", 1), put("other", 0)], [])
    passing = Passing(record)
    assert set(passing.passed("a", None, {"n": 1}).ids) == {entry.id}
    record.write([], [entry.id])
    record.prune(record.last_seq())
    assert set(passing.passed("a", None, {"n": 1}).ids) == set()


def test_what_is_past_its_end_passes_and_does_not_live(record):
    (entry,) = record.write([put("k", 1, expires_at=1_010.0)], [])
    found = Passing(record).passed("a", None, {"n": 1})
    assert set(found.ids) == {entry.id}
    assert (found.living([(1, 2.0)], 1_009.0), found.living([(1, 2.0)], 1_010.0)) == ([(entry.id, 2.0)], [])


def test_filters_that_were_asked_long_ago_are_let_go(record):
    record.write([put(f"k{n}", n % 2) for n in range(10)], [])
    passing = Passing(record, ids_max=11)
    first = passing.passed("a", None, {"n": 1})
    assert passing.passed("a", None, {"n": 1}) is first
    passing.passed("a", None, {"n": 0})  # 5 of each
    assert passing.passed("a", None, {"n": 1}) is not first
    everything = passing.passed("a", None, {"n": {"$exists": True}})
    assert len(everything.ids) == 10
    assert passing.passed("a", None, {"n": {"$lt": 5}}).ids == everything.ids


def test_what_is_no_filter_is_refused(record):
    with pytest.raises(InvalidError, match="bad"):
        Passing(record).passed("a", None, {"$bad": 1})
