"""How well an entry answers a query, as one number: vectors and words joined, age weighed in, repetitions put back. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.floating[Any]]

WORDS_MAX = 0.9  # what words alone can reach: the rest is decided by the vectors, and by whether the words stand together
PHRASE = 0.9  # the least score of an entry that has the whole query, word by word; all others stay below
AGE_SHARE = 0.2  # of a score that age can take away: an old right answer stays before a new one that is less than 80 % as good
HALF_LIFE_DAYS = 30.0
MMR = 0.7


def hybrid(cosine: Floats, words: Floats) -> Floats:
    """Two shares of evidence as one score, both from 0 to 1: either is enough, and together they are more.

    1 - (1 - cosine)(1 - words): what has no vector, or none of the words, keeps what the other says. A weighted sum was not
    chosen since it halves the score of every paraphrase, and ranks by position since they cannot be compared with `min_score`.
    Cosines below 0 count as 0.
    """
    vector = np.clip(cosine, 0.0, 1.0)
    scores: Floats = 1.0 - (1.0 - vector) * (1.0 - WORDS_MAX * np.clip(words, 0.0, 1.0))
    return scores


def words_share(bm25: Floats, best: float, coverage: float) -> Floats:
    """BM25 as a share from 0 to 1: that of the best match is the share of the query's terms that it has.

    BM25 has no upper bound, and next to nothing in a store of a few entries, so it only says how much worse than the best.
    """
    if best <= 0.0:
        return np.zeros_like(bm25)
    share: Floats = np.clip(bm25 / best, 0.0, 1.0) * coverage
    return share


def tiered(scores: Floats, phrase: NDArray[np.bool_], key: NDArray[np.bool_]) -> Floats:
    """Scores with the places at the top kept free: 1 for whose key is the query, from PHRASE on for who has all of it."""
    placed: Floats = np.where(phrase, PHRASE + (1.0 - PHRASE) * scores, PHRASE * scores)
    return np.where(key, 1.0, placed)


def recency(age_days: Floats, half_life_days: float = HALF_LIFE_DAYS) -> Floats:
    """1 for what is new, halved with every half-life. What comes from the future is new."""
    share: Floats = 0.5 ** (np.maximum(age_days, 0.0) / half_life_days)
    return share


def aged(scores: Floats, age_days: Floats, half_life_days: float = HALF_LIFE_DAYS) -> Floats:
    """Scores with age weighed in: at most AGE_SHARE of each is lost."""
    weighed: Floats = scores * (1.0 - AGE_SHARE * (1.0 - recency(age_days, half_life_days)))
    return weighed


def mmr(vectors: Floats, scores: Floats, weight: float, limit: int) -> list[int]:
    """Rows in the order of maximal marginal relevance (Carbonell and Goldstein, 1998), at most `limit`.

    Each time the row with the most of weight · score - (1 - weight) · likeness to the most alike that is taken already;
    likeness is the cosine, at least 0. `vectors` has shape (rows, dimension); a zero vector is like none. With weight 1 this
    is the order of the scores. The first of equals goes first.
    """
    rows = len(scores)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    alike = np.zeros(rows)
    left = np.ones(rows, dtype=bool)
    taken: list[int] = []
    while len(taken) < min(limit, rows):
        gains = np.where(left, weight * scores - (1.0 - weight) * alike, -np.inf)
        best = int(np.argmax(gains))
        taken.append(best)
        left[best] = False
        np.maximum(alike, units @ units[best], out=alike)
    return taken
