"""Which entries pass a filter: kept for the filters that were asked last, and current with the record by its numbers of writes.

To look into the fields of every entry takes longer than all the rest of a search; to look at those that were written since, next
to nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Any

from apxm.memory.ltm import where as filters

if TYPE_CHECKING:
    from collections.abc import KeysView, Sequence

    from apxm.memory.ltm.reading import Match
    from apxm.memory.ltm.record import Record
    from apxm.memory.ltm.where import Where
    from apxm.memory.ltm.words import Rated

IDS_MAX = 200_000  # of all filters together, at about 300 bytes each; a filter that more entries pass is not kept
SINCE_MAX = 5_000  # writes: after more of them a filter is asked anew


class Passed:
    """The entries that passed a filter when `seq` was the last write; those past their end too. Never changed."""

    __slots__ = ("_of_id", "_of_place", "seq")

    def __init__(self, seq: int, found: Sequence[Match], before: Passed | None = None) -> None:
        """`found` are those that pass or, where there is a `before`, all that were written since."""
        self.seq = seq
        self._of_id: dict[str, tuple[int, float | None]] = {} if before is None else dict(before._of_id)
        self._of_place: dict[int, str] = {} if before is None else dict(before._of_place)
        for id, *_ in found:
            if id in self._of_id:
                del self._of_place[self._of_id.pop(id)[0]]
        for id, place, expires_at, passes in found:  # only now: one may lie where another one lay
            if passes:
                self._of_id[id], self._of_place[place] = (place, expires_at), id

    @property
    def ids(self) -> KeysView[str]:
        return self._of_id.keys()

    def living(self, ranked: Sequence[tuple[int, float]], now: float) -> Rated:
        """Of places with what they are rated those whose entry passed and is not past its end, by its id."""
        ids, of_id = self._of_place, self._of_id
        found = [(ids[place], score) for place, score in ranked if place in ids]
        return [(id, score) for id, score in found if (end := of_id[id][1]) is None or end > now]


class Passing:
    """What passed the filters that were asked last. Thread-safe."""

    def __init__(self, record: Record, ids_max: int = IDS_MAX) -> None:
        self._record, self._ids_max = record, ids_max
        self._lock = Lock()  # of the mapping, held for moments
        self._kept: OrderedDict[tuple[Any, ...], Passed] = OrderedDict()

    def passed(self, namespace: str, kind: str | None, where: Where) -> Passed:
        """The entries of a namespace, and of a kind if so asked, that pass. InvalidError for what is no filter."""
        told, bound = filters.condition(where, "fields")
        place = (namespace, kind, told, *bound)
        with self._lock:
            known = self._kept.get(place)
        last = self._record.last_seq()  # before what it counts is read: what comes in between is read again next time
        if known is None or known.seq != last:
            known = self._read(namespace, kind, where, last, known)
        self._keep(place, known)
        return known

    def _read(self, namespace: str, kind: str | None, where: Where, last: int, known: Passed | None) -> Passed:
        if known is not None and known.seq < last <= known.seq + SINCE_MAX:
            since = self._record.matching(namespace, kind, where, known.seq)
            if self._record.number("pruned") <= known.seq:  # else there are deletes that left no trace
                return Passed(last, since, known)
        return Passed(last, self._record.matching(namespace, kind, where))

    def _keep(self, place: tuple[Any, ...], passed: Passed) -> None:
        with self._lock:
            self._kept[place] = passed
            self._kept.move_to_end(place)
            used = sum(len(one.ids) + 1 for one in self._kept.values())
            while used > self._ids_max:
                _, gone = self._kept.popitem(last=False)
                used -= len(gone.ids) + 1
