import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apxm.memory.ltm import ranking

SHARES = st.floats(0, 1)
COSINES = st.floats(-1, 1)


def hybrid(cosine, words):
    return float(ranking.hybrid(np.array([cosine]), np.array([words]))[0])


@given(COSINES, SHARES)
def test_a_score_is_a_share_that_neither_side_can_lower(cosine, words):
    score = hybrid(cosine, words)
    assert 0 <= score <= 1
    assert score >= hybrid(cosine, 0) - 1e-12
    assert score >= hybrid(0, words) - 1e-12
    assert math.isclose(score, 1 - (1 - max(0, cosine)) * (1 - 0.9 * words), abs_tol=1e-12)


@given(SHARES)
def test_what_only_one_side_knows_keeps_what_that_side_says(share):
    assert math.isclose(hybrid(share, 0), share, abs_tol=1e-12)
    assert math.isclose(hybrid(0, share), 0.9 * share, abs_tol=1e-12)
    assert hybrid(-share, 0) == 0  # to point the other way is not to be like it in words


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20), SHARES)
def test_bm25_says_how_much_worse_than_the_best_an_entry_is(bm25, coverage):
    best = max(bm25)
    shares = ranking.words_share(np.array(bm25), best, coverage)
    for raw, share in zip(bm25, shares, strict=True):
        assert share == (0 if best == 0 else pytest.approx(raw / best * coverage))


def test_the_best_of_a_tiny_store_counts_whatever_its_bm25_is():
    assert ranking.words_share(np.array([1e-6]), 1e-6, 1.0).tolist() == [1.0]


@given(SHARES, SHARES)
def test_the_key_goes_before_the_phrase_and_the_phrase_before_all_else(some, other):
    key, phrase, neither = ranking.tiered(
        np.array([0.0, some, other]), np.array([False, True, False]), np.array([True, False, False])
    )
    assert key == 1
    assert 1 >= phrase >= ranking.PHRASE >= neither >= 0


@given(st.lists(SHARES, min_size=2, max_size=20))
def test_tiers_leave_the_order_within_them(scores):
    none = np.zeros(len(scores), dtype=bool)
    for phrase in (none, ~none):
        placed = ranking.tiered(np.array(scores), phrase, none)
        assert all((placed[i] < placed[j]) <= (scores[i] < scores[j]) for i in range(len(scores)) for j in range(len(scores)))


@given(st.floats(0, 1e5), st.floats(0.1, 1e4))
def test_recency_is_halved_with_every_half_life(age, half_life):
    now, later = ranking.recency(np.array([age, age + half_life]), half_life)
    assert later == pytest.approx(now / 2)
    assert 0 <= now <= 1
    assert ranking.recency(np.array([-age]), half_life)[0] == 1  # clocks of two machines differ


def test_what_is_old_and_right_stays_before_what_is_new_and_wrong():
    old, new, close = ranking.aged(np.array([0.9, 0.7, 0.85]), np.array([10_000.0, 0.0, 0.0]))
    assert close > old > new
    half = ranking.aged(np.array([1.0, 1.0]), np.array([30.0, 0.0]))
    assert half.tolist() == pytest.approx([0.9, 1.0])


def plain_mmr(vectors, scores, weight, limit):
    """The definition, term by term."""

    def alike(a, b):
        lengths = math.sqrt(sum(x * x for x in a) * sum(x * x for x in b))
        return max(0.0, sum(x * y for x, y in zip(a, b, strict=True)) / lengths) if lengths else 0.0

    taken, gains = [], []
    while len(taken) < min(limit, len(scores)):
        left = [row for row in range(len(scores)) if row not in taken]
        gain = {
            row: weight * scores[row] - (1 - weight) * max((alike(vectors[row], vectors[one]) for one in taken), default=0.0)
            for row in left
        }
        taken.append(max(left, key=gain.__getitem__))
        gains.append(gain)
    return taken, gains


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.integers(0, 12))
def test_mmr_is_its_definition(seed, weight, limit):
    source = np.random.default_rng(seed)
    vectors = source.standard_normal((8, 4))
    vectors[2] = vectors[1] * 3  # alike in all but length
    vectors[3] = 0
    scores = source.random(8)
    taken = ranking.mmr(vectors, scores, weight, limit)
    _, gains = plain_mmr(vectors.tolist(), scores.tolist(), weight, limit)
    assert len(taken) == len(set(taken)) == min(limit, 8)
    for step, gain in enumerate(gains[: len(taken)]):
        if taken[:step] == plain_mmr(vectors.tolist(), scores.tolist(), weight, limit)[0][:step]:
            assert gain[taken[step]] == pytest.approx(max(gain.values()), abs=1e-9)


def test_mmr_puts_a_repetition_behind_something_new():
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    scores = np.array([0.9, 0.89, 0.6])
    assert ranking.mmr(vectors, scores, 0.7, 3) == [0, 2, 1]
    assert ranking.mmr(vectors, scores, 1.0, 3) == [0, 1, 2]
    assert ranking.mmr(vectors[:0], scores[:0], 0.7, 3) == []
