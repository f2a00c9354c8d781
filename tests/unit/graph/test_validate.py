import re
from pathlib import Path

import pytest

from apxm.errors import CODES, GraphError
from apxm.graph.contract import from_json, to_map
from apxm.graph.model import Edge, Graph, Node, Parameter
from apxm.graph.validate import require_valid, validate, validate_json, warnings

CONST = {"id": 1, "name": "one", "op": "CONST_STR", "attributes": {"value": 1}}


def node(id, op, name=None, regions=None, **attributes):
    out = {"id": id, "name": name or f"n{id}", "op": op}
    if attributes:
        out["attributes"] = attributes
    if regions:
        out["regions"] = regions
    return out


def edge(source, target, **more):
    return {"from": source, "to": target, **more}


def graph(*nodes, edges=(), parameters=(), **more):
    parameters = [{"name": name, "type_name": kind} for name, kind in parameters]
    return {"name": "g", "nodes": list(nodes), "edges": list(edges), "parameters": parameters, **more}


def body(*nodes, edges=(), parameters=()):
    data = graph(*nodes, edges=edges, parameters=[(name, "json") for name in parameters])
    del data["name"]
    return data


ASK = {"template_str": "x"}
INNER = body(node(1, "ASK", **ASK))

# (a graph that breaks one rule, its code, the path, something the message or the expectation says)
BROKEN = {
    "graph name": (graph(CONST) | {"name": "  "}, "graph.name", "name", "no name"),
    "no nodes": (graph(), "graph.empty", "nodes", "one at least"),
    "id out of range": (graph(node(-1, "WAIT_ALL")), "graph.node_id", "nodes[0].id", "from 0"),
    "id used twice": (graph(CONST, node(1, "WAIT_ALL")), "graph.node_id", "nodes[1].id", "that of `one`"),
    "blank node name": (graph(node(1, "WAIT_ALL", " ")), "graph.name", "nodes[0].name", "not blank"),
    "unknown operation": (graph(node(1, "ask", **ASK)), "graph.unknown_op", "nodes[0].op", "close: `ASK`"),
    "unknown attribute": (
        graph(node(1, "ASK", promt="x", template_str="y")),
        "graph.unknown_attribute",
        "nodes[0].attributes.promt",
        "close: `prompt`",
    ),
    "missing attribute": (graph(node(1, "CONST_STR")), "graph.missing_attribute", "nodes[0].attributes", "`value`"),
    "none of what it needs": (
        graph(node(1, "QMEM", limit=3)),
        "graph.missing_attribute",
        "nodes[0]",
        "the attribute `query` or a Data in-edge",
    ),
    "an empty prompt": (graph(node(1, "ASK", template_str="")), "graph.missing_attribute", "nodes[0]", "`template_str`"),
    "attribute type": (
        graph(node(1, "ASK", template_str=5)),
        "graph.attribute_type",
        "nodes[0].attributes.template_str",
        "a text",
    ),
    "bool is no int": (graph(node(1, "ASK", seed=True, **ASK)), "graph.attribute_type", "nodes[0].attributes.seed", "an int"),
    "names are texts": (
        graph(node(1, "ASK", tools=["a", 3], **ASK)),
        "graph.attribute_type",
        "nodes[0].attributes.tools",
        "a list of texts",
    ),
    "int too large": (graph(node(1, "CONST_STR", value=[2**63])), "graph.attribute_type", "nodes[0].attributes.value", "[0]"),
    "arguments are no map": (
        graph(node(1, "INV", capability="c", params_json=[1])),
        "graph.attribute_type",
        "nodes[0].attributes.params_json",
        "a map",
    ),
    "arguments are no json": (
        graph(node(1, "INV", capability="c", params_json="{")),
        "graph.attribute_type",
        "nodes[0].attributes.params_json",
        "line 1",
    ),
    "no choice": (
        graph(CONST, node(2, "MERGE", mode="aray"), edges=[edge(1, 2)]),
        "graph.attribute_value",
        "nodes[1].attributes.mode",
        "close: `array`",
    ),
    "below the least": (
        graph(node(1, "ASK", timeout_ms=0, **ASK)),
        "graph.attribute_value",
        "nodes[0].attributes.timeout_ms",
        "at least 1",
    ),
    "edge from nowhere": (
        graph(CONST, edges=[edge(10, 1, dependency="Control")]),
        "graph.unknown_node",
        "edges[0].from",
        "no node 10",
    ),
    "edge to nowhere": (graph(CONST, edges=[edge(1, 11)]), "graph.unknown_node", "edges[0].to", "close: `1`"),
    "unknown parameter": (
        graph(node(1, "WAIT_ALL"), edges=[edge("topik", 1)], parameters=[("topic", "str")]),
        "graph.unknown_parameter",
        "edges[0].from",
        "close: `topic`",
    ),
    "a node name in from": (
        graph(CONST, node(2, "WAIT_ALL"), edges=[edge("one", 2)]),
        "graph.unknown_parameter",
        "edges[0].from",
        "the id of that node",
    ),
    "self loop": (graph(node(1, "WAIT_ALL"), edges=[edge(1, 1)]), "graph.cycle", "edges[0]", "feeds itself"),
    "cycle": (
        graph(node(1, "WAIT_ALL"), node(2, "WAIT_ALL"), node(3, "WAIT_ALL"), edges=[edge(1, 2), edge(2, 3), edge(3, 1)]),
        "graph.cycle",
        "nodes[0]",
        "`n1` -> `n2` -> `n3` -> `n1`",
    ),
    "cycle through a text": (
        graph(node(1, "ASK", template_str="{{node_2}}"), node(2, "ASK", template_str="x"), edges=[edge(1, 2)]),
        "graph.cycle",
        "nodes[0]",
        "use LOOP",
    ),
    "port of a gate": (
        graph(CONST, node(2, "WAIT_ALL"), edges=[edge(1, 2, dependency="Control", port="a")]),
        "graph.port",
        "edges[0].port",
        "a Data edge",
    ),
    "port fed twice": (
        graph(CONST, node(2, "WAIT_ALL"), edges=[edge(1, 2, port="a"), edge(1, 2, port="a")]),
        "graph.port",
        "edges[1].port",
        "fed twice",
    ),
    "unknown port": (
        graph(CONST, node(2, "BRANCH_ON_VALUE"), edges=[edge(1, 2, port="tokn"), edge(1, 2)]),
        "graph.port",
        "edges[0].port",
        "close: `token`",
    ),
    "label of a parameter": (
        graph(node(1, "WAIT_ALL"), edges=[edge("p", 1, label="true")], parameters=[("p", "str")]),
        "graph.label",
        "edges[0].label",
        "a node",
    ),
    "label nobody chooses": (
        graph(CONST, node(2, "WAIT_ALL"), edges=[edge(1, 2, label="true")]),
        "graph.label",
        "edges[0].label",
        "cannot choose `true`",
    ),
    "label that is no case": (
        graph(CONST, node(2, "SWITCH", case_labels=["left"]), node(3, "WAIT_ALL"), edges=[edge(1, 2), edge(2, 3, label="lefd")]),
        "graph.label",
        "edges[1].label",
        "close: `left`",
    ),
    "too few inputs": (graph(node(1, "MERGE", mode="any")), "graph.arity", "nodes[0]", "at least 1"),
    "too many inputs": (
        graph(CONST, node(2, "CONST_STR", value=2), edges=[edge(1, 2)]),
        "graph.arity",
        "nodes[1]",
        "a Control edge says when",
    ),
    "a root given too much": (
        graph(node(1, "RETURN"), parameters=[("a", "str"), ("b", "str")]),
        "graph.arity",
        "nodes[0]",
        "given as a root",
    ),
    "unknown name in a text": (
        graph(node(1, "ASK", template_str="{topik}"), parameters=[("topic", "str")]),
        "graph.template",
        "nodes[0].attributes.template_str",
        "close: `topic`",
    ),
    "unknown position in a text": (
        graph(CONST, node(2, "ASK", template_str="{1}"), edges=[edge(1, 2)]),
        "graph.template",
        "nodes[1].attributes.template_str",
        "1 positional input",
    ),
    "unknown node in a text": (
        graph(node(1, "ASK", template_str="{{node_9}}")),
        "graph.template",
        "nodes[0].attributes.template_str",
        "no node of this graph",
    ),
    "unknown name deep in arguments": (
        graph(node(1, "INV", capability="c", params_json={"a": ["{x}"]})),
        "graph.template",
        "nodes[0].attributes.params_json",
        "{x}",
    ),
    "condition": (
        graph(CONST, node(2, "GUARD", condition="not_emty"), edges=[edge(1, 2)]),
        "graph.condition",
        "nodes[1].attributes.condition",
        "`not_emty` is no condition; expected one of not_empty",
    ),
    "case pattern": (
        graph(CONST, node(2, "SWITCH", case_labels=["("], match="regex"), edges=[edge(1, 2)]),
        "graph.condition",
        "nodes[1].attributes.case_labels",
        "RE2",
    ),
    "case twice": (
        graph(CONST, node(2, "SWITCH", case_labels=["a", "a"]), edges=[edge(1, 2)]),
        "graph.attribute_value",
        "nodes[1].attributes.case_labels",
        "twice",
    ),
    "no case": (graph(CONST, node(2, "SWITCH"), edges=[edge(1, 2)]), "graph.missing_attribute", "nodes[1]", "has no case"),
    "case as region and edge": (
        graph(CONST, node(2, "SWITCH", regions={"a": INNER}), node(3, "WAIT_ALL"), edges=[edge(1, 2), edge(2, 3, label="a")]),
        "graph.region",
        "nodes[1].regions.a",
        "not both",
    ),
    "region that is no case": (
        graph(CONST, node(2, "SWITCH", case_labels=["left"], regions={"lefd": INNER}), edges=[edge(1, 2)]),
        "graph.region",
        "nodes[1].regions.lefd",
        "close: `left`",
    ),
    "region not allowed": (
        graph(node(1, "ASK", regions={"body": INNER}, **ASK)),
        "graph.region",
        "nodes[0].regions.body",
        "no regions",
    ),
    "region misspelt": (
        graph(node(1, "TRY_CATCH", regions={"try": INNER, "cach": INNER})),
        "graph.region",
        "nodes[0].regions.cach",
        "close: `catch`",
    ),
    "region missing": (graph(CONST, node(2, "MAP"), edges=[edge(1, 2)]), "graph.region", "nodes[1]", "no region `body`"),
    "try missing": (
        graph(node(1, "TRY_CATCH", regions={"catch": INNER})),
        "graph.missing_attribute",
        "nodes[0]",
        "a region or edge `try`",
    ),
    "rule broken in a region": (
        graph(CONST, node(2, "MAP", regions={"body": body(node(7, "NOPE"))}), edges=[edge(1, 2)]),
        "graph.unknown_op",
        "nodes[1].regions.body.nodes[0].op",
        "NOPE",
    ),
    "region sees nothing else": (
        graph(
            CONST,
            node(2, "MAP", regions={"body": body(node(7, "ASK", template_str="{topic}"))}),
            edges=[edge(1, 2)],
            parameters=[("topic", "str")],
        ),
        "graph.template",
        "nodes[1].regions.body.nodes[0].attributes.template_str",
        "{topic}",
    ),
    "region parameter without input": (
        graph(CONST, node(2, "MAP", regions={"body": body(node(7, "ASK", **ASK), parameters=["itm"])}), edges=[edge(1, 2)]),
        "graph.region_parameter",
        "nodes[1].regions.body.parameters[0]",
        "close: `item`",
    ),
    "input without region parameter": (
        graph(
            CONST,
            node(2, "LOOP", max_iterations=1, regions={"body": body(node(7, "ASK", **ASK))}),
            edges=[edge(1, 2, port="text")],
        ),
        "graph.region_parameter",
        "nodes[1]",
        "`text`",
    ),
    "carried name": (
        graph(node(1, "LOOP", max_iterations=1, carry=["x"], regions={"body": INNER})),
        "graph.region_parameter",
        "nodes[0].attributes.carry",
        "cannot be carried",
    ),
    "loop without bound": (
        graph(node(1, "LOOP", regions={"body": INNER})),
        "graph.missing_attribute",
        "nodes[0].attributes",
        "max_iterations",
    ),
    "parameter type": (
        graph(CONST, parameters=[("a", "strin")]),
        "graph.parameter_type",
        "parameters[0].type_name",
        "close: `str`",
    ),
    "parameter twice": (
        graph(CONST, parameters=[("a", "str"), ("a", "str")]),
        "graph.duplicate_name",
        "parameters[1].name",
        "differ",
    ),
    "parameter that is a position": (graph(CONST, parameters=[("0", "str")]), "graph.name", "parameters[0].name", "position"),
    "yield in a flow": (graph(CONST, node(2, "YIELD"), edges=[edge(1, 2)]), "graph.placement", "nodes[1]", "RETURN"),
    "edge out of return": (
        graph(CONST, node(2, "RETURN"), node(3, "WAIT_ALL"), edges=[edge(1, 2), edge(2, 3)]),
        "graph.placement",
        "edges[1].from",
        "nothing comes after",
    ),
    "gate into return": (
        graph(CONST, node(2, "RETURN"), edges=[edge(1, 2), edge(1, 2, dependency="Control")]),
        "graph.placement",
        "edges[1].dependency",
        "a Data edge",
    ),
    "edge into agent": (
        graph(CONST, node(2, "AGENT"), node(3, "PRINT"), edges=[edge(1, 2, dependency="Control"), edge(1, 3)]),
        "graph.placement",
        "edges[0].to",
        "no in-edge",
    ),
    "second agent": (graph(node(1, "AGENT"), node(2, "AGENT")), "graph.placement", "nodes[1]", "one AGENT"),
    "jump back": (
        graph(node(1, "WAIT_ALL", "start"), node(2, "JUMP", label="start"), edges=[edge(1, 2)]),
        "graph.jump",
        "nodes[1]",
        "LOOP",
    ),
    "jump to nowhere": (
        graph(node(1, "JUMP", label="finsh"), node(2, "WAIT_ALL", "finish")),
        "graph.jump",
        "nodes[0].attributes.label",
        "close: `finish`",
    ),
    "jump to several": (
        graph(
            node(1, "JUMP", label="end"),
            node(2, "WAIT_ALL", "end"),
            node(3, "WAIT_ALL", "end"),
            node(4, "RETURN"),
            edges=[edge(3, 4)],
        ),
        "graph.jump",
        "nodes[0].attributes.label",
        "several nodes",
    ),
    "loop without end": (graph(node(1, "LOOP_START", loop="a")), "graph.loop_pair", "nodes[0]", "1 LOOP_START and 0 LOOP_END"),
    "loop without path": (
        graph(CONST, node(2, "LOOP_START"), node(3, "LOOP_END"), edges=[edge(1, 3)]),
        "graph.loop_pair",
        "nodes[1]",
        "no path leads",
    ),
    "way out of a loop": (
        graph(
            node(1, "LOOP_START"), node(2, "ASK"), node(3, "LOOP_END"), node(4, "ASK"), edges=[edge(1, 2), edge(2, 3), edge(2, 4)]
        ),
        "graph.loop_pair",
        "edges[2]",
        "only through LOOP_END",
    ),
    "two exits of one name": (graph(CONST, node(2, "CONST_STR", "one", value=2)), "graph.exit", "nodes[1].name", "two exits"),
    "unknown exit": (graph(CONST, metadata={"exits": ["on"]}), "graph.exit", "metadata.exits[0]", "close: `one`"),
    "label that refers to nothing": (
        graph(CONST, node(2, "BRANCH_ON_VALUE", label_true="n9"), edges=[edge(1, 2)]),
        "graph.unknown_node",
        "nodes[1].attributes.label_true",
        "a node id",
    ),
    "spelt twice": (
        graph(node(1, "ASK", prompt="a", template="b")),
        "graph.attribute_value",
        "nodes[0].attributes.template",
        "`template_str` once",
    ),
    "unknown key": (graph(CONST | {"atributes": {}}), "graph.unknown_key", "nodes[0].atributes", "close: `attributes`"),
    "missing key": ({"name": "g", "nodes": [CONST]}, "graph.shape", "", "`edges` is missing"),
    "wrong kind": (graph(CONST) | {"edges": {}}, "graph.shape", "edges", "a list"),
    "dependency": (
        graph(CONST, node(2, "WAIT_ALL"), edges=[edge(1, 2, dependency="data")]),
        "graph.shape",
        "edges[0].dependency",
        "close: `Data`",
    ),
    "not json": ('{"name": "g",\n "nodes" []}', "graph.json", "", "line 2, column 10"),
    "key twice": (
        '{"name": "g", "name": "h", "nodes": [{"id": 1, "name": "a", "op": "WAIT_ALL"}], "edges": []}',
        "graph.json",
        "",
        "stands twice",
    ),
    "program without agents": ({"agents": []}, "graph.empty", "agents", "one agent"),
    "agent without flows": ({"agents": [{"name": "a", "flows": []}]}, "graph.empty", "agents[0].flows", "no flow"),
    "two agents of a name": (
        {"agents": [{"name": "a", "flows": [graph(CONST)]}, {"name": "a", "flows": [graph(CONST)]}]},
        "graph.duplicate_name",
        "agents[1].name",
        "differ",
    ),
    "two flows of a name": (
        {"agents": [{"name": "a", "flows": [graph(CONST), graph(CONST)]}]},
        "graph.duplicate_name",
        "agents[0].flows[1].name",
        "two flows",
    ),
    "rule broken in a flow": (
        {"agents": [{"name": "a", "flows": [graph(node(1, "NOPE"))]}]},
        "graph.unknown_op",
        "agents[0].flows[0].nodes[0].op",
        "NOPE",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_reported_once_with_place_and_expectation(name):
    data, code, path, said = BROKEN[name]
    problems = validate_json(data)
    assert [(p.code, p.path) for p in problems] == [(code, path)], problems
    assert said in str(problems[0])


def test_every_code_of_a_graph_has_a_graph_that_breaks_it():
    shown = {code for _, code, _, _ in BROKEN.values()}
    deep = {"graph.depth"}  # see the test below
    advice = {"graph.never_fires", "graph.unused", "graph.shadowed"}
    calls = {"graph.unknown_flow", "graph.argument"}  # see rules/test_calls.py
    assert shown | deep | advice | calls == {code for code in CODES if code.startswith("graph.")}


def test_all_rules_are_reported_in_one_pass():
    everything = graph(
        node(1, "ASK", promt="x"),
        node(1, "NOPE"),
        node(3, "GUARD", condition="maybe"),
        edges=[edge(1, 9), edge(3, 3), edge(1, 3, label="true")],
        parameters=[("a", "text "), ("a", "str")],
    ) | {"extra": 1}
    codes = {problem.code for problem in validate_json(everything)}
    assert codes >= {
        "graph.unknown_key",
        "graph.unknown_attribute",
        "graph.node_id",
        "graph.unknown_op",
        "graph.condition",
        "graph.unknown_node",
        "graph.cycle",
        "graph.label",
        "graph.parameter_type",
        "graph.duplicate_name",
    }


def test_every_cycle_is_named():
    nodes = [node(i, "WAIT_ALL") for i in range(1, 5)]
    problems = validate_json(graph(*nodes, edges=[edge(1, 2), edge(2, 1), edge(3, 4), edge(4, 3), edge(2, 3)]))
    assert [p.message for p in problems] == ["a cycle: `n1` -> `n2` -> `n1`", "a cycle: `n3` -> `n4` -> `n3`"]


def nested(depth):
    inner = body(node(1, "ASK", **ASK))
    for _ in range(depth):
        inner = body(node(1, "LOOP", max_iterations=1, regions={"body": inner}))
    return inner | {"name": "g"}


def test_regions_nest_to_a_depth_of_32():
    assert validate_json(nested(32)) == []
    assert {p.code for p in validate_json(nested(33))} >= {"graph.depth"}
    assert validate_json(nested(200)) != []


def test_overlapping_loops_are_refused_and_nested_ones_are_not():
    nodes = [
        node(1, "LOOP_START", loop="a"),
        node(2, "LOOP_START", loop="b"),
        node(3, "LOOP_END", loop="b"),
        node(4, "LOOP_END", loop="a"),
    ]
    assert validate_json(graph(*nodes, edges=[edge(1, 2), edge(2, 3), edge(3, 4)])) == []
    crossed = [edge(1, 2), edge(2, 4), edge(4, 3)]
    assert "graph.loop_pair" in {p.code for p in validate_json(graph(*nodes, edges=crossed))}


def test_region_parameters_bind_by_port_then_in_order():
    region = body(node(1, "ASK", template_str="{a} {b} {item} {index}"), parameters=["a", "b", "item", "index"])
    mapped = node(3, "MAP", regions={"body": region})
    nodes = (node(1, "CONST_STR", value=[1]), node(2, "CONST_STR", value="b"), mapped)
    assert validate_json(graph(*nodes, edges=[edge(1, 3), edge(2, 3, port="b"), edge(2, 3)])) == []
    unbound = validate_json(graph(*nodes, edges=[edge(1, 3), edge(2, 3, port="b")]))
    assert [p.path for p in unbound] == ["nodes[2].regions.body.parameters[0]"]


def test_a_carried_name_needs_no_input():
    region = body(node(1, "ASK", template_str="{text}"), parameters=["text", "iteration"])
    assert validate_json(graph(node(1, "LOOP", max_iterations=2, carry=["text"], regions={"body": region}))) == []


def test_return_may_stand_in_a_region_and_yield_too():
    region = body(node(1, "ASK", **ASK), node(2, "YIELD"), node(3, "RETURN"), edges=[edge(1, 2), edge(1, 3, label="error")])
    assert validate_json(graph(node(1, "LOOP", max_iterations=1, regions={"body": region}))) == []


def test_the_error_label_is_always_allowed():
    assert validate_json(graph(node(1, "ASK", **ASK), node(2, "ERR"), edges=[edge(1, 2, label="error")])) == []


def test_require_valid_gives_the_canonical_form_or_every_problem():
    form = require_valid(Graph("g", [Node(1, "a", "ASK", {"prompt": "x"})]))
    assert form.nodes[0].attributes == {"template_str": "x"}
    with pytest.raises(GraphError, match=r"`g` breaks 2 rules\n.*graph.unknown_node.*\n.*graph.unknown_op") as caught:
        require_valid(Graph("g", [Node(1, "a", "AKS")], [Edge(7, 1)]))
    assert len(caught.value.problems) == 2
    assert caught.value.code == "graph"


def test_warnings_name_what_is_probably_a_mistake():
    data = graph(
        CONST,
        node(2, "BRANCH_ON_VALUE"),
        node(3, "ASK", "same", template_str="a"),
        node(4, "ASK", "same", template_str="b", fallback=0),
        node(5, "WAIT_ALL"),
        node(6, "ASK", "meet", template_str="c"),
        node(7, "CONST_STR", "lonely", value=0),
        node(8, "RETURN"),
        edges=[
            edge(1, 2),
            edge(2, 3, label="true"),
            edge(2, 4, label="false"),
            edge(3, 6),
            edge(4, 6),
            edge(4, 5, label="error"),
            edge(6, 8),
        ],
    )
    found = [(p.code, p.node) for p in warnings(from_json(data))]
    assert found == [
        ("graph.duplicate_name", 4),
        ("graph.shadowed", 4),
        ("graph.never_fires", 6),
        ("graph.unused", 5),
        ("graph.unused", 7),
    ]
    assert warnings(Graph("g", [Node(1, "a", "NOPE")])) == []


def test_a_valid_graph_of_ten_thousand_nodes_is_checked_without_recursion():
    nodes = [Node(i, f"n{i}", "WAIT_ALL") for i in range(10_000)]
    assert validate(Graph("chain", nodes, [Edge(i, i + 1) for i in range(9_999)])) == []
    edges = [Edge(i, (i + 1) % 10_000) for i in range(10_000)]
    (problem,) = validate(Graph("ring", nodes, edges))
    assert problem.message.endswith("`n11` -> ... -> `n0`")


REFERENCE = Path(__file__).resolve().parents[3] / "artifacts" / "reference"


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("*.json")), ids=lambda path: path.stem)
def test_graphs_in_the_spellings_of_the_reference_load_and_validate(path):
    text = path.read_text()
    assert validate_json(text) == []
    authored = from_json(text)
    assert warnings(authored) == []
    assert from_json(to_map(authored)) == authored


def test_there_are_reference_graphs():
    assert len(list(REFERENCE.glob("*.json"))) >= 15


def test_a_problem_says_where_what_and_the_nearest_spelling():
    (problem,) = validate(Graph("g", [Node(1, "a", "ASK", {"promt": "{x}", "prompt": "y"})]))
    assert problem.to_map() == {
        "code": "graph.unknown_attribute",
        "node": 1,
        "path": "nodes[0].attributes.promt",
        "message": "ASK has no attribute `promt`",
        "expected": "one of those that `apxm ops show ASK` lists",
        "nearest": "prompt",
    }
    assert re.match(r"nodes\[0\]\.attributes\.promt: ASK has no attribute `promt`; expected .*; close: `prompt`", str(problem))


def test_parameters_reach_the_placeholders_of_a_root():
    root = Graph("g", [Node(1, "a", "ASK", {"prompt": "{0} and {1} and {b}"})], [], [Parameter("a"), Parameter("b")])
    assert validate(root) == []
