"""How the oracle fails, skips, closes and chooses, each worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from apxm.testing.oracle import Choices, OracleMismatch
from apxm.testing.sketch import sketch
from tests.unit.testing.cases import branch, const, err, inv, merge, run

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


ORACLE = ("oracle", "compare", "firing", "meaning", "reading", "readgraph", "references", "folding")


def test_the_oracle_shares_no_code_with_what_it_judges() -> None:
    code = "import sys, apxm.testing.oracle, apxm.testing.compare; print(*(m for m in sys.modules if m.startswith('apxm')))"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    own = {f"apxm.testing.{name}" for name in ORACLE}
    assert loaded == {"apxm", "apxm.errors", "apxm.testing", "apxm.observability", "apxm.observability.events", *own}
