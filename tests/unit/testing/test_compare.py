"""What `compare` lets pass and what it refuses, on runs written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from apxm.errors import RaisedError
from apxm.observability.events import FrameOpened, NodeEnded
from apxm.testing.capabilities import functions
from apxm.testing.compare import Observed, compare, observe
from apxm.testing.oracle import OracleMismatch, OracleResult, run_oracle
from apxm.testing.sketch import sketch

CHAIN = sketch({1: ("CONST_STR", {"value": 4}), 2: ("INV", {"capability": "later"}), 3: "PRINT"}, "1->2 2->3")


def oracle(program: Any, **more: Any) -> OracleResult:
    return run_oracle(program, {}, capabilities=functions(), **more)


def ended(node: int, outcome: str = "done", path: Any = (), winner: int | None = None) -> NodeEnded:
    return NodeEnded(path, node, f"n{node}", "PRINT", outcome, winner=winner)


def chain(**changes: Any) -> Observed:
    seen = observe([ended(1), ended(2), ended(3)], outputs={"n3": 13}, value=13)
    return replace(seen, calls=[("later", '{"x": 4}')], **changes) if "calls" not in changes else replace(seen, **changes)


def test_a_run_that_does_what_the_oracle_does_passes() -> None:
    compare(oracle(CHAIN), chain())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"value": 14}, "value is 14"),
        ({"outputs": {}}, "outputs are"),
        ({"done": {((), 1), ((), 3)}}, "n?2.*did not fire"),
        ({"done": {((), 1), ((), 2), ((), 3), ((), 9)}}, "9.* fired, though it could not"),
        ({"skipped": {((), 3)}}, "was skipped, though"),
        ({"failed": {((), 2)}}, "failed, though"),
        ({"error": RaisedError("x")}, "expected None"),
        ({"calls": []}, "less than expected"),
        ({"calls": [("later", '{"x": 5}')]}, "more than expected"),
        ({"calls": [("later", '{"x": 4}')] * 2}, "1 times more"),
    ],
)
def test_every_difference_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(OracleMismatch, match=says):
        compare(oracle(CHAIN), chain(**changes))


def test_an_activation_that_ends_twice_is_refused() -> None:
    with pytest.raises(OracleMismatch, match="ended twice"):
        observe([ended(1), ended(1)], outputs={}, value=None)


def test_a_failure_that_a_fallback_made_good_is_both() -> None:
    seen = observe([replace(ended(1), error="no")], outputs={}, value=None)
    assert seen.failed == seen.done == {((), 1)}


@pytest.mark.parametrize("again", ["failed", "done"])
def test_nothing_ends_twice(again: str) -> None:
    with pytest.raises(OracleMismatch, match="ended twice"):
        observe([ended(1), ended(1, again)], outputs={}, value=None)


def test_the_winner_and_the_order_of_ends_are_the_choices_of_a_run() -> None:
    seen = observe([ended(2, "skipped"), ended(5, "failed"), ended(4, winner=1)], outputs={}, value=None)
    assert seen.choices.winners == {((), 4): 1}
    assert list(seen.choices.order) == [((), 5), ((), 4)]


FAILING = sketch({1: ("ERR", {"message": "no"}), 2: ("CONST_STR", {"value": 1}), 3: "PRINT"}, "2->3")


def failed_run(*done: int) -> Observed:
    error = RaisedError("no")
    error.node, error.op = "n1", "ERR"
    seen = observe([*(ended(node) for node in done), ended(1, "failed")], outputs={}, value=None, error=error)
    return replace(seen, calls=[])


@pytest.mark.parametrize("done", [(), (2,), (2, 3)])
def test_what_a_failure_cut_short_may_be_missing(done: tuple[int, ...]) -> None:
    compare(oracle(FAILING), failed_run(*done))


def test_nothing_fires_before_what_it_needs_even_where_a_failure_cut_it_short() -> None:
    with pytest.raises(OracleMismatch, match="fired before"):
        compare(oracle(FAILING), failed_run(3))


def test_another_error_than_the_one_that_came_first_is_refused() -> None:
    seen = failed_run()
    assert seen.error is not None
    seen.error.node = "n2"
    with pytest.raises(OracleMismatch, match="error is"):
        compare(oracle(FAILING), seen)


def test_another_wording_of_a_promised_message_is_refused() -> None:
    seen = failed_run()
    error = RaisedError("yes")
    error.node, error.op = "n1", "ERR"
    seen.error = error
    with pytest.raises(OracleMismatch, match="says 'yes'"):
        compare(oracle(FAILING), seen)


TRIED: Any = (
    "TRY_CATCH",
    {},
    {"try": sketch({5: ("CONST_STR", {"value": 1})}), "finally": sketch({6: ("CONST_STR", {"value": 1})})},
)
CLEANED = sketch({1: ("ERR", {"message": "no"}), 2: TRIED})


def cleaned_run(*events: Any) -> Observed:
    seen = failed_run()
    opened = [*events, ended(1, "failed")]
    return replace(observe(opened, outputs={}, value=None, error=seen.error), calls=[])


def test_a_finally_may_not_be_missing_once_its_try_has_opened() -> None:
    opened = FrameOpened(((2, "try"),), "try", 1, 1)
    compare(oracle(CLEANED), cleaned_run())
    compare(oracle(CLEANED), cleaned_run(opened, ended(6, path=((2, "finally"),))))
    with pytest.raises(OracleMismatch, match=r"6.*did not fire"):
        compare(oracle(CLEANED), cleaned_run(opened))


def test_a_loser_of_a_race_may_be_missing_and_a_winner_may_not() -> None:
    nodes = {1: ("CONST_STR", {"value": 1}), 2: ("CONST_STR", {"value": 2}), 3: ("MERGE", {"mode": "race"})}
    expected = oracle(sketch(nodes, "1->3 2->3"))
    compare(expected, observe([ended(1), ended(3, winner=0)], outputs={"n3": 1}, value=1))
    with pytest.raises(OracleMismatch):
        compare(expected, observe([ended(2), ended(3, winner=0)], outputs={"n3": 1}, value=1))
