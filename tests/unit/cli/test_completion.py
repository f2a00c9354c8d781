"""Completion as somebody meets it who presses tab: real shells, the generated script, no Python behind it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from apxm.cli.command import Command, Option
from apxm.cli.completion import SHELLS, collect, options_of
from apxm.cli.main import COMMANDS, command, main

if TYPE_CHECKING:
    from pathlib import Path

SECONDS_MAX = 60
BASH = shutil.which("bash") or "bash"
SPECIAL = "it's $HOME; `id` [a b]:\\"
ODD = Command(
    "odd ones",
    SPECIAL,
    "",
    (
        Option("--kind", SPECIAL, "KIND", choices=("$(id)", "a b", "it's")),
        Option("file", "x", "FILE"),
        Option("level", "x", "LEVEL", choices=("low", "high")),
    ),
    int,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    known = [command(name) for name in COMMANDS]
    for shell, script in SHELLS.items():
        (tmp_path / f"apxm.{shell}").write_text(script(collect([*known, ODD])))
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "my graph.json").write_text("")
    return tmp_path


# ---- bash: what the function answers -------------------------------------------------------------------------------------
def bash(folder: Path, *words: str) -> list[str]:
    """The replies of the function for a command line whose last word is being typed."""
    code = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _apxm; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        [BASH, "--norc", "-c", code, str(folder / "apxm.bash"), "apxm", *words],
        cwd=folder / "files",
        env={"PATH": "/nowhere"},  # it may start nothing
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1] if done.stdout != "\n" else []


def test_bash_offers_the_commands_and_the_words_of_a_group(folder: Path) -> None:
    assert set(bash(folder, "")) == {name.partition(" ")[0] for name in COMMANDS} | {"odd", "--help", "--version"}
    assert bash(folder, "val") == ["validate"]
    assert bash(folder, "ops", "") == ["list", "show"]
    assert bash(folder, "nonsense", "") == []


@pytest.mark.parametrize("name", COMMANDS)
def test_bash_offers_every_option_of_a_command(folder: Path, name: str) -> None:
    wanted = {each for option in options_of(command(name)) for each in (option.name, option.short) if each}
    assert set(bash(folder, *name.split(), "-")) == wanted


@pytest.mark.parametrize(
    ("words", "replies"),
    [
        (["run", "--on-failure", ""], ["fail_fast", "continue"]),
        (["run", "--on-failure", "=", "c"], ["continue"]),
        (["run", "--on-failure", "="], ["fail_fast", "continue"]),
        (["run", "x.json", "--on-failure", "f"], ["fail_fast"]),
        (["compile", "-O", ""], ["0", "1"]),
        (["runs", "ls", "--outcome", "d"], ["done", "denied", "deadline"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["completion", "--help", "z"], ["zsh"]),
        (["completion", "bash", ""], []),
        (["run", "--deadline", ""], []),
        (["run", "--param", "a", "=", "completion"], []),
        (["ops", "show", "--js"], ["--json"]),
        (["memory", "facts", ""], ["ls", "search", "add", "rm"]),
        (["memory", "search", "--mode", ""], ["hybrid", "vector", "lexical"]),
        (["odd", "ones", "f.json", ""], ["low", "high"]),
        (["odd", "ones", "--kind", "x", "f.json", ""], ["low", "high"]),
        (["odd", "ones", "--kind", "=", "x", "f.json", "--help", "l"], ["low"]),
        (["odd", "ones", "--kind", "=", "x", ""], []),
    ],
)
def test_bash_offers_the_values_of_an_option_and_of_an_argument(folder: Path, words: list[str], replies: list[str]) -> None:
    assert bash(folder, *words) == replies


def test_bash_quotes_what_it_offers_and_runs_none_of_it(folder: Path) -> None:
    assert bash(folder, "odd", "ones", "--kind", "") == [r"\$\(id\)", r"a\ b", r"it\'s"]


# ---- real shells, a real terminal ----------------------------------------------------------------------------------------
START = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source ../apxm.bash"),
    "zsh": (["zsh", "-f", "-i"], "autoload -U compinit; compinit -u -D; source ../apxm.zsh"),
}


def typed(folder: Path, shell: str, keys: str) -> list[str]:
    """The words that a shell passes to `apxm` after these keys, in a terminal."""
    arguments, source = START[shell]
    terminal, side_of_shell = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "LC_ALL": "C.UTF-8", "HOME": str(folder)}
    process = subprocess.Popen(
        arguments,
        cwd=folder / "files",
        env=environment,
        stdin=side_of_shell,
        stdout=side_of_shell,
        stderr=side_of_shell,
        start_new_session=True,
    )
    try:
        tell = "apxm() { printf '<%s>' \"$@\"; echo '<'END'>'; }"
        os.write(terminal, f"{source}; {tell}; echo READY''!\n".encode())
        read_until(terminal, b"READY!")
        os.write(terminal, f"{keys}\n".encode())
        shown = read_until(terminal, b"<END>").decode()
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
        os.close(side_of_shell)
    words = shown[: shown.index("<END>")].splitlines()[-1]
    return words.strip("<>").split("><")


def read_until(terminal: int, mark: bytes) -> bytes:
    read = b""
    while mark not in read:
        assert select.select([terminal], [], [], SECONDS_MAX)[0], f"the shell says nothing more after {read!r}"
        read += os.read(terminal, 65536)
    return read


@pytest.mark.parametrize("shell", START)
@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("apxm ru\t my\t", ["run", "my graph.json"]),
        ("apxm op\tsh\tASK", ["ops", "show", "ASK"]),
        ("apxm run x --on-failure con\t", ["run", "x", "--on-failure", "continue"]),
        ("apxm run --config my\t", ["run", "--config", "my graph.json"]),
        ("apxm run --on-failure=c\t", ["run", "--on-failure=continue"]),
        ("apxm completion f\t", ["completion", "fish"]),
        ("apxm run --deadline my\t", ["run", "--deadline", "my"]),
        ("apxm odd ones --kind it\t", ["odd", "ones", "--kind", "it's"]),
        ("apxm odd ones --kind a\t", ["odd", "ones", "--kind", "a b"]),
    ],
)
def test_tab_completes_in_a_terminal(folder: Path, shell: str, keys: str, words: list[str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} on this machine")
    assert typed(folder, shell, keys) == words


@pytest.mark.parametrize(
    ("line", "replies"),
    [
        ("apxm ops ", ["list", "show"]),
        ("apxm run --on-failure ", ["continue", "fail_fast"]),
        ("apxm run --config m", ["my graph.json"]),
        ("apxm run m", ["my graph.json"]),
        ("apxm run --deadline ", []),
        ("apxm completion ", ["bash", "fish", "zsh"]),
        ("apxm ops list --c", ["--category"]),
        ("apxm odd ones --kind ", ["$(id)", "a b", "it's"]),
    ],
)
def test_fish_offers_the_same(folder: Path, line: str, replies: list[str]) -> None:
    if shutil.which("fish") is None:
        pytest.skip("there is no fish on this machine")
    done = subprocess.run(
        ["fish", "--no-config", "-c", "source ../apxm.fish; complete -C $argv[1]", line],
        cwd=folder / "files",
        env={**os.environ, "HOME": str(folder), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=True,
    )
    assert sorted(row.partition("\t")[0] for row in done.stdout.splitlines()) == replies


# ---- the command -----------------------------------------------------------------------------------------------------
def test_the_command_prints_the_script_of_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    for shell, script in SHELLS.items():
        assert main(["completion", shell]) == 0
        assert capsys.readouterr().out == script(collect(map(command, COMMANDS)))
    assert main(["completion", "bsh"]) == 2
    assert "did you mean `bash`" in capsys.readouterr().err


def test_a_new_option_is_offered_without_a_line_here() -> None:
    more = replace(ODD, options=(*ODD.options, Option("--brand-new", "x")))
    for script in SHELLS.values():
        assert "brand-new" in script(collect([more]))
        assert "brand-new" not in script(collect([ODD]))
