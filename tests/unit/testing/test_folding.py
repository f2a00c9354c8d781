"""How the oracle reads graphs in which nodes are named in attributes, or a loop or a TRY is written as several nodes."""

from __future__ import annotations

from typing import Any

import pytest

from apxm.testing.reading import read_graph
from apxm.testing.sketch import sketch
from tests.unit.testing.cases import branch, const, err, inv, merge, run

# ---- references ----------------------------------------------------------------------------------------------------------
SIDES = {1: const(1), 2: branch(1), 3: "PRINT", 4: "PRINT"}


@pytest.mark.parametrize("reference", [3, "3", "n3", "node_3", "{{node_3}}", "{{ node_3 }}"])
@pytest.mark.parametrize("name", ["label_true", "true_label"])
def test_a_label_may_be_given_by_naming_the_node_behind_it(name: str, reference: Any) -> None:
    nodes = {**SIDES, 2: ("BRANCH_ON_VALUE", {"value": 1, name: reference, "label_false": "n4"})}
    assert run(sketch(nodes, "1->2 2->3 2->4")).outputs == {"n3": 1}
    assert run(sketch(nodes, "1->2")).outputs == {"n3": 1}


def test_a_label_may_be_renamed() -> None:
    nodes = {**SIDES, 2: ("BRANCH_ON_VALUE", {"value": 1, "label_true": "yes", "label_false": "no"})}
    assert run(sketch(nodes, "1->2 2@yes->3 2@no->4")).outputs == {"n3": 1}


def test_a_way_to_a_node_that_takes_no_data_only_says_when_it_may_come() -> None:
    nodes = {**SIDES, 2: ("BRANCH_ON_VALUE", {"value": 1, "label_true": 3, "label_false": 4}), 3: const("c")}
    assert run(sketch(nodes, "1->2")).outputs == {"n3": "c"}


@pytest.mark.parametrize("cases", [{"a": 2, "default": "n3"}, [{"label": "a", "node_id": 2}, {"label": "default", "node": 3}]])
def test_cases_may_name_their_nodes(cases: Any) -> None:
    nodes = {1: const("a"), 4: ("SWITCH", {"cases": cases}), 2: "PRINT", 3: "PRINT"}
    assert run(sketch(nodes, "1->4")).outputs == {"n2": "a"}
    assert run(sketch({**nodes, 1: const("z")}, "1->4 4->2 4->3")).outputs == {"n3": "z"}


def test_what_is_tested_may_be_named() -> None:
    nodes = {1: const(1), 2: const(2), 3: ("BRANCH_ON_VALUE", {"value": 2, "token": "n2"}), 4: "PRINT"}
    assert run(sketch(nodes, "1->3:pass 2->3 3@true->4")).outputs == {"n4": 1}
    assert run(sketch(nodes, "1->3:pass 3@true->4")).outputs == {"n4": 1}


def test_what_is_joined_may_be_listed() -> None:
    nodes = {1: const(1), 2: const(2), 3: ("WAIT_ALL", {"tokens": ["n2", 1, "{p}"]})}
    assert run(sketch(nodes, "1->3", parameters=["p"]), p=3).value == [1, 2, 3]


def test_a_jump_need_not_be_drawn_and_every_other_way_out_of_it_is_dead() -> None:
    nodes = {1: const(1), 2: ("JUMP", {"label": "n3"}), 3: "PRINT", 4: "PRINT", 5: inv("pick", arg_x="{{node_2}}")}
    found = run(sketch(nodes, "1->2 2->4"))
    assert found.outputs == {"n3": 1}
    assert {node for _, node in found.skipped} == {4, 5}


# ---- LOOP_START and LOOP_END -----------------------------------------------------------------------------------------------
def loop(*, turns: int = 3, **more: Any) -> dict[int, Any]:
    start = {"max_iterations": turns, **{name: more.pop(name) for name in ("while",) if name in more}}
    return {1: const(1), 2: ("LOOP_START", start), 3: inv("add", arg_b=10), 4: ("LOOP_END", more)}


def test_a_pair_carries_what_its_end_receives() -> None:
    found = run(sketch(loop(), "1->2 2->3 3->4"))
    assert found.outputs == {"n4": 31}
    assert (((4, 2),), 3) in found.fired
    assert ((), 2) not in found.fired


@pytest.mark.parametrize(
    ("nodes", "value"),
    [
        (loop(turns=0), 1),
        (loop(turns=9, until="> 20"), 21),
        (loop(turns=9, **{"while": "< 20"}), 21),
        ({**loop(), 4: "LOOP_END"}, 31),
    ],
)
def test_a_pair_ends_as_a_loop_does(nodes: Any, value: int) -> None:
    assert run(sketch(nodes, "1->2 2->3 3->4")).value == value


def test_what_comes_into_a_pair_from_outside_is_the_same_in_every_turn() -> None:
    nodes = {**loop(), 3: inv("add"), 9: const(100)}
    assert run(sketch(nodes, "1->2 2->3 9->3 3->4")).value == 301


def test_a_count_bounds_a_pair() -> None:
    assert run(sketch({**loop(turns=9), 8: const(2)}, "1->2 8->2:count 2->3 3->4")).value == 21
    named = {**loop(turns=9), 8: const(2), 2: ("LOOP_START", {"max_iterations": 9, "count_token": "n8"})}
    assert run(sketch(named, "1->2 2->3 3->4")).value == 21


def test_a_pair_behind_a_dead_gate_of_its_body_is_skipped_as_a_whole() -> None:
    nodes = {**loop(), 8: branch(2), 9: const(0)}
    found = run(sketch(nodes, "1->2 2->3 3->4 9->8 8@true=>3"))
    assert ((), 4) in found.skipped


def test_a_dead_result_of_the_body_is_no_value() -> None:
    nodes = {1: const(1), 2: ("LOOP_START", {"max_iterations": 1}), 3: branch(2), 4: "LOOP_END", 5: "PRINT"}
    assert run(sketch(nodes, "1->2 2->3 3@true->4 4->5")).value == {}


def test_a_body_may_be_empty() -> None:
    assert run(sketch({1: const(7), 2: "LOOP_START", 4: "LOOP_END"}, "1->2 2->4")).value == 7


def test_texts_in_a_body_still_mean_the_nodes_they_name() -> None:
    nodes = {**loop(turns=1), 3: inv("concat", arg_a="{{node_2}}", arg_b="{{node_9}}"), 9: const(5)}
    assert run(sketch(nodes, "1->2 3->4")).value == "1.5"


# ---- TRY_CATCH with labelled ways -------------------------------------------------------------------------------------------
TRIED = {1: const(3), 2: "TRY_CATCH", 3: inv("fail_if_odd"), 4: inv("blame"), 5: merge("any")}
WAYS = "1->2 2@try->3 2@catch->4 3->5 4->5"


def test_a_labelled_try_gives_the_value_of_the_part_that_ran() -> None:
    assert run(sketch(TRIED, WAYS)).value == "fatal/capability/n3"
    assert run(sketch({**TRIED, 1: const(4)}, WAYS)).value == 4


def test_its_parts_may_be_named() -> None:
    named = {**TRIED, 2: ("TRY_CATCH", {"try_label": "n3", "catch_label": 4})}
    assert run(sketch(named, "1->2 2->3 2->4 3->5 4->5")).value == "fatal/capability/n3"


def test_the_parts_are_frames() -> None:
    found = run(sketch(TRIED, WAYS))
    assert (((2, "try"),), 3) in found.failed
    assert (((2, "catch"),), 4) in found.fired
    assert ((), 5) in found.fired


def test_a_part_without_nodes_gives_what_came_in() -> None:
    nodes = {key: TRIED[key] for key in (1, 2, 3, 5)}
    found = run(sketch(nodes, "1->2 2@try->3 3->5 2@catch->5"))
    assert found.value["code"] == "capability"
    assert run(sketch({**nodes, 1: const(4)}, "1->2 2@try->3 3->5 2@catch->5")).value == 4


def test_a_finally_part_runs_and_gives_nothing() -> None:
    nodes = {1: const(4), 2: "TRY_CATCH", 3: "PRINT", 4: ("PRINT", {"message": "bye"}), 5: "PRINT"}
    found = run(sketch(nodes, "1->2 2@try->3 2@finally->4 2->5"))
    assert found.outputs == {"n5": 4}
    assert (((2, "finally"),), 4) in found.fired


def test_what_comes_into_a_part_from_outside_is_an_input_of_the_try() -> None:
    nodes = {**TRIED, 3: inv("pair"), 9: const("out")}
    assert run(sketch(nodes, WAYS + " 9->3")).value == [3, "out"]
    assert run(sketch({**nodes, 8: branch("x")}, WAYS.replace("1->2", "1->2 9->8 8@true->3"))).outputs == {}


def test_what_is_behind_two_ways_is_in_no_part() -> None:
    nodes = {1: const(1), 2: "TRY_CATCH", 3: "PRINT", 4: err(), 5: merge("any"), 6: "PRINT"}
    graph = read_graph(sketch(nodes, "1->2 2@try->3 2@catch->4 3->5 4->5 5->6"))
    assert sorted(graph.nodes) == [1, 2, 5, 6]
    assert [edge.source for edge in graph.nodes[5].data] == [2]
    assert graph.nodes[2].regions["try"].exits == [3]
