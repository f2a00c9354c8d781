"""`apxm memory` as processes: pipes between them, another process that owns the memory, an index that goes missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apxm.config import MemoryConfig
from apxm.memory.ltm.entry import Put
from apxm.memory.ltm.system import LongTermMemory

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 120

OWN = """
import sys
from pathlib import Path
from apxm.config import MemoryConfig
from apxm.memory.ltm.system import LongTermMemory
memory = LongTermMemory(lambda: Path(sys.argv[1]), MemoryConfig())
memory.put("held", "what the owner wrote")
print("owned", flush=True)
sys.stdin.read()
memory.close()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "memory"
    folder.mkdir(mode=0o700)
    return folder


def memory(folder: Path, *arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "APXM_MEMORY_FOLDER": str(folder), "APXM_MEMORY_LOCK_TIMEOUT_S": "0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "apxm", "memory", *arguments]
    return subprocess.run(
        command, cwd=folder.parent, env=environment, input=data, capture_output=True, timeout=SECONDS_MAX, check=False
    )


@contextmanager
def opened(folder: Path) -> Iterator[LongTermMemory]:
    """The memory of a folder, in this process."""
    known = LongTermMemory(lambda: folder, MemoryConfig())
    yield known
    known.close()


@contextmanager
def owner(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that owns the folder, until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-c", OWN, str(folder)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"owned\n"
            yield process
        finally:
            process.kill()


def test_while_another_process_owns_the_memory_it_is_read_and_not_written(folder: Path) -> None:
    with owner(folder) as process:
        assert memory(folder, "search", "owner wrote", "--json").stdout.count(b'"held"') == 1
        refused = memory(folder, "put", "mine", "x")
        assert (refused.returncode, refused.stdout) == (6, b"")
        assert f"is owned by process {process.pid} on ".encode() in refused.stderr
    assert memory(folder, "put", "mine", "x").returncode == 0  # a killed owner owns nothing


def test_an_export_is_piped_into_an_import(folder: Path, tmp_path: Path) -> None:
    text = "漢字 and é, \x1b[2J and a\nline"
    with opened(folder) as known:
        entry = known.put("k", text, namespace="scout", labels=("web",))
    exported = memory(folder, "export", "--all")
    assert (exported.returncode, exported.stderr) == (0, b"")
    (tmp_path / "other").mkdir(mode=0o700)
    assert memory(tmp_path / "other", "import", data=exported.stdout).stdout == b"imported 1 entry\n"
    with opened(tmp_path / "other") as known:
        assert known.get("k", namespace="scout") == entry


def test_a_lost_index_is_noticed_and_built_again(folder: Path) -> None:
    with opened(folder) as known:
        known.submit([Put("default", str(number), number, f"text {number}") for number in range(50)]).result()
        assert known.rebuild().vectors == 50
    (index,) = folder.glob("index-*")
    shutil.rmtree(index)
    found = memory(folder, "verify")
    said = found.stdout.decode()
    assert found.returncode == 0, said
    assert "built again" in said
    assert "50 vectors" in said
    assert len(list(folder.glob("index-*"))) == 1
