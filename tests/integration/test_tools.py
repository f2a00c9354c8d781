"""The scripts beside the package: they parse, they set up only once, and the generated pages are those of the code."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ["tools/setup", "tools/system", "tools/demo", "tools/council", "tools/test", ".ci/run"]
SECONDS_MAX = 120


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_valid_bash(script: str) -> None:
    done = subprocess.run(["bash", "-n", ROOT / script], capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_generated_reference_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "make_docs.py", "--check"],
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["nowhere"], "there is no folder nowhere in "),
        (["src", "nowhere"], "there is no folder nowhere in "),
        (["src/.."], "src/.. does not lie beneath the working directory"),
        (["/tmp"], "/tmp does not lie beneath the working directory"),
    ],
)
def test_the_council_refuses_a_folder_that_it_cannot_review(tmp_path: Path, folders: list[str], said: str) -> None:
    (tmp_path / "src").mkdir()
    command = ["bash", ROOT / "tools" / "council", *folders]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with an environment whose pip only notes how it was called."""
    shutil.copytree(ROOT / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\n[ "$1" = -c ] && exit 0\necho "$@" >> "$(dirname "$0")/calls"\n')
    python.chmod(0o755)
    return tmp_path


def installs(checkout: Path, *what: str) -> list[str]:
    """Calls `setup` and gives every pip call so far."""
    script = f"set -euo pipefail; source tools/setup; setup {' '.join(what)}"
    subprocess.run(["bash", "-c", script], cwd=checkout, timeout=SECONDS_MAX, check=True, capture_output=True)
    calls = checkout / ".venv" / "bin" / "calls"
    return [call for call in calls.read_text().splitlines() if "pip" in call] if calls.exists() else []


def test_setting_up_twice_installs_once(checkout: Path) -> None:
    assert len(installs(checkout, ".", "core")) == 1
    calls = installs(checkout, ".", "core")
    assert calls == ["-m pip install --disable-pip-version-check -e . -c constraints.txt"]


def test_a_changed_project_file_installs_again(checkout: Path) -> None:
    installs(checkout, ".", "core")
    with (checkout / "pyproject.toml").open("a") as file:
        file.write("\n# changed\n")
    assert len(installs(checkout, ".", "core")) == 2


def test_what_is_installed_for_the_tests_is_enough_for_the_demo(checkout: Path) -> None:
    installs(checkout, "'.[all,dev]'", "all")
    assert len(installs(checkout, ".", "core")) == 1


def test_an_install_that_fails_is_tried_again(checkout: Path) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\n[ "$1" = -c ] && exit 0\nexit 1\n')
    with pytest.raises(subprocess.CalledProcessError):
        installs(checkout, ".", "core")
    assert not list((checkout / ".venv").glob("installed-*"))


def demo(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs tools/demo with an `apxm` that only shows how it was called, one argument on a line."""
    program = checkout / ".venv" / "bin" / "apxm"
    program.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    program.chmod(0o755)
    command = ["bash", "tools/demo", *arguments]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)


def test_the_demo_reads_the_documentation_of_the_project(checkout: Path) -> None:
    said = demo(checkout).stdout.splitlines()
    assert said[:2] == ["run", "artifacts/brief/brief.apxm"]
    assert {"read=docs", "list=docs", "folder=docs"} <= set(said)
    assert any(line.startswith("question=") and line.endswith("?") for line in said)


def test_the_demo_takes_a_folder_a_question_and_options(checkout: Path) -> None:
    folder = checkout / "my notes"
    folder.mkdir()
    said = demo(checkout, "my notes", "What now?", "--json").stdout.splitlines()
    assert {f"read={folder}", f"list={folder}", f"folder={folder}", "question=What now?", "--json"} <= set(said)


def test_the_demo_names_a_folder_that_is_not_there(checkout: Path) -> None:
    done = demo(checkout, "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no folder nowhere" in done.stderr
