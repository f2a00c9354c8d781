"""Whatever is wrong with what was typed, a sentence says what, and the exit code its class. In process: main() with arguments."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apxm.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

COMPLAINTS = [
    (["run", "greet.jsn"], 2, "did you mean `greet.json`"),
    (["run", "greet.json", "--param", "whom=x"], 2, "did you mean `who`"),
    (["run", "greet.json", "--param", "who"], 2, "write --param name=value"),
    (["run", "greet.json", "nope"], 2, "no flow `nope`"),
    (["run", "greet.json", "--budget", "calls=1"], 2, "no quantity `calls`"),
    (["run", "greet.json", "--grant", "raed=."], 2, "did you mean `read`"),
    (["run", "greet.json", "--deadline", "soon"], 2, "invalid float value: 'soon'"),
    (["run", "greet.json", "--on-failure", "panic"], 2, "expected fail_fast or continue"),
    (["run", "greet.json", "--model", "gpt"], 2, "expected `extractive` or `scripted:FILE`"),
    (["run", "greet.json", "--model", "scripted:none.json"], 2, "none.json"),
    (["run", "greet.json", "--max-parallelism", "0"], 2, "at least 1"),
    (["run", "greet.json", "--capabilities", "none.py"], 2, "there is no file none.py"),
    (["run", "greet.json", "--capabilities", "greet.json"], 2, "cannot import `greet.json`"),
    (["run", "greet.json", "--parm", "who=x"], 2, "did you mean `--param`"),
    (["run", "greet.json", "greet", "more"], 2, "takes no argument `more`"),
    (["run"], 2, "required: FILE"),
    (["run", "tools_here.py"], 2, "6 programs; say which: tools_here.py:asks"),
    (["run", "tools_here.py:counts", "--param", "items=[1,2,3,4]", "--budget", "nodes=3"], 4, "nodes"),
    (["run", "tools_here.py:counts", "--param", "items=3"], 2, "list"),
    (["run", "tools_here.py:asks", "--param", "question=x", "--budget", "llm_calls=0"], 4, "llm_calls"),
    (["compile", "greet.json", "-o", "nowhere/at/all.apxm"], 2, "cannot write nowhere/at/all.apxm"),
    (["compile", "greet.json", "-O", "7"], 2, "invalid choice: 7"),
    (["inspect", "damaged.apxm"], 2, "artifact"),
    (["validate", "."], 2, "is a folder"),
    (["frobnicate"], 2, "there is no command `frobnicate`"),
    (["ops"], 2, "`apxm ops list`, `apxm ops show`"),
    (["queue", "list", "--state", "dead"], 2, "apxm queue list QUEUE --state dead"),
]


@pytest.mark.parametrize(("arguments", "code", "said"), COMPLAINTS)
def test_a_complaint_is_a_sentence_and_an_exit_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(folder)
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert said in err.replace("\n  try: ", "; ")
    assert out == ""


@pytest.mark.parametrize(("arguments", "code", "said"), COMPLAINTS)
def test_the_same_complaint_as_json_is_one_object(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(folder)
    assert main([*arguments, "--json"]) == code
    error = json.loads(capsys.readouterr().out)["error"]
    assert said in f"{error['message']}; {error['hint']}"
    assert set(error) >= {"code", "class", "message", "node", "op", "path", "hint"}
