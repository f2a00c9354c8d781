import json
import random
import re
import string

import numpy as np
import pytest

from apxm.errors import EmbedderError, InvalidError, TransientError
from apxm.memory.embed.base import Fingerprint
from apxm.memory.embed.hashing import HashingEmbedder
from apxm.memory.ltm.entry import Put, entry_id
from apxm.memory.ltm.exact import Matrices
from apxm.memory.ltm.index import IndexDamaged
from apxm.memory.ltm.record import Record
from apxm.memory.ltm.search import DEPTH, INDEX_MAX, Searcher
from apxm.memory.ltm.words import MATCHES_MAX

ANIMALS = {"dog": 0, "puppy": 0, "cat": 1, "kitten": 1, "car": 2, "automobile": 2, "tree": 3, "oak": 3}


class Meanings:
    """An embedder that knows what a few words mean: those of one meaning have one direction."""

    fingerprint = Fingerprint("meanings", "1", 4, normalized=True)
    failure = None

    def embed(self, texts):
        return np.array([self.embed_query(text) for text in texts], dtype=np.float32).reshape(-1, 4)

    def embed_query(self, text):
        if self.failure is not None:
            raise self.failure
        vector = np.zeros(4, dtype=np.float32)
        for word in re.findall(r"\w+", text.lower()):
            if word in ANIMALS:
                vector[ANIMALS[word]] += 1
        length = np.linalg.norm(vector)
        return vector / length if length else vector

    def close(self):
        pass


class Clock:
    now = 1_000_000.0

    def __call__(self):
        return self.now


class Place:
    """A record, and what searches it. `index` is what a test puts in the place of Chroma: (id, vector) by namespace."""

    def __init__(self, folder, embedder=None, exact_max=20_000, index=None):
        self.clock = Clock()
        self.record = Record(folder, clock=self.clock)
        self.embedder = embedder or HashingEmbedder()
        self.index = index
        self.searcher = Searcher(
            self.record, Matrices(self.record), self.embedder, exact_max=exact_max, index=lambda: self.index and self.index()
        )

    def put(self, *texts, namespace="default", kind="entry", keys=None, **more):
        vectors = self.embedder.embed(texts)
        puts = [
            (Put(namespace, (keys or texts)[i], None, text, kind, **more), vectors[i].tobytes()) for i, text in enumerate(texts)
        ]
        return [entry.id for entry in self.record.write(puts, [])]

    def texts(self, query, **more):
        return [hit.entry.text for hit in self.searcher.search(query, **more)]


@pytest.fixture
def places(tmp_path):
    made = []

    def make(**more):
        made.append(Place(tmp_path / str(len(made)), **more))
        made[-1].record.path.parent.mkdir()
        return made[-1]

    yield make
    for place in made:
        place.record.close()


@pytest.fixture
def place(places):
    return places()


# ---- what is found -----------------------------------------------------------------------------------------------------
def test_a_meaning_is_found_without_a_shared_word_and_a_word_without_a_meaning(places):
    place = places(embedder=Meanings())
    place.put("a puppy sleeps", "the invoice of March", "an oak", keys=["1", "2", "3"])
    assert place.texts("dog") == ["a puppy sleeps"]
    assert place.texts("invoice") == ["the invoice of March"]
    assert place.texts("dog", mode="lexical") == []
    assert place.texts("invoice", mode="vector") == []
    assert sorted(place.texts("invoice of the dog")) == ["a puppy sleeps", "the invoice of March"]


def test_a_text_whose_vector_is_missing_is_found_by_its_words(place):
    place.put("the red bicycle")
    place.record.write([(Put("default", "late", None, "the blue bicycle"), None)], [])
    assert sorted(place.texts("bicycle")) == ["the blue bicycle", "the red bicycle"]
    assert place.texts("bicycle", mode="vector") == ["the red bicycle"]


def test_the_exact_key_is_first_and_an_exact_phrase_next(place):
    place.put(
        "nothing of the kind", "capital France the of, of the France capital", "It is said that the capital of France is Paris.",
        keys=["capital of France", "b", "c"],
    )  # fmt: skip
    hits = place.searcher.search("capital of France")
    assert [hit.entry.key for hit in hits] == ["capital of France", "c", "b"]
    assert hits[0].score == 1.0
    assert hits[1].score >= 0.9 > hits[2].score


def test_scores_are_shares_in_falling_order_and_say_what_they_are_made_of(place):
    place.put("one apple", "an apple and a pear", "pears", "cherries")
    hits = place.searcher.search("an apple")
    assert len(hits) >= 2
    assert all(1 >= hit.score > 0 and -1 <= hit.cosine <= 1 and 0 <= hit.lexical <= 1 for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert place.searcher.search("an apple", mode="vector")[0].lexical == 0
    assert place.searcher.search("an apple", mode="lexical")[0].cosine == 0


def test_other_forms_of_a_word_are_found_by_words_alone(place):
    place.put("she studies capabilities", "cherries", keys=["1", "2"])
    assert place.texts("study of a capability", mode="lexical") == ["she studies capabilities"]


def test_limit_score_kind_and_namespace_are_kept(place):
    place.put(*(f"apple number {i}" for i in range(30)))
    place.put("apple fact", kind="fact")
    place.put("apple elsewhere", namespace="other")
    assert len(place.texts("apple")) == 10
    assert len(place.texts("apple", limit=25)) == 25
    assert place.texts("apple", kind="fact") == ["apple fact"]
    assert place.texts("apple", namespace="other") == ["apple elsewhere"]
    assert place.texts("apple", namespace="nowhere") == []
    scores = [hit.score for hit in place.searcher.search("apple number 7", limit=31)]
    middle = scores[len(scores) // 2]
    assert [hit.score for hit in place.searcher.search("apple number 7", limit=31, min_score=middle)] == [
        score for score in scores if score >= middle
    ]


def test_what_has_expired_is_not_found_and_leaves_no_gap(place):
    place.put(*(f"apple apple {i}" for i in range(3 * DEPTH)), expires_at=place.clock.now + 10)
    place.put(*(f"apple and other fruit, more of it, and of it more {i}" for i in range(12)))
    assert all("other" not in text for text in place.texts("apple"))
    place.clock.now += 11
    for mode in ("hybrid", "vector", "lexical"):
        found = place.texts("apple", mode=mode)
        assert len(found) == 10
        assert all("other" in text for text in found)


def test_a_filter_is_kept_however_few_pass_it(place):
    place.put(*(f"apple pie {i}" for i in range(3 * DEPTH)), metadata={"colour": "red"})
    place.put(*(f"something of an apple {i}" for i in range(4)), metadata={"colour": "green"})
    for mode in ("hybrid", "vector", "lexical"):
        assert sorted(place.texts("apple pie", mode=mode, where={"colour": "green"})) == [
            f"something of an apple {i}" for i in range(4)
        ]
    assert place.texts("apple pie", where={"colour": "blue"}) == []


def test_a_filter_holds_for_the_key_too(place):
    place.put("text", keys=["the key"], metadata={"colour": "red"})
    place.put("some words", keys=["another"], metadata={"colour": "green"})
    assert "text" not in place.texts("the key", where={"colour": "green"})
    assert place.texts("the key", where={"colour": "red"}) == ["text"]


def test_words_that_nearly_everything_has_cost_the_rare_ones_no_hit(place):
    place.put(*(f"apple pie {i}" for i in range(MATCHES_MAX + 50)))
    place.put("apple pie with quinces")
    assert place.texts("pie of quinces", mode="lexical")[0] == "apple pie with quinces"
    assert len(place.texts("apple", mode="lexical")) == 10  # the only word there is
    assert place.texts("apple pie", mode="lexical", limit=5) == place.texts("pie apple", mode="lexical", limit=5)


# ---- against brute force -----------------------------------------------------------------------------------------------
WORDS = ["".join(random.Random(i).choices(string.ascii_lowercase, k=6)) for i in range(60)]


def some_text(choose, words=8):
    return " ".join(choose.choices(WORDS, weights=[1 / (1 + i) for i in range(len(WORDS))], k=words))


def by_vector(place, query, limit, wanted=lambda entry: True):
    """What brute force finds by vector: every living entry of the record against the query."""
    vector = place.embedder.embed_query(query).astype(np.float64)
    found = []
    for entry in place.record.listed(namespace="default", kind=None, prefix="", where=None, after=0, limit=10_000):
        data = place.record.vectors([entry.id]).get(entry.id)
        if data is not None and wanted(entry):
            cosine = float(np.frombuffer(data, "<f4").astype(np.float64) @ vector)
            if round(cosine, 6) > 0:
                found.append((-round(cosine, 6), entry.id))
    return [id for _, id in sorted(found)[:limit]]


def agree(hits, expected, place, query):
    """The same ids, where only those may change places whose cosines are the same up to rounding."""
    vector = place.embedder.embed_query(query)
    cosines = {id: float(np.frombuffer(data, "<f4") @ vector) for id, data in place.record.vectors(expected).items()}
    found = [hit.entry.id for hit in hits]
    return len(found) == len(expected) and np.allclose(
        [hit.cosine for hit in hits], [cosines[id] for id in expected], atol=3e-6
    ) and len(set(found) ^ set(expected)) <= 2  # fmt: skip


def test_an_exact_search_finds_what_brute_force_finds(place, seed, long_run):
    choose = random.Random(seed)
    place.put(*{some_text(choose): None for _ in range(200)}, metadata={"even": True})
    place.put(*{some_text(choose, 9): None for _ in range(200)}, metadata={"even": False})
    for _ in range(200 if long_run else 8):
        query = some_text(choose, choose.randint(1, 5))
        limit = choose.choice([1, 5, 40])
        hits = place.searcher.search(query, mode="vector", limit=limit)
        assert agree(hits, by_vector(place, query, limit), place, query)
        hits = place.searcher.search(query, mode="vector", limit=limit, where={"even": True})
        assert agree(hits, by_vector(place, query, limit, lambda entry: entry.metadata["even"]), place, query)


def test_a_score_is_what_vectors_words_and_phrases_say_of_every_entry(place, seed, long_run):
    """Each score is put together anew, term by term, for every entry of a store so small that all are candidates."""
    choose = random.Random(seed)
    place.put(*{some_text(choose, 5): None for _ in range(DEPTH - 10)})
    entries = place.record.listed(namespace="default", kind=None, prefix="", where=None, after=0, limit=1_000)
    for _ in range(100 if long_run else 10):
        query = some_text(choose, choose.randint(1, 3))
        vector, words = place.embedder.embed_query(query), dict.fromkeys(query.split())
        bm25 = dict(place.record.lexical("default", query, 1_000, None))
        best = max(bm25, key=lambda id: (bm25[id], -list(bm25).index(id)), default=None)
        expected = {}
        for entry in entries:
            cosine = max(0.0, float(np.frombuffer(place.record.vectors([entry.id])[entry.id], "<f4") @ vector))
            there = next(one for one in entries if one.id == best).text.split() if best else []
            coverage = sum(word in there for word in words) / len(words)
            share = bm25.get(entry.id, 0.0) / bm25[best] * coverage if best else 0.0
            score = 1 - (1 - cosine) * (1 - 0.9 * share)
            whole = len(query.split()) > 1 and f" {query} " in f" {entry.text} "
            score = 0.9 + 0.1 * score if whole else 0.9 * score
            expected[entry.id] = 1.0 if entry.text == query else score
        hits = place.searcher.search(query, limit=DEPTH)
        assert {hit.entry.id for hit in hits} >= {id for id, score in expected.items() if score > 1e-5}
        assert [hit.score for hit in hits] == pytest.approx([expected[hit.entry.id] for hit in hits], abs=1e-4)


class Neighbours:
    """What an index does, but exactly, so that results can be compared: the nearest of what it has taken in, which may be old.

    The real one is asked in tests/integration/test_retrieval.py.
    """

    def __init__(self, place):
        self.rows = {}
        self.seq = 0
        self.asked = []
        self.place = place

    def take_in(self):
        for change in self.place.record.changes(self.seq, 100_000):
            if change.vector is None:
                self.rows.pop(change.id, None)
            else:
                self.rows[change.id] = np.frombuffer(change.vector, "<f4")
            self.seq = change.seq

    def nearest(self, namespace, vector, k):
        self.asked.append(k)
        pairs = [(id, float(row @ vector)) for id, row in self.rows.items()]
        return sorted(pairs, key=lambda pair: -pair[1])[:k]

    def __call__(self):
        return self, self.seq


def test_an_index_that_lags_changes_no_result(places, seed, long_run):
    choose = random.Random(seed)
    place = places(exact_max=0)
    index = place.index = Neighbours(place)
    exact = Searcher(place.record, Matrices(place.record), place.embedder, exact_max=20_000)
    texts = [some_text(choose) for _ in range(400)]
    for _ in range(60 if long_run else 6):
        some = choose.sample(texts, 160)  # more than a search asks for at first
        place.put(*some, keys=[text[:20] for text in some], metadata={"even": choose.random() < 0.5})
        gone = choose.choice(some)
        place.record.write([], [entry_id("default", "entry", gone[:20])])
        if choose.random() < 0.5:
            index.take_in()
        query = some_text(choose, 3)
        for more in ({}, {"where": {"even": True}}, {"mode": "vector"}, {"kind": "fact"}):
            hits, expected = place.searcher.search(query, **more), exact.search(query, **more)
            assert [hit.entry.id for hit in hits] == [hit.entry.id for hit in expected], (query, more)
    assert index.asked


def test_an_index_is_asked_for_more_until_enough_pass_and_no_further(places):
    place = places(exact_max=0)
    place.put(*(f"apple {i}" for i in range(2_500)), metadata={"colour": "red"})
    place.put(*(f"an apple, and also some other things, as many as {i}" for i in range(12)), metadata={"colour": "green"})
    index = place.index = Neighbours(place)
    index.take_in()
    found = place.texts("apple", mode="vector", kind="fact")
    assert found == []
    assert max(index.asked) <= INDEX_MAX
    index.asked.clear()
    assert len(place.texts("apple", mode="vector", where={"colour": "green"})) == 10
    assert index.asked == []  # so few pass that they are looked at by themselves
    assert place.texts("?!") == place.texts("?!", mode="vector") == []
    assert index.asked == []  # nothing is near to nothing
    assert len(place.texts("apple", mode="vector", where={"colour": "red"}, limit=50)) == 50
    assert index.asked


def test_without_an_index_or_with_a_damaged_one_a_search_is_exact(places):
    place = places(exact_max=0)
    place.put("apple pie", "cherry pie")
    assert place.texts("apple", mode="vector")[0] == "apple pie"

    class Damaged:
        def nearest(self, namespace, vector, k):
            raise IndexDamaged("it was closed")

    place.index = lambda: (Damaged(), place.record.last_seq())
    assert place.texts("apple", mode="vector")[0] == "apple pie"


# ---- what is refused ---------------------------------------------------------------------------------------------------
QUERIES = [
    "", " ", "\n\t", "?!", '"', '""', "'", "*", "a*", "(", ")", "NEAR(a b)", "a AND", "OR", "NOT x", "key:", "text:x", "-x",
    "^x", "{key text}: x", "a + b", "\0", "a\0b", "\ud800", "🦊", "é", "e\u0301", "東京都", "日本語の検索", "ا ب", "%", "_", ";",
    "--", "DROP TABLE entries", '"unclosed', "a" * 100_000, "x " * 100_000, "\u200b", "½", "don’t", "C++", "#", "a.b.c", "\\",
]  # fmt: skip


@pytest.mark.parametrize("mode", ["hybrid", "vector", "lexical"])
def test_any_text_is_a_query(place, mode):
    place.put("apple pie", "東京都", "C++ and ½", "key: text")
    for query in QUERIES:
        hits = place.searcher.search(query, mode=mode)
        assert all(0 < hit.score <= 1 for hit in hits), query[:40]


def test_a_query_of_a_mebibyte_is_answered(place):
    place.put("apple pie")
    assert place.texts("apple pie " * (1024 * 1024 // 10)) == ["apple pie"]


def test_a_query_without_words_finds_nothing(place):
    place.put("apple pie")
    assert place.texts("?!") == place.texts("") == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"limit": 0}, "`limit` is 0"),
        ({"limit": True}, "`limit` is True"),
        ({"limit": 10**9}, "from 1 to 10,000"),
        ({"min_score": 2}, "`min_score` is 2"),
        ({"min_score": float("nan")}, "`min_score` is nan"),
        ({"mode": "both"}, "there is no mode 'both'"),
        ({"kind": "thing"}, "there is no kind of entry 'thing'"),
        ({"where": {"$nothing": 1}}, r"\$nothing"),
        ({"query": 7}, "a query is a text"),
    ],
)
def test_what_cannot_be_asked_is_said(place, more, told):
    with pytest.raises(InvalidError, match=told):
        place.searcher.search(**{"query": "apple", **more})


# ---- the embedder --------------------------------------------------------------------------------------------------------
def test_vectors_of_two_embedders_are_never_compared(place):
    place.put("apple pie")
    place.record.set_meta(embedder=json.dumps(Meanings.fingerprint.to_map()))
    for mode in ("hybrid", "vector"):
        with pytest.raises(EmbedderError, match=r"made with the embedder meanings 1 .*apxm memory rebuild"):
            place.searcher.search("apple", mode=mode)
    assert place.texts("apple", mode="lexical") == ["apple pie"]
    place.record.set_meta(embedder=json.dumps(place.embedder.fingerprint.to_map()))
    assert place.texts("apple") == ["apple pie"]


@pytest.mark.parametrize("failure", [EmbedderError("the model is gone"), TransientError("the server is away")])
def test_an_embedder_that_fails_fails_the_search_and_not_the_words(places, failure):
    place = places(embedder=Meanings())
    place.put("a dog")
    place.embedder.failure = failure
    for mode in ("hybrid", "vector"):
        with pytest.raises(type(failure), match=str(failure)):
            place.searcher.search("dog", mode=mode)
    assert place.texts("dog", mode="lexical") == ["a dog"]


@pytest.mark.parametrize("vector", [np.ones(5), np.ones((1, 4)), np.array([1, np.nan, 0, 0])])
def test_a_vector_that_is_none_is_refused(places, vector):
    place = places(embedder=Meanings())
    place.put("a dog")
    place.embedder.embed_query = lambda text: vector
    with pytest.raises(EmbedderError, match="gave a query a vector"):
        place.searcher.search("dog")
