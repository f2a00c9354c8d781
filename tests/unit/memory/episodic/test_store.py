"""The file of episodes: what it takes, what it refuses, what it keeps of a failing disk from runs, and how large it gets."""

import logging
import sqlite3
from threading import Event, Thread

import numpy as np
import pytest

from apxm import database
from apxm.config import MemoryConfig
from apxm.errors import ConfigError, StorageError, ValueRefused
from apxm.fault import at_faults
from apxm.memory.episodic import NOWHERE, Episodes, open_episodes, tables
from apxm.memory.episodic.firings import Columns, Firings, Sheet
from apxm.memory.episodic.store import StoredEpisodes
from apxm.values import same

PLACE = ((), 3, "get", "INV", "main", "a")


@pytest.fixture
def open_store(tmp_path):
    made = []

    def open_store(**config):
        made.append(StoredEpisodes(lambda: tmp_path, **config))
        return made[-1]

    yield open_store
    for one in made:
        one.close()


def add(kept, *targets, run="r", **more):
    for target in targets:
        kept.add(run, PLACE, "capability", target, 1.0, **more)


def names(kept: Episodes):
    return [one.target for one in kept]


# ---- what it takes ---------------------------------------------------------------------------------------------------
def test_nothing_is_made_before_something_is_kept(tmp_path):
    folders = []

    def folder():
        folders.append(tmp_path)
        return tmp_path

    kept = StoredEpisodes(folder)
    assert folders == []
    assert (list(kept), len(kept), kept.search("x", "a"), kept.last("x", "a")) == ([], 0, [], None)
    assert list(tmp_path.iterdir()) == []
    kept.close()


def test_what_was_kept_is_there_for_the_next_process_and_numbered_on(open_store):
    first = open_store()
    add(first, "one", "two")
    first.close()
    second = open_store()
    add(second, "three")
    assert [(one.number, one.target) for one in second] == [(3, "three"), (2, "two"), (1, "one")]


@pytest.mark.parametrize(
    "value",
    [0, -(2**63), 1.5, True, "", "x" * 1_000_000, b"\0\xff", [], {"a": [1, {"b": None}]}, np.arange(6, dtype="f4").reshape(2, 3)],
    ids=lambda value: type(value).__name__,
)
def test_a_value_of_every_kind_goes_on_record(open_store, value):
    kept = open_store()
    kept.record("r", PLACE, "k", value, ("web", "llm:x"))
    found = kept.last("k", "a")
    assert same(found.value, value)
    assert (found.labels, found.name) == (("web", "llm:x"), "get")


def test_a_value_that_cannot_be_stored_is_refused_where_it_is_recorded(open_store):
    kept = open_store()
    with pytest.raises(ValueRefused):
        kept.record("r", PLACE, "k", float("nan"))
    assert len(kept) == 0


@pytest.mark.parametrize(
    "text", ["\ud800", "\0", "'; DROP TABLE episodes; --", "%_!", '"', "🙂" * 1_000, " ", "NEAR(", "*", "a:b:c"]
)
def test_hostile_texts_are_kept_found_and_harm_nothing(open_store, text):
    kept = open_store(content="text")
    kept.add(text, ((), 1, text, text, text, text), "capability", text, 1.0, text, {"n": 1.0}, {"result": text}, None, (text,))
    kept.record("r", PLACE, text, {text: text} if text != "\ud800" else 1)  # a value is checked
    assert len(kept) == 2
    assert kept.last(text, "a") is not None
    kept.search(text, "a")
    (call,) = kept.find(kind="capability", run=text)
    assert call.content["result"] in (text, "?")
    kept.flush()


def test_many_threads_append_and_nothing_is_lost(open_store, long_run):
    each = 10_000 if long_run else 1_250
    kept = open_store(entries_max=100_000)

    def work(name):
        for number in range(each):
            add(kept, str(number), run=name)
            if number % 500 == 0:
                assert len(kept.find(run=name, limit=10)) >= 1

    threads = [Thread(target=work, args=(f"r{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept) == 8 * each
    assert sorted(one.number for one in kept) == list(range(1, 8 * each + 1))
    assert [one.target for one in kept.find(run="r3")] == [str(number) for number in reversed(range(each))]


def test_pending_says_whether_something_is_not_written_yet(open_store, monkeypatch):
    kept, go, began = open_store(), Event(), Event()
    commit = kept._commit

    def slowly(*given):
        began.set()
        assert go.wait(30)
        commit(*given)

    monkeypatch.setattr(kept, "_commit", slowly)
    assert not kept.pending
    add(kept, "one")
    assert began.wait(30)
    done = kept.flushed()
    assert kept.pending
    assert not done.done()
    go.set()
    done.result(30)
    assert not kept.pending


def test_what_comes_faster_than_it_can_be_written_is_dropped_and_counted(open_store, monkeypatch):
    kept, go = open_store(), Event()
    commit = kept._commit
    monkeypatch.setattr(kept, "_commit", lambda *given: (go.wait(30), commit(*given)))
    monkeypatch.setattr("apxm.memory.episodic.waiting.WAITING_MAX", 5)
    add(kept, *map(str, range(8)))
    sheet = Sheet((), Columns("main", "a", [1], ["n"], ["INV"]), [0] * 2, [1.0, 2.0], [1.0, 1.0])
    kept.fired(Firings("r", 0.0, [sheet]))
    stats = kept.stats()
    assert (stats.waiting, stats.dropped) == (5, 5)
    with pytest.raises(StorageError, match="`k` cannot be put on record: too many episodes wait"):
        kept.record("r", PLACE, "k", 1)
    go.set()
    assert names(kept) == ["4", "3", "2", "1", "0"]


def test_closing_writes_what_is_left_and_takes_nothing_more(open_store):
    kept = open_store()
    add(kept, *map(str, range(100)))
    kept.close()
    kept.close()
    add(kept, "late")
    assert kept.stats().dropped == 1
    assert len(open_store()) == 100


# ---- what a failing disk is to a run ---------------------------------------------------------------------------------
def locked(tmp_path):
    """Another connection that writes, and does not end."""
    other = sqlite3.connect(tmp_path / tables.FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


@pytest.mark.parametrize("damage", ["header", "page", "empty folder is a file"])
def test_a_damaged_file_is_said_once_fails_no_run_and_every_record(tmp_path, open_store, caplog, damage):
    first = open_store()
    add(first, *(f"{number:05}" for number in range(400)))
    first.close()
    path = tmp_path / tables.FILE
    if damage == "header":
        path.write_bytes(b"\xff" * 200 + path.read_bytes()[200:])
    elif damage == "page":
        whole = bytearray(path.read_bytes())
        for page in range(1, len(whole) // tables.PAGE_BYTES):
            whole[page * tables.PAGE_BYTES : page * tables.PAGE_BYTES + 100] = b"\xaa" * 100
        path.write_bytes(whole)
    else:
        path.unlink()
        path.mkdir()
    kept = open_store()
    with caplog.at_level(logging.WARNING):
        for number in range(20):
            add(kept, str(number))
            with pytest.raises(StorageError, match=tables.FILE):
                kept.flush()
        with pytest.raises(StorageError):
            kept.record("r", PLACE, "k", 1)
        with pytest.raises(StorageError):
            list(kept)
        assert kept.pending
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "episodes are not written for now" in caplog.text
    stats = kept.stats()
    assert (stats.episodes, stats.waiting) == (0, 21)
    assert tables.FILE in stats.failure
    if damage == "header":
        path.rename(tmp_path / "damaged.db")
        for name in ("wal", "shm"):
            (tmp_path / f"{tables.FILE}-{name}").unlink(missing_ok=True)
        assert len(kept) == 21  # what waited is in a new one
    else:
        kept.close()
        assert kept._waiting.dropped == 21


def test_what_could_not_be_written_is_written_when_it_can_be(tmp_path, open_store, monkeypatch):
    first = open_store()
    add(first, "before")
    first.flush()
    monkeypatch.setattr(database, "BUSY_S", 0.01)
    kept = open_store()
    other = locked(tmp_path)
    add(kept, "one")
    with pytest.raises(StorageError, match=r"others kept .*episodes\.db.*; try again"):
        kept.flush()
    assert kept.stats().failure is not None
    add(kept, "two")
    other.execute("ROLLBACK")
    other.close()
    assert names(kept) == ["two", "one", "before"]
    assert (kept.stats().failure, kept.stats().dropped) == (None, 0)


def test_what_is_committed_is_not_written_again_when_tidying_up_fails(open_store):
    kept = open_store()

    def fails(site):
        if site == "episodes.after_commit":
            raise OSError("no more")

    with at_faults(fails):
        for number in range(3):
            add(kept, str(number))
            kept.flush()
    assert names(kept) == ["2", "1", "0"]
    assert kept.stats().failure is None


def test_an_end_without_a_disk_comes_soon_and_counts_what_is_lost(open_store, monkeypatch):
    kept, tries = open_store(), []

    def fails(*_):
        tries.append(1)
        raise StorageError("no disk")

    monkeypatch.setattr(kept._waiting, "_write", fails)
    monkeypatch.setattr("apxm.memory.episodic.waiting.BATCH_ITEMS_MAX", 10)
    add(kept, *map(str, range(100)))
    with pytest.raises(StorageError, match="no disk"):
        kept.flush()
    before = len(tries)
    kept.close()
    assert (len(tries) - before <= 2, kept._waiting.dropped, kept.pending) == (True, 100, False)


def test_a_file_of_another_program_or_another_version_is_left_alone(tmp_path, open_store):
    path = tmp_path / tables.FILE
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    kept = open_store()
    with pytest.raises(StorageError, match="is a database of another program"):
        kept.record("r", PLACE, "k", 1)
    kept.close()
    path.unlink()
    first = open_store()
    add(first, "one")
    first.close()
    with sqlite3.connect(path) as ours:
        ours.execute(f"PRAGMA user_version={tables.VERSION + 1}")
    ours.close()
    newer = open_store()
    for use in (lambda: newer.record("r", PLACE, "k", 1), lambda: list(newer)):
        with pytest.raises(StorageError, match=f"has version {tables.VERSION + 1}, this apxm reads version {tables.VERSION}"):
            use()


def test_a_folder_that_cannot_be_is_a_storage_error_and_no_failing_run():
    def folder():
        raise ConfigError("the memory folder /nowhere cannot be made", hint="set another")

    kept = StoredEpisodes(folder)
    add(kept, "one")
    with pytest.raises(StorageError, match="cannot be made; set another"):
        kept.flush()
    with pytest.raises(StorageError):
        kept.find()
    kept.close()


# ---- how large it gets -----------------------------------------------------------------------------------------------
def test_the_newest_are_kept_and_the_file_does_not_grow_with_what_went(tmp_path, open_store):
    kept = open_store(entries_max=200, bytes_max=1024 * 1024)
    sizes = []
    for turn in range(6):
        add(kept, *(f"{turn}:{number}" for number in range(500)))
        kept.flush()
        sizes.append(kept.stats().bytes)
    assert [one.target for one in kept] == [f"5:{number}" for number in reversed(range(300, 500))]
    with sqlite3.connect(tmp_path / tables.FILE) as file:
        (rows,) = file.execute("SELECT count(*) FROM episodes").fetchone()
        (words,) = file.execute("SELECT count(*) FROM words").fetchone()
    file.close()
    assert rows == words <= 200 + 200 // 20
    assert sizes[-1] <= 2 * sizes[0]


@pytest.mark.parametrize("what", ["calls", "firings"])
def test_the_files_stay_within_their_bytes(open_store, what):
    most = 1024 * 1024
    kept = open_store(bytes_max=most, entries_max=10**9, content="text")
    columns = Columns("main", "a", range(100), [f"node {number}" for number in range(100)], ["INV"] * 100)
    for turn in range(40):
        if what == "calls":
            add(kept, *(f"{turn}:{number}" for number in range(100)), content={"result": "word " * 100})
        else:
            sheet = Sheet((), columns, list(range(100)) * 10, [float(turn)] * 1_000, [1.0] * 1_000)
            kept.fired(Firings("r", 0.0, [sheet]))
        kept.flush()
        assert kept.stats().bytes <= most + 64 * 1024  # what is shared between processes is not on disk
    left = list(kept)
    assert left[0].target == ("39:99" if what == "calls" else "node 99")
    assert len(left) == len(kept) > (500 if what == "calls" else 10_000)
    assert [one.number for one in left] == list(range(left[0].number, left[-1].number - 1, -1))


def test_forgetting_gives_the_bytes_back(tmp_path, open_store):
    kept = open_store(content="text")
    add(kept, *(f"needle{number}" for number in range(2_000)), content={"result": "a needle in a haystack " * 20})
    kept.flush()
    before = kept.stats().bytes
    kept.clear()
    assert kept.stats().bytes < before / 4
    kept.close()
    assert not any(b"needle" in file.read_bytes() for file in tmp_path.iterdir())


# ---- by configuration ------------------------------------------------------------------------------------------------
def test_a_configuration_says_which_store_there_is(tmp_path):
    assert open_episodes(MemoryConfig(episodic="off"), lambda: tmp_path) is None
    assert open_episodes(MemoryConfig(), None).stats().where == "memory"
    with pytest.raises(ConfigError, match="no folder to keep episodes in"):
        open_episodes(MemoryConfig(episodic="sqlite"), None)
    config = MemoryConfig(episodic="sqlite", episodes=7, episode_content="text")
    kept = open_episodes(config, lambda: tmp_path, lambda: 5.0, lambda: ["hunter2x"])
    for _ in range(9):
        kept.add("r", NOWHERE, "capability", "c", 1.0, content={"result": "it is hunter2x"})
    assert [one.content for one in kept] == [{"result": "it is [redacted]"}] * 7
    assert kept.stats().where == str(tmp_path / tables.FILE)
    kept.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE episodes SET more = x'ff00ff'",
        "UPDATE episodes SET more = x'00'",
        "UPDATE episodes SET value = x'c1'",
        "UPDATE episodes SET path = '[['",
        "UPDATE episodes SET path = '[1]'",
        "INSERT INTO firings VALUES (9, 1000000000, 'r', 0, 1, 0, x'00')",
        "INSERT INTO firings VALUES (9, -5, 'r', 0, 1, 0, x'93c0c0c0')",
    ],
)
def test_rows_that_are_not_ours_are_a_storage_error(tmp_path, open_store, statement):
    kept = open_store()
    add(kept, "one")
    kept.close()
    with sqlite3.connect(tmp_path / tables.FILE) as db:
        db.execute(statement)
    db.close()
    with pytest.raises(StorageError, match="cannot be read"):
        list(open_store())
