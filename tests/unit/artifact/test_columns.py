"""Packed columns: what is compared in one go is compared rightly."""

from __future__ import annotations

import random
from array import array

import pytest

from apxm.artifact.columns import UINT, all_below, repeated

TOP = 2**31


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        ([], [], True),
        ([0], [1], True),
        ([0], [0], False),
        ([1], [0], False),
        ([TOP - 2], [TOP - 1], True),
        ([TOP - 1], [0], False),
        ([0], [TOP], False),
        ([TOP], [TOP + 1], False),
        ([2**32 - 1], [2**32 - 1], False),
        ([0, 5, 2], [1, 5, 3], False),
        ([5, 0], [0, 5], False),
    ],
)
def test_columns_are_compared_entry_by_entry(lower, upper, expected):
    assert all_below(array(UINT, lower), array(UINT, upper)) is expected


def test_many_columns_are_compared_as_one_by_one(seed):
    chance = random.Random(seed)
    for _ in range(2_000):
        size = chance.randrange(1, 12)
        lower = [chance.choice([0, 1, chance.randrange(TOP), TOP - 1]) for _ in range(size)]
        upper = [min(TOP - 1, max(0, low + chance.choice([1, 1, 1, 1, 1, 2, 0, -1]))) for low in lower]
        assert all_below(array(UINT, lower), array(UINT, upper)) is all(a < b for a, b in zip(lower, upper)), (lower, upper)


def test_numbers_are_repeated_as_often_as_their_counts_say(seed):
    chance = random.Random(seed)
    for _ in range(500):
        counts = [count for _ in range(chance.randrange(6)) for count in [chance.randrange(5)] * chance.choice([1, 1, 40])]
        assert repeated(counts).tolist() == [number for number, count in enumerate(counts) for _ in range(count)], counts
