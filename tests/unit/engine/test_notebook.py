from __future__ import annotations

from typing import TYPE_CHECKING

import apxm
from apxm.config import RunOptions
from apxm.engine.notebook import ROWS_MAX, TEXT_MAX
from apxm.graph.model import Edge, Graph, Node
from apxm.runtime import Runtime

if TYPE_CHECKING:
    from apxm.engine.result import ExecutionResult

HOSTILE = "</pre><img src=x onerror=alert(1)>"


def run(graph: Graph, on_failure: str = "fail_fast") -> ExecutionResult:
    with Runtime() as runtime:
        return runtime.execute(apxm.compile(graph, level=0).into_dag(), {}, run=RunOptions(on_failure=on_failure))  # type: ignore[arg-type]


def constant(value: object, name: str = "value") -> Graph:
    return Graph("main", [Node(1, name, "CONST_STR", {"value": value})])


def test_a_result_shows_its_value_and_what_it_cost() -> None:
    shown = run(constant("forty-two"))._repr_html_()
    assert ">forty-two</pre>" in shown
    assert "1 executed" in shown
    assert "1 nodes: 1 done" in shown


def test_several_outputs_are_a_table() -> None:
    graph = Graph("main", [Node(1, "left", "CONST_STR", {"value": [1]}), Node(2, "right", "CONST_STR", {"value": {"a": None}})])
    shown = run(graph)._repr_html_()
    assert ">left</th>" in shown
    assert "[1]" in shown
    assert "{&#x27;a&#x27;: None}" in shown


def test_no_text_of_a_run_becomes_markup() -> None:
    nodes = [Node(1, HOSTILE, "CONST_STR", {"value": HOSTILE}), Node(2, HOSTILE + "2", "ERR", {"message": HOSTILE})]
    shown = run(Graph("main", nodes, [Edge(1, 2)]), "continue")._repr_html_()
    assert "<img" not in shown
    assert shown.count("&lt;img") >= 3
    assert "failure" in shown


def test_a_long_value_is_cut_and_says_so() -> None:
    shown = run(constant("x" * 100_000))._repr_html_()
    assert len(shown) < TEXT_MAX + 3_000
    assert "(100,000 characters)" in shown
    assert len(run(constant([["y" * 1_000] * 1_000] * 100))._repr_html_()) < 20_000


def test_of_many_nodes_only_those_that_are_not_done_are_named() -> None:
    nodes = [Node(id, f"n{id}", "CONST_STR", {"value": id}) for id in range(1, 3 * ROWS_MAX)]
    nodes.append(Node(900, "bad", "ERR", {"message": "no"}))
    shown = run(Graph("main", nodes, [], [], {"exits": ["n1", "bad"]}), "continue")._repr_html_()
    assert ">bad</th>" in shown
    assert ">n7</th>" not in shown
    assert f"{3 * ROWS_MAX - 1} done, 1 failed" in shown
