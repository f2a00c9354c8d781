"""The short-term memory of one run or session: scoped, bounded, forgetting what was used least. Never an error for being full."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from sys import getsizeof
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from apxm.errors import InvalidError
from apxm.memory.matching import Query, fits
from apxm.values import SCALARS, check, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

KEY_CHARS_MAX = 1_000
ENTRY_BYTES = 200  # what an entry costs beside its key and value: a tuple, a place in the order, a hash slot
MISSING: Any = object()

Place: TypeAlias = tuple[str, str]  # scope, key
Labels: TypeAlias = tuple[str, ...]  # where a value came from
Entry: TypeAlias = tuple[Any, int, float | None, Labels]  # value, bytes, when it expires, its labels


@dataclass(frozen=True, slots=True)
class Change:
    """Something happened to an entry: put, delete, evict (no room) or expire (its time to live is over)."""

    kind: Literal["put", "delete", "evict", "expire"]
    scope: str
    key: str


class ShortTermMemory:
    """Values by scope and key, at most `entries_max` of them and `bytes_max` in all; the least recently used go first.

    Values are taken as they are: settled ones, which nobody changes any more; each keeps the labels that it was put with.
    An expired entry is gone for every reader at once, and its room is taken back before that of any living entry.
    Thread-safe; `on_change` is called outside the lock, after the change.
    """

    __slots__ = ("__weakref__", "_bytes", "_clock", "_entries", "_expiring", "_lock", "bytes_max", "entries_max", "on_change")

    def __init__(
        self,
        entries_max: int,
        bytes_max: int,
        *,
        clock: Callable[[], float] = monotonic,
        on_change: Callable[[Change], None] | None = None,
    ) -> None:
        self.entries_max, self.bytes_max, self.on_change = entries_max, bytes_max, on_change
        self._clock = clock
        self._lock = Lock()
        self._entries: OrderedDict[Place, Entry] = OrderedDict()  # least recently used first
        self._expiring: list[tuple[float, Place]] = []  # a heap; entries overwritten since are passed over
        self._bytes = 0

    def put(self, scope: str, key: str, value: Any, ttl_ms: float | None = None, labels: Labels = ()) -> None:
        """Store a value; what it replaces is gone. A value larger than the whole memory is not kept."""
        place = (scope, key)
        size = ENTRY_BYTES + len(key) + (getsizeof(value) if type(value) in SCALARS else size_of(value))
        if labels:
            size += getsizeof(labels) + sum(map(getsizeof, labels))
        expires = None if ttl_ms is None else self._clock() + ttl_ms / 1e3
        entries, lock = self._entries, self._lock
        lock.acquire()  # `with` costs twice as much: benches/test_w12.py
        try:
            old = entries.pop(place, None)  # so that it comes last
            entries[place] = (value, size, expires, labels)
            used = self._bytes = self._bytes + (size if old is None else size - old[1])
            if expires is not None:
                self._remember_expiry(expires, place)
            full = used > self.bytes_max or (old is None and len(entries) > self.entries_max)
            gone = self._make_room() if full else None
        finally:
            lock.release()
        if self.on_change is not None:
            self._tell([Change("put", scope, key), *(gone or ())])

    def get(self, scopes: Sequence[str], key: str) -> Any:
        """The value under `key` in the first scope that has it, else MISSING. It counts as used."""
        return self.find(scopes, key)[0]

    def find(self, scopes: Sequence[str], key: str) -> tuple[Any, Labels]:
        """`get`, with the labels of the value."""
        lapsed: list[Change] = []
        found: tuple[Any, Labels] = MISSING, ()
        entries, lock = self._entries, self._lock
        lock.acquire()
        try:
            for scope in scopes:
                place = (scope, key)
                entry = entries.get(place)
                if entry is None:
                    continue
                expires = entry[2]
                if expires is None or expires > self._clock():
                    entries.move_to_end(place)
                    found = entry[0], entry[3]
                    break
                lapsed.append(self._remove(place, "expire"))
        finally:
            lock.release()
        if lapsed:
            self._tell(lapsed)
        return found

    def holds(self, scopes: Sequence[str], key: str) -> bool:
        """Whether one of the scopes has the key. It does not count as used."""
        with self._lock:
            found = [self._entries.get((scope, key)) for scope in scopes]
        return any(entry is not None and (entry[2] is None or entry[2] > self._clock()) for entry in found)

    def delete(self, scope: str, key: str) -> bool:
        """Forget an entry; False when there was none."""
        with self._lock:
            if (scope, key) not in self._entries:
                return False
            change = self._remove((scope, key), "delete")
        self._tell([change])
        return change.kind == "delete"

    def snapshot(self) -> dict[str, Any]:
        """Everything alive as one value, least recently used first; times to live as what is left of them."""
        with self._lock:
            now = self._clock()
            rows = [
                [scope, key, value, None if expires is None else (expires - now) * 1e3, list(labels)]
                for (scope, key), (value, _, expires, labels) in self._entries.items()
                if expires is None or expires > now
            ]
        return {"entries": rows}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Replace everything by a snapshot. InvalidError, and nothing replaced, when it is none."""
        rows = snapshot.get("entries") if isinstance(snapshot, Mapping) else None
        if not isinstance(rows, list) or not all(map(_is_row, rows)):
            raise InvalidError("this is no snapshot of a short-term memory", hint="pass on what snapshot() gave")
        self.clear()
        for scope, key, value, ttl_ms, labels in rows:
            self.put(scope, key, value, ttl_ms, tuple(labels))

    def clear(self) -> None:
        """Forget everything, without telling anybody."""
        with self._lock:
            self._entries.clear()
            self._expiring.clear()
            self._bytes = 0

    def __len__(self) -> int:
        return len(self.living())

    @property
    def bytes_used(self) -> int:
        """What the entries take, by our estimate."""
        return self._bytes

    def check(self) -> None:
        """What must always hold."""
        with self._lock:
            assert self._bytes == sum(size for _, size, *_ in self._entries.values()), "bytes are what the entries have"
            assert len(self._entries) <= self.entries_max, "no more entries than allowed"
            assert self._bytes <= self.bytes_max, "no more bytes than allowed"
            waiting = {(expires, place) for place, (*_, expires, _) in self._entries.items() if expires is not None}
            assert waiting <= set(self._expiring), "everything that expires is waited for"

    def living(self) -> list[tuple[str, str, Any, Labels]]:
        """(scope, key, value, labels) of all that has not expired, least recently used first."""
        with self._lock:
            now = self._clock() if self._expiring else 0.0
            items = self._entries.items()
            return [
                (scope, key, value, labels)
                for (scope, key), (value, _, expires, labels) in items
                if expires is None or expires > now
            ]

    def _remove(self, place: Place, kind: Literal["delete", "evict", "expire"]) -> Change:
        """Under the lock. Deleting what has expired is an expiry."""
        _, size, expires, _ = self._entries.pop(place)
        self._bytes -= size
        lapsed = kind != "expire" and expires is not None and expires <= self._clock()
        return Change("expire" if lapsed else kind, *place)

    def _make_room(self) -> list[Change]:
        """Under the lock: what has expired goes, then what does not fit at all, then what was used least recently."""
        gone: list[Change] = []
        now = self._clock()
        while self._expiring and self._expiring[0][0] <= now:
            expires, place = heapq.heappop(self._expiring)
            entry = self._entries.get(place)
            if entry is not None and entry[2] == expires:
                gone.append(self._remove(place, "expire"))
        newest = next(reversed(self._entries), None)
        if newest is not None and self._entries[newest][1] > self.bytes_max:
            gone.append(self._remove(newest, "evict"))
        while self._bytes > self.bytes_max or len(self._entries) > self.entries_max:
            gone.append(self._remove(next(iter(self._entries)), "evict"))
        return gone

    def _remember_expiry(self, expires: float, place: Place) -> None:
        heap = self._expiring
        if len(heap) > 2 * len(self._entries) + 64:  # mostly overwritten or deleted since
            heap[:] = [(entry[2], place) for place, entry in self._entries.items() if entry[2] is not None]
            heapq.heapify(heap)
        else:
            heapq.heappush(heap, (expires, place))

    def _tell(self, changes: Sequence[Change]) -> None:
        tell = self.on_change
        if tell is not None:
            for change in changes:
                tell(change)


def search(
    places: Sequence[tuple[ShortTermMemory, Sequence[str]]],
    query: str,
    *,
    limit: int = 10,
    min_score: float = 0.0,
    where: Mapping[str, Any] | None = None,
) -> list[tuple[str, Any, float, Labels]]:
    """(key, value, score, labels) of the entries in these scopes of these memories that have something in common with `query`.

    The best come first, the newest first among equals. A key that is in several places counts in the first of them only.
    Searching does not count as using.
    """
    wanted = Query(query)
    found: dict[str, tuple[float, tuple[int, int], tuple[int, int], Any, Labels]] = {}
    for turn, (memory, scopes) in enumerate(places):
        for age, (scope, key, value, labels) in enumerate(reversed(memory.living())):
            if scope not in scopes:
                continue
            rank = turn, scopes.index(scope)
            if (known := found.get(key)) is not None and known[2] < rank:
                continue
            score = wanted.score(key, value) if fits(value, where) else 0.0
            found[key] = (score, (turn, age), rank, value, labels)
    ranked = sorted(found.items(), key=lambda item: (-item[1][0], item[1][1]))
    hits = [(key, value, score, labels) for key, (score, _, _, value, labels) in ranked if score > 0]
    return [hit for hit in hits if hit[2] >= min_score][:limit]


def _is_row(row: Any) -> bool:
    if not isinstance(row, list) or len(row) != 5 or type(row[0]) is not str or type(row[1]) is not str:
        return False
    if not isinstance(row[4], list) or not all(type(label) is str for label in row[4]):
        return False
    return row[3] is None or type(row[3]) in (int, float)


def size_of(value: Any) -> int:
    """About how many bytes a settled value takes in memory."""
    kind = type(value)
    if kind in SCALARS:
        return getsizeof(value)
    if kind is list:
        return getsizeof(value) + sum(map(size_of, value))
    if kind is dict:
        return getsizeof(value) + sum(getsizeof(key) + size_of(item) for key, item in value.items())
    return ENTRY_BYTES + int(value.nbytes)  # an array or a tensor


def checked_key(key: Any) -> str:
    """A key that memory may have; else InvalidError."""
    if type(key) is not str or not 0 < len(key) <= KEY_CHARS_MAX:
        raise InvalidError(f"memory key {key!r:.60} is not a text of 1 to {KEY_CHARS_MAX} characters")
    return key


def checked_value(key: str, value: Any) -> Any:
    """A value of the host that memory may keep, settled; else ValueRefused."""
    value = settle(value, where=f"memory key `{key}`")
    check(value, f"memory key `{key}`")
    return value


def checked_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """The labels. InvalidError for a text alone, whose letters would be labels that no policy knows."""
    if isinstance(labels, str):
        raise InvalidError(f"`labels` is the text {labels!r:.60}, expected several texts", hint=f"pass [{labels!r:.60}]")
    return tuple(labels)


def checked_ttl(key: str, ttl_ms: float | None) -> None:
    """InvalidError unless it is a time to live."""
    if ttl_ms is not None and (type(ttl_ms) is bool or not isinstance(ttl_ms, (int, float)) or not ttl_ms > 0):
        raise InvalidError(f"ttl_ms of `{key:.60}` is {ttl_ms!r:.60}, expected more than 0 milliseconds")
