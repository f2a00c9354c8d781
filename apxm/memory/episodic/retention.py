"""Which episodes have to go: by number, by age, by bytes. The oldest go first. Runs where they are written, never in a run."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from apxm.database import BUSY_S, pragma
from apxm.memory.episodic.tables import PAGE_BYTES

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

DAY_S = 86_400.0
SLACK = 20  # a 20th of what may be kept goes at once: readers do not see what is past the bound, and deleting costs less
LOG_SHARE = 8  # an eighth of the bytes is for the write-ahead log
VACUUM_PAGES = 64  # free pages that are worth giving back


class Retention:
    """The bounds of one store. Numbers are given without gaps, so that counting is subtracting."""

    def __init__(self, entries_max: int, days_max: float | None, bytes_max: int, clock: Callable[[], float]) -> None:
        self.entries_max, self.days_max, self.bytes_max = entries_max, days_max, bytes_max
        self._clock = clock

    def oldest(self) -> float | None:
        """Unix time before which nothing counts any more; None without a bound."""
        return None if self.days_max is None else self._clock() - self.days_max * DAY_S

    def bounds(self, last: int, gone: int) -> tuple[int, int]:
        """The last number, and the last of those that are gone or past the bound."""
        return last, max(gone, last - self.entries_max)

    def apply(self, connection: sqlite3.Connection, last: int, gone: int) -> None:
        """Delete what has to go. Part of a transaction of the caller."""
        upto = gone
        if last - gone >= self.entries_max + max(1, self.entries_max // SLACK):
            upto = last - self.entries_max
        oldest = self.oldest()
        if oldest is not None:
            upto = max(upto, _older(connection, oldest, last))
        used = (pragma(connection, "page_count") - pragma(connection, "freelist_count")) * PAGE_BYTES
        over = used - (self.bytes_max - self.bytes_max // LOG_SHARE)
        if over > 0:
            upto = max(upto, gone + ceil((last - gone) * min(over / used + 1 / SLACK, 1.0)))
        if upto > gone:
            _delete(connection, upto)

    def shrink(self, connection: sqlite3.Connection, path: Path) -> None:
        """Give back to the disk what is free: when it is much, and when the files are larger than they may be."""
        size = sum(file.stat().st_size for file in (path, path.with_name(f"{path.name}-wal")) if file.exists())
        if size > self.bytes_max:
            _vacuum(connection)
            connection.execute("PRAGMA busy_timeout=0")  # who reads now is not waited for: the next batch tries again
            _checkpoint(connection)
            connection.execute(f"PRAGMA busy_timeout={int(BUSY_S * 1e3)}")
        elif pragma(connection, "freelist_count") >= VACUUM_PAGES:
            _vacuum(connection)

    def forget(self, connection: sqlite3.Connection) -> None:
        """Delete all there is, in a transaction of its own; numbers go on."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            (last,) = connection.execute("SELECT value FROM meta WHERE name = 'last'").fetchone()
            _delete(connection, last)
            connection.execute("INSERT INTO words (words) VALUES ('optimize')")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        _vacuum(connection)
        _checkpoint(connection)


def _vacuum(connection: sqlite3.Connection) -> None:
    connection.executescript("PRAGMA incremental_vacuum")  # `execute` makes one step of it, which frees one page


def _checkpoint(connection: sqlite3.Connection) -> None:
    """Work the log into the file and empty it."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _older(connection: sqlite3.Connection, oldest: float, last: int) -> int:
    """The last number before the first episode that is young enough."""
    young = [
        connection.execute(statement, (oldest,)).fetchone()
        for statement in (
            "SELECT number FROM episodes WHERE at >= ? ORDER BY number LIMIT 1",
            "SELECT number FROM firings WHERE until >= ? ORDER BY number LIMIT 1",
        )
    ]
    return min([row[0] for row in young if row is not None], default=last + 1) - 1


def _delete(connection: sqlite3.Connection, upto: int) -> None:
    connection.execute("DELETE FROM words WHERE rowid <= ?", (upto,))
    connection.execute("DELETE FROM episodes WHERE number <= ?", (upto,))
    connection.execute("DELETE FROM firings WHERE number + count - 1 <= ? AND number <= ?", (upto, upto))
    connection.execute("UPDATE meta SET value = ? WHERE name = 'gone'", (upto,))
