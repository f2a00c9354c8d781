from __future__ import annotations

from typing import Any

import pytest

from apxm.artifact.format import CapabilityFacts
from apxm.compiler.compile import compile_report
from tests.unit.compiler.view import attributes, const, edge, exits, inputs, names, node, op

PURE = {"calc": CapabilityFacts("pure"), "look": CapabilityFacts("read")}


def _run(nodes: list[Any], edges: list[Any], which: str, **more: Any):
    """The dag at O1 with what one pass did and declined."""
    graph = {"name": "g", "nodes": nodes, "edges": [edge(*e) for e in edges], **more}
    artifact, report = compile_report(graph, capabilities=PURE)
    log = next(log for log in report.passes if log.name == which)
    return artifact.into_dag(), [f"{n.node}: {n.text}" for n in log.did], [f"{n.node}: {n.text}" for n in log.declined]


# prompts


def test_an_empty_prompt_becomes_its_first_input():
    dag, did, _ = _run([const(1), node(2, "ASK"), node(3, "THINK", prompt="")], [(1, 2), (2, 3, "@draft")], "prompts")
    assert attributes(dag, "b")["template_str"] == "{0}"
    assert attributes(dag, "c")["template_str"] == "{draft}"
    assert len(did) == 2


def test_inputs_that_no_placeholder_takes_follow_the_prompt():
    nodes = [const(1), const(2), node(3, "ASK", prompt="Say { it }:"), node(4, "ASK", prompt="x")]
    dag, did, _ = _run(nodes, [(1, 3, "@why"), (2, 3), (1, 4, "Control")], "prompts")
    assert attributes(dag, "c")["template_str"] == "Say { it }:\n\nContext 1: {0}\n\nContext 2: {why}"
    assert (attributes(dag, "d")["template_str"], len(did)) == ("x", 1)


def test_a_prompt_with_placeholders_says_all_there_is():
    dag, did, _ = _run([const(1), const(2), node(3, "ASK", prompt="{1}")], [(1, 3), (2, 3)], "prompts")
    assert (attributes(dag, "c")["template_str"], did) == ("{1}", [])


def test_a_prompt_whose_input_has_no_name_for_a_placeholder_is_declined():
    dag, _, declined = _run([const(1), node(2, "ASK")], [(1, 2, "@my draft")], "prompts")
    assert "template_str" not in attributes(dag, "b")
    assert declined == ["b: an input whose port cannot be a placeholder"]


# constants


def test_a_list_of_constants_is_a_constant():
    dag, _, _ = _run([const(1, 1), const(2, [2]), node(3, "WAIT_ALL"), node(4, "RETURN")], [(1, 3), (2, 3), (3, 4)], "constants")
    assert (names(dag), op(dag, "c"), attributes(dag, "c")) == (["c", "d"], "CONST_STR", {"value": [1, [2]]})


def test_texts_of_constants_are_joined_as_a_run_would_join_them():
    nodes = [const(1, "a"), const(2, {"b": None}), node(3, "MERGE", mode="concat"), node(4, "RETURN")]
    dag, _, _ = _run(nodes, [(1, 3), (2, 3), (3, 4)], "constants")
    assert attributes(dag, "c") == {"value": 'a{"b": null}'}


def test_lists_of_lists_of_constants_fold_too():
    nodes = [const(1, 1), node(2, "WAIT_ALL"), node(3, "WAIT_ALL"), node(4, "RETURN")]
    dag, _, _ = _run(nodes, [(1, 2), (2, 3), (3, 4)], "constants")
    assert attributes(dag, "c") == {"value": [[1]]}


@pytest.mark.parametrize(
    ("extra_nodes", "extra_edges", "attrs"),
    [
        ([node(5, "BRANCH_ON_VALUE")], [(1, 5), (5, 2, "Control", "true")], {}),  # the constant may not come
        ([node(5, "PRINT", message="x")], [(5, 2, "Effect")], {}),  # the constant carries an order
        ([], [], {"retries": 3}),
    ],
)
def test_what_is_not_only_a_list_of_constants_is_not_folded(extra_nodes, extra_edges, attrs):
    nodes = [const(1, True), const(2), node(3, "WAIT_ALL", **attrs), node(4, "RETURN"), *extra_nodes]
    dag, did, _ = _run(nodes, [(1, 3), (2, 3), (3, 4), *extra_edges], "constants")
    assert (op(dag, "c"), did) == ("WAIT_ALL", [])


def test_a_large_constant_is_not_copied_into_a_list():
    nodes = [const(1, "x" * 5000), node(2, "WAIT_ALL"), node(3, "RETURN")]
    dag, _, declined = _run(nodes, [(1, 2), (2, 3)], "constants")
    assert op(dag, "b") == "WAIT_ALL"
    assert "4096" in declined[0]


def test_what_gates_a_folded_node_still_does():
    nodes = [const(1), node(2, "WAIT_ALL"), node(3, "PRINT", message="x"), node(4, "RETURN")]
    dag, _, _ = _run(nodes, [(1, 2), (3, 2, "Control"), (2, 4)], "constants")
    assert (op(dag, "b"), inputs(dag, "b")) == ("CONST_STR", ["~c"])


# duplicates


def test_equal_pure_nodes_become_one():
    nodes = [
        const(1),
        node(2, "INV", capability="calc"),
        node(3, "INV", capability="calc"),
        node(4, "WAIT_ALL"),
        node(5, "RETURN"),
    ]
    dag, did, _ = _run(nodes, [(1, 2), (1, 3), (2, 4), (3, 4), (4, 5)], "duplicates")
    assert inputs(dag, "d") == ["b", "b"]
    assert did == ["c: the same as `b`, which stands for it now"]


def test_what_follows_equal_nodes_is_found_equal_too():
    nodes = [const(1), *(node(i, "INV", capability="calc") for i in (2, 3, 4, 5)), node(6, "WAIT_ALL"), node(7, "RETURN")]
    dag, _, _ = _run(nodes, [(1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 6), (6, 7)], "duplicates")
    assert inputs(dag, "f") == ["d", "d"]


def test_the_one_that_is_an_exit_stays():
    nodes = [const(1), node(2, "INV", capability="calc"), node(3, "INV", capability="calc"), node(4, "PRINT", message="{0}")]
    dag, _, _ = _run(nodes, [(1, 2), (1, 3), (2, 4)], "duplicates", metadata={"exits": ["c", "d"]})
    assert (names(dag), inputs(dag, "d")) == (["a", "c", "d"], ["c"])


def _pair(left: dict[str, Any], right: dict[str, Any], edges: list[Any], **more: Any):
    nodes = [const(1, 1), const(2, 2), left, right, node(5, "WAIT_ALL"), node(6, "RETURN"), node(7, "ERR", message="m")]
    return _run(nodes, [(3, 5), (4, 5), (5, 6), *edges], "duplicates", **more)


CALC = {"capability": "calc"}
DIFFERENT = {
    "other inputs": (node(3, "INV", **CALC), node(4, "INV", **CALC), [(1, 3), (2, 4)]),
    "another order of inputs": (node(3, "INV", **CALC), node(4, "INV", **CALC), [(1, 3), (2, 3), (2, 4), (1, 4)]),
    "another port": (node(3, "INV", **CALC), node(4, "INV", **CALC), [(1, 3, "@x"), (1, 4, "@y")]),
    "a gate": (node(3, "INV", **CALC), node(4, "INV", **CALC), [(1, 3), (1, 4), (2, 4, "Control")]),
    "an order": (node(3, "INV", **CALC), node(4, "INV", **CALC), [(1, 3), (1, 4), (2, 4, "Effect")]),
    "another number": (const(3, 1.0), const(4, True), []),
    "another zero": (const(3, 0.0), const(4, -0.0), []),
    "another order of keys": (const(3, {"x": 1, "y": 2}), const(4, {"y": 2, "x": 1}), []),
    "an effect": (node(3, "INV", capability="look"), node(4, "INV", capability="look"), [(1, 3), (1, 4)]),
    "an unknown effect": (node(3, "INV", capability="other"), node(4, "INV", capability="other"), [(1, 3), (1, 4)]),
    "a model call": (node(3, "ASK", prompt="x"), node(4, "ASK", prompt="x"), []),
    "a guard": (node(3, "GUARD", condition="true"), node(4, "GUARD", condition="true"), [(1, 3), (1, 4)]),
    "a choice": (node(3, "MERGE", mode="any"), node(4, "MERGE", mode="any"), [(1, 3), (2, 3), (1, 4), (2, 4)]),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_nodes_that_differ_or_do_more_than_compute_stay(name):
    left, right, edges = DIFFERENT[name]
    dag, did, _ = _pair(left, right, edges)
    assert {"c", "d"} <= set(names(dag)) or op(dag, "e") == "CONST_STR"  # equal constants may fold into their list
    assert did == []


def test_an_error_edge_a_name_in_a_text_and_two_exits_decline_a_merge():
    pair = node(3, "INV", **CALC), node(4, "INV", **CALC)
    fed = [(1, 3), (1, 4)]
    assert _pair(*pair, [*fed, (3, 7, "error")])[2] == ["d: equal to `c`, but one of them has an error edge"]
    assert _pair(*pair, fed, metadata={"exits": ["c", "d"]})[2] == ["d: equal to `c`, but both are exits"]
    nodes = [const(1), *pair, node(5, "ASK", prompt="{{node_4}} {{node_3}}"), node(6, "RETURN")]
    _, _, declined = _run(nodes, [*fed, (5, 6)], "duplicates")
    assert declined == ["d: equal to `c`, but a text names one of them by its id"]


def test_inputs_among_which_a_node_chooses_stay_apart():
    nodes = [const(1), const(2), node(3, "MERGE", mode="any"), node(4, "RETURN")]
    dag, did, declined = _run(nodes, [(1, 3), (2, 3), (3, 4)], "duplicates")
    assert (inputs(dag, "c"), did, len(declined)) == (["a", "b"], [], 1)


# dead code


def test_a_pure_node_that_no_exit_needs_goes():
    nodes = [const(1), node(2, "INV", capability="calc"), node(3, "INV", capability="look"), node(4, "RETURN")]
    dag, did, _ = _run(nodes, [(1, 2), (2, 3), (1, 4)], "dead")
    assert names(dag) == ["a", "d"]
    assert len(did) == 2


def test_without_named_exits_every_end_is_an_exit_and_nothing_goes():
    nodes = [const(1), node(2, "INV", capability="calc")]
    assert names(_run(nodes, [(1, 2)], "dead")[0]) == ["a", "b"]


STAY = {
    "a write": (node(3, "UMEM", key="k"), "its effect class is idempotent"),
    "a model call": (node(3, "ASK", prompt="{0}"), "its effect class is paid"),
    "an unknown capability": (node(3, "INV", capability="other"), "its effect is not known at compile time"),
    "an error": (node(3, "ERR", message="x"), "it fails on purpose"),
    "a guard": (node(3, "GUARD", condition="true"), "it may fail on purpose"),
    "a staged query": (node(3, "QMEM", key="k", staging_id="s"), "it also sets a belief"),
    "a promoting query": (node(3, "QMEM", key="k", tier="all"), "it also copies what it finds into STM"),
    "a sum": (node(3, "MERGE", mode="sum"), "it fails on what is no number"),
    "a flow": (node(3, "FLOW_CALL", flow="other"), "its effect is not known at compile time"),
    "a region": (
        node(3, "MAP", regions={"body": {"parameters": [{"name": "item"}], "nodes": [const(1)], "edges": []}}),
        "it has regions",
    ),
}


@pytest.mark.parametrize("name", STAY)
def test_a_node_with_an_effect_stays_with_all_it_needs(name):
    dead_end, reason = STAY[name]
    nodes = [const(1), node(2, "INV", capability="calc"), dead_end, node(4, "RETURN")]
    dag, did, declined = _run(nodes, [(1, 2), (2, 3), (1, 4)], "dead")
    assert (set(names(dag)), did, declined) == ({"a", "b", "c", "d"}, [], [f"c: {reason}"])


def test_a_query_that_nobody_reads_goes():
    nodes = [const(1), node(2, "QMEM", key="k"), node(4, "RETURN")]
    assert names(_run(nodes, [(1, 4)], "dead")[0]) == ["a", "d"]


def test_a_node_that_takes_a_failure_stays_as_long_as_what_may_fail():
    nodes = [const(1), node(2, "INV", capability="other"), node(3, "INV", capability="calc"), node(4, "RETURN")]
    dag, did, declined = _run(nodes, [(1, 2), (2, 4), (2, 3, "error")], "dead")
    assert (names(dag), did, declined) == (["a", "b", "c", "d"], [], ["c: it takes the failure of `b`"])


def test_a_node_that_takes_the_failure_of_a_dead_node_goes_with_it():
    nodes = [const(1), node(2, "INV", capability="calc"), node(3, "INV", capability="calc"), node(4, "RETURN")]
    assert names(_run(nodes, [(1, 4), (1, 2), (2, 3, "error")], "dead")[0]) == ["a", "d"]


def test_a_node_behind_a_case_of_a_switch_stays_as_the_case_would_be_lost():
    nodes = [const(1), node(2, "SWITCH"), node(3, "INV", capability="calc"), node(4, "RETURN")]
    dag, _, declined = _run(nodes, [(1, 2), (2, 3, "x"), (2, 4, "default")], "dead")
    assert (names(dag), declined) == (["a", "b", "c", "d"], ["c: its edge is a case of `b`"])


def test_dead_code_goes_in_regions_too():
    body = {
        "parameters": [{"name": "item"}],
        "nodes": [const(1), node(2, "INV", capability="calc"), node(3, "YIELD")],
        "edges": [edge("item", 2), edge("item", 3)],
        "metadata": {"exits": ["c"]},
    }
    dag, _, _ = _run([const(1, []), node(2, "MAP", regions={"body": body})], [(1, 2)], "dead")
    assert names(dag.regions[1]["body"]) == ["c"]


# transitive reduction


def test_a_control_edge_beside_a_longer_way_goes():
    nodes = [node(i, "PRINT", message="x") for i in (1, 2, 3)]
    dag, did, _ = _run(nodes, [(1, 2, "Control"), (2, 3, "Control"), (1, 3, "Control")], "reduction")
    assert inputs(dag, "c") == ["~b"]
    assert did == ["c: needs no Control edge from `a`: another way leads from there"]


def test_a_control_edge_beside_data_into_a_node_that_needs_it_goes():
    nodes = [const(1), node(2, "PRINT", message="x"), node(3, "PRINT", message="y")]
    dag, _, _ = _run(nodes, [(1, 2), (2, 3), (1, 3, "Control")], "reduction")
    assert inputs(dag, "c") == ["b"]


def test_a_control_edge_written_twice_stays_once():
    nodes = [node(i, "PRINT", message="x") for i in (1, 2)]
    dag, _, _ = _run(nodes, [(1, 2, "Control"), (1, 2, "Control")], "reduction")
    assert inputs(dag, "b") == ["~a"]


WEAK = {
    "Data into a node that also fires without it": [(1, 5), (5, 6), (1, 6, "Control")],
    "an Effect edge": [(1, 5, "Effect"), (5, 6, "Control"), (1, 6, "Control")],
    "an error edge": [(1, 5, "error", "Control"), (5, 6, "Control"), (1, 6, "Control")],
}


@pytest.mark.parametrize("name", WEAK)
def test_a_way_that_does_not_gate_leaves_the_control_edge(name):
    middle = node(5, "WAIT_ALL") if "fires without" in name else node(5, "PRINT", message="m")
    nodes = [node(1, "PRINT", message="x"), middle, node(6, "PRINT", message="y")]
    dag, did, _ = _run(nodes, WEAK[name], "reduction")
    assert "~a" in inputs(dag, "f")
    assert did == []


def test_a_labelled_control_edge_stays():
    nodes = [const(1, True), node(2, "BRANCH_ON_VALUE"), node(3, "PRINT", message="x"), node(4, "PRINT", message="y")]
    edges = [(1, 2), (2, 3, "Control", "true"), (3, 4, "Control"), (2, 4, "Control", "true")]
    dag, did, _ = _run(nodes, edges, "reduction")
    assert (inputs(dag, "d"), did) == (["~c", "~b!true"], [])


def test_the_exits_stay_the_same_at_every_level():
    nodes = [const(1), node(2, "INV", capability="calc"), node(3, "PRINT", message="x")]
    assert exits(_run(nodes, [(1, 2)], "dead")[0]) == ["b", "c"]
