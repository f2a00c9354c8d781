"""What the oracle says about failures that pass, and about a model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apxm.testing.capabilities import functions, guarded
from apxm.testing.firing import MODEL
from apxm.testing.oracle import OracleResult, run_oracle
from apxm.testing.sketch import sketch
from tests.unit.testing.cases import const, inv


def run(graph: Any) -> OracleResult:
    return run_oracle(graph, {}, capabilities=functions(), guarded=guarded())


def flaky(name: str, fails: int, **more: Any) -> dict[str, Any]:
    return sketch({1: inv(name, arg_x=1, arg_key="k", arg_fails=fails, **more)})


@pytest.mark.parametrize("name", ["wobble", "falter"])
@pytest.mark.parametrize(("fails", "more"), [(0, {}), (2, {}), (1, {"retries": 1}), (3, {"retries": 3})])
def test_what_fails_no_more_often_than_it_may_gives_its_value(name: str, fails: int, more: Any) -> None:
    found = run(flaky(name, fails, **more))
    assert found.error is None
    assert (len(found.calls), found.retried) == (fails + 1, fails)


@pytest.mark.parametrize(
    ("name", "fails", "more", "calls", "attempts"),
    [
        ("wobble", 3, {}, 3, 3),
        ("wobble", 1, {"retries": 0}, 1, 1),
        ("falter", 3, {}, 3, 1),  # whoever calls tries again: for the node it is one attempt
        ("falter_once", 1, {}, 1, 1),
        ("falter_once", 1, {"retries": 3}, 1, 1),
    ],
)
def test_what_fails_more_often_fails(name: str, fails: int, more: Any, calls: int, attempts: int) -> None:
    found = run(flaky(name, fails, **more))
    assert found.error is not None
    assert (found.error.failure, found.error.attempts, len(found.calls)) == ("transient", attempts, calls)


def test_an_err_that_may_pass_is_tried_again_and_fails_all_the_same() -> None:
    found = run(sketch({1: ("ERR", {"message": "no", "class": "transient"})}))
    assert found.error is not None
    assert (found.error.code, found.error.attempts, found.retried) == ("raised", 3, 2)


def test_any_other_failure_is_not_tried_again() -> None:
    assert run(sketch({1: ("ERR", {"message": "no", "class": "fatal"})})).retried == 0


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("", "tea"),
        ("Look.", "Look.\n\nContext 1: tea\n\nContext 2: 7"),
        ("What is {0}?", "What is tea?"),
        ("{1} before {0}", "7 before tea"),
        ("{{node_2}} it is", "7 it is"),
    ],
)
def test_a_prompt_is_made_of_its_template_and_its_inputs(template: str, prompt: str) -> None:
    found = run(sketch({1: const("tea"), 2: const(7), 3: ("ASK", {"template_str": template})}, "1->3 2->3"))
    assert found.calls == [(MODEL, json.dumps({"prompt": prompt}))]


@pytest.mark.parametrize(("fails", "more", "answered"), [(3, {}, True), (4, {}, False), (1, {"max_retries": 0}, False)])
def test_a_model_that_fails_is_asked_again_as_often_as_it_may_be(fails: int, more: Any, answered: bool) -> None:
    found = run(sketch({1: ("ASK", {"template_str": f"[k fails {fails}] Go.", **more})}))
    assert (found.error is None) is answered
    if found.error is not None:
        assert (found.error.code, found.error.failure, found.error.attempts) == ("model", "fatal", 1)
