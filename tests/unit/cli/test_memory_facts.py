"""`apxm memory facts`: what it adds, lists, finds and removes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from apxm.cli.exits import Exit
from apxm.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["memory", "facts", *arguments]) == Exit.OK, capsys.readouterr().err
    return capsys.readouterr().out


def data(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(said(capsys, *arguments, "--json"))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["memory", "facts", *arguments]) == Exit.INVALID
    return capsys.readouterr().err


def test_a_fact_is_added_listed_and_found(capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--tag", "food", "--tag", "taste", "--source", "chat", "--session", "s1", "--label", "user"]
    tea = said(capsys, "add", "the user likes tea", *more).strip()
    said(capsys, "add", "Berlin has bears", "-n", "scout")
    head, row = said(capsys).splitlines()
    assert head.split() == ["id", "told", "tags", "source", "text"]
    assert row.startswith(tea)
    assert row.endswith("food, taste  chat    the user likes tea")
    (fact,) = data(capsys, "ls")
    assert (fact["id"], fact["tags"], fact["source"]) == (tea, ["food", "taste"], "chat")
    assert (fact["session"], fact["labels"]) == ("s1", ["user"])
    assert "score" not in fact
    (hit,) = data(capsys, "search", "tea")
    assert (hit["id"], 0 < hit["score"] <= 1) == (tea, True)
    assert said(capsys, "search", "tea").splitlines()[0].split() == ["score", *head.split()]
    assert [one["text"] for one in data(capsys, "search", "bears", "-n", "scout")] == ["Berlin has bears"]


def test_what_is_asked_for_is_what_comes(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "add", "the user likes tea", "--tag", "food", "--source", "chat", "--session", "s1")
    said(capsys, "add", "the user likes rain")
    for chosen in (["--tag", "food"], ["--source", "chat"], ["--session", "s1"]):
        assert [one["text"] for one in data(capsys, "ls", *chosen)] == ["the user likes tea"]
        assert [one["text"] for one in data(capsys, "search", "user likes", *chosen)] == ["the user likes tea"]
    assert [one["text"] for one in data(capsys, "ls", "--limit", "1")] == ["the user likes rain"]
    assert len(data(capsys, "search", "user likes", "--limit", "1")) == 1
    assert data(capsys, "search", "user likes", "--min-score", "1") == []


def test_a_long_list_is_cut_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        said(capsys, "add", f"fact {number}")
    for limit, err in (("2", "there are more; `--limit N` shows them\n"), ("3", "")):
        assert main(["memory", "facts", "--limit", limit]) == Exit.OK
        assert capsys.readouterr().err == err


def test_a_fact_is_removed_by_the_beginning_of_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    tea = said(capsys, "add", "the user likes tea").strip()
    rain = said(capsys, "add", "the user likes rain").strip()
    assert tea[:6] != rain[:6]
    assert said(capsys, "rm", tea[:6]) == f"deleted fact {tea}\n"
    assert [one["id"] for one in data(capsys)] == [rain]
    assert f"has no fact `{tea}`" in refused(capsys, "rm", tea)
    assert "has no fact ``" in refused(capsys, "rm", "")
    assert data(capsys, "rm", rain) == {"deleted": [rain]}


def test_the_beginning_of_several_ids_removes_none(capsys: pytest.CaptureFixture[str]) -> None:
    ids = [said(capsys, "add", f"fact {number}").strip() for number in range(17)]
    first = next(id[0] for id in ids if sum(other[0] == id[0] for other in ids) > 1)  # 17 ids, 16 digits
    assert f"begin with `{first}`" in refused(capsys, "rm", first)
    assert len(data(capsys, "ls")) == 17


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["serch"], "did you mean `search`?"),
        (["search"], "`apxm memory facts search` needs a QUERY"),
        (["add"], "needs a TEXT"),
        (["rm"], "needs the ID of a fact"),
        (["ls", "x"], "`apxm memory facts ls` takes nothing behind it"),
        (["--limit", "0"], "--limit is 0"),
        (["search", "x", "--limit", "0"], "--limit is 0"),
        (["add", "  "], "a fact is a text that says something"),
        (["add", "x", "--tag", ""], "a tag is a text of 1 to"),
    ],
)
def test_what_is_wrong_is_said(capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str) -> None:
    assert expected in refused(capsys, *arguments)
    assert data(capsys, "ls") == []


def test_where_there_is_none_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in (
        ([], "namespace `default` has no fact\n"),
        (["ls", "--tag", "x"], "namespace `default` has no fact like that\n"),
        (["search", "x", "-n", "scout"], "no fact in namespace `scout` answers that\n"),
    ):
        assert main(["memory", "facts", *arguments]) == Exit.OK
        assert capsys.readouterr() == ("", expected)
