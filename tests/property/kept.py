"""Programs that once showed something: each with the seed of the generator of its day, made as small as possible."""

from __future__ import annotations

from typing import Any

from apxm.testing.programs import Program
from apxm.testing.sketch import sketch


def const(value: Any) -> tuple[str, dict[str, Any]]:
    return ("CONST_STR", {"value": value})


def inv(name: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return ("INV", {"capability": name, **more})


def _tried(region: Any, **more: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    attributes = {"fallback": more.pop("fallback")} if "fallback" in more else {}
    return ("TRY_CATCH", attributes, {"try": region, **more})


def _two_yields() -> dict[str, Any]:
    """Seed 51683: a SWITCH that a RETURN lets finish has two values; the flow fails, and with it the call of the flow."""
    case = sketch({1: "YIELD", 2: "PRINT", 3: "YIELD"}, "input->1 input->3", parameters=["input"])
    callee = sketch({4: ("SWITCH", {}, {"default": case}), 5: "RETURN"}, "q->4 q->5", parameters=["q"], name="callee")
    callee["metadata"] = {"is_entry": False}
    start = sketch({6: const(1), 7: ("FLOW_CALL", {"flow_name": "callee"})}, "6->7", name="start")
    return {"agents": [{"name": "main", "flows": [start, callee]}]}


def _late_finally() -> dict[str, Any]:
    """Seed 103207: after a RETURN, the `finally` of a TRY beside it fails, and a TRY without `catch` stands around both."""
    writing = _tried(sketch({1: ("UMEM", {"key": "k", "value": 3})}))
    last = sketch({2: inv("pick", arg_x=1), 3: writing, 4: ("GUARD", {"condition": "!= b"})}, "2->4")
    beside = _tried(sketch({5: const(1)}), **{"finally": last})
    return sketch({8: _tried(sketch({6: const(82), 7: "RETURN", 9: beside}, "6->7"))})


def _late_effect(around: Any, edges: str = "") -> dict[str, Any]:
    """An effect that a RETURN beside it lets finish, and that fails; `around` is what stands around both."""
    inside = sketch({1: const(1), 2: "RETURN", 3: inv("act_or_fail", arg_x=9)}, "1->2")
    return sketch({8: const([1]), 9: around(inside)}, edges)


KEPT: dict[str, dict[str, Any]] = {
    "a switch with two values after a return": _two_yields(),
    "a finally that fails after a return": _late_finally(),
    "a late failure in a try without catch": _late_effect(lambda inside: _tried(inside)),
    "a late failure in a try with catch": _late_effect(lambda inside: _tried(inside, catch=sketch({5: const(7)}))),
    "a late failure in a try with a fallback": _late_effect(lambda inside: _tried(inside, fallback=5)),
    "a late failure in a map that skips": _late_effect(
        lambda inside: ("MAP", {"on_item_error": "skip"}, {"body": inside}), "8->9"
    ),
    # Seed 517: the JUMP goes into the body of a loop, which is a node of its own once it is folded.
    "a jump into a loop written as two nodes": sketch(
        {1: const(4), 2: ("JUMP", {"label": "n4"}), 3: ("LOOP_START", {"max_iterations": 2}), 4: "PRINT", 5: "LOOP_END"},
        "1->2 2=>4 1->3 3->4 4->5",
    ),
}


def kept(name: str) -> Program:
    return Program(0, KEPT[name], {}, "fail_fast")
