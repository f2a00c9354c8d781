"""The index follows the record, and whatever happens to it, it comes back as the record has it."""

from __future__ import annotations

import json
import os
import random
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from apxm.errors import EmbedderError, StorageError, TransientError
from apxm.fault import at_faults
from apxm.memory.embed.hashing import HashingEmbedder
from apxm.memory.ltm import upkeep as module
from apxm.memory.ltm.comparison import FIRST_IDS
from apxm.memory.ltm.entry import entry_id
from apxm.memory.ltm.index import HNSW, IndexDamaged, collection_name, generations, index_path
from apxm.memory.ltm.upkeep import CRASHES_MAX
from tests.unit.memory.ltm.stores import DIMENSION, Store, hits, quick_folder, text_for, vector_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from apxm.memory.embed.base import Fingerprint, Vectors


@pytest.fixture
def store() -> Iterator[Store]:
    """An empty store."""
    with quick_folder() as folder:
        store = Store(folder)
        yield store
        store.close()


def test_the_index_takes_over_what_was_put_changed_and_deleted(store: Store) -> None:
    first, second, third = store.put(["one", "two", "three"])
    store.upkeep.catch_up()
    assert store.nearest(text_for("one"), 1) == [first]
    assert store.upkeep.behind() == 0

    store.delete(["one"])
    store.put(["two"], text=text_for("changed"))
    assert store.upkeep.behind() == 2
    store.upkeep.catch_up()
    assert store.nearest(text_for("changed"), 3) == [second, third]
    assert store.upkeep.verify().ok


def test_an_entry_whose_new_text_has_no_vector_yet_is_not_found_by_its_old_one(store: Store) -> None:
    store.put(["one", "two"])
    store.upkeep.catch_up()
    (changed,) = store.put(["one"], text="something else", embedded=False)
    store.upkeep.catch_up()
    assert changed not in store.nearest(text_for("one"), 9)
    report = store.upkeep.verify()
    assert (report.unembedded.ids, report.missing.count, report.extra.count, report.ok) == ((changed,), 0, 0, False)


def test_namespaces_are_apart(store: Store) -> None:
    (mine,) = store.put(["key"], namespace="mine")
    (theirs,) = store.put(["key"], namespace="theirs")
    store.upkeep.catch_up()
    assert store.nearest(text_for("key"), 9, namespace="mine") == [mine]
    assert store.nearest(text_for("key"), 9, namespace="theirs") == [theirs]
    assert store.nearest(text_for("key"), 9, namespace="nobody") == []


def test_what_was_sealed_is_opened_again_and_not_built(store: Store) -> None:
    ids = store.put(["one", "two"])
    store.upkeep.catch_up()
    again = store.again()
    again.put(["three"])
    again.upkeep.catch_up()
    assert generations(again.folder) == [1]
    assert again.nearest(text_for("one"), 1) == ids[:1]
    assert "as it was left" in again.upkeep.verify().index
    again.close()


def test_what_was_left_open_is_compared_and_then_used(store: Store) -> None:
    store.put(["one", "two"])
    store.upkeep.catch_up()
    again = store.left_open()
    report = again.upkeep.verify()
    assert report.ok
    assert "compared after a crash" in report.index
    assert generations(again.folder) == [1]
    again.close()


@pytest.mark.parametrize("step", ["before_delete", "after_delete", "before_upsert", "after_upsert", "before_watermark"])
def test_a_crash_between_index_and_number_costs_no_new_build(store: Store, step: str) -> None:
    store.put(["one", "two"])
    store.upkeep.catch_up()
    store.put(["two", "three"], text="new")
    store.delete(["one"])

    def die(site: str) -> None:
        if site == f"ltm.index.{step}":
            raise _Death

    with at_faults(die), pytest.raises(_Death):
        store.upkeep.catch_up()
    again = store.left_open()
    report = again.upkeep.verify()
    assert report.ok
    assert "compared after a crash" in report.index
    assert generations(again.folder) == [1]
    again.close()


def test_what_was_left_open_and_differs_is_built_again(store: Store) -> None:
    ids = store.put(["one", "two"])
    store.upkeep.catch_up()
    _index(store).delete("default", ids[:1])
    again = store.left_open()
    report = again.upkeep.verify()
    assert report.ok
    assert "differs from the record" in report.index
    assert generations(again.folder) == [2]
    again.close()


def test_what_killed_whoever_looked_at_it_is_never_opened_again(store: Store) -> None:
    store.put(["one"])
    store.upkeep.catch_up()
    crashed = store.left_open()

    def die(site: str) -> None:
        if site == "ltm.open.after_mark":
            raise _Death

    with at_faults(die), pytest.raises(_Death):
        crashed.upkeep.catch_up()
    again = crashed.left_open()
    again.upkeep.catch_up()
    assert generations(again.folder) == [2]
    again.close()


def test_what_may_have_killed_several_processes_is_not_opened_again(store: Store) -> None:
    store.put(["one"])
    store.upkeep.catch_up()
    current = store
    for _ in range(CRASHES_MAX):
        current = current.left_open()
        current.upkeep.catch_up()
        assert generations(current.folder) == [1]
    current = current.left_open()
    current.upkeep.catch_up()
    assert generations(current.folder) == [2]
    current.close()


def test_a_graph_that_leads_nowhere_is_noticed_after_a_crash(store: Store) -> None:
    store.put([f"key {number}" for number in range(300)])
    store.upkeep.catch_up()
    crashed = store.left_open()
    (file,) = index_path(store.folder, 1).rglob("data_level0.bin")
    graph = bytearray(file.read_bytes())
    element = 4 + 4 * 2 * HNSW["max_neighbors"] + 4 * DIMENSION + 8  # number of links, links, vector, label
    assert len(graph) % element == 0
    for place in range(0, len(graph), element):
        graph[place : place + 4] = bytes(4)  # no links; the vectors are whole
    file.write_bytes(graph)
    report = crashed.upkeep.verify()
    assert report.ok
    assert "differs from the record" in report.index
    crashed.close()


def test_what_was_open_when_the_machine_went_down_is_built_again(store: Store) -> None:
    store.put(["one"])
    store.upkeep.catch_up()
    state = json.loads(store.record.meta("index") or "")
    store.record.set_meta(index=json.dumps({**state, "boot": "another"}))
    again = store.left_open()
    again.upkeep.catch_up()
    assert generations(again.folder) == [2]
    again.close()


@pytest.mark.parametrize(
    "said", ["", "{", "[]", "{}", '{"generation": 1}', '{"generation": 7, "seq": 0, "boot": "", "seal": "0"}']
)
def test_whatever_the_record_says_about_the_index_it_is_there_afterwards(store: Store, said: str) -> None:
    store.put(["one"])
    store.upkeep.catch_up()
    again = store.again()
    again.record.set_meta(index=said)
    again.upkeep.catch_up()
    assert again.nearest(text_for("one"), 1) == [entry_id("default", "entry", "one")]
    assert len(generations(again.folder)) == 1
    assert again.upkeep.verify().ok
    again.close()


def test_an_index_that_followed_another_record_is_built_again(store: Store) -> None:
    store.put(["one"])
    store.upkeep.catch_up()
    state = json.loads(store.record.meta("index") or "")
    again = store.again()
    again.record.set_meta(index=json.dumps({**json.loads(again.record.meta("index") or ""), "seq": state["seq"] + 5}))
    again.upkeep.catch_up()
    assert generations(again.folder) == [2]
    again.close()


def test_verify_names_what_is_missing_extra_and_stale(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    keys = [f"key {number}" for number in range(60)]
    ids = store.put(keys)
    store.upkeep.catch_up()
    index = _index(store)
    missing, stale = ids[: FIRST_IDS + 5], chance.sample(ids[20:], 3)
    index.delete("default", missing)
    index.upsert("default", stale, np.asarray(store.embedder.embed([f"other {id}" for id in stale])))
    index.upsert("default", ["f" * 32], np.asarray(store.embedder.embed(["more"])))
    index.upsert("unheard of", ["e" * 32], np.asarray(store.embedder.embed(["more"])))
    report = store.upkeep.verify()
    assert not report.ok
    assert (report.vectors, report.missing.count, report.stale.count, report.extra.count) == (60, FIRST_IDS + 5, 3, 2)
    assert report.missing.ids == tuple(sorted(missing, key=ids.index)[:FIRST_IDS])
    assert set(report.stale.ids) == set(stale)
    assert set(report.extra.ids) == {"f" * 32, "e" * 32}
    assert report.to_map()["ok"] is False

    report = store.upkeep.rebuild()
    assert report.ok
    assert report.vectors == 60
    assert store.upkeep.verify().ok


def test_verify_makes_no_index_where_none_was_needed(store: Store) -> None:
    store.put(["one"])
    report = store.upkeep.verify()
    assert report.ok
    assert report.vectors == 1
    assert "none was needed" in report.index
    assert generations(store.folder) == []


def test_an_index_built_again_has_what_the_living_one_had(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    keys = [f"key {number}" for number in range(80)]
    for _ in range(6):
        store.put(chance.sample(keys, 30), text=f"round {chance.random()}")
        store.delete(chance.sample(keys, 8))
        store.put(chance.sample(keys, 10), namespace="other")
        store.upkeep.catch_up()
    before = _contents(store)
    assert store.upkeep.rebuild().ok
    after = _contents(store)
    assert before.keys() == after.keys()
    for id, vector in before.items():
        np.testing.assert_allclose(vector, after[id], atol=1e-6)


def test_progress_is_told_until_all_is_done(store: Store) -> None:
    store.put([f"key {number}" for number in range(30)])
    told: list[tuple[str, int, int]] = []
    store.upkeep.rebuild(lambda *step: told.append(step))
    assert ("indexing", 30, 30) in told
    assert ("comparing", 30, 30) in told


def test_a_search_goes_on_with_the_old_index_until_the_new_one_is_there(store: Store) -> None:
    (id,) = store.put(["one"])
    store.upkeep.catch_up()
    seen = []

    def search(site: str) -> None:
        if site.startswith("ltm.build."):
            seen.append(store.nearest(text_for("one"), 1))

    with at_faults(search):
        store.upkeep.compact()
    assert len(seen) == 6
    assert seen == [[id]] * 6


def test_a_failing_build_leaves_the_old_index(store: Store) -> None:
    (id,) = store.put(["one"])
    store.upkeep.catch_up()

    def fail(site: str) -> None:
        if site == "ltm.build.before_swap":
            raise _Death

    with at_faults(fail), pytest.raises(_Death):
        store.upkeep.rebuild()
    assert generations(store.folder) == [1]
    assert store.nearest(text_for("one"), 1) == [id]


def test_compacting_leaves_nothing_of_what_was_deleted_or_replaced(store: Store) -> None:
    gone, replaced, kept = "the secret of the lighthouse", "an older version of it", "what stays where it is"
    store.put(["gone"], text=gone)
    store.put(["replaced"], text=replaced)
    store.put(["kept"], text=kept)
    store.upkeep.catch_up()
    needles = [what for text in (gone, replaced) for what in (text.encode(), vector_bytes(store, text))]
    assert all(hits(store.folder, needle) for needle in needles)

    store.delete(["gone"])
    store.put(["replaced"], text="a newer one")
    report = store.upkeep.compact()
    assert report.ok
    assert "compacted" in report.index
    assert {needle: hits(store.folder, needle) for needle in needles} == {needle: [] for needle in needles}
    assert len(hits(store.folder, kept.encode())) == 1
    assert store.record.deleted() == 0
    assert store.nearest(kept, 9)[0] == entry_id("default", "entry", "kept")
    assert generations(store.folder) == [2]


def test_sweeping_leaves_nothing_either_and_the_index_comes_back(store: Store) -> None:
    ids = store.put(["gone", "kept"])
    store.upkeep.catch_up()
    assert len(hits(store.folder, vector_bytes(store, text_for("gone")))) > 1
    store.delete(["gone"])
    assert store.upkeep.sweep()
    for needle in (text_for("gone").encode(), vector_bytes(store, text_for("gone"))):
        assert hits(store.folder, needle) == []
    assert generations(store.folder) == []
    again = store.again()
    again.upkeep.catch_up()
    assert again.nearest(text_for("kept"), 9) == ids[1:]
    again.close()


def test_sweeping_does_nothing_where_nothing_was_deleted_or_where_it_would_take_long(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(["gone", "kept", "more"])
    store.upkeep.catch_up()
    again = store.again()
    assert not again.upkeep.sweep()
    again.delete(["gone"])
    monkeypatch.setattr("apxm.memory.ltm.upkeep.SWEEP_MAX", 1)
    assert not again.upkeep.sweep()
    monkeypatch.setattr("apxm.memory.ltm.upkeep.SWEEP_MAX", 2)
    monkeypatch.setattr("apxm.memory.ltm.upkeep.SWEEP_BYTES_MAX", 1)
    assert not again.upkeep.sweep()
    assert generations(again.folder) == [1]
    monkeypatch.undo()
    assert again.upkeep.sweep()
    again.close()


def test_what_one_process_deleted_and_did_not_compact_the_next_one_does(store: Store) -> None:
    store.put(["gone", "kept"])
    store.upkeep.catch_up()
    store.delete(["gone"])
    again = store.left_open()
    again.upkeep.catch_up()
    for needle in (text_for("gone").encode(), vector_bytes(store, text_for("gone"))):
        assert hits(store.folder, needle) == []
    again.close()


@pytest.mark.parametrize("site", ["ltm.build.before_make", "ltm.build.after_make", "ltm.build.before_swap"])
def test_an_index_that_breaks_while_it_is_built_is_begun_again(store: Store, site: str) -> None:
    store.put(["one", "two"])
    store.upkeep.catch_up()
    store.delete(["one"])
    left = [1]

    def breaks(at: str) -> None:
        if at == site and left:
            left.pop()
            raise IndexDamaged("a bad sector")

    with at_faults(breaks):
        assert store.upkeep.compact().ok
    assert (left, len(generations(store.folder)), store.record.deleted()) == ([], 1, 0)

    def broken(at: str) -> None:
        if at == site:
            raise IndexDamaged("a bad sector")

    with at_faults(broken), pytest.raises(StorageError, match="cannot be built: a bad sector"):
        store.upkeep.rebuild()
    assert store.upkeep.verify().ok


def test_an_index_that_cannot_be_made_is_an_error_of_the_disk(store: Store) -> None:
    store.put(["one"])

    def broken(site: str) -> None:
        if site == "ltm.anew.before_make":
            raise IndexDamaged("a bad sector")

    with at_faults(broken), pytest.raises(StorageError, match="cannot be built: a bad sector"):
        store.upkeep.catch_up()
    store.upkeep.catch_up()
    assert store.upkeep.verify().ok


def test_an_index_behind_pruned_deletions_is_built_again(store: Store) -> None:
    store.put(["gone", "kept"])
    store.upkeep.catch_up()
    again = store.again()
    again.delete(["gone"])
    again.record.prune(again.record.last_seq())
    again.upkeep.catch_up()
    assert generations(again.folder) == [2]
    assert again.upkeep.verify().ok
    again.close()


def test_on_a_full_disk_the_index_makes_room_for_the_record(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(["one"])
    store.upkeep.catch_up()
    store.put(["two"])
    usage = shutil.disk_usage(store.folder)
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
        _index(store)._client.close()  # whatever Chroma says then
        with pytest.raises(StorageError, match="make room"):
            store.upkeep.catch_up()
    assert generations(store.folder) == []
    assert store.upkeep.served() is None
    store.upkeep.catch_up()
    assert len(store.nearest(text_for("two"), 9)) == 2


def test_a_forked_child_neither_uses_nor_closes_the_index_of_its_parent(store: Store) -> None:
    (id,) = store.put(["one"])
    store.upkeep.catch_up()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            store.upkeep.close()
            code = 0 if store.upkeep.served() is None else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert store.nearest(text_for("one"), 1) == [id]
    assert json.loads(store.record.meta("index") or "")["seal"] is None


class _Failing(HashingEmbedder):
    """Fails after some calls."""

    def __init__(self, calls: int) -> None:
        super().__init__(DIMENSION * 2)
        self.calls = calls

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.calls -= 1
        if self.calls < 0:
            raise EmbedderError("the model is gone")
        return super().embed(texts)


def test_rebuilding_with_another_embedder_makes_all_vectors_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apxm.memory.ltm.upkeep.EMBED_AT_ONCE", 4)
    store.record.set_meta(embedder=json.dumps(store.embedder.fingerprint.to_map()))
    store.put([f"key {number}" for number in range(10)])
    store.upkeep.catch_up()
    store.close()

    other = Store(store.folder, HashingEmbedder(DIMENSION * 2))
    report = other.upkeep.rebuild()
    assert report.ok
    assert report.vectors == 10
    assert _lengths(other) == {DIMENSION * 2 * 4}
    assert _fingerprint(other) == other.embedder.fingerprint.to_map()
    other.close()


def test_an_embedder_that_does_not_work_takes_nothing_away(store: Store) -> None:
    store.record.set_meta(embedder=json.dumps(store.embedder.fingerprint.to_map()))
    store.put(["one", "two"])
    store.close()
    other = Store(store.folder, _Failing(0))
    with pytest.raises(EmbedderError):
        other.upkeep.rebuild()
    assert _fingerprint(other) == store.embedder.fingerprint.to_map()
    assert _lengths(other) == {DIMENSION * 4}
    other.close()


def test_rebuilding_that_was_interrupted_goes_on_and_never_mixes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apxm.memory.ltm.upkeep.EMBED_AT_ONCE", 4)
    store.record.set_meta(embedder=json.dumps(store.embedder.fingerprint.to_map()))
    store.put([f"key {number}" for number in range(10)])
    store.upkeep.catch_up()
    store.close()
    other = Store(store.folder, _Failing(2))
    with pytest.raises(EmbedderError):
        other.upkeep.rebuild()
    assert _lengths(other) == {0, DIMENSION * 2 * 4}
    assert other.upkeep.verify().unembedded.count == 6
    other.close()

    last = Store(store.folder, HashingEmbedder(DIMENSION * 2))
    asked = _count_texts(last.embedder, monkeypatch)
    assert last.upkeep.rebuild().ok
    assert _lengths(last) == {DIMENSION * 2 * 4}
    assert len(asked) == 6
    last.close()


def test_closing_ends_what_runs(store: Store) -> None:
    store.put([f"key {number}" for number in range(50)])

    def close(site: str) -> None:
        if site == "ltm.anew.after_make":
            store.upkeep._closing.set()

    with at_faults(close):
        store.upkeep.catch_up()
    assert store.upkeep.behind() == 50
    with pytest.raises(TransientError, match="being closed"):
        store.upkeep.rebuild()
    again = store.again()
    again.upkeep.catch_up()
    assert again.upkeep.verify().ok
    assert generations(again.folder) == [1]
    again.close()


class _Death(Exception):
    """Stands for the end of the process."""


def _index(store: Store):  # type: ignore[no-untyped-def]
    served = store.upkeep.served()
    assert served is not None
    return served[0]


def _contents(store: Store) -> dict[str, Vectors]:
    index = _index(store)
    return {
        id: vector
        for namespace in ("default", "other")
        for id, vector in index.vectors(namespace, sorted(index.ids(collection_name(namespace)))).items()
    }


def _lengths(store: Store) -> set[int]:
    return {len(change.vector or b"") for change in store.record.changes(0, 1_000)}


def _fingerprint(store: Store) -> Fingerprint:
    return json.loads(store.record.meta("embedder") or "")  # type: ignore[no-any-return]


def _count_texts(embedder: HashingEmbedder, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    embed = embedder.embed

    def counting(texts: Sequence[str]) -> Vectors:
        asked.extend(texts)
        return embed(texts)

    monkeypatch.setattr(embedder, "embed", counting)
    return asked


def test_a_generation_is_for_its_owner_alone(store: Store) -> None:
    store.put(["one"])
    store.upkeep.catch_up()
    assert index_path(store.folder, 1).stat().st_mode & 0o777 == 0o700


def test_an_index_that_cannot_be_opened_is_not_said_to_be_in_order(store: Store, monkeypatch) -> None:
    store.put(["one"])
    store.upkeep.catch_up()
    again = store.again()
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    report = again.upkeep.verify()
    assert (report.ok, report.compared) == (True, False)
    assert "cannot be opened without chromadb" in report.index
    again.close()
