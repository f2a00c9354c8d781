"""The system of record of long-term memory: one SQLite file that has every entry. Embeds, indexes and ranks nothing.

What a write gave back survives the death of the process and the loss of power.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from apxm.errors import InvalidError, StorageError, TransientError
from apxm.fault import fault
from apxm.memory.ltm import tables
from apxm.memory.ltm import where as filters
from apxm.memory.ltm.entry import Entry, Put
from apxm.memory.ltm.reading import Change, Reading, crc_of, number_of
from apxm.values import pack

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["Change", "Record"]

VALUE_BYTES_MAX = 64 * 1024 * 1024  # of one value, encoded


class Record(Reading):
    """The file `record.db` in a folder, made by the first write.

    Whoever writes owns the folder: nothing here looks after that. StorageError for a file that cannot be used.
    """

    def _open(self) -> None:
        super()._open()
        self._lock = threading.RLock()  # of the connection that writes
        self._writer: sqlite3.Connection | None = None
        self._file: os.stat_result  # that it has open

    # ---- entries -----------------------------------------------------------------------------------------------------
    def write(self, puts: Sequence[tuple[Put, bytes | None]], deletes: Sequence[str]) -> list[Entry]:
        """Store entries with their vectors (float32, little-endian), then delete ids: all of it or nothing."""
        done = self.apply([*puts, *deletes])
        return cast("list[Entry]", done[: len(puts)])

    def apply(self, writes: Sequence[tuple[Put, bytes | None] | str], **meta: str) -> list[Entry | bool]:
        """Puts, and ids to delete, in their order: all of it or nothing. Gives of each the entry, or whether there was one.

        `meta` is stored with them.
        """
        fault("ltm.record.before_write")
        with self._transaction() as db:
            now, seq = self._clock(), _last_seq(db)
            batch = _Batch(_found(db, [one if isinstance(one, str) else one[0].id for one in writes]), now)
            done = [
                batch.delete(one, seq + i) if isinstance(one, str) else batch.put(*one, seq + i)
                for i, one in enumerate(writes, 1)
            ]
            batch.store(db)
            _set_meta(db, {**meta, "seq": str(seq + len(writes))})
            fault("ltm.record.before_commit")
        fault("ltm.record.after_commit")
        return done

    def set_vectors(self, vectors: Sequence[tuple[str, int, bytes]], **meta: str) -> int:
        """Give rows their vectors: (id, seq, vector), where seq is the one that the text was read with; how many were set.

        What was written since is left alone. A row that gets its vector gets a new seq. `meta` is stored with them.
        """
        fault("ltm.record.before_vectors")
        with self._transaction() as db:
            seq = before = _last_seq(db)
            for id, read_at, vector in vectors:
                done = db.execute(
                    "UPDATE entries SET seq = ?, vector = ? WHERE id = ? AND seq = ?", (seq + 1, vector, id, read_at)
                )
                seq += done.rowcount
            _set_meta(db, {**meta, "seq": str(seq)})
        fault("ltm.record.after_vectors")
        return seq - before

    def forget_vectors(self, **meta: str) -> None:
        """Take away every vector, and say in `meta` why: all at once. The rows get new numbers, so whoever follows sees it."""
        fault("ltm.record.before_forgetting")
        with self._transaction() as db:
            seq = _last_seq(db)
            done = db.execute(
                """UPDATE entries SET vector = NULL, seq = ? + had.number
                FROM (SELECT place, row_number() OVER (ORDER BY seq) AS number FROM entries WHERE vector IS NOT NULL) AS had
                WHERE had.place = entries.place""",
                (seq,),
            )
            _set_meta(db, {**meta, "seq": str(seq + done.rowcount)})
        fault("ltm.record.after_forgetting")

    def prune(self, up_to: int) -> int:
        """Forget which ids were deleted, up to a write; how many. What follows the writes from before that begins anew."""
        with self._transaction() as db:
            count, last = db.execute("SELECT count(*), max(seq) FROM tombstones WHERE seq <= ?", (up_to,)).fetchone()
            if count:
                db.execute("DELETE FROM tombstones WHERE seq <= ?", (up_to,))
                db.execute(_FORGET_SPACES)
                _set_meta(db, {"pruned": str(last)})
        with self._lock, tables.DATABASE.errors(self.path):
            self._opened().execute("PRAGMA wal_checkpoint(TRUNCATE)")  # while others read, the next one does it
        return int(count)

    def set_meta(self, **values: str) -> None:
        with self._transaction() as db:
            _set_meta(db, values)

    # ---- upkeep ------------------------------------------------------------------------------------------------------
    def rebuild_words(self) -> None:
        """Make the index of words again from the texts."""
        with self._transaction() as db:
            db.execute("INSERT INTO words (words) VALUES ('rebuild')")

    def damage(self) -> list[str]:
        """What is wrong with the file: with its pages, its entries and its index of words; [] when nothing is."""
        found = super().damage()
        if not found and self.path.exists():
            try:
                with self._transaction() as db:
                    db.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)")
            except StorageError as error:
                found.append(f"the index of words: {error.message}")
        return found

    def vacuum(self) -> None:
        """Leave nothing on disk of what was deleted or replaced: in the file, in its log, in the index of words."""
        fault("ltm.record.before_vacuum")
        with self._lock, tables.DATABASE.errors(self.path):
            db = self._opened()
            db.execute("INSERT INTO words (words) VALUES ('optimize')")
            db.execute("VACUUM")
            fault("ltm.record.before_truncate")
            busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise TransientError(f"{self.path} is being read: its log could not be emptied", hint="try again")
        fault("ltm.record.after_vacuum")

    # ---- the file ----------------------------------------------------------------------------------------------------
    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._here()
        with self._lock, tables.DATABASE.errors(self.path):
            db = self._opened()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # after some errors SQLite has taken it back by itself
                    db.execute("ROLLBACK")
                raise

    def _opened(self) -> sqlite3.Connection:
        if self._writer is None:
            self._writer = tables.open_for_writing(self.path)
            self._file = os.stat(self.path)
        elif not self._is_there():  # SQLite would go on, in a file that is lost with this process
            text = f"{self.path} was deleted, moved or replaced while it was open: nothing more is written to it"
            raise StorageError(text, hint="end the programs that use the folder, put it back, and start them again")
        return self._writer

    def _is_there(self) -> bool:
        with suppress(OSError):
            return os.path.samestat(os.stat(self.path), self._file)
        return False

    def close(self) -> None:
        """Let go of the file. The next use opens it again."""
        super().close()
        with self._lock:
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.close()


class _Batch:
    """Writes of one transaction, taken in their order and stored at the end: of each id only the last.

    So a row is written once, and the index of words never has one twice in a transaction, which is slow and leaves traces.
    """

    def __init__(self, rows: Mapping[str, tuple[int, float, float | None]], now: float) -> None:
        self._rows, self._now = rows, now
        self._living = {id: created for id, (_, created, expires) in rows.items() if expires is None or expires > now}
        self._last: dict[str, tuple[int, Entry | None, bytes | None]] = {}

    def put(self, put: Put, vector: bytes | None, seq: int) -> Entry:
        id = put.id
        created = put.created_at if put.created_at is not None else self._living.get(id, self._now)
        updated = put.updated_at if put.updated_at is not None else self._now
        entry = Entry(
            id, put.namespace, put.key, put.kind, put.value, put.text, dict(put.metadata), put.labels, created, updated,
            put.expires_at, seq,
        )  # fmt: skip
        self._living[id] = created
        self._last[id] = seq, entry, vector
        return entry

    def delete(self, id: str, seq: int) -> bool:
        self._last[id] = seq, None, None
        return self._living.pop(id, None) is not None

    def store(self, db: sqlite3.Connection) -> None:
        """Rows in the order of their places, as the index of words likes it best."""
        there = [id for id in self._last if id in self._rows]
        puts = [(entry, vector) for _, entry, vector in self._last.values() if entry is not None]
        spaces = _spaces(db, {entry.namespace for entry, _ in puts})
        db.executemany(_BURY, [(self._last[id][0], id) for id in there if self._last[id][1] is None])
        db.executemany("DELETE FROM entries WHERE place = ?", sorted((self._rows[id][0],) for id in there))
        db.executemany("DELETE FROM tombstones WHERE id = ?", [(entry.id,) for entry, _ in puts])
        db.executemany(_INSERT, [_row(entry, vector, spaces[entry.namespace]) for entry, vector in puts])


_COLUMNS = "seq, id, space, kind, created_at, updated_at, expires_at, crc, vector, key, metadata, fields, labels, value, text"
_INSERT = f"INSERT INTO entries ({_COLUMNS}) VALUES ({', '.join('?' * len(_COLUMNS.split(', ')))})"
_FORGET_SPACES = """DELETE FROM spaces WHERE NOT EXISTS (SELECT 1 FROM entries e WHERE e.space = spaces.space)
AND space NOT IN (SELECT space FROM tombstones)"""
_BURY = "INSERT INTO tombstones (seq, id, space, kind) SELECT ?1, ?2, space, kind FROM entries WHERE id = ?2"


def _row(entry: Entry, vector: bytes | None, space: int) -> tuple[Any, ...]:
    value = pack(entry.value)
    if len(value) > VALUE_BYTES_MAX:
        text = f"the value of `{entry.key:.60}` has {len(value):,} bytes, at most {VALUE_BYTES_MAX:,} are kept"
        raise InvalidError(text, hint="store it elsewhere, keep its name")
    told, labels = filters.as_json(entry.metadata), filters.as_json(entry.labels)
    asked = filters.encoded(filters.fields_of(entry.value, entry.metadata))
    return (
        entry.seq, entry.id, space, entry.kind, entry.created_at, entry.updated_at, entry.expires_at,
        crc_of(entry.id, entry.kind, entry.key, told, labels, value, entry.text),
        vector, entry.key, told, None if asked == told else asked, labels, value, entry.text,
    )  # fmt: skip


def _found(db: sqlite3.Connection, ids: Sequence[str]) -> dict[str, tuple[int, float, float | None]]:
    """The rows that are there of some ids: place, time they were made, time they end."""
    one = "SELECT place, created_at, expires_at FROM entries WHERE id = ?"
    return {id: row for id in ids if (row := db.execute(one, (id,)).fetchone()) is not None}


def _spaces(db: sqlite3.Connection, names: Iterable[str]) -> dict[str, int]:
    """The numbers of namespaces, which get one where they have none."""
    rows = [(name,) for name in names]
    db.executemany("INSERT INTO spaces (name) VALUES (?) ON CONFLICT DO NOTHING", rows)
    return {name: db.execute("SELECT space FROM spaces WHERE name = ?", (name,)).fetchone()[0] for (name,) in rows}


def _last_seq(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT value FROM meta WHERE name = 'seq'").fetchone()
    return number_of("seq", row[0] if row else "")


def _set_meta(db: sqlite3.Connection, values: Mapping[str, str]) -> None:
    db.executemany("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", values.items())
