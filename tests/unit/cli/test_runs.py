"""`apxm runs`: what is listed, shown and deleted, from records that the tests write themselves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from apxm.cli.exits import Exit
from apxm.cli.main import main
from apxm.cli.runs import LIMIT
from apxm.observability.events import Called, Event, FrameOpened, Gap, NodeEnded, NodeRetried, NodeStarted, RunEnded, RunStarted
from apxm.observability.record import RunStore

if TYPE_CHECKING:
    from pathlib import Path

USAGE = {"model": {"small": {"llm_calls": 2, "input_tokens": 1_200, "output_tokens": 34, "cost_usd": 0.125}}}
STATS = {"executed": 40, "parallelism_max": 8, "parallelism_avg": 4.5, "usage": USAGE}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    """The store that the commands find."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return RunStore(tmp_path / "apxm" / "runs")


def started(at: float = 1_700_000_000.0, flow: str = "default.main", file: str = "/here/brief.py") -> RunStarted:
    return RunStarted("", flow, 3, at, {"file": file, "artifact": "ab" * 32}, seq=1)


def recorded(store: RunStore, run_id: str, *events: Event) -> None:
    with store.writer(run_id) as made:
        for event in events:
            made.write(event)


def failed(store: RunStore) -> None:
    """A run in which the node `ask`, inside `loop`, was retried and failed in its second frame."""
    frame = ((2, 1),)
    recorded(
        store,
        "bad",
        started(),
        NodeStarted((), 2, "loop", "MAP", seq=2, at=0.1),
        FrameOpened(frame, "body", 1, 2, seq=3, at=0.1),
        NodeStarted(frame, 7, "ask", "ASK", seq=4, at=0.2),
        NodeRetried(frame, 7, 1, 0.5, "busy", seq=5, at=0.3),
        Called(frame, 7, "model", "small", 5.0, False, {"llm_calls": 2}, "broke", seq=6, at=1.1),
        NodeEnded(frame, 7, "ask", "ASK", "failed", 1000.0, "the model broke", seq=7, at=1.2),
        NodeEnded((), 2, "loop", "MAP", "failed", 1200.0, "the model broke", seq=8, at=1.3),
        RunEnded("", "fatal", 1300.0, "the model broke", STATS, seq=9, at=1.3),
    )


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["runs", *arguments]) == Exit.OK
    return capsys.readouterr().out


def data(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(said(capsys, *arguments, "--json"))


def test_the_list_begins_with_the_newest_and_says_how_each_ended(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(store, "a1", started(1.0), RunEnded("", "done", 1500.0, None, STATS, seq=2))
    recorded(store, "b2", started(2.0))
    (store.folder / "c3.jsonl").write_text("nonsense\n")
    head, *rows = [line.split() for line in said(capsys, "ls").splitlines()]
    assert head == ["run", "began", "flow", "file", "outcome", "time", "nodes", "calls", "tokens", "cost"]
    assert [(row[0], row[5]) for row in rows] == [("c3", "unreadable"), ("b2", "killed"), ("a1", "done")]
    assert rows[2][3:] == ["default.main", "brief.py", "done", "1.50", "s", "40", "2", "1,234", "$0.1250"]


def test_columns_stand_below_each_other(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    for number, flow in enumerate(("f", "a_much_longer.name_of_a_flow")):
        recorded(store, f"r{number}", started(flow=flow), RunEnded("", "done", 1.0, None, STATS, seq=2))
    assert len({line.index("brief.py") for line in said(capsys, "ls").splitlines()[1:]}) == 1


def test_the_list_is_cut_and_says_so(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(LIMIT + 3):
        recorded(store, f"r{number:02}", started(float(number)))
    assert main(["runs", "ls"]) == Exit.OK
    out, err = capsys.readouterr()
    assert (len(out.splitlines()), err) == (LIMIT + 1, "3 more; `--limit 23` shows them\n")
    assert [run["run_id"] for run in data(capsys, "ls", "--limit", "2")] == ["r22", "r21"]


def test_the_list_may_be_of_one_outcome(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(store, "good", started(), RunEnded("", "done", 1.0, seq=2))
    recorded(store, "gone", started())
    assert [run["run_id"] for run in data(capsys, "ls", "--outcome", "killed")] == ["gone"]
    assert main(["runs", "ls", "--outcome", "nice"]) == Exit.INVALID


def test_without_any_record_the_list_says_so_on_standard_error(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "ls"]) == Exit.OK
    assert capsys.readouterr() == ("", "no run is recorded\n")
    assert data(capsys, "ls") == []


def test_a_run_is_shown_with_its_end_its_cost_its_slowest_places_and_the_failing_node(
    store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    failed(store)
    out = said(capsys, "show", "b")
    assert out.splitlines()[0] == "run bad: fatal"
    words = [" ".join(line.split()) for line in out.splitlines()]
    for expected in (
        "flow default.main",
        "file /here/brief.py",
        "took 1.30 s",
        "nodes 40 run",
        "parallelism 8 (average 4.5)",
        "model small: 2 calls, 1,200 tokens in, 34 out, $0.1250",
        "failed: node `ask` (ASK) in `loop`",
        "the model broke",
        "loop MAP 1 - 1.20 s 1.20 s",
        "loop / ask ASK 1 1 1.00 s 1.00 s",
    ):
        assert expected in words
    assert words.index("failed: node `ask` (ASK) in `loop`") < words.index("failed: node `loop` (MAP)")


def test_what_is_shown_is_there_as_data_too(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    failed(store)
    found = data(capsys, "show", "last")
    assert (found["run_id"], found["outcome"], found["duration_ms"]) == ("bad", "fatal", 1300.0)
    assert found["parallelism"] == {"max": 8, "avg": 4.5}
    assert found["usage"] == USAGE["model"]
    assert [place["name"] for place in found["places"]] == ["loop", "ask"]
    assert found["failures"][0] | {"total_ms": 0, "max_ms": 0} == {
        "place": [2, 7], "name": "ask", "op": "ASK", "count": {"failed": 1}, "retries": 1, "fallbacks": 0,
        "error": "the model broke", "total_ms": 0, "max_ms": 0,
    }  # fmt: skip
    assert "events" not in found


def test_its_events_are_shown_one_a_line_or_as_they_were_written(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    failed(store)
    lines = said(capsys, "show", "bad", "--events").splitlines()
    assert [line.split()[2] for line in lines][:3] == ["RunStarted", "NodeStarted", "FrameOpened"]
    assert "frame=2[1] node=7 name=ask op=ASK outcome=failed" in lines[6]
    written = [json.loads(line) for line in store.path("bad").read_text().splitlines()]
    assert data(capsys, "show", "bad", "--events")["events"] == written


def test_a_run_that_was_killed_is_shown_up_to_where_its_record_goes(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(store, "gone", started(), NodeStarted((), 2, "loop", "MAP", seq=2, at=0.5), Gap(3, 12, seq=12, at=2.0))
    with store.path("gone").open("a") as file:
        file.write('{"event":"NodeEn')
    out = said(capsys, "show", "gone")
    assert out.splitlines()[0] == "run gone: killed"
    assert "10 events not recorded" in out
    assert "loop" in out


def test_what_a_program_says_cannot_move_the_cursor(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    bad = "x\x1b[2J\n\x9b31m"
    recorded(
        store,
        "r1",
        started(flow=bad, file=bad),
        NodeEnded((), 1, bad, bad, "failed", 1.0, bad, seq=2),
        RunEnded("", bad, 1.0, bad, {"usage": {"model": {bad: {"llm_calls": 1}}}}, seq=3),
    )
    for arguments in (["ls"], ["show", "r1"], ["show", "r1", "--events"]):
        assert all(line.isprintable() for line in said(capsys, *arguments).split("\n"))


def test_a_damaged_record_is_shown_as_an_error_with_its_line(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    failed(store)
    lines = store.path("bad").read_text().splitlines(keepends=True)
    store.path("bad").write_text("".join([*lines[:4], "}{\n", *lines[4:]]))
    assert main(["runs", "show", "bad"]) == Exit.INVALID
    assert "bad.jsonl, line 5: it is no event" in capsys.readouterr().err


@pytest.mark.parametrize("run_id", ["nowhere", "../../etc/passwd", ""])
def test_a_run_that_is_not_recorded_is_an_error(store: RunStore, capsys: pytest.CaptureFixture[str], run_id: str) -> None:
    failed(store)
    assert main(["runs", "show", run_id]) == Exit.INVALID
    assert "is recorded; `apxm runs ls` shows those that are" in capsys.readouterr().err.replace("\n  try: ", "; ")


def test_old_records_are_deleted_beyond_a_number(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(5):
        recorded(store, f"r{number}", started(float(number)))
    assert said(capsys, "gc", "--keep", "3", "--dry-run") == "would delete 2 runs\n"
    assert len(store.list()) == 5
    assert len(data(capsys, "gc", "--keep", "3")["deleted"]) == 2
    assert len(store.list()) == 3
    assert said(capsys, "gc", "--older-than", "1") == "deleted 0 runs\n"
    assert said(capsys, "gc", "--older-than", "0") == "deleted 3 runs\n"


def test_without_a_limit_those_of_the_settings_hold(
    store: RunStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        recorded(store, f"r{number}", started())
    assert said(capsys, "gc") == "deleted 0 runs\n"
    monkeypatch.setenv("APXM_RECORDS_RUNS_MAX", "4")
    assert said(capsys, "gc") == "deleted 1 run\n"


@pytest.mark.parametrize("option", ["--keep", "--max-bytes", "--older-than"])
def test_a_limit_below_nothing_is_refused(store: RunStore, capsys: pytest.CaptureFixture[str], option: str) -> None:
    recorded(store, "r1", started())
    assert main(["runs", "gc", f"{option}=-1"]) == Exit.INVALID
    assert f"{option} is -1" in capsys.readouterr().err
    assert len(store.list()) == 1


def test_a_firing_that_used_its_fallback_is_told_with_its_error(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    frame = ((2, "billing"),)
    recorded(
        store,
        "fell",
        started(),
        NodeStarted((), 2, "route", "SWITCH", seq=2, at=0.1),
        NodeStarted(frame, 7, "reply", "ASK", seq=3, at=0.2),
        NodeEnded(frame, 7, "reply", "ASK", "done", 1000.0, "the model broke", seq=4, at=1.2),
        NodeEnded((), 2, "route", "SWITCH", "done", 1100.0, seq=5, at=1.2),
        RunEnded("", "done", 1300.0, None, STATS, seq=6, at=1.3),
    )
    shown = said(capsys, "show", "fell")
    assert "fallback used: node `reply` (ASK) in `route` / `billing`\n  the model broke" in shown
    assert "failed" not in shown
    (place,) = data(capsys, "show", "fell")["fallbacks"]
    assert (place["place"], place["count"], place["fallbacks"], place["max_ms"]) == ([2, "billing", 7], {"done": 1}, 1, 1000)


def test_a_misspelt_last_is_recognised(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    failed(store)
    assert main(["runs", "show", "lst"]) == Exit.INVALID
    assert "did you mean `last`?" in capsys.readouterr().err
