"""Starts bubblewrap, and ends what it made when whoever asked for it is gone. Runs nothing of the command itself.

bubblewrap can end with its parent, but for some milliseconds its child waits for it, and one that is orphaned then waits for
ever. So bubblewrap gets this process as a parent, which nothing ends, and is never killed: what is beneath it is. Orphans
come here too, and are collected: not everything that is process 1 of a machine does that. Its text is given to a fresh
interpreter by cell.py: standard library only.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress

_PAUSE_MS = 5  # between two looks at what is left
_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def main() -> None:
    """`guard HELD LINE...`: run the command line as long as somebody has the other end of the pipe HELD; end as it does."""
    held, line = int(sys.argv[1]), sys.argv[2:]
    with suppress(ImportError):  # an interpreter without libffi
        import ctypes

        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    pid = os.posix_spawn(line[0], line, {}, setsigdef=[signal.SIGPIPE, signal.SIGXFSZ])
    made, ready = os.pidfd_open(pid), select.poll()
    ready.register(made, select.POLLIN)
    ready.register(held, 0)  # reports only that the other end is closed
    wait_ms = None
    while made not in dict(ready.poll(wait_ms)):
        if wait_ms is None:
            ready.unregister(held)
            wait_ms = _PAUSE_MS
        end(beneath(pid))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(ChildProcessError):
        while True:
            end(beneath(os.getpid()))
            os.waitpid(-1, 0)
    os._exit(code if code >= 0 else 128 - code)


def end(processes: list[int]) -> None:
    """Kill them."""
    for one in processes:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def beneath(pid: int) -> list[int]:
    """The children of a process, and theirs."""
    found = [pid]
    for one in found:  # grows as it goes
        with suppress(OSError), open(f"/proc/{one}/task/{one}/children", encoding="ascii") as file:
            found += map(int, file.read().split())
    return found[1:]


if __name__ == "__main__":
    main()
