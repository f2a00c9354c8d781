"""A file of ours: made when first written, told from the files of others, readable where nothing can be written."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from contextlib import closing
from threading import Barrier, Thread

import pytest

from apxm import database
from apxm.database import Database, Untouched, is_stale
from apxm.errors import StorageError, TransientError

TABLES = """
CREATE TABLE things (thing TEXT) STRICT;

CREATE TRIGGER both AFTER DELETE ON things BEGIN
    INSERT INTO things VALUES ('one');
    INSERT INTO things VALUES ('other');
END;

INSERT INTO things VALUES ('first');
"""
OURS = Database(7, 2, TABLES, elsewhere="another place", hint="look there", damaged="move it away")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ours.db"


def things(connection):
    return [thing for (thing,) in connection.execute("SELECT thing FROM things")]


def test_looking_makes_no_file(tmp_path, path):
    assert OURS.look(path) is None
    assert list(tmp_path.iterdir()) == []


def test_opening_makes_a_file_that_only_its_owner_may_read(path):
    db = OURS.open(path, "synchronous=FULL", "auto_vacuum=INCREMENTAL")
    assert things(db) == ["first"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    said = [
        database.pragma(db, name) for name in ("journal_mode", "synchronous", "auto_vacuum", "application_id", "user_version")
    ]
    assert said == ["wal", 2, 2, 7, 2]
    db.close()
    again = OURS.open(path)
    assert things(again) == ["first"]
    again.close()


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("CREATE TRIGGER spy AFTER INSERT ON things BEGIN DELETE FROM things; END", "has a foreign trigger `spy`"),
        ("CREATE VIEW more AS SELECT * FROM things", "has a foreign view `more`"),
        ("CREATE TABLE other (x)", "has a foreign table `other`"),
        ("DROP TRIGGER both", "lacks or changed the trigger `both`"),
        ("ALTER TABLE things ADD COLUMN more TEXT", "lacks or changed the table `things`"),
    ],
)
def test_a_file_with_sql_of_others_is_refused(path, statement, says):
    OURS.open(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()
    for opens in (OURS.open, OURS.look):
        with pytest.raises(StorageError, match=says):
            opens(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT * FROM things").fetchone()[0] == "first"


def test_what_sqlite_keeps_for_itself_is_no_change(path):
    db = OURS.open(path)
    db.execute("ANALYZE")
    db.close()
    OURS.open(path).close()


def test_an_empty_file_is_nothing_yet(path):
    path.touch()
    assert OURS.look(path) is None
    OURS.open(path).close()
    db = OURS.look(path)
    assert things(db) == ["first"]
    db.close()


def test_who_looks_cannot_write(path):
    OURS.open(path).close()
    db = OURS.look(path)
    with pytest.raises(StorageError, match="readonly") as refused, OURS.errors(path):
        db.execute("DELETE FROM things")
    assert refused.value.hint == database.HINTS[sqlite3.SQLITE_READONLY]
    db.close()


@pytest.mark.parametrize("how", [OURS.look, OURS.open])
def test_a_database_of_another_program_is_refused_and_left_alone(path, how):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(StorageError, match="is a database of another program; move it away, or set another place"):
        how(path)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    db.close()


@pytest.mark.parametrize("how", [OURS.look, OURS.open])
def test_another_version_is_refused_with_both_numbers(path, how):
    db = OURS.open(path)
    db.execute("PRAGMA user_version=3")
    db.close()
    with pytest.raises(StorageError, match="has version 3, this apxm reads version 2; use the apxm that made it"):
        how(path)


@pytest.mark.parametrize("how", [OURS.look, OURS.open])
@pytest.mark.parametrize(
    "content", [b"no database, but long enough to look like one\n" * 200, b"SQLite format 3\0" + b"x" * 5000]
)
def test_what_is_no_database_is_refused_and_kept(path, how, content):
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"ours\.db is damaged or no file of apxm: .*; move it away"), OURS.errors(path):
        how(path)
    assert path.read_bytes() == content


def test_those_who_begin_at_once_make_one_file(path):
    found, start = [], Barrier(8)

    def opens():
        start.wait()
        db = OURS.open(path)
        found.append(things(db))
        db.close()

    threads = [Thread(target=opens) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [["first"]] * 8


def test_who_waits_for_others_too_long_may_try_again(path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_S", 0.01)
    first, second = OURS.open(path), OURS.open(path)
    first.execute("BEGIN IMMEDIATE")
    with pytest.raises(TransientError, match=r"others kept .*ours\.db for more than 0\.01 s; try again"), OURS.errors(path):
        second.execute("BEGIN IMMEDIATE")
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "the disk is full: make room, and try again"),
        (errno.EROFS, database.HINTS[sqlite3.SQLITE_READONLY]),
        (errno.EIO, "look there"),
    ],
)
def test_what_the_disk_says_is_an_error_of_ours_with_what_to_try(number, hint):
    with pytest.raises(StorageError) as raised, OURS.errors("ours.db"):
        raise OSError(number, os.strerror(number))
    assert (raised.value.message, raised.value.hint) == (f"ours.db cannot be used: {os.strerror(number)}", hint)


def test_a_reader_that_looks_at_nobody_notices_that_somebody_wrote(path):
    OURS.open(path).close()
    db = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, factory=Untouched)
    db.seen = database._stamp(path)
    assert not is_stale(db, path)
    writer = OURS.open(path)
    writer.execute("DELETE FROM things")
    assert is_stale(db, path)  # there is a log
    writer.close()
    assert is_stale(db, path)  # the file is another
    db.close()
