"""`apxm queue`: what it puts, lists, shows and deletes."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from apxm.cli.exits import Exit
from apxm.cli.main import main
from apxm.cli.state import opened

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["queue", *arguments]) == Exit.OK
    return capsys.readouterr().out


def data(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(said(capsys, *arguments, "--json"))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["queue", *arguments]) == Exit.INVALID
    return capsys.readouterr().err


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_help_of_a_group_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--help", "-h"):
        usage, *_, last = said(capsys, flag).splitlines()
        assert (usage, last) == ("usage: apxm queue COMMAND [options]", "  queue purge   Delete the tasks of a queue.")


def test_a_task_is_put_and_its_id_printed(capsys: pytest.CaptureFixture[str]) -> None:
    task_id = said(capsys, "put", "jobs", '{"page": 1}', "--priority", "2", "--attempts", "3").strip()
    assert data(capsys, "put", "jobs", "2", "--delay", "60") == [
        {"task_id": data(capsys, "list", "jobs")[1]["task_id"], "queue": "jobs"}
    ]
    with opened(None) as system:
        (first, second) = system.queues.list("jobs")
    assert (first.task_id, first.data, first.priority, first.attempts_max) == (task_id, {"page": 1}, 2, 3)
    assert (second.data, second.free_at - second.put_at) == (2, 60)


def test_a_task_may_come_from_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["jobs"], ["jobs", "-"]):
        typed(monkeypatch, '"ä"\n')
        said(capsys, "put", *arguments)
    typed(monkeypatch, '1\n\n{"a": 2}\n')
    assert said(capsys, "put", "jobs", "--lines") == "put 2 tasks into `jobs`\n"
    assert [task["data"] for task in data(capsys, "list", "jobs")] == ["ä", "ä", 1, {"a": 2}]


def test_what_is_no_json_is_refused_and_nothing_put(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the data is no JSON: 'oops'" in refused(capsys, "put", "jobs", "oops")
    assert "the data of a task is no JSON" in refused(capsys, "put", "jobs", "NaN")
    typed(monkeypatch, "1\noops\n")
    assert "line 2 is no JSON" in refused(capsys, "put", "jobs", "--lines")
    assert "priority of a task is" in refused(capsys, "put", "jobs", "1", "--priority", str(2**64))
    assert "is no name of a queue" in refused(capsys, "put", "a\tb", "1")
    assert data(capsys, "list") == []


def test_queues_are_counted_and_tasks_listed_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        said(capsys, "put", "jobs", str(number))
    said(capsys, "put", "other", '"a\\u001b[31m b"')
    with opened(None) as system:
        system.queues.claim("jobs", "me", 60_000)
    assert [line.split() for line in said(capsys, "list").splitlines()] == [
        ["queue", "ready", "leased", "dead", "delayed"],
        ["jobs", "2", "1", "0", "0"],
        ["other", "1", "0", "0", "0"],
    ]
    assert data(capsys, "list")[0] == {"queue": "jobs", "ready": 2, "delayed": 0, "leased": 1, "dead": 0}
    head, *rows = said(capsys, "list", "jobs").splitlines()
    assert head.split() == ["task", "state", "priority", "attempts", "put", "data"]
    assert [(row.split()[1], row.split()[-1]) for row in rows] == [("leased", "0"), ("ready", "1"), ("ready", "2")]
    assert len(data(capsys, "list", "jobs", "--state", "ready")) == 2
    assert "\x1b" not in said(capsys, "list", "other")


def test_a_long_list_is_cut_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        said(capsys, "put", "jobs", str(number))
    assert main(["queue", "list", "jobs", "--limit", "2"]) == Exit.OK
    out, err = capsys.readouterr()
    assert (len(out.splitlines()), err) == (3, "there are more; `--limit N` shows them\n")
    assert "--limit is 0" in refused(capsys, "list", "jobs", "--limit", "0")


def test_where_there_is_nothing_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in (
        ([], "no queue has a task"),
        (["jobs"], "queue `jobs` has no task"),
        (["jobs", "--state", "dead"], "no dead task"),
    ):
        assert main(["queue", "list", *arguments]) == Exit.OK
        assert expected in capsys.readouterr().err


def test_a_task_is_shown_in_every_state(capsys: pytest.CaptureFixture[str]) -> None:
    task_id = said(capsys, "put", "jobs", '{"page": 1}', "--attempts", "1").strip()
    text = said(capsys, "show", task_id)
    assert text.startswith(f"task {task_id} of queue `jobs`\nready from ")
    assert text.endswith('{"page": 1}\n')
    with opened(None) as system:
        claim = system.queues.claim("jobs", "host:1:run", 60_000)
        assert "leased to host:1:run until " in said(capsys, "show", task_id)
        system.queues.give_back(claim.task_id, claim.token)
    assert "\ndead; attempt 1 of 1" in said(capsys, "show", task_id)
    assert data(capsys, "show", task_id)["state"] == "dead"


def test_a_dead_task_is_brought_back_and_others_deleted(capsys: pytest.CaptureFixture[str]) -> None:
    ids = [said(capsys, "put", "jobs", str(number), "--attempts", "1").strip() for number in range(4)]
    with opened(None) as system:
        for _ in range(2):
            claim = system.queues.claim("jobs", "me", 60_000)
            system.queues.give_back(claim.task_id, claim.token)
    assert said(capsys, "requeue", ids[0]) == f"task {ids[0]} is ready again\n"
    assert said(capsys, "drop", ids[3]) == f"deleted task {ids[3]}\n"
    assert said(capsys, "purge", "jobs", "--state", "dead") == "deleted 1 task\n"
    assert [task["task_id"] for task in data(capsys, "list", "jobs")] == [ids[0], ids[2]]
    assert data(capsys, "purge", "jobs") == {"queue": "jobs", "deleted": 2}


@pytest.mark.parametrize("verb", ["show", "requeue", "drop"])
def test_an_unknown_task_is_named(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert "there is no task `nope`" in refused(capsys, verb, "nope")


def test_a_store_that_cannot_be_used_is_said_with_its_exit_code(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "apxm").mkdir(mode=0o700)
    (tmp_path / "apxm" / "coordination.db").write_bytes(b"nonsense" * 200)
    assert main(["queue", "list"]) == Exit.FATAL
    assert "damaged or no file of apxm" in capsys.readouterr().err
