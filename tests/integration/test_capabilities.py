"""Capabilities as programs call them: who may reach what, who is asked, what is repeated, who waits for whom."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from builtins import compile as compile_python
from collections.abc import AsyncIterator, Iterator  # noqa: TC003  (the hints of capabilities are read)
from typing import TYPE_CHECKING, Any

import pytest

from apxm import (
    AgentGraph,
    ApxmError,
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
    UnknownEffectError,
    compile,
    flow,
    step,
)
from apxm.capability.policy import Allow, Deny, Edit, Request
from apxm.observability.events import Called, Chunk, NodeRetried

if TYPE_CHECKING:
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


# --- keys -------------------------------------------------------------------------------------------------------------------


class Account:
    """Pays once for each key, and loses its first `lost` answers."""

    def __init__(self, lost: int = 0) -> None:
        self.lost = lost
        self.keys: list[str] = []
        self.paid: dict[str, int] = {}

    def pay(self, amount: int, *, idempotency_key: str) -> int:
        """Pay."""
        self.keys.append(idempotency_key)
        self.paid[idempotency_key] = amount
        if len(self.keys) <= self.lost:
            raise ConnectionResetError("the answer got lost")
        return amount


def test_a_guarded_call_with_a_key_is_repeated_with_the_same_key_where_its_node_says_so(runtime: Runtime) -> None:
    account = Account(lost=2)
    runtime.capability_system().register("pay", CapabilityRecord("Pay.", account.pay))
    result = runtime.execute(flow(lambda: step.inv("pay", amount=3, retries=2), name="f"), run=RunOptions(trace=True))
    assert result.value == 3
    assert len(account.keys) == 3
    assert list(account.paid.values()) == [3]
    assert sum(isinstance(event, NodeRetried) for event in result.events()) == 2


@pytest.mark.parametrize(("retries", "tries"), [(None, 1), (0, 1), (1, 2)])
def test_when_nobody_repeats_it_any_more_its_outcome_is_unknown(runtime: Runtime, retries: int | None, tries: int) -> None:
    account = Account(lost=10)
    runtime.capability_system().register("pay", CapabilityRecord("Pay.", account.pay))
    more = {} if retries is None else {"retries": retries}
    with pytest.raises(UnknownEffectError, match="the answer got lost"):
        runtime.execute(flow(lambda: step.inv("pay", amount=3, **more), name="f"))
    assert len(account.keys) == tries


def test_without_a_key_a_guarded_call_is_never_repeated(runtime: Runtime) -> None:
    tries: list[int] = []

    def pay() -> None:
        tries.append(1)
        raise ConnectionResetError("lost")

    runtime.capability_system().register("pay", CapabilityRecord("Pay.", pay))
    with pytest.raises(UnknownEffectError):
        runtime.execute(flow(lambda: step.inv("pay", retries=5), name="f"))
    assert len(tries) == 1


def test_a_call_that_is_known_not_to_have_happened_is_repeated(runtime: Runtime) -> None:
    asked: list[str] = []

    def find(key: str, arguments: dict[str, Any]) -> dict[str, Any]:
        asked.append(key)
        return {"happened": len(asked) == 2, "value": 7}

    def pay(amount: int) -> int:
        raise ConnectionResetError("lost")

    runtime.capability_system().register("pay", CapabilityRecord("Pay.", pay, reconcile=find))
    assert runtime.execute(flow(lambda: step.inv("pay", amount=3, retries=2), name="f")).value == 7
    assert len(asked) == 2
    assert len(set(asked)) == 1


def test_that_a_hook_could_be_asked_is_no_reason_to_repeat_what_may_have_happened(runtime: Runtime) -> None:
    tries: list[int] = []

    def pay() -> None:
        tries.append(1)
        raise TransientError("half of it is done")

    record = CapabilityRecord("Pay.", pay, reconcile=lambda key, arguments: {"happened": False})
    runtime.capability_system().register("pay", record)
    with pytest.raises(TransientError):
        runtime.execute(flow(lambda: step.inv("pay", retries=3), name="f"))
    assert len(tries) == 1


def test_every_item_every_node_and_every_run_has_a_key_of_its_own(runtime: Runtime) -> None:
    account = Account()
    runtime.capability_system().register("pay", CapabilityRecord("Pay.", account.pay))

    @flow
    def pays(amounts: list[int]):  # type: ignore[no-untyped-def]
        each = step.map(amounts, window=1)
        with each as amount:
            step.yield_(step.inv("pay", amount=amount))
        return step.inv("pay", amount=1, after=each)

    for _ in range(2):
        runtime.execute(pays, amounts=[1, 1, 1])
    assert len(account.keys) == len(set(account.keys)) == 8


PAYS = """
import json, sys
from apxm import CapabilityRecord, RunOptions, Runtime, flow, step
keys = []
def pay(amount: int, *, idempotency_key: str) -> int:
    keys.append(idempotency_key)
    return amount
@flow
def pays(amounts: list[int]):
    each = step.map(amounts, window=1)
    with each as amount:
        step.yield_(step.inv("pay", amount=amount))
    return each
with Runtime() as runtime:
    runtime.capability_system().register("pay", CapabilityRecord("Pay.", pay))
    for amounts in ([1, 2], [1, 3]):
        runtime.execute(pays, amounts=amounts, run=RunOptions(run_id="monday"))
print(json.dumps(keys))
"""


def test_a_key_is_the_same_in_every_process_and_another_for_other_inputs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile_python(PAYS, "pays", "exec"), {"__name__": "pays"})
    here: list[str] = json.loads(capsys.readouterr().out)
    done = subprocess.run([sys.executable, "-c", PAYS], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == here
    assert here[0] == here[2]  # the same item of the same run, again
    assert len(set(here)) == 3


# --- streams ----------------------------------------------------------------------------------------------------------------


def counting() -> Iterator[str]:
    """Count."""
    yield from ("one ", "two ", "three")


async def counting_later() -> AsyncIterator[str]:
    """Count."""
    for text in ("one ", "two ", "three"):
        await asyncio.sleep(0)
        yield text


@pytest.mark.parametrize("fn", [counting, counting_later])
@pytest.mark.parametrize("effect", ["read", "pure"])
def test_what_streams_is_told_in_order_and_its_value_is_the_whole(runtime: Runtime, fn: Any, effect: str) -> None:
    runtime.capability("count", effect=effect)(fn)
    seen: list[Any] = []
    with runtime.subscribe(lambda run, event: seen.append(event), nodes=False, content=True):
        assert runtime.execute(flow(lambda: step.inv("count"), name="f")).value == "one two three"
    chunks = [(event.index, event.content, event.target) for event in seen if isinstance(event, Chunk)]
    assert chunks == [(0, "one ", "count"), (1, "two ", "count"), (2, "three", "count")]
    assert [type(event) for event in seen[-3:-1]] == [Chunk, Called]
    traced = runtime.execute(flow(lambda: step.inv("count"), name="f"), run=RunOptions(trace=True))
    assert [event.content for event in traced.events() if isinstance(event, Chunk)] == [None] * 3


def test_no_more_than_a_thousand_chunks_of_a_call_are_told(runtime: Runtime) -> None:
    def many() -> Iterator[int]:
        yield from range(1_500)

    runtime.capability_system().register("many", CapabilityRecord("x", many, effect="read"))
    result = runtime.execute(flow(lambda: step.inv("many"), name="f"), run=RunOptions(trace=True))
    assert result.value == list(range(1_500))
    assert sum(isinstance(event, Chunk) for event in result.events()) == 1_000


# --- limits -----------------------------------------------------------------------------------------------------------------


def test_runs_and_the_host_share_the_limits_of_a_capability(runtime: Runtime) -> None:
    lock, inside, most = threading.Lock(), [0], [0]

    def work(n: int) -> int:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        threading.Event().wait(0.002)
        with lock:
            inside[0] -= 1
        return n

    system = runtime.capability_system()
    system.register("work", CapabilityRecord("x", work, effect="read", resources=["machine"]))
    system.resources({"machine": 2})

    @flow
    def works(items: list[int]):  # type: ignore[no-untyped-def]
        each = step.map(items)
        with each as item:
            step.yield_(step.inv("work", n=item))
        return each

    handles = [runtime.start(works, items=list(range(8))) for _ in range(2)]
    hosts = [threading.Thread(target=lambda n=n: asyncio.run(system.invoke("work", {"n": n}))) for n in range(4)]
    for thread in hosts:
        thread.start()
    for handle in handles:
        assert handle.result().value == list(range(8))
    for thread in hosts:
        thread.join(10)
    assert most[0] == 2
    assert system.resources() == {"machine": (0, 2)}
    assert system.stats()["work"]["calls"] == 20


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_a_run_that_ends_while_it_waits_for_a_turn_is_forgotten(apxm_runtime: Any, virtual_clock: VirtualClock, how: str) -> None:
    runtime, began = apxm_runtime(clock=virtual_clock), threading.Event()
    system = runtime.capability_system()

    async def hold(n: int) -> int:
        began.set()
        await asyncio.sleep(1_000 if how == "deadline" else 1e9)
        return n

    system.register("hold", CapabilityRecord("x", hold, effect="read", concurrency=1, timeout_ms=None))
    items = flow(lambda: step.wait_all(*(step.inv("hold", n=n) for n in range(5))), name="f")
    if how == "deadline":
        with pytest.raises(DeadlineError):
            runtime.execute(items, run=RunOptions(deadline_s=1_500))
    else:
        virtual_clock.advance = lambda seconds: None  # type: ignore[method-assign]
        handle = runtime.start(items)
        assert began.wait(20)
        handle.cancel()
        with pytest.raises(RunCancelled):
            handle.result()
    assert system.turnstile.waiting == 0
    assert system.resources() == {}
    assert system.stats()["hold"]["in_flight"] == 0


def test_waiting_for_a_turn_is_no_part_of_the_timeout_of_a_call(apxm_runtime: Any, virtual_clock: VirtualClock) -> None:
    runtime = apxm_runtime(clock=virtual_clock)

    async def slow(n: int) -> int:
        await asyncio.sleep(10)
        return n

    runtime.capability_system().register("slow", CapabilityRecord("x", slow, effect="read", concurrency=1, timeout_ms=15_000))
    result = runtime.execute(flow(lambda: step.wait_all(*(step.inv("slow", n=n) for n in range(5))), name="f"))
    assert result.value == list(range(5))
    assert virtual_clock.now == pytest.approx(50)


def test_retries_end_with_the_deadline_by_the_clock_of_the_loop(apxm_runtime: Any, virtual_clock: VirtualClock) -> None:
    """The run's deadline is years away by the machine's clock, and near by its own."""
    runtime, tries = apxm_runtime(clock=virtual_clock), []

    async def shaky() -> None:
        tries.append(1)
        await asyncio.sleep(6)
        raise TransientError("again")

    runtime.capability_system().register("shaky", CapabilityRecord("x", shaky, effect="read"))
    with pytest.raises(ApxmError) as failed:
        runtime.execute(flow(lambda: step.inv("shaky", retries=50), name="f"), run=RunOptions(deadline_s=20))
    assert isinstance(failed.value, DeadlineError | TransientError)
    assert 3 <= len(tries) <= 4
