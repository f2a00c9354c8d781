"""What can be asked of the record, from any number of threads and processes at once. Never writes, and waits for no writer."""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections import deque
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING, Any

from apxm.errors import StorageError, ValueRefused
from apxm.memory.ltm import tables
from apxm.memory.ltm import where as filters
from apxm.memory.ltm.entry import Entry
from apxm.values import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from apxm.memory.ltm.entry import EntryKind
    from apxm.memory.ltm.where import Where

FREE_MAX = 8  # connections that are kept open while nobody uses them
AT_ONCE_MAX = 500  # ids of one statement
PAGE = 500  # rows that are looked through at a time

_ENTRY = (
    "e.id, s.name, e.key, e.kind, e.value, e.text, e.metadata, e.labels, e.created_at, e.updated_at, e.expires_at, e.seq, e.crc"
)
_FROM = "FROM entries e CROSS JOIN spaces s ON s.space = e.space"
_LIVING = "(e.expires_at IS NULL OR e.expires_at > ?)"
_SPACE = "(SELECT space FROM spaces WHERE name = ?)"
_FIELDS = "coalesce(e.fields, e.metadata)"


@dataclass(frozen=True, slots=True)
class Change:
    """The last write of one id: an entry with its vector, if it has one yet, or its end."""

    seq: int
    id: str
    namespace: str
    kind: EntryKind
    vector: bytes | None
    deleted: bool


class Reading:
    """Queries over the file `record.db` in `folder`; where there is none yet, nothing is found. `clock` is Unix time."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time) -> None:
        self.path = folder / tables.FILE
        self._clock = clock
        self._open()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._free: deque[sqlite3.Connection] = deque()  # that nobody uses right now

    # ---- entries -----------------------------------------------------------------------------------------------------
    def get(self, id: str, now: float) -> Entry | None:
        rows = self._rows(f"SELECT {_ENTRY} {_FROM} WHERE e.id = ? AND {_LIVING}", (id, now))
        return _entry(rows[0]) if rows else None

    def entries(self, ids: Sequence[str]) -> dict[str, Entry]:
        """The living among `ids`."""
        now = self._clock()
        rows = self._by_id(f"SELECT {_ENTRY} {_FROM} WHERE {_LIVING} AND e.id", ids, now)
        return {row[0]: _entry(row) for row in rows}

    def vectors(self, ids: Sequence[str]) -> dict[str, bytes]:
        """The vectors of those among `ids` that have one."""
        return dict(self._by_id("SELECT id, vector FROM entries WHERE vector IS NOT NULL AND id", ids))

    def _by_id(self, statement: str, ids: Sequence[str], *bound: Any) -> Iterator[Any]:
        for start in range(0, len(ids), AT_ONCE_MAX):
            some = ids[start : start + AT_ONCE_MAX]
            yield from self._rows(f"{statement} IN ({','.join('?' * len(some))})", (*bound, *some))

    def listed(
        self, *, namespace: str | None, kind: str | None, prefix: str, where: Where | None, after: int, limit: int
    ) -> list[Entry]:
        """Living entries in order of seq, past `after`."""
        told, bound = self._asked(namespace, kind, where)
        if prefix:
            data = prefix.encode("utf-8", "replace")
            told += " AND substr(CAST(e.key AS BLOB), 1, ?) = ?"
            bound += [len(data), data]
        rows = self._rows(f"SELECT {_ENTRY} {_FROM} WHERE {told} AND e.seq > ? ORDER BY e.seq LIMIT ?", (*bound, after, limit))
        return [_entry(row) for row in rows]

    def matching(self, namespace: str, kind: str | None, where: Where | None) -> set[str] | None:
        """Ids of the living entries that pass a filter; None without a filter."""
        if not where:
            return None
        told, bound = self._asked(namespace, kind, where)
        return {id for (id,) in self._rows(f"SELECT e.id FROM entries e WHERE {told}", bound)}

    def _asked(self, namespace: str | None, kind: str | None, where: Where | None) -> tuple[str, list[Any]]:
        parts: list[str] = [_LIVING]
        bound: list[Any] = [self._clock()]
        if namespace is not None:
            parts.append(f"e.space = {_SPACE}")
            bound.append(namespace)
        if kind is not None:
            parts.append("e.kind = ?")
            bound.append(kind)
        if where:
            told, more = filters.condition(where, _FIELDS)
            parts.append(told)
            bound += more
        return " AND ".join(parts), bound

    def lexical(self, namespace: str, query: str, limit: int, kind: str | None) -> list[tuple[str, float]]:
        """Living entries with words of `query` in their key or text, best first: (id, BM25), the more the better.

        Any text is a query.
        """
        from apxm.memory.ltm.words import rated  # here, so that what reads by key alone does not load it

        known, space = self._space(namespace)
        return rated(self._rows, space, query, limit, kind, self._clock()) if known else []

    def phrase(self, namespace: str, query: str, limit: int, kind: str | None) -> list[str]:
        """Ids of living entries that have all the words of `query` in a row, which are two at least. The older first."""
        from apxm.memory.ltm.words import in_a_row

        known, space = self._space(namespace)
        return in_a_row(self._rows, space, query, limit, kind, self._clock()) if known else []

    def _space(self, namespace: str) -> tuple[bool, int | None]:
        """Whether there is such a namespace, and its number, if there are others."""
        rows = self._rows("SELECT space, (SELECT count(*) FROM spaces) FROM spaces WHERE name = ?", (namespace,))
        return bool(rows), rows[0][0] if rows and rows[0][1] > 1 else None

    # ---- writes and counts ---------------------------------------------------------------------------------------------
    def changes(self, after: int, limit: int, namespace: str | None = None) -> list[Change]:
        """The last write of every id that was written after `after`, in one namespace or all, in order of seq."""
        here = "" if namespace is None else f"AND x.space = {_SPACE.replace('?', '?3')}"
        rows = self._rows(
            f"""SELECT x.seq, x.id, s.name, x.kind, x.vector, 0 FROM entries x CROSS JOIN spaces s ON s.space = x.space
            WHERE x.seq > ?1 {here} UNION ALL
            SELECT x.seq, x.id, s.name, x.kind, NULL, 1 FROM tombstones x CROSS JOIN spaces s ON s.space = x.space
            WHERE x.seq > ?1 {here} ORDER BY 1 LIMIT ?2""",
            (after, limit) if namespace is None else (after, limit, namespace),
        )
        return [Change(seq, id, name, kind, vector, bool(dead)) for seq, id, name, kind, vector, dead in rows]

    def count(self, namespace: str | None = None) -> int:
        """Vectors, of one namespace or of all. Expired entries count until they are removed."""
        here, bound = ("space >= 0", ()) if namespace is None else (f"space = {_SPACE.replace('?', '?1')}", (namespace,))
        return self._number(
            f"""SELECT (SELECT count(*) FROM entries WHERE {here})
            - (SELECT count(*) FROM entries WHERE {here} AND vector IS NULL)""",
            bound,
        )

    def last_seq(self) -> int:
        return int(self.meta("seq") or 0)

    def meta(self, name: str) -> str | None:
        rows = self._rows("SELECT value FROM meta WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def unembedded(self, limit: int, *, after: int = 0) -> list[tuple[str, int, str]]:
        """Rows with a text that has no vector yet, in order of seq, past `after`: (id, seq, text)."""
        return self._rows(
            "SELECT id, seq, text FROM entries WHERE vector IS NULL AND text <> '' AND seq > ? ORDER BY seq LIMIT ?",
            (after, limit),
        )

    def unembedded_count(self) -> int:
        return self._number("SELECT count(*) FROM entries WHERE vector IS NULL AND text <> ''")

    def largest(self) -> int:
        """Entries of the largest namespace."""
        return self._number("SELECT coalesce(max(count), 0) FROM (SELECT count(*) AS count FROM entries GROUP BY space)")

    def ids(self, namespace: str, limit: int) -> list[str]:
        """Ids of the first entries of a namespace, those past their end too."""
        rows = self._rows(f"SELECT id FROM entries WHERE space = {_SPACE} ORDER BY seq LIMIT ?", (namespace, limit))
        return [id for (id,) in rows]

    def expired(self, limit: int) -> list[str]:
        """Ids of entries that are past their end and not removed yet."""
        rows = self._rows("SELECT id FROM entries WHERE expires_at <= ? ORDER BY expires_at LIMIT ?", (self._clock(), limit))
        return [id for (id,) in rows]

    def spaces(self) -> list[tuple[str, int, int, int, int]]:
        """Namespaces by name: living entries, facts, vectors, bytes of texts and values."""
        return self._rows(
            f"""SELECT s.name, count(*), sum(e.kind = 'fact'), count(e.vector),
            sum(length(e.value) + length(CAST(e.text AS BLOB))) {_FROM} WHERE {_LIVING} GROUP BY s.name ORDER BY s.name""",
            (self._clock(),),
        )

    def deleted(self) -> int:
        """How many ids were deleted and are not forgotten yet."""
        return self._number("SELECT count(*) FROM tombstones")

    # ---- damage ------------------------------------------------------------------------------------------------------
    def damage(self) -> list[str]:
        """What is wrong with the file: with its pages, and with the entries in them; [] when nothing is."""
        try:
            found = [text for (text,) in self._rows("PRAGMA quick_check(10)") if text != "ok"]
            return found or list(self._damaged_entries())
        except StorageError as error:
            return [error.message]

    def _damaged_entries(self) -> Iterator[str]:
        place = 0
        while rows := self._rows(
            f"SELECT {_ENTRY}, {_FIELDS}, e.place {_FROM} WHERE e.place > ? ORDER BY e.place LIMIT ?", (place, PAGE)
        ):
            place = rows[-1][-1]
            for *row, fields, _ in rows:
                try:
                    entry = _entry(row)
                    if filters.encoded(filters.fields_of(entry.value, entry.metadata)) != fields:
                        yield f"the fields of `{entry.key:.60}` in `{entry.namespace:.60}` are not those of its value"
                except StorageError as error:
                    yield error.message

    # ---- the file ----------------------------------------------------------------------------------------------------
    def _number(self, statement: str, bound: Iterable[Any] = ()) -> int:
        rows = self._rows(statement, bound)
        return int(rows[0][0]) if rows else 0

    def _rows(self, statement: str, bound: Iterable[Any] = ()) -> list[Any]:
        """What a query gives; nothing where nothing was ever stored."""
        free = self._here()
        try:
            db: sqlite3.Connection | None = free.pop() if free else None
            if db is not None and tables.is_stale(db, self.path):
                db.close()
                db = None
            if db is None:
                db = tables.open_for_reading(self.path)
            if db is None:
                return []
            try:
                return db.execute(statement, tuple(bound)).fetchall()
            finally:
                if free is self._free and len(free) < FREE_MAX:
                    free.append(db)
                else:
                    db.close()
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            raise tables.storage_error(error, self.path) from error

    def _here(self) -> deque[sqlite3.Connection]:
        """The connections of this process: SQLite carries none over a fork, so a child leaves those of its parent alone."""
        if os.getpid() != self._pid:
            _abandoned.append(self._free)
            self._open()
        return self._free

    def close(self) -> None:
        """Let go of the file. The next use opens it again."""
        free, self._free = self._here(), deque()
        while free:
            free.pop().close()


_DAMAGED = "delete it, or write it again; put back a copy of the folder when there are others"
_abandoned: list[Any] = []  # so that nobody closes them


def crc_of(id: str, kind: str, key: str, metadata: str, labels: str, value: bytes, text: str) -> int:
    """What is kept beside an entry to notice that it changed by itself."""
    head = "\0".join((id, kind, key, metadata, labels, ""))
    return zlib.crc32(text.encode(), zlib.crc32(value, zlib.crc32(head.encode())))


def _entry(row: Any) -> Entry:
    id, namespace, key, kind, value, text, metadata, labels, created, updated, expires, seq, crc = row
    try:
        whole = crc_of(id, kind, key, metadata, labels, value, text) == crc
    except (TypeError, AttributeError):  # not even of the kinds that it had
        whole = False
    if not whole:
        raise StorageError(f"the entry `{key!s:.60}` in `{namespace!s:.60}` is damaged", hint=_DAMAGED)
    told: Mapping[str, Any] = {} if metadata == "{}" else json.loads(metadata)
    whence = () if labels == "[]" else tuple(json.loads(labels))
    try:
        return Entry(id, namespace, key, kind, unpack(value), text, told, whence, created, updated, expires, seq)
    except ValueRefused as error:
        text = f"the value of `{key:.60}` in `{namespace:.60}` cannot be read: {error.message}"
        raise StorageError(text, hint=error.hint) from error
