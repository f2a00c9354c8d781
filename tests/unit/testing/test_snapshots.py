"""Snapshots: the text of a run is that of its program and its outcomes, whatever the schedule was."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from apxm import ApxmError, ConfigError, Graph, InvalidError, RunOptions, SchedulerConfig, compile
from apxm.graph.contract import from_json
from apxm.observability.events import (
    Called,
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
from apxm.testing import snapshot
from apxm.testing.check import on_loop
from apxm.testing.programs import generate
from apxm.testing.simulator import Simulation, Simulator
from apxm.testing.snapshots import SnapshotFiles, SnapshotMismatch, folder_of, name_of

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = [
    RunStarted("r1", "brief.brief", 3, 1e9),
    NodeStarted((), 1, "listing", "INV", 0),
    Called((), 1, "capability", "list", 3.0, True),
    NodeEnded((), 1, "listing", "INV", "done", 3.1),
    NodeStarted((), 2, "notes", "MAP", 1),
    FrameOpened(((2, 0),), "brief.body", 2, 1),
    NodeStarted(((2, 0),), 1, "summary", "ASK", 2),
    Called(((2, 0),), 1, "model", "gpt", 9.0, False, error="busy"),
    NodeRetried(((2, 0),), 1, 1, 0.25, "busy"),
    Called(((2, 0),), 1, "model", "gpt", 9.0, True),
    NodeEnded(((2, 0),), 1, "summary", "ASK", "done", 20.0),
    Printed(((2, 0),), 2, "two\nlines\x07"),
    NodeEnded(((2, 0),), 2, "show", "PRINT", "done"),
    FrameClosed(((2, 0),), "done"),
    NodeEnded(((2, 10),), 1, "summary", "ASK", "failed", 1.0, "no"),
    NodeEnded(((2, 9),), 1, "summary", "ASK", "skipped"),
    NodeEnded(((2, "reduce"),), 4, "all", "INV", "done"),
    NodeEnded((), 2, "notes", "MAP", "done", 40.0, "no", code="fatal"),
    NodeStarted((), 12, "late", "INV", 1),
    NodeEnded((), 3, "end", "RETURN", "done"),
    RunEnded("r1", "done", 50.0),
]
TEXT = """\
brief.brief: done
1 listing INV done; capability list
2 notes MAP done by fallback
2[0]/1 summary ASK done; 1 retry; model gpt x2, 1 failed
2[0]/2 show PRINT done
  > two
  > lines\\x07
2[9]/1 summary ASK skipped
2[10]/1 summary ASK failed
2[reduce]/4 all INV done
3 end RETURN done
12 late INV unfinished
"""


# ---- the text --------------------------------------------------------------------------------------------------------
def test_there_is_one_line_for_each_firing_in_the_order_of_frame_and_node() -> None:
    assert snapshot(EVENTS) == TEXT


def test_the_order_of_independent_events_does_not_matter(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(50):
        keyed: dict[Any, list[Any]] = {}
        for event in EVENTS[1:-1]:
            keyed.setdefault((getattr(event, "path", None), getattr(event, "node", None)), []).append(event)
        rows = list(keyed.values())
        mixed = [EVENTS[0]]
        while rows:
            row = draw.choice(rows)
            mixed.append(row.pop(0))
            rows = [one for one in rows if one]
        assert snapshot([*mixed, EVENTS[-1]]) == TEXT, seed


def test_events_that_were_lost_make_no_snapshot() -> None:
    with pytest.raises(InvalidError, match="3 to 7 of this run are lost"):
        snapshot([*EVENTS[:2], Gap(3, 7)])


def test_what_has_no_events_is_refused() -> None:
    with pytest.raises(InvalidError, match="a str has no events"):
        snapshot("text")
    with pytest.raises(InvalidError, match="a ValueError has no events"):
        snapshot(ValueError())


def program() -> Graph:
    graph = Graph("shown")
    with graph.map(graph.const_str([1, 2, 3], name="list"), name="all") as item:
        item.graph.yield_(item.graph.print(item, name="say"))
    return graph


def test_a_run_without_a_trace_says_how_to_keep_one(apxm_runtime: Any) -> None:
    with pytest.raises(ConfigError, match="trace=True"):
        snapshot(apxm_runtime().execute(program()))


def test_a_result_its_events_and_a_handle_have_the_same_text(apxm_runtime: Any) -> None:
    runtime = apxm_runtime()
    result = runtime.execute(program(), run=RunOptions(trace=True))
    handle = runtime.start(program())
    handle.result(10)
    assert snapshot(result) == snapshot(result.events()) == snapshot(handle)
    assert "2[1]/3 say PRINT done\n  > 2\n" in snapshot(result)


def test_an_error_has_the_text_of_the_run_that_it_ended(apxm_runtime: Any) -> None:
    graph = Graph("failing")
    graph.err(message="no", name="stop")
    with pytest.raises(ApxmError) as caught:
        apxm_runtime().execute(graph, run=RunOptions(trace=True))
    assert snapshot(caught.value) == "default.failing: fatal\n1 stop ERR failed\n"


# ---- any schedule ----------------------------------------------------------------------------------------------------
class _Traced(Simulation):
    """A simulated run that keeps its events."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.trace: list[Any] = []
        self.watch(self.trace.append)


def _choosy(graph: Any) -> bool:
    """Whether a program leaves something to the schedule: who wins, or what a RETURN finds undone."""
    text = json.dumps(graph)
    return any(f'"{word}"' in text for word in ("any", "race", "first_success", "RETURN"))


def test_random_programs_have_one_text_in_every_schedule_and_engine(seed: int) -> None:
    compared = 0
    with on_loop(SchedulerConfig(), seed) as bench:
        for number in range(seed, seed + 120):
            made = generate(number)
            if made.size > 60 or _choosy(made.graph):
                continue
            dag = compile(from_json(made.graph), level=0).into_dag()
            options = RunOptions(on_failure=made.on_failure, trace=True)
            bench.forget()
            try:
                result = bench.runtime.execute(dag, made.parameters, run=options)
            except ApxmError:
                continue  # what it had not begun is up to the schedule
            if result.stats.cancelled:
                continue  # and so is what a failure in a region, or a RETURN, caught before it had begun
            kept = snapshot(result)
            compared += 1
            simulator = Simulator(bench.runtime, dag, made.parameters, options)
            for schedule in range(3):
                bench.forget()
                run = simulator.run(schedule, kind=_Traced).run
                assert isinstance(run, _Traced)
                assert snapshot(run.trace).split("\n")[1:] == kept.split("\n")[1:], (seed, number, schedule)
    assert compared > 20, seed


# ---- the files -------------------------------------------------------------------------------------------------------
def test_a_missing_snapshot_is_shown_and_told_how_to_keep(tmp_path: Path) -> None:
    with pytest.raises(SnapshotMismatch, match="there is no snapshot") as caught:
        SnapshotFiles().compare(tmp_path / "a.trace", TEXT, how=": do this")
    assert str(caught.value).endswith(f"keep it: do this\n\n{TEXT}")
    assert not (tmp_path / "a.trace").exists()


def test_an_update_writes_what_changed_and_nothing_else(tmp_path: Path) -> None:
    files, file = SnapshotFiles(update=True), tmp_path / "deep" / "a.trace"
    files.compare(file, TEXT)
    files.compare(file, TEXT)
    assert files.written == [file]
    assert [one.name for one in file.parent.iterdir()] == ["a.trace"]
    SnapshotFiles().compare(file, TEXT)


def test_a_difference_shows_the_lines_that_differ(tmp_path: Path) -> None:
    (tmp_path / "a.trace").write_text(TEXT)
    with pytest.raises(SnapshotMismatch) as caught:
        SnapshotFiles().compare(tmp_path / "a.trace", TEXT.replace("listing INV done", "listing INV failed"))
    assert "-1 listing INV done; capability list\n+1 listing INV failed; capability list\n" in str(caught.value)


def test_obsolete_are_snapshots_of_tests_that_are_gone_or_no_longer_take_them(tmp_path: Path) -> None:
    test_file = tmp_path / "test_a.py"
    test_file.touch()
    files = SnapshotFiles(update=True)
    folder = folder_of(test_file)
    names = ("test_one", "test_one.2", "test_failed", "test_unrun", "test_gone")
    for name in names:
        files.compare(folder / f"{name}.trace", TEXT)
    files.compare(tmp_path / "__snapshots__" / "test_removed" / "test_x.trace", TEXT)
    files.used = {folder / "test_one.trace"}
    tests = {test_file: {"test_one": True, "test_failed": False, "test_unrun": False}}
    assert [file.stem for file in files.obsolete(tests, whole=True)] == ["test_gone", "test_one.2", "test_x"]
    assert [file.stem for file in files.obsolete(tests, whole=False)] == ["test_one.2", "test_x"]


def test_names_of_tests_are_names_of_files() -> None:
    assert name_of("test_a[x-1]") == "test_a[x-1]"
    assert name_of("TestA::test_b") == "TestA.test_b"
    odd = [name_of("test_a[x/y]"), name_of("test_a[x:y]"), name_of("test_a[" + "x" * 300 + "]")]
    assert len(set(odd)) == 3
    assert all("/" not in name and len(name) < 140 for name in odd)
