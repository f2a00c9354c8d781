from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest

from apxm.capability.signature import Placed, Signature, read_signature
from apxm.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

WHOSE = "capability `x`"


def search(query: str, limit: int = 10, *, lang: Literal["en", "de"] = "en") -> list[str]:
    """Search the web.

    Args:
        query: what to look for
        limit (int): how many at most

    Returns:
        query: not a parameter's note
    """
    return [query, str(limit), lang]


def read(fn: Callable[..., Any], schema: dict[str, Any] | None = None) -> Signature:
    return read_signature(fn, WHOSE, schema=schema)


def place(
    fn: Callable[..., Any], *positional: Any, schema: dict[str, Any] | None = None, rest: tuple[Any, ...] = (), **named: Any
) -> Any:
    placed: Placed[Any] = read(fn, schema).place(positional, named, WHOSE, default=lambda value: value, rest=rest)
    return fn(*placed.args, **placed.kwargs)


def test_the_schema_comes_from_hints_defaults_and_docstring() -> None:
    assert read(search).schema == {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "what to look for"},
            "limit": {"type": "integer", "description": "how many at most"},
            "lang": {"enum": ["en", "de"]},
        },
        "required": ["query"],
        "additionalProperties": False,
    }


def test_notes_may_be_written_in_the_sphinx_way_or_in_the_hint() -> None:
    def fn(a: int, b: Annotated[str, "the second"]) -> None:
        """Do it.

        :param int a: the first
        """

    properties = read(fn).schema["properties"]
    assert properties["a"]["description"] == "the first"
    assert properties["b"]["description"] == "the second"


def test_positional_arguments_fill_what_has_no_name() -> None:
    assert place(search, "cats", limit=3) == ["cats", "3", "en"]
    assert place(search, 3, query="cats") == ["cats", "3", "en"]
    assert place(search, "cats", lang="de") == ["cats", "10", "de"]


def test_gaps_are_filled_with_defaults() -> None:
    def fn(a: int, b: int = 2, c: int = 3, /, *rest: int) -> list[int]:
        return [a, b, c, *rest]

    assert place(fn, 1, c=9) == [1, 2, 9]
    assert place(fn, 1, 5, c=9) == [1, 5, 9]
    assert place(fn, 1, rest=(7, 8)) == [1, 2, 3, 7, 8]
    assert place(fn, 1, 2, 3, 4, 5) == [1, 2, 3, 4, 5]


def test_what_the_function_takes_beyond_its_names_is_open() -> None:
    def fn(a: int, **more: int) -> dict[str, int]:
        return {"a": a, **more}

    assert place(fn, 1, b=2) == {"a": 1, "b": 2}
    assert read(fn).schema["additionalProperties"] == {"type": "integer"}
    with pytest.raises(InvalidError, match="argument `b`"):
        read(fn).verify(Placed([1], ["a"], {"b": "x"}), WHOSE)


@pytest.mark.parametrize(
    ("positional", "named", "message"),
    [
        ((), {}, "lacks argument `query`"),
        (("a", 1, 2), {}, "has 2 parameters free and 3 arguments without a name"),
        (("a",), {"query": "b", "limit": 3}, "has 0 parameters free and 1 argument without a name"),
        (("a",), {"limt": 3}, "no parameter `limt`; close: `limit`"),
        (("a",), {"zzz": 3}, "its parameters: query, limit?, lang?"),
        ((), {"limit": 3}, "lacks argument `query`"),
    ],
)
def test_arguments_that_do_not_fit_the_parameters_are_refused(positional: Any, named: Any, message: str) -> None:
    with pytest.raises(InvalidError) as refused:
        place(search, *positional, **named)
    assert message in str(refused.value)
    assert WHOSE in str(refused.value)


def test_a_value_that_does_not_fit_is_refused_with_its_name() -> None:
    signature = read(search)
    signature.verify(Placed(["cats", 3], ["query", "limit"], {"lang": "de"}), WHOSE)
    with pytest.raises(InvalidError, match=r"argument `limit` of capability `x` is '3' \(str\), expected int"):
        signature.verify(Placed(["cats", "3"], ["query", "limit"], {}), WHOSE)
    with pytest.raises(InvalidError, match=r"argument `lang` .* expected one of 'en', 'de'"):
        signature.verify(Placed(["cats"], ["query"], {"lang": "fr"}), WHOSE)


def test_a_json_schema_replaces_the_hints() -> None:
    def fn(query, limit=10):  # type: ignore[no-untyped-def]
        return [query, limit]

    schema = {"properties": {"query": {"type": "string", "minLength": 2}, "limit": {"type": "integer"}}}
    signature = read(fn, schema)
    assert signature.schema["additionalProperties"] is False
    assert signature.required == {"query"}
    assert place(fn, "cats", schema=schema) == ["cats", 10]
    with pytest.raises(InvalidError, match="do not fit its schema"):
        signature.verify(Placed(["c"], ["query"], {}), WHOSE)
    with pytest.raises(InvalidError, match="no parameter `other`"):
        place(fn, "cats", other=1, schema=schema)


def test_a_json_schema_can_name_what_kwargs_takes() -> None:
    def fn(**arguments: Any) -> dict[str, Any]:
        return arguments

    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]}
    assert place(fn, 1, 2, schema=schema) == {"a": 1, "b": 2}
    with pytest.raises(InvalidError, match="lacks argument `a`"):
        place(fn, b=2, schema=schema)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "array"}, "describes no object"),
        ({"properties": {"query": {}, "more": {}}}, "property `more`, which the function does not take"),
        ({"properties": {"limit": {}}}, "does not describe parameter `query`"),
        ({"properties": {"query": {"type": "nope"}}}, "no valid JSON Schema"),
    ],
)
def test_a_json_schema_that_does_not_go_with_the_function_is_refused(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        read(search, schema)


def test_an_unsupported_hint_names_the_parameter_and_what_is_supported() -> None:
    def fn(good: int, bad: set[int]) -> None: ...

    with pytest.raises(InvalidError, match=r"parameter `bad` of capability `x` has the type hint set\[int\].*supported are str"):
        read(fn)


def test_a_hint_that_is_not_there_at_run_time_is_refused_with_a_way_out() -> None:
    def fn(amount: Decimal) -> None: ...

    with pytest.raises(InvalidError, match=r"cannot be evaluated.*Decimal.*JSON Schema"):
        read(fn)
    read(fn, {"properties": {"amount": {"type": "string"}}})


def test_a_function_that_hides_its_parameters_is_refused() -> None:
    with pytest.raises(InvalidError, match="wrap it in a def"):
        read(max)


def test_partials_methods_and_callable_objects_are_read() -> None:
    class Tool:
        def method(self, size: int) -> int:
            return size

        def __call__(self, name: str) -> str:
            return name

    assert read(Tool().method).hints["size"].text == "int"
    assert read(Tool()).hints["name"].text == "str"
    assert place(partial(search, limit=5), "cats") == ["cats", "5", "en"]
    assert read(partial(search, "cats")).order == ("limit",)
