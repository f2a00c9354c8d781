from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from apxm.capability.calling import wire
from apxm.capability.calling.process import Child, Crew, ProcessCall, ProcessDied
from apxm.capability.calling.run import Calls
from apxm.capability.record import CapabilityRecord
from apxm.errors import CapabilityError, DeniedError, TransientError, UnknownEffectError, ValueRefused
from apxm.values import pack
from tests.unit.capability import far

if TYPE_CHECKING:
    from collections.abc import Iterator

linux = pytest.mark.skipif(sys.platform != "linux", reason="the supervisor of worker processes needs Linux")
NOTICE_S = 60.0  # for a process to start on a busy machine; nothing waits this long unless it is broken


@pytest.fixture(scope="module")
def calls() -> Iterator[Calls]:
    calls = Calls(processes_max=1)
    yield calls
    calls.close()


def record(fn: Any, effect: str = "read") -> CapabilityRecord:
    return CapabilityRecord("x", fn, run="process", effect=effect).registered("tool", builtin=False)


def run(calls: Calls, fn: Any, *args: Any, effect: str = "read") -> Any:
    return asyncio.run(calls.call(record(fn, effect), args, {}))


@pytest.fixture
def note(tmp_path: Path) -> Path:
    """A named pipe: reading it waits for whoever writes."""
    pipe = tmp_path / "pids"
    os.mkfifo(pipe)
    return pipe


async def told(note: Path) -> list[int]:
    return [int(pid) for pid in (await asyncio.to_thread(note.read_text)).split()]


def running(pid: int) -> bool:
    """Whether a process exists and is more than an entry that nobody collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int) -> bool:
    """Wait until a process ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], NOTICE_S)[0])
    finally:
        os.close(handle)


def test_values_go_there_and_back(calls: Calls) -> None:
    value = {"a": [1, None, b"x", 1.5], "ä": np.arange(3)}
    one, two = run(calls, far.double, value)
    np.testing.assert_array_equal(one["ä"], [0, 1, 2])
    assert two["a"] == value["a"]


def test_the_process_is_another_one_and_is_used_again(calls: Calls) -> None:
    pid = run(calls, far.pid)
    assert pid != os.getpid()
    assert run(calls, far.pid) == pid


def test_a_static_method_of_a_class_can_be_named(calls: Calls) -> None:
    assert run(calls, f"{far.__name__}:Holder.inside", 1) == 2


def test_what_a_function_prints_is_not_its_answer_and_there_is_nothing_to_read(calls: Calls) -> None:
    assert run(calls, far.talk) == ""


def test_an_exception_comes_back_with_its_name_and_its_traceback(calls: Calls) -> None:
    with pytest.raises(CapabilityError, match="capability `tool` raised ValueError: no good") as failed:
        run(calls, far.fail, "value")
    assert failed.value.__cause__ is not None
    assert "in fail" in failed.value.__cause__.__notes__[0]


def test_errors_keep_their_class(calls: Calls) -> None:
    with pytest.raises(DeniedError, match="not yours; ask"):
        run(calls, far.fail, "denied")
    with pytest.raises(TransientError, match="later") as ours:
        run(calls, far.fail, "transient")
    assert ours.value.called
    with pytest.raises(TransientError, match="TimeoutError: too slow"):
        run(calls, far.fail, "timeout")
    with pytest.raises(UnknownEffectError):
        run(calls, far.fail, "timeout", effect="guarded")
    with pytest.raises(CapabilityError, match="nobody there"):
        run(calls, far.fail, "refused", effect="guarded")
    with pytest.raises(CapabilityError, match="SystemExit: 3"):
        run(calls, far.fail, "exit")


def test_what_is_no_value_does_not_leave_the_process(calls: Calls) -> None:
    with pytest.raises(ValueRefused, match="set"):
        run(calls, far.no_value)
    with pytest.raises(ValueRefused):
        run(calls, far.double, float("nan"))


def test_a_process_that_ends_in_a_call_is_replaced(calls: Calls) -> None:
    with pytest.raises(CapabilityError, match="the process of capability `tool` ended with exit code 3"):
        run(calls, far.die, 3)
    with pytest.raises(UnknownEffectError):
        run(calls, far.die, 0, effect="guarded")
    assert run(calls, far.double, 1) == [1, 1]


def test_a_process_that_crashes_says_by_which_signal(calls: Calls) -> None:
    with pytest.raises(CapabilityError, match="ended by signal 11"):
        run(calls, far.crash)


@linux
def test_what_a_function_leaves_behind_lives_as_long_as_its_worker() -> None:
    crew = Crew()
    orphans = ProcessCall(crew, f"{far.__name__}:leave_orphans", (3,), {}).run()
    supervisor = crew.child().pid
    assert {int(Path(f"/proc/{pid}/stat").read_text().split()[3]) for pid in orphans} == {supervisor}
    crew.leave()
    assert not any(Path(f"/proc/{pid}").exists() for pid in orphans)


@linux
def test_orphans_that_end_are_collected_while_their_worker_works() -> None:
    crew = Crew()
    worker = ProcessCall(crew, f"{far.__name__}:pid", (), {}).run()
    orphans = ProcessCall(crew, f"{far.__name__}:leave_orphans", (3,), {}).run()
    for pid in orphans:
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
    supervisor = crew.child().pid
    while Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split() != [str(worker)]:
        assert crew.child().pid == supervisor
    crew.leave()


@linux
def test_a_worker_is_ended_whatever_signals_the_parent_had_blocked() -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        child = Child()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    name = b"12345678"
    assert wire.answer(wire.opened(child.ask(wire.request(name, f"{far.__name__}:pid", (), {})), name) or {}) != child.pid
    child.close()
    assert not Path(f"/proc/{child.pid}").exists()


@pytest.mark.parametrize(
    "told",
    [
        *(None, 1, [], {}, {"call": b"other", "value": 1}, {"value": 1}, {"call": b"c"}, {"call": b"c", "value": 1, "more": 2}),
        *({"call": b"c", "error": None}, {"call": b"c", "error": {}}, {"call": b"c", "error": {"name": "E", "message": "m"}}),
        {"call": b"c", "error": {"name": "E", "message": "m", "text": "t", "kind": "new"}},
        {"call": b"c", "error": {"name": "E", "message": "m", "text": "t", "ours": True, "code": "no such code", "hint": None}},
        {"call": b"c", "error": {"name": "E", "message": "m", "text": "t", "ours": True, "code": "denied", "hint": 1}},
    ],
)
def test_what_is_no_answer_is_none(told: Any) -> None:
    assert wire.opened(pack(told), b"c") is None


def test_bytes_that_are_no_value_are_no_answer() -> None:
    assert wire.opened(b"", b"c") is None
    assert wire.opened(b"\xc1", b"c") is None
    assert wire.opened(wire.success(b"c", 1), b"c") == {"call": b"c", "value": 1}


def test_a_process_that_ends_between_calls_is_replaced(calls: Calls) -> None:
    before = run(calls, far.pid)
    os.kill(before, 9)
    assert gone(before)
    assert run(calls, far.pid, effect="guarded") != before


def test_a_cancelled_call_is_killed_with_everything_it_started(calls: Calls, note: Path) -> None:
    async def cancel_in_the_middle() -> list[int]:
        task = asyncio.create_task(calls.call(record(far.hang), (str(note),), {}))
        pids = await told(note)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return pids

    pids = asyncio.run(cancel_in_the_middle())
    assert not running(pids[0])  # when the caller goes on, the process is collected
    assert gone(pids[1])
    assert run(calls, far.pid) not in pids
    assert calls.abandoned() == []


def test_a_call_that_takes_too_long_is_killed(calls: Calls) -> None:
    pid = run(calls, far.pid)
    with pytest.raises(UnknownEffectError, match="did not answer within"):
        asyncio.run(calls.call(record(far.hang, "guarded"), (), {}, timeout_s=0.5))
    assert not running(pid)
    assert run(calls, far.double, 1) == [1, 1]


def test_closing_kills_what_runs(note: Path) -> None:
    calls = Calls()

    async def close_in_the_middle() -> list[int]:
        task = asyncio.create_task(calls.call(record(far.hang, "guarded"), (str(note),), {}))
        pids = await told(note)
        await asyncio.to_thread(calls.close)
        with pytest.raises(UnknownEffectError, match="ended by signal 9"):
            await task
        return pids

    assert all(gone(pid) for pid in asyncio.run(close_in_the_middle()))


def test_a_process_ends_with_its_parent() -> None:
    """The pipe closes: that is all a worker ever learns about a parent that was killed."""
    child = Child()
    assert child.alive
    child._process.stdin.close()  # type: ignore[union-attr]
    assert child._process.wait(NOTICE_S) == -9
    child._process.stdout.close()  # type: ignore[union-attr]


def test_a_call_killed_before_it_begins_does_not_run() -> None:
    crew = Crew()
    call = ProcessCall(crew, f"{far.__name__}:pid", (), {})
    call.kill()
    with pytest.raises(ProcessDied, match="before the call began"):
        call.run()
    crew.leave()


def test_a_process_killed_a_moment_after_its_answer_does_not_serve_the_next_call() -> None:
    crew = Crew()
    first = crew.child()
    late = ProcessCall(crew, f"{far.__name__}:pid", (), {})
    original = first.ask

    def ask(frame: bytes) -> bytes:
        answer = original(frame)
        late.kill()
        return answer

    first.ask = ask  # type: ignore[method-assign]
    worker = late.run()
    assert ProcessCall(crew, f"{far.__name__}:pid", (), {}).run() != worker
    crew.leave()
