"""The oracle itself, against results worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from apxm.testing.capabilities import functions
from apxm.testing.oracle import Choices, OracleMismatch, OracleResult, run_oracle
from apxm.testing.sketch import sketch


def const(value: Any) -> tuple[str, dict[str, Any]]:
    return ("CONST_STR", {"value": value})


def err(text: str = "no", **more: Any) -> tuple[str, dict[str, Any]]:
    return ("ERR", {"message": text, **more})


def merge(mode: str) -> tuple[str, dict[str, Any]]:
    return ("MERGE", {"mode": mode})


def branch(value: Any = True) -> tuple[str, dict[str, Any]]:
    return ("BRANCH_ON_VALUE", {"value": value})


def inv(name: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return ("INV", {"capability": name, **more})


def run(program: Any, policy: str = "fail_fast", choices: Choices | None = None, **parameters: Any) -> OracleResult:
    return run_oracle(program, parameters, capabilities={**functions(), **OWN}, on_failure=policy, choices=choices)


def boom(x: Any) -> Any:
    raise RuntimeError("boom")


def pair(a: Any, b: Any) -> list[Any]:
    return [a, b]


async def slowly(x: Any) -> Any:
    import asyncio

    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return [x]


OWN: dict[str, Any] = {"boom": boom, "pair": pair, "slowly": slowly}

# What is left open is empty. name: (program, parameters, value)
VALUES: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "a constant is its value": (sketch({1: const({"a": [1, None]})}), {}, {"a": [1, None]}),
    "a chain passes values on": (sketch({1: const(4), 2: "PRINT", 3: "FENCE"}, "1->2 2->3"), {}, 4),
    "PRINT without inputs gives its text": (sketch({1: ("PRINT", {"message": "hi"})}), {}, "hi"),
    "PRINT fills a parameter and gives its first input": (
        sketch({1: ("PRINT", {"message": "about {t}"})}, parameters=["t"]),
        {"t": "x"},
        "x",
    ),
    "array lists live inputs in port order": (
        sketch({1: const(1), 2: const(2), 3: merge("array")}, "2->3:1 1->3:0"),
        {},
        [1, 2],
    ),
    "a numbered port takes its place among unnamed ones": (
        sketch({1: const(1), 2: const(2), 3: const(3), 4: merge("array")}, "1->4 2->4 3->4:0"),
        {},
        [3, 1, 2],
    ),
    "named ports come after the others": (
        sketch({1: const(1), 2: const(2), 3: "WAIT_ALL"}, "1->3:z 2->3"),
        {},
        [2, 1],
    ),
    "concat joins texts, JSON for the rest": (
        sketch({1: const("a"), 2: const([True]), 3: merge("concat")}, "1->3 2->3"),
        {},
        "a[true]",
    ),
    "sum adds": (sketch({1: const(1), 2: const(2.5), 3: merge("sum")}, "1->3 2->3"), {}, 3.5),
    "array leaves dead inputs out": (
        sketch({1: const(True), 2: branch(), 3: const(7), 4: merge("array")}, "1->2 2@false->4 3->4"),
        {},
        [7],
    ),
    "WAIT_ALL without inputs gives []": (sketch({1: "WAIT_ALL"}), {}, []),
    "WAIT_ALL leaves dead inputs out": (
        sketch({1: const(3), 2: branch(3), 3: "WAIT_ALL"}, "1->2 2@true->3 2@false->3"),
        {},
        [3],
    ),
    "the true side carries the tested input": (
        sketch({1: const(True), 2: branch(), 3: "PRINT"}, "1->2 2@true->3"),
        {},
        True,
    ),
    "true is not 1": (sketch({1: const(1), 2: branch(), 3: "PRINT"}, "1->2 2@true->3"), {}, None),
    "a branch carries `pass`": (
        sketch({1: const(1), 2: const("p"), 3: branch(1), 4: "PRINT"}, "1->3:token 2->3:pass 3@true->4"),
        {},
        "p",
    ),
    "an unlabelled edge of a branch is live": (sketch({1: const(0), 2: branch(1), 3: "PRINT"}, "1->2 2->3"), {}, 0),
    "a branch may test a condition": (
        sketch({1: const(8), 2: ("BRANCH_ON_VALUE", {"condition": ">= 8"}), 3: "PRINT"}, "1->2 2@true->3"),
        {},
        8,
    ),
    "any takes the live side": (
        sketch({1: const(0), 2: branch(1), 3: const("t"), 4: const("f"), 5: merge("any")}, "1->2 2@true=>3 2@false=>4 3->5 4->5"),
        {},
        "f",
    ),
    "a MERGE of the sides of one branch is `any`": (
        sketch({1: const(0), 2: branch(1), 3: "PRINT", 4: "PRINT", 5: "MERGE"}, "1->2 2@true->3 2@false->4 3->5 4->5"),
        {},
        0,
    ),
    "a MERGE of anything else is `array`": (sketch({1: const(0), 2: const(1), 3: "MERGE"}, "1->3 2->3"), {}, [0, 1]),
    "SWITCH edges carry the discriminant": (
        sketch({1: const("b"), 2: ("SWITCH", {"case_labels": ["a", "b"]}), 3: "PRINT", 4: "PRINT"}, "1->2 2@a->3 2@b->4"),
        {},
        "b",
    ),
    "SWITCH compares JSON text": (
        sketch({1: const(3), 2: ("SWITCH", {"case_labels": ["3"]}), 3: "PRINT"}, "1->2 2@3->3"),
        {},
        3,
    ),
    "SWITCH falls to default": (
        sketch({1: const("z"), 2: ("SWITCH", {"case_labels": ["a"]}), 3: "PRINT", 4: const(5)}, "1->2 2@a->3 2@default=>4"),
        {},
        5,
    ),
    "SWITCH with nothing chosen and regions is null": (
        sketch({1: const("z"), 2: ("SWITCH", {}, {"a": sketch({1: const(1)})})}, "1->2"),
        {},
        None,
    ),
    "SWITCH casefold": (
        sketch({1: const("AB"), 2: ("SWITCH", {"match": "casefold"}, {"ab": sketch({1: const(1)})})}, "1->2"),
        {},
        1,
    ),
    "SWITCH contains takes the first that matches": (
        sketch(
            {
                1: const("xyz"),
                2: (
                    "SWITCH",
                    {"match": "contains", "case_labels": ["q", "y", "z"]},
                    {"y": sketch({1: const(1)}), "z": sketch({1: const(2)})},
                ),
            },
            "1->2",
        ),
        {},
        1,
    ),
    "SWITCH regex": (
        sketch({1: const("n42"), 2: ("SWITCH", {"match": "regex"}, {"\\d+": sketch({1: const("num")})})}, "1->2"),
        {},
        "num",
    ),
    "a case region gets the other inputs and `input`": (
        sketch(
            {
                1: const("a"),
                2: const(2),
                3: const(3),
                4: (
                    "SWITCH",
                    {},
                    {"a": sketch({1: "WAIT_ALL"}, "p->1 q->1 input->1", parameters=["p", "input", "q"])},
                ),
            },
            "1->4 2->4 3->4:p",
        ),
        {},
        [3, 2, "a"],
    ),
    "GUARD lets pass": (sketch({1: const("x"), 2: ("GUARD", {"condition": "not_empty"})}, "1->2"), {}, "x"),
    "a dead Control edge skips": (
        sketch({1: const(0), 2: branch(1), 3: const(9), 4: "WAIT_ALL"}, "1->2 2@true=>3 3->4 1->4"),
        {},
        [0],
    ),
    "a dead Effect edge only orders": (
        sketch({1: const(0), 2: branch(1), 3: "PRINT", 4: const(9)}, "1->2 2@true->3 3~>4"),
        {},
        9,
    ),
    "JUMP goes on at one node": (
        sketch({1: const(5), 2: ("JUMP", {"label": "n4"}), 3: "PRINT", 4: "PRINT"}, "1->2 2->3 2->4"),
        {},
        5,
    ),
    "INV takes named ports": (sketch({1: const(1), 2: const(2), 3: inv("pair")}, "1->3:b 2->3:a"), {}, [2, 1]),
    "INV takes positions, arg_ and params_json": (
        sketch(
            {1: const(1), 2: inv("pair", arg_a="x"), 3: inv("pair", params_json={"b": {"k": "{0}"}}), 4: "WAIT_ALL"},
            "1->2 1->3 2->4 3->4 1->3",
        ),
        {},
        [["x", 1], [1, {"k": 1}]],
    ),
    "INV awaits": (sketch({1: const(1), 2: inv("slowly")}, "1->2"), {}, [1]),
    "a text takes the value of a predecessor": (
        sketch({1: const(1), 2: inv("pair", arg_a="{{node_1}}", arg_b="v{{node_1}}")}),
        {},
        [1, "v1"],
    ),
    "UMEM then QMEM": (
        sketch({1: const(6), 2: ("UMEM", {"key": "k"}), 3: ("QMEM", {"key": "k"})}, "1->2 2~>3"),
        {},
        6,
    ),
    "QMEM of nothing is null": (sketch({1: ("QMEM", {"key": "k"})}), {}, None),
    "a root that needs an input takes the parameters": (
        sketch({1: merge("array")}, parameters=["a", "b"]),
        {"a": 1, "b": 2},
        [1, 2],
    ),
    "ERR with an input and no message is a handler": (
        sketch({1: const({"message": "m"}), 2: "ERR"}, "1->2"),
        {},
        "Error: m",
    ),
    "RETURN is the value": (sketch({1: const(1), 2: const(2), 3: "RETURN"}, "1->3"), {}, 1),
    "RETURN leaves from inside regions": (
        sketch(
            {
                1: const("a"),
                2: (
                    "SWITCH",
                    {},
                    {
                        "a": sketch(
                            {
                                1: (
                                    "TRY_CATCH",
                                    {},
                                    {"try": sketch({5: const("deep"), 6: "RETURN"}, "5->6"), "finally": sketch({1: const(0)})},
                                )
                            }
                        )
                    },
                ),
                3: "PRINT",
            },
            "1->2 2->3",
        ),
        {},
        "deep",
    ),
    "YIELD is the value of its region": (
        sketch({2: ("LOOP", {"max_iterations": 1}, {"body": sketch({1: const(1), 2: const(2), 3: "YIELD"}, "2->3")})}),
        {},
        2,
    ),
    "LOOP carries a value": (
        sketch(
            {
                1: const([]),
                2: (
                    "LOOP",
                    {"max_iterations": 3, "carry": ["acc"]},
                    {"body": sketch({1: "WAIT_ALL"}, "acc->1 iteration->1", parameters=["acc", "iteration"])},
                ),
            },
            "1->2:acc",
        ),
        {},
        [[[[], 0], 1], 2],
    ),
    "LOOP ends when `while` is false": (
        sketch(
            {
                1: const(0),
                2: (
                    "LOOP",
                    {"max_iterations": 9, "carry": ["n"], "while": "< 3"},
                    {"body": sketch({1: const(1), 2: merge("sum")}, "n->2 1->2", parameters=["n"])},
                ),
            },
            "1->2",
        ),
        {},
        3,
    ),
    "LOOP ends when `until` is true": (
        sketch(
            {
                2: (
                    "LOOP",
                    {"max_iterations": 9, "until": ">= 2"},
                    {"body": sketch({1: "PRINT"}, "iteration->1", parameters=["iteration"])},
                )
            }
        ),
        {},
        2,
    ),
    "LOOP without an iteration gives the first carried value": (
        sketch(
            {
                1: const("v"),
                2: ("LOOP", {"max_iterations": 0, "carry": ["n"]}, {"body": sketch({1: "PRINT"}, "n->1", parameters=["n"])}),
            },
            "1->2",
        ),
        {},
        "v",
    ),
    "`count` lowers max_iterations": (
        sketch(
            {
                1: const(2),
                2: ("LOOP", {"max_iterations": 9}, {"body": sketch({1: "PRINT"}, "iteration->1", parameters=["iteration"])}),
            },
            "1->2:count",
        ),
        {},
        1,
    ),
    "LOOP carries several names from a map": (
        sketch(
            {
                1: const(1),
                2: (
                    "LOOP",
                    {"max_iterations": 2, "carry": ["acc", "other"]},
                    {"body": sketch({7: inv("fields")}, "acc->7 other->7", parameters=["acc", "other"])},
                ),
            },
            "1->2:acc 1->2",
        ),
        {},
        {"acc": 224, "other": 41},
    ),
    "MAP keeps the order": (
        sketch(
            {
                1: const([5, 6]),
                2: ("MAP", {}, {"body": sketch({1: "WAIT_ALL"}, "index->1 item->1", parameters=["item", "index"])}),
            },
            "1->2",
        ),
        {},
        [[0, 5], [1, 6]],
    ),
    "MAP of [] is []": (sketch({1: const([]), 2: ("MAP", {}, {"body": sketch({1: const(1)})})}, "1->2"), {}, []),
    "MAP reduces": (
        sketch(
            {
                1: const([5, 6]),
                2: const("k"),
                3: (
                    "MAP",
                    {},
                    {
                        "body": sketch({1: "PRINT"}, "item->1", parameters=["item"]),
                        "reduce": sketch({1: "WAIT_ALL"}, "items->1 k->1", parameters=["k", "items"]),
                    },
                ),
            },
            "1->3 2->3:k",
        ),
        {},
        [[5, 6], "k"],
    ),
    "MAP skips failed items": (
        sketch(
            {
                1: const([1, 2, 3, 4]),
                2: ("MAP", {"on_item_error": "skip"}, {"body": sketch({1: inv("fail_if_odd")}, "item->1", parameters=["item"])}),
            },
            "1->2",
        ),
        {},
        [2, 4],
    ),
    "MAP gives null for failed items": (
        sketch(
            {
                1: const([1, 2]),
                2: ("MAP", {"on_item_error": "null"}, {"body": sketch({1: inv("fail_if_odd")}, "item->1", parameters=["item"])}),
            },
            "1->2",
        ),
        {},
        [None, 2],
    ),
    "TRY gives its value": (
        sketch(
            {
                1: (
                    "TRY_CATCH",
                    {},
                    {"try": sketch({1: const(1)}), "catch": sketch({1: const(2)}), "finally": sketch({1: const(3)})},
                )
            }
        ),
        {},
        1,
    ),
    "a failure goes to catch": (
        sketch(
            {
                1: (
                    "TRY_CATCH",
                    {},
                    {
                        "try": sketch({4: err("bad", code="c9", **{"class": "denied"})}),
                        "catch": sketch({1: "PRINT"}, "error->1", parameters=["error"]),
                    },
                )
            }
        ),
        {},
        {"code": "c9", "class": "denied", "message": "bad", "node": "n4", "op": "ERR", "attempts": 1},
    ),
    "an inner scope wins": (
        sketch(
            {
                1: (
                    "TRY_CATCH",
                    {},
                    {
                        "try": sketch({2: ("TRY_CATCH", {}, {"try": sketch({4: err()}), "catch": sketch({1: const("inner")})})}),
                        "catch": sketch({1: const("outer")}),
                    },
                )
            }
        ),
        {},
        "inner",
    ),
    "a failure in catch goes outwards": (
        sketch(
            {
                1: (
                    "TRY_CATCH",
                    {},
                    {
                        "try": sketch({2: ("TRY_CATCH", {}, {"try": sketch({4: err("a")}), "catch": sketch({5: err("b")})})}),
                        "catch": sketch({1: inv("blame"), 2: "YIELD"}, "error->1 1->2", parameters=["error"]),
                    },
                )
            }
        ),
        {},
        "fatal/raised/n5",
    ),
    "a failure in finally replaces the value": (
        sketch(
            {
                1: (
                    "TRY_CATCH",
                    {"fallback": "f"},
                    {"try": sketch({1: const(1)}), "finally": sketch({5: err("b")})},
                )
            }
        ),
        {},
        "f",
    ),
    "fallback supplies a value": (sketch({1: ("ERR", {"message": "x", "fallback": [1]}), 2: "PRINT"}, "1->2"), {}, [1]),
    "fallback catches what fails beneath": (
        sketch({1: ("LOOP", {"max_iterations": 2, "fallback": 0}, {"body": sketch({1: err()})})}),
        {},
        0,
    ),
    "fallback wins over error edges": (
        sketch({1: ("ERR", {"message": "x", "fallback": 1}), 2: "PRINT", 3: "PRINT"}, "1@error->2 1->3"),
        {},
        1,
    ),
    "an error edge carries the error": (
        sketch({1: err(), 2: inv("blame"), 3: "PRINT"}, "1@error->2 1->3"),
        {},
        "fatal/raised/n1",
    ),
    "an error edge catches what fails beneath": (
        sketch(
            {
                1: const([1]),
                2: ("MAP", {}, {"body": sketch({7: inv("fail_if_odd")}, "item->7", parameters=["item"])}),
                3: inv("blame"),
            },
            "1->2 2@error->3",
        ),
        {},
        "fatal/capability/n7",
    ),
    "GUARD may skip to its error edge": (
        sketch(
            {
                1: const(""),
                2: ("GUARD", {"condition": "not_empty", "on_fail": "skip", "error_message": "e{0}"}),
                3: "PRINT",
                4: inv("blame"),
            },
            "1->2 2->3 2@error->4",
        ),
        {},
        "fatal/raised/n2",
    ),
    "a GUARD that skips is no live exit": (
        sketch({1: const(""), 2: ("GUARD", {"condition": "not_empty", "on_fail": "skip"})}, "1->2"),
        {},
        None,
    ),
    "first_success takes what did not fail": (
        sketch({1: const(1), 2: inv("boom"), 3: "PRINT", 4: merge("first_success")}, "1->2 1->3 2->4 3->4"),
        {},
        1,
    ),
    "FLOW_CALL binds by name and in order": (
        {
            "agents": [
                {
                    "name": "a",
                    "flows": [
                        sketch(
                            {1: const(1), 2: const(2), 3: ("FLOW_CALL", {"flow_name": "sub", "args": {"z": "c"}})}, "1->3:y 2->3"
                        ),
                        {
                            **sketch({1: "WAIT_ALL"}, "x->1 y->1 z->1", parameters=["x", "y", "z"], name="sub"),
                            "metadata": {"is_entry": False},
                        },
                    ],
                }
            ]
        },
        {},
        [2, 1, "c"],
    ),
    "RETURN inside a called flow ends only that flow": (
        {
            "agents": [
                {
                    "name": "a",
                    "flows": [
                        sketch({1: ("FLOW_CALL", {"flow_name": "sub"}), 2: merge("array")}, "1->2"),
                        {**sketch({1: const(4), 2: "RETURN", 3: const(5)}, "1->2", name="sub"), "metadata": {"is_entry": False}},
                    ],
                }
            ]
        },
        {},
        [4],
    ),
    "RETURN in a loop body ends the loop": (
        sketch(
            {
                1: (
                    "LOOP",
                    {"max_iterations": 5},
                    {
                        "body": sketch(
                            {1: branch(2), 2: "RETURN", 3: "YIELD"}, "iteration->1 1@true->2 1@false->3", parameters=["iteration"]
                        )
                    },
                )
            }
        ),
        {},
        2,
    ),
    "declared exits give the outputs": (
        sketch({1: const(1), 2: "PRINT"}, "1->2", exits=["n1"]),
        {},
        1,
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_the_oracle_gives_the_value_that_was_worked_out_by_hand(name: str) -> None:
    program, parameters, value = VALUES[name]
    found = run(program, **parameters)
    assert found.error is None
    assert found.value == value
    assert type(found.value) is type(value)


FAILURES: dict[str, tuple[Any, tuple[str, str, str, tuple[Any, ...]]]] = {
    "ERR": (sketch({1: err("m", code="c", **{"class": "budget"})}), ("c", "budget", "n1", ())),
    "GUARD": (sketch({1: const(0), 2: ("GUARD", {"condition": "> 0"})}, "1->2"), ("raised", "fatal", "n2", ())),
    "a capability": (sketch({1: const(0), 2: inv("boom")}, "1->2"), ("capability", "fatal", "n2", ())),
    "a missing argument": (sketch({1: const(0), 2: inv("pair")}, "1->2"), ("invalid", "invalid", "n2", ())),
    "a sum of texts": (sketch({1: const("a"), 2: merge("sum")}, "1->2"), ("invalid", "invalid", "n2", ())),
    "a MAP over a number": (
        sketch({1: const(3), 2: ("MAP", {}, {"body": sketch({1: const(1)})})}, "1->2"),
        ("invalid", "invalid", "n2", ()),
    ),
    "a loop body without what is carried": (
        sketch(
            {
                1: (
                    "LOOP",
                    {"max_iterations": 2, "carry": ["x", "y"]},
                    {"body": sketch({7: "PRINT"}, "y->7", parameters=["x", "y"])},
                ),
            }
        ),
        ("invalid", "invalid", "n1", ()),
    ),
    "the inside of a region": (
        sketch({1: ("LOOP", {"max_iterations": 2}, {"body": sketch({7: err()})})}),
        ("raised", "fatal", "n7", ((1, 0),)),
    ),
    "a TRY_CATCH without catch": (
        sketch({1: ("TRY_CATCH", {}, {"try": sketch({7: err()}), "finally": sketch({1: const(1)})})}),
        ("raised", "fatal", "n7", ((1, "try"),)),
    ),
    "a finally after a failure": (
        sketch({1: ("TRY_CATCH", {}, {"try": sketch({7: err()}), "finally": sketch({8: err()})})}),
        ("raised", "fatal", "n8", ((1, "finally"),)),
    ),
    "two live YIELDs": (
        sketch({1: ("LOOP", {"max_iterations": 1}, {"body": sketch({1: const(1), 2: "YIELD", 3: "YIELD"}, "1->2 1->3")})}),
        ("two_values", "invalid", "n1", ()),
    ),
    "parameters that are missing": (sketch({1: const(1)}, parameters=["p"]), ("parameter", "invalid", "", ())),
}


@pytest.mark.parametrize("name", FAILURES)
def test_the_oracle_names_code_class_node_and_path_of_a_failure(name: str) -> None:
    program, wanted = FAILURES[name]
    error = run(program).error
    assert error is not None
    assert (error.code, error.failure, error.node, error.path) == wanted


def ids(found: set[Any]) -> set[int]:
    """Node ids of the activations in the root frame."""
    return {node for path, node in found if not path}


def test_what_is_behind_a_dead_edge_is_skipped_and_costs_no_firing() -> None:
    found = run(sketch({1: const(1), 2: branch(1), 3: "PRINT", 4: "PRINT", 5: "PRINT"}, "1->2 2@false->3 3->4 2@true->5"))
    assert (ids(found.fired), ids(found.skipped)) == ({1, 2, 5}, {3, 4})
    assert found.outputs == {"n5": 1}


def test_outputs_are_the_live_exits_and_value_is_absent_when_there_are_two() -> None:
    found = run(sketch({1: const(1), 2: const(2)}))
    assert found.outputs == {"n1": 1, "n2": 2}
    assert found.value is None


def test_continue_makes_a_failed_node_emit_dead_tokens_where_it_stands() -> None:
    program = sketch({1: const(3), 2: inv("fail_if_odd"), 3: "PRINT", 4: "PRINT", 5: "WAIT_ALL"}, "1->2 2->3 1->4 3->5 4->5")
    found = run(program, "continue")
    assert found.error is None
    assert (ids(found.failed), ids(found.skipped), found.value) == ({2}, {3}, [3])


def test_continue_goes_on_inside_a_region_that_nothing_around_it_guards() -> None:
    body = sketch({1: inv("fail_if_odd"), 2: const("c"), 3: "WAIT_ALL"}, "item->1 1->3 2->3", parameters=["item"])
    program = sketch({1: const([1, 2]), 2: ("MAP", {}, {"body": body})}, "1->2")
    assert run(program, "continue").value == [["c"], [2, "c"]]


def test_continue_still_closes_a_try_region_on_its_first_failure() -> None:
    attempt = sketch({4: err(), 5: "PRINT", 6: const("rest")}, "4->5")
    found = run(sketch({1: ("TRY_CATCH", {}, {"try": attempt, "catch": sketch({1: const("c")})})}), "continue")
    assert found.value == "c"
    assert found.is_closed(((1, "try"),))
    assert not found.is_closed(((1, "catch"),))
    assert (((1, "try"),), 5) not in found.fired | found.skipped


def test_what_is_downstream_of_a_failure_that_ends_the_run_is_neither_fired_nor_skipped() -> None:
    found = run(sketch({1: err(), 2: "PRINT", 3: const(1), 4: "PRINT"}, "1->2 3->4"))
    assert ids(found.fired) == {1, 3, 4}
    assert not found.skipped
    assert found.is_closed(())


def test_a_finally_is_never_closed_from_outside() -> None:
    tried: Any = ("TRY_CATCH", {}, {"try": sketch({1: const(1)}), "finally": sketch({1: const(1)})})
    found = run(sketch({1: err(), 2: tried}))
    assert found.is_closed(((2, "try"),))
    assert not found.is_closed(((2, "finally"),))


def test_without_choices_any_takes_the_first_live_in_edge() -> None:
    assert run(sketch({1: const(1), 2: const(2), 3: merge("any")}, "2->3 1->3")).value == 2


def test_a_chosen_winner_is_taken() -> None:
    choices = Choices(winners={((), 3): 1})
    assert run(sketch({1: const(1), 2: const(2), 3: merge("any")}, "2->3 1->3"), choices=choices).value == 1


def test_a_dead_winner_is_refused() -> None:
    program = sketch({1: const(1), 2: branch(1), 3: "PRINT", 4: "PRINT", 5: merge("any")}, "1->2 2@true->3 2@false->4 3->5 4->5")
    with pytest.raises(OracleMismatch, match="not live"):
        run(program, choices=Choices(winners={((), 5): 1}))


def test_a_winner_that_always_comes_later_is_refused() -> None:
    program = sketch({1: const(1), 2: "PRINT", 3: merge("any")}, "2->3 1->2 1->3")
    assert run(program).value == 1
    with pytest.raises(OracleMismatch, match="always comes before"):
        run(program, choices=Choices(winners={((), 3): 0}))


def test_a_parameter_is_there_before_any_node() -> None:
    program = sketch({1: const(1), 2: merge("any")}, "1->2 p->2", parameters=["p"])
    assert run(program, p="p").value == "p"
    with pytest.raises(OracleMismatch):
        run(program, p="p", choices=Choices(winners={((), 2): 0}))


def test_what_a_race_may_cancel_is_optional_and_nothing_else_is() -> None:
    program = sketch(
        {1: const(1), 2: const(2), 3: "PRINT", 4: merge("race"), 5: const(5), 6: "PRINT"}, "1->4 2->3 3->4 5->4 5~>6"
    )
    found = run(program)
    assert ids(found.optional) == {2, 3}


def test_a_loser_of_a_race_that_fails_counts_only_when_it_was_seen_to() -> None:
    program = sketch({1: const(1), 2: const(3), 3: inv("fail_if_odd"), 4: merge("race")}, "1->4 2->3 3->4")
    assert run(program).value == 1
    seen = run(program, choices=Choices(order={((), 3): 5}))
    assert seen.error is not None
    assert seen.error.node == "n3"


def test_the_failure_that_came_first_is_the_one_that_catch_gets() -> None:
    attempt = sketch({4: err("a"), 5: err("b")})
    program = sketch(
        {1: ("TRY_CATCH", {}, {"try": attempt, "catch": sketch({1: inv("blame")}, "error->1", parameters=["error"])})}
    )
    at = ((1, "try"),)
    assert run(program, choices=Choices(order={(at, 5): 1, (at, 4): 2})).value == "fatal/raised/n5"
    assert run(program, choices=Choices(order={(at, 4): 1})).value == "fatal/raised/n4"


def test_a_return_before_a_failure_is_the_value_and_after_it_is_nothing() -> None:
    program = sketch({1: const(1), 2: "RETURN", 3: err()}, "1->2")
    assert run(program, choices=Choices(order={((), 2): 1})).value == 1
    failed = run(program, choices=Choices(order={((), 3): 1}))
    assert failed.error is not None


def test_what_a_return_waits_for_may_still_fail_the_flow() -> None:
    program = sketch({1: const(1), 2: "RETURN", 3: err()}, "1->2")
    choices = Choices(order={((), 2): 1, ((), 3): 2})
    assert run(program, choices=choices).error is not None
    assert run(program, "continue", choices).value == 1


def test_every_failure_that_could_have_ended_the_run_is_listed() -> None:
    found = run(sketch({1: err(), 2: err(), 3: "PRINT"}, "1->3"))
    assert [one.node for one in found.possible] == ["n1", "n2"]


def test_what_fired_before_something_is_what_it_needs() -> None:
    found = run(sketch({1: const(1), 2: const(2), 3: merge("any"), 4: "PRINT", 5: const(3)}, "1->3 2->3 3->4 5=>4"))
    assert found.needs[(), 3] == {((), 1)}
    assert found.needs[(), 4] == {((), 3), ((), 5)}


def test_calls_are_written_down_with_their_arguments() -> None:
    found = run(sketch({1: const(1), 2: inv("pair", arg_b="x")}, "1->2"))
    assert found.calls == [("pair", '{"a": 1, "b": "x"}')]


def test_a_first_success_forgives_only_what_leads_nowhere_else() -> None:
    nodes = {1: const(1), 2: inv("boom"), 3: "PRINT", 4: merge("first_success"), 5: "PRINT"}
    assert run(sketch(nodes, "1->2 1->3 2->4 3->4")).error is None
    assert run(sketch(nodes, "1->2 1->3 2->4 3->4 2->5")).error is not None


def test_a_race_whose_gate_is_dead_is_skipped() -> None:
    program = sketch({1: const(0), 2: branch(1), 3: const(9), 4: merge("race")}, "1->2 3->4 2@true=>4")
    assert ids(run(program).skipped) == {4}


def test_the_oracle_reads_graph_objects_as_it_reads_json() -> None:
    from apxm.graph.model import Edge, Graph, Node, Parameter

    graph = Graph("g", [Node(1, "a", "PRINT"), Node(2, "b", "WAIT_ALL")], [Edge("p", 1), Edge(1, 2)], [Parameter("p")])
    assert run(graph, p="x").value == ["x"]
