"""The tool `bash`: one command in the sandbox, with a scratch directory that is new for each call and gone after it."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from apxm.capability.isolation.enclosure import SCRATCH, split
from apxm.capability.isolation.sandbox import Limits, refuse_ended
from apxm.capability.record import CapabilityRecord
from apxm.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apxm.capability.isolation.sandbox import Sandbox

LIMITS = Limits(cpu_s=60, wall_s=None)  # the time of the call is limited from outside
TIMEOUT_MS = 120_000
_SHELL = ["/bin/sh", "-c", 'if [ -x /bin/bash ]; then exec /bin/bash -c "$1"; else exec /bin/sh -c "$1"; fi', "sh"]


def records(sandbox: Sandbox) -> dict[str, CapabilityRecord]:
    """The tool, working in this sandbox. Guarded: a directory that was granted for writing is the world."""
    text = "Run a command or a shell script in a sandbox: no network, a new scratch directory, granted directories."
    return {"bash": CapabilityRecord(text, _bash(sandbox), rooted="optional", gives=True, timeout_ms=TIMEOUT_MS)}


def _bash(sandbox: Sandbox) -> Callable[..., Any]:
    async def bash(command: str | list[str], cwd: str = ".", stdin: str = "", *, roots: tuple[str, ...] = ()) -> dict[str, Any]:
        """Gives {exit_code, stdout, stderr, truncated}; an exit code other than 0 is no failure of the call.

        Args:
            command: text for the shell, or a program and its arguments as a list
            cwd: where to run it: relative to the scratch directory, or a granted directory or one beneath
            stdin: what it can read
        """
        argv = [*_SHELL, command] if isinstance(command, str) else command
        done = await sandbox.run(argv, stdin=_encoded(stdin), cwd=_place(cwd, roots), limits=LIMITS, roots=roots, name="bash")
        refuse_ended(done, LIMITS, "bash")
        return {"exit_code": done.exit_code, "stdout": done.stdout, "stderr": done.stderr, "truncated": done.truncated}

    return bash


def _place(cwd: str, roots: Sequence[str]) -> str:
    """An absolute directory inside; InvalidError for one that the command has no business in."""
    place = posixpath.normpath(posixpath.join(SCRATCH, cwd))
    allowed = [SCRATCH, *(split(root)[0] for root in roots)]
    if "\0" in place or not any(f"{place}/".startswith(f"{each}/") for each in allowed):
        raise InvalidError(f"{cwd!r:.80} is no place for a command", hint=f"a directory beneath {', '.join(allowed)}")
    return place


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidError(f"stdin is not Unicode: {error.reason} at {error.start}") from None
