from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest

from apxm.errors import BindError, CapabilityError, DeniedError, InvalidError
from apxm.executor.bind import Kind
from apxm.graph.ops import Effect
from apxm.observability.events import Printed
from tests.unit.executor.tool_world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.capabilities.close()


def untyped(a, b=2):  # type: ignore[no-untyped-def]
    return [a, b]


def typed(a: int, b: float = 2.0) -> str:
    return f"{a} {b}"


def search(query: str, limit: int = 10, *, lang: Literal["en", "de"] = "en") -> list[str]:
    return [query, str(limit), lang]


def anything(**named: Any) -> dict[str, Any]:
    return named


def several(first: int, *more: int) -> list[int]:
    return [first, *more]


# --- the hot path -------------------------------------------------------------------------------------------------------


def test_an_untyped_pure_function_is_bound_as_itself(world: World) -> None:
    world.add(untyped, effect="pure")
    bound = world.bind(None, None)
    assert (bound.kind, bound.effect, bound.label) == (Kind.PURE, Effect.PURE, None)
    assert bound.fn is untyped
    assert not bound.owns


def test_leading_constants_are_bound_in_front(world: World) -> None:
    world.add(untyped, effect="pure")
    bound = world.bind(None, args=[1])
    assert isinstance(bound.fn, partial)
    assert bound.fn.func is untyped
    assert world.fire(bound, 5) == [1, 5]


def test_inputs_by_name_come_in_the_order_of_the_parameters(world: World) -> None:
    world.add(untyped, effect="pure")
    assert world.fire(world.bind("b", "a"), 1, 2) == [2, 1]
    assert world.fire(world.bind("b", None), 1, 2) == [2, 1]


def test_a_typed_pure_function_checks_its_arguments(world: World) -> None:
    world.add(typed, effect="pure")
    bound = world.bind(None, None)
    assert bound.kind is Kind.PURE
    for _ in range(2):  # the second time from what was accepted before
        assert world.fire(bound, 1, 2.5) == "1 2.5"
        assert world.fire(bound, 1, 2) == "1 2"
        with pytest.raises(InvalidError, match=r"INV `n` \(node 7\) of flow `f`: capability `tool`.*expected float|argument `b`"):
            world.fire(bound, 1, "x")
        with pytest.raises(InvalidError, match=r"argument `a` .* is True \(bool\), expected int"):
            world.fire(bound, True, 1.0)


@pytest.mark.parametrize("arity", [1, 2, 3, 4, 7])
def test_types_are_checked_for_any_number_of_arguments(world: World, arity: int) -> None:
    def fn(*values: int) -> int:
        return sum(values)

    world.add(fn, effect="pure")
    bound = world.bind(*[None] * arity)
    for _ in range(2):
        assert world.fire(bound, *range(arity)) == sum(range(arity))
    for place in range(arity):
        values: list[Any] = [1] * arity
        values[place] = "x"
        with pytest.raises(InvalidError, match="is 'x'"):
            world.fire(bound, *values)


def test_what_a_pure_function_promises_beyond_scalars_is_checked_and_settled(world: World) -> None:
    kept = [np.float64(1.5)]

    def fn(right) -> list[float]:  # type: ignore[no-untyped-def]
        return kept if right else ["x"]  # type: ignore[return-value,list-item]

    world.add(fn, effect="pure")
    bound = world.bind(None)
    assert bound.owns
    assert type(world.fire(bound, True)[0]) is float
    with pytest.raises(CapabilityError, match="expected list of float"):
        world.fire(bound, False)


def test_an_async_or_threaded_pure_function_waits_without_counting_as_a_tool(world: World) -> None:
    async def later(a: int) -> int:
        await asyncio.sleep(0)
        return a

    world.add(later, effect="pure")
    world.add(lambda a: a, "threaded", effect="pure", run="thread")
    for name in ("tool", "threaded"):
        bound = world.bind(None, capability=name)
        assert (bound.kind, bound.effect, bound.label) == (Kind.ASYNC, Effect.PURE, None)
        assert world.fire(bound, 3) == 3
    assert world.ledger.spent()["tool_calls"] == 0


# --- where arguments come from ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", ["pure", "read"])
@pytest.mark.parametrize(
    ("inputs", "attributes", "values", "expected"),
    [
        ([None], {}, ["cats"], ["cats", "10", "en"]),
        ([None, None], {}, ["cats", 3], ["cats", "3", "en"]),
        ([], {"params_json": {"query": "cats", "lang": "de"}}, [], ["cats", "10", "de"]),
        ([], {"params_json": '{"query": "cats"}'}, [], ["cats", "10", "en"]),
        ([], {"arg_query": "cats", "arg_limit": 3}, [], ["cats", "3", "en"]),
        ([], {"args": ["cats", 3]}, [], ["cats", "3", "en"]),
        ([None], {"args": ["cats"]}, [3], ["cats", "3", "en"]),
        ([None], {"params_json": {"limit": 3}}, ["cats"], ["cats", "3", "en"]),
        ([None], {"params_json": {"query": "cats"}}, [3], ["cats", "3", "en"]),
        (["limit", "query"], {}, [3, "cats"], ["cats", "3", "en"]),
        (["lang", None], {}, ["de", "cats"], ["cats", "10", "de"]),
        (["1", "0"], {}, ["cats", 3], ["cats", "3", "en"]),
        # what comes later takes the place of what came before
        ([], {"params_json": {"query": "old"}, "arg_query": "cats"}, [], ["cats", "10", "en"]),
        (["query"], {"params_json": {"query": "old"}}, ["cats"], ["cats", "10", "en"]),
        # placeholders: alone the value itself, else its text
        ([None], {"params_json": {"query": "about {0}", "limit": 3}}, ["cats"], ["about cats", "3", "en"]),
        ([None, None], {"params_json": {"query": "{1}", "limit": "{0}"}}, [3, "cats"], ["cats", "3", "en"]),
        (["topic"], {"arg_query": "about {topic}"}, ["cats"], ["about cats", "10", "en"]),
        (["query"], {"arg_query": "about {query}"}, ["cats"], ["about cats", "10", "en"]),
        ([("x", 5)], {"arg_query": "{{node_5}}"}, ["cats"], ["cats", "10", "en"]),
        (["query", "limit"], {"arg_lang": "en"}, ["cats", 3], ["cats", "3", "en"]),
        ([None, None], {"args": ["{1}"]}, [3, "cats"], ["cats", "3", "en"]),
        # more inputs than parameters, because a position was asked for
        ([None, None, None, None], {"arg_query": "{1}"}, [3, "cats", 4, 5], ["cats", "3", "en"]),
    ],
    ids=str,
)
def test_where_arguments_come_from(
    world: World, effect: str, inputs: list[Any], attributes: dict[str, Any], values: list[Any], expected: list[str]
) -> None:
    world.add(search, effect=effect, run="inline")
    assert world.fire(world.bind(*inputs, **attributes), *values) == expected


def test_nested_values_are_kept_and_filled_as_values(world: World) -> None:
    world.add(anything, effect="pure")
    bound = world.bind(None, "who", params_json={"a": {"b": ["{0}", "hi {who}", None, 1.5]}, "c": "{0}"})
    value = {"deep": [1]}
    assert world.fire(bound, value, "Ann") == {"a": {"b": [value, "hi Ann", None, 1.5]}, "c": value}


def test_inserted_text_is_not_scanned_again(world: World) -> None:
    world.add(anything, effect="pure")
    assert world.fire(world.bind(None, arg_a="<{0}>"), "{who} {{node_3}}") == {"a": "<{who} {{node_3}}>"}


def test_every_firing_gets_constants_of_its_own(world: World) -> None:
    def spoil(items: list[int]) -> int:
        items.append(1)
        return len(items)

    world.add(spoil, effect="pure")
    bound = world.bind(arg_items=[])
    assert [world.fire(bound), world.fire(bound)] == [1, 1]


def test_a_named_input_that_a_text_uses_is_an_argument_too_when_nothing_else_gives_it(world: World) -> None:
    world.add(anything, effect="pure")

    def write(path: str, content: str) -> list[str]:
        return [path, content]

    world.add(write, "write_it", effect="pure")
    bound = world.bind("path", capability="write_it", arg_content="in {path}")
    assert world.fire(bound, "a.md") == ["a.md", "in a.md"]


def test_further_arguments_go_to_the_rest(world: World) -> None:
    world.add(several, effect="pure")
    assert world.fire(world.bind(None, None, None), 1, 2, 3) == [1, 2, 3]
    assert world.fire(world.bind(None, args=[1, 2]), 3) == [1, 2, 3]
    assert world.fire(world.bind(None, arg_first=1, arg_more=[2, "{0}"]), 3) == [1, 2, 3]
    with pytest.raises(InvalidError, match="argument `more`"):
        world.fire(world.bind(None, None), 1, "x")
    with pytest.raises(BindError, match=r"argument `more` is 3 \(int\), expected a list"):
        world.bind(arg_first=1, arg_more=3)


def test_a_json_schema_is_checked_as_a_whole(world: World) -> None:
    schema = {
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a"],
        "dependentRequired": {"a": ["b"]},
    }
    world.add(anything, effect="pure", parameters=schema)
    assert world.fire(world.bind(None, None), 1, 2) == {"a": 1, "b": 2}
    with pytest.raises(InvalidError, match="do not fit its schema"):
        world.fire(world.bind("a"), 1)
    with pytest.raises(BindError, match="do not fit"):
        world.bind(arg_a=1)


# --- what is refused when a dag is bound --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "attributes", "message"),
    [
        ([], {}, "lacks argument `query`"),
        ([], {"arg_quary": "x"}, "no parameter `quary`; close: `query`"),
        (["quary"], {"arg_query": "x"}, "no parameter `quary`; close: `query`"),
        ([None, None, None], {}, "has 2 parameters free and 3 arguments without a name"),
        ([None], {"args": ["cats", 1, 2]}, "has 2 parameters free and 4 arguments without a name"),
        ([], {"arg_query": 3}, "argument `query` is 3 (int), expected str"),
        ([None], {"arg_lang": "fr"}, "argument `lang` is 'fr' (str), expected one of"),
        ([None], {"args": [["cats"]]}, "argument `query` is ['cats'] (list), expected str"),
        ([], {"params_json": "{query: cats}"}, "its `params_json` is no JSON"),
        ([], {"params_json": ["cats"]}, "its `params_json` is ['cats'] (list), expected a map"),
        ([], {"args": "cats"}, "its `args` are 'cats' (str), expected a list"),
        ([], {"arg_query": "{topic}"}, "nothing fills `{topic}`"),
        ([None], {"arg_query": "{1}"}, "nothing fills `{1}`"),
    ],
    ids=str,
)
def test_what_is_wrong_whatever_the_inputs_are_is_refused_at_once(
    world: World, inputs: list[Any], attributes: dict[str, Any], message: str
) -> None:
    world.add(search, effect="read")
    with pytest.raises(BindError) as refused:
        world.bind(*inputs, **attributes)
    assert message in str(refused.value)
    assert str(refused.value).startswith("INV `n` (node 7) of flow `f`")


def test_a_capability_that_is_not_there_is_named_with_its_flow_and_the_nearest_one(world: World) -> None:
    world.add(search, "web_search")
    with pytest.raises(BindError) as refused:
        world.bind(None, capability="web_serch")
    assert str(refused.value).startswith("flow `f` calls capability `web_serch`, which is not registered")
    assert "close: `web_search`" in str(refused.value)


def test_built_in_tools_are_off_until_granted(world: World, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(DeniedError, match=r"grant `read=DIRECTORY`"):
        world.bind(None, capability="read")
    bound = world.bind(None, capability="read", grants=(f"read={tmp_path}",))
    assert world.fire(bound, "a.txt") == "hello"
    with pytest.raises(DeniedError):
        world.fire(bound, "../a.txt")
    with pytest.raises(BindError, match="no parameter `roots`"):
        world.bind(None, capability="read", arg_roots=["/"], grants=(f"read={tmp_path}",))


def test_grants_do_not_leak_from_one_binding_to_another(world: World, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(name)
    bounds = [world.bind(None, capability="read", grants=(f"read={tmp_path / name}",)) for name in ("one", "two")]
    assert [world.fire(bound, "a.txt") for bound in bounds] == ["one", "two"]


# --- PRINT --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "message", "values", "text", "value"),
    [
        ([], "hello", [], "hello", "hello"),
        ([], None, [], "", ""),
        ([None], "", ["x"], "x", "x"),
        ([None], "got:", ["x"], "got: x", "x"),
        ([None, None], "got:", [{"a": [1, None]}, "x"], 'got: {"a": [1, null]} x', {"a": [1, None]}),
        ([None, "who"], "{who} says {0}", ["hi", "Ann"], "Ann says hi", "hi"),
        ([("x", 4)], "<{{node_4}}>", [3], "<3>", 3),
        ([None], "a {brace} of {0}", ["x"], None, None),
    ],
    ids=str,
)
def test_what_print_shows_and_gives(
    world: World, inputs: list[Any], message: Any, values: list[Any], text: Any, value: Any
) -> None:
    attributes = {} if message is None else {"message": message}
    if text is None:
        with pytest.raises(BindError, match=r"nothing fills `\{brace\}`"):
            world.bind(*inputs, op="PRINT", **attributes)
        return
    bound = world.bind(*inputs, op="PRINT", **attributes)
    assert (bound.kind, bound.effect) == (Kind.SYNC, Effect.IDEMPOTENT)
    assert world.fire(bound, *values) == value
    assert world.events == [Printed(((3, 1),), 7, text)]
