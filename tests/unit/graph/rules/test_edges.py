import pytest

from apxm.graph.validate import validate_json


@pytest.mark.parametrize("port", [" ", "\t", ""])
def test_a_port_is_not_blank(port):
    nodes = [{"id": 1, "name": "one", "op": "CONST_STR", "attributes": {"value": 1}}, {"id": 2, "name": "all", "op": "WAIT_ALL"}]
    (problem,) = validate_json({"name": "g", "nodes": nodes, "edges": [{"from": 1, "to": 2, "port": port}]})
    assert (problem.code, problem.path, problem.message) == ("graph.port", "edges[0].port", "a blank port")
