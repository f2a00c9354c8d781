import pytest

from apxm.graph.condition import ConditionError, parse

HOLDS = [
    ("not_empty", ["a", [0], {"a": 1}, 0, False], [None, "", [], {}, b""]),
    ("is_empty", [None, "", [], {}], ["a", 0, False]),
    ("is_null", [None], [0, "", "null"]),
    ("not_null", [0, ""], [None]),
    ("is_true", [True], [1, "true", None]),
    ("true", [True], [False]),
    ("is_false", [False], [0, "", None]),
    ("false", [False], [True]),
    (">= 3", [3, 3.0, 4, "3", " 3.5 "], [2, "2", "three", None, True, [4]]),
    ("> 0.5", [0.6, "0.8"], [0.5, "", "0.5", True]),
    ("< -1", [-2, "-2"], [-1, None]),
    ("<=0", [0, -1], [1]),
    ("== 1", [1, 1.0, "1", "1.0"], [True, None, "one"]),
    ("!= 1", [2, True, None, "one"], [1, "1"]),
    ("== true", [True], [1, "true"]),
    ('== "1"', ["1"], [1, "1.0"]),
    ("== done", ["done"], ["Done", None]),
    ("== 'a b'", ["a b"], ["'a b'"]),
    ("!= done", ["x", None, 3], ["done"]),
    ("== null", [None], ["null", 0]),
    ('== {"a": [1]}', [{"a": [1.0]}], [{"a": [True]}]),
    ("len >= 2", ["ab", [1, 2], {"a": 1, "b": 2}], ["a", 22, None, True]),
    ("len != 3", ["ab"], ["abc", 7]),
    ("contains ab", ["xaby", ["ab"], {"ab": 1}], ["ba", ["xab"], 5, None]),
    ("contains 5", ["a5", [5], ["x", 5.0], {"5": 1}], [["5"], [True]]),
    ("matches ^a+b$", ["aab"], ["xaab", 3, None]),
    ("matches '^a b$'", ["a b"], ["'a b'"]),
]


@pytest.mark.parametrize(("text", "yes", "no"), HOLDS, ids=[row[0] for row in HOLDS])
def test_a_condition_holds_for_what_it_says_and_for_nothing_else(text, yes, no):
    test = parse(text).test
    assert [value for value in yes if not test(value)] == []
    assert [value for value in no if test(value)] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no condition"),
        ("not_emtpy", "close: `not_empty`"),
        (">=", "compares with nothing"),
        ("< abc", "no number"),
        ("< true", "no number"),
        ("len", "nothing after `len`"),
        ("len 3", "does not compare the length"),
        ("len > 1.5", "does not compare the length"),
        ("matches (", "RE2 refuses"),
        (r"matches (a)\1", "RE2 refuses"),
        ("contains", "nothing after"),
        ("=" * 20_000, "20000 characters"),
    ],
)
def test_what_is_no_condition_is_refused_with_a_reason(text, said):
    with pytest.raises(ConditionError, match=said.replace("(", r"\(")):
        parse(text)


def test_a_refused_condition_is_a_value_error_with_a_stable_code():
    with pytest.raises(ValueError, match="is no condition") as caught:
        parse("perhaps")
    assert caught.value.code == "graph.condition"


def test_arrays_have_length_and_emptiness():
    numpy = pytest.importorskip("numpy")
    assert parse("is_empty").test(numpy.zeros((0, 3)))
    assert parse("len == 2").test(numpy.zeros((2, 3)))
    assert not parse("len == 0").test(numpy.array(1.0))
    assert not parse("== 1").test(numpy.ones(3))
