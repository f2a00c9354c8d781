from __future__ import annotations

import math
from array import array
from typing import Any

import pytest

from apxm.artifact import Artifact
from apxm.artifact.encode import encode
from apxm.artifact.format import unseal
from apxm.compiler.compile import compile
from apxm.dag import ExecutionDag
from apxm.errors import ArtifactError
from apxm.graph.ops import OPERATIONS
from tests.unit.artifact.programs import RICH, SMALL


def _artifact(dag: ExecutionDag) -> Artifact:
    key = (dag.agent, dag.name)
    return Artifact(dag.name, {key: dag}, entry=key, level=0, compiler="0", manifest={key: {}}, agents={dag.agent: {}})


def _dag(value: Any = 1, names: tuple[str, ...] = ("one",), **more: Any) -> ExecutionDag:
    n = len(names)
    fields: dict[str, Any] = {
        "name": "g",
        "ops": bytes([OPERATIONS["CONST_STR"].code]) * n,
        "ids": array("q", range(n)),
        "names": names,
        "in_offsets": array("I", [0] * (n + 1)),
        "in_sources": array("I"),
        "in_kinds": b"",
        "exits": range(n),
        "ranks": array("q", [10] * n),
        "attributes": {slot: {"value": value} for slot in range(n)},
    }
    return ExecutionDag(**{**fields, **more})


def _same(a: ExecutionDag, b: ExecutionDag) -> None:
    """Two dags are equal in everything, regions included."""
    for name in ("name", "agent", "ops", "exits", "parameters", "ports", "labels", "metadata", "in_kinds"):
        assert getattr(a, name) == getattr(b, name), name
    for name in ("ids", "names", "in_offsets", "in_sources", "ranks"):
        assert list(getattr(a, name)) == list(getattr(b, name)), name
    assert a.attributes == b.attributes
    assert a.regions.keys() == b.regions.keys()
    for slot, regions in a.regions.items():
        assert list(regions) == list(b.regions[slot])
        for name, region in regions.items():
            _same(region, b.regions[slot][name])


@pytest.mark.parametrize("program", [SMALL, RICH], ids=["small", "rich"])
def test_a_program_comes_back_as_it_went(program):
    made = compile(program)
    read = Artifact.from_bytes(made.to_bytes())
    for name in ("name", "entry", "level", "compiler", "manifest", "agents", "metadata"):
        assert getattr(made, name) == getattr(read, name), name
    assert list(made.flows()) == list(read.flows())
    for key, dag in made.flows().items():
        _same(dag, read.flows()[key])
    assert encode(read) == unseal(made.to_bytes())


@pytest.mark.parametrize(
    "value", [None, True, -(2**63), 2**63 - 1, 0.1, "", "ä\n\0", b"\x00\xff", [], {}, [{"b": 1, "a": [None]}]]
)
def test_every_plain_value_comes_back_with_its_type(value):
    read = Artifact.from_bytes(_artifact(_dag(value)).to_bytes()).into_dag().attributes[0]["value"]
    assert read == value
    assert type(read) is type(value)
    if isinstance(value, list) and value:
        assert list(read[0]) == ["b", "a"]  # a map keeps its order: it shows in prompts


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, "no number"),
        (2**63, "over 64 bits"),
        (2**70, "cannot be stored"),
        ({1, 2}, "cannot be stored"),
        ({1: 2}, "no text"),
        ("\ud800", "cannot be stored"),
        (object(), "cannot be stored"),
    ],
)
def test_a_value_that_could_not_be_read_back_is_not_written(value, expected):
    with pytest.raises(ArtifactError, match=expected):
        _artifact(_dag(value)).to_bytes()


def test_a_value_nested_too_deeply_is_not_written():
    value: Any = 1
    for _ in range(40):
        value = [value]
    with pytest.raises(ArtifactError, match="nested deeper"):
        _artifact(_dag(value)).to_bytes()


def test_the_refusal_of_a_value_names_the_node():
    with pytest.raises(ArtifactError, match=r"node `one` of flow `g`"):
        _artifact(_dag(object())).to_bytes()


def test_names_that_cannot_be_joined_are_not_written():
    for name in ("a\0b", "\ud800"):
        with pytest.raises(ArtifactError, match="node name"):
            _artifact(_dag(names=(name,))).to_bytes()


def test_numbers_that_do_not_fit_their_column_are_not_written():
    with pytest.raises(ArtifactError, match="does not fit its column"):
        _artifact(_dag(exits=[-1])).to_bytes()


def test_equal_attributes_are_stored_once():
    few = _artifact(_dag("x" * 1000, ("a",))).to_bytes()
    many = _artifact(_dag("x" * 1000, tuple("abcdefghij"))).to_bytes()
    assert len(many) - len(few) < 1000
    ones = Artifact.from_bytes(_artifact(_dag(1, ("a", "b"), attributes={0: {"value": 1}, 1: {"value": True}})).to_bytes())
    assert [type(ones.into_dag().attributes[slot]["value"]) for slot in (0, 1)] == [int, bool]


def test_attributes_that_are_written_in_another_order_are_the_same_program():
    graph = {"name": "g", "nodes": [{"id": 1, "name": "q", "op": "QMEM", "attributes": {"key": "a", "limit": 3}}], "edges": []}
    turned = {"name": "g", "nodes": [{"id": 1, "name": "q", "op": "QMEM", "attributes": {"limit": 3, "key": "a"}}], "edges": []}
    assert compile(graph).digest == compile(turned).digest


def test_what_a_host_stores_with_a_program_comes_back():
    dag = _dag()
    key = (dag.agent, dag.name)
    facts = {"source": "hello.py", "digest": b"\x01"}
    made = Artifact("g", {key: dag}, entry=key, level=0, compiler="0", manifest={key: {}}, agents={"default": {}}, metadata=facts)
    assert Artifact.from_bytes(made.to_bytes()).metadata == facts
