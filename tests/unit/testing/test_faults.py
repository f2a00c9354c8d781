"""Fault plans: the planned call goes wrong in the planned way, every other call is as before, and no plan is quietly in vain."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from apxm import CapabilityRecord, Graph, RunOptions, Runtime
from apxm.errors import (
    CapabilityError,
    DeadlineError,
    DeniedError,
    HandlerError,
    InvalidError,
    ModelError,
    TransientError,
    UnknownEffectError,
)
from apxm.testing import FaultPlan, FaultsMissed, VirtualClock
from apxm.testing.faults import HANG_MAX_S


async def waits(path: str) -> str:
    return os.path.basename(path)


def plain(path: str) -> str:
    return os.path.basename(path)


RECORDS = {
    "async": CapabilityRecord("The last part of a path.", waits, effect="read"),
    "inline": CapabilityRecord("The last part of a path.", plain, effect="pure"),
    "thread": CapabilityRecord("The last part of a path.", plain, effect="read", run="thread"),
    "process": CapabilityRecord("The last part of a path.", "posixpath:basename", effect="read"),
}


def one_call(name: str = "base", **more: Any) -> Graph:
    graph = Graph("one")
    graph.inv(name, graph.const_str("a/b.md"), name="call", retries=0, **more)
    return graph


def three_calls() -> Graph:
    """One after the other, over the items of a list."""
    graph = Graph("three")
    with graph.map(graph.const_str(["x/1", "x/2", "x/3"]), window=1, name="all") as item:
        item.graph.yield_(item.graph.inv("base", item, name="call"))
    return graph


@pytest.fixture
def runtime(apxm_runtime: Any, virtual_clock: VirtualClock) -> Runtime:
    made: Runtime = apxm_runtime(clock=virtual_clock, capabilities={"base": RECORDS["async"]})
    return made


# ---- every kind of capability ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", RECORDS)
def test_the_planned_call_fails_and_the_next_is_the_real_one(apxm_runtime: Any, fault_plan: FaultPlan, kind: str) -> None:
    fault_plan.capability("base").fail("fatal", calls=1)
    runtime = apxm_runtime(capabilities={"base": RECORDS[kind]}, faults=fault_plan)
    with pytest.raises(CapabilityError, match="planned fault of capability `base`, call 1"):
        runtime.execute(one_call())
    assert runtime.execute(one_call()).value == "b.md"


@pytest.mark.parametrize("kind", RECORDS)
def test_a_lie_is_what_the_program_gets(apxm_runtime: Any, fault_plan: FaultPlan, kind: str) -> None:
    fault_plan.capability("base").lie("wrong", calls=1).lie(lambda real: f"{real}!", calls=2)
    runtime = apxm_runtime(capabilities={"base": RECORDS[kind]}, faults=fault_plan)
    assert [runtime.execute(one_call()).value for _ in range(3)] == ["wrong", "b.md!", "b.md"]


@pytest.mark.parametrize("kind", RECORDS)
def test_a_capability_says_of_itself_what_it_said_before(apxm_runtime: Any, fault_plan: FaultPlan, kind: str) -> None:
    fault_plan.capability("base").fail(probability=0.5)
    runtime = apxm_runtime(capabilities={"base": RECORDS[kind]})
    before = runtime.capability_system().describe("base")
    fault_plan.install(runtime)
    assert {**runtime.capability_system().describe("base"), "run": kind} == {**before, "run": kind}
    runtime.execute(one_call(), run=RunOptions(on_failure="continue"))


def test_a_built_in_tool_keeps_to_its_granted_folders(apxm_runtime: Any, fault_plan: FaultPlan, tmp_path: Any) -> None:
    (tmp_path / "a.md").write_text("words")
    fault_plan.capability("read").fail("fatal", calls=2)
    runtime = apxm_runtime(faults=fault_plan)
    graph = Graph("read")
    graph.inv("read", graph.const_str(str(tmp_path / "a.md")), name="text")
    with pytest.raises(DeniedError):
        runtime.execute(graph)
    granted = RunOptions(grants=(f"read={tmp_path}",))
    assert "words" in str(runtime.execute(graph, run=granted).value)
    with pytest.raises(CapabilityError, match="planned fault"):
        runtime.execute(graph, run=granted)


# ---- ways to go wrong ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("transient", TransientError),
        ("fatal", CapabilityError),
        ("invalid", InvalidError),
        ("denied", DeniedError),
        ("unknown", UnknownEffectError),
        (TimeoutError("slow"), TransientError),
        (KeyError, CapabilityError),
    ],
)
def test_a_failure_has_the_planned_class(runtime: Runtime, fault_plan: FaultPlan, how: Any, expected: type) -> None:
    fault_plan.capability("base").fail(how)
    fault_plan.install(runtime)
    with pytest.raises(expected):
        runtime.execute(one_call())


def test_a_transient_failure_is_tried_again_by_the_engine(runtime: Runtime, fault_plan: FaultPlan) -> None:
    fault_plan.capability("base").fail(calls=2)
    fault_plan.install(runtime)
    assert runtime.execute(three_calls()).value == ["1", "2", "3"]
    assert fault_plan.log[0].call == 2


def test_a_hang_ends_with_the_timeout_of_the_node(runtime: Runtime, virtual_clock: VirtualClock, fault_plan: FaultPlan) -> None:
    fault_plan.capability("base").hang()
    fault_plan.install(runtime)
    with pytest.raises(TransientError, match="did not answer within 2 s"):
        runtime.execute(one_call(timeout_ms=2_000))
    assert virtual_clock.now == pytest.approx(2)


def test_a_hang_ends_with_the_deadline_of_the_run(runtime: Runtime, virtual_clock: VirtualClock, fault_plan: FaultPlan) -> None:
    fault_plan.capability("base").hang()
    fault_plan.install(runtime)
    with pytest.raises(DeadlineError):
        runtime.execute(one_call(), run=RunOptions(deadline_s=3))
    assert virtual_clock.now == pytest.approx(3)


def test_a_hang_that_nothing_ends_is_an_error_and_no_endless_test(
    apxm_runtime: Any, virtual_clock: VirtualClock, fault_plan: FaultPlan
) -> None:
    fault_plan.capability("base").hang()
    endless = CapabilityRecord("No limit.", waits, effect="read", timeout_ms=None)
    runtime = apxm_runtime(clock=virtual_clock, capabilities={"base": endless}, faults=fault_plan)
    with pytest.raises(HandlerError, match="nothing cancelled the hang of capability `base`, call 1"):
        runtime.execute(one_call())
    assert virtual_clock.now == pytest.approx(HANG_MAX_S)


def test_a_delay_passes_on_the_clock_before_the_call_and_before_another_fault(
    runtime: Runtime, virtual_clock: VirtualClock, fault_plan: FaultPlan
) -> None:
    fault_plan.capability("base").lie("wrong", calls=2).delay(5, calls=(1, 2))
    fault_plan.install(runtime)
    assert [runtime.execute(one_call()).value for _ in range(2)] == ["b.md", "wrong"]
    assert virtual_clock.now == pytest.approx(10)


def test_a_lost_answer_has_its_effect(apxm_runtime: Any, fault_plan: FaultPlan) -> None:
    stored: list[str] = []

    async def store(path: str) -> str:
        stored.append(path)
        return path

    fault_plan.capability("store").fail("unknown", calls=1, after=True).fail("unknown", calls=2)
    records = {"store": CapabilityRecord("Keep it.", store)}
    runtime = apxm_runtime(capabilities=records, faults=fault_plan)
    for _ in range(2):
        with pytest.raises(UnknownEffectError):
            runtime.execute(one_call("store"))
    assert stored == ["a/b.md"]


def test_a_lie_may_be_changed_by_whoever_gets_it(runtime: Runtime, fault_plan: FaultPlan) -> None:
    wrong = ["one"]
    fault_plan.capability("free").lie(wrong)

    async def free() -> list[str]:
        return []

    runtime.capability_system().register("free", CapabilityRecord("A list.", free, effect="read", gives=True))
    fault_plan.install(runtime)
    value = asyncio.run(runtime.capability_system().invoke("free"))
    value.append("two")
    assert wrong == ["one"]


# ---- which calls -----------------------------------------------------------------------------------------------------
def test_where_chooses_by_the_arguments_and_counts_only_those(runtime: Runtime, fault_plan: FaultPlan) -> None:
    fault_plan.capability("base").lie("wrong", calls=1, where=lambda path: path.endswith("3"))
    fault_plan.install(runtime)
    assert runtime.execute(three_calls()).value == ["1", "2", "wrong"]
    assert [(one.call, one.fault) for one in fault_plan.log] == [(3, "lie")]


def test_the_first_of_two_faults_on_one_call_happens_and_the_other_is_missed(runtime: Runtime) -> None:
    plan = FaultPlan(1)
    plan.capability("base").lie("first", calls=1).lie("second", calls=1)
    plan.install(runtime)
    assert runtime.execute(one_call()).value == "first"
    with pytest.raises(FaultsMissed, match="lie on call 1; it was called once"):
        plan.check()


def test_chances_are_those_of_the_seed(apxm_runtime: Any, seed: int) -> None:
    def hits(number: int) -> list[int]:
        plan = FaultPlan(number)
        plan.capability("base").lie("wrong", probability=0.5)
        runtime = apxm_runtime(capabilities={"base": RECORDS["async"]}, faults=plan)
        for _ in range(40):
            runtime.execute(one_call())
        return [one.call for one in plan.log]

    first = hits(seed)
    assert 0 < len(first) < 40, seed
    assert hits(seed) == first, seed
    assert hits(seed + 1) != first, seed


# ---- models ----------------------------------------------------------------------------------------------------------
def ask() -> Graph:
    graph = Graph("ask")
    graph.ask("Who?", name="answer")
    return graph


def test_a_model_fails_for_the_moment_and_answers_when_asked_again(
    apxm_runtime: Any, scripted_model: Any, virtual_clock: VirtualClock, fault_plan: FaultPlan
) -> None:
    model = scripted_model(("answer", "Me."), strict=True)
    fault_plan.model().fail(calls=1)
    runtime = apxm_runtime(model=model, clock=virtual_clock, faults=fault_plan)
    assert runtime.execute(ask()).value == "Me."
    assert len(model.calls) == 1


def test_a_model_lies_fails_and_tells_who_it_is(apxm_runtime: Any, scripted_model: Any, fault_plan: FaultPlan) -> None:
    fault_plan.model("scripted").lie("You.", calls=1).fail(
        "fatal", calls=2, where=lambda prompt: "Who" in prompt.messages[-1].content
    )
    runtime = apxm_runtime(model=scripted_model(default="Me."), faults=fault_plan)
    assert runtime.execute(ask()).value == "You."
    with pytest.raises(ModelError, match="planned fault of model `scripted`, call 2"):
        runtime.execute(ask())
    assert runtime.models.get().default == "Me."
    assert runtime.models.names()[0] == "scripted"


def test_the_offline_model_can_fail_too(apxm_runtime: Any, fault_plan: FaultPlan) -> None:
    fault_plan.model().fail("fatal")
    runtime = apxm_runtime(faults=fault_plan)
    with pytest.raises(ModelError, match="planned fault of the default model"):
        runtime.execute(ask())


def test_the_default_stays_the_default(apxm_runtime: Any, scripted_model: Any, fault_plan: FaultPlan) -> None:
    fault_plan.model("second").lie("2", calls=1)
    runtime = apxm_runtime(model=scripted_model(default="1", name="first"))
    runtime.models.register("second", scripted_model(default="?", name="second"))
    fault_plan.install(runtime)
    assert runtime.execute(ask()).value == "1"
    graph = Graph("ask")
    graph.ask("Who?", model="second", name="answer")
    assert runtime.execute(graph).value == "2"


# ---- plans that are wrong, or in vain --------------------------------------------------------------------------------
def test_check_names_every_fault_that_did_not_happen(runtime: Runtime) -> None:
    plan = FaultPlan(seed=5)
    plan.capability("base").fail(calls=(1, 4)).delay(1, calls=3)
    plan.capability("list").hang()
    plan.model().fail(probability=0.1)
    plan.install(runtime)
    runtime.execute(one_call(), run=RunOptions(on_failure="continue"))
    with pytest.raises(FaultsMissed) as caught:
        plan.check()
    assert str(caught.value).splitlines() == [
        "4 planned faults did not happen (seed 5)",
        "  - capability `base`: fail transient on call 4; it was called once",
        "  - capability `base`: delay 1 s on call 3; it was called once",
        "  - capability `list`: hang; it was called never",
        "  - the default model: fail transient; it was called never",
    ]


def test_a_plan_that_was_never_installed_says_so() -> None:
    plan = FaultPlan()
    plan.capability("base").fail()
    with pytest.raises(FaultsMissed, match="never installed"):
        plan.check()


def test_a_capability_that_is_not_there_is_named_and_nothing_is_changed(runtime: Runtime) -> None:
    plan = FaultPlan()
    plan.capability("base").fail()
    plan.capability("bases").fail()
    with pytest.raises(CapabilityError, match="close: `base`"):
        plan.install(runtime)
    assert runtime.execute(one_call()).value == "b.md"


def test_a_plan_is_made_before_it_is_installed_and_installed_once(runtime: Runtime) -> None:
    plan = FaultPlan()
    plan.capability("base").fail(calls=9)
    plan.install(runtime)
    with pytest.raises(InvalidError, match="already"):
        plan.install(runtime)
    with pytest.raises(InvalidError, match="nothing for capability `list`"):
        plan.capability("list")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda target: target.fail("transiently"),
        lambda target: target.fail(calls=0),
        lambda target: target.fail(calls=()),
        lambda target: target.fail(calls=1, probability=0.5),
        lambda target: target.fail(probability=0),
        lambda target: target.fail(probability=1.5),
        lambda target: target.delay(0),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidError, match=r"expected|is not a number"):
        wrong(FaultPlan().capability("base"))
