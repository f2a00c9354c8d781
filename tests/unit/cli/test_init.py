"""A new project is whole, and runs as it is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from apxm.cli.init import TEMPLATES, project
from apxm.cli.main import main
from apxm.errors import InvalidError


def ended(*command, folder):
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_a_new_project_runs_and_its_tests_pass(tmp_path):
    assert main(["init", str(tmp_path / "my-notes")]) == 0
    folder = tmp_path / "my-notes"
    question = ("--param", "text=Ada wrote the notes.", "--param", "question=Who wrote the notes?")
    done = ended(sys.executable, "-m", "apxm", "run", "flow.py", *question, folder=folder)
    assert done.returncode == 0, done.stderr
    assert "Ada wrote the notes." in done.stdout
    tests = ended(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder=folder)
    assert tests.returncode == 0, tests.stdout
    assert "2 passed" in tests.stdout


def test_its_test_fails_when_its_flow_is_broken(tmp_path):
    assert main(["init", str(tmp_path / "broken")]) == 0
    flow = tmp_path / "broken" / "flow.py"
    flow.write_text(flow.read_text().replace("len(text.split())", "0"))
    assert ended(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder=flow.parent).returncode == 1


def test_nothing_is_written_over_and_nothing_beside_it(tmp_path, capsys):
    (tmp_path / "flow.py").write_text("mine")
    assert main(["init", str(tmp_path)]) == 2
    assert "already has flow.py" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["flow.py"]
    assert (tmp_path / "flow.py").read_text() == "mine"


def test_what_was_begun_is_taken_back_when_it_cannot_be_finished(tmp_path, capsys, monkeypatch):
    (tmp_path / "README.md").symlink_to(tmp_path / "nowhere" / "README.md")  # is not there, and cannot be made
    assert main(["init", str(tmp_path), "--name", "x"]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


@pytest.mark.parametrize(("name", "flow"), [("my notes", "my_notes"), ("Notes-2", "notes_2"), ("größe", "gr_e")])
def test_the_flow_has_the_name_of_the_project(name, flow):
    files = project(name)
    assert set(files) == set(TEMPLATES)
    assert f"def {flow}(" in files["flow.py"]
    assert f"import CAPABILITIES, {flow}" in files["test_flow.py"]
    assert not any("@NAME@" in text or "@FLOW@" in text for text in files.values())


@pytest.mark.parametrize("name", ["", "2 fast", "class", "***", "step"])
def test_a_name_that_no_flow_can_have_is_refused(name):
    with pytest.raises(InvalidError, match="cannot have"):
        project(name)


def test_a_folder_is_taken_from_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["init"]) == 0
    assert sorted(os.listdir()) == sorted(TEMPLATES)
    assert "def here(" in (tmp_path / "here" / "flow.py").read_text()
