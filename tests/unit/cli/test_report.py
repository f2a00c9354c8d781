from __future__ import annotations

import json

import pytest

from apxm.cli import report
from apxm.cli.exits import Exit
from apxm.errors import DeniedError, GraphError, HandlerError, Problem


def located(error: HandlerError) -> HandlerError:
    error.node, error.op, error.flow, error.path, error.attempt = "read", "INV", "brief", ((3, 17), (5, "try")), 2
    return error


def test_an_error_says_what_where_why_and_what_to_try() -> None:
    error = located(HandlerError("the file is gone", hint="look whether it is still there"))
    error.__cause__ = FileNotFoundError("notes.md")
    assert report.failure_text(error).splitlines() == [
        "error [handler]: the file is gone",
        "  at: node `read` (INV) of flow `brief`, frame 3[17] / 5[try], attempt 2",
        "  cause: FileNotFoundError: notes.md",
        "  try: look whether it is still there",
    ]


def test_the_place_of_a_cause_is_in_code_of_the_user_never_in_a_library() -> None:
    with pytest.raises(json.JSONDecodeError) as raised:
        json.loads("{")
    error = raised.value
    assert report.cause_text(error).endswith("in test_the_place_of_a_cause_is_in_code_of_the_user_never_in_a_library)")
    error.__traceback__ = raised.tb.tb_next
    assert report.cause_text(error) == f"JSONDecodeError: {error}"


def test_a_long_path_is_cut_in_the_middle() -> None:
    error = located(HandlerError("too deep"))
    error.path = tuple((number, "f") for number in range(100))
    place = "frame 0[f] / 1[f] / 2[f] / … 95 more … / 98[f] / 99[f], attempt 2"
    assert report.place_text(error) == f"node `read` (INV) of flow `brief`, {place}"


def test_the_same_error_as_data() -> None:
    said = report.failure_map(located(HandlerError("gone")))["error"]
    assert said == {
        "code": "handler",
        "class": "fatal",
        "message": "gone",
        "node": "read",
        "op": "INV",
        "flow": "brief",
        "path": [[3, 17], [5, "try"]],
        "attempt": 2,
        "hint": None,
    }


def test_every_problem_of_a_graph_is_said_in_both_forms() -> None:
    problems = [Problem("graph", "first", node=1, path="nodes[0]"), Problem("graph", "second", nearest="ASK")]
    error = GraphError("graph `x` breaks 2 rules", problems)
    text = report.failure_text(error)
    assert "nodes[0]: first" in text
    assert "second; close: `ASK`" in text
    assert [problem["message"] for problem in report.failure_map(error)["error"]["problems"]] == ["first", "second"]


def test_a_failure_with_json_is_one_object_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert report.fail(DeniedError("`write` was not granted"), json=True) == Exit.DENIED
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["class"] == "denied"
    assert err == ""


def test_a_bug_is_called_a_bug_and_shows_its_traceback_only_when_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("APXM_DEBUG", raising=False)
    error = _raised(KeyError("slot"))
    assert report.fail(error, json=False) == Exit.INTERNAL
    said = capsys.readouterr().err
    assert "error [internal]: KeyError: 'slot'" in said
    assert "Traceback" not in said
    monkeypatch.setenv("APXM_DEBUG", "1")
    report.fail(error, json=False)
    assert "Traceback" in capsys.readouterr().err


def test_control_characters_in_a_message_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    report.fail(HandlerError("a\x1b[2Jb"), json=False)
    assert "a\\x1b[2Jb" in capsys.readouterr().err


def _raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught
