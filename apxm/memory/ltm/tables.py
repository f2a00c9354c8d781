"""The tables of the record of long-term memory, their version, and how the file is opened: for writing, or for reading alone."""

from __future__ import annotations

import errno
import sqlite3
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from apxm.errors import StorageError, TransientError

if TYPE_CHECKING:
    from pathlib import Path

FILE = "record.db"
VERSION = 1  # of the tables below: kept in the file, checked when it is opened
APPLICATION_ID = 0x6170786C  # `apxl`: tells our file from another SQLite file
BUSY_S = 5.0  # how long a writer waits for whoever checkpoints
WRITER_CACHE_KIB = 32 * 1024  # so that one transaction need not be written before its end

# `place` is the row, for good; `seq` is the number of its last write. `fields` are what filters ask, where that is more than the
# metadata. `crc` is over all that was given: SQLite does not notice a bit that turns inside a text. Vectors come before texts
# and values: reading a row stops at the last column that is asked for. The index of words keeps no text of its own.
_TABLES = """
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE spaces (
    space INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE entries (
    place INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL UNIQUE,
    id TEXT NOT NULL UNIQUE,
    space INTEGER NOT NULL REFERENCES spaces (space),
    kind TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    expires_at REAL,
    crc INTEGER NOT NULL,
    vector BLOB,
    key TEXT NOT NULL,
    metadata TEXT NOT NULL,
    fields TEXT,
    labels TEXT NOT NULL,
    value BLOB NOT NULL,
    text TEXT NOT NULL
) STRICT;

CREATE INDEX entries_in_order ON entries (space, seq);

CREATE INDEX entries_without_vector ON entries (space, seq) WHERE vector IS NULL;

CREATE INDEX entries_to_embed ON entries (seq) WHERE vector IS NULL AND text <> '';

CREATE INDEX entries_with_end ON entries (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE tombstones (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    space INTEGER NOT NULL REFERENCES spaces (space),
    kind TEXT NOT NULL
) STRICT;

CREATE VIRTUAL TABLE words USING fts5 (
    space, key, text, content='entries', content_rowid='place', tokenize='unicode61 remove_diacritics 2'
);

CREATE TRIGGER words_of_new AFTER INSERT ON entries BEGIN
    INSERT INTO words (rowid, space, key, text) VALUES (new.place, new.space, new.key, new.text);
END;

CREATE TRIGGER words_of_old AFTER DELETE ON entries BEGIN
    INSERT INTO words (words, rowid, space, key, text) VALUES ('delete', old.place, old.space, old.key, old.text);
END;

INSERT INTO meta VALUES ('seq', '0');
"""


def open_for_writing(path: Path) -> sqlite3.Connection:
    """The one connection that writes; makes the file and its tables where there are none.

    What it commits survives a loss of power. What is deleted is overwritten.
    """
    path.touch(mode=0o600)
    connection: sqlite3.Connection = _connected(path, "rw")
    try:
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute(f"PRAGMA cache_size=-{WRITER_CACHE_KIB}")
        _make_or_check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection | None:
    """A connection that cannot write; None when nothing was ever stored here.

    In a folder that cannot be written SQLite has no place for its lock: there the file is read as it is, which is right as long
    as nobody writes; `is_stale` says when that has changed.
    """
    if not path.exists():
        return None
    connection: sqlite3.Connection = _connected(path, "rw")  # without the right to write, SQLite reads
    try:
        try:
            ours = _looked_at(connection, path)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _NO_PLACE or _log_of(path).exists():
                raise
            connection.close()
            connection = _connected(path, "ro&immutable=1", Untouched)
            connection.seen = _stamp(path)  # type: ignore[attr-defined]
            ours = _looked_at(connection, path)
        connection.execute("PRAGMA query_only=ON")
    except BaseException:
        connection.close()
        raise
    if ours:
        return connection
    connection.close()
    return None


class Untouched(sqlite3.Connection):
    """Reads a file without looking whether others write it. `seen` is how the file was then."""

    seen: tuple[int, ...] | None = None


def is_stale(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether somebody may have written beneath a connection that does not look."""
    return isinstance(connection, Untouched) and (connection.seen != _stamp(path) or _log_of(path).exists())


def _stamp(path: Path) -> tuple[int, ...]:
    about = path.stat()
    return about.st_ino, about.st_size, about.st_mtime_ns


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _connected(path: Path, mode: str, kind: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False, factory=kind)


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
        if not _is_ours(connection, path):
            for statement in _TABLES.split("\n\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={VERSION}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _looked_at(connection: sqlite3.Connection, path: Path) -> bool:
    """`_is_ours` of one moment: the file may be made just now."""
    connection.execute("BEGIN")
    try:
        return _is_ours(connection, path)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _is_ours(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file has our tables, of this version; False when it is empty still. StorageError for any other file."""
    application, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    if application == APPLICATION_ID:
        if version != VERSION:
            text = f"{path} has version {version}, this apxm reads version {VERSION}"
            raise StorageError(text, hint="use the apxm that made it, or set another folder of memory")
        return True
    if application or version or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise StorageError(f"{path} is a database of another program", hint="move it away, or set another folder of memory")
    return False


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def storage_error(error: sqlite3.Error | OSError | UnicodeDecodeError, path: Path) -> StorageError | TransientError:
    """What SQLite and the disk say, as an error of ours."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if isinstance(error, OSError):
        code = _LIKE.get(error.errno or 0, 0)
        return StorageError(f"{path} cannot be used: {error.strerror or error}", hint=_HINTS.get(code, _HINT))
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return TransientError(f"others kept {path} for more than {BUSY_S:g} s", hint="try again")
    if isinstance(error, sqlite3.OperationalError) and "decode to UTF-8" not in str(error):
        return StorageError(f"{path} cannot be used: {error}", hint=_HINTS.get(code, _HINT))
    return StorageError(f"{path} is damaged or no file of apxm: {error}", hint=_DAMAGED)


_LIKE = {
    errno.EACCES: sqlite3.SQLITE_READONLY,
    errno.EPERM: sqlite3.SQLITE_READONLY,
    errno.EROFS: sqlite3.SQLITE_READONLY,
    errno.ENOSPC: sqlite3.SQLITE_FULL,
    errno.EDQUOT: sqlite3.SQLITE_FULL,
}
_NO_PLACE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
_HINT = "`apxm doctor` looks at the folder; MemoryConfig.folder sets another"
_DAMAGED = "put back a copy of the folder; or keep this one, and see what `apxm memory export` can read"
_HINTS = {
    sqlite3.SQLITE_FULL: "the disk is full: make room, and write again; nothing that was acknowledged is lost",
    sqlite3.SQLITE_CANTOPEN: "are folder and file yours? what was not closed properly is opened first by who may write it",
    sqlite3.SQLITE_READONLY: "it can be read, not written: are folder and file yours, and the disk not mounted read-only?",
}
