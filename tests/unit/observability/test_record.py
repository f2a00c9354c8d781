"""Records: what is written is what is read, whatever the disk, the text, other processes and newer versions do."""

from __future__ import annotations

import json
import os
import random
import select
import stat
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apxm.errors import ApxmError, InvalidError
from apxm.observability import lines, writer
from apxm.observability.events import (
    Called,
    Event,
    FrameClosed,
    FrameOpened,
    Gap,
    NodeEnded,
    NodeRetried,
    NodeStarted,
    Printed,
    RunEnded,
    RunStarted,
)
from apxm.observability.record import RecordWriter, RunStore, read

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parents[3]
STARTED = RunStarted("r1", "default.main", 3, 1_700_000_000.0, {"file": "x.json", "pid": "7"}, seq=1, at=0.0)
USAGE = {"model": {"small": {"llm_calls": 2, "input_tokens": 30, "output_tokens": 4, "cost_usd": 0.5}}}
ENDED = RunEnded("r1", "done", 12.5, None, {"executed": 3, "usage": USAGE}, seq=9, at=0.0125)
EVERY = [
    STARTED,
    NodeStarted((), 4, "read", "INV", 1, seq=2, at=0.1),
    FrameOpened(((4, 0), (7, "case")), "body", 2, None, seq=3, at=0.2),
    NodeRetried(((4, 0),), 5, 1, 0.25, "busy", seq=4, at=0.3),
    Called(((4, 0),), 5, "model", "small", 3.0, False, {"llm_calls": 1}, "busy", {"temperature": 0.0}, seq=5, at=0.4),
    Printed((), 6, "zwei\nZeilen\x1b[31m \u2028", seq=6, at=0.5),
    FrameClosed(((4, 0),), "failed", seq=7, at=0.6),
    NodeEnded(((4, 0),), 5, "ask", "ASK", "failed", 1.5, "busy", 2, seq=8, at=0.7),
    ENDED,
]


def record(path: Path, events: Iterable[Event], **how: object) -> list[str]:
    said: list[str] = []
    with RecordWriter(path, warn=said.append, **how) as made:  # type: ignore[arg-type]
        for event in events:
            made.write(event)
    return said


def stored(store: RunStore, run_id: str, events: Iterable[Event] = EVERY) -> Path:
    with store.writer(run_id) as made:
        for event in events:
            made.write(event)
    return store.path(run_id)


def begun(at: float, **metadata: str) -> RunStarted:
    return RunStarted("r", "default.main", 3, at, metadata, seq=1)


# ---- lines -------------------------------------------------------------------------------------------------------------
def test_every_kind_of_event_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    assert record(tmp_path / "r.jsonl", EVERY) == []
    assert list(read(tmp_path / "r.jsonl")) == EVERY


def test_the_encoder_of_many_lines_says_what_that_of_few_does() -> None:
    encode = lines.bulk_encoder()
    for event in EVERY:
        assert lines.event_of(lines.line_of(event, encode)) == lines.event_of(lines.line_of(event)) == event


def test_each_event_is_one_line_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    record(tmp_path / "r.jsonl", EVERY)
    assert [json.loads(line)["event"] for line in (tmp_path / "r.jsonl").read_bytes().split(b"\n")[:-1]] == [
        type(event).__name__ for event in EVERY
    ]
    assert stat.S_IMODE((tmp_path / "r.jsonl").stat().st_mode) == 0o600


def test_a_file_cut_anywhere_gives_every_event_that_was_whole(tmp_path: Path) -> None:
    record(tmp_path / "r.jsonl", EVERY)
    data = (tmp_path / "r.jsonl").read_bytes()
    for size in range(len(data)):
        (tmp_path / "cut.jsonl").write_bytes(data[:size])
        whole = data[:size].count(b"\n")
        assert list(read(tmp_path / "cut.jsonl")) in (EVERY[:whole], EVERY[: whole + 1])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{}", "missing required field `event`"),
        (b"", "no event"),
        (b"[1]", "no event"),
        (b"\xff\xfe", "no event"),
        (b'{"event":"NodeEnded","seq":2,"path":[],"node":"x","name":"a","op":"b","outcome":"done"}', "$.node"),
        (b'{"event":"FrameOpened","path":[],"flow":7,"nodes":1}', "$.flow"),
        (b'{"event":"Printed","path":[[1]],"node":1,"text":""}', "$.path"),
        (lines.line_of(ENDED).strip()[:-1] + b',"stats":' + b'{"x":' * 100_000, "nested too deeply"),
        (b'{"event":"Printed","path":[],"node":1,"text":"' + b"x" * lines.LINE_BYTES_MAX + b'"}', "more than 4,194,304 bytes"),
    ],
)
def test_a_line_that_is_no_event_is_named_with_its_file_and_number(tmp_path: Path, line: bytes, said: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(lines.line_of(STARTED) + line + b"\n" + lines.line_of(ENDED))
    found = read(path)
    assert next(found) == STARTED
    with pytest.raises(InvalidError) as caught:
        next(found)
    assert caught.value.code == "record"
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert said in str(caught.value)


def test_damage_never_gives_anything_but_events_or_an_error(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    whole = b"".join(map(lines.line_of, EVERY))
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / "r.jsonl").write_bytes(data)
        with suppress(InvalidError):
            assert all(isinstance(event, Event) for event in read(tmp_path / "r.jsonl"))
        assert len(RunStore(tmp_path).list()) == 1


def test_what_a_newer_version_says_leaves_the_rest_readable(tmp_path: Path) -> None:
    newer = {"event": "NodeDreamt", "seq": 2, "at": 0.5, "of": ["sheep"]}
    more = {**json.loads(lines.line_of(ENDED)), "mood": "good"}
    (tmp_path / "r.jsonl").write_bytes(lines.line_of(STARTED) + json.dumps(newer).encode() + b"\n" + json.dumps(more).encode())
    assert list(read(tmp_path / "r.jsonl")) == [STARTED, Gap(2, 2, seq=2, at=0.5), ENDED]


@pytest.mark.parametrize("many", [False, True])
def test_what_no_line_can_hold_is_cut_and_the_line_stays_readable(tmp_path: Path, many: bool) -> None:
    odd = {"temperature": float("nan"), "tools": {1, 2}, "big": 2**80, "half": "\ud800", "deep": (deep := {})}
    for _ in range(2_000):
        deep["x"] = deep = {}
    events = [
        Printed((), 1, "x" * 10_000_000, seq=1),
        Called((), 2, "model", "m", 1.0, True, details=odd, seq=2),
        RunEnded("r", "fatal", 1.0, "\udcff is no file", {"usage": {"node": {f"n{i}": "y" * 200 for i in range(50_000)}}}, seq=3),
    ]
    before = [Printed((), 1, "x", seq=n) for n in range(writer.BULK * many)]
    assert record(tmp_path / "r.jsonl", [*before, *events]) == []
    text, called, ended = list(read(tmp_path / "r.jsonl"))[len(before) :]
    assert isinstance(text, Printed)
    assert text.text.endswith("… (10,000,000 characters)")
    assert isinstance(called, Called)
    assert called.details is not None
    assert (called.details["temperature"], called.details["half"]) == ("nan", "\\ud800")
    assert isinstance(ended, RunEnded)
    assert (ended.outcome, ended.error) == ("fatal", "\\udcff is no file")


def test_a_file_that_is_not_there_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match=r"cannot read .*nowhere\.jsonl: No such file"):
        list(read(tmp_path / "nowhere.jsonl"))


# ---- the writer --------------------------------------------------------------------------------------------------------
def test_a_full_device_is_said_once_and_nobody_has_to_care() -> None:
    said = record(Path("/dev/full"), [Printed((), n, "x" * 1000, seq=n) for n in range(1, 5_000)])
    assert said == ["the run goes on, but is no longer recorded in /dev/full: No space left on device"]


def test_past_its_size_a_record_still_says_how_the_run_ended(tmp_path: Path) -> None:
    events = [STARTED, *(Printed((), n, "x" * 1000, seq=n) for n in range(2, 5_000)), RunEnded("r1", "done", 1.0, seq=5_000)]
    (said,) = record(tmp_path / "r.jsonl", events, bytes_max=1_000_000)
    assert "1,000,000 bytes" in said
    kept = list(read(tmp_path / "r.jsonl"))
    gap = kept[-2]
    assert isinstance(gap, Gap)
    assert (gap.first, gap.last) == (kept[-3].seq + 1, 4_999)
    assert kept == [*events[: gap.first - 1], gap, events[-1]]
    assert (tmp_path / "r.jsonl").stat().st_size < 1_001_000


def wait_until_full(fifo: Path) -> None:
    other = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    room = select.poll()
    room.register(other, select.POLLOUT)
    while room.poll(0):
        time.sleep(0.001)
    os.close(other)


def test_a_writer_that_is_too_slow_loses_events_and_says_which(tmp_path: Path) -> None:
    fifo = tmp_path / "slow"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    first, many = 10_000, writer.QUEUE_MAX + 20_000
    with RecordWriter(fifo) as made:
        for n in range(1, many + 1):
            made.write(Printed((), n, "x" * 100, seq=n))
            if n == first:
                wait_until_full(fifo)  # from now on the writer is stuck, and takes no more than it took
        made.write(RunEnded("r", "done", 1.0, seq=many + 1))
        os.set_blocking(reader, True)
        with os.fdopen(reader, "rb") as pipe:
            data = b""
            while b"RunEnded" not in data[-4096:]:
                data += pipe.read1(1 << 20)
    kept = [lines.event_of(line) for line in data.splitlines()]
    (gap,) = [event for event in kept if isinstance(event, Gap)]
    seen = [event.seq for event in kept if not isinstance(event, Gap)]
    assert [*seen[: gap.first - 1], *range(gap.first, gap.last + 1), *seen[gap.first - 1 :]] == list(range(1, many + 2))


def test_an_event_that_no_other_follows_is_written_soon(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with RecordWriter(path) as made:
        for count, event in enumerate(EVERY[:3], 1):
            made.write(event)
            deadline = time.monotonic() + 30
            while len(list(read(path))) < count:
                assert time.monotonic() < deadline
                time.sleep(0.01)


def test_after_close_nothing_more_is_written(tmp_path: Path) -> None:
    made = RecordWriter(tmp_path / "r.jsonl")
    made.write(STARTED)
    made.close()
    made.close()
    made.write(ENDED)
    assert list(read(tmp_path / "r.jsonl")) == [STARTED]


def test_two_writers_of_one_file_are_refused_and_a_record_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with RecordWriter(path), pytest.raises(InvalidError, match="another run writes"):
        RecordWriter(path)
    with pytest.raises(InvalidError, match="exists already"):
        RecordWriter(path, new=True)
    record(path, [STARTED])
    assert list(read(path)) == [STARTED]


@pytest.mark.parametrize("name", ["missing/r.jsonl", ""])
def test_a_file_that_cannot_be_made_is_refused_at_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidError, match="cannot write"):
        RecordWriter(tmp_path / name)


# ---- the store ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("run_id", ["", ".", "..", ".hidden", "a/b", "../x", "a\0b", "-x", "é", "x" * 129, "a b", "a\n"])
def test_what_could_leave_the_folder_is_no_run_id(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(InvalidError, match="is no run id"):
        RunStore(tmp_path).path(run_id)
    with pytest.raises(ApxmError):
        RunStore(tmp_path).resolve(run_id)


def test_the_folders_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    stored(RunStore(tmp_path / "state" / "apxm" / "runs"), "r1")
    for folder in ("state", "state/apxm", "state/apxm/runs"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700


def test_a_summary_says_what_the_two_ends_of_the_record_do(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    path = stored(store, "r1")
    (found,) = store.list()
    assert found == store.summary("r1")
    assert (found.run_id, found.outcome, found.flow, found.file, found.pid) == ("r1", "done", "default.main", "x.json", 7)
    assert (found.began, found.duration_ms, found.nodes, found.bytes) == (1.7e9, 12.5, 3, path.stat().st_size)
    assert (found.llm_calls, found.input_tokens, found.output_tokens, found.cost_usd) == (2, 30, 4, 0.5)


def test_a_summary_of_a_long_record_reads_its_ends_only(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    path = stored(store, "r1", [STARTED, Printed((), 2, "x", seq=2)])
    with path.open("ab") as file:
        file.write(b"\0" * 1_000_000 + b"\n" + lines.line_of(RunEnded("r1", "fatal", 5.0, "x" * 300_000, seq=9)))
    assert (store.list()[0].outcome, len(store.list()[0].error or "")) == ("fatal", 300_000)


def test_a_run_goes_on_while_its_writer_lives_and_is_killed_when_it_is_gone(tmp_path: Path) -> None:
    store = RunStore(tmp_path, clock=lambda: 1_700_000_002.0)
    made = store.writer("r1")
    assert store.list()[0].outcome == "running"  # before its first line, too
    made.write(STARTED)
    made.write(Printed((), 2, "x", seq=2, at=1.5))
    made.close()
    with store.path("r1").open("ab") as torn:
        torn.write(b'{"event":"Prin')
    killed = store.list()[0]
    assert (killed.outcome, killed.duration_ms, killed.nodes) == ("killed", 1500.0, 3)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"hello\n",
        lines.line_of(ENDED),
        lines.line_of(STARTED) + b"nonsense\n",
        b'{"event":"RunStarted"}\n',
        os.urandom(5000),
        b"x" * 10_000_000,
    ],
    ids=["empty", "blank", "text", "no start", "bad tail", "fields missing", "noise", "endless line"],
)
def test_a_file_that_is_no_record_is_listed_as_unreadable_and_the_others_as_ever(tmp_path: Path, data: bytes) -> None:
    store = RunStore(tmp_path)
    stored(store, "good")
    (tmp_path / "bad.jsonl").write_bytes(data)
    (tmp_path / ".hidden.jsonl").write_bytes(data)
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "good.jsonl")
    found = {summary.run_id: summary for summary in store.list()}
    assert {run_id: summary.outcome for run_id, summary in found.items()} == {"good": "done", "bad": "unreadable"}
    assert found["bad"].error


@pytest.mark.parametrize("stats", [{"usage": 7}, {"usage": {"model": [1]}}, {"executed": "many"}, {"usage": {"model": {"m": 3}}}])
def test_statistics_of_the_wrong_shape_count_as_none(tmp_path: Path, stats: dict[str, object]) -> None:
    store = RunStore(tmp_path)
    stored(store, "r1", [STARTED, RunEnded("r1", "done", 1.0, None, stats, seq=2)])
    assert (store.list()[0].outcome, store.list()[0].llm_calls) == ("done", 0)


def test_the_list_begins_with_the_run_that_began_last(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    for run_id, at in (("b", 2.0), ("c", 3.0), ("a", 1.0)):
        stored(store, run_id, [begun(at)])
    assert [summary.run_id for summary in store.list()] == ["c", "b", "a"]
    assert store.resolve("last") == "c"


def test_a_run_is_found_by_any_beginning_of_its_id_that_is_its_alone(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    for run_id in ("abc1", "abd", "abc12"):
        stored(store, run_id)
    assert (store.resolve("abd"), store.resolve("abc12"), store.resolve("abc1")) == ("abd", "abc12", "abc1")
    with pytest.raises(InvalidError, match=r"2 runs begin with `abc`; write more of it: `abc1`, `abc12`"):
        store.resolve("abc")
    with pytest.raises(InvalidError, match=r"no run `abx` is recorded; did you mean `abd`\?"):
        store.resolve("abx")


def test_a_folder_that_is_not_there_holds_no_runs(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "nowhere")
    assert (store.list(), store.gc(runs_max=0)) == ((), ())
    with pytest.raises(InvalidError, match="no run is recorded"):
        store.resolve("last")


# ---- cleaning up -------------------------------------------------------------------------------------------------------
def aged(tmp_path: Path, count: int) -> RunStore:
    """`count` records, `r0` the oldest: one hour between them, the newest at Unix time 1,000,000."""
    store = RunStore(tmp_path, clock=lambda: 1_000_000.0)
    for number in range(count):
        path = stored(store, f"r{number}")
        when = 1_000_000 - (count - 1 - number) * 3600
        os.utime(path, (when, when))
    return store


def left(store: RunStore) -> list[str]:
    return sorted(path.stem for path in store.folder.iterdir())


def test_the_oldest_go_beyond_a_number(tmp_path: Path) -> None:
    store = aged(tmp_path, 5)
    assert store.gc(runs_max=3) == ("r1", "r0")
    assert left(store) == ["r2", "r3", "r4"]
    assert store.gc(runs_max=3) == ()
    assert set(store.gc(runs_max=0)) == {"r2", "r3", "r4"}


def test_the_oldest_go_beyond_a_size_but_never_the_newest(tmp_path: Path) -> None:
    store = aged(tmp_path, 5)
    size = store.path("r0").stat().st_size
    assert store.gc(bytes_max=2 * size) == ("r2", "r1", "r0")
    assert store.gc(bytes_max=1) == ("r3",)
    assert left(store) == ["r4"]


def test_the_oldest_go_beyond_an_age(tmp_path: Path) -> None:
    store = aged(tmp_path, 5)
    assert store.gc(older_than_s=2.5 * 3600, dry_run=True) == ("r1", "r0")
    assert len(left(store)) == 5
    assert store.gc(older_than_s=2.5 * 3600) == ("r1", "r0")
    assert left(store) == ["r2", "r3", "r4"]


def test_a_run_that_goes_on_keeps_its_record(tmp_path: Path) -> None:
    store = aged(tmp_path, 3)
    with store.writer("live") as live:
        live.write(STARTED)
        os.utime(store.path("live"), (1, 1))
        assert set(store.gc(runs_max=0)) == {"r0", "r1", "r2"}
        assert left(store) == ["live"]
    assert store.gc(runs_max=0) == ("live",)


WRITES = """
    import sys
    from apxm.observability.events import RunEnded, RunStarted
    from apxm.observability.record import RunStore
    store = RunStore(sys.argv[1])
    for number in range(40):
        run_id = f"{sys.argv[2]}{number}"
        with store.writer(run_id) as made:
            made.write(RunStarted(run_id, "f", 1, float(number), seq=1))
            made.write(RunEnded(run_id, "done", 1.0, seq=2))
        store.gc(runs_max=5)
        store.list()
"""


def test_processes_that_write_list_and_clean_up_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(WRITES), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = [subprocess.Popen([*command, name], env=environment, stderr=subprocess.PIPE, text=True) for name in "abcd"]
    for process in running:
        _, said = process.communicate(timeout=120)
        assert (process.returncode, said) == (0, "")
    store = RunStore(tmp_path)
    assert {summary.outcome for summary in store.list()} == {"done"}
    store.gc(runs_max=5)
    assert len(store.list()) == 5


CLEANS = """
    import select, sys
    from apxm.observability.record import RunStore
    store = RunStore(sys.argv[1])
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        store.gc(runs_max=0)
"""


def test_a_record_that_is_just_made_survives_a_process_that_deletes_all_it_can(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(CLEANS), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as cleaner:
        assert cleaner.stdout is not None
        assert cleaner.stdout.readline() == "ready\n"
        store = RunStore(tmp_path)
        for number in range(1_000):
            with store.writer(f"r{number}"):
                assert store.path(f"r{number}").exists()
        cleaner.communicate("stop\n", timeout=60)
        assert cleaner.returncode == 0
