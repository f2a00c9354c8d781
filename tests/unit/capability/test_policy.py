"""Labels, trust, interceptors and people: what lets a call through, and what does not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from apxm.capability.policy import UNTRUSTED, Allow, Deny, Edit, Request, Trust, approved, matches, untrusted
from apxm.capability.record import CapabilityRecord
from apxm.capability.system import CapabilitySystem
from apxm.errors import ConfigError, DeniedError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def system() -> Iterator[CapabilitySystem]:
    system = CapabilitySystem()
    system.register("join", CapabilityRecord("Join.", join, effect="read", run="inline"))
    yield system
    system.close()


def join(a: str, b: str = "-") -> str:
    return a + b


def call(system: CapabilitySystem, **arguments: Any) -> Any:
    return asyncio.run(system.invoke("join", arguments))


# --- labels -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "is_untrusted"),
    [("llm:gpt", True), ("web", True), ("many", True), ("user", False), ("tool:read", False), ("memory:stm", False)],
)
def test_models_the_web_and_what_may_be_either_are_not_trusted(label: str, is_untrusted: bool) -> None:
    assert untrusted(label, UNTRUSTED) is is_untrusted


def test_many_stands_for_any_source_so_only_trust_in_everything_covers_it() -> None:
    assert not matches("many", ("llm:*", "web", "m*"))
    assert matches("many", ("*",))
    assert matches("many", ("many",))
    assert untrusted("many", ("web",))
    assert not untrusted("many", ())


def test_trust_is_for_every_capability_or_for_one() -> None:
    trust = Trust.parse(["llm:*", "web = send_mail"])
    assert trust.allows("llm:x", "anything")
    assert trust.allows("web", "send_mail")
    assert not trust.allows("web", "delete")
    assert not Trust().allows("web", "send_mail")


@pytest.mark.parametrize("text", ["", " ", "=send", "web=", "web= "])
def test_trust_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="says no trust"):
        Trust.parse([text])


# --- interceptors -------------------------------------------------------------------------------------------------------


def test_interceptors_see_the_call_in_the_order_of_their_registration(system: CapabilitySystem) -> None:
    seen: list[Any] = []

    def first(request: Request) -> Edit:
        seen.append((request.capability, dict(request.arguments), request.effect, request.run, request.node))
        return Edit({**request.arguments, "b": "!"})

    async def second(request: Request) -> Allow:
        await asyncio.sleep(0)
        seen.append(dict(request.arguments))
        return Allow()

    system.intercept(first)
    system.intercept(second, ["jo*"])
    system.intercept(lambda request: Deny("another"), ["other"])
    assert call(system, a="x") == "x!"
    assert seen == [("join", {"a": "x"}, "read", None, None), {"a": "x", "b": "!"}]


def test_a_denial_says_who_denied_and_why_and_nothing_is_called(system: CapabilitySystem) -> None:
    def never(request: Request) -> Deny:
        return Deny("not today")

    system.intercept(never)
    with pytest.raises(DeniedError, match=r"interceptor `.*never` denied the call: not today") as denied:
        call(system, a="x")
    assert denied.value.code == "policy"
    assert system.stats()["join"]["denied"] == 1
    assert system.stats()["join"]["calls"] == 0


@pytest.mark.parametrize("said", [None, True, "yes", Allow], ids=repr)
def test_an_interceptor_that_says_nothing_clear_denies(system: CapabilitySystem, said: Any) -> None:
    system.intercept(lambda request: said)
    with pytest.raises(DeniedError, match=r"expected Allow\(\), Deny\(reason\) or Edit\(arguments\)"):
        call(system, a="x")


def test_an_interceptor_that_raises_denies_with_the_cause(system: CapabilitySystem) -> None:
    system.intercept(lambda request: 1 / 0)  # type: ignore[arg-type, return-value]
    with pytest.raises(DeniedError, match="failed: ZeroDivisionError") as denied:
        call(system, a="x")
    assert isinstance(denied.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(("arguments", "problem"), [({"a": 3}, "expected str"), ({"c": "x"}, "no parameter"), ({}, "lacks")])
def test_what_an_interceptor_makes_of_the_arguments_is_checked(
    system: CapabilitySystem, arguments: dict[str, Any], problem: str
) -> None:
    system.intercept(lambda request: Edit(arguments))
    with pytest.raises(InvalidError, match=problem):
        call(system, a="x")


def test_arrays_go_through_interceptors_as_any_value_does(system: CapabilitySystem) -> None:
    def total(values: np.ndarray) -> float:
        return float(values.sum())

    seen: list[Any] = []

    def look(request: Request) -> Allow:
        seen.append(dict(request.labels))
        return Allow()

    system.register("total", CapabilityRecord("x", total, effect="pure"))
    system.intercept(lambda request: Edit({"values": request.arguments["values"] * 2}))
    system.intercept(look)
    assert asyncio.run(system.invoke("total", {"values": np.ones(3)})) == 6.0
    assert seen == [{"values": ()}]


def test_an_interceptor_may_repair_what_the_schema_would_refuse(system: CapabilitySystem) -> None:
    system.intercept(lambda request: Edit({"a": str(request.arguments["a"])}))
    assert call(system, a=3) == "3-"


def test_an_interceptor_cannot_change_the_arguments_in_place(system: CapabilitySystem) -> None:
    def meddle(request: Request) -> Allow:
        request.arguments["a"] = "y"  # type: ignore[index]
        return Allow()

    system.intercept(meddle)
    with pytest.raises(DeniedError, match="TypeError"):
        call(system, a="x")


def test_every_change_of_interceptors_and_approver_makes_bindings_old(system: CapabilitySystem) -> None:
    def hook(request: Request) -> Allow:
        return Allow()

    generation = system.generation
    system.intercept(hook)
    system.approver = lambda request: True
    assert system.remove_interceptor(hook)
    assert not system.remove_interceptor(hook)
    assert system.generation == generation + 3
    assert system.hooks("join") == ()


# --- people -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [True, Allow()], ids=repr)
def test_a_plain_yes_approves(said: Any) -> None:
    approved(said, "the call")


@pytest.mark.parametrize(
    ("said", "message"),
    [(False, "was not approved"), (Deny("no money"), "was not approved: no money"), (None, "returned None"), (1, "returned 1")],
)
def test_anything_else_does_not(said: Any, message: str) -> None:
    with pytest.raises(DeniedError, match=message) as denied:
        approved(said, "the call")
    assert denied.value.code == "policy"


@pytest.mark.parametrize("fn", [3, "x"])
def test_who_decides_is_a_function(system: CapabilitySystem, fn: Any) -> None:
    with pytest.raises(InvalidError, match="approver is a"):
        system.approver = fn
    with pytest.raises(InvalidError, match="interceptor is a"):
        system.intercept(fn)
