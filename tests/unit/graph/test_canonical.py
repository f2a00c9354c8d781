import pytest

from apxm.graph.canonical import canonical
from apxm.graph.model import Dependency, Edge, Graph, Node, Parameter


def of(*nodes, edges=(), parameters=()):
    return Graph("g", list(nodes), list(edges), list(parameters))


def attributes(node, **more):
    problems = []
    form = canonical(of(node, **more), problems)
    return form.nodes[0].attributes, problems


@pytest.mark.parametrize(
    ("op", "given", "meant"),
    [
        ("ASK", {"prompt": "x"}, {"template_str": "x"}),
        ("ASK", {"template": "x", "max_tokens": 5.0}, {"template_str": "x", "max_output_tokens": 5}),
        ("THINK", {"budget_tokens": 7}, {"budget": 7}),
        ("MERGE", {"strategy": "CONCAT"}, {"mode": "concat"}),
        ("QMEM", {"space": "LTM", "sid": "s", "k": 3}, {"memory_tier": "ltm", "staging_id": "s", "limit": 3}),
        ("UMEM", {"tier": "stm", "key": "k"}, {"memory_tier": "stm", "key": "k"}),
        ("COMMUNICATE", {"target": "b", "message": "hi"}, {"recipient": "b", "message": "hi"}),
        ("INV", {"params": '{"a": [1]}', "arg_b": 2}, {"params_json": {"a": [1]}, "arg_b": 2}),
        (
            "INV",
            {"params_json": '{"a": {{node_3}}, "b": {topic}, "c": "{0}"}'},
            {"params_json": {"a": "{{node_3}}", "b": "{topic}", "c": "{0}"}},
        ),
        ("INV", {"params_json": " {0} "}, {"params_json": "{0}"}),
        ("ASK", {"output_schema": '{"type": "object"}', "model": None}, {"output_schema": {"type": "object"}}),
        ("GUARD", {"on_fail": "Skip"}, {"on_fail": "skip"}),
        ("CONST_STR", {"value": None}, {"value": None}),
    ],
)
def test_spellings_mean_the_canonical_attribute(op, given, meant):
    assert attributes(Node(1, "n", op, given)) == (meant | ({} if "mode" in meant or op != "MERGE" else {"mode": "array"}), [])


def test_two_spellings_of_one_attribute_must_agree():
    same, problems = attributes(Node(1, "n", "ASK", {"prompt": "x", "template_str": "x"}))
    assert (same, problems) == ({"template_str": "x"}, [])
    _, problems = attributes(Node(1, "n", "ASK", {"prompt": "x", "template_str": "y"}))
    assert [(p.code, p.path) for p in problems] == [("graph.attribute_value", "nodes[0].attributes.template_str")]


def test_malformed_argument_text_is_reported_with_line_and_column():
    _, problems = attributes(Node(1, "n", "INV", {"capability": "c", "params_json": '{"a": 1,\n "b" 2}'}))
    assert [p.code for p in problems] == ["graph.attribute_type"]
    assert "line 2, column 6" in problems[0].message


def test_the_graph_that_is_given_stays_as_it_is():
    graph = of(Node(1, "n", "ASK", {"prompt": "x"}), Node(2, "m", "WAIT_ALL", {"tokens": ["n"]}))
    canonical(graph)
    assert graph.nodes[0].attributes == {"prompt": "x"}
    assert graph.edges == []


@pytest.mark.parametrize("reference", [1, "1", "n", "node_1", "{{node_1}}"])
def test_a_predecessor_may_be_named_in_every_way(reference):
    graph = canonical(of(Node(1, "n", "CONST_STR", {"value": 1}), Node(2, "w", "WAIT_ALL", {"tokens": [reference]})))
    assert graph.edges == [Edge(1, 2)]
    assert graph.nodes[1].attributes == {}


def test_a_reference_to_a_parameter_becomes_an_edge_from_it():
    graph = canonical(of(Node(2, "w", "WAIT_ALL", {"tokens": ["{topic}"]}), parameters=[Parameter("topic")]))
    assert graph.edges == [Edge("topic", 2)]


def test_a_tested_value_that_is_not_the_first_input_gets_its_port():
    nodes = [Node(i, f"n{i}", "CONST_STR", {"value": i}) for i in (1, 2)]
    branch = Node(3, "b", "BRANCH_ON_VALUE", {"token": "n2"})
    assert canonical(of(*nodes, branch, edges=[Edge(1, 3), Edge(2, 3)])).edges[1] == Edge(2, 3, port="token")
    assert canonical(of(*nodes, branch, edges=[Edge(2, 3), Edge(1, 3)])).edges[0] == Edge(2, 3)
    assert canonical(of(*nodes, branch, edges=[Edge(1, 3)])).edges[1] == Edge(2, 3, port="token")


def test_branch_references_label_existing_edges_and_add_missing_ones():
    nodes = [Node(1, "n1", "CONST_STR", {"value": 1}), Node(3, "n3", "CONST_STR", {"value": 3}), Node(4, "n4", "WAIT_ALL")]
    branch = Node(2, "b", "BRANCH_ON_VALUE", {"true_label": 3, "label_false": "n4"})
    graph = canonical(of(*nodes, branch, edges=[Edge(1, 2), Edge(2, 3, Dependency.CONTROL)]))
    assert graph.edges == [Edge(1, 2), Edge(2, 3, Dependency.CONTROL, label="true"), Edge(2, 4, label="false")]


def test_a_label_that_is_no_node_renames_the_edges_that_carry_it():
    nodes = [Node(i, f"n{i}", "CONST_STR", {"value": i}) for i in (1, 3)]
    branch = Node(2, "b", "BRANCH_ON_VALUE", {"label_true": "yes", "label_false": "false"})
    assert canonical(of(*nodes, branch, edges=[Edge(1, 2), Edge(2, 3, label="yes")])).edges[1] == Edge(2, 3, label="true")


def test_cases_of_a_switch_become_labels():
    nodes = [Node(1, "n1", "CONST_STR", {"value": 1}), *(Node(i, f"n{i}", "WAIT_ALL") for i in (3, 4, 5))]
    switch = Node(2, "s", "SWITCH", {"cases": [{"label": "a", "node_id": 3}, {"label": "b", "node_id": "n4"}], "default": 5})
    graph = canonical(of(*nodes, switch, edges=[Edge(1, 2), Edge(2, 3), Edge(2, 4)]))
    assert graph.edges[1:] == [Edge(2, 3, label="a"), Edge(2, 4, label="b"), Edge(2, 5, label="default")]
    assert graph.nodes[-1].attributes == {"case_labels": ["a", "b"]}


def test_what_refers_to_nothing_is_reported_with_the_nearest_name():
    problems = []
    canonical(of(Node(1, "collect", "CONST_STR", {"value": 1}), Node(2, "w", "WAIT_ALL", {"tokens": ["colect"]})), problems)
    assert [(p.code, p.nearest, p.node) for p in problems] == [("graph.unknown_node", "collect", 2)]


def test_a_jump_gets_its_edge_and_passes_over_the_others():
    nodes = [Node(1, "j", "JUMP", {"target": "end"}), Node(2, "mid", "CONST_STR", {"value": 1}), Node(3, "end", "WAIT_ALL")]
    graph = canonical(of(*nodes, edges=[Edge(1, 2, Dependency.CONTROL)]))
    assert graph.edges == [Edge(1, 2, Dependency.CONTROL, label="next"), Edge(1, 3, label="end")]


def test_an_empty_prompt_at_a_root_is_about_the_first_parameter():
    graph = canonical(of(Node(1, "a", "ASK"), parameters=[Parameter("q", "string")]))
    assert graph.nodes[0].attributes == {"template_str": "{0}"}
    assert graph.parameters == [Parameter("q", "str")]
    assert canonical(of(Node(1, "a", "ASK"))).nodes[0].attributes == {}


def branching(merge_inputs, *, op="BRANCH_ON_VALUE", labels=("true", "false"), extra=()):
    nodes = [Node(1, "b", op)] + [Node(i, f"n{i}", "ASK", {"template_str": "x"}) for i in (2, 3, 4)] + [Node(9, "m", "MERGE")]
    edges = [Edge(1, 2, label=labels[0]), Edge(1, 3, label=labels[1]), *extra]
    form = canonical(of(*nodes, edges=[*edges, *(Edge(i, 9) for i in merge_inputs)]))
    return form.nodes[-1].attributes["mode"]


def test_a_merge_of_the_sides_of_one_routing_node_is_any():
    assert branching((2, 3)) == "any"
    assert branching((2, 3), op="SWITCH", labels=("a", "b")) == "any"


def test_a_merge_further_down_the_sides_is_any_too():
    assert branching((4, 3), extra=[Edge(2, 4)]) == "any"


def test_a_merge_of_anything_else_is_array():
    assert branching((2, 4)) == "array"
    assert branching((2, 3), labels=("true", "true")) == "array"
    assert branching((2, 4), extra=[Edge(2, 4)]) == "array"
    assert branching((2,)) == "array"


def test_a_result_and_its_recovery_exclude_each_other():
    nodes = [Node(1, "try", "ASK", {"template_str": "x"}), Node(2, "use", "ASK"), Node(3, "mend", "ASK"), Node(4, "m", "MERGE")]
    edges = [Edge(1, 2), Edge(1, 3, label="error"), Edge(2, 4), Edge(3, 4)]
    assert canonical(of(*nodes, edges=edges)).nodes[3].attributes["mode"] == "any"


def test_regions_are_made_canonical_too():
    inner = of(Node(1, "a", "ASK", {"prompt": "x"}))
    graph = canonical(of(Node(1, "m", "MAP", {}, {"body": inner})))
    assert graph.nodes[0].regions["body"].nodes[0].attributes == {"template_str": "x"}


def test_cases_are_a_list_or_a_map():
    _, (problem,) = attributes(Node(2, "s", "SWITCH", {"cases": 5, "case_labels": ["a"]}))
    assert (problem.code, problem.path) == ("graph.attribute_type", "nodes[0].attributes.cases")
    assert "[{label, node_id}]" in problem.expected
