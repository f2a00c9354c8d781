"""One call through all of its stages, as the host makes it: order, approval, streams, keys, lost calls, counts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator  # noqa: TC003  (the hints of capabilities are read)
from typing import Any

import pytest

from apxm.capability.calling import chunks
from apxm.capability.policy import Allow, Deny, Edit, Request
from apxm.capability.record import CapabilityRecord
from apxm.capability.system import CapabilitySystem
from apxm.capability.tally import RECENT, Tally
from apxm.errors import ApxmError, CapabilityError, DeniedError, InvalidError, TransientError, UnknownEffectError
from apxm.testing.clock import VirtualClock


@pytest.fixture
def system() -> Iterator[CapabilitySystem]:
    system = CapabilitySystem()
    yield system
    system.close()


def register(system: CapabilitySystem, fn: Any, name: str = "tool", **options: Any) -> CapabilityRecord:
    return system.register(name, CapabilityRecord("x", fn, **options))


def call(system: CapabilitySystem, /, name: str = "tool", **arguments: Any) -> Any:
    return asyncio.run(system.invoke(name, arguments))


# --- order --------------------------------------------------------------------------------------------------------------


def test_interceptors_come_first_then_the_schema_then_a_person_then_the_call(system: CapabilitySystem) -> None:
    order: list[str] = []

    def tool(a: int) -> int:
        order.append("call")
        return a

    def hook(request: Request) -> Edit | Allow:
        order.append("interceptor")
        return Allow()

    def ask(request: Request) -> bool:
        order.append("person")
        return True

    system.intercept(hook)
    system.approver = ask
    register(system, tool, approval=True)
    assert call(system, a=1) == 1
    assert order == ["interceptor", "person", "call"]
    order.clear()
    with pytest.raises(InvalidError):
        call(system, a="x")
    assert order == ["interceptor"]


# --- approval -----------------------------------------------------------------------------------------------------------


def test_without_anybody_to_ask_what_needs_approval_is_denied(system: CapabilitySystem) -> None:
    called: list[int] = []
    register(system, lambda: called.append(1), approval=True)
    with pytest.raises(DeniedError, match="has to be approved, and nobody can be asked") as denied:
        call(system)
    assert denied.value.code == "policy"
    assert "approver" in (denied.value.hint or "")
    assert called == []


def test_a_person_sees_the_call_and_why_he_is_asked(system: CapabilitySystem) -> None:
    def tool(to: str, count: int = 2) -> str:
        return to * count

    seen: list[Request] = []

    async def ask(request: Request) -> Allow:
        seen.append(request)
        return Allow()

    system.approver = ask
    register(system, tool, approval=True)
    assert call(system, to="x", count=3) == "xxx"
    assert [(one.capability, dict(one.arguments), one.effect) for one in seen] == [("tool", {"to": "x", "count": 3}, "guarded")]
    assert seen[0].reasons == ("the capability asks for it",)


def test_a_def_that_asks_may_block_for_it_runs_on_a_thread(system: CapabilitySystem) -> None:
    where: list[bool] = []

    def ask(request: Request) -> Deny:
        where.append(threading.current_thread() is threading.main_thread())
        return Deny("too dear")

    system.approver = ask
    register(system, lambda: 1, approval=True)
    with pytest.raises(DeniedError, match="was not approved: too dear"):
        call(system)
    assert where == [False]


def test_an_approver_that_fails_approves_nothing(system: CapabilitySystem) -> None:
    system.approver = lambda request: 1 / 0  # type: ignore[return-value]
    register(system, lambda: 1, approval=True)
    with pytest.raises(DeniedError, match="the approver failed: ZeroDivisionError") as denied:
        call(system)
    assert isinstance(denied.value.__cause__, ZeroDivisionError)


def test_a_person_may_take_longer_than_the_capability(system: CapabilitySystem) -> None:
    async def ask(request: Request) -> bool:
        await asyncio.sleep(3_600)
        return True

    async def tool() -> int:
        return 1

    system.approver = ask
    register(system, tool, approval=True, timeout_ms=1_000)
    loop = VirtualClock().new_event_loop()
    assert loop.run_until_complete(system.invoke("tool")) == 1
    loop.close()


# --- streams ------------------------------------------------------------------------------------------------------------


def texts() -> Iterator[str]:
    yield "a"
    yield "b"


async def later() -> AsyncIterator[str]:
    yield "a"
    await asyncio.sleep(0)
    yield "b"


def numbers() -> Iterator[int]:
    yield 1
    yield 2


def mixed():  # type: ignore[no-untyped-def]
    yield b"a"
    yield "b"


def no_text() -> Iterator[str]:
    yield from ()


def blobs():  # type: ignore[no-untyped-def]
    yield b"a"
    yield b"b"


@pytest.mark.parametrize("run", [None, "inline"])
@pytest.mark.parametrize(
    ("fn", "value"), [(texts, "ab"), (later, "ab"), (numbers, [1, 2]), (mixed, [b"a", "b"]), (no_text, ""), (blobs, b"ab")]
)
def test_what_a_generator_gives_is_its_text_its_bytes_or_the_list(
    system: CapabilitySystem, fn: Any, value: Any, run: Any
) -> None:
    record = register(system, fn, run=run)
    assert record.streams
    assert call(system) == value


def test_a_generator_is_never_called_by_the_run_loop_itself() -> None:
    record = CapabilityRecord("x", texts, effect="pure")
    assert (record.run, record.inline_pure) == ("thread", False)
    assert not CapabilityRecord("x", texts, effect="pure", run="inline").inline_pure
    with pytest.raises(InvalidError, match="is a generator"):
        CapabilityRecord("x", texts, run="process")


def test_a_generator_that_breaks_its_promise_is_refused(system: CapabilitySystem) -> None:
    def liar() -> Iterator[str]:
        yield 3  # type: ignore[misc]

    register(system, liar)
    with pytest.raises(CapabilityError, match=r"returned \[3\] \(list\), expected str"):
        call(system)


@pytest.mark.parametrize(("name", "most"), [("CHUNKS_MAX", 10), ("SIZE_MAX", 20)])
@pytest.mark.parametrize("run", ["thread", "inline"])
def test_a_generator_that_knows_no_end_is_stopped(
    system: CapabilitySystem, monkeypatch: pytest.MonkeyPatch, name: str, most: int, run: Any
) -> None:
    monkeypatch.setattr(chunks, name, most)
    closed: list[bool] = []

    def flood() -> Iterator[str]:
        try:
            while True:
                yield "xx"
        finally:
            closed.append(True)

    register(system, flood, run=run)
    with pytest.raises(CapabilityError, match="gave more than"):
        call(system)
    assert closed == [True]


def test_a_generator_on_a_thread_stops_when_nobody_waits_any_more(system: CapabilitySystem) -> None:
    began, go, closed = threading.Event(), threading.Event(), threading.Event()
    given: list[int] = []

    def endless() -> Iterator[int]:
        try:
            for n in range(50):
                began.set()
                go.wait(10)
                yield n
                given.append(n)
        finally:
            closed.set()

    register(system, endless)

    async def drive() -> None:
        task = asyncio.create_task(system.invoke("tool"))
        while not began.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(drive())
    assert system.abandoned() == ["tool"]  # its thread is still inside of it
    go.set()
    assert closed.wait(10)
    assert given == []


# --- keys and lost calls ------------------------------------------------------------------------------------------------


def test_a_function_with_a_key_gets_one_that_callers_do_not_see(system: CapabilitySystem) -> None:
    def tool(a: int, *, idempotency_key: str) -> str:
        return idempotency_key

    record = register(system, tool)
    assert record.keyed
    assert "idempotency_key" not in record.parameters["properties"]
    assert call(system, a=1) != call(system, a=1)  # for the host every call is another one
    assert asyncio.run(system.invoke("tool", {"a": 1}, key="mine")) == "mine"
    with pytest.raises(InvalidError, match="no parameter `idempotency_key`"):
        call(system, a=1, idempotency_key="forged")


def test_a_function_that_takes_anything_gets_a_key_when_it_asks_for_one(system: CapabilitySystem) -> None:
    def tool(**named: Any) -> list[str]:
        return sorted(named)

    register(system, tool)
    register(system, tool, name="keyed", keyed=True)
    assert call(system, a=1) == ["a"]
    assert call(system, name="keyed", a=1) == ["a", "idempotency_key"]


@pytest.mark.parametrize(
    ("told", "outcome"),
    [
        ({"happened": True, "value": "sent"}, "sent"),
        ({"happened": False}, TransientError),
        (None, UnknownEffectError),
        ({"happened": "perhaps"}, UnknownEffectError),
        ({"happened": True}, UnknownEffectError),
        ({"happened": True, "value": 3}, CapabilityError),
    ],
)
def test_what_became_of_a_lost_call_is_asked_for(system: CapabilitySystem, told: Any, outcome: Any) -> None:
    asked: list[Any] = []

    def send(to: str) -> str:
        raise ConnectionResetError("gone")

    def find(key: str, arguments: dict[str, Any]) -> Any:
        asked.append((len(key), arguments))
        return told

    register(system, send, reconcile=find)
    if isinstance(outcome, str):
        assert call(system, to="x") == outcome
    else:
        with pytest.raises(outcome):
            call(system, to="x")
    assert asked == [(32, {"to": "x"})]


def test_a_hook_that_fails_leaves_the_call_unknown(system: CapabilitySystem) -> None:
    def send() -> str:
        raise ConnectionResetError("gone")

    def find(key: str, arguments: dict[str, Any]) -> Any:
        raise OSError("no way to know")

    register(system, send, reconcile=find)
    with pytest.raises(UnknownEffectError, match="gone") as lost:
        call(system)
    assert "no way to know" in str(lost.value.__cause__)


# --- counts -------------------------------------------------------------------------------------------------------------


def test_calls_failures_by_class_and_denials_are_counted(system: CapabilitySystem) -> None:
    def tool(what: str) -> str:
        if what == "bad":
            raise ValueError("bad")
        if what == "lost":
            raise TimeoutError
        return what

    register(system, tool)
    assert system.stats()["tool"]["p50_ms"] is None
    for what in ("fine", "bad", "lost"):
        try:
            call(system, what=what)
        except ApxmError:
            continue
    system.intercept(lambda request: Deny("no"))
    with pytest.raises(DeniedError):
        call(system, what="fine")
    stats = system.stats()["tool"]
    assert {name: stats[name] for name in ("calls", "in_flight", "failed", "denied", "retries")} == {
        "calls": 3,
        "in_flight": 0,
        "failed": {"fatal": 1, "unknown": 1},
        "denied": 1,
        "retries": 0,
    }
    assert 0 < stats["p50_ms"] <= stats["p95_ms"] <= stats["max_ms"]


def test_counts_begin_anew_with_a_registration(system: CapabilitySystem) -> None:
    record = CapabilityRecord("x", lambda: 1)
    system.register("tool", record)
    call(system)
    system.unregister("tool")
    system.register("tool", record)
    assert system.stats()["tool"]["calls"] == 0


def test_percentiles_are_those_of_the_last_calls_and_the_maximum_of_all() -> None:
    tally = Tally()
    for ms in (5_000.0, *(float(n) for n in range(1, 101))):
        tally.began()
        tally.ended(ms, None)
    said = tally.to_map()
    assert (said["p50_ms"], said["p95_ms"], said["max_ms"]) == (51.0, 96.0, 5_000.0)
    for _ in range(RECENT):
        tally.began()
        tally.ended(1.0, None)
    said = tally.to_map()
    assert (said["p95_ms"], said["max_ms"], said["calls"]) == (1.0, 5_000.0, 101 + RECENT)


def test_a_call_in_flight_is_counted_until_it_is_given_up(system: CapabilitySystem) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    register(system, forever)

    async def drive() -> None:
        task = asyncio.create_task(system.invoke("tool"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert system.stats()["tool"]["in_flight"] == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(drive())
    assert system.stats()["tool"]["in_flight"] == 0
    assert system.stats()["tool"]["failed"] == {"cancelled": 1}
