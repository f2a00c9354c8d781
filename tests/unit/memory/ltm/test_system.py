"""Long-term memory as a whole: what was put is found, here and by the next process; what fails loses nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from apxm.config import MemoryConfig
from apxm.errors import EmbedderError, InvalidError, LockedError, StorageError, TransientError, ValueRefused
from apxm.fault import at_faults
from apxm.memory.embed.hashing import HashingEmbedder
from apxm.memory.ltm import embedding as embedding_module
from apxm.memory.ltm import system as module
from apxm.memory.ltm.entry import FIELDS_MAX, KEY_CHARS_MAX, METADATA_CHARS_MAX, TEXT_CHARS_MAX, Put
from apxm.memory.ltm.reading import crc_of
from apxm.memory.ltm.search import QUERY_CHARS_MAX
from apxm.memory.ltm.system import LongTermMemory
from tests.unit.memory.ltm.stores import before_a_fork, hits, quick_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CONFIG = MemoryConfig(batch_ms=0, lock_timeout_ms=0)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Moody(HashingEmbedder):
    """The default embedder, and it fails when it is told to."""

    def __init__(self, dimension: int = 32) -> None:
        super().__init__(dimension)
        self.fails: Exception | None = None
        self.gives: Any = None
        self.calls = 0

    def embed(self, texts: Sequence[str]) -> Any:
        self.calls += 1
        if self.fails is not None:
            raise self.fails
        return super().embed(texts) if self.gives is None else self.gives


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as found:
        yield found


@pytest.fixture
def embedder(monkeypatch) -> Moody:
    monkeypatch.setattr(embedding_module, "RETRY_S", 0.0)
    return Moody()


@pytest.fixture
def ltm(folder, embedder, clock) -> Iterator[LongTermMemory]:
    found = LongTermMemory(lambda: folder, replace(CONFIG, embedder=embedder), clock=clock)
    yield found
    found.close()


def opened(folder: Path, embedder: Any = None, **config: Any) -> LongTermMemory:
    return LongTermMemory(lambda: folder, replace(CONFIG, embedder=embedder, **config))


def keys(ltm: LongTermMemory, query: str, mode: Any = None, **asked: Any) -> list[str]:
    """What the words find, and what is nearest by vector, if these agree."""
    if mode is not None:
        return [hit.entry.key for hit in ltm.search(query, mode=mode, **asked)]
    words, both = keys(ltm, query, "lexical", **asked), keys(ltm, query, "hybrid", **asked)
    assert both[: len(words)] == words
    return words


# ---- put, get, delete ------------------------------------------------------------------------------------------------
def test_nothing_is_made_before_something_is_used():
    ltm = LongTermMemory(lambda: pytest.fail("asked for the folder"), CONFIG)
    assert not ltm.pending
    ltm.close()


def test_reading_what_was_never_written_makes_no_file(ltm, folder):
    assert (ltm.get("a"), ltm.list(), ltm.search("a"), ltm.namespaces(), ltm.stats().entries) == (None, [], [], [], 0)
    assert list(folder.iterdir()) == []


def test_what_was_put_is_read_at_once_and_by_the_next_process(ltm, folder, embedder):
    entry = ltm.put("k", {"note": "the lamp is green"}, namespace="n", metadata={"m": 1}, labels=["web"])
    assert ltm.get("k", namespace="n") == entry
    assert (entry.text, entry.metadata, entry.labels) == ("note\nthe lamp is green", {"m": 1}, ("web",))
    assert keys(ltm, "green lamp", namespace="n") == ["k"]
    assert (ltm.get("k"), keys(ltm, "green lamp")) == (None, [])
    ltm.close()
    again = opened(folder, embedder)
    assert again.get("k", namespace="n") == entry
    assert keys(again, "green lamp", namespace="n") == ["k"]
    again.close()


def test_what_was_deleted_is_gone_at_once_and_from_the_disk_when_closed(ltm, folder):
    ltm.put("k", "secretword", metadata={"m": "secretfield"})
    ltm.put("other", "stays")
    vector = np.asarray(ltm.embedder.embed(["secretword"])[0], dtype="<f4").tobytes()
    assert hits(folder, b"secretword")
    assert hits(folder, vector)
    assert (ltm.delete("k"), ltm.delete("k"), ltm.get("k"), keys(ltm, "secretword")) == (True, False, None, [])
    ltm.close()
    assert hits(folder, b"secret") + hits(folder, vector) == []
    again = opened(folder, ltm.embedder)
    assert [entry.key for entry in again.list()] == ["other"]
    again.close()


def test_a_namespace_is_cleared_alone(ltm, monkeypatch):
    monkeypatch.setattr(module, "CLEAR_PAGE", 3)
    ltm.submit([Put(namespace, str(n), n, "x") for n in range(10) for namespace in "ab"]).result()
    assert ltm.clear("a") == 10
    assert ltm.clear("a") == ltm.clear("never") == 0
    assert [(one.name, one.entries, one.vectors) for one in ltm.namespaces()] == [("b", 10, 10)]


def test_an_entry_ends_when_its_time_is_over_and_then_leaves_the_disk(ltm, clock, folder):
    assert ltm.put("k", "secretword", ttl_ms=500).expires_at == 1_000.5
    clock.now += 1
    assert (ltm.get("k"), ltm.list(), keys(ltm, "secretword"), ltm.namespaces()) == (None, [], [], [])
    ltm.put("other", "x")  # takes it away in passing
    assert ltm.record.deleted() == 1
    ltm.close()
    assert hits(folder, b"secretword") == []


def test_many_ends_are_all_removed_when_asked(ltm, clock):
    ltm.submit([Put("n", str(n), n, "x", expires_at=clock.now + 1) for n in range(300)]).result()
    clock.now += 2
    ltm.flush()
    assert (ltm.record.expired(9), ltm.record.deleted(), ltm.record.count()) == ([], 300, 0)


def test_several_puts_are_stored_together_or_not_at_all(ltm):
    with pytest.raises(ValueRefused):
        ltm.submit([Put("n", "a", 1, ""), Put("n", "b", float("inf"), "")])
    assert ltm.list() == []
    assert [entry.key for entry in ltm.submit([Put("n", "a", 1, ""), Put("n", "b", 2, "")]).result()] == ["a", "b"]
    assert ltm.submit([]).result() == []


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({"key": ""}, "is not a text of 1 to 1,000 characters"),
        ({"key": "k" * (KEY_CHARS_MAX + 1)}, "is not a text of 1 to 1,000 characters"),
        ({"key": 1}, "is not a text"),
        ({"key": "\ud800"}, "not Unicode"),
        ({"namespace": ""}, "namespace '' is not"),
        ({"namespace": "\ud800"}, "not Unicode"),
        ({"value": "\ud800"}, "not Unicode"),
        ({"value": object()}, "no token may carry"),
        ({"value": 2**64}, "64 bits"),
        ({"text": "\ud800"}, "not Unicode"),
        ({"text": "x" * (TEXT_CHARS_MAX + 1)}, "at most 4,194,304 characters"),
        ({"kind": "thing"}, "no kind 'thing'"),
        ({"metadata": {"m": {}}}, "expected a text, a number"),
        ({"metadata": {"m": [1]}}, "a list of texts"),
        ({"metadata": {"m": b"x"}}, "expected a text, a number"),
        ({"metadata": {1: 1}}, "keys are str"),
        ({"metadata": {str(n): n for n in range(FIELDS_MAX + 1)}}, "201 fields"),
        ({"metadata": {"m": "x" * METADATA_CHARS_MAX}}, "65,537 characters"),
        ({"labels": [1]}, "labels are not"),
        ({"ttl_ms": 0}, "expected more than 0"),
        ({"ttl_ms": "5"}, "expected more than 0"),
        ({"ttl_ms": float("nan")}, "expected more than 0"),
        ({"ttl_ms": float("inf")}, "finite"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_is_written(ltm, folder, what, says):
    with pytest.raises(InvalidError, match=says):
        ltm.put(**{"key": "k", "value": "v", **what})
    assert list(folder.iterdir()) == []


def test_a_text_of_a_megabyte_is_kept_and_searched(ltm):
    text = "filler " * 160_000 + "needleword"
    ltm.put("big", text)
    ltm.put("small", "something else")
    assert ltm.get("big").value == text
    assert keys(ltm, "needleword", mode="lexical") == ["big"]


def test_a_value_without_text_has_no_vector_and_needs_none(ltm):
    ltm.put("n", 7)
    ltm.put("blank", " \n")
    ltm.flush()
    assert (ltm.stats().vectors, ltm.stats().unembedded, ltm.get("n").value, ltm.get("blank").value) == (0, 0, 7, " \n")


def test_a_listing_has_a_bound(ltm):
    for limit in (0, -1, 10_001, True, "1"):
        with pytest.raises(InvalidError, match="`limit` is"):
            ltm.list(limit=limit)


@pytest.mark.parametrize(
    "ask",
    [
        lambda ltm: ltm.get(1),
        lambda ltm: ltm.get("\ud800"),
        lambda ltm: ltm.get("a", namespace=b"n"),
        lambda ltm: ltm.delete(1),
        lambda ltm: ltm.list(namespace=1),
        lambda ltm: ltm.list(prefix=b"a"),
        lambda ltm: ltm.list(kind=1),
        lambda ltm: ltm.list(after=2**70),
        lambda ltm: ltm.list(after=-1),
        lambda ltm: ltm.list(where={"a": object()}),
        lambda ltm: ltm.search("a", namespace="\ud800"),
        lambda ltm: ltm.search(1),
        lambda ltm: ltm.clear(["n"]),
    ],
)
def test_what_nobody_can_ask_for_is_refused(ltm, ask):
    ltm.put("a", "x")
    with pytest.raises(InvalidError):
        ask(ltm)


# ---- the embedder ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("error", [EmbedderError("no"), TransientError("not now"), ValueError("who knows")])
def test_a_failing_embedder_costs_nobody_a_write(ltm, embedder, error):
    embedder.fails = error
    ltm.put("k", "green lamp")
    assert (keys(ltm, "lamp", mode="lexical"), ltm.stats().vectors, ltm.stats().unembedded) == (["k"], 0, 1)
    assert ltm.stats().failure == str(error)
    embedder.fails = None
    ltm.flush()
    assert (ltm.stats().vectors, ltm.stats().unembedded, ltm.stats().failure) == (1, 0, None)
    assert keys(ltm, "lamp", mode="vector") == ["k"]


def test_the_next_write_and_the_next_process_make_the_vectors_that_are_missing(ltm, embedder, folder):
    embedder.fails = EmbedderError("no")
    ltm.put("a", "green lamp")
    ltm.close()
    again = opened(folder, Moody())
    again.put("b", "blue stone")
    again.flush()
    assert (again.stats().vectors, again.stats().unembedded) == (2, 0)
    again.close()


def test_an_embedder_that_just_failed_is_left_alone_for_a_while(folder, monkeypatch):
    monkeypatch.setattr(embedding_module, "RETRY_S", 1_000.0)
    embedder = Moody()
    embedder.fails = EmbedderError("no")
    ltm = opened(folder, embedder)
    for n in range(5):
        ltm.put(str(n), "text")
    ltm.close()
    assert embedder.calls == 1


def test_one_bad_text_keeps_no_other_from_its_vector(ltm, embedder):
    class Picky(Exception):
        pass

    give = embedder.embed

    def pick(texts: Sequence[str]) -> Any:
        if any("bad" in text for text in texts):
            raise Picky("a text that no embedder takes")
        return give(texts)

    embedder.embed = pick
    ltm.submit([Put("n", str(n), n, "bad" if n == 77 else f"good {n}") for n in range(200)]).result()
    ltm.flush()
    assert [ltm.record.unembedded(9)[0][2], ltm.stats().unembedded, ltm.stats().vectors] == ["bad", 1, 199]
    ltm.put("more", "good too")
    assert ltm.stats().vectors == 200


class Hanging(Moody):
    """Gives no answer before it is `free`."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()

    def embed(self, texts: Sequence[str]) -> Any:
        self.calls += 1
        self.free.wait()
        return HashingEmbedder.embed(self, texts)

    def embed_query(self, text: str) -> Any:
        self.free.wait()
        return HashingEmbedder.embed_query(self, text)


@pytest.fixture
def hanging(monkeypatch) -> Iterator[Hanging]:
    monkeypatch.setattr(embedding_module, "WRITE_S", 0.5)
    monkeypatch.setattr(embedding_module, "FLUSH_S", 0.5)
    monkeypatch.setattr(embedding_module, "RETRY_S", 1_000.0)
    monkeypatch.setattr(module, "CLOSE_S", 0.02)
    found = Hanging()
    yield found
    found.free.set()


def test_writes_do_not_wait_for_an_embedder_that_gives_no_answer(folder, hanging):
    ltm = opened(folder, hanging)
    for n in range(20):
        ltm.put(str(n), f"green lamp {n}")
    assert ltm.delete("7")
    ltm.flush()
    assert hanging.calls == 1
    assert "no answer" in (ltm.failure or "")
    assert [hit.entry.key for hit in ltm.search("lamp 3", mode="lexical", limit=1)] == ["3"]
    hanging.free.set()
    ltm._patience.settle(60)
    ltm.put("last", "red stone")  # it answered after all: no pause any more
    ltm.flush()
    assert (ltm.stats().vectors, ltm.stats().unembedded, ltm.failure) == (20, 0, None)
    ltm.close()


def test_closing_does_not_wait_for_an_embedder_and_loses_nothing(folder, hanging, monkeypatch):
    monkeypatch.setattr(embedding_module, "WRITE_S", 1_000.0)
    ltm = opened(folder, hanging)
    written = ltm.submit([Put("default", "a", "green lamp", "green lamp")])
    searching = ltm.later(lambda: ltm.search("lamp"), "searching")
    ltm.close()
    assert written.result()[0].key == "a"
    assert isinstance(searching.exception(), TransientError)
    again = opened(folder, Moody())
    assert again.get("a").value == "green lamp"
    again.put("b", "text")
    again.flush()
    assert again.stats().vectors == 2
    again.close()


def test_a_read_by_key_waits_for_no_search(folder, hanging, monkeypatch):
    monkeypatch.setattr(embedding_module, "WRITE_S", 1_000.0)
    ltm = opened(folder, hanging)
    searches = [ltm.later(lambda: ltm.search("lamp"), "searching") for _ in range(2 * module.LATER_THREADS)]
    assert ltm.later(lambda: ltm.get("a")).result(60) is None
    assert not any(one.done() for one in searches)
    ltm.close()
    assert all(isinstance(one.exception(), TransientError) for one in searches)


@pytest.mark.parametrize(("gives", "says"), [(np.zeros((1, 7)), "shape"), (np.full((1, 32), np.nan), "not finite"), ("x", "")])
def test_what_no_embedder_may_give_is_not_stored(ltm, embedder, gives, says):
    embedder.gives = gives
    ltm.put("k", "text")
    assert ltm.stats().vectors == 0
    assert says in (ltm.stats().failure or "")


def test_vectors_of_two_embedders_are_never_in_one_memory(ltm, folder):
    ltm.put("a", "green lamp")
    ltm.close()
    other = opened(folder, Moody(64))
    for use in (lambda: other.put("b", "x"), lambda: other.search("lamp")):
        with pytest.raises(EmbedderError, match="made with the embedder hashing 1") as raised:
            use()
        assert "apxm memory rebuild" in raised.value.hint
    assert (other.get("a").value, keys(other, "lamp", mode="lexical"), len(other.list())) == ("green lamp", ["a"], 1)
    other.put("n", 7)  # nothing to embed
    assert other.delete("a")
    other.put("b", "blue stone")  # no vector is left of the one before
    assert keys(other, "stone") == ["b"]
    other.close()


# ---- who may write ---------------------------------------------------------------------------------------------------
def test_another_reads_and_cannot_write_while_one_owns_the_folder(ltm, folder, embedder):
    ltm.put("a", "green lamp")
    other = opened(folder, Moody())
    assert (other.get("a").value, keys(other, "lamp")) == ("green lamp", ["a"])
    with pytest.raises(LockedError, match="owned by another LongTermMemory of this process"):
        other.put("b", "x")
    ltm.put("a", "blue stone")
    assert keys(other, "stone") == ["a"]
    assert ltm.delete("a")
    assert (other.get("a"), keys(other, "stone")) == (None, [])
    ltm.close()
    other.put("b", "x")
    other.close()


def test_the_folder_is_free_again_when_opening_it_failed(folder):
    (folder / "record.db").write_bytes(b"no database " * 1_000)
    ltm = opened(folder)
    with pytest.raises(StorageError, match="no file of apxm"):
        ltm.put("a", "x")
    ltm.close()
    assert (folder / "record.db").read_bytes() == b"no database " * 1_000
    other = opened(folder)
    with pytest.raises(StorageError):
        other.get("a")
    other.close()


def test_stats_say_what_there_is(ltm, folder):
    ltm.put("a", "green lamp", namespace="n")
    ltm.put("f", "a fact", namespace="n", kind="fact")
    found = ltm.stats()
    assert (found.folder, found.entries, found.facts, found.vectors, found.unindexed) == (str(folder), 2, 1, 2, 2)
    assert (found.generation, found.index_bytes, found.deleted, found.owner) == (None, 0, 0, "this process")
    assert found.embedder == str(ltm.embedder.fingerprint)
    assert found.record_bytes > 0
    assert found.namespaces == tuple(ltm.namespaces())


# ---- threads and the end ---------------------------------------------------------------------------------------------
def test_nothing_is_lost_or_mixed_up_by_threads_that_write_and_read_at_once(folder, long_run):
    ltm = LongTermMemory(lambda: folder, MemoryConfig(batch_ms=1, embedder=Moody()))
    rounds, wrong = (1_260 if long_run else 40), []

    def use(name: str) -> None:
        for n in range(rounds):
            key = f"{name} {n % 10}"
            ltm.put(key, {"by": name, "n": n}, text=f"word{name} number {n}", namespace=name)
            entry = ltm.get(key, namespace=name)
            if entry is None or entry.value != {"by": name, "n": n}:
                wrong.append(entry)
            if n % 20 == 19:
                found = ltm.search(f"word{name}", namespace=name, where={"n": n})
                wrong.extend(hit for hit in found if hit.entry.value != {"by": name, "n": n})
                if len(found) != 1 or not ltm.delete(key, namespace=name) or ltm.get(key, namespace=name) is not None:
                    wrong.append((key, n))

    threads = [threading.Thread(target=use, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert ltm.stats().entries == 8 * (10 - len({n % 10 for n in range(rounds) if n % 20 == 19}))
    ltm.close()


def test_work_is_done_on_threads_of_the_memory(ltm):
    ltm.put("a", 1)
    assert ltm.later(lambda: (ltm.get("a").value, threading.current_thread().name[:8])).result(10) == (1, "apxm-ltm")


def test_a_closed_memory_says_so(ltm):
    ltm.put("a", 1)
    ltm.close()
    ltm.close()
    for use in (lambda: ltm.get("a"), lambda: ltm.put("b", 1), lambda: ltm.search("x"), lambda: ltm.later(int), ltm.verify):
        with pytest.raises(InvalidError, match="closed"):
            use()


def test_closing_lets_go_even_when_the_disk_takes_nothing_more(ltm, folder):
    ltm.put("a", "x")
    ltm.delete("a")

    def full(site: str) -> None:
        if site == "ltm.record.before_vacuum":
            raise StorageError("full")

    with at_faults(full):
        ltm.close()
    other = opened(folder, ltm.embedder)
    assert other.record.deleted() == 1
    other.put("b", 1)
    other.close()
    check = opened(folder, ltm.embedder)
    assert check.record.deleted() == 0
    check.close()


def test_what_one_process_had_no_time_to_remove_the_next_one_removes(ltm, folder, monkeypatch):
    monkeypatch.setattr("apxm.memory.ltm.upkeep.SWEEP_BYTES_MAX", 0)
    ltm.put("a", "secretword")
    ltm.delete("a")
    ltm.close()
    assert hits(folder, b"secretword")
    other = opened(folder, ltm.embedder)
    other.put("b", 1)
    other.flush()
    other._catching_up.join(30)
    assert (hits(folder, b"secretword"), other.record.deleted()) == ([], 0)
    other.close()


@pytest.mark.parametrize("what", ["deleted", "moved", "replaced", "the folder deleted", "the folder moved"])
def test_nothing_is_acknowledged_for_a_file_that_is_no_longer_there(ltm, folder, what):
    ltm.put("a", 1)
    file = folder / "record.db"
    if what == "deleted":
        file.unlink()
    elif what == "the folder deleted":
        shutil.rmtree(folder)
    elif what == "the folder moved":
        folder.rename(folder.with_name("elsewhere"))
        folder.mkdir()
    else:
        file.rename(folder / "moved.db")
        if what == "replaced":
            shutil.copy(folder / "moved.db", file)
    for write in (lambda: ltm.put("b", 2), lambda: ltm.delete("a"), lambda: ltm.put("c", 3)):
        with pytest.raises(StorageError, match="was deleted, moved or replaced"):
            write()


def test_an_embedder_that_is_away_is_asked_once_for_all_that_is_missing(ltm, embedder, monkeypatch):
    embedder.fails = EmbedderError("no")
    for n in range(20):
        ltm.put(f"k{n}", f"text {n}")
    embedder.fails = TransientError("nobody answers")
    ltm._writer.flush()
    monkeypatch.setattr(embedding_module, "RETRY_S", 1_000.0)
    embedder.calls = 0
    ltm.flush()
    assert embedder.calls == 1


def test_a_forked_child_waits_for_no_thread_of_its_parent(ltm):
    ltm.put("a", "green lamp")
    ltm.search("lamp")
    before_a_fork()
    locks = [ltm._lock, ltm._embeds()._lock, ltm._searches()._matrices._lock]
    for lock in locks:  # some thread of the parent has it
        lock.acquire()
    child = os.fork()
    if child == 0:
        done: list[str] = []
        threading.Thread(target=lambda: done.append(ltm.search("lamp")[0].entry.value), daemon=True).start()
        for _ in range(1_000):
            if done:
                break
            time.sleep(0.01)
        os._exit(0 if done == ["green lamp"] else 1)
    for lock in locks:
        lock.release()
    assert os.waitpid(child, 0)[1] == 0


def test_what_fails_beside_is_said_once_and_shown(folder, caplog, monkeypatch):
    monkeypatch.setattr("apxm.memory.ltm.system.NO_INDEX_S", 0)
    ltm = LongTermMemory(lambda: folder, MemoryConfig(batch_ms=0, embedder=Moody(), exact_max=0))
    ltm.put("a", "green lamp")

    def broken(site: str) -> None:
        if site == "ltm.anew.before_make":
            raise OSError("a bad sector")

    with at_faults(broken):
        for _ in range(3):
            assert keys(ltm, "lamp") == ["a"]
            ltm._catching_up.join(30)
    said = [record.getMessage() for record in caplog.records if record.name == "apxm.memory"]
    assert said == ["the index of long-term memory is left as it is for now: a bad sector"]
    assert ltm.stats().index_failure == "a bad sector"
    assert keys(ltm, "lamp") == ["a"]
    ltm._catching_up.join(30)
    assert (ltm.stats().index_failure, ltm.stats().unindexed) == (None, 0)
    ltm.close()


def test_a_forked_child_reads_and_is_refused_to_write(ltm):
    ltm.put("a", "green lamp")
    before_a_fork()
    child = os.fork()
    if child == 0:
        good = False
        try:
            good = ltm.get("a").value == "green lamp" and ltm.later(lambda: ltm.get("a")).result(10) is not None
            ltm.put("b", 1)
            good = False
        except LockedError:
            pass
        finally:
            os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert ltm.put("b", 1).value == 1


def test_of_a_long_query_the_beginning_is_read(ltm, embedder, monkeypatch):
    ltm.put("a", "green lamp")
    asked = []
    give = embedder.embed_query
    monkeypatch.setattr(embedder, "embed_query", lambda text: asked.append(len(text)) or give(text))
    assert [hit.entry.key for hit in ltm.search("lamp " * 1_000_000)] == ["a"]
    assert asked == [QUERY_CHARS_MAX]


def test_a_name_that_is_none_is_no_name(ltm):
    for use in (ltm.get, ltm.delete):
        with pytest.raises(InvalidError, match="`namespace` is None"):
            use("k", namespace=None)
        with pytest.raises(InvalidError, match="`key` is None"):
            use(None)
    with pytest.raises(InvalidError, match="`namespace` is None"):
        ltm.clear(None)
    with pytest.raises(InvalidError, match="`namespace` is None"):
        ltm.search("x", namespace=None)
    assert ltm.list(namespace=None) == []


def test_the_name_of_a_namespace_leaves_the_disk_with_what_it_held(ltm, folder):
    name = "namespace-of-somebody"
    ltm.put("k", "text", namespace=name)
    ltm.put("k", "text", namespace="stays")
    ltm.clear(name)
    ltm.compact()
    assert [one.name for one in ltm.namespaces()] == ["stays"]
    assert not [path for path in folder.rglob("*") if path.is_file() and name.encode() in path.read_bytes()]
    ltm.put("k", "other", namespace=name)
    assert [hit.entry.value for hit in ltm.search("other", namespace=name)] == ["other"]


@pytest.mark.parametrize(
    ("statement", "use"),
    [
        ("UPDATE meta SET value = '[1]' WHERE name = 'embedder'", lambda ltm: ltm.search("text")),
        ("UPDATE meta SET value = '{\"name\": [], \"version\": 1}' WHERE name = 'embedder'", lambda ltm: ltm.stats()),
        ("UPDATE meta SET value = '" + "[" * 100_000 + "' WHERE name = 'embedder'", lambda ltm: ltm.stats()),
        ("UPDATE meta SET value = 'x' WHERE name = 'seq'", lambda ltm: ltm.put("b", 1)),
        (f"UPDATE meta SET value = '{'9' * 40}' WHERE name = 'seq'", lambda ltm: ltm.search("text")),
        ("DELETE FROM meta", lambda ltm: ltm.put("b", 1)),
    ],
    ids=["embedder-list", "embedder-fields", "embedder-deep", "seq-text", "seq-huge", "nothing"],
)
def test_a_record_that_says_nonsense_of_itself_is_a_storage_error(folder, statement, use):
    ltm = opened(folder)
    ltm.put("a", "text")
    ltm.close()
    with sqlite3.connect(folder / "record.db") as db:
        db.execute(statement)
    db.close()
    again = opened(folder)
    with pytest.raises(StorageError):
        use(again)
    again.close()


@pytest.mark.parametrize(
    ("metadata", "labels"),
    [("[]", "[]"), ("{", "[]"), ("{}", "[1]"), ("{}", "{}"), ("{}", "[" * 100_000)],
    ids=["list", "half", "number", "map", "deep"],
)
def test_metadata_and_labels_that_are_none_are_a_storage_error(folder, metadata, labels):
    ltm = opened(folder)
    entry = ltm.put("a", 1, text="")
    ltm.close()
    with sqlite3.connect(folder / "record.db") as db:
        value = db.execute("SELECT value FROM entries").fetchone()[0]
        crc = crc_of(entry.id, "entry", "a", metadata, labels, value, "")
        db.execute("UPDATE entries SET metadata = ?, labels = ?, crc = ?", (metadata, labels, crc))
    db.close()
    again = opened(folder)
    with pytest.raises(StorageError, match="cannot be read"):
        again.get("a")
    again.close()


@pytest.mark.parametrize("garbage", [b"garbage!" * 16, b"\x00\x00\xc0\x7f", b"\x00\x00\x80?"])
def test_a_vector_that_its_embedder_cannot_have_given_is_found_by_verify(folder, garbage):
    with closing(LongTermMemory(lambda: folder, MemoryConfig())) as ltm:
        for key in "abc":
            ltm.put(key, f"green lamp {key}")
        assert ltm.verify().ok
    with closing(sqlite3.connect(folder / "record.db")) as db, db:
        (vector,) = db.execute("SELECT vector FROM entries WHERE key = 'b'").fetchone()
        db.execute("UPDATE entries SET vector = ? WHERE key = 'b'", (garbage + vector[len(garbage) :],))
    with closing(LongTermMemory(lambda: folder, MemoryConfig())) as ltm:
        assert ltm.verify().damage == ("the vector of `b` in `default` is damaged: write it again",)
        ltm.put("b", "green lamp b")
        assert ltm.verify().ok
