"""One SQLite file with what outlives a run and is shared among processes: the tables, their version, one transaction at a time.

Write-ahead logging: readers never wait, writers wait for each other for BUSY_S at most. What was committed survives the death of
the process at any point; a loss of power may take the last transactions with it, and leaves the file whole.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import contextmanager
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from apxm.errors import ConfigError, InvalidError, TransientError, ValueRefused
from apxm.values import check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FILE = "coordination.db"  # in the state directory
VERSION = 1  # of the tables below: kept in the file, checked when it is opened
APPLICATION_ID = 0x6170786D  # `apxm`: tells our file from another SQLite file
BUSY_S = 5.0  # how long a writer waits for the others

_TABLES = """
CREATE TABLE tasks (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id TEXT NOT NULL UNIQUE,
    queue TEXT NOT NULL,
    data TEXT NOT NULL,
    priority INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    attempts_max INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'leased', 'dead')),
    put_at REAL NOT NULL,
    free_at REAL NOT NULL,
    owner TEXT,
    token TEXT
) STRICT;
CREATE INDEX tasks_in_order ON tasks (queue, state, priority DESC, place);
CREATE TABLE checkpoints (
    id TEXT PRIMARY KEY,
    message TEXT NOT NULL,
    data TEXT NOT NULL,
    answer_schema TEXT,
    run_id TEXT NOT NULL,
    opened_at REAL NOT NULL,
    deadline REAL,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'answered', 'expired', 'withdrawn')),
    answer TEXT,
    answered_at REAL
) STRICT;
CREATE INDEX checkpoints_by_state ON checkpoints (state, opened_at);
"""


class Store:
    """The file, opened when first used, and made then. May be used by any number of threads and processes at once.

    `folder` gives the directory that holds it, and raises ConfigError where there can be none; `clock` is Unix time.
    """

    def __init__(self, folder: Callable[[], Path], clock: Callable[[], float]) -> None:
        self._folder, self.clock = folder, clock
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for queries alone: waits for no writer of another process."""
        with self._lock, self._errors():
            yield self._connection or self._open()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it happens, or nothing. TransientError when others write for longer than BUSY_S."""
        with self._lock, self._errors():
            connection = self._connection or self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                if connection.in_transaction:  # after some errors SQLite has taken it back by itself
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file. The next use opens it again."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    # ---- the file ----------------------------------------------------------------------------------------------------
    def _open(self) -> sqlite3.Connection:
        path = self._folder() / FILE
        path.touch(mode=0o600)
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.row_factory = sqlite3.Row
            _write_ahead(connection)
            connection.execute("PRAGMA synchronous=NORMAL")
            _make_or_check(connection, path)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What SQLite and the disk say, as errors of ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise TransientError(f"others wrote {FILE} for more than {BUSY_S:g} s", hint="try again") from error
            raise ConfigError(f"{FILE} cannot be used: {error}", hint=_HINT) from error
        except sqlite3.DatabaseError as error:
            raise ConfigError(f"{FILE} is damaged or no file of apxm: {error}", hint=f"move it away; {_HINT}") from error
        except OSError as error:
            raise ConfigError(f"{FILE} cannot be used: {error.strerror or error}", hint=_HINT) from error


_HINT = "it lies in the state directory; `apxm doctor` looks at that, `state_dir` sets another"


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
    """The tables of a new file; for another one, whether it is ours and of this version."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        application, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application == 0 and version == 0 and not tables:
            for statement in _TABLES.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={VERSION}")
        elif application != APPLICATION_ID:
            raise ConfigError(f"{path} is a database of another program", hint=f"move it away; {_HINT}")
        elif version != VERSION:
            raise ConfigError(
                f"{path} has version {version}, this apxm reads version {VERSION}",
                hint="use the apxm that made it, or set another `state_dir`",
            )
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def as_json(value: Any, what: str, bytes_max: int) -> str:
    """A value as JSON text; InvalidError for what JSON cannot say, and for more than `bytes_max`."""
    try:
        check(value, what)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode("utf-8"))
    except (ValueRefused, TypeError, ValueError, RecursionError) as error:
        raise InvalidError(f"{what} is no JSON: {error}") from None
    if size > bytes_max:
        raise InvalidError(
            f"{what} has {size:,} bytes as JSON, at most {bytes_max:,} are kept", hint="store it elsewhere, keep its name"
        )
    return text
