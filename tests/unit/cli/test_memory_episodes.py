"""`apxm memory episodes`: what happened, by run, agent, operation, outcome and time."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from apxm.cli.exits import Exit
from apxm.cli.main import main
from apxm.cli.memory_episodes import when
from apxm.errors import InvalidError
from apxm.memory.episodic import open_episodes
from apxm.settings import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from apxm.memory.episodic import Episodes

NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def kept(at: float = NOW) -> Iterator[Episodes]:
    settings = load()
    store = open_episodes(replace(settings.memory_config(), episodic="sqlite"), settings.memory_folder, lambda: at)
    assert store is not None
    yield store
    store.close()


def fill() -> None:
    with kept(NOW) as store:
        store.add("run-1", ((), 1, "ask", "ASK", "main", "scout"), "model", "small", 12.0)
        store.add("run-1", ((), 2, "call", "INV", "main", "scout"), "capability", "http_get", 3.0, "denied")
    with kept(NOW + 100) as store:
        store.record("run-2", ((), 3, "note", "UMEM", "main", "writer"), "decision", {"said": "ship \x1b[2J it"})


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["memory", "episodes", *arguments]) == Exit.OK, capsys.readouterr().err
    return capsys.readouterr().out


def targets(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    return [one["target"] for one in json.loads(said(capsys, *arguments, "--json"))]


def test_the_newest_stand_first(capsys: pytest.CaptureFixture[str]) -> None:
    fill()
    head, *rows = said(capsys).splitlines()
    assert head.split() == ["at", "run", "agent", "node", "op", "kind", "target", "outcome", "time"]
    assert [row.split()[7] for row in rows] == ["decision", "http_get", "small"]
    assert rows[1].split()[8:] == ["failed:", "denied", "3", "ms"]
    assert "\x1b" not in said(capsys)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["--run", "run-1"], ["http_get", "small"]),
        (["--agent", "writer"], ["decision"]),
        (["--op", "ASK"], ["small"]),
        (["--kind", "record"], ["decision"]),
        (["--target", "http_get"], ["http_get"]),
        (["--outcome", "failed"], ["http_get"]),
        (["--text", "SHIP"], ["decision"]),
        (["--since", "2027-01-15T08:01:00+00:00"], ["decision"]),
        (["--until", "2027-01-15T08:01:00+00:00"], ["http_get", "small"]),
        (["--agent", "scout", "--limit", "1"], ["http_get"]),
        (["--run", "run-9"], []),
    ],
)
def test_what_is_asked_for_is_what_comes(capsys: pytest.CaptureFixture[str], asked: list[str], found: list[str]) -> None:
    fill()
    assert targets(capsys, *asked) == found


def test_what_is_asked_for_by_its_age_is_what_comes(capsys: pytest.CaptureFixture[str]) -> None:
    for hours, target in ((3, "old"), (1, "new")):
        with kept(time.time() - hours * 3_600) as store:
            store.add("run-1", ((), 1, "ask", "ASK", "main", "scout"), "model", target, 12.0)
    assert targets(capsys, "--since", "2h") == ["new"]
    assert targets(capsys, "--until", "2h") == ["old"]


def test_a_long_list_is_cut_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    fill()
    for limit, err in (("2", "there are more; `--limit N` shows them\n"), ("3", "")):
        assert main(["memory", "episodes", "--limit", limit]) == Exit.OK
        assert capsys.readouterr().err == err


def test_where_there_is_none_it_says_so(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert main(["memory", "episodes"]) == Exit.OK
    assert 'no episode is kept in the folder; `episodic = "sqlite"`' in capsys.readouterr().err
    assert list((home / "apxm" / "memory").iterdir()) == []  # who only looks leaves nothing
    fill()
    assert main(["memory", "episodes", "--agent", "nobody"]) == Exit.OK
    assert capsys.readouterr() == ("", "no episode is like that\n")


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("90s", NOW - 90),
        ("1.5m", NOW - 90),
        ("2h", NOW - 7_200),
        (" 3d ", NOW - 259_200),
        ("1w", NOW - 604_800),
        ("2026-01-31T12:30:00Z", 1769862600.0),
        ("2026-01-31T12:30+02:00", 1769855400.0),
    ],
)
def test_a_time_is_a_moment_or_how_long_ago(text: str, at: float) -> None:
    assert when("--since", text, NOW) == at


def test_a_time_without_a_zone_is_local() -> None:
    assert when("--since", "2026-01-31 12:30", NOW) == datetime(2026, 1, 31, 12, 30).timestamp()
    assert when("--since", "2026-01-31", NOW) == datetime(2026, 1, 31).timestamp()
    assert when("--since", None, NOW) is None


@pytest.mark.parametrize("text", ["", "2", "-2h", "2 h", "2y", "tomorrow", "9999999999h", "2026-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match=r"--since is .* no point in time"):
        when("--since", text, NOW)


def test_a_refused_option_is_said(capsys: pytest.CaptureFixture[str]) -> Any:
    for arguments in (["--since", "soon"], ["--limit", "0"], ["--kind", "dream"]):
        assert main(["memory", "episodes", *arguments]) == Exit.INVALID
        assert arguments[0] in capsys.readouterr().err
