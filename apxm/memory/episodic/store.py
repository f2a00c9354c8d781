"""Episodes in a file that several processes may append to and read. Off the path of every run: a thread writes.

A store that fails never fails a run: it says so once, goes on trying, and counts what it had to drop. Only who asks for
certainty, `record` and `flush`, gets the error.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from dataclasses import replace
from heapq import merge
from time import time
from typing import TYPE_CHECKING, Any

from apxm.database import is_stale
from apxm.errors import ConfigError, InvalidError, StorageError
from apxm.fault import fault
from apxm.memory.episodic import rows, tables
from apxm.memory.episodic.episodes import Episodes, EpisodeStats, Wanted
from apxm.memory.episodic.retention import Retention
from apxm.memory.episodic.rows import Row, clean
from apxm.memory.episodic.waiting import Waiting
from apxm.memory.matching import text_of
from apxm.values import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from apxm.config import EpisodeContent
    from apxm.memory.episodic.episode import Episode, Place
    from apxm.memory.episodic.firings import Firings
    from apxm.memory.matching import Query

VALUE_BYTES_MAX = 64 * 1024 * 1024  # of one record
CANDIDATES_MAX = 1_000  # the newest that a search rates: of more, nobody reads on


class StoredEpisodes(Episodes):
    """The episodes in `episodes.db` of a folder: at most `entries_max`, none older than `days_max`, in at most `bytes_max`.

    Made when the first is written. Any number of threads and processes may use it at once; they are numbered together.
    """

    def __init__(
        self,
        folder: Callable[[], Path],
        *,
        entries_max: int = 10_000,
        days_max: float | None = None,
        bytes_max: int = 256 * 1024 * 1024,
        content: EpisodeContent = "off",
        clock: Callable[[], float] = time,
        redact: Callable[[str], str] | None = None,
    ) -> None:
        super().__init__(content, clock, redact)
        self._folder = folder
        self._path: Path | None = None
        self._retention = Retention(entries_max, days_max, bytes_max, clock)
        self._bytes_max = bytes_max
        self._waiting: Waiting[Row | Firings] = Waiting("apxm-episodes", self._write, self._say, self._let_go)
        self._writer: sqlite3.Connection | None = None  # of the thread that writes
        self._reader: sqlite3.Connection | None = None
        self._reading = threading.Lock()

    # ---- what happens ------------------------------------------------------------------------------------------------
    def add(
        self,
        run: str,
        place: Place,
        kind: str,
        target: str,
        duration_ms: float,
        code: str | None = None,
        usage: Mapping[str, float] | None = None,
        content: Mapping[str, str] | None = None,
        value: Any = None,
        labels: tuple[str, ...] = (),
    ) -> None:
        if content is not None:
            content = self.kept(content)
        packed = None if value is None else _packed(value, target)
        text = "" if value is None else text_of(value)
        row = Row(self.clock(), run, place, kind, target, duration_ms, code, usage, content, labels, packed, text)
        self._waiting.put(row)

    def record(self, run: str, place: Place, key: str, value: Any, labels: tuple[str, ...] = ()) -> None:
        packed = _packed(value, key)
        row = Row(self.clock(), run, place, "record", key, 0.0, None, None, None, labels, packed, text_of(value))
        if not self._waiting.put(row):
            why = self._waiting.failure
            text = f"`{key}` cannot be put on record: too many episodes wait to be written"
            raise StorageError(f"{text}{f', for {why.message}' if why else ''}", hint=why.hint if why else "try again")
        self.flush()

    def fired(self, firings: Firings) -> None:
        weight = len(firings)
        if weight:
            self._waiting.put(firings, weight)

    # ---- what happened -----------------------------------------------------------------------------------------------
    def select(self, wanted: Wanted) -> Iterator[Episode]:
        """Those that are wanted, newest first, with what was accepted so far. StorageError when the file cannot be read."""
        self.flush()
        names: dict[str, Any] = {name: clean(text) for name in _NAMES if (text := getattr(wanted, name)) is not None}
        wanted = replace(wanted, **names)
        oldest = self._retention.oldest()
        if oldest is not None:
            wanted = replace(wanted, since=max(oldest, wanted.since or 0.0))
        bounds = self._bounds()
        if bounds is not None:
            yield from rows.select(self._query, wanted, bounds[1])

    def last(self, key: str, agent: str, where: Mapping[str, Any] | None = None) -> Episode | None:
        return super().last(clean(key), clean(agent), where)

    def _with_key(self, key: str, agent: str) -> Iterator[Episode]:
        found = [self.select(Wanted(agent=agent, kind="record", target=key))]
        kind, colon, target = key.partition(":")
        if colon:
            found.append(self.select(Wanted(agent=agent, kind=kind, target=target)))
        return merge(*found, key=lambda one: -one.number)

    def _candidates(self, query: Query, agent: str) -> Iterator[Episode]:
        self.flush()
        bounds = self._bounds()
        if bounds is not None:
            numbers = rows.matching(self._query, query, clean(agent), bounds[1], CANDIDATES_MAX)
            oldest = self._retention.oldest() or 0.0
            yield from (one for one in rows.numbered(self._query, numbers) if one.at >= oldest)

    def __len__(self) -> int:
        self.flush()
        bounds = self._bounds()
        return 0 if bounds is None else bounds[0] - bounds[1]

    # ---- the store ---------------------------------------------------------------------------------------------------
    def stats(self) -> EpisodeStats:
        """How many there are on disk, what waits, and why it does when it cannot be written."""
        path = self._file()
        files = [path, *(path.with_name(f"{path.name}-{more}") for more in ("wal", "shm"))]
        size = sum(file.stat().st_size for file in files if file.exists())
        waiting, failure = self._waiting.waiting, self._waiting.failure
        try:
            last, gone = self._bounds() or (0, 0)
        except StorageError as error:
            last, gone, failure = 0, 0, error
        first = gone + 1 if last > gone else 0
        text = None if failure is None else str(failure)
        return EpisodeStats(str(path), last - gone, first, last, size, waiting, self._waiting.dropped, text)

    def clear(self) -> None:
        """Forget all of them, those of other processes too."""
        self.flush()
        path = self._file()
        if path.exists():
            with tables.storage_errors(path):
                connection = tables.open_for_writing(path, self._bytes_max)
                try:
                    self._retention.forget(connection)
                finally:
                    connection.close()

    @property
    def pending(self) -> bool:
        return self._waiting.waiting > 0

    def flushed(self) -> Future[None]:
        return self._waiting.flushed()

    def close(self) -> None:
        self._waiting.close()
        with self._reading:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    # ---- the file ----------------------------------------------------------------------------------------------------
    def _file(self) -> Path:
        """Where it is; StorageError where it cannot be. Whoever asks for the folder makes it."""
        if self._path is None:
            try:
                self._path = self._folder() / tables.FILE
            except ConfigError as error:
                raise StorageError(error.message, hint=error.hint) from error
        return self._path

    def _query(self, statement: str, given: Sequence[Any]) -> list[Any]:
        path = self._file()
        with self._reading, tables.storage_errors(path):
            if self._reader is not None and is_stale(self._reader, path):
                self._reader.close()
                self._reader = None
            if self._reader is None:
                self._reader = tables.DATABASE.look(path)
                if self._reader is None:
                    return []
            try:
                return self._reader.execute(statement, given).fetchall()
            except sqlite3.DatabaseError:  # the next look begins with the file as it is then
                self._reader.close()
                self._reader = None
                raise

    def _bounds(self) -> tuple[int, int] | None:
        """The last number given, and the last of those that are gone; None when nothing was ever kept."""
        found = dict(self._query("SELECT name, value FROM meta", ()))
        return self._retention.bounds(found["last"], found["gone"]) if found else None

    def _write(self, batch: Sequence[Row | Firings]) -> None:
        """One transaction of the writing thread: the batch, and what has to go for it."""
        path = self._file()
        try:
            with tables.storage_errors(path):
                if self._writer is None:
                    self._writer = tables.open_for_writing(path, self._bytes_max)
                self._commit(self._writer, batch)
        except StorageError:
            self._let_go()  # whatever state it is in, the next attempt begins with the file as it is
            raise

    def _commit(self, connection: sqlite3.Connection, batch: Sequence[Row | Firings]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            before = dict(connection.execute("SELECT name, value FROM meta"))
            last = rows.write(connection, batch, before["last"])
            connection.execute("UPDATE meta SET value = ? WHERE name = 'last'", (last,))
            self._retention.apply(connection, last, before["gone"])
            fault("episodes.before_commit")
        except BaseException:
            if connection.in_transaction:  # after some errors SQLite has taken it back by itself
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        with suppress(sqlite3.Error, OSError):  # it is written: what fails now is tried again after the next batch
            fault("episodes.after_commit")
            self._retention.shrink(connection, self._file())

    def _let_go(self) -> None:
        connection, self._writer = self._writer, None
        if connection is not None:
            connection.close()

    def _say(self, error: StorageError) -> None:
        import logging

        logging.getLogger("apxm.memory").warning("episodes are not written for now: %s", error)


_NAMES = ("run", "agent", "op", "kind", "target")


def _packed(value: Any, what: str) -> bytes:
    """Bytes of a value; ValueRefused for what cannot be stored, and InvalidError for what is too large."""
    data = pack(value)
    if len(data) > VALUE_BYTES_MAX:
        text = f"the value of `{what}` has {len(data):,} bytes, at most {VALUE_BYTES_MAX:,} go on record"
        raise InvalidError(text, code="limit", hint="store it elsewhere, and put its name on record")
    return data
