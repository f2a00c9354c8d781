"""Which pieces of text matter: BM25 for a question, centrality for a summary, MMR against repetition. Pure, deterministic."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BM25_K1 = 1.2  # how soon repeating a term stops to pay
BM25_B = 0.75  # how much length is held against a piece
BACKGROUND = 50  # pieces without the term that are thought to be there: with few pieces frequencies say little
MMR_TRADE = 0.7  # 1: only relevance counts; 0: only being different does


class Corpus:
    """Term statistics of pieces of text, each given as its terms."""

    def __init__(self, pieces: Sequence[Sequence[str]]) -> None:
        self.counts = [Counter(piece) for piece in pieces]
        self.lengths = [len(piece) for piece in pieces]
        self.average = max(1.0, sum(self.lengths) / max(1, len(self.lengths)))
        self.frequency: Counter[str] = Counter()
        for counts in self.counts:
            self.frequency.update(counts.keys())

    def rarity(self, term: str) -> float:
        """Inverse document frequency; always positive, largest for a term that no piece has."""
        n = self.frequency.get(term, 0)
        return math.log(1 + (len(self.counts) + BACKGROUND - n + 0.5) / (n + 0.5))

    def bm25(self, query: Mapping[str, float]) -> list[float]:
        """The relevance of every piece to weighted terms."""
        scores = [0.0] * len(self.counts)
        for term, weight in query.items():
            if term not in self.frequency:
                continue
            gain = weight * self.rarity(term) * (BM25_K1 + 1)
            for i, counts in enumerate(self.counts):
                if n := counts.get(term):
                    scores[i] += gain * n / (n + BM25_K1 * (1 - BM25_B + BM25_B * self.lengths[i] / self.average))
        return scores

    def central(self) -> list[float]:
        """How much every piece has in common with all of them: the cosine between its tf-idf vector and their sum."""
        rarity = {term: self.rarity(term) for term in self.frequency}
        vectors = [{term: (1 + math.log(n)) * rarity[term] for term, n in counts.items()} for counts in self.counts]
        norms = [math.sqrt(sum(w * w for w in vector.values())) or 1.0 for vector in vectors]
        total: dict[str, float] = {}
        for vector, norm in zip(vectors, norms, strict=True):
            for term, weight in vector.items():
                total[term] = total.get(term, 0.0) + weight / norm
        length = math.sqrt(sum(w * w for w in total.values())) or 1.0
        return [sum(w * total[term] for term, w in v.items()) / (norm * length) for v, norm in zip(vectors, norms, strict=True)]

    def alike(self, one: int, other: int) -> float:
        """How similar two pieces are, 0 to 1: the share of their rare terms that both have."""
        a, b = self.counts[one].keys(), self.counts[other].keys()
        union = sum(map(self.rarity, a | b))
        return sum(map(self.rarity, a & b)) / union if union else 0.0


def diverse(corpus: Corpus, scores: Mapping[int, float], count: int, trade: float = MMR_TRADE) -> list[int]:
    """Up to `count` pieces, best first, each as relevant and as unlike those before it as can be (maximal marginal relevance)."""
    if not scores:
        return []
    top = max(scores.values()) or 1.0
    left = dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))
    closest = dict.fromkeys(left, 0.0)
    chosen: list[int] = []
    while left and len(chosen) < count:
        best = max(left, key=lambda i: (trade * left[i] / top - (1 - trade) * closest[i], -i))
        chosen.append(best)
        del left[best]
        for i in left:
            closest[i] = max(closest[i], corpus.alike(i, best))
    return chosen
