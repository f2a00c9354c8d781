import networkx as nx
import pytest

from apxm.errors import GraphError
from apxm.graph.contract import from_json
from apxm.graph.graphx import from_networkx, to_networkx
from apxm.graph.model import Dependency, Edge, Graph, Node, Parameter, Program
from apxm.graph.validate import validate


def sample():
    g = Graph("g", metadata={"is_entry": False})
    topic = g.param("topic")
    a = g.ask("About {topic}")
    with g.map(g.param("files", "json")) as item:
        g.ask(f"{item}")
    b = g.branch_on_value(a)
    g.merge(g.ask("x", b.on("true"), topic, port=topic), g.ask("y", on=(b, "false"), order_after=a))
    return g


def test_a_graph_comes_back_equal():
    g = sample()
    assert from_networkx(to_networkx(g)) == g


def test_parallel_edges_and_their_order_are_kept():
    g = Graph("g", [Node(5, "a", "CONST_STR", {"value": 1}), Node(2, "w", "WAIT_ALL"), Node(9, "z", "WAIT_ALL")])
    g.edges = [Edge(5, 9), Edge(5, 2, port="b"), Edge(5, 2, Dependency.CONTROL), Edge(5, 2, port="a"), Edge(2, 9)]
    assert from_networkx(to_networkx(g)) == g


def test_every_reference_graph_comes_back_equal():
    from pathlib import Path

    for path in (Path(__file__).resolve().parents[3] / "artifacts" / "reference").glob("*.json"):
        authored = from_json(path.read_text())
        for g in [authored] if isinstance(authored, Graph) else [flow for agent in authored.agents for flow in agent.flows]:
            assert from_networkx(to_networkx(g)) == g
        assert isinstance(authored, Graph | Program)


def test_algorithms_of_networkx_work_on_it():
    g = sample()
    net = to_networkx(g)
    assert nx.is_directed_acyclic_graph(net)
    assert net.nodes[1]["op"] == "ASK"
    assert net.nodes["topic"]["kind"] == "parameter"


def test_a_graph_of_somebody_else_gets_ids_and_names():
    net = nx.DiGraph(name="theirs")
    net.add_node("load", op="CONST_STR", attributes={"value": [1]})
    net.add_node("join", op="WAIT_ALL")
    net.add_edge("load", "join")
    g = from_networkx(net)
    assert g == Graph("theirs", [Node(1, "load", "CONST_STR", {"value": [1]}), Node(2, "join", "WAIT_ALL")], [Edge(1, 2)])
    assert validate(g) == []
    assert from_networkx(net, name="ours").name == "ours"


def test_int_keys_stay_ids_and_others_get_free_ones():
    net = nx.DiGraph()
    for key in (7, "x", 3):
        net.add_node(key, op="WAIT_ALL")
    assert [node.id for node in from_networkx(net).nodes] == [7, 9, 3]


def test_what_is_no_graph_of_operations_is_refused():
    with pytest.raises(GraphError, match="undirected"):
        from_networkx(nx.Graph())
    with pytest.raises(GraphError, match="says no `op`"):
        from_networkx(nx.path_graph(2, create_using=nx.DiGraph))
    net = nx.DiGraph()
    net.add_node(1, op="WAIT_ALL")
    net.add_edge(1, 1, dependency="data")
    with pytest.raises(GraphError, match="expected Data, Control or Effect"):
        from_networkx(net)
    with pytest.raises(GraphError, match="names node 7"):
        to_networkx(Graph("g", [Node(1, "a", "WAIT_ALL")], [Edge(7, 1)]))
    with pytest.raises(GraphError, match="two nodes"):
        to_networkx(Graph("g", [Node(1, "a", "WAIT_ALL"), Node(1, "b", "WAIT_ALL")], [], [Parameter("p")]))
