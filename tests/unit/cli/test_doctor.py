"""What `apxm doctor` says about a machine that can run apxm, and about one that cannot."""

from __future__ import annotations

import json

import pytest

from apxm.cli import checks
from apxm.cli.main import main
from apxm.config import MemoryConfig
from apxm.memory.ltm.system import LongTermMemory
from apxm.settings import load


def said(capsys):
    found = json.loads(capsys.readouterr().out)
    return found["ok"], {(check["area"], check["name"]): check for check in found["checks"]}


def test_here_everything_needed_is_there(capsys):
    assert main(["doctor", "--json"]) == 0
    ok, found = said(capsys)
    assert ok
    assert {area for area, _ in found} == {
        "environment",
        "packages",
        "settings",
        "models",
        "memory",
        "sandbox",
        "cluster",
        "run",
    }
    assert found["packages", "core"]["state"] == "ok"
    assert found["run", "offline"]["state"] == "ok"


def test_a_person_gets_a_line_for_each_and_a_word_at_the_end(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "apxm can work here"
    assert any(line.startswith("✓ run") for line in lines)


def test_settings_that_cannot_be_read_are_a_failure_with_its_place(tmp_path, capsys):
    (tmp_path / "apxm.toml").write_text("[run]\ndeadline = 5\n")
    assert main(["doctor", "--json", "--config", str(tmp_path / "apxm.toml")]) == 2
    ok, found = said(capsys)
    assert not ok
    assert found["settings", "files"]["state"] == "failed"
    assert "deadline" in found["settings", "files"]["detail"]
    assert found["run", "offline"]["state"] == "ok"


def test_a_state_directory_that_others_may_enter_is_a_failure(tmp_path, capsys, monkeypatch):
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open").chmod(0o755)
    monkeypatch.setenv("APXM_STATE_DIR", str(tmp_path / "open"))
    assert main(["doctor", "--json"]) == 2
    assert said(capsys)[1]["settings", "state directory"]["state"] == "failed"


def test_a_model_without_its_secret_is_a_failure_and_the_secret_of_one_that_has_it_is_not_shown(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("SCRIPT", raising=False)
    (tmp_path / "apxm.toml").write_text('[models.told]\nkind = "scripted"\nfile = { env = "SCRIPT" }\n')
    assert main(["doctor", "--json", "--config", str(tmp_path / "apxm.toml")]) == 2
    assert said(capsys)[1]["models", "told"]["state"] == "failed"


def memory_checks(folder, monkeypatch):
    monkeypatch.setenv("APXM_MEMORY_FOLDER", str(folder))
    return {check.name: check for check in checks.memory(load())}


def test_what_is_remembered_is_looked_at_and_left_alone(tmp_path, monkeypatch):
    folder = tmp_path / "memory"
    found = memory_checks(folder, monkeypatch)
    assert {name: check.state for name, check in found.items()} == {"index": "ok", "folder": "ok", "record": "absent"}
    assert found["folder"].detail == f"{folder}, owned by nobody"
    assert list(folder.iterdir()) == []
    memory = LongTermMemory(lambda: folder, MemoryConfig())
    memory.put("a", "b")
    found = memory_checks(folder, monkeypatch)
    assert found["record"].detail.startswith("1 entry, ")
    memory.close()


def test_a_record_that_is_damaged_is_a_failure(tmp_path, monkeypatch):
    folder = tmp_path / "memory"
    memory = LongTermMemory(lambda: folder, MemoryConfig())
    folder.mkdir(mode=0o700)
    memory.put("a", "b")
    memory.close()
    (folder / "record.db").write_bytes(b"nonsense" * 2_000)
    record = memory_checks(folder, monkeypatch)["record"]
    assert (record.state, "record.db" in record.detail, record.hint is not None) == ("failed", True, True)
    monkeypatch.setattr(checks, "_version", lambda name: None)
    assert memory_checks(folder, monkeypatch)["index"].state == "absent"


def test_an_extra_that_is_missing_is_absent_and_says_how_to_get_it(monkeypatch):
    known = checks._version
    monkeypatch.setattr(checks, "_version", lambda name: None if name == "chromadb" else known(name))
    found = {check.name: check for check in checks.packages()}
    assert (found["memory"].state, found["memory"].hint) == ("absent", "pip install 'apxm[memory]'")
    monkeypatch.setattr(checks, "_version", lambda name: None if name == "msgpack" else known(name))
    assert {check.name: check.state for check in checks.packages()}["core"] == "failed"


def test_a_program_that_needs_the_network_would_fail_the_offline_check(monkeypatch):
    code = checks._OFFLINE.replace("with Runtime()", "import socket; socket.create_connection(('127.0.0.1', 9))\nwith Runtime()")
    monkeypatch.setattr(checks, "_OFFLINE", code)
    assert checks.offline().state == "failed"


@pytest.mark.parametrize("state", ["ok", "absent", "failed"])
def test_every_state_has_a_mark(state):
    from apxm.cli.doctor import as_line

    assert as_line(checks.Check("run", "x", state, "text\x1b[0m", "do")).count("\x1b") == 0
