"""The columns of a dag: attribute maps by slot, and which slots differ."""

from __future__ import annotations

from array import array

import pytest

from apxm import compile
from apxm.dag import Attributes
from apxm.graph.model import Edge, Graph, Node

A, B = {"capability": "a"}, {"capability": "b"}


def test_attributes_read_like_a_mapping_of_slots():
    found = Attributes.of({1: A, 3: B, 4: A}, 5)
    assert dict(found) == {1: A, 3: B, 4: A}
    assert list(found) == [1, 3, 4]
    assert len(found) == 3
    assert found.get(0) is None
    assert found.get(2, A) is A
    assert (1 in found, 0 in found, 7 in found, "x" in found) == (True, False, False, False)
    assert list(found.table) == [A, B]
    assert found.places == array("I", [0, 1, 0, 2, 1])


@pytest.mark.parametrize("slot", [0, 5, -1])
def test_a_slot_without_attributes_is_a_missing_key(slot):
    with pytest.raises(KeyError):
        Attributes.of({1: A, 4: B}, 5)[slot]


def test_the_first_of_each_kind_of_slot_is_known_in_order():
    calls = [Node(i, f"n{i}", "INV", dict(B if i == 3 else A)) for i in range(1, 5)]
    dag = compile(Graph("g", [*calls, Node(9, "all", "WAIT_ALL")], [Edge(i, 9) for i in range(1, 5)]), level=0).into_dag()
    assert [dag.first_of(sort) for sort in dag.sorts] == [0, 2, 4]
    assert [dag.attributes.table[place - 1] if place else None for _, place in dag.sorts] == [A, B, None]
