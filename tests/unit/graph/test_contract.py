import json

import pytest

from apxm.errors import GraphError
from apxm.graph.contract import TEXT_BYTES_MAX, from_json, json_schema, to_json, to_map
from apxm.graph.model import AgentGraph, Dependency, Edge, Graph, Node, Parameter, Program

FULL = Graph(
    "full",
    [
        Node(1, "list", "CONST_STR", {"value": [1, None, {"ü": 2.5}]}),
        Node(
            2,
            "each",
            "MAP",
            {"window": 2},
            {"body": Graph("body", [Node(7, "ask", "ASK", {"template_str": "{item}"})], [], [Parameter("item", "json")])},
        ),
        Node(3, "end", "WAIT_ALL"),
    ],
    [
        Edge(1, 2, port="items"),
        Edge(2, 3, Dependency.CONTROL),
        Edge("topic", 3),
        Edge(1, 3, Dependency.EFFECT),
        Edge(2, 3, label="error"),
    ],
    [Parameter("topic", "str")],
    {"is_entry": False, "exits": ["end"]},
)


def test_a_graph_comes_back_as_it_was_written():
    assert from_json(to_json(FULL)) == FULL
    assert from_json(to_json(FULL, indent=2).encode()) == FULL
    assert from_json(to_map(FULL)) == FULL


def test_a_program_comes_back_as_it_was_written():
    program = Program([AgentGraph("a", [FULL], {"beliefs": {"x": 1}}), AgentGraph("b", [FULL])], "both")
    assert from_json(to_json(program)) == program


def test_facts_about_an_agent_are_kept_in_its_metadata():
    program = from_json({"agents": [{"name": "a", "capabilities": ["search"], "flows": [to_map(FULL)]}]})
    assert program.agents[0].metadata == {"capabilities": ["search"]}


def test_what_is_left_out_has_its_default():
    graph = from_json({"name": "g", "nodes": [{"id": 1, "name": "a", "op": "WAIT_ALL"}], "edges": [{"from": 1, "to": 1}]})
    assert graph.edges == [Edge(1, 1, Dependency.DATA, None, None)]
    assert (graph.parameters, graph.metadata, graph.nodes[0].attributes) == ([], {}, {})


def test_positions_and_boolean_labels_may_be_written_without_quotes():
    data = to_map(FULL)
    data["edges"] = [{"from": 1, "to": 3, "port": 0, "label": True}]
    assert from_json(data).edges == [Edge(1, 3, port="0", label="true")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1, column 1"),
        ("[]", "a list where a graph was expected"),
        ("null", "null where a graph"),
        ('{"name": NaN}', "NaN is no JSON number"),
        ("[" * 100_000, "nested too deeply"),
        (b"\xff\xfe{", "not"),
        (b'{"name": "\xff"}', r"not UTF-8 text \(byte 10\)"),
        (bytes(TEXT_BYTES_MAX + 1), "at most 268,435,456"),
        ('{"a": ' + "9" * 5000 + "}", "JSON"),
    ],
)
def test_bad_text_is_an_error_that_says_where(text, said):
    with pytest.raises(GraphError, match=said):
        from_json(text)


def test_every_mistake_in_the_structure_is_named():
    data = {"name": 3, "nodes": [{"id": "1", "nam": "a", "op": "ASK"}, 5], "edges": [{"from": 1.5, "to": 2, "label": 7}], "x": 1}
    with pytest.raises(GraphError) as caught:
        from_json(data)
    assert [(p.code, p.path) for p in caught.value.problems] == [
        ("graph.unknown_key", "x"),
        ("graph.shape", "name"),
        ("graph.shape", "nodes[0].id"),
        ("graph.unknown_key", "nodes[0].nam"),
        ("graph.shape", "nodes[0]"),
        ("graph.shape", "nodes[1]"),
        ("graph.shape", "edges[0].from"),
        ("graph.shape", "edges[0].label"),
    ]


def test_what_json_has_no_word_for_cannot_be_written():
    with pytest.raises(GraphError, match="cannot be written as JSON"):
        to_json(Graph("g", [Node(1, "a", "CONST_STR", {"value": b"x"})]))
    with pytest.raises(GraphError, match="cannot be written as JSON"):
        to_json(Graph("g", [Node(1, "a", "CONST_STR", {"value": float("nan")})]))


def test_the_schema_accepts_what_is_right_and_names_what_is_not():
    schemas = pytest.importorskip("jsonschema_rs")
    validator = schemas.validator_for(json.loads(json.dumps(json_schema())))
    assert validator.is_valid(to_map(FULL))
    assert validator.is_valid({"agents": [{"name": "a", "flows": [to_map(FULL)]}]})
    for change in (
        {"nodes": []},
        {"extra": 1},
        {"nodes": [{"id": 1, "name": "a", "op": "NOPE"}]},
        {"nodes": [{"id": 1, "name": "a", "op": "CONST_STR"}]},
        {"nodes": [{"id": 1, "name": "a", "op": "ASK", "attributes": {"promt": "x"}}]},
        {"nodes": [{"id": 1, "name": "a", "op": "ASK", "attributes": {"prompt": 5}}]},
        {"edges": [{"from": 1, "to": 2, "dependency": "data"}]},
    ):
        assert not validator.is_valid(to_map(FULL) | change), change


def test_the_schema_accepts_the_graphs_of_the_reference():
    schemas = pytest.importorskip("jsonschema_rs")
    from pathlib import Path

    validator = schemas.validator_for(json_schema())
    for path in (Path(__file__).resolve().parents[3] / "artifacts" / "reference").glob("*.json"):
        data = json.loads(path.read_text())
        assert [str(error) for error in validator.iter_errors(data)] == []
        assert [str(error) for error in validator.iter_errors(to_map(from_json(data)))] == []


def test_a_truth_value_is_no_id():
    data = {"name": "g", "nodes": [{"id": True, "name": "a", "op": "WAIT_ALL"}], "edges": [{"from": 1, "to": False}]}
    with pytest.raises(GraphError) as caught:
        from_json(data)
    assert [(p.code, p.path) for p in caught.value.problems] == [("graph.shape", "nodes[0].id"), ("graph.shape", "edges[0].to")]


def test_a_region_that_is_no_map_is_named():
    node = {"id": 1, "name": "a", "op": "LOOP", "attributes": {"max_iterations": 1}, "regions": {"body": 5}}
    with pytest.raises(GraphError) as caught:
        from_json({"name": "g", "nodes": [node], "edges": []})
    assert [(p.code, p.path) for p in caught.value.problems] == [("graph.shape", "nodes[0].regions.body")]
