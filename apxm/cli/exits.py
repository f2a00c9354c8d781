"""Exit codes: one per failure class, so that a script can tell what to do next. Never anything but the number."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apxm.errors import ApxmError


class Exit(IntEnum):
    """What the process ends with. 128 + n is what a shell reports for a process that signal n ended."""

    OK = 0
    INTERNAL = 1
    INVALID = 2
    DENIED = 3
    BUDGET = 4
    DEADLINE = 5
    TRANSIENT = 6
    FATAL = 7
    UNKNOWN = 8
    INTERRUPTED = 130
    PIPE = 141
    TERMINATED = 143


# The sentence that the command line reference prints for each.
MEANING: dict[Exit, str] = {
    Exit.OK: "the command did what it was asked to",
    Exit.INTERNAL: "a bug in apxm; `APXM_DEBUG=1` shows the traceback",
    Exit.INVALID: "the command line, a file, a graph, an artifact, a parameter or a value is not valid",
    Exit.DENIED: "something was not granted",
    Exit.BUDGET: "a budget is exhausted",
    Exit.DEADLINE: "the deadline of the run or the timeout of a node passed",
    Exit.TRANSIENT: "a failure that may not happen again, after every safe retry; try again later",
    Exit.FATAL: "a node failed and nothing handled it",
    Exit.UNKNOWN: "an effect may or may not have happened; look before you try again",
    Exit.INTERRUPTED: "Ctrl-C: the run was cancelled, its partial result is printed",
    Exit.PIPE: "whoever read standard output went away",
    Exit.TERMINATED: "SIGTERM: the run was cancelled, its partial result is printed",
}


def exit_code(error: ApxmError) -> Exit:
    """The exit code of an error: that of its class, except that our own bugs have their own."""
    if error.code == "internal":
        return Exit.INTERNAL
    if error.failure.name == "CANCELLED":
        return Exit.INTERRUPTED
    return Exit[error.failure.name]
