"""What counts as lost in an index that is approximate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from apxm.memory.ltm.comparison import _unfound

if TYPE_CHECKING:
    from apxm.memory.ltm.index import Index


class Misses:
    """An index that does not find some of the ids that it has, by their own vectors."""

    def __init__(self, missed: int) -> None:
        self._missed = missed

    def nearest(self, namespace: str, vector: Any, k: int) -> list[tuple[str, float]]:
        return [("other", 0.5)] if vector[0] < self._missed else [(f"id {vector[0]:.0f}", 1.0)]


@pytest.mark.parametrize(("missed", "lost"), [(0, 0), (5, 0), (10, 0), (11, 11), (20, 20)])
def test_an_index_that_misses_some_is_whole_and_one_that_misses_most_is_not(missed: int, lost: int) -> None:
    there = {f"id {number}": np.array([number, 1.0], np.float32) for number in range(20)}
    assert len(_unfound(cast("Index", Misses(missed)), "default", there)) == lost
