from apxm.graph.model import Graph, Node, Parameter
from apxm.graph.validate import validate


def ask(*parameters):
    return Graph("r", [Node(1, "a", "ASK", {"prompt": "x"})], [], [Parameter(name) for name in parameters])


def loop(body, **attributes):
    return Graph("g", [Node(1, "l", "LOOP", {"max_iterations": 1, **attributes}, {"body": body})])


def test_regions_that_were_not_read_from_json_nest_no_deeper():
    graph = ask()
    for _ in range(32):
        graph = loop(graph)
    assert validate(graph) == []
    assert [problem.code for problem in validate(loop(graph))] == ["graph.depth"]


def test_a_name_is_carried_once():
    (problem,) = validate(loop(ask("x"), carry=["x", "x"]))
    assert (problem.code, problem.path) == ("graph.attribute_value", "nodes[0].attributes.carry")


def test_a_case_that_is_no_text_is_a_problem_and_no_exception():
    body = Graph("body", nodes=[Node(1, "x", "CONST_STR", {"value": 1})])
    graph = Graph("g", nodes=[Node(1, "s", "SWITCH", {"case_labels": [None]}, {"body": body})])
    codes = {problem.code for problem in validate(graph)}
    assert {"graph.attribute_type", "graph.region"} <= codes
