"""One SQLite file with what outlives a run and is shared among processes: the tables, their version, one transaction at a time.

Readers never wait, writers wait for each other. What was committed survives the death of the process at any point; a loss of
power may take the last transactions with it, and leaves the file whole.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from apxm.database import Database
from apxm.errors import InvalidError, ValueRefused
from apxm.values import check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FILE = "coordination.db"  # in the state directory
VERSION = 1  # of the tables below: kept in the file, checked when it is opened
APPLICATION_ID = 0x6170786D  # `apxm`: tells our file from another SQLite file

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

_HINT = "it lies in the state directory; `apxm doctor` looks at that, `state_dir` sets another"
_DATABASE = Database(APPLICATION_ID, VERSION, _TABLES, "another `state_dir`", _HINT, f"move it away; {_HINT}")


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
        with self._lock, _DATABASE.errors(FILE):
            yield self._connection or self._open()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it happens, or nothing. TransientError when others write for too long."""
        with self._lock, _DATABASE.errors(FILE):
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
        connection = _DATABASE.open(self._folder() / FILE, "synchronous=NORMAL")
        connection.row_factory = sqlite3.Row
        self._connection = connection
        return connection


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
