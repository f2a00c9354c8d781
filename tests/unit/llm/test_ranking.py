import pytest

from apxm.llm.ranking import Corpus, diverse

PIECES = [
    ["steal", "work", "victim"],
    ["steal", "work", "victim", "idle"],
    ["budget", "token", "call"],
    ["work", "queue"],
]


def test_bm25_prefers_rare_terms_and_short_pieces():
    corpus = Corpus(PIECES)
    scores = corpus.bm25({"work": 1.0, "budget": 1.0})
    assert scores.index(max(scores)) == 2  # one rare term outweighs one frequent term
    assert scores[3] > scores[0] > 1.05 * scores[1] > 0


def test_a_term_that_no_piece_has_changes_no_score():
    corpus = Corpus(PIECES)
    assert corpus.bm25({"work": 1.0}) == corpus.bm25({"work": 1.0, "absent": 5.0})
    assert corpus.rarity("absent") > corpus.rarity("budget") > corpus.rarity("work") > 0


def test_the_most_central_piece_shares_most_with_the_others():
    central = Corpus(PIECES).central()
    assert central.index(max(central)) in (0, 1)
    assert all(0 <= share <= 1 + 1e-9 for share in central)


def test_diversity_passes_over_what_has_been_said():
    corpus = Corpus(PIECES)
    assert diverse(corpus, {0: 1.0, 1: 0.99, 2: 0.8}, 2) == [0, 2]
    assert diverse(corpus, {0: 1.0, 1: 0.99, 2: 0.8}, 2, trade=1.0) == [0, 1]


def test_an_empty_corpus_ranks_nothing():
    corpus = Corpus([])
    assert (corpus.bm25({"a": 1.0}), corpus.central(), diverse(corpus, {}, 3)) == ([], [], [])
    assert Corpus([[], []]).central() == pytest.approx([0, 0])
