import pytest

from apxm.memory.ltm.entry import Put
from apxm.memory.ltm.record import Record
from apxm.memory.ltm.words import MATCHES_MAX, TERMS_MAX, term_of, words_of


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def record(tmp_path):
    record = Record(tmp_path, clock=Clock())
    yield record
    record.close()


def put(record, *texts, namespace="n", kind="entry", **more):
    record.write([(Put(namespace, text, None, text, kind, **more), None) for text in texts], [])


def found(record, query, limit=1_000, kind=None, namespace="n"):
    ids = [id for id, _ in record.lexical(namespace, query, limit, kind)]
    entries = record.entries(ids)
    return [entries[id].text for id in ids]


def in_a_row(record, query, kind=None):
    return {entry.text for entry in record.entries(record.phrase("n", query, 1_000, kind)).values()}


def test_a_query_asks_for_the_words_that_say_something():
    assert words_of("What is the capital of France, the capital?") == ["capital", "france"]
    assert words_of("to be or not to be") == ["to", "be", "or", "not"]  # there are no others
    assert words_of("?!") == []
    assert len(words_of(" ".join(f"word{i}" for i in range(100)))) == TERMS_MAX


def test_a_word_stands_for_its_forms_unless_it_is_short():
    assert term_of("capabilities") == term_of("capability") == '"capabilit"*'
    assert term_of("studies") == term_of("study") == '"stud"*'
    assert term_of("cat") == '"cat"'
    assert term_of("東京") == '"東京"'


def test_forms_of_a_word_are_found_and_words_that_hold_it_are_not(record):
    put(record, "she studies", "a study", "studied", "understudy", "stunt")
    for query in ("study", "studies"):
        assert set(found(record, query)) == {"she studies", "a study", "studied"}


def test_the_more_and_the_rarer_the_words_the_better(record):
    put(record, "alpha beta gamma", "alpha beta", "alpha and something else", "nothing", *(f"alpha {i} delta" for i in range(20)))
    assert found(record, "alpha beta gamma")[:2] == ["alpha beta gamma", "alpha beta"]
    scores = [score for _, score in record.lexical("n", "alpha beta gamma", 100, None)]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0


def test_namespaces_and_kinds_do_not_mix(record):
    put(record, "alpha here")
    put(record, "alpha fact", kind="fact")
    assert found(record, "alpha", kind="fact") == ["alpha fact"]  # while there is one namespace
    put(record, "alpha there", namespace="m")
    assert set(found(record, "alpha")) == {"alpha here", "alpha fact"}
    assert found(record, "alpha", namespace="m") == ["alpha there"]
    assert found(record, "alpha", namespace="nowhere") == []
    assert in_a_row(record, "alpha here") == {"alpha here"}
    assert in_a_row(record, "alpha here", kind="fact") == set()


def test_the_dead_and_those_of_another_kind_leave_no_gap(record):
    put(record, *(f"alpha alpha {i}" for i in range(60)), expires_at=1_001.0)
    put(record, *(f"alpha alpha {i} of them" for i in range(60)), kind="fact")
    put(record, *(f"a longer text that says alpha once {i}" for i in range(5)))
    record._clock.now = 1_002.0
    assert len(found(record, "alpha", limit=5, kind="entry")) == 5
    assert len(found(record, "alpha", limit=50)) == 50


def test_a_phrase_is_two_words_or_more_one_after_the_other(record):
    put(record, "the capital of France is Paris", "France of the capital", "capital")
    assert in_a_row(record, "Capital of  FRANCE") == {"the capital of France is Paris"}
    assert in_a_row(record, "capital") == in_a_row(record, "?") == in_a_row(record, "x " * 2_000) == set()


@pytest.fixture
def crowded(record):
    put(record, *(f"alpha beta {i}" for i in range(MATCHES_MAX + 10)), *(f"alpha {i}" for i in range(50)))
    return record


def test_where_nearly_everything_has_the_words_those_with_all_of_them_are_found(crowded):
    assert len(found(crowded, "alpha beta", limit=20)) == 20
    assert all("beta" in text for text in found(crowded, "alpha beta", limit=20))


def test_where_too_few_have_all_of_the_common_words_the_first_decides(crowded):
    put(crowded, *(f"gamma {i}" for i in range(MATCHES_MAX + 20)))
    for first, second in (("alpha", "gamma"), ("gamma", "alpha")):
        texts = found(crowded, f"{first} {second}", limit=20)
        assert len(texts) == 20
        assert all(first in text for text in texts)


def test_rare_words_that_are_too_few_are_joined_by_those_with_all_of_the_others(crowded):
    put(crowded, "delta")
    texts = found(crowded, "alpha beta delta", limit=20)
    assert texts[0] == "delta"
    assert len(texts) == 20


def test_words_are_counted_anew_after_a_write(crowded):
    assert len(found(crowded, "alpha gamma", limit=20)) == 20  # nobody has the second word
    put(crowded, *(f"gamma {i}" for i in range(MATCHES_MAX + 20)))
    assert all("alpha" in text for text in found(crowded, "alpha gamma", limit=20))


def test_a_phrase_is_looked_for_as_long_as_a_title_and_no_longer(record):
    said = "one two three four five six seven"
    record.write([(Put("n", "a", None, f"it says {said} there"), None)], [])
    assert in_a_row(record, said.removesuffix(" seven")) == {f"it says {said} there"}
    assert in_a_row(record, said) == set()
