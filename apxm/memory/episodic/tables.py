"""The file of episodes: its tables, their version, how it is opened, and what its errors mean.

`episodes` has one row for each call, record and reflection, `words` the texts to search in them, `firings` one row for up to
some thousand firings of nodes of one run, packed. All are numbered together: a row of `firings` takes `count` numbers.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from apxm.database import Database
from apxm.errors import StorageError, TransientError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

FILE = "episodes.db"
VERSION = 1  # of the tables below: kept in the file, checked when it is opened
APPLICATION_ID = 0x61707865  # `apxe`: tells our file from another SQLite file
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

DATABASE = Database(
    APPLICATION_ID,
    VERSION,
    _TABLES,
    elsewhere="another folder of memory",
    hint="`apxm doctor` looks at the folder; MemoryConfig.folder sets another",
    damaged="move it away: a new one is made",
    full="what waits is written then",
)


def open_for_writing(path: Path, bytes_max: int) -> sqlite3.Connection:
    """The connection of the writer; makes the file and its tables where there are none.

    What is committed survives the death of the process; a loss of power may take the last of it, and leaves the file whole.
    """
    least, most = LOG_PAGES
    pages = max(least, min(most, bytes_max // PAGE_BYTES // 8))
    return DATABASE.open(
        path,
        f"page_size={PAGE_BYTES}",
        "auto_vacuum=INCREMENTAL",  # before there is a table, else it counts for nothing
        "synchronous=NORMAL",
        f"wal_autocheckpoint={pages}",
        f"journal_size_limit={pages * PAGE_BYTES}",
    )


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """What SQLite and the disk say, as errors of ours. StorageError alone: who writes here is no node that tries again."""
    try:
        with DATABASE.errors(path):
            yield
    except TransientError as error:
        raise StorageError(error.message, hint=error.hint) from error.__cause__
