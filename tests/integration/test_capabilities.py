"""Capabilities as programs call them: what is repeated under which key, what streams, who waits for whom."""

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
    ApxmError,
    CapabilityRecord,
    DeadlineError,
    ExtractiveModel,
    RunCancelled,
    RunOptions,
    Runtime,
    RuntimeConfig,
    SchedulerConfig,
    TransientError,
    UnknownEffectError,
    flow,
    step,
)
from apxm.observability.events import Called, Chunk, NodeRetried

if TYPE_CHECKING:
    from apxm.testing.clock import VirtualClock


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    monkeypatch.setattr("apxm.capability.calling.run.RETRY_BASE_S", 0.0001)
    with Runtime(RuntimeConfig(scheduler_config=SchedulerConfig(grace_ms=200)), model=ExtractiveModel()) as runtime:
        yield runtime


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
