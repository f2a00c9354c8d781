from apxm.graph.validate import validate_json


def problems(*nodes, edges=()):
    """(code, path, message) of what a graph of these nodes breaks."""
    found = validate_json({"name": "g", "nodes": list(nodes), "edges": list(edges)})
    return [(problem.code, problem.path, problem.message) for problem in found]


def test_a_text_cannot_ask_for_the_value_of_its_own_node():
    ask = {"id": 1, "name": "a", "op": "ASK", "attributes": {"template_str": "{{node_1}}"}}
    assert problems(ask) == [("graph.template", "nodes[0].attributes.template_str", "{{node_1}} is this node itself")]
