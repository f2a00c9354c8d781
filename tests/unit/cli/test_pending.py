"""`apxm pending` and `apxm answer`: what waits, and what a person says to it."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from apxm.cli.exits import Exit
from apxm.cli.main import main
from apxm.cli.pending import meant
from apxm.cli.state import opened

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def ask(id: str, message: str = "May I?", **how: Any) -> None:
    with opened(None) as system:
        system.checkpoints.open(id, message, **how)


def stored(id: str) -> Any:
    with opened(None) as system:
        found = system.checkpoints.get(id)
        return None if found is None else (found.state, found.answer)


def test_what_waits_is_listed_with_all_that_an_answer_needs(capsys: pytest.CaptureFixture[str]) -> None:
    ask("pay-42", "Pay\n\x1b[31m 42?", schema={"enum": ["yes", "no"]}, data={"sum": 42}, run_id="r1")
    ask("count", "How many?", schema={"type": "integer"}, timeout_ms=3_600_000)
    ask("any")
    assert main(["pending"]) == Exit.OK
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["id", "age", "ends", "in", "answer", "message"]
    assert [row.split()[0] for row in rows] == ["pay-42", "count", "any"]
    assert '"yes" | "no"' in rows[0]
    assert rows[0].endswith("Pay \\x1b[31m 42?")
    assert "60 m 00 s" in rows[1] or "1 h 00 m" in rows[1]
    assert "integer" in rows[1]
    assert "anything" in rows[2]
    assert main(["pending", "--json"]) == Exit.OK
    found = json.loads(capsys.readouterr().out)
    assert [one["id"] for one in found] == ["pay-42", "count", "any"]
    assert (found[0]["data"], found[0]["answer_schema"], found[0]["run_id"]) == ({"sum": 42}, {"enum": ["yes", "no"]}, "r1")


def test_when_nothing_waits_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pending"]) == Exit.OK
    assert capsys.readouterr() == ("", "nothing waits for an answer\n")
    assert main(["pending", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("yes", None, "yes"),
        ("true", None, True),
        ('{"a": [1]}', None, {"a": [1]}),
        ("42", {"type": "integer"}, 42),
        ("42", {"type": "string"}, "42"),
        ("null", {"type": "string"}, "null"),
        ("yes", {"enum": ["yes"]}, "yes"),
        ('"yes"', {"enum": ["yes"]}, "yes"),
        ("42", {"type": "boolean"}, 42),
        ("{oops", {"type": "object"}, "{oops"),
    ],
)
def test_what_was_typed_is_json_or_a_text_whichever_fits(text: str, schema: dict[str, Any] | None, value: Any) -> None:
    assert meant(text, schema) == value


def test_an_answer_is_stored_and_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ask("a")
    ask("b")
    assert main(["answer", "a", "go on"]) == Exit.OK
    assert capsys.readouterr().out == "answered `a`: go on\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"n":\n1}\n'))
    assert main(["answer", "b", "-", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["answer"] == {"n": 1}
    assert (stored("a"), stored("b")) == (("answered", "go on"), ("answered", {"n": 1}))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["missing", "1"], "there is no checkpoint `missing`"),
        (["asked"], "`apxm answer` needs a value"),
        (["asked", "maybe"], '"maybe" is not one of'),
        (["done", "1"], "was answered already"),
        (["late", "1"], "its deadline passed"),
        (["gone", "1"], "the run that asked was cancelled"),
        (["missing", "--forget"], "there is no checkpoint `missing`"),
    ],
)
def test_what_cannot_be_answered_says_why(capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str) -> None:
    ask("asked", schema={"enum": ["yes", "no"]})
    with opened(None) as system:
        for id in ("done", "late", "gone"):
            system.checkpoints.open(id, "?", run_id="r")
        system.checkpoints.answer("done", 0)
        system.checkpoints.expire("late")
        system.checkpoints.withdraw("gone", "r")
    assert main(["answer", *arguments]) == Exit.INVALID
    assert expected in capsys.readouterr().err
    assert (stored("asked"), stored("done")) == (("open", None), ("answered", 0))


def test_an_answer_can_be_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    ask("a")
    main(["answer", "a", "1"])
    capsys.readouterr()
    assert main(["answer", "a", "--forget"]) == Exit.OK
    assert capsys.readouterr().out == "forgot `a` and its answer\n"
    assert stored("a") is None
