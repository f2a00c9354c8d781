"""What is left of a run when it is over, however it ended: real processes, their records, files and logs."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from apxm.observability.events import Gap, NodeStarted, Printed, RunEnded, RunStarted
from apxm.observability.history import History
from apxm.observability.record import RunStore, read

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 60
TOOLS = '''
import asyncio
import pathlib
from apxm import CapabilityRecord, TransientError, flow, step

tries = []

async def hang() -> str:
    """Never comes back, and says so."""
    await asyncio.Event().wait()
    return ""

def broken(x: int) -> int:
    """Divides by zero."""
    return x // 0

async def busy(x: int) -> int:
    """Works the second time."""
    tries.append(x)
    if len(tries) == 1:
        raise TransientError("busy")
    return x

def mark(path: str) -> str:
    """Leaves a file."""
    pathlib.Path(path).touch()
    return path

CAPABILITIES = {
    "hang": CapabilityRecord("Never comes back", hang, effect="read", timeout_ms=None),
    "broken": CapabilityRecord("Divides by zero", broken, effect="pure"),
    "busy": CapabilityRecord("Works the second time", busy, effect="read"),
    "mark": CapabilityRecord("Leaves a file", mark, effect="read"),
}

@flow
def waits():
    first = step.print(message="ready", name="first")
    return step.inv("hang", after=first, name="forever")

@flow
def fails():
    return step.inv("broken", x=3, name="division")

@flow
def retries():
    said = step.print(message="hello", name="said")
    return step.inv("busy", x=7, after=said, name="second")

@flow
def marks():
    return step.inv("mark", path="was_here", name="mark")

@flow
def many():
    items = step.const_str(list(range(2000)), name="items")
    said = step.map(items, name="all")
    with said as item:
        step.yield_(step.print(message="{item}", item=item, name="one"), name="result")
    return step.const_str("through", after=said, name="end")
'''


class Place:
    """A folder with programs and a state directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tools.py").write_text(TOOLS)
        self.store = RunStore(folder / "state" / "apxm" / "runs")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("APXM_")},
            "PYTHONPATH": str(ROOT),
            "XDG_STATE_HOME": str(folder / "state"),
        }

    def start(self, *arguments: str, before: Callable[[], None] | None = None, **set_: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "apxm", *arguments],
            cwd=self.folder,
            env=self.environment | set_,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=before,
        )

    def run(self, *arguments: str, code: int = 0, before: Callable[[], None] | None = None, **set_: str) -> tuple[str, str]:
        process = self.start(*arguments, before=before, **set_)
        out, err = process.communicate(timeout=SECONDS_MAX)
        assert process.returncode == code, (out, err)
        return out, err

    def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.run("runs", "ls", "--json")[0])
        return found

    def waiting(self) -> subprocess.Popen[str]:
        """A run that waits for ever, once its record says so."""
        process = self.start("run", "tools.py:waits")
        deadline = time.monotonic() + SECONDS_MAX
        while time.monotonic() < deadline and process.poll() is None:
            for path in self.store.folder.glob("*.jsonl"):
                if any(isinstance(event, NodeStarted) and event.name == "forever" for event in read(path)):
                    return process
            time.sleep(0.01)
        raise AssertionError(f"no record of it appeared: {process.poll()}")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_every_run_is_recorded_and_the_last_line_says_how_to_look_at_it(place: Place) -> None:
    _, err = place.run("run", "tools.py:retries")
    (run,) = place.runs()
    assert err.splitlines()[-1].endswith(f"; `apxm runs show {run['run_id'][:8]}`")
    assert (run["outcome"], run["flow"], run["file"]) == ("done", "default.retries", str(place.folder / "tools.py:retries"))
    events = list(read(place.store.path(run["run_id"])))
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunEnded)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert len(events[0].metadata["artifact"]) == 64
    history = History.of(events)
    assert {facts.name: facts.retries for facts in history.places.values()} == {"said": 0, "second": 1, "return": 0}


def test_a_failed_run_is_recorded_with_the_failing_node(place: Place) -> None:
    place.run("run", "tools.py:fails", code=7)
    assert place.runs()[0]["outcome"] == "fatal"
    out, _ = place.run("runs", "show", "last")
    assert "failed: node `division` (INV)" in out
    assert "ZeroDivisionError" in out


def test_a_killed_run_leaves_a_record_that_can_be_read(place: Place) -> None:
    process = place.waiting()
    assert [run["outcome"] for run in place.runs()] == ["running"]
    assert json.loads(place.run("runs", "gc", "--keep", "0", "--json")[0])["deleted"] == []
    process.kill()
    process.communicate(timeout=SECONDS_MAX)
    (run,) = place.runs()
    assert (run["outcome"], run["pid"]) == ("killed", process.pid)
    out, _ = place.run("runs", "show", run["run_id"][:6])
    assert "killed" in out.splitlines()[0]
    assert "forever" in out
    assert json.loads(place.run("runs", "gc", "--keep", "0", "--json")[0])["deleted"] == [run["run_id"]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_recorded_as_cancelled(place: Place, number: signal.Signals) -> None:
    process = place.waiting()
    process.send_signal(number)
    process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 128 + number
    assert [run["outcome"] for run in place.runs()] == ["cancelled"]


def test_a_run_is_not_recorded_when_nobody_wants_it(place: Place) -> None:
    _, err = place.run("run", "tools.py:retries", "--no-record")
    place.run("run", "tools.py:retries", APXM_RECORDS_ENABLED="false")
    assert "runs show" not in err
    assert not (place.folder / "state").exists()


def test_old_records_go_by_themselves(place: Place) -> None:
    for _ in range(4):
        place.run("run", "tools.py:retries", "-q", APXM_RECORDS_RUNS_MAX="2")
    assert len(place.runs()) == 2


def test_without_a_state_directory_the_run_goes_on_with_one_warning(place: Place) -> None:
    (place.folder / "state").write_text("a file is in the way")
    out, err = place.run("run", "tools.py:retries")
    assert out == "7\n"
    assert err.count("warning: this run is not recorded: ") == 1
    assert "runs show" not in err
    assert "Traceback" not in err
    assert "cannot be made" in place.run("runs", "ls", code=2)[1]


def test_a_full_disk_stops_the_record_and_not_the_run(place: Place) -> None:
    limit = 100_000

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    out, err = place.run("run", "tools.py:many", "--events", "events.jsonl", before=small_files)
    assert out == "through\n"
    assert err.count("warning: the run goes on, but is no longer recorded in ") == 2
    assert err.count("File too large") == 2
    (run,) = place.runs()
    assert run["outcome"] == "done"
    for path in (place.store.path(run["run_id"]), place.folder / "events.jsonl"):
        assert path.stat().st_size <= limit
        kept = list(read(path))
        assert isinstance(kept[0], RunStarted)
        assert isinstance(kept[-1], RunEnded)
        numbers = [event.seq for event in kept if not isinstance(event, Gap | RunEnded)]
        assert numbers == list(range(1, len(numbers) + 1))


def test_a_device_that_is_full_does_not_stop_the_run(place: Place) -> None:
    out, err = place.run("run", "tools.py:retries", "--events", "/dev/full")
    assert out == "7\n"
    assert err.count("no longer recorded in /dev/full: No space left on device") == 1
    assert place.runs()[0]["outcome"] == "done"


def test_events_go_to_a_file_that_says_what_the_record_does(place: Place) -> None:
    (place.folder / "events.jsonl").write_text("what was there before\n" * 1000)
    out, _ = place.run("run", "tools.py:retries", "--events", "events.jsonl")
    assert out == "7\n"
    assert (place.folder / "events.jsonl").read_bytes() == place.store.path(place.runs()[0]["run_id"]).read_bytes()


@pytest.mark.parametrize(("program", "code"), [("retries", 0), ("fails", 7)])
def test_events_may_take_the_place_of_the_result(place: Place, program: str, code: int) -> None:
    out, _ = place.run("run", f"tools.py:{program}", "--events", "-", code=code)
    events = [json.loads(line)["event"] for line in out.splitlines()]
    assert (events[0], events[-1]) == ("RunStarted", "RunEnded")


def test_events_appended_to_a_file_by_the_shell_leave_what_is_there(place: Place) -> None:
    with (place.folder / "log").open("w") as file:
        file.write("before\n")
        file.flush()
        subprocess.run(
            [sys.executable, "-m", "apxm", "run", "tools.py:retries", "--events", "-", "-q"],
            cwd=place.folder, env=place.environment, stdout=file, check=True, timeout=SECONDS_MAX,
        )  # fmt: skip
    first, *events = (place.folder / "log").read_text().splitlines()
    assert first == "before"
    assert json.loads(events[-1])["event"] == "RunEnded"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--events", "-", "--json"], "both want standard output"),
        (["--events", "tools.py"], "would replace the program"),
        (["--events", "nowhere/events.jsonl"], "cannot write nowhere/events.jsonl"),
        (["--log", "loud"], "loud"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(place: Place, arguments: list[str], said: str) -> None:
    out, err = place.run("run", "tools.py:marks", *arguments, code=2)
    assert said in out + err
    assert not (place.folder / "was_here").exists()
    assert (place.folder / "tools.py").read_text() == TOOLS
    place.run("run", "tools.py:marks")
    assert (place.folder / "was_here").exists()


def test_as_json_with_a_trace_the_events_are_those_of_the_record(place: Place) -> None:
    out, _ = place.run("run", "tools.py:retries", "--json", "--trace")
    (run,) = place.runs()
    assert json.loads(out)["trace"] == [json.loads(line) for line in place.store.path(run["run_id"]).read_text().splitlines()]


def test_a_log_takes_the_place_of_the_other_lines(place: Place) -> None:
    out, err = place.run("run", "tools.py:retries", "--log", "info")
    assert out == "7\n"
    *lines, last = err.splitlines()
    assert [line.split("]")[1].split("run_id")[0].strip() for line in lines] == [
        "run began", "printed", "call failed", "node is tried again", "run ended",
    ]  # fmt: skip
    assert last.startswith("done in")


def test_a_quiet_run_with_a_log_as_json_says_nothing_else(place: Place) -> None:
    _, err = place.run("run", "tools.py:retries", "--log", "warning", "-q", APXM_LOG_FORMAT="json")
    said = [json.loads(line) for line in err.splitlines()]
    assert [line["event"] for line in said] == ["call failed", "node is tried again"]
    assert {line["run_id"] for line in said} == {place.runs()[0]["run_id"]}


def test_on_a_terminal_a_log_stands_in_colours_above_the_tree(place: Place) -> None:
    leader, follower = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "apxm", "run", "tools.py:retries", "--log", "info"],
        cwd=place.folder,
        env=place.environment | {"TERM": "xterm-256color", "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=follower,
    )
    os.close(follower)
    shown = b""
    with suppress(OSError):  # how the end of a terminal is said
        while data := os.read(leader, 65_536):
            shown += data
    os.close(leader)
    assert process.wait(SECONDS_MAX) == 0
    text = shown.decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert re.search(r"\x1b\[[0-9;]*mrun began", text)
    assert re.search(r"\[warning  \] node is tried again run_id=.* error=busy\s*$", plain, re.M)
    assert "\x1b" not in plain
    assert plain.index("run ended") < plain.rindex("✓ second")


def test_the_level_of_a_log_may_be_set_and_is_off_unless_it_is(place: Place) -> None:
    assert "[warning" not in place.run("run", "tools.py:retries")[1]
    assert "[warning" in place.run("run", "tools.py:retries", APXM_LOG_LEVEL="warning")[1]
    assert "[warning" not in place.run("run", "tools.py:retries", "--log", "off", APXM_LOG_LEVEL="warning")[1]


def test_what_a_program_printed_is_in_its_record(place: Place) -> None:
    place.run("run", "tools.py:many", "-q")
    printed = [event.text for event in read(place.store.path(place.runs()[0]["run_id"])) if isinstance(event, Printed)]
    assert sorted(map(int, printed)) == list(range(2000))
