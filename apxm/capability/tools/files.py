"""The tools `read`, `list` and `write`: text files beneath granted directories, symbolic links never followed."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Sequence  # noqa: TC003  (hints of capabilities are read at run time)
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from apxm.capability.record import CapabilityRecord
from apxm.capability.tools.beneath import STEPS_MAX, candidates, directory, open_regular, open_step
from apxm.errors import ApxmError, CapabilityError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

TEXT_MAX = 4 * 1024 * 1024  # bytes that one `read` gives
SCAN_MAX = 256 * 1024 * 1024  # bytes that it reads to get to `offset`
WRITE_MAX = 64 * 1024 * 1024
LIST_MAX = 10_000  # files that one `list` gives
VISIT_MAX = 1_000_000  # entries that it looks at
PATTERNS_MAX = 64


def read(path: str, offset: int = 0, limit: int | None = None, *, roots: tuple[str, ...]) -> str:
    """Read a text file.

    Args:
        path: relative to a granted directory, or absolute beneath one
        offset: lines to leave out at the beginning
        limit: lines to give at most
    """
    if offset < 0 or (limit is not None and limit < 0):
        raise InvalidError(f"offset {offset} and limit {limit} count lines from 0 upwards")
    for root, steps in _within(path, roots):
        with suppress(FileNotFoundError), directory(root, steps[:-1]) as parent:
            descriptor = open_regular(steps[-1], parent, os.O_RDONLY, steps)
            with open(descriptor, "rb") as file:
                return _decoded(_lines(file, path, offset, limit), path)
    raise CapabilityError(f"there is no file {path!r}", hint=f"looked beneath {', '.join(roots)}")


def list_files(
    path: str = ".",
    patterns: list[str] | None = None,
    recursive: bool = True,
    limit: int | None = None,
    hidden: bool = False,
    *,
    roots: tuple[str, ...],
) -> list[str]:
    """List files, sorted. With one granted directory their paths are relative to it, with several absolute: `read` takes both.

    Args:
        path: the directory to look into
        patterns: which files, such as `*.md`; one with a `/` is compared with the path from `path`, others with the name
        recursive: also look into the directories below
        limit: give at most so many, the first ones
        hidden: also give what begins with a dot
    """
    if limit is not None and limit < 0:
        raise InvalidError(f"limit {limit} is below 0")
    wanted = _matcher(["*"] if patterns is None else patterns)
    found: list[str] = []
    looked = False
    for root, steps in candidates(path, roots):
        prefix = "/".join(steps) if len(roots) == 1 else os.path.join(root, *steps)
        with suppress(FileNotFoundError), directory(root, steps) as top:
            looked = True
            found += [os.path.join(prefix, below) for below in _walk(top, recursive, hidden) if wanted(below)]
    if not looked:
        raise CapabilityError(f"there is no directory {path!r}", hint=f"looked beneath {', '.join(roots)}")
    found.sort()
    if limit is None and len(found) > LIST_MAX:
        raise CapabilityError(
            f"{len(found)} files are too many", hint=f"narrow `patterns` or `path`, or give a limit; at most {LIST_MAX}"
        )
    return found if limit is None else found[: min(limit, LIST_MAX)]


def write(path: str, content: str, append: bool = False, *, roots: tuple[str, ...]) -> dict[str, Any]:
    """Write a text file; gives {path, bytes}. Missing directories are made. Readers see the old text or the new one.

    Args:
        path: relative to the first granted directory, or absolute beneath one
        content: the text
        append: add it at the end instead; readers may then see a part
    """
    try:
        data = content.encode()
    except UnicodeEncodeError as error:
        raise InvalidError(f"the content for {path!r} is not Unicode: {error.reason} at {error.start}") from None
    if len(data) > WRITE_MAX:
        raise InvalidError(f"the content for {path!r} has {len(data)} bytes, at most {WRITE_MAX} are written")
    root, steps = _within(path, roots)[0]
    with directory(root, steps[:-1], create=True) as parent:
        try:
            (_append if append else _replace)(parent, steps, data)
        except OSError as error:
            raise CapabilityError(f"{path!r} cannot be written: {error.strerror}") from error
    return {"path": path, "bytes": len(data)}


@cache
def records() -> Mapping[str, CapabilityRecord]:
    """The tools of this module, described once: a runtime registers copies.

    `write` is guarded: it takes the place of what was there, and an appended text is there twice.
    """
    tools: tuple[tuple[str, str, Callable[..., Any], str], ...] = (
        ("read", "Read a text file beneath a granted directory, whole or some of its lines.", read, "read"),
        ("list", "List the files beneath a granted directory that match patterns.", list_files, "read"),
        ("write", "Write or extend a text file beneath a granted directory.", write, "guarded"),
    )
    made = {name: CapabilityRecord(text, fn, effect=effect, rooted=True, gives=True) for name, text, fn, effect in tools}
    return MappingProxyType(made)


def _within(path: str, roots: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    found = candidates(path, roots)
    if not found[0][1] or path.endswith("/"):
        raise InvalidError(f"{path!r} names a directory, expected a file")
    return found


# --- reading ----------------------------------------------------------------------------------------------------------


def _lines(file: Any, path: str, offset: int, limit: int | None) -> bytes:
    scanned = 0
    for _ in range(offset):
        line = file.readline(SCAN_MAX)
        scanned += len(line)
        if not line:
            return b""
        if scanned >= SCAN_MAX:
            raise CapabilityError(f"line {offset} of {path!r} is further than {SCAN_MAX} bytes into it")
    if limit is None:
        data: bytes = file.read(TEXT_MAX + 1)
    else:
        data = b"".join(_some(file, limit))
    if len(data) > TEXT_MAX:
        raise CapabilityError(
            f"{path!r} has more text than the {TEXT_MAX} bytes that one read gives", hint="use offset and limit"
        )
    return data


def _some(file: Any, limit: int) -> Iterator[bytes]:
    size = 0
    for _ in range(limit):
        line = file.readline(TEXT_MAX + 1)
        size += len(line)
        if line:
            yield line
        if not line or size > TEXT_MAX:
            return


def _decoded(data: bytes, path: str) -> str:
    if b"\0" in data:
        raise CapabilityError(f"{path!r} is binary: byte {data.index(0)} is NUL", hint="only text files are read")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        where = f"0x{data[error.start]:02x} in line {line} of what was read"
        raise CapabilityError(f"{path!r} is not UTF-8: {error.reason} {where}", hint="only text files are read") from None


# --- listing ----------------------------------------------------------------------------------------------------------


def _matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    if not patterns or len(patterns) > PATTERNS_MAX or any(len(pattern) > 256 for pattern in patterns):
        raise InvalidError(f"{len(patterns)} patterns, expected 1 to {PATTERNS_MAX} of at most 256 characters")
    names = [pattern for pattern in patterns if "/" not in pattern]
    paths = [pattern for pattern in patterns if "/" in pattern]
    paths += [pattern[3:] for pattern in paths if pattern.startswith("**/")]  # `**/` also stands for no directory at all

    def wanted(below: str) -> bool:
        name = below.rpartition("/")[2]
        return any(fnmatchcase(name, pattern) for pattern in names) or any(fnmatchcase(below, pattern) for pattern in paths)

    return wanted


def _walk(top: int, recursive: bool, hidden: bool) -> Iterator[str]:
    """Regular files beneath an open directory, as relative paths. Links are left out, and names that are not UTF-8."""
    visited = 0
    pending: list[tuple[str, ...]] = [()]
    while pending:
        steps = pending.pop()
        for name, is_file in _entries(top, steps):
            visited += 1
            if visited > VISIT_MAX:
                raise CapabilityError(f"more than {VISIT_MAX} entries", hint="list a directory further down")
            if (name.startswith(".") and not hidden) or not _is_text(name):
                continue
            if is_file:
                yield "/".join((*steps, name))
            elif recursive and len(steps) < STEPS_MAX:
                pending.append((*steps, name))


def _entries(top: int, steps: tuple[str, ...]) -> list[tuple[str, bool]]:
    """(name, is a file) of the files and directories in a directory; nothing when it went away, or became a link, meanwhile."""
    here = os.dup(top)
    try:
        for step in steps:
            below = open_step(step, here, os.O_RDONLY | os.O_DIRECTORY, steps)
            os.close(here)
            here = below
        with os.scandir(here) as entries:
            kinds = [(each.name, each.is_file(follow_symlinks=False), each.is_dir(follow_symlinks=False)) for each in entries]
    except (OSError, ApxmError):
        return []
    finally:
        os.close(here)
    return [(name, is_file) for name, is_file, is_directory in kinds if is_file or is_directory]


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- writing ----------------------------------------------------------------------------------------------------------


def _replace(parent: int, steps: Sequence[str], data: bytes) -> None:
    """A new file beside the old one, then one rename: it never follows a link, and leaves all of one or all of the other."""
    name = steps[-1]
    mode = _mode_of(name, parent, steps)
    beside = f".apxm-{secrets.token_hex(8)}.tmp"
    descriptor = open_step(beside, parent, os.O_WRONLY | os.O_CREAT | os.O_EXCL, steps)
    try:
        try:
            if mode is not None:
                os.fchmod(descriptor, mode)
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(beside, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside, dir_fd=parent)
        raise
    os.fsync(parent)


def _append(parent: int, steps: Sequence[str], data: bytes) -> None:
    descriptor = open_regular(steps[-1], parent, os.O_WRONLY | os.O_APPEND | os.O_CREAT, steps)
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mode_of(name: str, parent: int, steps: Sequence[str]) -> int | None:
    """The permissions of the file to replace; None when there is none yet."""
    try:
        there = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(there.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(there.st_mode) else "no regular file"
        raise CapabilityError(f"{'/'.join(steps)!r} is {kind}; it is not replaced")
    return stat.S_IMODE(there.st_mode) & 0o777


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
