"""P8, for real: tools that do everything not to end. When a run is over, nothing of them is left but threads, which are named."""

from __future__ import annotations

import asyncio
import os
import random
import select
import shlex
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from apxm import CapabilityRecord, Runtime, flow, step
from apxm.config import RunOptions, RuntimeConfig, SchedulerConfig
from apxm.errors import ApxmError, CapabilityError, DeadlineError, RunCancelled
from tests.integration import hostile

linux = pytest.mark.skipif(sys.platform != "linux", reason="the supervisor of worker processes needs Linux")

NOTICE_S = 60.0  # for a process to start on a busy machine; nothing waits this long unless it is broken
GRACE_S = 0.2  # where a tool is expected not to obey
REAL, REAL_LONG = 14, 100
MARK = "APXM_TEST_CENSUS"
AGAIN = "python -m pytest tests/integration/test_hostile_tools.py -k {name} --seed {seed}{long}"


class Note:
    """A named pipe through which tools say that they are at it."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def heard(self, timeout_s: float = NOTICE_S) -> bool:
        """Wait for the next line."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1e3)) and os.read(self._fd, len("at it\n")) == b"at it\n"

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def note(tmp_path):
    made = Note(tmp_path / "note")
    yield made
    made.close()


@pytest.fixture
def mark(monkeypatch):
    """Everything started from here on carries this text in its environment, wherever it goes."""
    text = uuid.uuid4().hex
    monkeypatch.setenv(MARK, text)
    return text


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """A folder for temporary files that only this test uses."""
    folder = tmp_path / "files"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


@pytest.fixture
def again(seed, long_run, request):
    """The command that replays this test."""
    name = shlex.quote(request.node.originalname)
    return AGAIN.format(name=name, seed=seed, long=" --long" if long_run else "")


@contextmanager
def deaf_stderr():
    """What floods the error output shall not fill a disk."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def marked(mark):
    """Command lines of the processes that carry the mark, by id."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                if f"{MARK}={mark}".encode() in Path(f"/proc/{name}/environ").read_bytes():
                    found[int(name)] = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:  # it ended
                continue
    return found


def children():
    return [child for path in Path("/proc/self/task").glob("*/children") for child in path.read_text().split()]


def descriptors():
    """How many there are of each kind: files, sockets, pipes."""
    found = Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            found[os.readlink(f"/proc/self/fd/{name}").split(":")[0]] += 1
        except OSError:  # the one of the listing itself
            continue
    return found


async def tasks():
    return sorted(task.get_coro().__qualname__ for task in asyncio.all_tasks())


def census(runtime):
    """What a run could leave behind in this process. Idle threads of the lanes belong to the runtime."""
    threads = Counter(thread.name for thread in threading.enumerate())
    return {
        "tasks": runtime._loop.submit(tasks()).result(NOTICE_S),
        "threads": {name: count for name, count in threads.items() if name not in ("apxm-tool", "apxm-process")},
        "descriptors": descriptors(),
        "children": children(),
        "files": sorted(os.listdir(tempfile.gettempdir())),
        "runs": len(runtime._live),
        "abandoned": runtime.capability_system().abandoned(),
    }


def settled(runtime):
    """The census of a runtime that has its loop, and no run."""
    runtime._loop.submit(tasks()).result(NOTICE_S)
    return census(runtime)


def made(tool, grace_s=NOTICE_S, run="process", effect="guarded"):
    """A runtime with one capability."""
    runtime = Runtime(RuntimeConfig(scheduler_config=SchedulerConfig(grace_ms=grace_s * 1e3)))
    record = CapabilityRecord("Hostile.", tool, effect=effect, run=run, timeout_ms=None)
    runtime.capability_system().register("tool", record)
    return runtime


def calling(note, **attributes):
    return flow(lambda: step.inv("tool", note=note, name="call", **attributes), name="f")


def end_of(handle):
    """What a run ended with. Nothing is reserved any more then."""
    with pytest.raises(ApxmError) as raised:
        handle.result(2 * NOTICE_S)
    assert handle._run.over
    assert not any(handle._run.ledger.reserved().values())
    return raised.value


def run_and_end(runtime, note, way):
    """Start the tool, stop the run in one of the ways; gives the handle, the error, and the seconds from the stop to the end."""
    options = RunOptions(deadline_s=1.0) if way == "deadline" else None
    attributes = {"timeout_ms": 1000} if way == "timeout" else {}
    handle = runtime.start(calling(note.path, **attributes), run=options)
    stopped = time.monotonic() + 1.0
    if way in ("cancel", "close"):
        assert note.heard()
        stopped = time.monotonic()
        handle.cancel() if way == "cancel" else runtime.close()
    error = end_of(handle)
    seconds = time.monotonic() - stopped
    while note.heard(0):  # it may have been at it, or not yet
        continue
    return handle, error, seconds


EXPECTED = {"cancel": RunCancelled, "close": ApxmError, "deadline": DeadlineError, "timeout": ApxmError}


@linux
def test_whatever_a_tool_does_a_run_that_is_stopped_ends_and_leaves_nothing(seed, long_run, again, note, mark):
    chance = random.Random(seed)
    took = []
    for number in range(REAL_LONG if long_run else REAL):
        tool = hostile.TOOLS[number % len(hostile.TOOLS)]
        way = chance.choice(("cancel", "cancel", "cancel", "close", "deadline", "timeout"))
        story = f"`{tool.__name__}`, stopped by {way} (run {number}); again: {again}"
        outside = descriptors()
        with deaf_stderr(), made(tool) as runtime:
            before = settled(runtime)
            handle, error, seconds = run_and_end(runtime, note, way)
            took.append((seconds, tool.__name__, way))
            assert marked(mark) == {}, story
            assert isinstance(error, EXPECTED[way]), story
            assert handle._run.abandoned == [], story  # everything obeyed within the grace period
            assert way == "close" or census(runtime) == before, story
        assert descriptors() == outside, story
    print(f"{len(took)} runs stopped; from the stop to the end {sum(took_s for took_s, _, _ in took) / len(took):.3f} s; most:")
    print(*sorted(took, reverse=True)[:5], sep="\n")


@linux
@pytest.mark.parametrize("tool", hostile.ENDING, ids=lambda tool: tool.__name__)
def test_a_tool_that_breaks_its_process_fails_its_call_and_leaves_nothing(tool, note, mark):
    with made(tool, effect="read") as runtime:
        before = settled(runtime)
        with pytest.raises(CapabilityError, match="the process of capability `tool` ended"):
            runtime.start(calling(note.path)).result(NOTICE_S)
        assert marked(mark) == {}
        assert census(runtime) == before


@linux
def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one(note):
    with made(hostile.forge_an_answer, effect="read") as runtime:
        runtime.capability_system().register("pid", CapabilityRecord("Id.", hostile.pid, run="process", effect="guarded"))
        with pytest.raises(CapabilityError, match="wrote something that is no answer"):
            runtime.execute(calling(note.path))
        asks = flow(lambda: step.inv("pid", name="pid"), name="asks")
        assert runtime.execute(asks).value not in (None, "forged", "honest")
    with made(hostile.answer_rubbish, effect="read") as runtime, pytest.raises(CapabilityError, match="is no answer"):
        runtime.execute(calling(note.path))


@linux
@pytest.mark.parametrize("tool", ["become_daemons", "spin", "stop_itself", "use_a_shell"])
def test_a_runtime_that_is_killed_leaves_no_process_of_its_tools(tool, note, mark):
    program = f"from tests.integration.hostile import serve; serve({tool!r}, {note.path!r})"
    runtime = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2])
    assert note.heard()
    left = [os.pidfd_open(pid) for pid in marked(mark) if pid != runtime.pid]
    assert len(left) >= 2  # a supervisor and a worker at least
    runtime.kill()
    runtime.wait(NOTICE_S)
    try:
        for process in left:
            assert select.select([process], [], [], NOTICE_S)[0]
    finally:
        for process in left:
            os.close(process)
    assert marked(mark) == {}


@linux
def test_a_worker_is_what_the_kernel_takes_first_when_memory_runs_out(note, mark):
    with made(hostile.ignore_signals) as runtime:
        handle = runtime.start(calling(note.path))
        assert note.heard()
        found = sorted(int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in marked(mark))
        handle.cancel()
        end_of(handle)
    assert found[-1] == 1000
    assert len(found) == 2
    assert found[0] == int(Path("/proc/self/oom_score_adj").read_text())


def test_threads_that_do_not_come_back_are_named_counted_and_bounded():
    gate, at_it = threading.Event(), threading.Semaphore(0)

    def hold(note: str) -> str:
        at_it.release()
        gate.wait()
        return note

    with made(hold, GRACE_S, run="thread") as runtime:
        for number in range(5):
            handle = runtime.start(calling("x"))
            assert at_it.acquire(timeout=NOTICE_S)
            handle.cancel()
            error = end_of(handle)
            assert isinstance(error, RunCancelled)
            assert error.result.stats.abandoned == ("call",)
            assert runtime.capability_system().abandoned() == ["tool"] * (number + 1)
        before = {thread for thread in threading.enumerate() if thread.name == "apxm-tool"}
        assert len(before) == 5
        gate.set()
        for thread in before:
            thread.join(NOTICE_S)
            assert not thread.is_alive()
        assert runtime.capability_system().abandoned() == []
        assert runtime.execute(calling("y")).value == "y"


@pytest.mark.parametrize(("times", "abandoned"), [(1, ()), (2, ("call",)), (1_000_000, ("call",))])
def test_an_async_tool_that_swallows_its_cancellation_is_given_up_after_the_grace_period(times, abandoned):
    at_it, free, release = threading.Event(), threading.Event(), []

    async def swallow(note: str) -> str:
        stop = asyncio.Event()
        release.append((asyncio.get_running_loop(), stop))
        left = times
        while left and not stop.is_set():
            at_it.set()
            try:
                await stop.wait()
            except asyncio.CancelledError:
                left -= 1
        free.set()
        return note

    with made(swallow, GRACE_S, run=None) as runtime:
        before = settled(runtime)
        handle = runtime.start(calling("x"))
        assert at_it.wait(NOTICE_S)
        handle.cancel()
        error = end_of(handle)
        assert isinstance(error, RunCancelled)
        assert error.result.stats.abandoned == abandoned
        loop, stop = release[0]
        loop.call_soon_threadsafe(stop.set)
        assert free.wait(NOTICE_S)
        for _ in range(10):  # turns of the loop, for what comes behind it
            after = census(runtime)
        assert after == before
