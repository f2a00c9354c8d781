"""Filters: the SQL says what the sentence of the oracle says, whatever names and texts look like. Other things are refused."""

from __future__ import annotations

import random
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from apxm.errors import InvalidError
from apxm.memory.ltm.where import (
    CONDITIONS_MAX,
    DEPTH_MAX,
    FIELD_CHARS_MAX,
    OPERATORS,
    VALUES_MAX,
    condition,
    encoded,
    fields_of,
    fits,
    refuse_unfit,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAMES = ("a", "b", "", '"', "\\", "a.b", "$", "[0]", "a\0b", "%", "%22", "\n", "' OR 1=1 --", "😀", "a\\nb", "#-1", "\u200f")
TEXTS = (
    "",
    "a",
    "b",
    "\0",
    "\0\0",
    "a\0",
    "a\0b",
    "\1",
    "\1\1",
    "\1\2",
    '"',
    "\\",
    "true",
    "1",
    "null",
    "é",
    "e\u0301",
    "😀",
    "%",
)
NUMBERS = (0, 1, -1, 2, 1.0, 0.1 + 0.2, 0.3, 1e300, 5e-324, -0.0, 2**63 - 1, -(2**63), 2**53, 2**53 + 1, 9007199254740992.0)
ALIKE = (
    (True, 1, 1.0, "1", "true", ["1"]),
    (None, False, 0, -0.0, "", "null", [], [""]),
    ("a", "a\0", "a\0b", "a\1", "A", ["a"], ["a\0"]),
    (2**53, 2**53 + 1, 2.0**53, str(2**53)),
)


@pytest.fixture(scope="module")
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    yield connection
    connection.close()


def in_sql(db: sqlite3.Connection, fields: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    told, bound = condition(where, "f.fields")
    found = db.execute(f"SELECT {told} FROM (SELECT ? AS fields) f", (*bound, encoded(fields))).fetchone()[0]
    assert found in (0, 1)
    return bool(found)


def any_value(rng: random.Random) -> Any:
    match rng.randrange(6):
        case 0:
            return rng.choice((None, True, False))
        case 1 | 2:
            return rng.choice(NUMBERS)
        case 3:
            return rng.choices(TEXTS, k=rng.randrange(3))
    return rng.choice(TEXTS)


def any_where(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(rng.randrange(3)):
        match rng.randrange(9):
            case 0 if depth < 3:
                found["$not"] = any_where(rng, depth + 1)
            case 1 | 2 if depth < 3:
                found[rng.choice(("$and", "$or"))] = [any_where(rng, depth + 1) for _ in range(rng.randrange(3))]
            case 3 | 4:
                name = rng.choice([one for one in NAMES if not one.startswith("$")])
                found[name] = {
                    operator: any_operand(rng, operator) for operator in rng.choices(OPERATORS[:7], k=rng.randrange(1, 3))
                }
            case _:
                found[rng.choice([one for one in NAMES if not one.startswith("$")])] = any_value(rng)
    return found


def any_operand(rng: random.Random, operator: str) -> Any:
    match operator:
        case "$exists":
            return rng.random() < 0.5
        case "$in":
            return [any_value(rng) for _ in range(rng.randrange(4))]
        case "$contains":
            return rng.choice((rng.choice(TEXTS), rng.choices(TEXTS, k=rng.randrange(3))))
        case "$ne":
            return any_value(rng)
    return rng.choice((*NUMBERS, *TEXTS))


def test_the_sql_of_a_filter_says_what_the_filter_says(db, seed, long_run):
    rng = random.Random(seed)
    hits = 0
    for _ in range(100_000 if long_run else 3_000):
        fields = {name: any_value(rng) for name in rng.choices(NAMES, k=rng.randrange(5))}
        where = any_where(rng)
        if rng.random() < 0.7:
            name, alike = rng.choice([one for one in NAMES if not one.startswith("$")]), rng.choice(ALIKE)
            fields[name], wanted = rng.choice(alike), rng.choice(alike)
            where[name] = rng.choice((wanted, {"$in": [wanted]}, {"$ne": wanted}))
        expected = fits(fields, where)
        assert in_sql(db, fields, where) is expected, (fields, where)
        hits += expected
    assert hits > 300  # both answers are given often


@pytest.mark.parametrize(
    ("field", "where", "expected"),
    [
        (1, 1.0, True),
        (True, 1, False),
        (1, True, False),
        ("true", True, False),
        (None, None, True),
        ("a", {"$in": ["b", "a"]}, True),
        (1, {"$in": [True]}, False),
        (3, {"$gt": 2, "$lte": 3}, True),
        (3, {"$gt": "2"}, False),
        (True, {"$gt": 0}, False),
        ("b", {"$gt": "a"}, True),
        (["a", "b"], {"$contains": "a"}, True),
        (["a", "b"], {"$contains": ["a", "c"]}, False),
        ("a", {"$contains": "a"}, False),
        (["a"], ["a"], True),
        (["a"], {"$ne": ["b"]}, True),
        ("a", {"$exists": False}, False),
    ],
)
def test_what_fits(db, field, where, expected):
    for told in ({"x": where}, {"$and": [{"x": where}]}, {"$not": {"$not": {"x": where}}}):
        assert fits({"x": field}, told) is expected
        assert in_sql(db, {"x": field}, told) is expected


def test_what_is_not_there_is_equal_to_nothing_and_not_equal_to_anything(db):
    for where, expected in [({"x": None}, False), ({"x": {"$ne": 1}}, True), ({"x": {"$exists": False}}, True), ({}, True)]:
        assert fits({}, where) is expected
        assert in_sql(db, {}, where) is expected


def test_the_fields_are_the_metadata_and_beneath_it_what_lies_at_the_top_of_a_map():
    value = {
        "name": "value",
        "n": 1,
        "none": None,
        "list": ["a"],
        "mixed": ["a", 1],
        "map": {"a": 1},
        "bytes": b"a",
        "long": "x" * (FIELD_CHARS_MAX + 1),
    }
    assert fields_of(value, {"name": "metadata"}) == {"name": "metadata", "n": 1, "none": None, "list": ["a"]}
    assert fields_of("text", {"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ([], "expected a map"),
        ({"$nor": []}, r"no `\$nor`"),
        ({"$and": {"a": 1}}, "a list of filters"),
        ({"$or": [1]}, "in the place of a map"),
        ({"$not": [1]}, "in the place of a map"),
        ({"a": {"$like": "x"}}, r"`where` of `a`: there is no `\$like`"),
        ({"a": {"b": 1}}, "there is no `b`"),
        ({"a": {"$in": "x"}}, "a list of what fields can be"),
        ({"a": {"$in": [{}]}}, "a list of what fields can be"),
        ({"a": {"$gt": None}}, "a number or a text"),
        ({"a": {"$gt": True}}, "a number or a text"),
        ({"a": {"$exists": 1}}, "true or false"),
        ({"a": {"$contains": 1}}, "a text or a list of texts"),
        ({"a": b"x"}, "is not null, a boolean"),
        ({"a": [1]}, "is not null, a boolean"),
        ({"a": float("nan")}, "finite"),
        ({"a": "\ud800"}, "Unicode"),
        ({"\ud800": 1}, "Unicode"),
        ({"a": 2**63}, "64 bits"),
        ({1: 1}, "keys are str"),
        ({"$or": [{"a": n} for n in range(CONDITIONS_MAX + 1)]}, "at most 100 are taken"),
        ({"a": {"$in": list(range(VALUES_MAX + 1))}}, "at most 10,000 are taken"),
    ],
)
def test_what_is_no_filter_is_refused(where, says):
    with pytest.raises(InvalidError, match=says):
        refuse_unfit(where)
    with pytest.raises(InvalidError, match=says):
        condition(where, "f.fields")


def test_the_largest_filters_are_answered(db):
    assert in_sql(db, {"a": 7}, {"$or": [{"a": n} for n in range(CONDITIONS_MAX)]})
    assert in_sql(db, {"a": 7}, {"a": {"$in": list(range(VALUES_MAX))}})
    nested: dict[str, Any] = {"a": 7}
    for _ in range(DEPTH_MAX):
        nested = {"$not": nested}
    assert in_sql(db, {"a": 7}, nested)


@pytest.mark.parametrize(
    "where",
    [
        {"$and": [{}] * 101},
        {"$or": [{"$not": {}}] * 101},
        {f"f{n}": {} for n in range(101)},
        {"a": {"$contains": ["x"] * 101}},
        {"$and": [{"a": {"$contains": ["x"] * 11}}] * 10},
        {"$not": {"$and": [{"$or": [{}] * 51}] * 2}},
    ],
)
def test_what_asks_for_nothing_counts_and_so_does_every_text_of_a_list(db, where):
    with pytest.raises(InvalidError, match="conditions, at most 100"):
        in_sql(db, {"a": 7}, where)


@pytest.mark.parametrize("name", ["$not", "$and", "a"])
def test_filters_as_deep_as_they_may_be_are_answered_and_deeper_ones_refused(db, name):
    def nested(levels):
        where = {"a": {"$gt": 1}}
        for _ in range(levels):
            where = {name: [where] if name == "$and" else where}
        return where

    if name != "a":
        assert in_sql(db, {"a": 7}, nested(DEPTH_MAX))
    for levels in (DEPTH_MAX + 1, 90, 20_000):
        with pytest.raises(InvalidError):
            in_sql(db, {"a": 7}, nested(levels))
