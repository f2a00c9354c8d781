"""What a sandbox is made of: the command line of bubblewrap, and whether it can be made on this machine at all.

Inside there is the system read-only (programs and libraries, hardly any configuration), the interpreter of this process,
granted directories, and three places to write to that live in memory and vanish with it. There is no network, no home, no
environment of ours. Root gives its rights up: what root starts runs as a user that nobody else is.
"""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from apxm.capability.isolation import seccomp
from apxm.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SCRATCH = "/scratch"
WRITABLE = (SCRATCH, "/tmp", "/dev/shm")
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    "HOME": SCRATCH,
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
}
INSTALL = "install bubblewrap 0.7 or newer (apt-get install bubblewrap), and let this user make user namespaces"
KERNEL_MIN = (5, 14)  # from there on each user namespace counts its processes itself
_NOBODY = 65534
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_CONFIGURATION = ("/etc/alternatives", "/etc/ld.so.cache")
_OWN = ("/", "/proc", "/sys", "/dev", "/tmp", "/etc", SCRATCH)


@dataclass(frozen=True, slots=True)
class Enclosure:
    """How sandboxes are made here."""

    program: str  # bubblewrap
    python: str
    prefixes: tuple[str, ...]  # where the interpreter lives, as far as that is not the system
    drops: bool  # root builds it, and gives its rights up inside

    def user(self) -> int | None:
        """The user that code becomes, another one each time, as processes count by user; None: a namespace makes it nobody."""
        return _unused_user() if self.drops else None

    def command(self, roots: Sequence[str], room_bytes: int, *, status: int, block: int, calls: int, people: int) -> list[str]:
        """The command line up to what shall run; the numbers are descriptors that bubblewrap reads and writes.

        `roots` are directories that are there too, under their own names and read-only; one that ends in `:rw` can be
        written to.
        """
        line = [self.program, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        if self.drops:
            line += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        else:
            line += ["--unshare-user", "--uid", str(_NOBODY), "--gid", str(_NOBODY)]
        line += ["--die-with-parent", "--new-session", "--hostname", "sandbox"]
        line += ["--json-status-fd", str(status), "--block-fd", str(block), "--seccomp", str(calls)]
        line += _system()
        for prefix in self.prefixes:
            line += [*_above(prefix), "--ro-bind", prefix, prefix]
        line += ["--perms", "0444", "--ro-bind-data", str(people), "/etc/passwd", "--proc", "/proc", "--dev", "/dev"]
        for place in WRITABLE:
            line += ["--perms", "1777", "--size", str(room_bytes), "--tmpfs", place]
        for root in roots:
            place, writable = split(root)
            line += [*_above(place), "--bind" if writable else "--ro-bind", place, place]
        line += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", SCRATCH]
        for name, value in ENVIRONMENT.items():
            line += ["--setenv", name, value]
        return line


def find() -> Enclosure | str:
    """How sandboxes are made here, or why there can be none. Starts nothing: that it works is another question."""
    if sys.platform != "linux":
        return f"sandboxes are for Linux, and this is {sys.platform}"
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2] if part.isdigit())
    if release < KERNEL_MIN:
        return f"Linux {platform.release()} is older than {KERNEL_MIN[0]}.{KERNEL_MIN[1]}"
    if seccomp.program() is None:
        return f"there is no filter of system calls for {platform.machine()}"
    program = shutil.which("bwrap")
    if program is None:
        return "bubblewrap (`bwrap`) is not installed"
    prefixes = _prefixes()
    if isinstance(prefixes, str):
        return prefixes
    drops = os.geteuid() == 0 and _unused_user() is not None
    return Enclosure(program, os.path.realpath(getattr(sys, "_base_executable", sys.executable)), prefixes, drops)


def split(root: str) -> tuple[str, bool]:
    """A granted directory, and whether it was granted for writing."""
    return (root.removesuffix(":rw"), True) if root.endswith(":rw") else (root, False)


def check_roots(roots: Sequence[str]) -> None:
    """InvalidError for a granted directory that is none, or that would take the place of a part of the sandbox."""
    for root in roots:
        place, _ = split(root)
        if place in _OWN or place.startswith(("/proc/", "/sys/", "/dev/", f"{SCRATCH}/")):
            raise InvalidError(f"{place} cannot be granted to a sandbox, which has its own", hint="grant a directory of your own")
        if not os.path.isdir(place):
            raise InvalidError(f"the granted directory {place} is not there", hint="grant a directory: `bash=DIR`, `bash=DIR:rw`")


def people(user: int | None) -> bytes:
    """/etc/passwd inside, for programs that ask who they are."""
    number = _NOBODY if user is None else user
    return f"nobody:x:{number}:{number}:nobody:{SCRATCH}:/bin/sh\n".encode()


def _system() -> list[str]:
    """Programs and libraries, where this machine has them."""
    line = ["--ro-bind", "/usr", "/usr"]
    for name in _SYSTEM:
        place = f"/{name}"
        if os.path.islink(place):
            line += ["--symlink", os.readlink(place), place]
        elif os.path.isdir(place):
            line += ["--ro-bind", place, place]
    line += ["--perms", "0755", "--dir", "/etc"]
    for place in _CONFIGURATION:
        line += ["--ro-bind-try", place, place]
    return line


def _above(place: str) -> Iterator[str]:
    """The directories above, which anybody may pass through."""
    for above in reversed([*Path(place).parents][:-1]):
        yield from ("--perms", "0755", "--dir", str(above))


def _prefixes() -> tuple[str, ...] | str:
    """Where the interpreter and its library live; text when binding that would show the home directory."""
    home = os.path.realpath(Path.home())
    found = {os.path.realpath(each) for each in (sys.base_prefix, sys.base_exec_prefix)}
    found = {each for each in found if each != "/usr" and not each.startswith("/usr/")}
    for each in found:
        if f"{home}/".startswith(f"{each.rstrip('/')}/"):
            return f"the interpreter is installed into {each} itself, which the sandbox would have to show"
    return tuple(sorted(found))


def _unused_user() -> int | None:
    """A user id that hardly anybody has, of those that this process may take; None when it has only its own."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        ranges = [tuple(map(int, line.split())) for line in file]
    start, _, count = max(ranges, key=lambda each: each[2])
    half = min(count, 1 << 31) // 2  # users of people and services are in the lower one
    return start + half + secrets.randbelow(half) if half else None
