import pytest

from apxm.errors import InvalidError
from apxm.memory.matching import QUERY_CHARS_MAX, TERMS_MAX, TEXT_CHARS_MAX, Query, fits, text_of


@pytest.mark.parametrize(
    ("query", "key", "value", "score"),
    [
        ("user name", "User Name", None, 1.0),
        ("name", "user_name", None, 0.9),
        ("scheduling", "the-scheduler", "x", 0.85),
        ("memories", "note", "about memory and more", 0.6),
        ("memory", "note", ["two memories"], 0.6),
        ("red apple", "note", {"a": {"b": "a red one"}}, 0.3),
        ("run", "note", "to prune a tree", 0.0),
        ("anything", "note", 3, 0.0),
        ("the", "note", "over the top", 0.6),
        ("", "note", "text", 0.0),
        ("(x", "note", "a (x b", 0.6),
    ],
)
def test_scores_say_how_much_of_the_query_is_there(query, key, value, score):
    assert Query(query).score(key, value) == score


def test_of_a_long_query_the_beginning_is_read():
    query = Query(" ".join(f"w{n:06}" for n in range(500_000)))
    assert len(query.whole) <= QUERY_CHARS_MAX
    assert len(query.terms) == TERMS_MAX
    assert query.score("note", f"w000000 w000001 and w{TERMS_MAX:06}") == round(2 * 0.6 / TERMS_MAX, 4)


def test_the_text_of_a_value_is_its_strings_up_to_a_limit():
    assert text_of({"a": ["b", 1, {"c": "d"}]}) == "a\nb\nc\nd"
    assert len(text_of("x" * 100_000)) == TEXT_CHARS_MAX
    assert len(text_of(["x" * 3_000] * 1_000)) <= TEXT_CHARS_MAX + 2


def test_where_compares_fields_as_json():
    assert fits({"a": 1, "b": [True]}, {"a": 1.0, "b": [True]})
    assert not fits({"a": 1}, {"a": True})
    assert not fits({}, {"a": None})
    assert not fits("text", {"a": 1})
    assert fits("text", None)
    assert fits({"a": {"b": 1}}, {"a": {"b": 1}})


def test_where_takes_the_conditions_of_long_term_memory():
    value = {"n": 3, "tags": ["a", "b"], "deep": {"x": [1.5]}}
    for where, found in (
        ({"n": {"$gt": 2}}, True),
        ({"n": {"$gt": 3}}, False),
        ({"n": {"$in": [1, 3]}, "deep": {"x": [1.5]}}, True),
        ({"n": {"$gt": 2}, "deep": {"x": [2]}}, False),
        ({"tags": {"$contains": "b"}, "$not": {"n": 4}}, True),
        ({"$or": [{"n": 4}, {"other": {"$exists": True}}]}, False),
    ):
        assert fits(value, where) is found, where
    assert not fits("text", {"n": {"$ne": 1}})
    with pytest.raises(InvalidError, match=r"there is no `\$near`"):
        fits(value, {"n": {"$near": 3}})
