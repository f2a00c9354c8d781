"""What can be asked of the record, from any number of threads and processes at once. Never writes, and waits for no writer."""

from __future__ import annotations

import json
import os
import zlib
from collections import deque
from dataclasses import astuple, dataclass
from time import time
from typing import TYPE_CHECKING, Any

from apxm.database import is_stale
from apxm.errors import StorageError, ValueRefused
from apxm.memory.embed.base import Fingerprint
from apxm.memory.ltm import tables
from apxm.memory.ltm import where as filters
from apxm.memory.ltm.entry import Entry
from apxm.values import unpack

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from apxm.memory.ltm.entry import EntryKind
    from apxm.memory.ltm.passing import Passed
    from apxm.memory.ltm.where import Where
    from apxm.memory.ltm.words import Rated, Space

    Match: TypeAlias = tuple[str, int, float | None, int]  # id, place, end, whether it passes

FREE_MAX = 8  # connections that are kept open while nobody uses them
LENGTH_OFF_MAX = 1e-3  # of a vector of length 1: more is not rounding
CACHE_KIB = 16 * 1024  # of each, at most: a search of 10,000 texts reads 5 MiB
COUNTED_MAX = 10_000  # words of queries of which it is kept how many entries have them
AT_ONCE_MAX = 500  # ids of one statement
PAGE = 500  # rows that are looked through at a time
NUMBER_DIGITS_MAX = 18  # of a number of writes

_ENTRY = (
    "e.id, s.name, e.key, e.kind, e.value, e.text, e.metadata, e.labels, e.created_at, e.updated_at, e.expires_at, e.seq, e.crc"
)
_FROM = "FROM entries e CROSS JOIN spaces s ON s.space = e.space"
_LIVING = "(e.expires_at IS NULL OR e.expires_at > ?)"
_SPACE = "(SELECT space FROM spaces WHERE name = ?)"
_NUMBERED = """SELECT space, (SELECT count(*) FROM spaces), (SELECT value FROM meta WHERE name = 'seq')
FROM spaces WHERE name = ?"""
_FIELDS = "coalesce(fields, metadata)"


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
        self._counted: tuple[str, dict[str, int]] = "", {}  # a seq, and what was counted for searches when it was the last

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

    def salvaged(self, namespace: str | None, after: int, limit: int) -> tuple[list[Entry], list[str], int | None]:
        """What can be read of the next `limit` entries; what is said of the others; the last seq of them, None at the end."""
        here, bound = ("space >= 0", ()) if namespace is None else (f"space = {_SPACE}", (namespace,))
        seqs = self._rows(f"SELECT seq FROM entries WHERE {here} AND seq > ? ORDER BY seq LIMIT ?", (*bound, after, limit))
        found: list[Entry] = []
        lost: list[str] = []
        for (seq,) in seqs:  # one by one: a page of the file that is damaged takes no other entry with it
            try:
                rows = self._rows(f"SELECT {_ENTRY} {_FROM} WHERE e.seq = ? AND {_LIVING}", (seq, self._clock()))
                found += [_entry(row) for row in rows]
            except StorageError as error:
                lost.append(error.message)
        return found, lost, seqs[-1][0] if seqs else None

    def matching(self, namespace: str, kind: str | None, where: Where, after: int = 0) -> list[Match]:
        """The entries that pass a filter, those past their end too.

        With `after`, whatever was written or deleted after that write: of each whether it passes now.
        """
        told, bound = filters.condition(where, _FIELDS)
        here = f"x.space = {_SPACE} AND (? IS NULL OR x.kind = ?)"
        about = (namespace, kind, kind)
        if not after:
            one = f"SELECT x.id, x.place, x.expires_at, 1 FROM entries x WHERE {here} AND {told}"
            return self._rows(one, (*about, *bound))
        return self._rows(
            f"""SELECT x.id, x.place, x.expires_at, {told} FROM entries x WHERE {here} AND x.seq > ? UNION ALL
            SELECT x.id, 0, NULL, 0 FROM tombstones x WHERE {here} AND x.seq > ?""",
            (*bound, *about, after, *about, after),
        )

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

    def lexical(self, namespace: str, query: str, limit: int, kind: str | None) -> Rated:
        """Living entries with words of `query` in their key or text, best first: (id, BM25), the more the better.

        Any text is a query.
        """
        from apxm.memory.ltm.words import rated  # here, so that what reads by key alone does not load it

        space = self._space(namespace)
        return rated(self._rows, space, query, limit, kind, self._clock()) if space else []

    def lexical_among(
        self, namespace: str, query: str, limit: int, kind: str | None, passed: Passed
    ) -> tuple[Rated, Rated, bool]:
        """Of the `limit` entries that do best those that passed a filter; the best of all; whether there are no more."""
        from apxm.memory.ltm.words import rated_among

        space = self._space(namespace)
        return rated_among(self._rows, space, query, limit, kind, self._clock(), passed) if space else ([], [], True)

    def phrase(self, namespace: str, query: str, limit: int, kind: str | None) -> list[str]:
        """Ids of living entries that have all the words of `query` in a row, which are two at least. The older first."""
        from apxm.memory.ltm.words import in_a_row

        space = self._space(namespace)
        return in_a_row(self._rows, space, query, limit, kind, self._clock()) if space else []

    def _space(self, namespace: str) -> Space | None:
        from apxm.memory.ltm.words import Space

        rows = self._rows(_NUMBERED, (namespace,))
        if not rows:
            return None
        space, spaces, seq = rows[0]
        counted_at, counts = self._counted
        if counted_at != seq or len(counts) > COUNTED_MAX:
            self._counted = seq, counts = seq, dict[str, int]()
        return Space(space if spaces > 1 else None, counts)

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
        return self.number("seq")

    def number(self, name: str) -> int:
        """What `meta` says, where that is a number; 0 where it says nothing. StorageError for anything else."""
        return number_of(name, self.meta(name) or "0")

    def made_by(self) -> Fingerprint | None:
        """The embedder of the vectors, where one was noted. StorageError where that is not what we write."""
        told = self.meta("embedder")
        if told is None:
            return None
        try:
            found = Fingerprint.from_map(json.loads(told))
            if [type(one) for one in astuple(found)] == [str, str, int, bool]:
                return found
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        raise StorageError(
            f"{self.path} does not say which embedder its vectors are of: {told:.60}", hint=tables.DATABASE.damaged
        )

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
        place, made_by = 0, self.made_by()
        while rows := self._rows(
            f"SELECT {_ENTRY}, e.vector, {_FIELDS}, e.place {_FROM} WHERE e.place > ? ORDER BY e.place LIMIT ?", (place, PAGE)
        ):
            place = rows[-1][-1]
            for *row, vector, fields, _ in rows:
                try:
                    entry = _entry(row)
                    if filters.encoded(filters.fields_of(entry.value, entry.metadata)) != fields:
                        yield f"the fields of `{entry.key:.60}` in `{entry.namespace:.60}` are not those of its value"
                    if vector is not None and made_by is not None and not _may_be_of(made_by, vector):
                        yield f"the vector of `{entry.key:.60}` in `{entry.namespace:.60}` is damaged: write it again"
                except StorageError as error:
                    yield error.message

    # ---- the file ----------------------------------------------------------------------------------------------------
    def _number(self, statement: str, bound: Iterable[Any] = ()) -> int:
        rows = self._rows(statement, bound)
        return int(rows[0][0]) if rows else 0

    def _rows(self, statement: str, bound: Iterable[Any] = ()) -> list[Any]:
        """What a query gives; nothing where nothing was ever stored."""
        free = self._here()
        with tables.DATABASE.errors(self.path):
            db: sqlite3.Connection | None = free.pop() if free else None
            if db is not None and is_stale(db, self.path):
                db.close()
                db = None
            if db is None:
                db = tables.DATABASE.look(self.path)
                if db is None:
                    return []
                db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            try:
                return db.execute(statement, tuple(bound)).fetchall()
            finally:
                if free is self._free and len(free) < FREE_MAX:
                    free.append(db)
                else:
                    db.close()

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


def _may_be_of(embedder: Fingerprint, vector: bytes) -> bool:
    """Whether an embedder can have given a vector: of its dimension, finite, and of length 1, or 0, where it says so."""
    import numpy as np

    numbers = np.frombuffer(vector[: len(vector) // 4 * 4], "<f4").astype(np.float64)
    if len(vector) != 4 * embedder.dimension or not np.isfinite(numbers).all():
        return False
    length = float(np.sqrt(numbers @ numbers))
    return not embedder.normalized or length == 0.0 or abs(length - 1.0) < LENGTH_OFF_MAX


_DAMAGED = "delete it, or write it again; put back a copy of the folder when there are others"
_abandoned: list[Any] = []  # so that nobody closes them


def crc_of(id: str, kind: str, key: str, metadata: str, labels: str, value: bytes, text: str) -> int:
    """What is kept beside an entry to notice that it changed by itself."""
    head = "\0".join((id, kind, key, metadata, labels, ""))
    return zlib.crc32(text.encode(), zlib.crc32(value, zlib.crc32(head.encode())))


def number_of(name: str, told: str) -> int:
    """A number as the record keeps it."""
    if not told.isascii() or not told.isdigit() or len(told) > NUMBER_DIGITS_MAX:
        raise StorageError(f"`{name}` of the record is {told!r:.60}, expected a number", hint=tables.DATABASE.damaged)
    return int(told)


def _entry(row: Any) -> Entry:
    id, namespace, key, kind, value, text, metadata, labels, created, updated, expires, seq, crc = row
    try:
        whole = crc_of(id, kind, key, metadata, labels, value, text) == crc
    except (TypeError, AttributeError):  # not even of the kinds that it had
        whole = False
    if not whole:
        raise StorageError(f"the entry `{key!s:.60}` in `{namespace!s:.60}` is damaged", hint=_DAMAGED)
    try:
        told = {} if metadata == "{}" else json.loads(metadata)
        whence = [] if labels == "[]" else json.loads(labels)
        if type(told) is not dict or type(whence) is not list or not all(type(label) is str for label in whence):
            raise ValueRefused("its metadata are no map, or its labels no texts")
        return Entry(id, namespace, key, kind, unpack(value), text, told, tuple(whence), created, updated, expires, seq)
    except (ValueError, RecursionError) as error:
        raise StorageError(f"metadata and labels of `{key:.60}` in `{namespace:.60}` cannot be read", hint=_DAMAGED) from error
    except ValueRefused as error:
        text = f"the value of `{key:.60}` in `{namespace:.60}` cannot be read: {error.message}"
        raise StorageError(text, hint=error.hint) from error
