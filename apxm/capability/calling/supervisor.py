"""Watches one worker process and ends all that ever came from it. Linux. Never runs a capability, never decides when to end.

A worker's group can be killed at once, but a program leaves its group with one call of setsid, and its parent by forking
twice. So the process that the runtime starts stays behind as a supervisor: orphans beneath it become its children, and it
is done only when it has none. It ends with its worker, when it is asked to (SIGTERM), and with the runtime.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
from contextlib import suppress
from glob import glob
from pathlib import Path
from time import monotonic
from typing import NoReturn

END_S = 1.0  # for the processes to go; one that the kernel does not let go, or that is another user's, is left to it
_HEARD = {signal.SIGTERM, signal.SIGCHLD}
_PAUSE_MS = 2  # between two looks at what is left
_SET_PDEATHSIG, _SET_DUMPABLE, _SET_CHILD_SUBREAPER = 1, 4, 36  # <linux/prctl.h>


def supervise(runtime: int) -> None:
    """Return in a new process, the worker; the process that called stays here until everything is gone, and ends like it."""
    _bind_to(runtime, signal.SIGTERM)
    _prctl(_SET_CHILD_SUBREAPER, 1)
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in _HEARD:
        signal.signal(number, lambda *_: None)
    # Whatever the runtime's thread had blocked: these come through. What the tool may send besides does nothing.
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals() - _HEARD)
    supervisor = os.getpid()
    worker = os.fork()
    if worker:
        os.close(1)  # when the worker is gone, nobody can answer
        _Watch(worker, woken).until_the_end()
    signal.set_wakeup_fd(-1)
    for number in _HEARD:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.close(woken)
    os.close(wake)
    _bind_to(supervisor, signal.SIGKILL)
    os.setsid()  # a signal to its own group must not reach the supervisor
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # when memory runs out, the kernel takes this one first


class _Watch:
    def __init__(self, worker: int, woken: int) -> None:
        self._worker, self._woken = worker, woken
        self._status: int | None = None  # of the worker, once it ended
        self._poll = select.poll()
        self._poll.register(woken, select.POLLIN)

    def until_the_end(self) -> NoReturn:
        try:
            self._wait()
            self._end_all()
        finally:
            self._leave()

    def _wait(self) -> None:
        """Until the worker ended, SIGTERM came, or nobody holds the other end of its calls any more."""
        self._poll.register(0, 0)  # reports only that the writer is gone
        while self._status is None:
            for descriptor, _ in self._poll.poll():
                if descriptor == 0 or signal.SIGTERM in self._signals():
                    return
            self._reap()

    def _end_all(self) -> None:
        self._poll.unregister(0)
        until = monotonic() + END_S
        while monotonic() < until:
            for pid in descendants(os.getpid()):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            if not self._reap():
                return
            if self._poll.poll(_PAUSE_MS):
                self._signals()

    def _signals(self) -> bytes:
        with suppress(BlockingIOError):
            return os.read(self._woken, 512)
        return b""

    def _reap(self) -> bool:
        """Collect what ended; False when there is no child left."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self._worker:
                    self._status = status
        return False

    def _leave(self) -> NoReturn:
        """End the way the worker did, so that the runtime can say how that was."""
        code = os.waitstatus_to_exitcode(self._status) if self._status is not None else -signal.SIGKILL
        if code < 0:
            with suppress(OSError):  # not for SIGKILL
                signal.signal(-code, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [-code])
            _prctl(_SET_DUMPABLE, 0)  # one core is enough
            os.kill(os.getpid(), -code)
        os._exit(code & 0xFF)


def descendants(pid: int) -> list[int]:
    """The processes beneath a process, outer ones first. Those that are started meanwhile may be missing."""
    found = [pid]
    for one in found:  # grows as it goes
        for name in glob(f"/proc/{one}/task/*/children"):
            with suppress(OSError):
                found += map(int, Path(name).read_bytes().split())
    return found[1:]


def _bind_to(parent: int, end: signal.Signals) -> None:
    """Get the signal `end` when the thread of `parent` that started this process ends."""
    _prctl(_SET_PDEATHSIG, end)
    if os.getppid() != parent:  # it ended before
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
