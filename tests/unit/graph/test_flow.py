from __future__ import annotations

from typing import Any

import pytest

from apxm.errors import GraphError
from apxm.graph.flow import flow, step
from apxm.graph.model import Edge, Parameter
from apxm.graph.validate import validate


def test_a_function_becomes_the_graph_of_its_steps():
    @flow
    def brief(topic: str, words: int, ratio: float, deep: bool, extra: dict[str, int], rest: Any, free):
        """Write a brief."""
        draft = step.ask(f"Write {words} words about {topic}")
        return step.think("Improve", draft)

    assert brief.name == "brief"
    assert brief.parameters == [
        Parameter("topic", "str"),
        Parameter("words", "int"),
        Parameter("ratio", "float"),
        Parameter("deep", "bool"),
        Parameter("extra", "json"),
        Parameter("rest", "json"),
        Parameter("free", "json"),
    ]
    assert [node.op for node in brief.nodes] == ["ASK", "THINK", "RETURN"]
    assert brief.edges == [Edge(1, 2), Edge(2, 3)]
    assert brief.metadata == {"description": "Write a brief."}
    assert validate(brief) == []


def test_several_returned_steps_are_the_outputs():
    @flow(name="two", is_entry=False)
    def both(topic: str):
        a = step.ask("a {topic}", name="first")
        b = step.ask("b", a, name="second")
        return a, b

    assert both.name == "two"
    assert both.metadata == {"exits": ["first", "second"], "is_entry": False}
    assert validate(both) == []


def test_a_function_may_return_nothing_or_a_parameter():
    @flow
    def shows(x: str):
        step.print(x)

    @flow
    def passes(x: str):
        return x

    assert [node.op for node in shows.nodes] == ["PRINT"]
    assert passes.edges == [Edge("x", 1)]
    assert validate(shows) == validate(passes) == []


def test_regions_are_recorded_and_helpers_may_be_called():
    def summarise(item):
        return step.ask(f"Summarise {item} for {{question}}")

    @flow
    def digest(files: list[str], question: str):
        each = step.map(files)
        with each as item:
            summarise(item)
        return step.ask(f"Join {each}")

    assert [p.name for p in digest.nodes[0].regions["body"].parameters] == ["item", "question"]
    assert validate(digest) == []


def test_what_cannot_be_recorded_is_refused():
    with pytest.raises(GraphError, match="has a default"):
        flow(lambda x=1: None)
    with pytest.raises(GraphError, match="variadic positional"):
        flow(lambda *x: None)
    with pytest.raises(GraphError, match="returned 3"):
        flow(lambda x: 3)
    with pytest.raises(GraphError, match="outside of a flow"):
        step.ask("x")


def test_python_conditions_on_values_of_the_run_are_refused():
    with pytest.raises(GraphError, match="no truth value"):

        @flow
        def wrong(x: bool):
            if x:
                return step.const_str(1)
            return step.const_str(2)


def test_flows_do_not_leak_into_each_other():
    @flow
    def outer(x: str):
        @flow
        def inner(y: str):
            return step.ask("{y}")

        assert len(inner.nodes) == 2
        return step.ask("{x}")

    assert len(outer.nodes) == 2
