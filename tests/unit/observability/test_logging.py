"""The log: which events become which lines, safe for a terminal, and nobody else's configuration is touched or used."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

import apxm
from apxm.errors import InvalidError
from apxm.observability.events import (
    Called,
    Event,
    Gap,
    NodeEnded,
    NodeRetried,
    NodeStarted,
    Paused,
    Printed,
    RunEnded,
    RunStarted,
)
from apxm.observability.logging import RUNS_MAX, EventLogger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).resolve().parents[3]
STARTED = RunStarted("r1", "default.main", 3, 1_700_000_000.0, {"file": "x.json"}, seq=1, at=0.0)
EVENTS: list[Event] = [
    STARTED,
    NodeStarted((), 4, "read", "INV", seq=2, at=0.1),
    Called((), 4, "capability", "search", 3.04, True, {"cost_usd": 0.5}, content={"arguments": "SECRET", "result": "s"}, seq=3),
    Called((), 4, "model", "small", 3.0, False, None, "busy", seq=4),
    NodeRetried(((4, 0), (7, "case")), 5, 1, 0.25, "busy", seq=5, at=1.5),
    Printed((), 6, "hello", seq=6),
    NodeEnded((), 4, "read", "INV", "done", 2.0, seq=7),
    NodeEnded(((4, 0),), 5, "ask", "ASK", "failed", 1.5, "broke", seq=8),
    Gap(9, 11, seq=11),
    RunEnded("r1", "fatal", 12.34, "broke", {"executed": 3, "failed": 1}, seq=12, at=2.0),
]


def lines(events: Iterable[Event], level: str = "debug", format: str = "json", **how: Any) -> list[str]:
    said: list[str] = []
    log = EventLogger(level, format, write=said.append, **how)  # type: ignore[arg-type]
    for event in events:
        log("r1", event)
    return said


@pytest.fixture
def host() -> Iterator[list[dict[str, Any]]]:
    """A program around the library that has configured structlog its own way; what reaches it is kept."""
    caught: list[dict[str, Any]] = []

    def keep(_log: object, _level: str, said: dict[str, Any]) -> dict[str, Any]:
        caught.append(said)
        raise structlog.DropEvent

    structlog.configure(processors=[keep], wrapper_class=structlog.make_filtering_bound_logger(50))
    yield caught
    structlog.reset_defaults()


def test_every_line_has_the_time_the_level_and_the_run_and_its_flow() -> None:
    said = [json.loads(line) for line in lines(EVENTS)]
    assert [(line["level"], line["event"]) for line in said] == [
        ("info", "run began"),
        ("debug", "called"),
        ("warning", "call failed"),
        ("warning", "node is tried again"),
        ("info", "printed"),
        ("error", "node failed"),
        ("warning", "events were lost"),
        ("error", "run ended"),
    ]
    assert {(line["run_id"], line["flow"]) for line in said} == {("r1", "default.main")}
    assert [said[0]["timestamp"], said[3]["timestamp"]] == ["2023-11-14T22:13:20.000Z", "2023-11-14T22:13:21.500Z"]
    assert list(said[0])[:3] == ["timestamp", "level", "event"]


def test_a_line_says_where_in_the_program_and_why() -> None:
    said = {line["event"]: line for line in map(json.loads, lines(EVENTS))}
    retry = said["node is tried again"]
    assert (retry["node"], retry["frame"], retry["attempt"], retry["error"]) == (5, "4[0]/7[case]", 1, "busy")
    assert (said["call failed"]["node"], said["call failed"]["target"]) == (4, "small")
    assert (said["called"]["duration_ms"], said["called"]["cost_usd"]) == (3.0, 0.5)
    assert (said["run ended"]["outcome"], said["run ended"]["executed"], said["run ended"]["error"]) == ("fatal", 3, "broke")
    assert said["run began"]["metadata"] == {"file": "x.json"}


@pytest.mark.parametrize(("level", "count"), [("debug", 8), ("info", 7), ("warning", 5), ("error", 2)])
def test_a_level_leaves_out_what_is_less_severe(level: str, count: int) -> None:
    assert len(lines(EVENTS, level)) == count


@pytest.mark.parametrize(("outcome", "level"), [("done", "info"), ("cancelled", "warning"), ("deadline", "error")])
def test_how_a_run_ended_decides_how_severe_that_is(outcome: str, level: str) -> None:
    assert json.loads(lines([RunEnded("r1", outcome, 1.0)])[0])["level"] == level


def test_what_was_said_to_models_and_capabilities_is_never_logged() -> None:
    assert "SECRET" not in "".join(lines(EVENTS) + lines(EVENTS, format="console"))


def test_no_text_of_a_program_reaches_a_terminal_raw_or_begins_a_line() -> None:
    hostile = "x\x1b[2J\r\n00:00:00 [error] forged \x9b31m\u2028\x07"
    events = [
        RunStarted("r1", hostile, 1, 1.0, {"file": hostile}),
        Printed((), 1, hostile),
        NodeEnded((), 1, hostile, hostile, "failed", 1.0, hostile),
        NodeEnded((), 1, "\x1b[2J", "\x1b[2J", "failed", 1.0, "\x1b[2J"),
    ]
    for format in ("console", "json"):
        for line in lines(events, format=format, colors=False):
            assert line.isprintable()


def test_a_long_text_is_cut() -> None:
    (line,) = lines([Printed((), 1, "x" * 1_000_000)])
    assert len(line) < 2_000
    assert json.loads(line)["text"].endswith("… (1,000,000 characters)")


def test_colours_are_for_who_asks_and_for_a_terminal() -> None:
    assert "\x1b[" in lines([STARTED], format="console", colors=True)[0]
    assert "\x1b[" not in lines([STARTED], format="console")[0]


def test_without_a_place_to_write_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    EventLogger()("r1", STARTED)
    out, err = capsys.readouterr()
    assert (out, "\x1b" in err, err.count("\n")) == ("", False, 1)
    assert "run_id=r1 flow=default.main" in err


def test_a_run_that_began_unseen_is_logged_too() -> None:
    said = json.loads(lines(EVENTS[-1:])[0])
    assert (said["run_id"], said["event"], "flow" in said) == ("r1", "run ended", False)


def test_runs_whose_end_was_lost_are_forgotten_in_the_end() -> None:
    said: list[str] = []
    log = EventLogger("error", "json", write=said.append)
    for number in range(RUNS_MAX + 1):
        log(f"r{number}", STARTED)
    for run_id in ("r0", "r1"):
        log(run_id, RunEnded(run_id, "fatal", 1.0))
    assert ["flow" in json.loads(line) for line in said] == [False, True]


@pytest.mark.parametrize(("level", "format"), [("loud", "json"), ("info", "xml")])
def test_a_level_or_format_that_does_not_exist_is_refused(level: str, format: str) -> None:
    with pytest.raises(InvalidError, match=f"there is no log .*'{level if format == 'json' else format}'"):
        EventLogger(level, format)  # type: ignore[arg-type]


def test_the_configuration_of_the_host_is_neither_used_nor_changed(host: list[dict[str, Any]]) -> None:
    before = structlog.get_config()
    root = list(logging.getLogger().handlers)
    structlog.contextvars.bind_contextvars(secret="of the host")
    try:
        assert len(lines(EVENTS)) == 8
        assert "of the host" not in "".join(lines(EVENTS))
    finally:
        structlog.contextvars.clear_contextvars()
    assert host == []
    assert structlog.get_config() == before
    assert logging.getLogger().handlers == root


def test_as_a_subscriber_it_logs_the_runs_of_a_runtime() -> None:
    said: list[str] = []
    with apxm.Runtime() as runtime, runtime.subscribe(EventLogger("info", "json", write=said.append), nodes=False):
        runtime.execute(apxm.compile({"name": "f", "nodes": [{"id": 1, "name": "a", "op": "CONST_STR",
            "attributes": {"value": "x"}}], "edges": []}))  # fmt: skip
    assert [json.loads(line)["event"] for line in said] == ["run began", "run ended"]


def test_structlog_is_not_loaded_before_the_first_logger_is_made() -> None:
    probe = """
        import sys
        import apxm.observability.logging as mine
        assert "structlog" not in sys.modules and "rich" not in sys.modules
        mine.EventLogger()
        assert "structlog" in sys.modules
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(probe)], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, timeout=60
    )


def test_a_question_to_a_person_is_a_warning_with_its_id():
    (said,) = lines([Paused(((4, 0),), 6, "pay-42", "May I?", 1_700_000_000.0, seq=1)], level="warning")
    told = json.loads(said)
    assert (told["event"], told["level"], told["node"], told["frame"]) == ("waits for a person", "warning", 6, "4[0]")
    assert (told["checkpoint"], told["message"]) == ("pay-42", "May I?")
