"""`apxm config show`, and that `apxm run` does what the configuration says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apxm.cli.main import main
from apxm.settings.keys import KEYS

if TYPE_CHECKING:
    from pathlib import Path

TOOLS = '''
from apxm import CapabilityRecord, flow, step

def double(x: int) -> int:
    """Twice a number."""
    return 2 * x

CAPABILITIES = {"double": CapabilityRecord("Twice a number", double, effect="read")}
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    nodes = [{"id": 1, "name": "twice", "op": "INV", "attributes": {"capability": "double", "params_json": {"x": 4}}}]
    (tmp_path / "twice.json").write_text(json.dumps({"name": "twice", "nodes": nodes, "edges": []}))
    read = {"id": 1, "name": "note", "op": "INV", "attributes": {"capability": "read"}}
    reads = {"name": "reads", "nodes": [read], "parameters": [{"name": "path", "type_name": "str"}]}
    (tmp_path / "reads.json").write_text(json.dumps({**reads, "edges": [{"from": "path", "to": 1, "port": "path"}]}))
    ask = {"id": 1, "name": "answer", "op": "ASK", "attributes": {"template_str": "x", "model": "fast"}}
    (tmp_path / "asks.json").write_text(json.dumps({"name": "asks", "nodes": [ask], "edges": []}))
    del ask["attributes"]["model"]  # type: ignore[attr-defined]
    (tmp_path / "asks_default.json").write_text(json.dumps({"name": "asks", "nodes": [ask], "edges": []}))
    (tmp_path / "our_tools.py").write_text(TOOLS)
    (tmp_path / "script.json").write_text('{"rules": [], "default": "scripted"}')
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(arguments) == code
    out, err = capsys.readouterr()
    return out if code == 0 else err


def test_every_setting_is_shown_with_its_value_and_its_origin(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "apxm.toml").write_text('grants = ["double"]\n[run]\nmodel = "extractive"\n')
    rows = [line.split(maxsplit=2) for line in said(capsys, "config", "show", "--budget", "nodes=3").splitlines()]
    assert [row[0] for row in rows] == list(KEYS)
    assert ["grants", '"double"', "apxm.toml:1"] in rows
    assert ["run.model", '"extractive"', "apxm.toml:3"] in rows
    assert ["budget.nodes", "3", "flag --budget"] in rows
    assert ["log.format", '"console"', "default"] in rows


def test_a_script_gets_one_object(project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "apxm.toml").write_text('grants = ["double"]\n')
    monkeypatch.setenv("APXM_GRANTS", "other")
    shown = json.loads(said(capsys, "config", "show", "--json"))
    assert shown["files"] == [{"layer": "project", "file": "apxm.toml"}]
    assert set(shown["settings"]) == set(KEYS)
    origins = [{"layer": "project", "at": "apxm.toml:1"}, {"layer": "environment", "at": "APXM_GRANTS"}]
    assert shown["settings"]["grants"] == {"value": ["double", "other"], "from": origins}
    assert shown["settings"]["capabilities"] == {"value": [], "from": [{"layer": "default", "at": ""}]}


def test_a_secret_is_shown_as_the_reference_that_it_is(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERE", "the-secret-itself")
    (project / "apxm.toml").write_text('[models.fast]\nkind = "scripted"\nfile = { env = "WHERE" }\n')
    text = said(capsys, "config", "show") + said(capsys, "config", "show", "--json")
    assert '{ env = "WHERE" }' in text
    assert '"env": "WHERE"' in text
    assert "the-secret-itself" not in text


def test_a_run_takes_capabilities_of_the_configuration(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "double" in said(capsys, "run", "twice.json", "-q", code=2)
    (project / "apxm.toml").write_text('capabilities = ["our_tools.py"]\n')
    assert said(capsys, "run", "twice.json", "-q") == "8\n"
    assert "double" in said(capsys, "run", "twice.json", "-q", "--config", "none", code=2)


def test_a_run_takes_grants_of_the_configuration_also_those_of_other_programs(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "notes").mkdir()
    (project / "notes" / "one.txt").write_text("a note")
    (project / "below").mkdir()
    monkeypatch.chdir(project / "below")
    reads = ["run", "../reads.json", "-q", "--param", f"path={project}/notes/one.txt"]
    assert "none is granted" in said(capsys, *reads, code=3)
    (project / "apxm.toml").write_text('grants = ["read=notes", "of_another_program"]\n')
    assert "a note" in said(capsys, *reads)


def test_flags_go_before_what_the_configuration_says(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "apxm.toml").write_text('capabilities = ["our_tools.py"]\ngrants = ["double"]\n[budget]\ntool_calls = 0\n')
    assert "tool_calls" in said(capsys, "run", "twice.json", "-q", code=4)
    assert said(capsys, "run", "twice.json", "-q", "--budget", "tool_calls=1") == "8\n"
    assert "nodes" in said(capsys, "run", "twice.json", "-q", "--budget", "tool_calls=1,nodes=0", code=4)


def test_a_typed_grant_must_be_of_a_capability_of_the_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "apxm.toml").write_text('capabilities = ["our_tools.py"]\n')
    assert "did you mean `double`" in said(capsys, "run", "twice.json", "--grant", "duoble", code=2)


def test_a_run_uses_the_models_of_the_configuration(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "apxm.toml").write_text('[models.fast]\nkind = "scripted"\nfile = "script.json"\n')
    assert said(capsys, "run", "asks.json", "-q") == "scripted\n"
    assert "scripted" not in said(capsys, "run", "asks_default.json", "-q")
    assert said(capsys, "run", "asks_default.json", "-q", "--model", "fast") == "scripted\n"
    assert "did you mean `fast`" in said(capsys, "run", "asks_default.json", "--model", "fsat", code=2)


def test_a_secret_that_is_missing_is_missed_before_the_run_and_only_by_who_needs_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "apxm.toml").write_text('[models.fast]\nkind = "scripted"\nfile = { env = "NOT_SET_HERE" }\n')
    assert "extractive" in said(capsys, "run", "asks_default.json", "-q")
    wrong = said(capsys, "run", "asks.json", "-q", code=2)
    assert "apxm.toml:1: models.fast.file refers to the environment variable NOT_SET_HERE" in wrong


def test_a_configuration_that_is_wrong_stops_a_run_before_it_starts(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "apxm.toml").write_text("[run]\ndedline_s = 3\n")
    assert "did you mean `run.deadline_s`" in said(capsys, "run", "twice.json", code=2)


@pytest.mark.parametrize("where", ["", "file"])
def test_toml_is_loaded_only_where_there_is_a_file(project: Path, where: str) -> None:
    import subprocess
    import sys

    if where:
        (project / "apxm.toml").write_text("")
    code = "import sys; from apxm.cli.main import main; main(['run', 'asks_default.json', '-q']); print('tomllib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == str(bool(where))
