from __future__ import annotations

import pytest

from apxm import Graph
from apxm.compiler.compile import compile
from apxm.engine.parameters import arguments_of
from apxm.errors import ParameterError


def taking(**kinds):
    graph = Graph("takes")
    for name, kind in kinds.items():
        graph.param(name, kind)
    graph.const_str("x")
    return compile(graph).into_dag()


def test_values_come_in_the_order_of_the_flow_whoever_names_them():
    dag = taking(a="str", b="int", c="json")
    assert arguments_of(dag, {"c": [1], "a": "x"}, {"b": 2}) == ["x", 2, [1]]


@pytest.mark.parametrize("kind", ["int", "float"])
def test_a_truth_value_is_no_number(kind):
    with pytest.raises(ParameterError, match="expected " + kind):
        arguments_of(taking(n=kind), {"n": True}, {})


def test_an_int_for_a_float_becomes_one():
    (value,) = arguments_of(taking(n="float"), {"n": 2}, {})
    assert (type(value), value) == (float, 2.0)


def test_everything_that_does_not_fit_is_said_at_once():
    with pytest.raises(ParameterError) as caught:
        arguments_of(taking(topic="str", size="int"), {"size": "big", "topik": "x"}, {})
    for part in ("`topic` (str) is missing", "`size` is str", "`topik` is not a parameter; close: `topic`"):
        assert part in str(caught.value)


def test_an_option_of_the_run_given_as_a_parameter_names_where_it_goes():
    with pytest.raises(ParameterError) as caught:
        arguments_of(taking(topic="str"), None, {"topic": "x", "deadline_s": 3, "budget": None})
    assert "run=RunOptions(deadline_s=..., budget=...)" in caught.value.hint
    with pytest.raises(ParameterError) as caught:
        arguments_of(taking(topic="str"), None, {"topic": "x", "other": 3})
    assert "RunOptions" not in caught.value.hint
    assert arguments_of(taking(trace="str"), None, {"trace": "mine"}) == ["mine"]


def test_a_structured_value_is_copied_so_that_the_caller_may_go_on_with_his():
    mine = {"list": [1]}
    (value,) = arguments_of(taking(data="json"), {"data": mine}, {})
    mine["list"].append(2)
    assert value == {"list": [1]}


@pytest.mark.parametrize("bad", [float("nan"), 2**70, {1: "x"}, [object()]])
def test_a_value_that_no_token_may_carry_is_refused(bad):
    with pytest.raises(ParameterError, match="`data`"):
        arguments_of(taking(data="json"), {"data": bad}, {})
