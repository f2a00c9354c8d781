"""Values the oracle gives, each worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from apxm.testing.sketch import sketch
from tests.unit.testing.cases import branch, const, err, inv, merge, run

# name: (program, parameters, value)
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
