"""Every python, bash and json block of README and docs runs, in the order of its page.

The blocks of one page share a folder and a Python namespace, so that a tutorial can build up. A comment above a block
may say more: `<!-- file: NAME -->` also writes the block to that file (one named `test_…` is only written: a block with
pytest runs it), `<!-- fails: N -->` expects a bash block to exit with N, `<!-- output -->` marks what a program printed:
its lines must occur in what the block before it printed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import apxm
from apxm.capability.isolation.sandbox import absence

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?:<!-- *(?P<mark>[^>]*?) *-->\n\n?)?^(?P<fence>`{3,})(?P<language>\w*)\n(?P<code>.*?)^(?P=fence)$", re.S | re.M
)
RUN = ("python", "bash", "json")
SECONDS_MAX = 120


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    code: str
    mark: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    def option(self, name: str) -> str | None:
        kind, _, value = self.mark.partition(":")
        return value.strip() if kind == name else None


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = BLOCK.finditer(text)
    name = page.relative_to(ROOT).as_posix()
    return [Block(name, text.count("\n", 0, m.start("code")) + 1, m["language"], m["code"], m["mark"] or "") for m in found]


class Reader:
    """Does what a reader of one page would: types every block, in order, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.printed = folder, ""  # the folder that `cd` has led to
        self.names: dict[str, object] = {"__name__": "__main__"}
        tools = folder / ".bin"
        tools.mkdir()
        (tools / "apxm").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m apxm "$@"\n')
        (tools / "apxm").chmod(0o755)
        for shared in ("artifacts", "docs"):
            (folder / shared).symlink_to(ROOT / shared)
        path = f"{tools}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}

    def read(self, block: Block) -> None:
        if file := block.option("file"):
            (self.folder / file).write_text(block.code)
        if block.mark == "output":
            self.compare(block)
        elif file and file.startswith("test_"):
            return  # pytest runs it, in a block of its page
        elif block.language in RUN:
            getattr(self, block.language)(block)

    def python(self, block: Block) -> None:
        page = ROOT / block.page
        code = compile("\n" * (block.line - 1) + block.code, str(page), "exec", dont_inherit=True)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(code, self.names)
        self.printed = out.getvalue()

    def bash(self, block: Block) -> None:
        here = self.folder / ".here"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"trap 'pwd >{here}' EXIT\n{block.code}"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        expected = int(block.option("fails") or 0)
        assert done.returncode == expected, f"{block.place} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        self.printed = done.stdout + done.stderr
        self.folder = Path(here.read_text().strip())
        here.unlink()

    def json(self, block: Block) -> None:
        data = json.loads(block.code)
        if isinstance(data, dict) and ("nodes" in data or "agents" in data):
            apxm.compile(block.code)

    def compare(self, block: Block) -> None:
        said = [line.split() for line in self.printed.splitlines()]
        for line in block.code.splitlines():
            words = line.split()
            assert not words or words in said, f"{block.place} shows {line!r}, but it printed:\n{self.printed}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_of_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page.name == "run-code-safely.md" and (reason := absence()) is not None:
        pytest.skip(f"no sandbox on this machine: {reason}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ".state"))  # what one page remembers is no page's and no test's to find
    reader = Reader(tmp_path)
    for block in blocks(page):
        reader.read(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_mark_above_a_block_is_one_we_know(page: Path) -> None:
    for block in blocks(page):
        kind = block.mark.partition(":")[0]
        assert kind in ("", "file", "fails", "output"), block.place
        assert kind != "output" or block.language not in RUN, f"{block.place}: a {block.language} block is run, not shown"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_to_a_file_of_ours_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!\w+:)([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_a_block_that_fails_is_noticed(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    with pytest.raises(AssertionError, match="ended with 3"):
        reader.read(Block("README.md", 1, "bash", "exit 3\n", ""))
    with pytest.raises(ZeroDivisionError):
        reader.read(Block("README.md", 1, "python", "1 / 0\n", ""))
    reader.read(Block("README.md", 1, "python", "print('one  two')\n", ""))
    reader.read(Block("README.md", 1, "", "one two\n", "output"))
    with pytest.raises(AssertionError, match="shows 'three'"):
        reader.read(Block("README.md", 1, "", "three\n", "output"))
