"""Who may write a folder of long-term memory: one holder of a file lock. Knows nothing of what lies in the folder.

The lock is the flock, not the file: it ends with the process, however that ends, and what a dead owner left in the file says
nothing. The file says who holds the lock, for the others to read.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import sys
import threading
import weakref
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from apxm.errors import LockedError, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "owner.lock"
POLL_S = 0.02  # how often a waiting process asks again: flock cannot wait for a limited time
_CONTENT_MAX = 4_096  # bytes of the file that are read
_COMMAND_MAX = 100  # characters of the name of a program that the file keeps
_OURS = ("apxm", "__main__.py")
_TAKEN = (errno.EAGAIN, errno.EACCES, errno.ENOENT)  # another holds the lock, or somebody deleted the file just now


class Owner:
    """The lock of one folder, which must exist. Thread-safe; two of these on one folder exclude each other in one process too.

    A forked child owns nothing: it gives its copy of the lock away, and asks as any other process does.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        _owners.add(self)

    @property
    def held(self) -> bool:
        """Whether this process holds the lock through this object. Cheap: no lock, no system call."""
        return self._descriptor is not None

    def acquire(self, timeout_ms: float) -> None:
        """Hold the lock, which may already be so. LockedError names who else held it for `timeout_ms`; StorageError where
        the folder cannot be written."""
        with self._lock:
            if self._descriptor is None:
                self._descriptor = self._take(monotonic() + timeout_ms / 1000)

    def release(self) -> None:
        """Let others own the folder. Idempotent."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                with suppress(OSError):
                    os.ftruncate(descriptor, 0)
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough while a program that we start has a copy
                os.close(descriptor)

    # ---- taking it ---------------------------------------------------------------------------------------------------
    def _take(self, give_up: float) -> int:
        """The open file, locked and with our name in it."""
        try:
            while True:
                descriptor = self._open_locked()
                if descriptor is not None:
                    return descriptor
                left = give_up - monotonic()
                if left <= 0:
                    raise self._refusal()
                sleep(min(POLL_S, left))
        except OSError as error:
            raise StorageError(
                f"the memory folder {self._path.parent} cannot be owned: {error.strerror or error}",
                hint="writing needs a folder of your own that can be written; reading works without",
            ) from error

    def _open_locked(self) -> int | None:
        """None when another holds the lock, or the file was replaced while we took it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except OSError as error:
            os.close(descriptor)
            if error.errno in _TAKEN:
                return None
            raise
        if not mine:
            os.close(descriptor)
            return None
        with suppress(OSError):  # a full disk: deleting is still possible, only our name is missing
            os.ftruncate(descriptor, 0)
            os.write(descriptor, _self_description())
        return descriptor

    def _refusal(self) -> LockedError:
        owner = _described(self._path)
        if owner.get("pid") == os.getpid() and owner.get("host") == socket.gethostname():
            return LockedError(
                f"{self._path.parent} is owned by another LongTermMemory of this process (since {owner.get('since')})",
                hint="use one for each folder, or close the other one first",
            )
        who = _named(owner) if owner else "another process"
        return LockedError(
            f"{self._path.parent} is owned by {who}", hint="end that process, or wait for it; reading works meanwhile"
        )

    def _forked(self) -> None:
        """In a child: the lock stays the parent's. Our copy of the open file must not keep it when the parent has ended."""
        self._lock = threading.Lock()  # a thread of the parent may have been inside
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)  # no unlock: that would end the parent's lock


def _self_description() -> bytes:
    about = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": _command(),
        "since": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    }
    return json.dumps(about).encode()


def _command() -> str:
    """The program, and of our own the command: arguments may be secrets."""
    program, *arguments = sys.argv or [""]
    name = os.path.basename(program)
    if name in _OURS:
        command = [one for one in arguments[:1] if one.isascii() and one.isalpha()]
        return " ".join(("apxm", *command))[:_COMMAND_MAX]
    kept = name if name and name != "-c" else os.path.basename(sys.executable)
    return "".join(c if c.isprintable() else " " for c in kept[:_COMMAND_MAX])


def holder(folder: Path) -> str | None:
    """Who owns a folder, in words; None when nobody does, as far as the file says."""
    owner = _described(folder / FILE)
    if not owner:
        return None
    here = owner.get("host") == socket.gethostname()
    if here and owner.get("pid") == os.getpid():
        return "this process"
    if here and not _runs(owner.get("pid")):
        return None  # it was killed
    return _named(owner)


def _named(owner: Mapping[str, Any]) -> str:
    return f"process {owner.get('pid')} on {owner.get('host')} since {owner.get('since')}: `{owner.get('command')}`"


def _runs(pid: Any) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, TypeError, ValueError, OverflowError):
        return False
    except OSError:
        return True  # it is somebody else's
    return True


def _described(path: Path) -> dict[str, Any]:
    """What the owner wrote about itself; {} when it is writing that just now, or the file says something else."""
    with suppress(OSError, ValueError), open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as file:  # a pipe
        found = json.loads(file.read(_CONTENT_MAX))
        if isinstance(found, dict):
            return found
    return {}


def _after_fork() -> None:
    for owner in tuple(_owners):
        owner._forked()


_owners: weakref.WeakSet[Owner] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork)
