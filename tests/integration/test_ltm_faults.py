"""Long-term memory where disks are full, folders cannot be written, and several processes use one folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apxm.config import MemoryConfig
from apxm.memory.ltm.entry import Put
from apxm.memory.ltm.system import LongTermMemory
from tests.unit.memory.ltm.stores import quick_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
OWN_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount"]

BEGIN = """
import json, os, resource, signal, sys, threading
from pathlib import Path
from apxm.config import MemoryConfig
from apxm.errors import ApxmError, LockedError, StorageError
from apxm.memory.ltm.entry import Put
from apxm.memory.ltm.system import LongTermMemory

folder = Path(sys.argv[1])
ltm = LongTermMemory(lambda: folder, MemoryConfig(batch_ms=0, lock_timeout_ms=0))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as found:
        yield found


def python(program: str, *arguments: object, within: tuple[str, ...] = ()) -> str:
    command = [*within, sys.executable, "-c", BEGIN + program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def opened(folder: Path) -> LongTermMemory:
    return LongTermMemory(lambda: folder, MemoryConfig(batch_ms=0, lock_timeout_ms=0))


# ---- a full disk -----------------------------------------------------------------------------------------------------
FILL = """
acknowledged, refused = [], []
for number in range(400):
    futures = [ltm.submit([Put("n", f"{number} {n}", number, f"word{number} " + "x" * 3_000)]) for n in range(3)]
    for n, future in enumerate(futures):
        try:
            future.result(60)
            acknowledged.append(f"{number} {n}")
        except StorageError as error:
            refused.append(str(error))
    if len(refused) > 20:
        break
assert len(acknowledged) > 10 and len(refused) > 20, (len(acknowledged), refused[:3])
assert any("make room" in text or "cannot be used" in text for text in refused), refused[:3]
"""
STILL_READ = """
assert [key for key in acknowledged if ltm.get(key, namespace="n") is None] == []
assert {entry.key for entry in ltm.list(namespace="n", limit=10_000)} == set(acknowledged)
assert ltm.search("word3", namespace="n", mode="lexical")[0].entry.value == 3
assert ltm.record.damage() in ([], [text for text in ltm.record.damage() if "index of words" in text])
"""
ROOM_AGAIN = """
ltm.put("afterwards", "there is room again", namespace="n")
ltm.close()
print(len(acknowledged))
"""


def test_a_file_that_may_not_grow_fails_those_writes_alone(folder):
    limit = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ltm.put("first", 1, namespace="other")
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
"""
    free = "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
    acknowledged = int(python(limit + FILL + STILL_READ + free + ROOM_AGAIN, folder))
    again = opened(folder)
    assert again.stats().entries == acknowledged + 2
    assert again.record.damage() == []
    again.close()


def test_a_disk_without_room_fails_those_writes_alone(folder):
    """A disk of two megabytes, which the process mounts for itself."""
    if shutil.which("unshare") is None or subprocess.run([*OWN_MOUNTS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a disk of his own")
    mount = """
import subprocess
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=True)
"""
    more_room = 'subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)\n'
    reopened = """
ltm = LongTermMemory(lambda: folder, MemoryConfig(batch_ms=0))
assert ltm.stats().entries == len(acknowledged) + 1 and ltm.record.damage() == []
ltm.close()
"""
    python(mount + FILL + STILL_READ + more_room + ROOM_AGAIN + reopened, folder, within=tuple(OWN_MOUNTS))


# ---- a folder that cannot be written ---------------------------------------------------------------------------------
def test_a_disk_that_is_mounted_read_only_is_read_and_not_written(folder):
    if shutil.which("unshare") is None or subprocess.run([*OWN_MOUNTS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a disk of his own")
    ltm = opened(folder)
    ltm.put("k", "green lamp", metadata={"m": 1})
    ltm.close()
    program = """
import subprocess
subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
assert ltm.get("k").value == "green lamp"
assert [hit.entry.key for hit in ltm.search("lamp", where={"m": 1})] == ["k"]
assert [entry.key for entry in ltm.list()] == ["k"] and ltm.stats().vectors == 1
for use in (lambda: ltm.put("x", 1), lambda: ltm.delete("k"), ltm.compact):
    try:
        use()
    except StorageError as error:
        assert error.code == "storage" and error.hint, error
    else:
        raise AssertionError("it could be written")
ltm.flush()
ltm.close()
"""
    python(program, folder, within=tuple(OWN_MOUNTS))


# ---- several processes -----------------------------------------------------------------------------------------------
READ = """
seen, last = 0, -1
print("ready", flush=True)
while not (folder / "stop").exists():
    entries = {entry.key: entry for entry in ltm.list(namespace="n", limit=100)}
    for pair in range(5):
        left, right = entries.get(f"left {pair}"), entries.get(f"right {pair}")
        if left is not None and right is not None:
            assert left.value == right.value, "half of a transaction was seen"
            seen += 1
    found = ltm.search("counter", namespace="n", limit=1)
    assert found or last < 0, "what was there is gone"
    if found:
        assert found[0].entry.value >= last, "an older state was seen"
        last = found[0].entry.value
try:
    ltm.put("mine", 1)
except LockedError as error:
    print(json.dumps([seen, str(error)]))
"""


def test_processes_read_whole_states_while_one_writes(folder, long_run):
    ltm = opened(folder)
    ltm.put("counter", -1, namespace="n", text="counter")
    command = [sys.executable, "-c", BEGIN + READ, str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    readers = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for reader in readers:
        assert reader.stdout.readline() == "ready\n", reader.communicate()[1]
    for number in range(5_000 if long_run else 150):
        both = [put_of(f"{side} {number % 5}", number) for side in ("left", "right")]
        ltm.submit([*both, put_of("counter", number, "counter")]).result()
    (folder / "stop").touch()
    for reader in readers:
        out, err = reader.communicate(timeout=120)
        assert reader.returncode == 0, err
        assert f"process {os.getpid()} on" in out
    ltm.close()


def put_of(key: str, number: int, text: str = "") -> Put:
    return Put("n", key, number, text)


def test_a_program_that_ends_without_closing_loses_nothing_and_is_not_kept_alive(folder):
    program = """
ltm = LongTermMemory(lambda: folder, MemoryConfig(batch_ms=50))
for n in range(50):
    ltm.submit([Put("n", str(n), n, f"text {n}")])
print("done")
"""
    assert python(program, folder) == "done\n"
    again = opened(folder)
    assert again.stats().entries == again.stats().vectors == 50
    again.put("next", 1)
    again.close()


# ---- damage ----------------------------------------------------------------------------------------------------------
def test_a_damaged_file_is_said_to_be_and_what_can_be_read_is_read(folder):
    ltm = opened(folder)
    for number in range(200):
        ltm.submit([put_of(f"key {number}", number, f"some words of number {number} " * 20)])
    ltm.close()
    path = folder / "record.db"
    content = bytearray(path.read_bytes())
    at = content.index(b"some words of number 77 ")
    content[at : at + 8] = b"\0" * 8
    path.write_bytes(content)
    program = """
assert ltm.get("key 76", namespace="n").value == 76
for use in (lambda: ltm.get("key 77", namespace="n"), lambda: ltm.list(limit=1_000)):
    try:
        use()
    except StorageError as error:
        assert "key 77" in str(error) and "delete it" in error.hint
    else:
        raise AssertionError("damage passed for the truth")
report = ltm.verify()
assert not report.ok and any("key 77" in text for text in report.damage), report
ltm.put("key 77", "once more", namespace="n")
assert ltm.get("key 77", namespace="n").value == "once more" and len(ltm.list(limit=1_000)) == 200
ltm.close()
"""
    python(program, folder)
