from __future__ import annotations

from typing import Annotated, Any, Dict, List, Literal, Mapping, Optional, Sequence, TypeVar  # noqa: UP035

import numpy as np
import pytest

from apxm.capability.schema import HintRefused, JsonSchema, compile_hint
from apxm.errors import InvalidError

ACCEPTED = [
    (str, "x", {"type": "string"}),
    (int, 3, {"type": "integer"}),
    (float, 1.5, {"type": "number"}),
    (float, 1, {"type": "number"}),
    (bool, True, {"type": "boolean"}),
    (None, None, {"type": "null"}),
    (bytes, b"x", {"type": "string", "format": "binary"}),
    (list, [1, "a"], {"type": "array"}),
    (dict, {"a": 1}, {"type": "object"}),
    (list[int], [1, 2], {"type": "array", "items": {"type": "integer"}}),
    (List[int], [], {"type": "array", "items": {"type": "integer"}}),  # noqa: UP006
    (Sequence[str], ["a"], {"type": "array", "items": {"type": "string"}}),
    (list[Any], [1j], {"type": "array"}),
    (Dict[str, int], {"a": 1}, {"type": "object", "additionalProperties": {"type": "integer"}}),  # noqa: UP006
    (
        Mapping[str, list[str]],
        {"a": ["b"]},
        {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
    ),
    (Optional[int], None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),  # noqa: UP045
    (int | str, "x", {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
    (list[int] | None, [1], {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]}),
    (Literal["a", 1], 1, {"enum": ["a", 1]}),
    (Annotated[int, "how many"], 3, {"type": "integer"}),
    (Any, 1j, {}),
    (Any | None, 1j, {}),
]

REFUSED = [
    (int, True),
    (int, 1.0),
    (int, "1"),
    (float, True),
    (float, "1.5"),
    (bool, 1),
    (str, None),
    (str, b"x"),
    (list, (1,)),
    (list[int], [1, "a"]),
    (list[int], [True]),
    (list[list[int]], [[1], ["a"]]),
    (dict[str, int], {"a": "b"}),
    (int | None, "x"),
    (list[int] | None, ["x"]),
    (Literal["a", 1], True),
    (Literal["a", 1], "b"),
    (Literal["a"], ["a"]),
    (np.ndarray, [1]),
]


@pytest.mark.parametrize(("hint", "value", "schema"), ACCEPTED, ids=str)
def test_a_hint_says_its_schema_and_accepts_what_fits(hint: Any, value: Any, schema: dict[str, Any]) -> None:
    compiled = compile_hint(hint)
    assert compiled.schema == schema
    assert compiled.accepts(value)


@pytest.mark.parametrize(("hint", "value"), REFUSED, ids=str)
def test_a_hint_refuses_what_does_not_fit(hint: Any, value: Any) -> None:
    assert not compile_hint(hint).accepts(value)


@pytest.mark.parametrize(
    "hint", [set, tuple[int, int], dict[int, str], complex, TypeVar("T"), Literal[1.5], list[set[int]], "int", [int]]
)
def test_a_hint_that_no_schema_says_is_refused(hint: Any) -> None:
    with pytest.raises(HintRefused):
        compile_hint(hint)


def test_arrays_are_accepted_as_such() -> None:
    assert compile_hint(np.ndarray).accepts(np.zeros(2))


def test_a_json_schema_names_what_is_wrong_and_where() -> None:
    schema = JsonSchema({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}}, "x")
    assert schema.problem({"a": [1]}) is None
    problem = schema.problem({"a": [1, "b"]})
    assert problem is not None
    assert '"b" is not of type "integer"' in problem
    assert "['a'][1]" in problem


@pytest.mark.parametrize("value", [b"x", np.zeros(2), [object()]])
def test_what_json_cannot_say_does_not_fit_a_json_schema(value: Any) -> None:
    assert JsonSchema({"items": {"type": "integer"}}, "x").problem(value)


@pytest.mark.parametrize(
    "schema",
    [{"type": "nope"}, {"$ref": "http://127.0.0.1:9/x"}, {"$ref": "file:///etc/passwd"}, {"pattern": "(?=a)"}, {"pattern": "("}],
)
def test_a_json_schema_that_is_none_or_reaches_out_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidError, match="the schema of capability `x`"):
        JsonSchema(schema, "capability `x`")
