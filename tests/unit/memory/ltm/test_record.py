"""The record: what was written is there, all of it or nothing; what was deleted is not; damage is noticed."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from apxm.errors import InvalidError, StorageError, ValueRefused
from apxm.fault import at_faults
from apxm.memory.ltm import tables
from apxm.memory.ltm.entry import Put, entry_id
from apxm.memory.ltm.record import Change, Record
from apxm.values import same
from tests.unit.memory.ltm.stores import hits, quick_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOSTILE = (
    " ",
    "\0",
    "a\0b",
    "a" * 1_000,
    "'; DROP TABLE entries; --",
    '"',
    "%",
    "_",
    "%_",
    "\\",
    "\u202eabc",
    "😀",
    "é",
    "e\u0301",
    "../..",
)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as found:
        yield found


@pytest.fixture
def record(folder, clock) -> Iterator[Record]:
    found = Record(folder, clock=clock)
    yield found
    found.close()


def put(key: str, text: str = "", *, value=None, namespace: str = "n", vector: bytes | None = None, **more):
    return Put(namespace, key, text if value is None else value, text, **more), vector


def id_of(key: str, namespace: str = "n", kind: str = "entry") -> str:
    return entry_id(namespace, kind, key)


def listed(record: Record, **asked) -> list[str]:
    told = {"namespace": None, "kind": None, "prefix": "", "where": None, "after": 0, "limit": 1_000, **asked}
    return [entry.key for entry in record.listed(**told)]


# ---- entries ---------------------------------------------------------------------------------------------------------
def test_what_is_not_there_is_not_found(record, folder):
    assert (record.get(id_of("a"), 0.0), record.entries([id_of("a")]), record.vectors([id_of("a")])) == (None, {}, {})
    assert (record.changes(0, 9), record.count(), record.last_seq(), record.meta("a"), record.lexical("n", "a", 9, None)) == (
        [],
        0,
        0,
        None,
        [],
    )
    assert (listed(record), record.spaces(), record.unembedded(9), record.damage(), record.largest()) == ([], [], [], [], 0)
    assert list(folder.iterdir()) == []


def test_an_entry_comes_back_as_it_was_written(record, clock):
    given, vector = put("k", "text", value={"a": [1]}, vector=b"1234", metadata={"m": ["x"]}, labels=("web",), expires_at=2_000.0)
    (entry,) = record.write([(given, vector)], [])
    assert record.get(entry.id, clock.now) == entry
    assert record.entries([entry.id, "0" * 32]) == {entry.id: entry}
    assert record.vectors([entry.id]) == {entry.id: b"1234"}
    assert (entry.value, entry.text, entry.metadata, entry.labels) == ({"a": [1]}, "text", {"m": ["x"]}, ("web",))
    assert (entry.created_at, entry.updated_at, entry.expires_at, entry.seq) == (1_000.0, 1_000.0, 2_000.0, 1)


def test_an_entry_takes_the_place_of_the_one_before_and_keeps_when_it_began(record, clock):
    record.write([put("k", "apple")], [])
    clock.now += 5
    (entry,) = record.write([put("k", "pear")], [])
    assert (entry.created_at, entry.updated_at, entry.seq) == (1_000.0, 1_005.0, 2)
    assert record.get(entry.id, clock.now) == entry
    assert (record.lexical("n", "apple", 9, None), [id for id, _ in record.lexical("n", "pear", 9, None)]) == ([], [entry.id])
    (entry,) = record.write([put("k", "plum", created_at=1.0, updated_at=2.0)], [])
    assert (entry.created_at, entry.updated_at) == (1.0, 2.0)


def test_a_deleted_entry_is_nowhere_and_says_that_it_is_gone(record, clock):
    (entry,) = record.write([put("k", "apple", vector=b"1234")], [])
    assert record.apply([entry.id, entry.id, id_of("never")]) == [True, False, False]
    assert (record.get(entry.id, clock.now), listed(record), record.lexical("n", "apple", 9, None), record.count()) == (
        None,
        [],
        [],
        0,
    )
    assert record.changes(0, 9) == [Change(3, entry.id, "n", "entry", None, True)]
    record.write([put("k", "again")], [])
    assert [(change.seq, change.deleted) for change in record.changes(0, 9)] == [(5, False)]


def test_the_order_within_a_transaction_counts(record, clock):
    (a,) = record.write([put("a", "old")], [])
    done = record.apply([a.id, put("a", "new"), put("b", "b"), id_of("b"), put("c", "1"), put("c", "2"), id_of("d")])
    assert [one if isinstance(one, bool) else one.text for one in done] == [True, "new", "b", True, "1", "2", False]
    assert {entry.key: entry.text for entry in record.entries([id_of(key) for key in "abcd"]).values()} == {"a": "new", "c": "2"}
    assert [change.seq for change in record.changes(0, 9)] == [3, 7]
    assert record.last_seq() == 8


def test_keys_of_any_kind_stay_apart(record):
    keys = [*HOSTILE, "a", "A"]
    record.write([put(key, "t", value=number) for number, key in enumerate(keys)], [])
    record.write([put(key, "t", value=-number - 1, namespace=key) for number, key in enumerate(keys)], [])
    record.write([put(key, "t", value="fact", kind="fact") for key in keys], [])
    for number, key in enumerate(keys):
        assert record.get(id_of(key), 0.0).value == number
        assert record.get(id_of(key, key), 0.0).value == -number - 1
        assert record.get(id_of(key, kind="fact"), 0.0).value == "fact"
        assert key in listed(record, namespace="n", prefix=key[:3], kind="entry")
    assert listed(record, namespace="n", kind="entry", prefix="%") == ["%", "%_"]
    assert listed(record, namespace="n", kind="entry", prefix="_") == ["_"]
    assert listed(record, namespace="n", kind="entry", prefix="a\0") == ["a\0b"]
    assert listed(record, namespace="'; DROP TABLE entries; --") == ["'; DROP TABLE entries; --"]
    assert len(listed(record)) == 3 * len(keys)
    assert record.damage() == []


VALUES = [
    None, True, False, 0, -(2**63), 2**63 - 1, 0.1, 5e-324, "", "é\0😀", b"", b"\0\xff" * 1_000, [], {},
    {"": {"a": [None, [True]]}}, [1, 1.0, "1", b"1"], "x" * 1_048_576, {"deep": [[[[[[{}]]]]]]},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_of_every_kind_comes_back(record, value):
    record.write([put("k", "", value=value) if value is not None else (Put("n", "k", None, ""), None)], [])
    found = record.get(id_of("k"), 0.0).value
    assert type(found) is type(value)
    assert same(found, value)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "float32", "float64", "complex128"])
def test_arrays_come_back(record, dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    record.write([put("k", value={"array": array, "empty": array[:0]})], [])
    found = record.get(id_of("k"), 0.0).value
    assert same(found["array"], array)
    assert found["empty"].shape == (0, 3)
    assert found["array"].dtype == array.dtype


def test_tensors_come_back(record, long_run):
    if not long_run:
        pytest.skip("torch takes seconds to load, and the values have their own test; --long")
    torch = pytest.importorskip("torch")
    tensors = [torch.arange(6).reshape(2, 3), torch.tensor(1.5, dtype=torch.bfloat16), torch.zeros(0)]
    record.write([put("k", value=tensors)], [])
    assert same(record.get(id_of("k"), 0.0).value, tensors)


def test_what_cannot_be_stored_fails_the_whole_transaction(record):
    record.write([put("a", "a")], [])
    with pytest.raises(ValueRefused):
        record.write([put("b", "b"), put("c", value=float("nan"))], [id_of("a")])
    assert (listed(record), record.last_seq()) == (["a"], 1)


def test_a_value_that_is_too_large_is_refused(record, monkeypatch):
    monkeypatch.setattr("apxm.memory.ltm.record.VALUE_BYTES_MAX", 1_000)
    record.write([put("a", value=b"x" * 990)], [])
    with pytest.raises(InvalidError, match="has 1,003 bytes, at most 1,000 are kept"):
        record.write([put("b", value=b"x" * 1_000)], [])


# ---- ends ------------------------------------------------------------------------------------------------------------
def test_what_is_past_its_end_is_found_by_nobody(record, clock):
    (entry,) = record.write([put("k", "apple", value={"a": 1}, expires_at=1_010.0)], [])
    assert (len(listed(record)), record.expired(9)) == (1, [])
    clock.now = 1_010.0
    assert (record.get(entry.id, clock.now), record.entries([entry.id]), listed(record)) == (None, {}, [])
    assert (record.lexical("n", "apple", 9, None), record.spaces()) == ([], [])
    assert record.expired(9) == [entry.id]
    assert record.apply(record.expired(9)) == [False]
    assert [change.deleted for change in record.changes(0, 9)] == [True]
    (again,) = record.write([put("k", "apple")], [])
    assert again.created_at == 1_010.0


def test_an_entry_written_after_its_end_begins_anew(record, clock):
    record.write([put("k", "a", expires_at=1_010.0)], [])
    clock.now = 1_020.0
    (entry,) = record.write([put("k", "b")], [])
    assert entry.created_at == 1_020.0


# ---- lists, filters, words -------------------------------------------------------------------------------------------
def test_entries_are_listed_in_the_order_of_their_writes_page_by_page(record):
    record.write([put(f"k{n}", value=n, namespace=f"n{n % 2}") for n in range(10)], [])
    record.write([put("k0", value="again", namespace="n0")], [])
    assert listed(record, namespace="n0") == ["k2", "k4", "k6", "k8", "k0"]
    first = record.listed(namespace="n0", kind=None, prefix="", where=None, after=0, limit=2)
    assert [entry.key for entry in first] == ["k2", "k4"]
    assert listed(record, namespace="n0", after=first[-1].seq, limit=2) == ["k6", "k8"]


def test_filters_look_into_metadata_and_maps(record):
    record.write([put("a", value={"n": 1, "x": 1}, metadata={"x": 2}), put("b", value={"n": 1}, namespace="other")], [])
    assert record.matching("n", None, {"n": 1}) == [(id_of("a"), 1, None, 1)]
    assert record.matching("n", None, {"x": 2}) == [(id_of("a"), 1, None, 1)]
    assert record.matching("n", None, {"x": 1}) == []
    assert record.matching("n", "fact", {"n": 1}) == []
    assert listed(record, where={"n": {"$lt": 2}}) == ["a", "b"]
    with pytest.raises(InvalidError):
        record.matching("n", None, {"$bad": 1})


def test_words_are_found_in_keys_and_texts_of_one_namespace(record):
    record.write([put("blue_lamp", "a green bottle"), put("b", "Déjà vu, GREEN green"), put("c", "green", namespace="other")], [])
    assert {id for id, _ in record.lexical("n", "green", 9, None)} == {id_of("blue_lamp"), id_of("b")}
    assert [id for id, _ in record.lexical("n", "green", 1, None)] == [id_of("b")]
    assert [id for id, _ in record.lexical("n", "LAMP", 9, None)] == [id_of("blue_lamp")]
    assert [id for id, _ in record.lexical("n", "deja", 9, None)] == [id_of("b")]
    assert [id for id, _ in record.lexical("n", "de\u0301ja\u0300", 9, None)] == [id_of("b")]
    assert record.lexical("n", "green", 9, "fact") == []
    assert record.phrase("n", "green bottle", 9, None) == [id_of("blue_lamp")]
    assert record.phrase("n", "bottle green", 9, None) == record.phrase("nowhere", "green bottle", 9, None) == []
    scores = [score for _, score in record.lexical("n", "green bottle", 9, None)]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] > 0


@pytest.mark.parametrize(
    "query",
    [
        "", " ", '"', '""', "(", "a OR", "AND", "NOT a", "a*", "^a", "a:b", "{a}", "-a", "a\0b", "\0", "—", "☃", "'", "NEAR(a b)",
        "space : 1", "%", "\ud800",
    ],
)  # fmt: skip
def test_any_text_is_a_query(record, query):
    record.write([put("k", "apple")], [])
    assert (record.lexical("n", query, 9, None), record.phrase("n", query, 9, None)) == ([], [])


def test_a_query_as_long_as_a_book_is_a_query(record):
    record.write([put("k", "apple")], [])
    rng = random.Random(1)
    words = " ".join("".join(chr(rng.randrange(32, 0x2000)) for _ in range(6)) for _ in range(50_000))
    assert record.lexical("n", f"apple {words}", 9, None)


# ---- writes as others follow them ------------------------------------------------------------------------------------
def test_changes_are_the_last_write_of_every_id_in_order(record):
    record.write([put(key, key, vector=key.encode() * 4) for key in "abc"], [])
    record.write([put("a", "A", vector=None), put("z", "z", namespace="m", vector=b"zzzz")], [id_of("b")])
    found = record.changes(0, 99)
    assert [(one.seq, one.id, one.vector, one.deleted) for one in found] == [
        (3, id_of("c"), b"cccc", False),
        (4, id_of("a"), None, False),
        (5, id_of("z", "m"), b"zzzz", False),
        (6, id_of("b"), None, True),
    ]
    assert record.changes(0, 2) == found[:2]
    assert record.changes(4, 99) == found[2:]
    assert record.changes(0, 99, "m") == [found[2]]
    assert record.changes(0, 99, "nowhere") == []
    assert (record.count(), record.count("n"), record.count("nowhere"), record.largest()) == (2, 1, 0, 2)


def test_a_vector_that_comes_later_is_a_change(record):
    (entry,) = record.write([put("a", "text")], [])
    record.write([put("b", "")], [])  # nothing to embed
    assert record.unembedded(9) == [(entry.id, 1, "text")]
    assert record.set_vectors([(entry.id, 1, b"1234"), (id_of("gone"), 1, b"1234")], embedder="e") == 1
    assert [(change.seq, change.vector) for change in record.changes(2, 9)] == [(3, b"1234")]
    assert (record.unembedded(9), record.unembedded_count(), record.meta("embedder")) == ([], 0, "e")


def test_a_vector_of_a_text_that_was_replaced_meanwhile_is_not_taken(record):
    (entry,) = record.write([put("a", "old")], [])
    record.write([put("a", "new")], [])
    assert record.set_vectors([(entry.id, entry.seq, b"1234")]) == 0
    assert record.unembedded(9) == [(entry.id, 2, "new")]


def test_vectors_are_taken_away_all_at_once(record):
    record.write([put(key, key, vector=b"1234") for key in "ab"], [])
    record.forget_vectors(embedder="other")
    assert (record.count(), record.meta("embedder"), [change.seq for change in record.changes(2, 9)]) == (0, "other", [3, 4])


# ---- a transaction is all or nothing ---------------------------------------------------------------------------------
@pytest.mark.parametrize("site", ["ltm.record.before_write", "ltm.record.before_commit"])
def test_a_write_that_is_cut_off_leaves_nothing(record, site):
    record.write([put("a", "a", vector=b"1234")], [])

    def cut(at: str) -> None:
        if at == site:
            raise RuntimeError(at)

    with at_faults(cut), pytest.raises(RuntimeError):
        record.write([put("b", "b"), put("a", "changed")], [id_of("a")])
    assert (listed(record), record.last_seq(), record.count(), record.damage()) == (["a"], 1, 1, [])
    record.write([put("b", "b")], [])


def test_a_file_that_is_full_fails_the_write_and_loses_nothing(record):
    record.write([put("a", "a")], [])
    db = record._opened()
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count={pages + 10}")
    with pytest.raises(StorageError, match="full") as raised:
        record.write([put("b", "b"), put("c", "x" * 1_000_000)], [])
    assert "make room" in raised.value.hint
    assert (listed(record), record.last_seq()) == (["a"], 1)
    db.execute("PRAGMA max_page_count=1073741823")
    record.write([put("b", "b")], [])
    assert listed(record) == ["a", "b"]


# ---- damage ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("what", ["the value", "the text", "the metadata", "the label", "the keys"])
def test_a_bit_that_turned_is_noticed_when_the_entry_is_read(record, folder, what):
    parts = {"value": b"the value", "metadata": {"m": "the metadata"}, "labels": ("the label",)}
    record.write([put("the keys", "the text", **parts)], [])
    record.close()
    path = folder / tables.FILE
    content = path.read_bytes()
    assert what.encode() in content
    path.write_bytes(content.replace(what.encode(), what.replace("t", "T").encode()))
    for read in (lambda: record.get(id_of("the keys"), 0.0), lambda: listed(record)):
        with pytest.raises(StorageError, match="is damaged") as raised:
            read()
        assert raised.value.code == "storage"
    assert any("damaged" in one for one in record.damage())


def test_no_damaged_page_is_read_as_if_it_were_whole(folder, seed, long_run):
    record = Record(folder)
    expected = {f"key {n}": f"text number {n} " * 40 for n in range(60)}
    record.write([put(key, text, vector=b"v" * 64, metadata={"n": 1}) for key, text in expected.items()], [])
    record.vacuum()
    record.close()
    path, rng = folder / tables.FILE, random.Random(seed)
    whole = path.read_bytes()
    noticed = 0
    for _ in range(2_000 if long_run else 60):
        at = rng.randrange(100, len(whole) - 64)
        path.write_bytes(whole[:at] + rng.randbytes(rng.choice((1, 64))) + whole[at + 64 :].rjust(len(whole) - at - 64, b"\0"))
        damaged = Record(folder)
        try:
            for key, text in expected.items():
                entry = damaged.get(id_of(key), 0.0)
                assert entry is None or entry.text == text
        except StorageError:
            noticed += 1
        else:
            noticed += bool(damaged.damage())
        damaged.close()
    assert noticed > 0


def test_damage_of_the_index_of_words_is_found_and_made_good(record):
    record.write([put("a", "apple")], [])
    with record._transaction() as db:
        db.execute("UPDATE words_data SET block = zeroblob(length(block)) WHERE id > 10")
    assert record.damage() != []
    record.rebuild_words()
    assert record.damage() == []
    assert record.lexical("n", "apple", 9, None)


# ---- what leaves the disk ----------------------------------------------------------------------------------------------
def test_nothing_of_what_was_deleted_or_replaced_is_left_after_a_vacuum(record, folder):
    record.write([put(f"stay{n}", "some other words here", vector=b"stay" * 96) for n in range(50)], [])
    record.write([put("k", "secretword alpha", value={"v": "hiddenvalue"}, vector=b"\x11\x22\x33\x44" * 96)], [])
    record.write([put("k", "otherword beta", value={"v": "newvalue"}, vector=b"\x55\x66\x77\x88" * 96)], [])
    record.apply([put("both", "gonetoo", value="gonetoo"), id_of("both")])
    record.write([], [id_of("k")])
    assert hits(folder, b"secretword")  # in the log
    record.vacuum()
    left = [name for secret in (b"secret", b"hidden", b"otherword", b"newvalue", b"gonetoo") for name in hits(folder, secret)]
    assert left + hits(folder, b"\x11\x22\x33\x44" * 4) + hits(folder, b"\x55\x66\x77\x88" * 4) == []
    assert len(record.lexical("n", "words", 99, None)) == 50
    assert record.damage() == []


def test_ends_that_are_forgotten_are_named_for_who_follows(record):
    record.write([put(key, key) for key in "abc"], [])
    record.write([], [id_of("a"), id_of("b")])
    assert (record.deleted(), record.prune(4), record.deleted(), record.meta("pruned")) == (2, 1, 1, "4")


# ---- threads and processes -------------------------------------------------------------------------------------------
def test_threads_read_while_one_writes(record, long_run):
    stop, wrong = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            for key in "ab":
                first, second = record.get(id_of(key), 0.0), record.get(id_of(key), 0.0)
                if first is not None and (second is None or second.seq < first.seq or first.text != str(first.value)):
                    wrong.append((first, second))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2_000 if long_run else 100):
        record.write([put(key, str(number), value=number) for key in "ab"], [])
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(record._free) <= 8


def test_a_forked_child_reads_with_connections_of_its_own(record):
    record.write([put("a", "a")], [])
    assert listed(record) == ["a"]
    child = os.fork()
    if child == 0:
        os._exit(0 if listed(record) == ["a"] and len(record._free) == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    record.write([put("b", "b")], [])
    assert listed(record) == ["a", "b"]


def test_it_opens_again_after_it_was_closed(record):
    record.write([put("a", "a")], [])
    record.close()
    assert listed(record) == ["a"]
    record.write([put("b", "b")], [])
    assert isinstance(record._writer, sqlite3.Connection)
