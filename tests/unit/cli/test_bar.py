"""How far long work is: drawn on a terminal, said in a few lines elsewhere, and kept quiet where it is soon over."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from apxm.cli.bar import QUIET_S, STEPS, Bar

if TYPE_CHECKING:
    import pytest


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_long_work_is_said_a_tenth_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Bar(clock=clock) as bar:
        clock.now += QUIET_S
        for done in range(1, 1_001):
            bar("indexing", done, 1_000)
        bar("comparing", 500, 1_000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == STEPS + 2
    assert (lines[0], lines[1], lines[-2]) == ("indexing: 1 of 1,000", "indexing: 100 of 1,000", "indexing: 1,000 of 1,000")
    assert lines[-1] == "comparing: 500 of 1,000"


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Bar(clock=clock) as bar:
        clock.now += QUIET_S * 0.9
        bar("indexing", 5, 10)
    assert capsys.readouterr() == ("", "")


def test_work_without_parts_is_no_matter(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Bar(clock=clock) as bar:
        clock.now += QUIET_S
        bar("indexing", 0, 0)
    assert capsys.readouterr().err == "indexing: 0 of 0\n"


def test_a_terminal_has_a_bar_that_goes_when_it_is_over(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with monkeypatch.context() as terminal:
        terminal.setattr(sys.stderr, "isatty", lambda: True)
        with Bar() as bar:
            bar("in[red]dexing \x1b]0;x\x07", 3, 7)
            bar("in[red]dexing \x1b]0;x\x07", 7, 7)
    out, err = capsys.readouterr()
    assert out == ""
    assert "in[red]dexing" in err
    assert "7/7" in err
    assert "\x1b]0" not in err
    assert err.rstrip("\n").endswith("\x1b[2K")  # the line of the bar is erased


def test_who_does_not_want_it_sees_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Bar(shown=False, clock=lambda: 0.0) as bar:
        bar("exported", 1, 2)
    assert capsys.readouterr() == ("", "")
