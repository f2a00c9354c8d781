"""A file of ours that SQLite keeps: how it is made, told from the files of others, and opened; and its errors as errors of ours.

Knows no tables of its own. Write-ahead logging: readers never wait, writers wait for each other for BUSY_S at most.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from apxm.errors import StorageError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUSY_S = 5.0  # how long a writer waits for the others


@dataclass(frozen=True, slots=True)
class Database:
    """A kind of file. `application_id` and `version` are kept in it, and checked when it is opened.

    `tables` are the statements that make it, an empty line between them. What to try: `elsewhere` is what to set to have another
    file, `hint` is for one that cannot be used, `damaged` for one that cannot be read, `full` goes on after "make room".
    """

    application_id: int
    version: int
    tables: str
    elsewhere: str
    hint: str
    damaged: str
    full: str = "and try again"

    def open(self, path: Path, *pragmas: str) -> sqlite3.Connection:
        """A connection that writes; makes the file and its tables where there are none. StorageError for a file that is not ours.

        `pragmas` are set first: they may be about the file as it is made.
        """
        if not path.exists():  # a link to nowhere is not followed: who made it would choose where our file is made
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        connection: sqlite3.Connection = _connected(path, "mode=rw")
        try:
            for setting in pragmas:
                connection.execute(f"PRAGMA {setting}")
            _write_ahead(connection)
            self._make_or_check(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_or_check(self, connection: sqlite3.Connection, path: Path) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not self._is_ours(connection, path):
                for statement in self.tables.split("\n\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={self.application_id}")
                connection.execute(f"PRAGMA user_version={self.version}")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def _is_ours(self, connection: sqlite3.Connection, path: Path) -> bool:
        """Whether the file has our tables, of this version; False when it is empty still. StorageError for any other file."""
        application, version = pragma(connection, "application_id"), pragma(connection, "user_version")
        if application == self.application_id:
            if version != self.version:
                text = f"{path} has version {version}, this apxm reads version {self.version}"
                raise StorageError(text, hint=f"use the apxm that made it, or set {self.elsewhere}")
            self._refuse_foreign(connection, path)
            return True
        if application or version or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise StorageError(f"{path} is a database of another program", hint=f"move it away, or set {self.elsewhere}")
        return False

    def _refuse_foreign(self, connection: sqlite3.Connection, path: Path) -> None:
        """StorageError where a table, trigger or view is not as we make it: the SQL of others would run with ours."""
        ours, there = _made_by(self.tables), _there(connection)
        changed = min((one for one in ours.keys() | there.keys() if ours.get(one) != there.get(one)), default=None)
        if changed is not None:
            what = "lacks or changed the" if changed in ours else "has a foreign"
            text = f"{path} {what} {changed[0]} `{changed[1]:.60}`"
            raise StorageError(text, hint=f"somebody changed the file: move it away, or set {self.elsewhere}")

    def _looked_at(self, connection: sqlite3.Connection, path: Path) -> bool:
        """`_is_ours` of one moment: the file may be made just now."""
        connection.execute("BEGIN")
        try:
            return self._is_ours(connection, path)
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def look(self, path: Path) -> sqlite3.Connection | None:
        """A connection that cannot write; None when nothing was ever stored here.

        In a folder that cannot be written SQLite has no place for its lock: there the file is read as it is, which is right as
        long as nobody writes; `is_stale` says when that has changed.
        """
        if not path.exists():
            return None
        connection: sqlite3.Connection = _connected(path, "mode=rw")  # without the right to write, SQLite reads
        try:
            try:
                ours = self._looked_at(connection, path)
            except sqlite3.OperationalError as error:
                if code_of(error) not in _NO_PLACE or _log_of(path).exists():
                    raise
                connection.close()
                connection = _connected(path, "mode=ro&immutable=1", Untouched)
                connection.seen = _stamp(path)  # type: ignore[attr-defined]
                ours = self._looked_at(connection, path)
            connection.execute("PRAGMA query_only=ON")
        except BaseException:
            connection.close()
            raise
        if ours:
            return connection
        connection.close()
        return None

    @contextmanager
    def errors(self, file: Path | str) -> Iterator[None]:
        """What SQLite and the disk say while this file is used, as errors of ours."""
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            raise self._said(error, file) from error

    def _said(self, error: sqlite3.Error | OSError | UnicodeDecodeError, file: Path | str) -> StorageError | TransientError:
        if isinstance(error, OSError):
            return StorageError(
                f"{file} cannot be used: {error.strerror or error}", hint=self._try(_LIKE.get(error.errno or 0, 0))
            )
        code = code_of(error)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return TransientError(f"others kept {file} for more than {BUSY_S:g} s", hint="try again")
        if isinstance(error, sqlite3.OperationalError) and "decode to UTF-8" not in str(error):
            return StorageError(f"{file} cannot be used: {error}", hint=self._try(code))
        return StorageError(f"{file} is damaged or no file of apxm: {error}", hint=self.damaged)

    def _try(self, code: int) -> str:
        return f"the disk is full: make room, {self.full}" if code == sqlite3.SQLITE_FULL else HINTS.get(code, self.hint)


@cache
def _made_by(tables: str) -> dict[tuple[str, str], str]:
    """What a file has when it is made."""
    with closing(sqlite3.connect(":memory:")) as db:
        for statement in tables.split("\n\n"):
            db.execute(statement)
        return _there(db)


def _there(db: sqlite3.Connection) -> dict[tuple[str, str], str]:
    """Tables, indexes, triggers and views by kind and name, with the statements that make them.

    Without those of SQLite itself, and with the names alone of what lies inside of virtual tables: its version decides on them.
    """
    rows = db.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE type NOT IN ('table', 'index') OR substr(name, 1, 7) <> 'sqlite_'"
    ).fetchall()
    virtual = tuple(f"{name}_" for _, name, told in rows if told and told.startswith("CREATE VIRTUAL"))
    return {(kind, name): "" if kind == "table" and name.startswith(virtual) else told or "" for kind, name, told in rows}


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


def _connected(path: Path, how: str, kind: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    """A connection that any thread may use, and that begins no transactions by itself. `how` are parameters of SQLite's URI."""
    uri = f"{path.absolute().as_uri()}?{how}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False, factory=kind)


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log. SQLite waits for nobody while it does: processes that begin at once would fail."""
    give_up = monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if code_of(error) != sqlite3.SQLITE_BUSY or monotonic() > give_up:
                raise
            sleep(0.01)


def pragma(connection: sqlite3.Connection, name: str) -> Any:
    """What SQLite says of the file."""
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def code_of(error: Exception) -> int:
    """Which error of SQLite it is, without its fine print; 0 for any other."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


HINTS = {
    sqlite3.SQLITE_CANTOPEN: "are folder and file yours? what was not closed properly is opened first by who may write it",
    sqlite3.SQLITE_READONLY: "it can be read, not written: are folder and file yours, and the disk not mounted read-only?",
}
_NO_PLACE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
_LIKE = {
    errno.EACCES: sqlite3.SQLITE_READONLY,
    errno.EPERM: sqlite3.SQLITE_READONLY,
    errno.EROFS: sqlite3.SQLITE_READONLY,
    errno.ENOSPC: sqlite3.SQLITE_FULL,
    errno.EDQUOT: sqlite3.SQLITE_FULL,
}
