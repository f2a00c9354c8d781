"""Opening files beneath a directory and nowhere else: step by step from its descriptor, never through a symbolic link.

No path is ever resolved as a whole, so that nothing changes between a check and its use: swapping a directory for a link
meanwhile makes the next step fail. Hard links cannot be told from files; whoever can make one could have copied the file.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from apxm.errors import CapabilityError, DeniedError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STEPS_MAX = 100
_STEP = os.O_RDONLY | os.O_DIRECTORY


def candidates(path: str, roots: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """(root, steps) for every granted root that the path may mean, in order; DeniedError when it leaves them all."""
    if not isinstance(path, str) or "\0" in path or not path.strip():
        raise InvalidError(f"{path!r:.80} is no path")
    if os.path.isabs(path):
        within = [
            (root, path[len(root.rstrip("/")) :]) for root in roots if f"{path.rstrip('/')}/".startswith(f"{root.rstrip('/')}/")
        ]
        if not within:
            raise DeniedError(f"{path!r} is not beneath a granted directory", hint=f"granted: {', '.join(roots)}")
    else:
        within = [(root, path) for root in roots]
    return [(root, _steps(rest, path)) for root, rest in within]


def _steps(rest: str, path: str) -> tuple[str, ...]:
    steps = tuple(step for step in rest.split("/") if step not in ("", "."))
    if ".." in steps:
        raise DeniedError(f"{path!r} has a `..`", hint="write the path from the granted directory downwards")
    if len(steps) > STEPS_MAX:
        raise InvalidError(f"{path!r:.80} has more than {STEPS_MAX} steps")
    return steps


@contextmanager
def root_directory(root: str) -> Iterator[int]:
    """The descriptor of a granted directory. The host chose it: it may itself be reached through links."""
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise CapabilityError(f"the granted directory {root} cannot be opened: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def directory(root: str, steps: Sequence[str], *, create: bool = False) -> Iterator[int]:
    """The descriptor of a directory beneath a root; with `create` it and those above it are made."""
    with root_directory(root) as top:
        here = os.dup(top)
        try:
            for place, step in enumerate(steps):
                if create:
                    _make(step, here)
                below = open_step(step, here, _STEP, steps[: place + 1])
                os.close(here)
                here = below
            yield here
        finally:
            os.close(here)


def open_step(name: str, parent: int, flags: int, steps: Sequence[str], mode: int = 0o666) -> int:
    """Open one entry of an open directory. FileNotFoundError stays itself; the other errors say what is in the way."""
    try:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=parent)
    except FileNotFoundError:
        raise
    except OSError as error:
        shown = "/".join(steps)
        if _is_link(name, parent):
            raise DeniedError(f"{shown!r} is a symbolic link; links are not followed") from None
        raise CapabilityError(f"{shown!r} cannot be opened: {error.strerror}") from error


def open_regular(name: str, parent: int, flags: int, steps: Sequence[str]) -> int:
    """Open a regular file; what blocks or has effects when opened (a pipe, a device) is refused."""
    descriptor = open_step(name, parent, flags | os.O_NONBLOCK | os.O_NOCTTY, steps)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CapabilityError(f"{'/'.join(steps)!r} is no regular file")
    return descriptor


def _make(name: str, parent: int) -> None:
    try:
        os.mkdir(name, dir_fd=parent)
    except FileExistsError:
        pass
    except OSError as error:
        raise CapabilityError(f"the directory {name!r} cannot be made: {error.strerror}") from error


def _is_link(name: str, parent: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except OSError:
        return False
