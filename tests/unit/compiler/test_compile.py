from __future__ import annotations

import json

import pytest

from apxm.artifact.format import CapabilityFacts
from apxm.compiler.compile import compile, compile_report
from apxm.errors import CompileError, GraphError
from apxm.graph.model import AgentGraph, Edge, Graph, Node, Program
from tests.unit.compiler.view import const, edge, node

GRAPH = {"name": "g", "nodes": [const(1), node(2, "INV", capability="calc"), node(3, "RETURN")], "edges": [edge(1, 3)]}


def _graph(name: str, **metadata) -> Graph:
    return Graph(name, [Node(1, "one", "CONST_STR", {"value": 1})], metadata=metadata)


def test_a_graph_a_map_and_its_text_give_the_same_artifact():
    graph = Graph(
        "g",
        [Node(1, "a", "CONST_STR", {"value": "v"}), Node(2, "b", "INV", {"capability": "calc"}), Node(3, "c", "RETURN")],
        [Edge(1, 3)],
    )
    assert len({compile(source).digest for source in (graph, GRAPH, json.dumps(GRAPH), json.dumps(GRAPH).encode())}) == 1


def test_compiling_leaves_the_source_as_it_was():
    graph = _graph("g")
    before = repr(graph)
    compile(graph)
    assert repr(graph) == before


def test_a_graph_alone_is_the_entry_of_the_default_agent():
    artifact = compile(GRAPH)
    assert (artifact.name, artifact.entry, artifact.level) == ("g", ("default", "g"), 1)
    assert artifact.into_dag().metadata == {"is_entry": True}


def test_the_entry_is_the_flow_that_says_so_else_the_first_that_does_not_deny_it():
    def entry(*flows: Graph) -> str:
        return compile(Program([AgentGraph("a", list(flows))])).entry[1]

    assert entry(_graph("x"), _graph("y")) == "x"
    assert entry(_graph("x"), _graph("y", is_entry=True)) == "y"
    assert entry(_graph("x", is_entry=False), _graph("y")) == "y"
    with pytest.raises(CompileError, match="no entry flow"):
        entry(_graph("x", is_entry=False))


def test_a_flow_that_says_so_is_the_entry_before_that_of_an_earlier_agent():
    program = Program([AgentGraph("a", [_graph("x")]), AgentGraph("b", [_graph("y", is_entry=True)])], "p")
    artifact = compile(program)
    assert (artifact.name, artifact.entry) == ("p", ("b", "y"))
    assert [dag.metadata["is_entry"] for dag in artifact.flows().values()] == [True, True]  # each agent's own


def test_a_broken_graph_is_refused_with_every_broken_rule():
    with pytest.raises(GraphError) as caught:
        compile({"name": "g", "nodes": [node(1, "ASSK"), node(2, "INV")], "edges": [edge(1, 9)]})
    assert len(caught.value.problems) >= 3


def test_an_unknown_level_is_refused():
    with pytest.raises(CompileError, match="level 2"):
        compile(GRAPH, level=2)


def test_the_manifest_lists_the_capabilities_of_every_flow_and_what_is_known_about_them():
    known = {"calc": CapabilityFacts("pure", {"type": "object"})}
    assert compile(GRAPH, level=0).manifest == {("default", "g"): {"calc": CapabilityFacts()}}
    assert compile(GRAPH, level=0, capabilities=known).manifest == {("default", "g"): known}


def test_a_capability_that_is_not_called_any_more_is_not_in_the_manifest():
    assert compile(GRAPH, capabilities={"calc": CapabilityFacts("pure")}).manifest == {("default", "g"): {}}


def test_level_0_runs_no_pass_and_level_1_reports_every_one():
    assert compile_report(GRAPH, level=0)[1].passes == ()
    report = compile_report(GRAPH, capabilities={"calc": CapabilityFacts("pure")})[1]
    assert [log.name for log in report.passes] == ["prompts", "constants", "duplicates", "dead", "reduction"]
    assert (report.nodes_before, report.nodes_after) == (3, 2)
    assert all(log.safe_when for log in report.passes)


def test_a_report_says_what_was_done_and_what_was_declined():
    report = compile_report(GRAPH)[1]
    assert "  - g: `b`: its effect is not known at compile time" in report.lines()
    assert json.loads(json.dumps(report.to_map()))["passes"][3]["declined"] == [
        {"flow": "g", "node": "b", "text": "its effect is not known at compile time"}
    ]
