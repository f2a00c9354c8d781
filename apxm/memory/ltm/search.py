"""The one place where a search is put together: vectors, words, filters and what has expired become one list of hits.

Each side gives its best candidates: those nearest by vector, and those with the words of the query. They are scored together, as
`ranking` says. In a small namespace, or where few entries pass the filter, the nearest are exact; else the index is asked, and
what it has not taken in yet is searched exactly beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from apxm.errors import EmbedderError, InvalidError
from apxm.llm.text import terms
from apxm.memory.ltm import ranking
from apxm.memory.ltm.entry import EntryKind, Hit, entry_id
from apxm.memory.ltm.exact import scored
from apxm.memory.ltm.index import IndexDamaged
from apxm.memory.ltm.passing import Passing
from apxm.memory.ltm.words import TERMS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from typing import Any, TypeAlias

    from numpy.typing import NDArray

    from apxm.memory.embed.base import Embedder
    from apxm.memory.ltm.exact import Matrices, Scored, Vector
    from apxm.memory.ltm.index import Index
    from apxm.memory.ltm.passing import Passed
    from apxm.memory.ltm.ranking import Floats
    from apxm.memory.ltm.record import Record

    Indexed: TypeAlias = Callable[[], tuple[Index, int] | None]
    Pairs: TypeAlias = list[tuple[str, float]]  # an id, and how well it does: the best first

Mode = Literal["hybrid", "vector", "lexical"]
MODES = get_args(Mode)
KINDS = get_args(EntryKind)

DEPTH = 64  # candidates of each side, at least
DEPTH_PER_HIT = 4
WIDER = 4  # times as many, where filters or expiry left too few
INDEX_MAX = 4_096  # neighbours asked of the index at once: who needs more is served exactly
FEW = 2_000  # entries that pass a filter: their vectors are read from the record
LIMIT_MAX = 10_000
QUERY_CHARS_MAX = 32_000  # of a query that are read: no question is longer, and of a text its beginning says what it is about
DECIMALS = 6  # of a score


class Searcher:
    """Searches a record. Thread-safe; every search may block: on disk, and on the embedder.

    `index` gives the index, opened, and the last write that it has for sure; or None where there is none.
    """

    def __init__(
        self,
        record: Record,
        matrices: Matrices,
        embedder: Embedder,
        *,
        exact_max: int,
        index: Indexed = lambda: None,
    ) -> None:
        self._record, self._matrices, self._embedder = record, matrices, embedder
        self._exact_max, self._index = exact_max, index
        self._passing = Passing(record)

    def search(
        self,
        query: str,
        *,
        namespace: str = "default",
        kind: EntryKind | None = None,
        limit: int = 10,
        min_score: float = 0.0,
        where: Mapping[str, Any] | None = None,
        mode: Mode = "hybrid",
    ) -> list[Hit]:
        """The entries that answer `query` best, with a score above 0 and of at least `min_score`; of equals, the smaller id.

        InvalidError for arguments out of their range. A failing embedder fails the search, with EmbedderError or TransientError:
        fewer hits than there are would pass for the truth. `mode="lexical"` needs none.
        """
        _refuse_unfit(query, kind, limit, min_score, mode)
        query = query[:QUERY_CHARS_MAX]
        wanted = self._passing.passed(namespace, kind, where) if where else None
        if not query.strip() or (wanted is not None and not wanted.ids):
            return []
        asked = _Asked(query, namespace, kind, limit, min_score, wanted)
        vector = None if mode == "lexical" else self._embedded(query)
        depth = max(DEPTH, DEPTH_PER_HIT * limit)
        while True:
            near = None if vector is None else self._near(asked, vector, depth)
            words = None if mode == "vector" else self._words(asked, depth)
            hits, dropped = self._loaded(asked, _scores(near, words))
            if len(hits) == limit or not dropped or all(side is None or side.complete for side in (near, words)):
                return hits
            depth = max(depth * WIDER, INDEX_MAX + 1 if kind is not None else 0)  # the index knows no kinds

    def _embedded(self, query: str) -> Vector:
        """The vector of a query, where it may be compared with those that are stored."""
        ours = self._embedder.fingerprint
        theirs = self._record.made_by()
        if theirs is not None and theirs != ours:
            raise EmbedderError(
                f"this memory was made with the embedder {theirs}, the one that is set is {ours}",
                hint="set the old one again, or run `apxm memory rebuild`, which embeds everything anew",
            )
        vector = np.asarray(self._embedder.embed_query(query), dtype=np.float32)
        if vector.shape != (ours.dimension,):
            raise EmbedderError(f"the embedder {ours} gave a query a vector of shape {vector.shape}")
        if not np.isfinite(vector).all():
            raise EmbedderError(f"the embedder {ours} gave a query a vector with numbers that are not finite")
        return vector

    # ---- the two sides -------------------------------------------------------------------------------------------------
    def _near(self, asked: _Asked, vector: Vector, depth: int) -> _Near:
        """The `depth` entries nearest to a vector."""
        namespace, kind, wanted = asked.namespace, asked.kind, asked.ids
        if not vector.any():  # it knows nothing of the query
            return _Near([], True, lambda _: {})
        if self._matrices.is_over(namespace, self._exact_max):
            if wanted is not None and len(wanted) <= FEW:  # all of them are of the kind already
                return _exactly(scored(self._record.vectors(list(wanted)), vector), depth, None, None)
            found = self._near_by_index(asked, vector, depth)
            if found is not None:
                return found
        return _exactly(self._matrices.scored(namespace, vector), depth, kind, wanted)

    def _near_by_index(self, asked: _Asked, vector: Vector, depth: int) -> _Near | None:
        """The same, of the index and of what it lacks; None where there is none, or it would have to give too many."""
        opened = self._index()
        if opened is None:
            return None
        index, seq = opened  # it may have taken in more by now, which the tail has too
        try:
            pairs = _neighbours(index, asked, vector, self._matrices.scored(asked.namespace, vector, seq), depth)
        except IndexDamaged:
            return None
        if pairs is None:
            return None
        known = dict(pairs)

        def cosines(ids: Sequence[str]) -> dict[str, float]:
            unknown = self._record.vectors([id for id in ids if id not in known])
            return known | scored(unknown, vector).of(unknown)

        return _Near(pairs[:depth], len(pairs) < depth, cosines)

    def _words(self, asked: _Asked, depth: int) -> _Words:
        """The `depth` entries with the highest BM25, and who has the whole query."""
        namespace, query, kind, wanted = asked.namespace, asked.query, asked.kind, asked.wanted
        ask_for = depth if wanted is None else depth * WIDER * WIDER  # one look at many costs less than several at more
        if wanted is None:
            best = pairs = self._record.lexical(namespace, query, depth, kind)
        else:
            pairs, best, all_seen = self._record.lexical_among(namespace, query, ask_for, kind, wanted)
            while len(pairs) < depth and not all_seen:
                ask_for *= WIDER
                pairs, best, all_seen = self._record.lexical_among(namespace, query, ask_for, kind, wanted)
        top, bm25 = best[0] if best else ("", 0.0)
        phrase = set(self._record.phrase(namespace, query, ask_for, kind)) if best else set()
        keys = {entry_id(namespace, each, query.strip()) for each in KINDS if kind in (None, each)}
        entries = self._record.entries([*keys, top])
        keys &= entries.keys()
        coverage = _coverage(query, entries[top].key, entries[top].text) if top in entries else 0.0
        if wanted is not None:
            phrase, keys = phrase & wanted.ids, keys & wanted.ids
        return _Words(pairs[:depth], len(pairs) < depth, bm25, coverage, phrase, keys)

    def _loaded(self, asked: _Asked, scores: Iterator[_Score]) -> tuple[list[Hit], bool]:
        """The best that are alive and of the kind; and whether a candidate was not, so that more of them may be needed."""
        good = (one for one in scores if one.score > 0.0 and one.score >= asked.min_score)
        hits: list[Hit] = []
        dropped, size = False, asked.limit
        while len(hits) < asked.limit and (some := list(islice(good, size))):
            entries, size = self._record.entries([one.id for one in some]), 2 * size
            for one in some:
                entry = entries.get(one.id)
                if entry is not None and entry.namespace == asked.namespace and asked.kind in (None, entry.kind):
                    hits.append(Hit(entry, one.score, one.cosine, one.lexical))
                else:
                    dropped = True
        return hits[: asked.limit], dropped


@dataclass(frozen=True, slots=True)
class _Asked:
    """One search; `wanted` is what passes its filter, where it has one."""

    query: str
    namespace: str
    kind: EntryKind | None
    limit: int
    min_score: float
    wanted: Passed | None

    @property
    def ids(self) -> Collection[str] | None:
        return None if self.wanted is None else self.wanted.ids


@dataclass(frozen=True, slots=True)
class _Near:
    """The nearest entries; `complete` when there are no others, `cosines` gives those of any."""

    pairs: Pairs
    complete: bool
    cosines: Callable[[Sequence[str]], dict[str, float]]


@dataclass(frozen=True, slots=True)
class _Words:
    """The entries with the words of a query, by BM25; the BM25 of the best without filter, and the share of the terms it has."""

    pairs: Pairs
    complete: bool
    best: float
    coverage: float
    phrase: set[str]
    keys: set[str]


class _Score(NamedTuple):
    id: str
    score: float
    cosine: float
    lexical: float


def _exactly(all_scored: Scored, depth: int, kind: EntryKind | None, wanted: Collection[str] | None) -> _Near:
    pairs = all_scored.best(depth, kind=kind, only=wanted)
    return _Near(pairs, len(pairs) < depth, all_scored.of)


def _neighbours(index: Index, asked: _Asked, vector: Vector, tail: Scored, depth: int) -> Pairs | None:
    """At least the `depth` nearest of an index and of the tail that it lacks; None where that takes too many.

    None too where the index gives fewer than it was asked for: then it has not got the namespace yet, or has lost of it.
    """
    ask_for, wanted = depth, asked.ids
    while ask_for <= INDEX_MAX:
        found = index.nearest(asked.namespace, vector, ask_for)
        if len(found) < ask_for:
            return None
        valid = [(id, round(cosine, DECIMALS)) for id, cosine in found if id not in tail and (wanted is None or id in wanted)]
        if len(valid) >= depth:
            return sorted([*valid, *tail.best(depth, kind=asked.kind, only=wanted)], key=_by_score)
        ask_for *= WIDER
    return None


def _scores(near: _Near | None, words: _Words | None) -> Iterator[_Score]:
    """What both sides say of every candidate of either: the best first, of equals the smaller id."""
    of_near = near.pairs if near else []
    ids = [id for id, _ in of_near]
    if words is not None:
        ids = list(dict.fromkeys([*ids, *(id for id, _ in words.pairs), *words.phrase, *words.keys]))
    known = dict(of_near)
    cosines = {} if near is None else known | near.cosines([id for id in ids if id not in known])
    cosine = np.array([cosines.get(id, 0.0) for id in ids])
    if words is None:
        share: Floats = np.zeros_like(cosine)
        score = ranking.hybrid(cosine, share)
    else:
        bm25 = dict(words.pairs)
        share = ranking.words_share(np.array([bm25.get(id, 0.0) for id in ids]), words.best, words.coverage)
        score = ranking.hybrid(cosine, share) if near else share
        score = ranking.tiered(score, _among(ids, words.phrase), _among(ids, words.keys))
    score, cosine, share = np.round((score, cosine, share), DECIMALS)
    ranked = sorted(zip((-score).tolist(), ids, cosine.tolist(), share.tolist(), strict=True))
    return (_Score(id, -turned, its_cosine, its_share) for turned, id, its_cosine, its_share in ranked)


def _among(ids: Sequence[str], some: set[str]) -> NDArray[np.bool_]:
    if not some:
        return np.zeros(len(ids), dtype=bool)
    return np.fromiter((id in some for id in ids), dtype=bool, count=len(ids))


def _coverage(query: str, key: str, text: str) -> float:
    """The share of the terms of a query that an entry has: at least one, since it was found by its words."""
    wanted = dict.fromkeys(terms(query)) or dict.fromkeys(query.casefold().split())
    there = f"{key}\n{text}".casefold()
    found = sum(term in there for term in list(wanted)[:TERMS_MAX])
    return max(found, 1) / max(min(len(wanted), TERMS_MAX), 1)


def _by_score(pair: tuple[str, float]) -> tuple[float, str]:
    return -pair[1], pair[0]


def _refuse_unfit(query: Any, kind: Any, limit: Any, min_score: Any, mode: Any) -> None:
    if not isinstance(query, str):
        raise InvalidError(f"a query is a text, this is {query!r:.60}")
    if kind is not None and kind not in KINDS:
        raise InvalidError(f"there is no kind of entry {kind!r:.60}, expected {' or '.join(KINDS)}")
    if type(limit) is not int or not 1 <= limit <= LIMIT_MAX:
        raise InvalidError(f"`limit` is {limit!r:.60}, expected a number of hits from 1 to {LIMIT_MAX:,}")
    if type(min_score) not in (int, float) or not 0.0 <= min_score <= 1.0:
        raise InvalidError(f"`min_score` is {min_score!r:.60}, expected a number from 0 to 1")
    if mode not in MODES:
        raise InvalidError(f"there is no mode {mode!r:.60} of a search, expected {', '.join(MODES[:-1])} or {MODES[-1]}")
