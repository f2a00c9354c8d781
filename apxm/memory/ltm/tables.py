"""The tables of the record of long-term memory, and their version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.database import Database

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

FILE = "record.db"
VERSION = 1  # of the tables below: kept in the file, checked when it is opened
APPLICATION_ID = 0x6170786C  # `apxl`: tells our file from another SQLite file
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

DATABASE = Database(
    APPLICATION_ID,
    VERSION,
    _TABLES,
    elsewhere="another folder of memory",
    hint="`apxm doctor` looks at the folder; MemoryConfig.folder sets another",
    damaged="put back a copy of the folder; or keep this one, and see what `apxm memory export` can read",
    full="and write again; nothing that was acknowledged is lost",
)


def open_for_writing(path: Path) -> sqlite3.Connection:
    """The one connection that writes; makes the file and its tables where there are none.

    What it commits survives a loss of power. What is deleted is overwritten.
    """
    return DATABASE.open(path, "synchronous=FULL", "secure_delete=ON", f"cache_size=-{WRITER_CACHE_KIB}")
