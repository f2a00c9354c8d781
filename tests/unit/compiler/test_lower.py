from __future__ import annotations

import pytest

from apxm.compiler.compile import compile
from apxm.errors import CompileError, GraphError
from apxm.graph.model import Graph, Node
from tests.unit.compiler.view import (
    attributes,
    const,
    exits,
    inputs,
    lowered,
    names,
    node,
    op,
    parameters,
    region,
    slot,
)

P = [{"name": "topic", "type_name": "str"}, {"name": "depth", "type_name": "int"}]


def test_parameters_come_first_and_nodes_follow_in_topological_order():
    dag = lowered([node(1, "WAIT_ALL"), const(2), const(3)], [(3, 1), (2, 1), (2, 3, "Control")], parameters=P)
    assert list(dag.names) == ["topic", "depth", "b", "c", "a"]
    assert list(dag.ids) == [-1, -1, 2, 3, 1]
    assert inputs(dag, "a") == ["c", "b"]
    assert inputs(dag, "c") == ["~b"]


def test_nodes_that_are_free_keep_the_order_in_which_they_were_written():
    dag = lowered([const(5), const(3), const(4)], [])
    assert list(dag.ids) == [5, 3, 4]


def test_inputs_are_ordered_by_position_then_by_edge_then_named_ones_then_gates():
    nodes = [const(i) for i in range(1, 7)] + [node(9, "INV", "x", capability="c")]
    edges = [(1, 9, "@late"), (2, 9, "Effect"), (3, 9, "Control"), (4, 9), (5, 9, "@0"), (6, 9)]
    dag = lowered(nodes, edges)
    assert inputs(dag, "x") == ["e", "d", "f", "a@late", "~c", "^b"]


def test_a_position_beyond_the_inputs_is_the_last_one():
    dag = lowered([const(1), const(2), node(9, "WAIT_ALL", "x")], [(1, 9, "@7"), (2, 9)])
    assert inputs(dag, "x") == ["b", "a"]


def test_a_placeholder_with_the_name_of_a_parameter_becomes_an_edge_from_it():
    dag = lowered([const(1), node(2, "ASK", prompt="{topic} {0}")], [(1, 2)], parameters=P)
    assert inputs(dag, "b") == ["a", "topic@topic"]


def test_a_placeholder_that_an_edge_already_feeds_gets_no_second_edge():
    dag = lowered([const(1), node(2, "ASK", prompt="{topic}")], [(1, 2, "@topic")], parameters=P)
    assert inputs(dag, "b") == ["a@topic"]


def test_arguments_refer_to_parameters_too():
    dag = lowered([node(1, "INV", capability="c", params_json='{"q": ["{topic}", {depth}]}')], [], parameters=P)
    assert inputs(dag, "a") == ["topic@topic", "depth@depth"]
    assert attributes(dag, "a")["params_json"] == {"q": ["{topic}", "{depth}"]}


def test_a_root_with_positions_gets_all_parameters_in_order():
    dag = lowered([node(1, "ASK", prompt="{1}")], [], parameters=P)
    assert inputs(dag, "a") == ["topic", "depth"]


def test_a_root_that_needs_an_input_gets_the_parameters():
    dag = lowered([node(1, "GUARD", condition="not_empty")], [], parameters=P[:1])
    assert inputs(dag, "a") == ["topic"]


def test_a_root_that_asks_for_nothing_gets_nothing():
    dag = lowered([node(1, "INV", capability="c")], [], parameters=P)
    assert inputs(dag, "a") == []


def test_the_value_of_a_node_named_in_a_text_comes_over_an_edge_of_its_own():
    dag = lowered([const(1), const(2), node(3, "ASK", prompt="{{node_2}} {0}")], [(1, 3)])
    assert inputs(dag, "c") == ["a", "b@node_2"]


def test_a_node_named_in_a_text_that_already_feeds_it_needs_no_other_edge():
    dag = lowered([const(1), node(3, "ASK", prompt="{{node_1}}")], [(1, 3)])
    assert inputs(dag, "c") == ["a"]


def test_an_edge_may_come_from_a_parameter():
    dag = lowered([node(1, "GUARD", condition="not_empty")], [("depth", 1)], parameters=P)
    assert inputs(dag, "a") == ["depth"]


def test_the_exits_are_the_ends_or_the_returns_or_what_the_graph_says():
    nodes, edges = [const(1), const(2), node(3, "WAIT_ALL")], [(1, 3)]
    assert exits(lowered(nodes, edges)) == ["b", "c"]
    assert exits(lowered(nodes, edges, metadata={"exits": ["c", "a"]})) == ["c", "a"]
    assert exits(lowered([*nodes, node(4, "RETURN")], [*edges, (3, 4)])) == ["d"]
    assert exits(lowered(nodes, [*edges, (2, 3, "Effect")])) == ["c"]


def test_ranks_are_the_longest_time_to_the_end():
    dag = lowered([node(1, "ASK", prompt="x"), const(2), node(3, "THINK"), node(4, "WAIT_ALL")], [(1, 3), (2, 4), (3, 4)])
    ranks = {name: dag.ranks[slot(dag, name)] for name in "abcd"}
    assert ranks == {"a": 1000 + 5000 + 10, "b": 20, "c": 5010, "d": 10}


def test_a_node_with_regions_is_as_long_as_the_slowest_of_them():
    body = {"parameters": [{"name": "item"}], "nodes": [node(1, "ASK", prompt="{item}")], "edges": []}
    dag = lowered([const(1, []), node(2, "MAP", regions={"body": body})], [(1, 2)])
    assert dag.ranks[slot(dag, "b")] == 10 + 1000


def test_regions_are_lowered_with_their_parameters():
    body = {
        "parameters": [{"name": "item"}, {"name": "index", "type_name": "int"}],
        "nodes": [node(1, "ASK", prompt="{0} of {index}")],
        "edges": [],
    }
    inner = region(lowered([const(1, []), node(2, "MAP", "m", regions={"body": body})], [(1, 2)]), "m", "body")
    assert parameters(inner) == ["item", "index"]
    assert inputs(inner, "a") == ["item", "index", "index@index"]
    assert inner.name == "g/m/body"


# loops


def _loop(*more_edges, nodes=(), **end):
    everything = [const(1), node(2, "LOOP_START", "start", loop="l", max_iterations=4), node(3, "ASK", prompt="{0}")]
    everything += [*nodes, node(8, "LOOP_END", "end", loop="l", **end), node(9, "ASK", "after", prompt="{0}")]
    return lowered(everything, [(1, 2), (2, 3), (8, 9), *more_edges])


def test_a_pair_of_loop_nodes_becomes_one_loop():
    dag = _loop((3, 8), until="not_empty")
    assert names(dag) == ["a", "end", "after"]
    assert op(dag, "end") == "LOOP"
    assert dag.ids[slot(dag, "end")] == 8
    assert attributes(dag, "end") == {"max_iterations": 4, "until": "not_empty", "carry": ["carried"]}
    assert inputs(dag, "end") == ["a@carried"]
    assert inputs(dag, "after") == ["end"]
    body = region(dag, "end", "body")
    assert (names(body), parameters(body), exits(body)) == (["c"], ["carried"], ["c"])
    assert inputs(body, "c") == ["carried"]


def test_an_edge_into_a_loop_body_becomes_a_constant_of_the_loop():
    dag = _loop((1, 3), (3, 8))
    assert inputs(dag, "end") == ["a@carried", "a@node_1"]
    body = region(dag, "end", "body")
    assert parameters(body) == ["carried", "node_1"]
    assert inputs(body, "c") == ["carried", "node_1"]


def test_gates_into_a_loop_body_hold_for_the_whole_loop():
    dag = _loop((4, 3, "Control"), (5, 3, "Effect"), (3, 8), nodes=(const(4), const(5)))
    assert inputs(dag, "end") == ["a@carried", "~d", "^e"]


def test_a_text_in_a_loop_body_may_name_a_node_outside():
    dag = _loop((4, 8), (3, 4), nodes=(const(5), node(4, "ASK", prompt="{0} {{node_5}} {{node_1}}")))
    body = region(dag, "end", "body")
    assert inputs(body, "d") == ["c", "node_1@node_1", "node_5@node_5"]
    assert sorted(inputs(dag, "end")) == ["a@carried", "a@node_1", "e@node_5"]


def test_what_only_gates_the_end_of_a_loop_is_part_of_the_body():
    dag = _loop((3, 8), (3, 4), (4, 8, "Control"), nodes=(node(4, "PRINT", message="{0}"),))
    body = region(dag, "end", "body")
    assert names(body) == ["c", "d", "start"]
    assert op(body, "start") == "YIELD"
    assert inputs(body, "start") == ["c", "~d"]
    assert exits(body) == ["start"]


def test_a_loop_may_have_an_empty_body():
    dag = lowered([const(1), node(2, "LOOP_START", "s"), node(3, "LOOP_END", "e")], [(1, 2), (2, 3)])
    body = region(dag, "e", "body")
    assert inputs(body, "s") == ["carried"]


def test_loops_nest():
    nodes = [
        const(1),
        node(2, "LOOP_START", "s1", loop="outer"),
        node(3, "LOOP_START", "s2", loop="inner"),
        node(4, "ASK", prompt="{0} {{node_1}}"),
        node(5, "LOOP_END", "e2", loop="inner"),
        node(6, "LOOP_END", "e1", loop="outer"),
    ]
    dag = lowered(nodes, [(1, 2), (2, 3), (3, 4), (4, 5), (5, 6)])
    assert names(dag) == ["a", "e1"]
    outer = region(dag, "e1", "body")
    assert (names(outer), inputs(outer, "e2")) == (["e2"], ["carried@carried", "node_1@node_1"])
    assert inputs(region(outer, "e2", "body"), "d") == ["carried", "node_1@node_1"]


def test_the_count_of_a_loop_may_come_at_run_time():
    dag = lowered(
        [const(1), const(2, 3), node(3, "LOOP_START", "s", count_token=2), const(4), node(5, "LOOP_END", "e")],
        [(1, 3), (3, 4, "Control"), (4, 5)],
    )
    assert inputs(dag, "e") == ["a@carried", "b@count"]


def test_an_edge_out_of_a_loop_body_is_an_error():
    with pytest.raises(GraphError, match="only through LOOP_END"):
        _loop((3, 8), (3, 9))


def test_a_text_behind_a_loop_that_names_a_node_of_its_body_is_an_error():
    with pytest.raises(CompileError, match=r"`c` -> `z` leaves the body"):
        _loop((3, 8), nodes=(node(26, "ASK", prompt="{{node_3}}"),))


def test_the_value_of_a_loop_must_come_from_its_body():
    with pytest.raises(CompileError, match="from outside of the loop"):
        _loop((1, 8), (3, 8, "Control"))


def test_a_label_at_the_start_of_a_loop_is_an_error():
    with pytest.raises(CompileError, match="chooses no `error`"):
        _loop((3, 8), (2, 4, "error"), (4, 8, "Control"), nodes=(node(4, "PRINT", message="x"),))


# try


def _try(edges, nodes=(), **more):
    everything = [const(1), node(2, "TRY_CATCH", "t"), *nodes]
    return lowered(everything, [(1, 2), *edges], **more)


def test_labelled_edges_of_a_try_become_regions():
    nodes = (node(3, "ASK", prompt="{0}"), node(4, "ASK", prompt="{0}"), node(5, "ERR"), node(6, "PRINT", message="bye"))
    dag = _try([(2, 3, "try"), (3, 4), (2, 5, "catch"), (2, 6, "finally", "Control")], nodes)
    assert (names(dag), exits(dag), inputs(dag, "t")) == (["a", "t"], ["t"], ["a@input"])
    tried = region(dag, "t", "try")
    assert (names(tried), parameters(tried), inputs(tried, "c"), exits(tried)) == (["c", "d"], ["input"], ["input"], ["d"])
    caught = region(dag, "t", "catch")
    assert (names(caught), parameters(caught), inputs(caught, "e")) == (["e"], ["error"], ["error"])
    last = region(dag, "t", "finally")
    assert (names(last), parameters(last)) == (["f"], [])


def test_where_try_and_catch_meet_the_value_of_the_node_goes_on():
    nodes = (node(3, "ASK", prompt="{0}"), node(5, "ERR"), node(6, "MERGE"), node(7, "RETURN"))
    dag = _try([(2, 3, "try"), (2, 5, "catch"), (3, 6), (5, 6), (6, 7)], nodes)
    assert (names(dag), inputs(dag, "f")) == (["a", "t", "f", "g"], ["t"])
    assert attributes(dag, "f") == {"mode": "any"}


def test_a_catch_without_nodes_gives_the_error():
    nodes = (node(3, "ASK", prompt="{0}"), node(6, "MERGE"))
    dag = _try([(2, 3, "try"), (3, 6), (2, 6, "catch")], nodes)
    caught = region(dag, "t", "catch")
    assert (op(caught, "catch"), inputs(caught, "catch")) == ("YIELD", ["error"])
    assert inputs(dag, "f") == ["t"]


def test_a_try_takes_what_comes_from_outside_as_inputs():
    nodes = (const(8), node(3, "ASK", prompt="{0} {topic} {{node_8}}"), node(5, "ERR"))
    dag = _try([(2, 3, "try"), (2, 5, "catch"), (8, 3)], nodes, parameters=P[:1])
    assert sorted(inputs(dag, "t")) == ["a@input", "h@node_8", "topic@topic"]
    tried = region(dag, "t", "try")
    assert inputs(tried, "c") == ["input", "node_8", "node_8@node_8", "topic@topic"]


def test_inputs_of_a_try_that_no_part_takes_keep_no_name():
    dag = _try([(2, 3, "try", "Control"), (1, 2, "@extra")], (node(3, "INV", capability="c"),))
    assert inputs(dag, "t") == ["a", "a"]


def test_a_try_inside_the_part_of_another_is_folded_first():
    nodes = (node(3, "TRY_CATCH", "u"), node(4, "ASK", prompt="{0}"), node(5, "ERR"), node(6, "MERGE"), node(7, "ERR"))
    dag = _try([(2, 3, "try"), (3, 4, "try"), (3, 5, "catch"), (4, 6), (5, 6), (2, 7, "catch")], nodes)
    tried = region(dag, "t", "try")
    assert (names(tried), names(region(tried, "u", "try")), names(region(tried, "u", "catch"))) == (["u", "f"], ["d"], ["e"])


def test_a_try_in_a_loop_stays_in_the_loop():
    nodes = [
        const(1),
        node(2, "LOOP_START", "s"),
        node(3, "TRY_CATCH", "t"),
        node(4, "ASK", prompt="{0}"),
        node(5, "ERR"),
        node(6, "MERGE"),
        node(7, "LOOP_END", "e2"),
    ]
    dag = lowered(nodes, [(1, 2), (2, 3), (3, 4, "try"), (3, 5, "catch"), (4, 6), (5, 6), (6, 7)])
    body = region(dag, "e2", "body")
    assert (names(dag), names(body), names(region(body, "t", "try"))) == (["a", "e2"], ["t", "f"], ["d"])


def test_a_part_that_is_left_on_several_ways_is_refused():
    nodes = (node(3, "ASK", prompt="{0}"), node(4, "ASK", prompt="{0}"), node(5, "ERR"), node(6, "WAIT_ALL"))
    with pytest.raises(CompileError, match=r"several ways \(`c`, `d`\).*MERGE"):
        _try([(2, 3, "try"), (2, 4, "try"), (2, 5, "catch"), (3, 6), (4, 6), (5, 6)], nodes)


def test_a_finally_part_whose_value_is_used_is_refused():
    nodes = (node(3, "ASK", prompt="{0}"), node(5, "ASK", prompt="x"), node(6, "WAIT_ALL"))
    with pytest.raises(CompileError, match="finally"):
        _try([(2, 3, "try"), (2, 5, "finally"), (3, 6), (5, 6)], nodes)


def test_an_exit_that_lies_in_a_part_is_refused():
    with pytest.raises(CompileError, match=r"exit `c` lies in"):
        _try([(2, 3, "try")], (node(3, "ASK", prompt="{0}"),), metadata={"exits": ["c"]})


def test_a_try_that_becomes_an_exit_must_not_have_the_name_of_another_one():
    with pytest.raises(CompileError, match="both exits named `t`"):
        _try([(2, 3, "try")], (node(3, "ASK", prompt="{0}"), const(4, name="t")))


def test_a_try_without_an_input_gives_its_parts_none():
    nodes = [node(2, "TRY_CATCH", "t"), node(3, "PRINT", message="x"), node(4, "MERGE")]
    dag = lowered(nodes, [(2, 3, "try"), (3, 4), (2, 4, "catch")])
    assert inputs(region(dag, "t", "try"), "c") == []
    nodes = [node(2, "TRY_CATCH", "t"), node(3, "ERR", message="x"), node(4, "MERGE")]
    dag = lowered(nodes, [(2, 3, "catch"), (3, 4), (2, 4, "try")])
    assert attributes(region(dag, "t", "try"), "try") == {"value": None}


@pytest.mark.parametrize("op", ["MERGE", "BRANCH_ON_VALUE", "QMEM"])
def test_a_try_without_an_input_cannot_feed_a_step_that_needs_one(op):
    with pytest.raises(CompileError, match=r"`try` part of TRY_CATCH `t` feeds `c`, which needs an input"):
        lowered([node(2, "TRY_CATCH", "t"), node(3, op)], [(2, 3, "try")])


def test_what_a_try_without_an_input_feeds_may_get_its_input_from_elsewhere():
    nodes = [node(2, "TRY_CATCH", "t"), node(3, "MERGE"), const(4)]
    assert inputs(region(lowered(nodes, [(2, 3, "try"), (4, 3)]), "t", "try"), "c") == ["node_4"]


def test_a_label_on_the_way_out_of_a_part_is_refused():
    nodes = (node(3, "BRANCH_ON_VALUE"), node(5, "ERR"), node(6, "MERGE"))
    with pytest.raises(CompileError, match="several ways"):
        _try([(2, 3, "try"), (2, 5, "catch"), (3, 6, "true"), (5, 6)], nodes)


def test_a_value_that_no_artifact_can_hold_can_still_be_run():
    import numpy as np

    from apxm.errors import ArtifactError

    artifact = compile(Graph("g", [Node(1, "a", "CONST_STR", {"value": np.arange(3)})]))
    assert artifact.into_dag().attributes[0]["value"].tolist() == [0, 1, 2]
    with pytest.raises(ArtifactError, match="cannot be stored"):
        artifact.to_bytes()
