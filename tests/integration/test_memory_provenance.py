"""Memory keeps where values came from: what does not reach a guarded argument does not get there by way of memory either."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from apxm import (
    AgentGraph,
    CapabilityRecord,
    DeniedError,
    ExtractiveModel,
    MemoryConfig,
    Program,
    RunOptions,
    Runtime,
    RuntimeConfig,
    compile,
    flow,
    step,
)
from apxm.testing.sketch import sketch
from tests.unit.executor.planners import answer, planning, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def sent() -> list[str]:
    return []


@pytest.fixture
def runtime(sent: list[str], tmp_path: Path) -> Iterator[Runtime]:
    def send(to: str, text: str = "") -> str:
        sent.append(text)
        return "sent"

    with Runtime(RuntimeConfig(state_dir=str(tmp_path / "state")), model=ExtractiveModel()) as runtime:
        system = runtime.capability_system()
        system.register("send", CapabilityRecord("Send.", send))
        system.register("pair", CapabilityRecord("Two of it.", lambda text: [text, text], effect="pure"))
        system.register("wait", CapabilityRecord("Let others go on.", lambda: time.sleep(0.02), effect="read"))
        system.register("page", CapabilityRecord("Fetch.", lambda: "from a page", effect="read", source="web"))
        yield runtime


@flow
def through_a_key(q: str):  # type: ignore[no-untyped-def]
    kept = step.umem("said", step.ask(f"{q}?"))
    return step.inv("send", to="x", text=step.qmem(key="said", order_after=kept), name="mail")


@flow
def through_a_search(q: str):  # type: ignore[no-untyped-def]
    kept = step.umem("said", step.ask(f"{q}?"))
    return step.inv("send", to="x", text=f"found: {step.qmem(query='said', order_after=kept)}", name="mail")


@flow
def through_all_tiers(q: str):  # type: ignore[no-untyped-def]
    kept = step.umem("said", step.ask(f"{q}?"))
    return step.inv("send", to="x", text=step.qmem(key="said", memory_tier="all", order_after=kept), name="mail")


@flow
def through_what_lasts(q: str):  # type: ignore[no-untyped-def]
    kept = step.umem("said", step.ask(f"{q}?"), memory_tier="ltm")
    return step.inv("send", to="x", text=step.qmem(key="said", memory_tier="ltm", order_after=kept), name="mail")


@flow
def through_a_copy_of_what_lasts(q: str):  # type: ignore[no-untyped-def]
    kept = step.umem("said", step.ask(f"{q}?"), memory_tier="ltm")
    copied = step.qmem(query="said", memory_tier="all", order_after=kept)
    return step.inv("send", to="x", text=step.qmem(key="said", order_after=copied), name="mail")


@flow
def through_a_session(q: str):  # type: ignore[no-untyped-def]
    kept = step.umem("said", step.ask(f"{q}?"), scope="session")
    return step.inv("send", to="x", text=step.qmem(key="said", order_after=kept), name="mail")


@flow
def through_a_value_that_is_filled_in(q: str):  # type: ignore[no-untyped-def]
    kept = step.umem("said", value=f"he said {step.ask(f'{q}?')}")
    return step.inv("send", to="x", text=step.qmem(key="said", order_after=kept), name="mail")


@flow
def through_the_key_alone(q: str):  # type: ignore[no-untyped-def]
    kept = step.umem(f"about_{step.ask(f'{q}?')}", value="a constant")
    return step.inv("send", to="x", text=f"found: {step.qmem(query='about', order_after=kept)}", name="mail")


@flow
def through_a_decision(q: str):  # type: ignore[no-untyped-def]
    ways = step.branch_on_value(step.ask(f"{q}?"), value="never")
    kept = step.umem("said", value="made because of it", after=[ways.on("false")])
    return step.inv("send", to="x", text=step.qmem(key="said", order_after=kept), name="mail")


@flow
def through_a_second_entry(q: str):  # type: ignore[no-untyped-def]
    first = step.umem("first", step.ask(f"{q}?"))
    second = step.umem("second", step.qmem(key="first", order_after=first))
    return step.inv("send", to="x", text=step.qmem(key="second", order_after=second), name="mail")


@flow
def through_the_items_of_a_map(q: str):  # type: ignore[no-untyped-def]
    each = step.map(step.inv("pair", step.ask(f"{q}?")))
    with each as item:
        step.yield_(step.umem("said", item))
    return step.inv("send", to="x", text=step.qmem(key="said", order_after=each), name="mail")


@flow
def within_a_map(q: str):  # type: ignore[no-untyped-def]
    kept = step.umem("said", step.ask(f"{q}?"))
    each = step.map(step.inv("pair", q, order_after=kept))
    with each:
        step.yield_(step.qmem(key="said"))
    return step.inv("send", to="x", text=f"all: {each}", name="mail")


@flow
def through_the_second_iteration(q: str):  # type: ignore[no-untyped-def]
    loop = step.loop(text=q, carry=["text"], max_iterations=2)
    with loop as body:
        mail = step.inv("send", to="x", text=f"before: {step.qmem(key='said')}", name="mail")
        step.yield_(step.umem("said", step.ask(f"{body.param('text')}?"), order_after=mail))
    return loop


@flow(is_entry=False)
def keeps(text: str):  # type: ignore[no-untyped-def]
    return step.umem("said", text)


@flow
def calls(q: str):  # type: ignore[no-untyped-def]
    kept = step.flow_call("keeps", text=step.ask(f"{q}?"))
    return step.inv("send", to="x", text=step.qmem(key="said", order_after=kept), name="mail")


@flow(is_entry=False)
def leaves(text: str):  # type: ignore[no-untyped-def]
    return step.umem("said", text, scope="run")


@flow
def asks_another(q: str):  # type: ignore[no-untyped-def]
    kept = step.flow_call("leaves", agent_name="other", text=step.ask(f"{q}?"))
    return step.inv("send", to="x", text=step.qmem(key="said", order_after=kept), name="mail")


through_another_agent = Program([AgentGraph("me", [asks_another]), AgentGraph("other", [leaves])], "through_another_agent")
MEMORY_WAYS = [
    *(through_what_lasts, through_a_copy_of_what_lasts, through_a_session, through_another_agent),
    *(through_a_key, through_a_search, through_all_tiers, through_a_value_that_is_filled_in, through_the_key_alone),
    *(through_a_decision, through_a_second_entry, through_the_items_of_a_map, within_a_map, through_the_second_iteration),
    Program([AgentGraph("me", [calls, keeps])]),
]
WAYS = pytest.mark.parametrize("way", MEMORY_WAYS, ids=lambda way: way.name or "through_a_flow")


@WAYS
@pytest.mark.parametrize(("level", "traced"), [(0, False), (1, True)])
def test_it_does_not_get_there_through_memory(runtime: Runtime, sent: list[str], way: Any, level: int, traced: bool) -> None:
    artifact = compile(way, level=level)
    with pytest.raises(DeniedError, match="comes from `llm:extractive`") as denied:
        runtime.execute(artifact, q="x", run=RunOptions(trace=traced, session="chat"))
    assert denied.value.node == "mail"
    assert sent in ([], ["before: null"])  # the first iteration finds nothing


@WAYS
def test_where_the_model_is_trusted_it_gets_there(runtime: Runtime, sent: list[str], way: Any) -> None:
    runtime.execute(way, q="x", run=RunOptions(trust=["llm:*=send"], session="chat"))
    assert sent


def test_what_replaces_an_entry_replaces_where_it_came_from(runtime: Runtime, sent: list[str]) -> None:
    @flow
    def main(q: str):  # type: ignore[no-untyped-def]
        said = step.umem("k", step.ask(f"{q}?"))
        mine = step.umem("k", value="my own", order_after=said)
        return step.inv("send", to="x", text=step.qmem(key="k", order_after=mine), name="mail")

    runtime.execute(main, q="x")
    assert sent == ["my own"]


def test_a_value_has_the_labels_of_its_entry_and_of_no_other(runtime: Runtime) -> None:
    @flow
    def main(q: str):  # type: ignore[no-untyped-def]
        kept = [step.umem("said", step.ask("Well?")), step.umem("page", step.inv("page")), step.umem("asked", q)]
        kept.append(step.umem("own", value=1))
        for key in ("said", "page", "asked", "own", "nothing"):
            step.qmem(key=key, order_after=kept, name=f"read_{key}")

    result = runtime.execute(main, q="x")
    assert {name: result.labels(name) - {"memory:stm"} for name in result.outputs if name.startswith("read_")} == {
        "read_said": {"llm:extractive"},
        "read_page": {"web"},
        "read_asked": {"user"},
        "read_own": frozenset(),
        "read_nothing": frozenset(),
    }


def test_a_belief_in_what_was_read_says_where_that_came_from(runtime: Runtime) -> None:
    @flow
    def main():  # type: ignore[no-untyped-def]
        kept = step.umem("page", step.inv("page"))
        return step.qmem(key="page", staging_id="page", order_after=kept)

    belief = runtime.execute(main).machine("default").belief("_stage:page")
    assert belief is not None
    assert set(belief.labels) == {"memory:stm", "web"}


def test_a_reflection_on_record_is_from_what_was_reflected_on_too(runtime: Runtime) -> None:
    @flow
    def main():  # type: ignore[no-untyped-def]
        said = step.reflect(step.inv("page"), name="thought")
        return step.qmem(key="reflection:thought", memory_tier="episodic", order_after=said)

    assert runtime.execute(main).labels("return") == {"memory:episodic", "llm:extractive", "web"}


def test_an_episode_that_keeps_what_was_said_keeps_where_that_came_from() -> None:
    @flow
    def main():  # type: ignore[no-untyped-def]
        said = step.ask(f"What is on {step.inv('page')}?")
        model = step.qmem(key="model:extractive", memory_tier="episodic", order_after=said)
        tool = step.qmem(key="capability:page", memory_tier="episodic", order_after=said)
        return step.merge(model, tool, mode="array")

    for content in ("text", "off"):
        config = RuntimeConfig(memory_config=MemoryConfig(episode_content=content))
        with Runtime(config, model=ExtractiveModel()) as runtime:
            runtime.capability_system().register("page", CapabilityRecord("x", lambda: "a page", effect="read", source="web"))
            result = runtime.execute(main)
            assert ("a page" in str(result.value), result.labels("return") - {"memory:episodic"}) == (
                (True, {"llm:extractive", "web"}) if content == "text" else (False, frozenset())
            )


@flow(name="communicate", is_entry=False)
def fails_in_time(message: str):  # type: ignore[no-untyped-def]
    return step.err(f"refused: {step.ask(f'{message}?', after=[step.inv('wait')])}")


@flow
def posts():  # type: ignore[no-untyped-def]
    attempt = step.try_()
    with attempt.try_:
        posted = step.communicate("critic", message="Well", reply=False)
        step.yield_(step.umem("posted", posted))  # asks where `posted` came from, long before it is known what fails
    with attempt.catch as error:
        step.yield_(step.inv("send", to="x", text=f"because {error}", name="mail"))
    return attempt


def test_a_failure_of_what_was_left_behind_is_from_there_though_labels_were_asked_for_before(
    runtime: Runtime, sent: list[str]
) -> None:
    program = Program([AgentGraph("boss", [posts]), AgentGraph("critic", [fails_in_time])])
    with pytest.raises(DeniedError, match="comes from `llm:extractive`"):
        runtime.execute(program)
    assert sent == []
    runtime.execute(program, run=RunOptions(trust=["llm:*"]))
    assert sent[0].startswith("because {")


def test_what_a_plan_of_a_model_stores_is_from_that_model() -> None:
    inner = answer(sketch({1: ("UMEM", {"key": "k", "value": "a constant of the plan"})}))
    graph = planning({}, "9~>10", nodes={10: ("QMEM", {"key": "k"})})
    ran = run(inner, {**graph, "metadata": {"exits": ["n10"]}})
    assert (ran.value, ran.result.labels("n10")) == ("a constant of the plan", {"memory:stm", "llm:scripted"})
