import random
import threading
import time

import numpy as np
import pytest

from apxm.memory.ltm import exact
from apxm.memory.ltm.entry import Put, entry_id
from apxm.memory.ltm.exact import Matrices, scored
from apxm.memory.ltm.record import Record

DIMENSION = 8


@pytest.fixture
def record(tmp_path):
    record = Record(tmp_path)
    yield record
    record.close()


def put(record, key, vector, namespace="n", kind="entry"):
    data = None if vector is None else np.asarray(vector, dtype="<f4").tobytes()
    return record.write([(Put(namespace, key, key, key, kind), data)], [])[0].id


def delete(record, key, namespace="n", kind="entry"):
    record.write([], [entry_id(namespace, kind, key)])


def vectors(source, count, dimension=DIMENSION):
    return source.standard_normal((count, dimension)).astype(np.float32)


def plain(stored, query, k):
    """Every cosine by the schoolbook: (id, cosine), best first, of equals the smaller id."""
    found = []
    for id, vector in stored.items():
        lengths = float(np.linalg.norm(vector.astype(np.float64)) * np.linalg.norm(query.astype(np.float64)))
        found.append((id, float(vector.astype(np.float64) @ query.astype(np.float64)) / lengths if lengths else 0.0))
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:k]


def same(found, expected):
    return [id for id, _ in found] == [id for id, _ in expected] and np.allclose(
        [cosine for _, cosine in found], [cosine for _, cosine in expected], atol=2e-6
    )


def test_the_nearest_are_those_of_brute_force_after_any_writes(record, tmp_path, seed, long_run):
    choose = random.Random(seed)
    source = np.random.default_rng(seed)
    other = Record(tmp_path)  # as another process has it
    here, there = Matrices(record), Matrices(other)
    stored = {}
    for turn in range(3_000 if long_run else 80):
        batch, gone = [], []
        for _ in range(choose.randint(1, 30)):
            key = f"k{choose.randint(0, 200)}"
            id = entry_id("n", "entry", key)
            if choose.random() < 0.25:
                gone.append(id)
            elif id not in [one[0].id for one in batch]:
                vector = None if choose.random() < 0.1 else vectors(source, 1)[0] * choose.choice([0.1, 1, 50])
                batch.append((Put("n", key, 1, key), None if vector is None else vector.tobytes()))
        record.write(batch, gone)
        for one, data in batch:
            stored.pop(one.id, None)
            if data is not None:
                stored[one.id] = np.frombuffer(data, "<f4")
        for id in gone:
            stored.pop(id, None)
        if turn % 40 == 39:
            record.prune(record.last_seq())  # nobody can tell any more what was deleted
        query = vectors(source, 1)[0]
        for matrices in (here, there) if turn % 3 else (here,):
            assert same(matrices.nearest("n", query, 7), plain(stored, query, 7)), turn
        some = [*choose.sample(sorted(stored), min(len(stored), 5)), "no such id"]
        assert same(here.nearest("n", query, 3, some), plain({id: stored[id] for id in some[:-1]}, query, 3))
    other.close()


def test_each_namespace_and_kind_is_searched_alone(record):
    unit = np.eye(DIMENSION, dtype=np.float32)
    a, b = put(record, "k", unit[0]), put(record, "k", unit[0], "other")
    fact = put(record, "k", unit[1], kind="fact")
    matrices = Matrices(record)
    assert [id for id, _ in matrices.nearest("n", unit[0], 9)] == [a, fact]
    assert matrices.nearest("other", unit[0], 9) == [(b, 1.0)]
    assert matrices.nearest("nowhere", unit[0], 9) == []
    found = matrices.scored("n", unit[0])
    assert found.best(9, kind="fact") == [(fact, 0.0)]
    assert found.best(9, kind="entry", only=[fact, a, b]) == [(a, 1.0)]
    assert found.of([a, b, fact]) == {a: 1.0, fact: 0.0}


def test_of_equals_the_smaller_id_comes_first_however_many_there_are(record, seed):
    ids = [put(record, f"k{i}", np.ones(DIMENSION)) for i in range(50)]
    random.Random(seed).shuffle(ids)
    query = np.ones(DIMENSION, dtype=np.float32)
    for k in (1, 7, 50, 80):
        assert Matrices(record).nearest("n", query, k) == [(id, 1.0) for id in sorted(ids)[:k]]


def test_vectors_of_another_dimension_and_zeros_are_near_nothing(record):
    put(record, "short", np.ones(DIMENSION - 1))
    zero = put(record, "zero", np.zeros(DIMENSION))
    good = put(record, "good", np.ones(DIMENSION))
    matrices = Matrices(record)
    assert matrices.nearest("n", np.ones(DIMENSION, dtype=np.float32), 9) == [(good, 1.0), (zero, 0.0)]
    assert matrices.nearest("n", np.zeros(DIMENSION, dtype=np.float32), 1)[0][1] == 0.0
    assert [cosine for _, cosine in matrices.nearest("n", np.ones(DIMENSION - 1, dtype=np.float32), 9)] == [1.0]


def test_a_tail_has_what_was_written_since_and_knows_what_was_deleted(record):
    unit = np.eye(DIMENSION, dtype=np.float32)
    old, gone, changed = (put(record, key, unit[0]) for key in ("old", "gone", "changed"))
    seq = record.last_seq()
    delete(record, "gone")
    put(record, "changed", unit[1])
    new = put(record, "new", unit[0])
    tail = Matrices(record).scored("n", unit[0], seq)
    assert tail.best(9) == [(new, 1.0), (changed, 0.0)]
    assert [id in tail for id in (old, gone, changed, new)] == [False, True, True, True]


def test_a_tail_that_begins_later_holds_only_that(record):
    unit = np.eye(DIMENSION, dtype=np.float32)
    matrices = Matrices(record)
    first = put(record, "first", unit[0])
    assert matrices.scored("n", unit[0], record.last_seq() - 1 or 1).best(9) in ([(first, 1.0)], [])
    seq = record.last_seq()
    second = put(record, "second", unit[0])
    assert matrices.scored("n", unit[0], seq).best(9) == [(second, 1.0)]
    assert first not in matrices.scored("n", unit[0], seq)


def test_a_search_goes_on_with_what_was_there_when_it_began(record):
    unit = np.eye(DIMENSION, dtype=np.float32)
    a = put(record, "a", unit[0])
    matrices = Matrices(record)
    rows = matrices._rows("n", 0, DIMENSION)
    with rows.lock:
        rows.follow(record)
        search = rows.view()
    put(record, "a", unit[1])
    assert matrices.nearest("n", unit[1], 1) == [(a, 1.0)]
    assert search(unit[0]).best(9) == [(a, 1.0)]
    for i in range(3_000 // 100):  # more than fits in the rows that are there
        record.write([(Put("n", f"k{i}-{j}", 1, ""), unit[2].tobytes()) for j in range(100)], [])
    assert matrices.nearest("n", unit[1], 1) == [(a, 1.0)]
    assert search(unit[0]).best(9) == [(a, 1.0)]
    assert len(matrices.scored("n", unit[0]).best(9_999)) == 3_001


def test_deletes_that_nobody_can_tell_any_more_are_noticed(record):
    unit = np.eye(DIMENSION, dtype=np.float32)
    put(record, "gone", unit[0])
    stays = put(record, "stays", unit[0])
    matrices = Matrices(record)
    assert len(matrices.nearest("n", unit[0], 9)) == 2
    delete(record, "gone")
    record.prune(record.last_seq())
    assert matrices.nearest("n", unit[0], 9) == [(stays, 1.0)]


def test_rows_of_what_was_deleted_do_not_pile_up(record):
    unit = np.eye(DIMENSION, dtype=np.float32)
    matrices = Matrices(record)
    for turn in range(40):
        record.write([(Put("n", f"k{i}", 1, ""), unit[turn % DIMENSION].tobytes()) for i in range(100)], [])
        assert len(matrices.nearest("n", unit[turn % DIMENSION], 500)) == 100
    assert matrices.bytes_used <= 2_048 * DIMENSION * 4


def test_matrices_keep_their_bound_and_find_the_same(record, seed):
    source = np.random.default_rng(seed)
    for namespace in "abc":
        record.write([(Put(namespace, f"k{i}", 1, ""), row.tobytes()) for i, row in enumerate(vectors(source, 300))], [])
    query = vectors(source, 1)[0]
    free, bound, tiny = Matrices(record), Matrices(record, bytes_max=40_000), Matrices(record, bytes_max=100)
    for namespace in "abcabc":
        expected = free.nearest(namespace, query, 20)
        assert len(expected) == 20
        assert same(bound.nearest(namespace, query, 20), expected)
        assert same(tiny.nearest(namespace, query, 20), expected)  # read through, since it may keep nothing
        assert bound.bytes_used <= 40_000
    assert tiny.bytes_used == 0
    record.write([(Put("a", "k0", 1, ""), query.tobytes())], [])
    assert tiny.nearest("a", query, 1) == bound.nearest("a", query, 1) == [(entry_id("a", "entry", "k0"), 1.0)]


def test_a_namespace_is_counted_only_when_its_count_can_matter(record):
    matrices = Matrices(record)
    assert not matrices.is_over("n", 0)
    put(record, "a", np.ones(DIMENSION))
    assert matrices.is_over("n", 0)
    assert not matrices.is_over("n", 1)
    put(record, "b", np.ones(DIMENSION))
    assert matrices.is_over("n", 1)
    assert not matrices.is_over("n", 2)
    delete(record, "a")
    delete(record, "b")
    assert not matrices.is_over("n", 0)


def test_searches_of_many_threads_see_every_entry_once_while_it_changes(record, long_run):
    """One thread writes and rewrites; every search finds all entries that are always there, none twice."""
    unit = np.eye(DIMENSION, dtype=np.float32)
    lasting = {put(record, f"k{i}", unit[0]) for i in range(20)}
    matrices = Matrices(record)
    over, wrong = threading.Event(), []

    def search():
        while not over.is_set():
            found = [id for id, _ in matrices.nearest("n", unit[0], 10_000)]
            if len(found) != len(set(found)) or not lasting <= set(found):
                wrong.append(found)
                return
            time.sleep(0)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(1_000 if long_run else 15):
        record.write([(Put("n", f"k{i}", turn, ""), unit[turn % 2].tobytes()) for i in range(20)], [])
        record.write([(Put("n", f"x{turn % 7}-{i}", turn, ""), unit[1].tobytes()) for i in range(100)], [])
        record.write([], [entry_id("n", "entry", f"x{(turn + 3) % 7}-{i}") for i in range(100)])
    over.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_some_vectors_are_scored_by_themselves():
    unit = np.eye(DIMENSION, dtype=np.float32)
    found = scored({"b": unit[0].tobytes(), "a": (unit[0] * 4).tobytes(), "c": unit[1].tobytes(), "d": b"1234"}, unit[0])
    assert found.best(9) == [("a", 1.0), ("b", 1.0), ("c", 0.0)]
    assert scored({}, unit[0]).best(9) == []


@pytest.mark.parametrize("known", [True, False])
def test_an_older_numpy_finds_the_same(record, monkeypatch, seed, known):
    source = np.random.default_rng(seed)
    rows = vectors(source, 50)
    record.write([(Put("n", f"k{i}", 1, ""), row.tobytes()) for i, row in enumerate(rows)], [])
    monkeypatch.setattr(exact, "_VECDOT", known and exact._VECDOT)
    stored = {entry_id("n", "entry", f"k{i}"): row for i, row in enumerate(rows)}
    assert same(Matrices(record).nearest("n", rows[7], 9), plain(stored, rows[7], 9))
