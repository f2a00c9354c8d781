"""Which calls untrusted text can reach, as the compiler sees it: what a run would refuse is reported before."""

from __future__ import annotations

from typing import Any

import pytest

from apxm import AgentGraph, Program, compile, flow, step
from apxm.artifact.lift import lift
from apxm.graph.reached import Reach, reached
from tests.integration.test_guards import WAYS
from tests.integration.test_memory_provenance import MEMORY_WAYS

LABELS = {"page": "web", "upper": None, "pair": None, "text": None}


def calls(program: Any) -> dict[str, tuple[str, ...]]:
    """The labels that reach each node that calls `send`."""
    artifact = compile(program)
    found = reached(lift(artifact), artifact.entry, LABELS)
    return {one.node: one.labels for one in found if one.capability == "send"}


@pytest.mark.parametrize("way", [*WAYS, *MEMORY_WAYS], ids=lambda way: way.name or "through_a_flow")
def test_whatever_a_run_refuses_is_reported(way: Any) -> None:
    """That a run refuses each of them is a test of its own."""
    assert "llm:*" in calls(way)["mail"]


def test_a_report_names_flow_node_capability_and_labels() -> None:
    @flow
    def main(q: str):  # type: ignore[no-untyped-def]
        page = step.inv("page", q)
        return step.inv("send", step.ask(f"{page}", model="big"), name="mail")

    artifact = compile(main)
    found = reached(lift(artifact), artifact.entry, LABELS)
    assert Reach("default.main", "mail", "send", ("llm:big", "user", "web")) in found
    assert Reach("default.main", "inv_1", "page", ("user",)) in found


def test_what_only_the_program_and_the_user_say_is_reached_by_nothing_else() -> None:
    @flow
    def main(q: str):  # type: ignore[no-untyped-def]
        step.print(step.ask(f"{q}?"))
        step.inv("send", to="x", name="constant")
        return step.inv("send", q, name="mail")

    assert calls(main) == {"mail": ("user",)}


def test_a_flow_without_parameters_is_looked_at_too() -> None:
    assert calls(flow(lambda: step.inv("send", step.ask("Say something."), name="mail"), name="main")) == {"mail": ("llm:*",)}


def test_order_alone_carries_nothing() -> None:
    @flow
    def main(q: str):  # type: ignore[no-untyped-def]
        said = step.ask(f"{q}?")
        return step.inv("send", q, order_after=said, name="mail")

    assert calls(main) == {"mail": ("user",)}


def test_a_tool_of_a_model_gets_what_the_model_and_its_other_tools_say() -> None:
    @flow
    def main(q: str):  # type: ignore[no-untyped-def]
        return step.ask(f"{q}?", tools=["send", "page"], name="asking")

    assert calls(main) == {"asking": ("llm:*", "tool:send", "user", "web")}


def test_a_tool_that_is_switched_off_is_not_reached() -> None:
    @flow
    def main(q: str):  # type: ignore[no-untyped-def]
        return step.ask(f"{q}?", tools=["send"], tools_enabled=False, name="asking")

    assert calls(main) == {}


def test_what_a_called_flow_gives_comes_back_with_its_labels_and_circles_end() -> None:
    @flow(is_entry=False)
    def answers(text: str):  # type: ignore[no-untyped-def]
        said = step.ask(f"{text}?")
        chosen = step.switch(text)
        with chosen.case("again"):
            step.yield_(step.flow_call("answers", text=said))
        with chosen.default():
            step.yield_(said)
        return chosen

    @flow
    def main(q: str):  # type: ignore[no-untyped-def]
        return step.inv("send", step.flow_call("answers", text=q), name="mail")

    assert calls(Program([AgentGraph("me", [main, answers])])) == {"mail": ("llm:*", "user")}


def test_a_plan_of_a_model_may_call_what_its_node_or_else_its_flow_names() -> None:
    @flow
    def main(q: str):  # type: ignore[no-untyped-def]
        first = step.plan(f"{q}?", enable_inner_plan=True, name="free")
        step.plan(f"{q}?", enable_inner_plan=True, tools=["page"], name="bound")
        step.plan(f"{q}?", name="words")
        return step.inv("send", to="x", after=first, name="mail")

    # `web` comes through memory: what `bound` fetched and stored `free` may read.
    assert calls(main) == {"free": ("llm:*", "tool:send", "user", "web")}


def test_memory_is_seen_by_agent_and_key() -> None:
    @flow
    def main(q: str):  # type: ignore[no-untyped-def]
        kept = [step.umem("said", step.ask(f"{q}?")), step.umem(f"page_{q}", step.inv("page")), step.umem("own", value=1)]
        for key in ("said", "own", f"page_{q}"):
            step.inv("send", to="x", text=step.qmem(key=key, memory_tier="stm", order_after=kept), name=f"mail_{key[:4]}")
        return step.flow_call("others", agent_name="other", order_after=kept)

    @flow(is_entry=False)
    def others():  # type: ignore[no-untyped-def]
        return step.inv("send", to="x", text=step.qmem(query="said", memory_tier="stm"), name="theirs")

    assert calls(Program([AgentGraph("me", [main]), AgentGraph("other", [others])])) == {
        "mail_said": ("llm:*", "memory:stm", "user", "web"),
        "mail_own": ("memory:stm", "user", "web"),  # the key of the page might be any
        "mail_page": ("llm:*", "memory:stm", "user", "web"),
        "theirs": ("memory:stm",),
    }


def test_what_a_plan_may_store_may_be_read() -> None:
    @flow
    def main(q: str):  # type: ignore[no-untyped-def]
        planned = step.plan(f"{q}?", enable_inner_plan=True, tools=["page"])
        return step.inv("send", to="x", text=step.qmem(key="k", order_after=planned), name="mail")

    assert calls(main) == {"mail": ("llm:*", "memory:*", "tool:send", "user", "web")}


def test_a_plan_may_call_any_flow_with_what_its_model_says() -> None:
    @flow(is_entry=False)
    def helps(text: str):  # type: ignore[no-untyped-def]
        return step.inv("send", to="x", text=text, name="mail")

    main = flow(lambda q: step.plan(f"{q}?", enable_inner_plan=True), name="main")
    assert calls(Program([AgentGraph("me", [main, helps])])) == {"mail": ("llm:*", "tool:send", "user")}


def test_beliefs_that_a_model_is_shown_are_in_what_it_says() -> None:
    @flow
    def main(q: str):  # type: ignore[no-untyped-def]
        step.umem("page", step.inv("page"), belief_key="page")
        said = step.ask(f"{q}?", context="aam")
        step.inv("send", to="x", text=step.ask(f"{q}?"), name="unaware")
        return step.inv("send", to="x", text=said, name="mail")

    assert calls(main) == {"mail": ("llm:*", "user", "web"), "unaware": ("llm:*", "user")}


def test_what_a_model_believed_for_good_may_be_read_and_told_to_another() -> None:
    @flow
    def main(q: str):  # type: ignore[no-untyped-def]
        believed = step.reason(step.inv("page"), durable=True)
        held = step.reason(f"{q}?", name="held")
        told = step.reason("Go on.", context_key="k", order_after=[believed, held])
        step.inv("send", to="x", text=step.qmem(key="k", order_after=[believed, held]), name="read")
        return step.inv("send", to="x", text=told, name="mail")

    assert calls(main) == {
        "read": ("llm:*", "memory:*", "memory:ltm", "web"),
        "mail": ("llm:*", "memory:all", "memory:ltm", "web"),
    }


def test_what_all_tiers_find_may_be_from_long_term_memory_and_a_copy_of_it_too() -> None:
    @flow
    def main():  # type: ignore[no-untyped-def]
        found = step.qmem(key="k", memory_tier="all")
        copied = step.qmem(key="k", order_after=found)
        other = step.qmem(key="other", order_after=found)
        step.inv("send", to="x", text=other, name="other")
        step.inv("send", to="x", text=copied, name="copied")
        return step.inv("send", to="x", text=found, name="found")

    found = calls(main)
    assert found["found"] == ("memory:all", "memory:ltm")
    assert "memory:ltm" in found["copied"]
    assert "memory:ltm" not in found["other"]
