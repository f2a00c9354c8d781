"""The file of episodes: its tables, their version, how it is opened, and what its errors mean.

`episodes` has one row for each call, record and reflection, `words` the texts to search in them, `firings` one row for up to
some thousand firings of nodes of one run, packed. All are numbered together: a row of `firings` takes `count` numbers.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from apxm.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE = "episodes.db"
VERSION = 1  # of the tables below: kept in the file, checked when it is opened
APPLICATION_ID = 0x61707865  # `apxe`: tells our file from another SQLite file
BUSY_S = 5.0  # how long a writer waits for those of other processes
PAGE_BYTES = 4_096
LOG_PAGES = (16, 1_000)  # of the write-ahead log before it is worked into the file: an eighth of what the file may have

_TABLES = """
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE episodes (
    number INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    run TEXT NOT NULL,
    path TEXT,
    node INTEGER NOT NULL,
    name TEXT NOT NULL,
    op TEXT NOT NULL,
    flow TEXT NOT NULL,
    agent TEXT NOT NULL,
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    duration_ms REAL NOT NULL,
    code TEXT,
    more BLOB,
    value BLOB
) STRICT;

CREATE INDEX episodes_of_runs ON episodes (run);

CREATE INDEX episodes_by_key ON episodes (agent, kind, target);

CREATE TABLE firings (
    number INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    run TEXT NOT NULL,
    since REAL NOT NULL,
    until REAL NOT NULL,
    failed INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;

CREATE INDEX firings_of_runs ON firings (run);

CREATE VIRTUAL TABLE words USING fts5 (text, tokenize='unicode61 remove_diacritics 0', detail=none);

INSERT INTO meta VALUES ('last', 0), ('gone', 0);
"""


def open_for_writing(path: Path, bytes_max: int) -> sqlite3.Connection:
    """The connection of the writer; makes the file and its tables where there are none.

    What is committed survives the death of the process; a loss of power may take the last of it, and leaves the file whole.
    """
    path.touch(mode=0o600)
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # before there is a table, else it counts for nothing
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous=NORMAL")
        least, most = LOG_PAGES
        pages = max(least, min(most, bytes_max // PAGE_BYTES // 8))
        connection.execute(f"PRAGMA wal_autocheckpoint={pages}")
        connection.execute(f"PRAGMA journal_size_limit={pages * PAGE_BYTES}")
        _make_or_check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection | None:
    """A connection that cannot write; None when nothing was ever kept here."""
    if not path.exists():
        return None
    try:
        connection = _reader(path, "mode=rw")
    except sqlite3.OperationalError:  # in a folder that nobody may write: as the file is, without what lies in a log
        connection = _reader(path, "immutable=1")
    try:
        if is_ours(connection, path):
            return connection
    except BaseException:
        connection.close()
        raise
    connection.close()
    return None


def _reader(path: Path, how: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{how}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA query_only=ON")
        connection.execute("SELECT count(*) FROM sqlite_master")
    except BaseException:
        connection.close()
        raise
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log. SQLite waits for nobody while it does: processes that begin at once would fail."""
    give_up = monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > give_up:
                raise
            sleep(0.01)


def _make_or_check(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not is_ours(connection, path):
            for statement in _TABLES.split(";\n\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={VERSION}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def is_ours(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file has our tables, of this version; False when it is empty still. StorageError for any other file."""
    application, version = pragma(connection, "application_id"), pragma(connection, "user_version")
    if application == APPLICATION_ID:
        if version != VERSION:
            text = f"{path} has version {version}, this apxm reads version {VERSION}"
            raise StorageError(text, hint="use the apxm that made it, or set another folder of memory")
        return True
    if application or version or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise StorageError(f"{path} is a database of another program", hint="move it away, or set another folder of memory")
    return False


def pragma(connection: sqlite3.Connection, name: str) -> Any:
    """What SQLite says of the file."""
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


@contextmanager
def storage_errors(path: Path | None) -> Iterator[None]:
    """What SQLite and the disk say, as errors of ours."""
    file = path or FILE
    try:
        yield
    except sqlite3.OperationalError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        raise StorageError(f"{file} cannot be used: {error}", hint=_HINTS.get(code, _HINT)) from error
    except sqlite3.DatabaseError as error:
        raise StorageError(f"{file} is damaged or no file of apxm: {error}", hint="move it away: a new one is made") from error
    except OSError as error:
        raise StorageError(f"{file} cannot be used: {error.strerror or error}", hint=_HINT) from error


_HINT = "`apxm doctor` looks at the folder; MemoryConfig.folder sets another"
_HINTS = {
    sqlite3.SQLITE_BUSY: f"others wrote it for more than {BUSY_S:g} s; try again",
    sqlite3.SQLITE_FULL: "the disk is full: make room; what waits is written then",
    sqlite3.SQLITE_READONLY: "it can be read, not written: are folder and file yours, and the disk not mounted read-only?",
}
