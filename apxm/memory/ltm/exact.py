"""Exact search over vectors: one matrix per namespace, kept in this process and current with the record by its numbers of writes.

A row of a matrix is never changed and never reused: a new vector is a new row, and the row that it replaces, or that of what was
deleted, is marked with the number of rows at that moment. So a search reads without a lock while others add: it sees the rows
that were there when it began, and of each entry exactly one.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, get_args

import numpy as np

from apxm.memory.ltm.entry import EntryKind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from numpy.typing import NDArray

    from apxm.memory.ltm.record import Change, Record

    Vector: TypeAlias = NDArray[np.float32]

BYTES_MAX = 512 * 1024 * 1024  # of all matrices together; a namespace above it is read from disk for every search
PAGE = 5_000  # writes that are read at a time
ROWS_MIN = 1_024
KINDS = {kind: number for number, kind in enumerate(get_args(EntryKind))}
ALIVE = np.iinfo(np.int64).max
OUT = np.float32(-2.0)  # below every cosine: a row that no search may find
_VECDOT = hasattr(np, "vecdot")  # from numpy 2 on, and twice as fast as what it replaces
DECIMALS = 6  # of a cosine. What is equal to this many is equal, wherever its row lies, and the id decides


class Scored:
    """The cosine of one query with every vector of a namespace, as it was at one moment."""

    __slots__ = ("_gone", "_ids", "_kinds", "_row_of", "_scores")

    def __init__(
        self,
        ids: Sequence[str],
        kinds: NDArray[np.uint8],
        row_of: Mapping[str, int],
        scores: Vector,
        gone: Collection[str] = (),
    ) -> None:
        self._ids, self._kinds, self._row_of, self._scores, self._gone = ids, kinds, row_of, scores, gone

    def best(self, k: int, *, kind: str | None = None, only: Collection[str] | None = None) -> list[tuple[str, float]]:
        """The `k` with the highest cosine, the best first, of equals the smaller id; of one kind and of some ids if so asked."""
        rows = self._rows(kind, only)
        scores = self._scores if rows is None else self._scores[rows]
        found = _highest(scores, k)
        at = found if rows is None else rows[found]
        turned = sorted(zip(_rounded(-scores[found]), [self._ids[row] for row in at.tolist()], strict=True))
        return [(id, -score) for score, id in turned[:k]]

    def _rows(self, kind: str | None, only: Collection[str] | None) -> NDArray[np.intp] | None:
        """The rows that a search may find, in no order; None for all."""
        if only is None:
            return None if kind is None else np.flatnonzero(self._kinds == KINDS[kind])
        count = len(self._scores)
        known = map(self._row_of.get, only)
        rows = np.array([row for row in known if row is not None and row < count], dtype=np.intp)
        return rows if kind is None else rows[self._kinds[rows] == KINDS[kind]]

    def of(self, ids: Iterable[str]) -> dict[str, float]:
        """The cosines of those among `ids` that have a vector."""
        count, scores = len(self._scores), self._scores
        rows = {id: row for id in ids if (row := self._row_of.get(id, count)) < count}
        found = zip(rows, _rounded(scores[list(rows.values())]), strict=True)
        return {id: score for id, score in found if score > OUT}

    def __contains__(self, id: object) -> bool:
        """Whether an entry was written or deleted since the write that this began after."""
        return id in self._row_of or id in self._gone


class Matrices:
    """The vectors of the namespaces that were searched last, at most `bytes_max` of them. Thread-safe."""

    def __init__(self, record: Record, bytes_max: int = BYTES_MAX) -> None:
        self._record, self._bytes_max = record, bytes_max
        self._lock = Lock()  # of the mapping, held for moments
        self._counted: dict[str, tuple[int, int]] = {}  # vectors of a namespace, and the last write at that time
        self._kept: OrderedDict[tuple[str, bool], _Rows] = OrderedDict()  # by namespace, and whether it is only a tail

    def nearest(self, namespace: str, vector: Vector, k: int, only: Collection[str] | None = None) -> list[tuple[str, float]]:
        """(id, cosine) of the `k` entries nearest to a vector of shape (dimension,), the best first."""
        return self.scored(namespace, vector).best(k, only=only)

    def scored(self, namespace: str, vector: Vector, after: int = 0) -> Scored:
        """The cosine of `vector` with everything in `namespace` that was written after the write `after`."""
        unit = units(vector[np.newaxis])[0]
        if not after and self.is_over(namespace, self._bytes_max // unit.nbytes):
            return self._read_through(namespace, unit)
        rows = self._rows(namespace, after, len(unit))
        with rows.lock:
            rows.follow(self._record)
            view = rows.view()
        self._make_room(rows)
        return view(unit)

    def is_over(self, namespace: str, rows_max: int) -> bool:
        """Whether a namespace has more vectors than that. They are counted only when the writes since could have changed it."""
        last = self._record.last_seq()
        count, counted_at = self._counted.get(namespace, (0, -1))
        if counted_at < 0 or abs(count - rows_max - 0.5) < abs(last - counted_at):
            count, counted_at = self._record.count(namespace), last
            self._counted[namespace] = (count, counted_at)
        return count > rows_max

    def forget(self) -> None:
        """Let go of every matrix."""
        with self._lock:
            self._kept.clear()

    @property
    def bytes_used(self) -> int:
        """What the matrices take."""
        with self._lock:
            return sum(rows.matrix.nbytes for rows in self._kept.values())

    def _rows(self, namespace: str, after: int, dimension: int) -> _Rows:
        place = (namespace, after > 0)
        with self._lock:
            rows = self._kept.get(place)
            if rows is None or rows.begin != after or rows.matrix.shape[1] != dimension:
                rows = self._kept[place] = _Rows(namespace, after, dimension)
            self._kept.move_to_end(place)
            return rows

    def _make_room(self, current: _Rows) -> None:
        with self._lock:
            used = sum(rows.matrix.nbytes for rows in self._kept.values())
            for place in list(self._kept):
                if used <= self._bytes_max:
                    return
                if self._kept[place] is not current:
                    used -= self._kept.pop(place).matrix.nbytes

    def _read_through(self, namespace: str, unit: Vector) -> Scored:
        """What `scored` does, with no matrix kept: only the numbers stay."""
        ids: list[str] = []
        kinds: list[int] = []
        parts: list[Vector] = []
        row_of: dict[str, int] = {}
        for page in pages(self._record, namespace, 0):
            kept = [change for change in page if has_vector(change, len(unit))]
            parts.append(_dots(_block(kept, len(unit)), unit))
            row_of.update((change.id, len(ids) + place) for place, change in enumerate(kept))
            ids += [change.id for change in kept]
            kinds += [KINDS[change.kind] for change in kept]
        scores = np.concatenate([*parts, np.empty(0, dtype=np.float32)])
        stale = [row for row, id in enumerate(ids) if row_of[id] != row]  # written again while we read
        scores[stale] = OUT
        return Scored(ids, np.array(kinds, dtype=np.uint8), row_of, scores)


class _Rows:
    """The vectors of one namespace, from the write after `begin` on. Only `view` gives what may be read without the lock."""

    __slots__ = ("begin", "died", "gone", "ids", "kinds", "lock", "matrix", "namespace", "row_of", "seq")

    def __init__(self, namespace: str, begin: int, dimension: int) -> None:
        self.namespace, self.begin = namespace, begin
        self.lock = Lock()
        self._start(dimension)

    def _start(self, dimension: int) -> None:
        self.seq = self.begin
        self.matrix = np.empty((0, dimension), dtype=np.float32)
        self.died = np.empty(0, dtype=np.int64)  # the number of rows at which each one was replaced or deleted
        self.kinds = np.empty(0, dtype=np.uint8)
        self.ids: list[str] = []
        self.row_of: dict[str, int] = {}
        self.gone: set[str] = set()  # what was deleted since `begin`, where that is not the beginning

    def follow(self, record: Record) -> None:
        """Read what was written since. Under the lock."""
        last = record.last_seq()
        if last == self.seq:
            return
        if last < self.seq or record.number("pruned") > self.seq > 0:  # another store; deletes that left no trace
            self._start(self.matrix.shape[1])
        for page in pages(record, self.namespace, self.seq):
            self._add(page)
            self.seq = page[-1].seq
        self.seq = max(self.seq, last)
        if len(self.ids) > max(ROWS_MIN, 2 * len(self.row_of)):
            self._compact()

    def view(self) -> Callable[[Vector], Scored]:
        """The rows of this moment, to be read at any later one. Under the lock."""
        rows = len(self.ids)
        matrix, died, kinds = self.matrix[:rows], self.died[:rows], self.kinds[:rows]
        ids, row_of, gone = self.ids, self.row_of, self.gone

        def scored(unit: Vector) -> Scored:
            scores = _dots(matrix, unit)
            scores[died <= rows] = OUT
            return Scored(ids, kinds, row_of, scores, gone)

        return scored

    def _add(self, page: Sequence[Change]) -> None:
        """Take over some writes, in their order."""
        before, dimension = len(self.ids), self.matrix.shape[1]
        kept = [change for change in page if has_vector(change, dimension)]
        after = before + len(kept)
        self._grow(after)
        self.matrix[before:after] = _block(kept, dimension)
        for change in page:
            old = self.row_of.pop(change.id, None)
            if old is not None:
                self.died[old] = after
            if has_vector(change, dimension):
                self.row_of[change.id] = len(self.ids)
                self.ids.append(change.id)
                self.kinds[self.row_of[change.id]] = KINDS[change.kind]
                self.gone.discard(change.id)
            elif self.begin:
                self.gone.add(change.id)

    def _grow(self, rows: int) -> None:
        room = len(self.matrix)
        if rows <= room:
            return
        room = max(ROWS_MIN, rows, 2 * room)
        matrix = np.empty((room, self.matrix.shape[1]), dtype=np.float32)
        died = np.full(room, ALIVE, dtype=np.int64)
        kinds = np.zeros(room, dtype=np.uint8)
        count = len(self.ids)
        matrix[:count], died[:count], kinds[:count] = self.matrix[:count], self.died[:count], self.kinds[:count]
        self.matrix, self.died, self.kinds = matrix, died, kinds

    def _compact(self) -> None:
        """Leave the dead rows behind, once they are more than the living. Whoever reads the old ones goes on doing so."""
        rows = sorted(self.row_of.values())
        self.matrix = self.matrix[rows]
        self.died = np.full(len(rows), ALIVE, dtype=np.int64)
        self.ids = [self.ids[row] for row in rows]
        self.kinds = self.kinds[rows]
        self.row_of = {id: row for row, id in enumerate(self.ids)}


def pages(record: Record, namespace: str, after: int) -> Iterator[list[Change]]:
    """What was written in a namespace after a write, in order, none of the pages empty."""
    while page := record.changes(after, PAGE, namespace):
        yield page
        after = page[-1].seq
        if len(page) < PAGE:
            return


def has_vector(change: Change, dimension: int) -> bool:
    """Whether a write left a vector that can be compared with those of this dimension."""
    return change.vector is not None and len(change.vector) == dimension * np.dtype(np.float32).itemsize


def units(vectors: Vector) -> Vector:
    """Vectors of shape (rows, dimension), each of length 1 or zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    made: Vector = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return made


def scored(vectors: Mapping[str, bytes], vector: Vector) -> Scored:
    """The cosine of `vector` with the vectors of some entries. Those of another dimension count as none."""
    unit = units(vector[np.newaxis])[0]
    ids = [id for id, data in vectors.items() if len(data) == unit.nbytes]
    scores = _dots(_matrix([vectors[id] for id in ids], len(unit)), unit)
    return Scored(ids, np.zeros(len(ids), dtype=np.uint8), {id: row for row, id in enumerate(ids)}, scores)


def _block(kept: Sequence[Change], dimension: int) -> Vector:
    return _matrix([change.vector for change in kept if change.vector is not None], dimension)


def _matrix(vectors: Sequence[bytes], dimension: int) -> Vector:
    return units(np.frombuffer(b"".join(vectors), dtype="<f4").astype(np.float32, copy=False).reshape(-1, dimension))


def _dots(matrix: Vector, vector: Vector) -> Vector:
    """The product of each row with a vector.

    Not `@`: where the cores are busy its threads wait for each other, which took thirty times as long.
    """
    products: Vector = np.vecdot(matrix, vector) if _VECDOT else np.einsum("ij,j->i", matrix, vector)
    return products


def _rounded(scores: Vector) -> list[float]:
    rounded: list[float] = np.round(scores.astype(np.float64), DECIMALS).tolist()
    return rounded


def _highest(scores: Vector, k: int) -> NDArray[np.intp]:
    """The places of the `k` highest scores and of all that are equal to the last of them, in no order."""
    if k < len(scores):
        least = float(np.partition(scores, -k)[-k]) - 10.0**-DECIMALS
        return np.flatnonzero((scores >= least) & (scores > OUT))
    return np.flatnonzero(scores > OUT)
