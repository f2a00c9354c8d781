"""What canonicalising and validation make of edges that choose: references to their targets, cases, jumps, tested inputs."""

import pytest

from apxm.graph.canonical import canonical
from apxm.graph.model import Dependency, Edge, Graph, Node, Parameter
from apxm.graph.validate import validate

CONTROL, EFFECT = Dependency.CONTROL, Dependency.EFFECT


def const(id, value=1):
    return Node(id, f"n{id}", "CONST_STR", {"value": value})


def region(value):
    return Graph("r", [Node(1, "a", "CONST_STR", {"value": value})])


def form(*nodes, edges=(), parameters=()):
    """The canonical form; it must be valid and stay as it is."""
    graph = Graph("g", list(nodes), list(edges), [Parameter(name) for name in parameters])
    assert validate(graph) == []
    once = canonical(graph)
    assert canonical(once) == once
    return once


def problem(*nodes, edges=()):
    (found,) = validate(Graph("g", list(nodes), list(edges)))
    return found


# ---- edges that were missing -----------------------------------------------------------------------------------------
def test_a_missing_edge_to_a_node_without_inputs_is_a_control_edge():
    branch = Node(2, "b", "BRANCH_ON_VALUE", {"label_true": 3, "label_false": "n4"})
    graph = form(const(1), branch, const(3), const(4), edges=[Edge(1, 2)])
    assert graph.edges[1:] == [Edge(2, 3, CONTROL, label="true"), Edge(2, 4, CONTROL, label="false")]


def test_a_missing_edge_to_a_node_that_may_take_it_is_a_data_edge():
    switch = Node(2, "s", "SWITCH", {"cases": {"a": 3, "b": 4}})
    graph = form(const(1), switch, Node(3, "w", "WAIT_ALL"), Node(4, "r", "PRINT"), edges=[Edge(1, 2)])
    assert graph.edges[1:] == [Edge(2, 3, label="a"), Edge(2, 4, label="b")]


def test_a_missing_edge_to_a_node_that_has_all_its_inputs_is_a_control_edge():
    nodes = [const(1), Node(2, "b", "BRANCH_ON_VALUE", {"label_true": 4}), Node(3, "s", "LOOP_START"), Node(4, "e", "LOOP_END")]
    graph = form(*nodes, edges=[Edge(1, 2), Edge(1, 3), Edge(3, 4)])
    assert graph.edges[-1] == Edge(2, 4, CONTROL, label="true")


def test_an_input_that_is_named_later_counts_as_well():
    branch = Node(2, "b", "BRANCH_ON_VALUE", {"label_true": 4})
    end = Node(4, "e", "LOOP_END", {"count_token": 3})
    graph = form(const(1), branch, Node(3, "s", "LOOP_START"), end, edges=[Edge(1, 2), Edge(1, 3)])
    assert graph.edges[2:] == [Edge(2, 4, CONTROL, label="true"), Edge(3, 4)]


def test_the_first_missing_edge_to_a_return_carries_its_value():
    graph = form(const(1), Node(2, "b", "BRANCH_ON_VALUE", {"label_true": "r"}), Node(3, "r", "RETURN"), edges=[Edge(1, 2)])
    assert graph.edges[1:] == [Edge(2, 3, label="true")]


def test_a_return_that_has_its_value_cannot_wait_for_a_label():
    branch = Node(2, "b", "BRANCH_ON_VALUE", {"label_true": "r"})
    found = problem(const(1), branch, Node(3, "r", "RETURN"), edges=[Edge(1, 2), Edge(1, 3)])
    assert (found.code, found.expected) == ("graph.placement", "a Data edge; gate or order the node that feeds it")


# ---- cases -----------------------------------------------------------------------------------------------------------
def cases(attributes=(), regions=(), labels=()):
    nodes = [const(1), Node(2, "s", "SWITCH", dict(attributes), {name: region(name) for name in regions})]
    nodes += [Node(3 + i, f"on {label}", "WAIT_ALL") for i, label in enumerate(dict.fromkeys(labels))]
    at = {label: 3 + i for i, label in enumerate(dict.fromkeys(labels))}
    return form(*nodes, edges=[Edge(1, 2), *(Edge(2, at[label], label=label) for label in labels)]).nodes[1].attributes


def test_cases_are_written_out_in_the_order_of_regions_and_then_of_edges():
    assert cases(regions=["z", "default", "b"], labels=["y", "error", "a"]) == {"case_labels": ["z", "b", "y", "a"]}
    assert cases(labels=["z", "default", "a", "z"]) == {"case_labels": ["z", "a"]}
    assert cases({"case_labels": []}, regions=["z", "a"]) == {"case_labels": ["z", "a"]}


def test_cases_that_are_listed_stay_as_they_are():
    assert cases({"case_labels": ["a", "b", "z"]}, ["z"], ["a"]) == {"case_labels": ["a", "b", "z"]}
    assert cases(regions=["default"]) == {}


def test_a_case_named_error_is_refused():
    listed = problem(const(1), Node(2, "s", "SWITCH", {"case_labels": ["a", "error"]}), edges=[Edge(1, 2)])
    assert (listed.code, listed.path) == ("graph.label", "nodes[1].attributes.case_labels")
    assert "`error`: edges of that label are live when the node fails" in listed.message
    held = problem(const(1), Node(2, "s", "SWITCH", {}, {"error": region(1), "a": region(2)}), edges=[Edge(1, 2)])
    assert (held.code, held.path) == ("graph.label", "nodes[1].regions.error")


def test_a_pattern_that_is_only_the_label_of_an_edge_is_checked():
    nodes = [const(1), Node(2, "s", "SWITCH", {"match": "regex"}), Node(3, "w", "WAIT_ALL")]
    found = problem(*nodes, edges=[Edge(1, 2), Edge(2, 3, label="(a")])
    assert found.code == "graph.condition"


# ---- what is tested --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("op", "attributes", "regions", "port", "own"),
    [
        ("SWITCH", {"case_labels": ["a"]}, {"a": Graph("r", [const(1)], [], [Parameter("x")])}, "x", "discriminant"),
        ("MAP", {}, {"body": Graph("r", [const(1)], [], [Parameter("x")])}, "x", "items"),
        ("BRANCH_ON_VALUE", {}, {}, "pass", "token"),
    ],
)
def test_an_operation_that_tests_an_input_needs_one_that_is_positional_or_has_its_port(op, attributes, regions, port, own):
    node = Node(2, "n", op, attributes, regions)
    found = problem(const(1), node, edges=[Edge(1, 2, port=port)])
    assert (found.code, found.path, found.message) == ("graph.port", "nodes[1]", f"{op} `n` has only named inputs")
    assert found.expected == f"a Data edge with port `{own}`, or one without a port"
    assert validate(Graph("g", [const(1), node], [Edge(1, 2, port=port), Edge(1, 2, port=own)])) == []
    assert validate(Graph("g", [const(1), node], [Edge(1, 2, port=port), Edge(1, 2)])) == []


# ---- jumps -----------------------------------------------------------------------------------------------------------
def test_every_other_way_out_of_a_jump_is_passed_over_even_what_a_later_node_asks_for():
    nodes = [
        Node(1, "j", "JUMP", {"label": "end"}),
        Node(2, "text", "PRINT", {"message": "{{node_1}}"}),
        Node(3, "list", "WAIT_ALL", {"tokens": ["j"]}),
        Node(4, "end", "PRINT", {"message": "{{node_1}}"}),
        Node(5, "deep", "INV", {"capability": "c", "params_json": {"a": ["{{node_1}}"]}}),
    ]
    graph = form(*nodes, edges=[Edge(1, 5, EFFECT), Edge(1, 5, CONTROL)])
    assert graph.edges == [
        Edge(1, 5, EFFECT),
        Edge(1, 5, CONTROL, label="next"),
        Edge(1, 4, label="end"),
        Edge(1, 3, label="next"),
        Edge(1, 2, port="node_1", label="next"),
        Edge(1, 5, port="node_1", label="next"),
    ]


def test_the_target_of_a_jump_gets_its_value_where_only_its_text_asks_for_it():
    nodes = [Node(1, "j", "JUMP", {"label": "end"}), Node(2, "end", "PRINT", {"message": "{{node_1}}"})]
    graph = form(*nodes, edges=[Edge(1, 2, CONTROL)])
    assert graph.edges == [Edge(1, 2, CONTROL, label="end"), Edge(1, 2, port="node_1", label="end")]


@pytest.mark.parametrize("name", ["error", "next"])
def test_a_jump_to_a_node_whose_name_is_a_label_with_a_meaning_is_refused(name):
    found = problem(Node(1, "j", "JUMP", {"label": 3}), Node(2, "w", "WAIT_ALL"), Node(3, name, "WAIT_ALL"), edges=[Edge(1, 2)])
    assert (found.code, found.path) == ("graph.jump", "nodes[0].attributes.label")
    assert found.expected == "another name for that node"
