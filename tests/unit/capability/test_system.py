from __future__ import annotations

import asyncio
from threading import Barrier, Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from apxm.capability.record import CapabilityRecord
from apxm.capability.system import CapabilitySystem, Grants, granted
from apxm.errors import CapabilityError, DeniedError, InvalidError, ValueRefused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def system() -> Iterator[CapabilitySystem]:
    system = CapabilitySystem()
    yield system
    system.close()


def add(a: int, b: int = 1, *more: int) -> int:
    """Add them up."""
    return a + b + sum(more)


def test_what_is_registered_is_found_and_listed(system: CapabilitySystem) -> None:
    built_in = system.list_capability_names()
    record = system.register("add", CapabilityRecord("Add", add))
    assert system.get("add") is record
    assert system.has("add")
    assert system.list_capability_names() == sorted([*built_in, "add"])
    assert system.describe("add")["description"] == "Add"


def test_the_generation_grows_with_every_change(system: CapabilitySystem) -> None:
    before = system.generation
    system.register("add", CapabilityRecord("Add", add))
    assert system.unregister("add")
    assert system.generation == before + 2
    assert not system.unregister("add")
    assert system.generation == before + 2


def test_the_decorator_registers_and_leaves_the_function_alone(system: CapabilitySystem) -> None:
    @system.capability(effect="pure")
    def twice(value: int) -> int:
        """Two times as much."""
        return 2 * value

    @system.capability("other", description="Something else")
    def named(value: int) -> int:
        return value

    assert twice(2) == named(4) == 4
    assert system.get("twice").description == "Two times as much."
    assert system.get("other").description == "Something else"
    with pytest.raises(InvalidError, match="parentheses"):
        system.capability(add)  # type: ignore[arg-type]


def test_an_unknown_name_comes_with_the_nearest_one(system: CapabilitySystem) -> None:
    system.register("web_search", CapabilityRecord("x", add))
    with pytest.raises(CapabilityError) as unknown:
        system.get("web_serch")
    assert str(unknown.value) == "capability `web_serch` is not registered; close: `web_search`"
    with pytest.raises(CapabilityError, match=r"registered: .*`list`, .*`read`"):
        system.get("zzzzzz")


@pytest.mark.parametrize("name", ["", "1st", "a b", "x" * 200, "a\n", 3])
def test_a_name_is_a_word(system: CapabilitySystem, name: Any) -> None:
    with pytest.raises(InvalidError, match="no capability name"):
        system.register(name, CapabilityRecord("x", add))


def test_a_name_is_taken_once(system: CapabilitySystem) -> None:
    with pytest.raises(InvalidError, match="already registered"):
        system.register("read", CapabilityRecord("x", add))


def test_a_function_is_no_record(system: CapabilitySystem) -> None:
    with pytest.raises(InvalidError, match=r"CapabilityRecord\(description, fn\)"):
        system.register("add", add)  # type: ignore[arg-type]


def test_invoke_checks_arguments_runs_and_settles(system: CapabilitySystem) -> None:
    system.register("add", CapabilityRecord("Add", add, effect="read"))
    assert asyncio.run(system.invoke("add", {"a": 1})) == 2
    assert asyncio.run(system.invoke("add", {"a": np.int64(1), "b": 2, "more": [3, 4]})) == 10
    for arguments, message in (
        ({}, "lacks argument `a`"),
        ({"a": "1"}, "argument `a`"),
        ({"a": 1, "c": 2}, "no parameter `c`"),
        ({"a": 1, "more": 3}, "`more` of capability `add` is no list"),
        ({"a": 1, "more": ["x"]}, "argument `more`"),
    ):
        with pytest.raises(InvalidError, match=message):
            asyncio.run(system.invoke("add", arguments))
    with pytest.raises(ValueRefused, match=r'arguments of capability `add`: the value at \["a"\]'):
        asyncio.run(system.invoke("add", {"a": 2**70}))


def test_a_result_that_is_no_value_is_refused(system: CapabilitySystem) -> None:
    system.register("bad", CapabilityRecord("x", lambda: {1}))
    with pytest.raises(ValueRefused, match="the result of capability `bad`"):
        asyncio.run(system.invoke("bad"))


def test_built_in_tools_need_a_grant_and_those_of_the_host_do_not(system: CapabilitySystem, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    host = system.register("add", CapabilityRecord("Add", add))
    assert granted(host, Grants()) is host
    bare = system.register("shell", CapabilityRecord("x", add), builtin=True)
    with pytest.raises(DeniedError, match="--grant shell"):
        granted(bare, Grants())
    assert granted(bare, Grants.parse(["shell"])) is bare
    for grants in (Grants(), Grants.parse(["read"]), Grants.parse([f"list={tmp_path}"])):
        with pytest.raises(DeniedError, match=r"grant `read=DIRECTORY`"):
            asyncio.run(system.invoke("read", {"path": "a.txt"}, grants=grants))
    assert asyncio.run(system.invoke("read", {"path": "a.txt"}, grants=Grants.parse([f"read={tmp_path}"]))) == "hello"


def test_hidden_parameters_cannot_be_given(system: CapabilitySystem, tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="no parameter `roots`"):
        asyncio.run(system.invoke("read", {"path": "passwd", "roots": ["/etc"]}, grants=Grants.parse([f"read={tmp_path}"])))


def test_registering_from_several_threads_loses_nothing(system: CapabilitySystem) -> None:
    barrier, built_in = Barrier(4), len(system.list_capability_names())

    def register(me: int) -> None:
        barrier.wait()
        for number in range(25):
            system.register(f"c{me}_{number}", CapabilityRecord("x", add))

    threads = [Thread(target=register, args=(me,)) for me in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(system.list_capability_names()) == 100 + built_in
    assert system.generation == 100 + built_in


def test_closing_twice_is_closing_once(system: CapabilitySystem) -> None:
    system.register("add", CapabilityRecord("Add", add))
    system.close()
    system.close()
    with pytest.raises(CapabilityError, match="closed"):
        asyncio.run(system.invoke("add", {"a": 1}))


# --- grants -------------------------------------------------------------------------------------------------------------


def test_grants_are_names_and_names_with_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    grants = Grants.parse(["read=docs", "read=/srv", "web_search", "read=docs/"])
    assert grants.allows("read")
    assert grants.allows("web_search")
    assert not grants.allows("write")
    assert grants.roots("read") == (str(tmp_path / "docs"), "/srv")
    assert grants.roots("web_search") == ()


def test_equal_grants_are_one_key() -> None:
    assert {Grants.parse(["a", "b"]), Grants.parse(["b", "a"])} == {Grants.parse(["a", "b"])}
    assert Grants.parse(["read=/a"]) != Grants.parse(["read=/b"])


@pytest.mark.parametrize("text", ["", "=docs", "read=", " "])
def test_what_is_no_grant_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="is no grant"):
        Grants.parse([text])
