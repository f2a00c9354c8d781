from apxm.graph.model import Graph, Node
from apxm.graph.validate import validate


def test_an_agent_stands_in_no_region():
    region = Graph("r", [Node(1, "me", "AGENT")])
    (problem,) = validate(Graph("g", [Node(1, "l", "LOOP", {"max_iterations": 1}, {"body": region})]))
    assert (problem.code, problem.path) == ("graph.placement", "nodes[0].regions.body.nodes[0]")


def test_exits_are_a_list_of_names():
    (problem,) = validate(Graph("g", [Node(1, "one", "CONST_STR", {"value": 1})], metadata={"exits": "one"}))
    assert (problem.code, problem.path, problem.message) == ("graph.exit", "metadata.exits", "`exits` is no list")
