from __future__ import annotations

import asyncio
import errno
from contextvars import ContextVar
from threading import Barrier, Event, current_thread, main_thread
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from apxm.capability.calling.run import Calls, with_retries
from apxm.capability.calling.threads import Lane
from apxm.capability.record import CapabilityRecord
from apxm.errors import (
    ApxmError,
    CapabilityError,
    DeniedError,
    FailureClass,
    TransientError,
    UnknownEffectError,
    ValueRefused,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SAFE, UNSAFE = ("pure", "read", "idempotent"), ("paid", "guarded")


@pytest.fixture
def calls() -> Iterator[Calls]:
    calls = Calls(threads_max=2)
    yield calls
    calls.close()


def record(fn: Callable[..., Any], **options: Any) -> CapabilityRecord:
    return CapabilityRecord("x", fn, **options).registered("tool", builtin=False)


def run(calls: Calls, record: CapabilityRecord, *args: Any, **options: Any) -> Any:
    return asyncio.run(calls.call(record, args, {}, **options))


def raising(error: BaseException) -> Callable[[], Any]:
    def fn() -> Any:
        raise error

    return fn


def raising_later(error: BaseException) -> Callable[[], Any]:
    async def fn() -> Any:
        raise error

    return fn


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


# --- where --------------------------------------------------------------------------------------------------------------


def test_an_async_function_is_awaited_on_the_loop(calls: Calls) -> None:
    async def fn(value: int) -> tuple[int, bool]:
        await asyncio.sleep(0)
        return value, current_thread() is main_thread()

    assert run(calls, record(fn), 3) == [3, True]


def test_a_blocking_function_runs_on_a_thread_with_the_context_of_the_caller(calls: Calls) -> None:
    variable: ContextVar[str] = ContextVar("variable")

    def fn() -> list[Any]:
        return [variable.get(), current_thread() is main_thread()]

    async def caller() -> Any:
        variable.set("mine")
        return await calls.call(record(fn), (), {})

    assert asyncio.run(caller()) == ["mine", False]


def test_threads_are_used_again_and_bounded(calls: Calls) -> None:
    inside, most, seen, gate = 0, 0, set(), Event()

    def fn(last: bool) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        seen.add(current_thread())
        if last:
            gate.set()
        inside -= 1

    async def many() -> None:
        await asyncio.gather(*(calls.call(record(fn), (number == 19,), {}) for number in range(20)))

    asyncio.run(many())
    assert gate.is_set()
    assert most <= 2
    assert len(seen) <= 2


def test_the_result_is_checked(calls: Calls) -> None:
    def fn() -> int:
        return "no"  # type: ignore[return-value]

    with pytest.raises(CapabilityError, match=r"returned 'no' \(str\), expected int"):
        run(calls, record(fn, effect="read"))


def test_the_result_is_made_safe_before_it_is_checked(calls: Calls) -> None:
    kept = [np.float64(1.5)]

    def fn() -> list[float]:
        return kept  # type: ignore[return-value]

    result = run(calls, record(fn, effect="read"))
    assert type(result[0]) is float
    assert result is not kept
    assert run(calls, record(fn, effect="read", gives=True, result={})) is kept
    with pytest.raises(ValueRefused, match="the result of capability `tool`: the value is a set"):
        run(calls, record(lambda: {1}))


# --- what a failure means -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [raising, raising_later])
@pytest.mark.parametrize("effect", ["pure", "guarded"])
def test_an_exception_becomes_a_capability_error_with_its_cause(calls: Calls, make: Any, effect: str) -> None:
    cause = ValueError("no good")
    with pytest.raises(CapabilityError) as failed:
        run(calls, record(make(cause), effect=effect))
    assert str(failed.value) == "capability `tool` raised ValueError: no good"
    assert failed.value.__cause__ is cause
    assert failed.value.called


def test_an_error_of_ours_passes_through_and_says_that_a_call_went_out(calls: Calls) -> None:
    error = DeniedError("not yours")
    with pytest.raises(DeniedError) as failed:
        run(calls, record(raising(error)))
    assert failed.value is error
    assert error.called


LOST = [TimeoutError("slow"), ConnectionResetError("gone"), BrokenPipeError("gone")]
TEMPORARY = [OSError(errno.ENETUNREACH, "no net"), BlockingIOError(errno.EAGAIN, "again"), ConnectionRefusedError("nobody")]
FOR_GOOD = [OSError(errno.ENOSPC, "full"), FileNotFoundError("none"), KeyError("k")]


@pytest.mark.parametrize("effect", SAFE)
@pytest.mark.parametrize("error", [*LOST, *TEMPORARY], ids=repr)
def test_what_may_go_away_is_transient_where_repeating_is_safe(calls: Calls, effect: str, error: Exception) -> None:
    with pytest.raises(TransientError) as failed:
        run(calls, record(raising(error), effect=effect))
    assert failed.value.__cause__ is error
    assert failed.value.called


@pytest.mark.parametrize("effect", UNSAFE)
@pytest.mark.parametrize("error", LOST, ids=repr)
def test_a_lost_answer_of_an_effect_is_unknown(calls: Calls, effect: str, error: Exception) -> None:
    with pytest.raises(UnknownEffectError, match=f"its effect is {effect}, so it is not tried again"):
        run(calls, record(raising(error), effect=effect))


@pytest.mark.parametrize("effect", UNSAFE)
@pytest.mark.parametrize("error", [*TEMPORARY, *FOR_GOOD], ids=repr)
def test_an_effect_that_failed_before_it_happened_is_a_plain_failure(calls: Calls, effect: str, error: Exception) -> None:
    with pytest.raises(CapabilityError):
        run(calls, record(raising(error), effect=effect))


@pytest.mark.parametrize("error", FOR_GOOD, ids=repr)
def test_what_will_not_go_away_is_not_transient(calls: Calls, error: Exception) -> None:
    with pytest.raises(CapabilityError):
        run(calls, record(raising(error), effect="read"))


@pytest.mark.parametrize("make", [raising, raising_later])
@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError(), StopIteration(1)], ids=repr)
def test_no_exception_of_a_tool_ends_the_caller(calls: Calls, make: Any, error: BaseException) -> None:
    with pytest.raises(CapabilityError) as failed:
        run(calls, record(make(error), effect="read"))
    assert failed.value.failure is FailureClass.FATAL


# --- timeouts and cancelling --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effect", "expected"), [*((one, TransientError) for one in SAFE), *((one, UnknownEffectError) for one in UNSAFE)]
)
def test_a_call_without_an_answer_in_time_fails_by_its_effect(calls: Calls, effect: str, expected: type[ApxmError]) -> None:
    with pytest.raises(expected, match=r"did not answer within 0\.01 s"):
        run(calls, record(forever, effect=effect, timeout_ms=10))


def test_the_caller_may_give_another_timeout(calls: Calls) -> None:
    with pytest.raises(TransientError, match=r"0\.02 s"):
        run(calls, record(forever, effect="read"), timeout_s=0.02)


def test_a_call_that_still_waits_for_a_thread_did_not_happen(calls: Calls) -> None:
    gate, happened = Event(), []

    async def crowd() -> None:
        holders = [asyncio.create_task(calls.call(record(gate.wait), (), {})) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(TransientError, match="waiting for a free thread") as failed:
            await calls.call(record(lambda: happened.append(1)), (), {}, timeout_s=0.02)
        assert not failed.value.called
        gate.set()
        await asyncio.gather(*holders)

    asyncio.run(crowd())
    assert happened == []
    assert calls.abandoned() == []


def test_a_cancelled_call_is_cancelled_and_its_function_sees_it(calls: Calls) -> None:
    seen = []

    async def fn() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def caller() -> None:
        task = asyncio.create_task(calls.call(record(fn), (), {}))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(caller())
    assert seen == ["cancelled"]


def test_a_caller_that_keeps_the_limit_himself_learns_what_it_means(calls: Calls) -> None:
    async def caller() -> None:
        async with asyncio.timeout(0.01):
            await calls.call(record(forever), (), {}, until=monotonic())

    with pytest.raises(UnknownEffectError, match="did not answer in time"):
        asyncio.run(caller())


def test_a_thread_that_does_not_stop_is_counted_until_it_returns(calls: Calls) -> None:
    started, gate = Event(), Event()

    def stubborn() -> None:
        started.set()
        gate.wait()

    async def caller() -> None:
        task = asyncio.create_task(calls.call(record(stubborn), (), {}))
        await asyncio.to_thread(started.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert calls.abandoned() == ["tool"]

    asyncio.run(caller())
    gate.set()
    for _ in range(3):  # its thread is gone, and others work on
        assert run(calls, record(lambda: 1)) == 1
    calls.close()
    assert calls.abandoned() == []


def test_abandoned_threads_make_room_for_others(calls: Calls) -> None:
    started, gate = [Event(), Event(), Event()], Event()

    def stubborn(number: int) -> None:
        started[number].set()
        gate.wait()

    async def caller() -> None:
        for number in range(3):  # one more than there are threads
            task = asyncio.create_task(calls.call(record(stubborn), (number,), {}))
            await asyncio.to_thread(started[number].wait)
            task.cancel()
            await asyncio.wait((task,))
        assert calls.abandoned() == ["tool"] * 3
        assert await calls.call(record(lambda: "free"), (), {}) == "free"

    asyncio.run(caller())
    gate.set()


def test_threads_are_not_abandoned_without_end(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apxm.capability.calling.threads.ABANDONED_MAX", 3)
    gate = Event()

    async def give_up() -> None:
        started = Event()

        def stubborn() -> None:
            started.set()
            gate.wait()

        task = asyncio.create_task(calls.call(record(stubborn), (), {}))
        await asyncio.to_thread(started.wait)
        task.cancel()
        await asyncio.wait((task,))

    for _ in range(3):
        asyncio.run(give_up())
    with pytest.raises(CapabilityError, match="3 abandoned calls have not returned"):
        run(calls, record(lambda: 1))
    gate.set()


def test_calls_that_wait_when_the_threads_close_fail(calls: Calls) -> None:
    gate, started = Event(), Barrier(3)

    def hold() -> None:
        started.wait()
        gate.wait()

    async def caller() -> None:
        holders = [asyncio.create_task(calls.call(record(hold), (), {})) for _ in range(2)]
        await asyncio.to_thread(started.wait)
        waiting = asyncio.create_task(calls.call(record(lambda: 1), (), {}))
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(calls.close))
        with pytest.raises(CapabilityError, match="the runtime is closed"):
            await waiting
        gate.set()
        await closing
        await asyncio.gather(*holders)

    asyncio.run(caller())


def test_a_lane_takes_up_work_again_after_its_threads_went_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apxm.capability.calling.threads.IDLE_S", 0.0)
    left = []
    lane = Lane("test", 1, lambda: left.append(current_thread()))
    for number in range(200):
        assert lane.submit("x", lambda number=number: number).future.result(10) == number  # type: ignore[misc]
    lane.close(10)
    assert left


# --- trying again -------------------------------------------------------------------------------------------------------


class Flaky:
    def __init__(self, failures: int, error: ApxmError | None = None) -> None:
        self.left, self.tries, self.error = failures, 0, error

    async def __call__(self) -> str:
        self.tries += 1
        if self.left:
            self.left -= 1
            raise self.error or TransientError("again")
        return "done"


def retried(
    attempt: Any, *, retries: int = 2, permits: int = 100, until: float = float("inf")
) -> tuple[Any, list[tuple[int, float]]]:
    told: list[tuple[int, float]] = []
    left = iter([True] * permits + [False] * 100)

    async def drive() -> Any:
        return await with_retries(
            attempt,
            retries=retries,
            permit=lambda: next(left),
            announce=lambda number, seconds, error: told.append((number, seconds)),
            until=until,
        )

    return asyncio.run(drive()), told


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apxm.capability.calling.run.RETRY_BASE_S", 0.0001)


def test_a_transient_failure_is_tried_again_and_told(calls: Calls) -> None:
    value, told = retried(Flaky(2))
    assert value == "done"
    assert [number for number, _ in told] == [1, 2]
    assert all(0 <= seconds <= 0.0002 for _, seconds in told)


@pytest.mark.parametrize(
    ("limits", "tries"), [({"retries": 2}, 3), ({"retries": 0}, 1), ({"permits": 1}, 2), ({"until": 0.0}, 1)], ids=str
)
def test_retries_end_with_their_number_the_budget_of_the_run_or_the_deadline(limits: dict[str, Any], tries: int) -> None:
    attempt = Flaky(100)
    with pytest.raises(TransientError) as failed:
        retried(attempt, **limits)
    assert attempt.tries == tries
    assert failed.value.called == (tries > 1)


@pytest.mark.parametrize("error", [CapabilityError("x"), UnknownEffectError("x"), DeniedError("x")], ids=repr)
def test_other_failures_are_not_tried_again(error: ApxmError) -> None:
    attempt = Flaky(1, error)
    with pytest.raises(type(error)):
        retried(attempt)
    assert attempt.tries == 1
