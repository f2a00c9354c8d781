"""The file: made when first used, refused when it is not ours, whole whatever happens."""

from __future__ import annotations

import sqlite3
import stat
import threading

import pytest

from apxm import database
from apxm.coordination.queue import Queues
from apxm.coordination.store import FILE, VERSION, Store, as_json
from apxm.errors import ConfigError, InvalidError, StorageError, TransientError


def test_the_file_is_made_when_it_is_first_used_and_only_its_owner_may_read_it(tmp_path):
    asked = []
    store = Store(lambda: asked.append(1) or tmp_path, lambda: 0.0)
    assert (asked, list(tmp_path.iterdir())) == ([], [])
    with store.reading() as db:
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert asked == [1]
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    store.close()


def test_what_was_put_is_there_when_the_file_is_opened_again(tmp_path):
    for expected in (0, 1, 2):
        store = Store(lambda: tmp_path, lambda: 0.0)
        assert len(Queues(store).list("q")) == expected
        Queues(store).put("q", expected)
        store.close()


def test_a_transaction_that_fails_leaves_nothing(store):
    def fails():
        with store.writing() as db:
            db.execute("INSERT INTO checkpoints (id, message, data, run_id, opened_at) VALUES ('a', '', 'null', '', 0)")
            db.execute("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(StorageError, match="no such table"):
        fails()
    with store.reading() as db:
        assert db.execute("SELECT count(*) FROM checkpoints").fetchone()[0] == 0


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to look like a page\n" * 100, b"SQLite format 3\0" + b"x" * 5000]
)
def test_a_damaged_file_is_refused_and_kept(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(StorageError, match="damaged or no file of apxm"), Store(lambda: tmp_path, lambda: 0.0).reading():
        pass
    assert (tmp_path / FILE).read_bytes() == content


def test_a_database_of_another_program_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(StorageError, match="of another program"), Store(lambda: tmp_path, lambda: 0.0).reading():
        pass


def test_a_newer_version_is_refused_with_both_numbers(tmp_path, store):
    with store.writing() as db:
        db.execute(f"PRAGMA user_version={VERSION + 1}")
    store.close()
    with pytest.raises(StorageError, match=f"has version {VERSION + 1}, this apxm reads version {VERSION}"), store.reading():
        pass


def test_a_folder_where_the_file_should_be_is_refused(tmp_path):
    (tmp_path / FILE).mkdir()
    with pytest.raises(StorageError, match=r"coordination\.db cannot be used"), Store(lambda: tmp_path, lambda: 0.0).reading():
        pass


def test_a_file_that_cannot_be_written_is_refused(store):
    with store.reading() as db:
        db.execute("PRAGMA query_only=ON")
    with pytest.raises(StorageError, match="readonly"):
        Queues(store).put("q", 1)


def test_a_folder_that_cannot_be_had_is_said_as_it_is(tmp_path):
    def folder():
        raise ConfigError("no home")

    with pytest.raises(ConfigError, match="no home"), Store(folder, lambda: 0.0).reading():
        pass


def test_a_writer_who_waits_too_long_is_told_to_try_again(tmp_path, store, monkeypatch):
    monkeypatch.setattr(database, "BUSY_S", 0.01)
    Queues(store).put("q", 1)
    other = Store(lambda: tmp_path, lambda: 0.0)
    with store.writing(), pytest.raises(TransientError, match=r"others kept coordination\.db"):
        Queues(other).put("q", 2)
    Queues(other).put("q", 3)
    assert [task.data for task in Queues(store).list("q")] == [1, 3]
    other.close()


def test_threads_share_one_store(queues):
    def puts(number):
        for index in range(10):
            queues.put("q", [number, index])

    threads = [threading.Thread(target=puts, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tasks = [task.data for task in queues.list("q")]
    assert sorted(tasks) == [[number, index] for number in range(4) for index in range(10)]
    assert [index for number, index in tasks if number == 0] == list(range(10))


@pytest.mark.parametrize("value", [float("nan"), {1: 2}, b"x", object(), "\ud800", 2**63, {"a": {3, 4}}])
def test_what_json_cannot_say_is_refused(value):
    with pytest.raises(InvalidError, match="the data is no JSON"):
        as_json(value, "the data", 100)


def test_size_is_counted_in_bytes():
    assert as_json("é" * 4, "the data", 10) == '"éééé"'
    with pytest.raises(InvalidError, match="has 12 bytes as JSON, at most 10"):
        as_json("é" * 5, "the data", 10)
