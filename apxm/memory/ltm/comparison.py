"""How the index compares with the record: what it lacks, has too much, has otherwise, or does not find. Changes neither."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from apxm.memory.ltm.exact import has_vector, units
from apxm.memory.ltm.index import collection_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from apxm.memory.ltm.index import Index
    from apxm.memory.ltm.record import Change, Record

    Vectors = NDArray[np.float32]

PAGE = 2_000  # writes that are looked at together
FIRST_IDS = 10  # that a finding names
APART = 1e-5  # of two unit vectors, in any number: more is not rounding
NEAR = 0.1  # cosine distance of a vector to the nearest that is found, at most: among texts much alike that may be another one
PROBES = 20  # vectors of a page and a namespace that are searched for
MISSED = 0.5  # of these, at most, by an index that is whole


@dataclass(frozen=True, slots=True)
class Finding:
    """How many, and the ids of the first of them."""

    count: int = 0
    ids: tuple[str, ...] = ()

    def and_also(self, ids: Sequence[str]) -> Finding:
        """The finding with more ids."""
        return Finding(self.count + len(ids), (*self.ids, *ids[: max(0, FIRST_IDS - len(self.ids))]))


@dataclass(frozen=True, slots=True)
class Report:
    """How record and index compare: `vectors` were looked at.

    Of the index: vectors that it lacks (`missing`), that the record does not have (`extra`), that are not those of the record
    (`stale`), and that it has and does not find when it is asked for just these (`unfound`: of a sample, where most of it is
    lost).

    Of the record: entries without a vector, which only words find (`unembedded`), and what is wrong with the file (`damage`).
    `index` says in words what became of the index; not `compared` is one that there is and that could not be opened.
    """

    vectors: int
    index: str
    missing: Finding = Finding()
    extra: Finding = Finding()
    stale: Finding = Finding()
    unfound: Finding = Finding()
    unembedded: Finding = Finding()
    damage: tuple[str, ...] = ()
    compared: bool = True

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        findings = (self.missing, self.extra, self.stale, self.unfound, self.unembedded)
        return not self.damage and not any(finding.count for finding in findings)

    def to_map(self) -> dict[str, Any]:
        """The report as plain values."""
        return {**asdict(self), "ok": self.ok}


def compared(record: Record, index: Index, each_page: Callable[[int], object]) -> Report:
    """What is found as far as the index has followed the record. `each_page` is told the last write that was looked at."""
    missing, extra, stale, unfound = Finding(), Finding(), Finding(), Finding()
    known: dict[str, set[str]] = {}
    seen = seq = 0
    while page := [change for change in record.changes(seq, PAGE) if change.seq <= index.seq]:
        seq = page[-1].seq
        for namespace, changes in by_namespace(page).items():
            ids, vectors = unit_vectors(changes, index.dimension)
            known.setdefault(collection_name(namespace), set()).update(ids)
            there = index.vectors(namespace, ids)
            missing = missing.and_also([id for id in ids if id not in there])
            pairs = [(id, np.abs(there[id] - vector).max()) for id, vector in zip(ids, vectors, strict=True) if id in there]
            stale = stale.and_also([id for id, apart in pairs if not apart <= APART])
            unfound = unfound.and_also(_unfound(index, namespace, there))
            seen += len(ids)
        each_page(seq)
    written_since: set[str] = set()
    while later := record.changes(seq := max(seq, index.seq), PAGE):
        written_since.update(change.id for change in later)
        seq = later[-1].seq
    for name in sorted(index.collections()):
        extra = extra.and_also(sorted(index.ids(name) - known.get(name, set()) - written_since))
    return Report(seen, index.path.name, missing, extra, stale, unfound)


def _unfound(index: Index, namespace: str, there: Mapping[str, Vectors]) -> list[str]:
    """Those of some ids, evenly spread, near whose own vector the index finds nothing; none where they are few.

    The index is approximate: a whole one misses some too.
    """
    probes = [id for id in list(there)[:: max(1, len(there) // PROBES)] if there[id].any()]
    lost = [id for id in probes if not any(cosine > 1 - NEAR for _, cosine in index.nearest(namespace, there[id], PROBES))]
    return lost if len(lost) > MISSED * len(probes) else []


def by_namespace(page: Sequence[Change]) -> dict[str, list[Change]]:
    """Some writes, by their namespaces, in their order."""
    found: dict[str, list[Change]] = {}
    for change in page:
        found.setdefault(change.namespace, []).append(change)
    return found


def unit_vectors(changes: Sequence[Change], dimension: int) -> tuple[list[str], Vectors]:
    """The ids that have a vector which can be compared, and those vectors, of length 1 and shape (ids, dimension)."""
    kept = [change for change in changes if has_vector(change, dimension)]
    joined = b"".join(change.vector for change in kept if change.vector is not None)
    vectors = np.frombuffer(joined, dtype="<f4").astype(np.float32, copy=False).reshape(-1, dimension)
    fit = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    return [kept[row].id for row in fit], units(vectors[fit])
