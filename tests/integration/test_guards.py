"""Which calls of capabilities get through: what a model said does not reach what cannot be undone, unless somebody says so."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from apxm import (
    AgentGraph,
    BudgetError,
    CapabilityRecord,
    ConfigError,
    DeadlineError,
    DeniedError,
    ExtractiveModel,
    Limits,
    Program,
    RunCancelled,
    RunOptions,
    Runtime,
    RuntimeConfig,
    SchedulerConfig,
    TransientError,
    compile,
    flow,
    step,
)
from apxm.capability.policy import Allow, Deny, Edit, Request
from apxm.observability.events import Called

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apxm.testing.clock import VirtualClock


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    monkeypatch.setattr("apxm.capability.calling.run.RETRY_BASE_S", 0.0001)
    with Runtime(RuntimeConfig(scheduler_config=SchedulerConfig(grace_ms=200)), model=ExtractiveModel()) as runtime:
        yield runtime


class Sent:
    """A guarded capability that writes down what it was called with."""

    def __init__(self, runtime: Runtime, name: str = "send", **options: Any) -> None:
        self.calls: list[tuple[str, str]] = []
        runtime.capability_system().register(name, CapabilityRecord("Send.", self.send, **options))

    def send(self, to: str, text: str = "") -> str:
        self.calls.append((to, text))
        return f"sent to {to}"


@flow
def mails(question: str):  # type: ignore[no-untyped-def]
    said = step.ask("{question}?", question, name="said")
    return step.inv("send", to="bob", text=said, name="mail")


# --- what a model said does not reach what cannot be undone -----------------------------------------------------------------


def test_what_a_model_said_does_not_reach_a_guarded_capability(runtime: Runtime) -> None:
    sent = Sent(runtime)
    with pytest.raises(DeniedError) as denied:
        runtime.execute(mails, question="x")
    error = denied.value
    assert (error.code, error.node) == ("policy", "mail")
    assert "INV `mail`: capability `send` is guarded, and its argument `text` comes from `llm:extractive`" in error.message
    for way in ("--trust 'llm:extractive=send'", "trusts=('llm:extractive',)", "approver"):
        assert way in (error.hint or "")
    assert sent.calls == []
    assert runtime.capability_system().stats()["send"]["denied"] == 1


@pytest.mark.parametrize("trust", [["llm:*"], ["llm:extractive=send"], ["*"], ["llm:*=send", "web"]], ids=str)
def test_a_run_may_trust_it(runtime: Runtime, trust: list[str]) -> None:
    sent = Sent(runtime)
    runtime.execute(mails, question="x", run=RunOptions(trust=trust))
    assert len(sent.calls) == 1


@pytest.mark.parametrize("trust", [[], ["web"], ["llm:*=other"], ["llm:gpt"], ["user"]], ids=str)
def test_trust_in_something_else_does_not_help(runtime: Runtime, trust: list[str]) -> None:
    sent = Sent(runtime)
    with pytest.raises(DeniedError):
        runtime.execute(mails, question="x", run=RunOptions(trust=trust))
    assert sent.calls == []


def test_a_record_may_trust_it_and_a_host_may_trust_everything(runtime: Runtime) -> None:
    sent = Sent(runtime, trusts=["llm:*"])
    runtime.execute(mails, question="x")
    other = Sent(runtime, "other")
    runtime.capability_system().untrusted = ()
    runtime.execute(flow(lambda q: step.inv("other", to=step.ask("{q}", q=q)), name="f"), {"q": "x"})
    assert (len(sent.calls), len(other.calls)) == (1, 1)


def test_only_the_arguments_that_matter_are_guarded_when_a_record_names_them(runtime: Runtime) -> None:
    sent = Sent(runtime, guards=["to"])
    runtime.execute(mails, question="x")
    assert len(sent.calls) == 1
    with pytest.raises(DeniedError, match="argument `to`"):
        runtime.execute(flow(lambda q: step.inv("send", to=step.ask("{q}", q=q), text="x"), name="f"), {"q": "x"})


@pytest.mark.parametrize("effect", ["read", "idempotent"])
def test_what_can_be_done_again_is_not_guarded(runtime: Runtime, effect: str) -> None:
    sent = Sent(runtime, effect=effect)
    runtime.execute(mails, question="x")
    assert len(sent.calls) == 1


def test_text_of_the_web_does_not_reach_it_and_that_of_other_tools_does(runtime: Runtime) -> None:
    sent = Sent(runtime)
    system = runtime.capability_system()
    system.register("page", CapabilityRecord("A page.", lambda: "evil", effect="read", source="web"))
    system.register("file", CapabilityRecord("A file.", lambda: "fine", effect="read"))
    with pytest.raises(DeniedError, match="comes from `web`"):
        runtime.execute(flow(lambda: step.inv("send", to="x", text=step.inv("page")), name="f"))
    runtime.execute(flow(lambda: step.inv("send", to="x", text=step.inv("file")), name="f"))
    assert sent.calls == [("x", "fine")]


@flow
def through_text(q: str):  # type: ignore[no-untyped-def]
    said = step.ask(f"{q}?", name="said")
    return step.inv("send", to="x", text=f"he said: {said}", name="mail")


@flow
def through_a_pure_function(q: str):  # type: ignore[no-untyped-def]
    return step.inv("send", to="x", text=step.inv("upper", step.ask(f"{q}?")), name="mail")


@flow
def through_a_map(q: str):  # type: ignore[no-untyped-def]
    each = step.map(step.inv("pair", step.ask(f"{q}?")))
    with each as item:
        step.yield_(step.inv("send", to="x", text=item, name="mail"))
    return each


@flow
def through_the_second_iteration(q: str):  # type: ignore[no-untyped-def]
    loop = step.loop(text=q, carry=["text"], max_iterations=2)
    with loop as body:
        mail = step.inv("send", to="first", text=body.param("text"), name="mail")
        step.yield_(step.ask(f"{mail}?"))
    return loop


@flow
def through_a_case(q: str):  # type: ignore[no-untyped-def]
    said = step.ask(f"{q}?")
    chosen = step.switch(q)
    with chosen.default():
        step.yield_(step.inv("send", to="x", text=said, name="mail"))
    return chosen


@flow(is_entry=False)
def posts(text: str):  # type: ignore[no-untyped-def]
    return step.inv("send", to="x", text=text, name="mail")


@flow
def calls(q: str):  # type: ignore[no-untyped-def]
    return step.flow_call("posts", text=step.ask(f"{q}?"))


@flow
def through_a_decision(q: str):  # type: ignore[no-untyped-def]
    chosen = step.switch(step.ask(f"{q}?"))
    with chosen.default():
        step.yield_(step.inv("text", text="made because of it"))
    return step.inv("send", to="x", text=chosen, name="mail")


@flow
def through_an_error(q: str):  # type: ignore[no-untyped-def]
    attempt = step.try_()
    with attempt.try_:
        step.err(f"failed: {step.ask(q)}", name="fails")
    with attempt.catch as error:
        step.yield_(step.inv("send", to="x", text=f"because {error}", name="mail"))
    return attempt


@flow
def through_what_is_reduced(q: str):  # type: ignore[no-untyped-def]
    each = step.map(step.inv("pair", q))
    with each as item:
        step.yield_(step.ask(f"{item}?"))
    with each.reduce as results:
        step.yield_(step.inv("send", to="x", text=f"all: {results}", name="mail"))
    return each


WAYS = [
    *(through_text, through_a_pure_function, through_a_map, through_the_second_iteration, through_a_case),
    *(through_an_error, through_what_is_reduced, through_a_decision, Program([AgentGraph("me", [calls, posts])])),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name or "through_a_flow")
def test_it_does_not_get_there_on_any_way(runtime: Runtime, way: Any) -> None:
    sent = Sent(runtime)
    for name, fn in (("upper", str.upper), ("pair", lambda text: [text, text]), ("text", lambda text: text)):
        runtime.capability_system().register(name, CapabilityRecord("x", fn, effect="pure"))
    with pytest.raises(DeniedError, match="comes from `llm:extractive`") as denied:
        runtime.execute(way, q="x")
    assert denied.value.node == "mail"
    assert [to for to, _ in sent.calls] in ([], ["first"])


def test_what_the_program_and_the_user_say_is_trusted(runtime: Runtime) -> None:
    sent = Sent(runtime)
    runtime.execute(flow(lambda who: step.inv("send", to=who, text=f"Hello {who}"), name="f"), {"who": "bob"})
    assert sent.calls == [("bob", "Hello bob")]


@pytest.mark.parametrize("run", ["inline", "thread"])
def test_an_inline_call_is_guarded_as_any_other(runtime: Runtime, run: Any) -> None:
    sent = Sent(runtime, run=run)
    with pytest.raises(DeniedError, match="comes from `llm:extractive`"):
        runtime.execute(mails, question="x")
    runtime.execute(mails, question="x", run=RunOptions(trust=["llm:*"]))
    runtime.capability_system().approver = lambda request: True
    runtime.execute(mails, question="x")
    assert len(sent.calls) == 2


def test_trust_that_is_none_is_refused_before_anything_runs(runtime: Runtime) -> None:
    sent = Sent(runtime)
    with pytest.raises(ConfigError, match="says no trust"):
        runtime.execute(mails, question="x", run=RunOptions(trust=["=send"]))
    with pytest.raises(ConfigError, match="expected a list"):
        RunOptions(trust="web")  # type: ignore[arg-type]
    assert sent.calls == []


# --- a person decides -------------------------------------------------------------------------------------------------------


def test_a_person_may_let_it_through_and_that_is_on_record(runtime: Runtime) -> None:
    sent, asked = Sent(runtime), []

    def ask(request: Request) -> bool:
        asked.append((request.node, request.agent, dict(request.labels), request.run))
        return True

    runtime.capability_system().approver = ask
    result = runtime.execute(mails, question="x", run=RunOptions(trace=True))
    assert asked == [("mail", "default", {"to": (), "text": ("llm:extractive", "user")}, result.run_id)]
    called = next(event for event in result.events() if isinstance(event, Called) and event.target == "send")
    assert called.ok
    assert len((called.details or {})["approved"]) == 1
    assert len(sent.calls) == 1


def test_a_person_may_refuse_and_the_program_may_take_that(runtime: Runtime) -> None:
    sent = Sent(runtime)
    runtime.capability_system().approver = lambda request: Deny("no")

    @flow
    def careful(question: str):  # type: ignore[no-untyped-def]
        return step.inv("send", to="bob", text=step.ask(f"{question}?"), name="mail", fallback="kept")

    result = runtime.execute(careful, question="x", run=RunOptions(trace=True))
    assert result.value == "kept"
    called = next(event for event in result.events() if isinstance(event, Called) and event.target == "send")
    assert (called.ok, called.code) == (False, "policy")
    assert sent.calls == []


def test_nobody_is_asked_for_what_the_budget_does_not_allow_and_a_refusal_costs_nothing(runtime: Runtime) -> None:
    asked: list[str] = []
    Sent(runtime, approval=True)

    def ask(request: Request) -> bool:
        asked.append(request.arguments["to"])
        return request.arguments["to"] == "b"

    runtime.capability_system().approver = ask

    @flow
    def three():  # type: ignore[no-untyped-def]
        first = step.inv("send", to="a", fallback="no", name="first")
        second = step.inv("send", to="b", after=first, name="second")
        return step.inv("send", to="c", after=second, name="third")

    with pytest.raises(BudgetError) as spent:
        runtime.execute(three, run=RunOptions(budget=Limits(tool_calls=1)))
    assert spent.value.node == "third"
    assert asked == ["a", "b"]


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_a_run_that_ends_while_somebody_thinks_leaves_nothing(apxm_runtime: Any, virtual_clock: VirtualClock, how: str) -> None:
    runtime = apxm_runtime(clock=virtual_clock)
    sent, thinking = Sent(runtime, approval=True), threading.Event()

    async def ask(request: Request) -> bool:
        thinking.set()
        await (asyncio.Event().wait() if how == "cancel" else asyncio.sleep(1_000))
        return True

    runtime.capability_system().approver = ask
    handle = runtime.start(
        flow(lambda: step.inv("send", to="x"), name="f"), run=RunOptions(deadline_s=60 if how == "deadline" else None)
    )
    assert thinking.wait(20)
    if how == "cancel":
        handle.cancel()
    with pytest.raises(RunCancelled if how == "cancel" else DeadlineError):
        handle.result()
    assert sent.calls == []
    assert runtime.capability_system().stats()["send"] | {"failed": None} == {
        **runtime.capability_system().stats()["send"],
        "calls": 0,
        "in_flight": 0,
        "failed": None,
    }


# --- interceptors -----------------------------------------------------------------------------------------------------------


def test_an_interceptor_sees_pure_functions_too_from_the_next_run_on(runtime: Runtime) -> None:
    runtime.capability("double", effect="pure")(double)
    program = compile(flow(lambda n: step.inv("double", n), name="f")).into_dag()  # bound once, and remembered
    seen: list[Any] = []

    def hook(request: Request) -> Edit:
        seen.append((request.capability, request.node, request.agent, dict(request.labels)))
        return Edit({"n": request.arguments["n"] + 1})

    assert runtime.execute(program, {"n": 3}).value == 6
    runtime.capability_system().intercept(hook, ["double"])
    assert runtime.execute(program, {"n": 3}).value == 8
    runtime.capability_system().remove_interceptor(hook)
    assert runtime.execute(program, {"n": 3}).value == 6
    assert seen == [("double", "inv_1", "default", {"n": ("user",)})]


def double(n: int) -> int:
    """Twice as much."""
    return 2 * n


def test_what_an_interceptor_makes_up_has_the_labels_of_all_that_came_in(runtime: Runtime) -> None:
    sent = Sent(runtime, guards=["to"])
    labels: list[Any] = []

    def swap(request: Request) -> Edit:
        return Edit({"to": request.arguments["to"] + "!", "text": request.arguments["text"]})

    def look(request: Request) -> Allow:
        labels.append(dict(request.labels))
        return Allow()

    for hook in (swap, look):
        runtime.capability_system().intercept(hook)
    with pytest.raises(DeniedError, match="argument `to` comes from `llm:extractive`"):
        runtime.execute(mails, question="x")
    assert labels == [{"to": ("llm:extractive", "user"), "text": ("llm:extractive", "user")}]
    assert sent.calls == []


def test_an_interceptor_is_asked_once_for_a_call_however_often_it_is_tried(runtime: Runtime) -> None:
    tries: list[int] = []
    asked: list[int] = []

    def shaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise TransientError("again")
        return "done"

    def hook(request: Request) -> Allow:
        asked.append(1)
        return Allow()

    runtime.capability_system().register("shaky", CapabilityRecord("x", shaky, effect="read"))
    runtime.capability_system().intercept(hook)
    assert runtime.execute(flow(lambda: step.inv("shaky"), name="f")).value == "done"
    assert (len(tries), len(asked)) == (3, 1)
    stats = runtime.capability_system().stats()["shaky"]
    assert (stats["calls"], stats["retries"], stats["failed"]) == (3, 2, {"transient": 2})
