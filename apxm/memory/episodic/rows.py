"""Episodes as rows of their file, and back: writing many at once, reading the newest first."""

from __future__ import annotations

import json
import re
from heapq import merge
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from apxm.errors import StorageError, ValueRefused
from apxm.memory.episodic import tables
from apxm.memory.episodic.episode import FIRING, Episode
from apxm.memory.episodic.firings import Firings
from apxm.values import unpack

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from apxm.memory.episodic.episode import Place
    from apxm.memory.episodic.episodes import Wanted
    from apxm.memory.matching import Query

PAGE_ROWS = 256  # read at once: the next are read when somebody asks for them
_COLUMNS = "number, at, run, path, node, name, op, flow, agent, kind, target, duration_ms, code, more, value"
_BY_WORD = """SELECT number FROM words JOIN episodes ON number = words.rowid
WHERE words MATCH ? AND agent = ? AND number > ? ORDER BY number DESC LIMIT ?"""
_BY_KEY = """SELECT number FROM episodes WHERE agent = ? AND number > ?
AND CASE kind WHEN 'record' THEN target ELSE kind || ':' || target END LIKE ? ESCAPE '!' ORDER BY number DESC LIMIT ?"""
_OF_AGENT = "SELECT number FROM episodes WHERE agent = ? AND number > ? ORDER BY number DESC LIMIT ?"
_WORD, _LIKE, _ESCAPED = re.compile(r"[^\W_]+"), re.compile(r"[!%_]"), r"!\g<0>"
_UNREADABLE = (ValueRefused, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)
_INSERT = f"INSERT INTO episodes ({_COLUMNS}) VALUES ({', '.join('?' * 15)})"


class Row(NamedTuple):
    """An episode that waits to be written. `packed` is its value, None when it has none; `text` what a search reads of that."""

    at: float
    run: str
    place: Place
    kind: str
    target: str
    duration_ms: float
    code: str | None
    usage: Mapping[str, float] | None
    content: Mapping[str, str] | None
    labels: tuple[str, ...]
    packed: bytes | None
    text: str


def write(connection: sqlite3.Connection, batch: Sequence[Row | Firings], last: int) -> int:
    """Insert a batch, numbered from `last` + 1 on; gives the last number. Part of a transaction of the caller."""
    rows, words, firings = [], [], []
    for one in batch:
        if isinstance(one, Firings):
            firings.append((last + 1, len(one), clean(one.run), one.since, one.until, one.failed, one.pack()))
            last += len(one)
        else:
            last += 1
            rows.append(_encoded(last, one))
            words.append((last, clean(_searched(one))))
    if rows:
        connection.executemany(_INSERT, rows)
        connection.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", words)
    if firings:
        connection.executemany("INSERT INTO firings VALUES (?, ?, ?, ?, ?, ?, ?)", firings)
    return last


def _encoded(number: int, row: Row) -> tuple[Any, ...]:
    import msgpack

    path, node, *names = row.place
    more = None
    if row.usage or row.content or row.labels:
        more = msgpack.packb([row.usage, row.content, row.labels], unicode_errors="surrogatepass")
    where = json.dumps(path) if path else None
    texts = (clean(text) for text in (*names, row.kind, row.target))
    return (number, row.at, clean(row.run), where, node, *texts, row.duration_ms, row.code and clean(row.code), more, row.packed)


def _searched(row: Row) -> str:
    """Everything that a search may find it by: see Episode.text, and the words in the name of what was called."""
    from apxm.llm.text import terms

    ended = ("failed", row.code) if row.code is not None else ("done",)
    said = (row.content or {}).values()
    return "\n".join([row.kind, row.target, *terms(row.target), *row.place[2:], *ended, *said, row.text])


def clean(text: str) -> str:
    """A text that UTF-8 can say."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _decoded(row: Sequence[Any]) -> Episode:
    try:
        return _episode(row)
    except _UNREADABLE as error:
        raise _refusal(row[0]) from error


def _refusal(number: int) -> StorageError:
    return StorageError(f"episode {number} cannot be read: it is not what we write", hint=tables.DATABASE.damaged)


def _episode(row: Sequence[Any]) -> Episode:
    import msgpack

    number, at, run, path, node, name, op, flow, agent, kind, target, duration_ms, code, more, value = row
    usage, content, labels = (None, None, ()) if more is None else msgpack.unpackb(more, unicode_errors="surrogatepass")
    steps = () if path is None else tuple((one, step) for one, step in json.loads(path))
    known = None if value is None else unpack(value)
    place = (number, at, run, steps, node, name, op, flow, agent, kind, target)
    return Episode(*place, duration_ms, code, usage, content, known, tuple(labels))


# ---- reading ---------------------------------------------------------------------------------------------------------
Ask: TypeAlias = "Callable[[str, Sequence[Any]], list[Any]]"  # runs a statement and gives all its rows


def select(ask: Ask, wanted: Wanted, above: int) -> Iterator[Episode]:
    """Those that are wanted with a number above `above`, newest first. No statement stays open between two of them."""
    sources = []
    if wanted.kind != FIRING:
        sources.append(_calls(ask, wanted, above))
    if wanted.firings and wanted.kind in (None, FIRING):
        sources.append(_fired(ask, wanted, above))
    for one in merge(*sources, key=lambda one: -one.number):
        if wanted.holds(one):
            yield one


def numbered(ask: Ask, numbers: Sequence[int]) -> Iterator[Episode]:
    """Those with these numbers, newest first; firings are not among them."""
    for start in range(0, len(numbers), PAGE_ROWS):
        some = numbers[start : start + PAGE_ROWS]
        marks = ", ".join("?" * len(some))
        yield from map(_decoded, ask(f"SELECT {_COLUMNS} FROM episodes WHERE number IN ({marks}) ORDER BY number DESC", some))


def matching(ask: Ask, query: Query, agent: str, above: int, limit: int) -> list[int]:
    """The numbers of the newest episodes of an agent that a query may find, newest first: by a word that begins like one of
    its own, or because it is a part of the key."""
    found = {row[0] for row in ask(_BY_KEY, [agent, above, f"%{_LIKE.sub(_ESCAPED, clean(query.whole))}%", limit])}
    words = [_WORD.findall(clean(trunk)) for trunk in query.trunks]
    if not words:
        return sorted(found, reverse=True)
    if all(words):
        text = " OR ".join(f"({_all_of(parts)})" for parts in words)
        found.update(row[0] for row in ask(_BY_WORD, [text, agent, above, limit]))
    else:  # signs that are no words are in no index
        found.update(row[0] for row in ask(_OF_AGENT, [agent, above, limit]))
    return sorted(found, reverse=True)[:limit]


def _all_of(parts: Sequence[str]) -> str:
    return " AND ".join(f'"{part}"*' for part in parts)


def _calls(ask: Ask, wanted: Wanted, above: int) -> Iterator[Episode]:
    conditions, given = ["number > ?"], list[Any]((above,))
    for name in ("run", "agent", "op", "kind", "target"):
        value = getattr(wanted, name)
        if value is not None:
            conditions.append(f"{name} = ?")
            given.append(clean(value))
    for name, compared in (("since", ">="), ("until", "<=")):
        if getattr(wanted, name) is not None:
            conditions.append(f"at {compared} ?")
            given.append(getattr(wanted, name))
    if wanted.outcome is not None:
        conditions.append("code IS NULL" if wanted.outcome == "done" else "code IS NOT NULL")
    statement = f"SELECT {_COLUMNS} FROM episodes WHERE {' AND '.join(conditions)} AND number < ? ORDER BY number DESC LIMIT ?"
    below = 2**63 - 1
    while rows := ask(statement, [*given, below, PAGE_ROWS]):
        yield from map(_decoded, rows)
        below = rows[-1][0]


def _fired(ask: Ask, wanted: Wanted, above: int) -> Iterator[Episode]:
    conditions, given = ["number + count - 1 > ?"], list[Any]((above,))
    if wanted.run is not None:
        conditions.append("run = ?")
        given.append(clean(wanted.run))
    if wanted.since is not None:
        conditions.append("until >= ?")
        given.append(wanted.since)
    if wanted.until is not None:
        conditions.append("since <= ?")
        given.append(wanted.until)
    if wanted.outcome is not None:
        conditions.append("failed < count" if wanted.outcome == "done" else "failed > 0")
    statement = (
        f"SELECT number, run, data FROM firings WHERE {' AND '.join(conditions)} AND number < ? ORDER BY number DESC LIMIT 1"
    )
    below = 2**63 - 1
    while rows := ask(statement, [*given, below]):
        below, run, data = rows[0]
        try:
            found = [Episode(*row) for row in Firings.unpack(run, data).rows(below) if row[0] > above]
        except _UNREADABLE as error:
            raise _refusal(below) from error
        yield from reversed(found)
