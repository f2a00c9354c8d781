"""One holder of a folder: whoever comes second waits, and then learns who is first."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from apxm.errors import FailureClass, LockedError, StorageError
from apxm.memory.ltm.owner import FILE, Owner, holder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HOLDING = """
import sys
from pathlib import Path
from apxm.memory.ltm.owner import Owner

owner = Owner(Path(sys.argv[1]))
owner.acquire(0)
exec(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_elsewhere(folder: Path, before_waiting: str = "") -> Iterator[subprocess.Popen[str]]:
    """Another process that owns the folder until its input ends."""
    command = [sys.executable, "-c", _HOLDING, str(folder), before_waiting]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_the_file_says_who_owns_the_folder_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    owner = Owner(tmp_path)
    assert not owner.held
    owner.acquire(0)
    assert owner.held
    about = json.loads((tmp_path / FILE).read_text())
    assert (about["pid"], about["host"]) == (os.getpid(), socket.gethostname())
    assert set(about) == {"pid", "host", "command", "since"}
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    owner.release()
    assert not owner.held
    assert (tmp_path / FILE).read_text() == ""


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["/usr/bin/apxm", "memory", "put", "k", "hunter2"], "apxm memory"),
        (["/x/apxm/__main__.py", "--token=hunter2"], "apxm"),
        (["/home/x/serve.py", "hunter2"], "serve.py"),
        (["-c", "hunter2"], os.path.basename(sys.executable)),
        ([], os.path.basename(sys.executable)),
    ],
)
def test_the_file_says_which_program_and_no_argument_of_it(tmp_path: Path, monkeypatch, argv, told) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    owner = Owner(tmp_path)
    owner.acquire(0)
    assert json.loads((tmp_path / FILE).read_text())["command"] == told
    owner.release()


def test_owning_twice_is_owning_once(tmp_path: Path) -> None:
    owner = Owner(tmp_path)
    owner.acquire(0)
    owner.acquire(0)
    owner.release()
    owner.release()
    assert not owner.held
    Owner(tmp_path).acquire(0)


def test_a_second_process_is_refused_and_told_whom_to_end(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as process, pytest.raises(LockedError) as refused:
        Owner(tmp_path).acquire(0)
    assert refused.value.code == "locked"
    assert refused.value.failure is FailureClass.TRANSIENT
    for part in (
        str(tmp_path),
        f"process {process.pid} on {socket.gethostname()} since ",
        os.path.basename(sys.executable),
        "end that",
    ):
        assert part in str(refused.value)


def test_a_second_owner_in_one_process_is_refused_and_told_so(tmp_path: Path) -> None:
    first, second = Owner(tmp_path), Owner(tmp_path)
    first.acquire(0)
    with pytest.raises(LockedError, match="another LongTermMemory of this process"):
        second.acquire(30)
    assert not second.held
    first.release()
    second.acquire(0)
    assert second.held


def test_whoever_waits_gets_the_folder_when_it_becomes_free(tmp_path: Path) -> None:
    first, second = Owner(tmp_path), Owner(tmp_path)
    first.acquire(0)
    waiting = threading.Thread(target=second.acquire, args=(60_000,))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    first.release()
    waiting.join(30)
    assert second.held


def test_what_a_dead_owner_left_does_not_matter(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as process:
        process.kill()
        process.wait()
        assert json.loads((tmp_path / FILE).read_text())["pid"] == process.pid
        owner = Owner(tmp_path)
        owner.acquire(0)
        assert owner.held


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"{}" + b" " * 9_000 + b"x"])
def test_a_file_that_says_nothing_of_use_still_refuses(tmp_path: Path, content: bytes) -> None:
    first = Owner(tmp_path)
    first.acquire(0)
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(LockedError, match="is owned by another process"):
        Owner(tmp_path).acquire(0)


def test_a_forked_child_owns_nothing_and_ends_nothing(tmp_path: Path) -> None:
    owner = Owner(tmp_path)
    owner.acquire(0)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert not owner.held
            owner.release()  # must not end the lock of the parent
            try:
                owner.acquire(0)
            except LockedError as error:
                code = 0 if f"process {os.getppid()} on" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(LockedError):
        Owner(tmp_path).acquire(0)


def test_a_child_that_outlives_the_owner_does_not_keep_the_folder(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path, before_waiting="import os\nif os.fork() == 0: sys.stdin.read(); os._exit(0)") as process:
        process.kill()
        process.wait()
        Owner(tmp_path).acquire(10_000)  # the child may not have run yet


def test_anybody_may_ask_who_owns_a_folder(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    owner = Owner(tmp_path)
    owner.acquire(0)
    assert holder(tmp_path) == "this process"
    owner.release()
    assert holder(tmp_path) is None
    with held_elsewhere(tmp_path) as process:
        assert f"process {process.pid} on {socket.gethostname()} since " in (holder(tmp_path) or "")
        process.kill()
        process.wait()
        assert holder(tmp_path) is None
    (tmp_path / FILE).write_text("nonsense")
    assert holder(tmp_path) is None


def test_a_lock_file_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    first = Owner(tmp_path)
    first.acquire(0)
    first.release()
    (tmp_path / FILE).unlink()
    first.acquire(0)
    assert (tmp_path / FILE).exists()


def test_a_folder_that_cannot_be_written_is_an_error_of_storage(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file or directory"):
        Owner(tmp_path / "missing").acquire(0)
    (tmp_path / FILE).mkdir()
    with pytest.raises(StorageError, match="Is a directory"):
        Owner(tmp_path).acquire(0)


def test_a_link_to_elsewhere_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("precious")
    (tmp_path / FILE).symlink_to(elsewhere)
    with pytest.raises(StorageError):
        Owner(tmp_path).acquire(0)
    assert elsewhere.read_text() == "precious"


def test_a_pipe_in_the_place_of_the_file_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "owner.lock")
    assert holder(tmp_path) is None
