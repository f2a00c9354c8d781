from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apxm.budget import Limits
from apxm.cli.arguments import bind, limits
from apxm.errors import ConfigError, ParameterError
from apxm.graph.model import Parameter

if TYPE_CHECKING:
    from pathlib import Path

DECLARED = [Parameter(kind, kind) for kind in ("str", "int", "float", "bool", "json")]


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("str=12", "12"),
        ("str=", ""),
        ("str=a=b", "a=b"),
        ("int=-7", -7),
        ("float=1e3", 1000.0),
        ("bool=TRUE", True),
        ("bool=no", False),
        ('json={"a": [1]}', {"a": [1]}),
    ],
)
def test_a_parameter_is_converted_to_its_declared_type(given: str, value: object) -> None:
    bound = bind([given], None, DECLARED)
    assert bound == {given.partition("=")[0]: value}
    assert type(bound[given.partition("=")[0]]) is type(value)


@pytest.mark.parametrize("given", ["int=1.5", "int=x", "float=ten", "bool=maybe", "json={a:1}", "json="])
def test_a_value_of_the_wrong_type_is_refused_by_name_and_type(given: str) -> None:
    name = given.partition("=")[0]
    with pytest.raises(ParameterError, match=rf"parameter `{name}` .*expected .*\(type {name}\)"):
        bind([given], None, DECLARED)


def test_an_unknown_parameter_is_named_with_the_nearest_one() -> None:
    with pytest.raises(ParameterError, match="no parameter `flot`; did you mean `float`"):
        bind(["flot=1"], None, DECLARED)


def test_a_parameter_without_a_value_says_how_to_write_one() -> None:
    with pytest.raises(ParameterError, match="--param name=value"):
        bind(["str"], None, DECLARED)


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text(json.dumps({"int": 1, "str": "from file"}))
    assert bind(["int=2"], file, DECLARED) == {"int": 2, "str": "from file"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "line 1, column 2"),
        (b"[1]", "holds a list, expected an object"),
        (b"\xff", "not UTF-8"),
        (b'{"nope": 1}', "no parameter `nope`"),
    ],
)
def test_a_bad_parameter_file_says_what_is_wrong_with_it(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "p.json"
    file.write_bytes(content)
    with pytest.raises(ParameterError, match=said):
        bind([], file, DECLARED)


def test_a_missing_parameter_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"none\.json: No such file"):
        bind([], tmp_path / "none.json", DECLARED)


def test_budgets_may_be_given_together_or_one_by_one() -> None:
    assert limits(["llm_calls=10, nodes=1000", "cost_usd=0.5"]) == Limits(llm_calls=10, nodes=1000, cost_usd=0.5)
    assert limits([]) == Limits()


@pytest.mark.parametrize(
    ("text", "said"),
    [("llm_cals=1", "did you mean `llm_calls`"), ("nodes=ten", "expected a whole number"), ("nodes", "expected a whole number")],
)
def test_a_bad_budget_says_what_was_expected(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        limits([text])
