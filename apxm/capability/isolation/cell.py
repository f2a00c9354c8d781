"""One command in a sandbox of its own: started, fed, watched, ended. Blocks the thread that runs it; any other may end it.

bubblewrap makes the sandbox and waits; what runs in it is the child of a process that is number 1 of its own process
name space, and when that one ends, the kernel ends everything inside, whatever it ignores and wherever it hid. A guard
(guard.py) sees to it when this process ends in the middle. What a limit of the kernel cannot say (memory and time of all
processes together) is looked at every few milliseconds.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import inf
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from apxm.capability.calling.supervisor import descendants
from apxm.capability.isolation import seccomp
from apxm.capability.isolation.enclosure import WRITABLE, people, split
from apxm.capability.isolation.pipes import Kept, Pipes
from apxm.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from apxm.capability.isolation.enclosure import Enclosure

Reason: TypeAlias = Literal["exit", "signal", "timeout", "memory", "cpu", "output", "killed"]

REQUEST_MAX = 64 << 20  # bytes of JSON: code and variables, or a command
RESULT_MAX = 16 << 20  # bytes of JSON that code may give
FLOOD = 64 << 20  # bytes of output; a command that writes more is ended
START_S = 10.0  # for bubblewrap to make a sandbox
END_S = 2.0  # for it to go once all that it watched is gone
TICK_S = 0.05
_PIECE = 1 << 16
_MIB = 1 << 20
_INODE = 2048  # bytes of memory that a file takes at least, with its name
_PAGE, _CLOCK = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one command may use. `memory_mb` and `cpu_s` hold for each process and for all of them together.

    Files that it writes to its own places are memory and count as such.
    """

    memory_mb: int = 512
    cpu_s: int = 10
    processes: int = 64  # and threads
    output_bytes: int = 1 << 20  # kept of stdout and of stderr; the rest is dropped
    file_mb: int = 64  # the largest file, and the room in each place that can be written to
    open_files: int = 256
    wall_s: float | None = 30.0  # None: no limit of its own

    def __post_init__(self) -> None:
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise InvalidError(f"the limit {name} is {value!r:.40}, expected a whole number from {least} to {most}")
        if self.wall_s is not None and not self.wall_s > 0:
            raise InvalidError(f"the limit wall_s is {self.wall_s!r:.40}, expected seconds above 0, or None")


RANGES: Mapping[str, tuple[int, int]] = {
    "memory_mb": (32, 65_536),
    "cpu_s": (1, 86_400),
    "processes": (4, 4_096),
    "output_bytes": (1, 32 << 20),
    "file_mb": (1, 65_536),
    "open_files": (16, 65_536),
}


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended. A code above 128 is 128 and the number of a signal, as a shell says it.

    `reason` is `exit` or `signal` when it ended by itself, else what ended it.
    """

    exit_code: int
    stdout: str
    stderr: str
    reason: Reason
    truncated: bool  # something of stdout or stderr was dropped
    result: bytes = b""  # what code wrote to its result; nobody has looked at it


class NoSandbox(Exception):
    """bubblewrap could not make the sandbox; the message is its own."""


class Cell:
    """One command: `run` on a thread, `kill` from anywhere."""

    def __init__(
        self,
        request: Mapping[str, Any],
        limits: Limits,
        *,
        stdin: bytes = b"",
        roots: Sequence[str] = (),
        gives: bool = False,
    ) -> None:
        """`request` is what inside.py reads, without what is decided here; with `gives` it has a result."""
        self._request, self._limits, self._roots = request, limits, roots
        self._stdin, self._gives = stdin, gives
        self._lock = Lock()
        self._first: int | None = None  # descriptor of process 1 inside
        self._reason: Reason | None = None

    def kill(self, reason: Reason = "killed") -> None:
        """End it and everything inside; `run` then returns. The first reason counts."""
        with self._lock:
            self._reason = self._reason or reason
            if self._first is not None:
                _end(self._first)

    def run(self, enclosure: Enclosure) -> Completed:
        """From beginning to end; NoSandbox when there was none. However the command ends is a value."""
        with Pipes() as pipes:
            return self._run(enclosure, pipes)

    def _run(self, enclosure: Enclosure, pipes: Pipes) -> Completed:
        process, told, (hold, ask, request) = self._start(enclosure, pipes)
        try:
            pid = _announced(pipes, told)
            if pid is not None:
                first = self._born(pid)
                try:
                    pipes.watch(first)
                    os.write(hold, b"x")
                    pipes.feed(ask, request)
                    self._watch(pipes, told, pid)
                finally:
                    self._bury(first)
        finally:
            pipes.shut(hold)  # the guard ends whatever is left
            code = _collected(process)
        pipes.drain()
        unmade = self._reason is None and b'"exit-code"' not in told.status.data and told.err.data.startswith(b"bwrap: ")
        if pid is None or unmade:
            raise NoSandbox(told.err.text().strip() or f"bubblewrap ended with exit code {code}")
        return _completed(told, code, self._reason)

    # ---- start -------------------------------------------------------------------------------------------------------
    def _start(self, enclosure: Enclosure, pipes: Pipes) -> tuple[subprocess.Popen[bytes], _Told, tuple[int, int, bytes]]:
        """Everything up to the request, which is sent to what is born: should this process end before, nothing is done.

        bubblewrap gets the other end of what it says, too: that nobody listens must not end it while its child waits.
        """
        user, kept = enclosure.user(), self._limits.output_bytes
        calls, names = pipes.file(seccomp.program(alone=bool(self._roots)) or b""), pipes.file(people(user))
        request = self._asked(user)
        (asked, ask), (held, hold), (said, say), (outs, out), (errs, err) = (pipes.pipe() for _ in range(5))
        results, result = pipes.pipe() if self._gives else (-1, -1)
        room = self._limits.file_mb * _MIB
        line = enclosure.command(self._roots, room, status=say, block=held, calls=calls, people=names)
        python = [enclosure.python, "-I", "-S", "-B", "-c"]
        line = [*python, _text("guard"), str(held), *line, "--", *python, _text("inside"), str(asked), str(result)]
        typed, type_ = pipes.pipe() if self._stdin else (subprocess.DEVNULL, -1)
        theirs = [asked, held, say, calls, names, *([result] if self._gives else [])]
        shared = [*theirs, said]
        try:
            process = subprocess.Popen(
                line,
                stdin=typed,
                stdout=out,
                stderr=err,
                env={},
                cwd="/",
                pass_fds=shared,
                start_new_session=True,  # a Ctrl-C at the terminal is for us
            )
        except OSError as error:
            raise NoSandbox(f"{enclosure.program}: {error.strerror}") from error
        pipes.shut(*theirs, out, err, *([typed] if self._stdin else []))
        if self._stdin:
            pipes.feed(type_, self._stdin)
        answer = pipes.keep(results, RESULT_MAX) if self._gives else Kept(0)
        told = _Told(pipes.keep(said, _PIECE), pipes.keep(outs, kept), pipes.keep(errs, kept), answer)
        return process, told, (hold, ask, request)

    def _asked(self, user: int | None) -> bytes:
        """What inside.py reads: what to do, as whom, with which limits."""
        limits, memory, file = self._limits, self._limits.memory_mb * _MIB, self._limits.file_mb * _MIB
        processes = limits.processes + (user is None)  # process 1 counts where it is the same user
        most = {
            "RLIMIT_CORE": (0, 0),
            "RLIMIT_DATA": (memory, memory),
            "RLIMIT_CPU": (limits.cpu_s, limits.cpu_s + 1),
            "RLIMIT_FSIZE": (file, file),
            "RLIMIT_NOFILE": (limits.open_files, limits.open_files),
            "RLIMIT_NPROC": (processes, processes),
            "RLIMIT_MEMLOCK": (0, 0),
        }
        writable = [*WRITABLE, *(place for place, can_write in map(split, self._roots) if can_write)]
        asked = json.dumps({**self._request, "user": user, "limits": most, "writable": writable}).encode()
        if len(asked) > REQUEST_MAX:
            text = f"{len(asked)} bytes are too much for a sandbox: code and values as JSON"
            raise InvalidError(text, hint=f"at most {REQUEST_MAX}")
        return asked

    # ---- process 1 ---------------------------------------------------------------------------------------------------
    def _born(self, pid: int) -> int:
        """Process 1 is there, and waits. Its id cannot be another's yet, and its descriptor never will."""
        with self._lock:
            self._first = os.pidfd_open(pid)
            if self._reason is not None:
                _end(self._first)
            return self._first

    def _watch(self, pipes: Pipes, told: _Told, pid: int) -> None:
        """Until process 1 is gone, and with it everything inside."""
        limits, now = self._limits, monotonic()
        until, look = now + (inf if limits.wall_s is None else limits.wall_s), now + TICK_S
        while not pipes.step(max(0.0, min(look, until) - monotonic())):
            now = monotonic()
            if now >= until:
                self.kill("timeout")
                until = inf
            elif told.flooded:
                self.kill("output")
            elif now >= look:
                if reason := excess(pid, limits):
                    self.kill(reason)
                look = monotonic() + TICK_S

    def _bury(self, first: int) -> None:
        """End what is left, if anything is, and forget process 1."""
        _end(first)
        gone = select.poll()
        gone.register(first, select.POLLIN)
        gone.poll(END_S * 1e3)
        with self._lock:
            self._first = None
        os.close(first)


class _Told(NamedTuple):
    """What comes out: what bubblewrap says of its work, both outputs of the command, the result of code."""

    status: Kept
    out: Kept
    err: Kept
    result: Kept

    @property
    def flooded(self) -> bool:
        """Something goes on and on."""
        return self.out.seen + self.err.seen > FLOOD or self.result.cut


def _announced(pipes: Pipes, told: _Told) -> int | None:
    """The process id of process 1, as bubblewrap says it; None when it does not."""
    until = monotonic() + START_S
    while b"\n" not in told.status.data:
        if told.status.ended or monotonic() > until:
            return None
        pipes.step(TICK_S)
    return int(json.loads(told.status.data.split(b"\n")[0])["child-pid"])


def _collected(process: subprocess.Popen[bytes]) -> int:
    """The exit code of the guard, which is that of bubblewrap, which is that of the command."""
    try:
        return process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _completed(told: _Told, code: int, reason: Reason | None) -> Completed:
    code = code if code >= 0 else 128 - code
    if reason is None and code > 128:
        reason = "cpu" if code == 128 + signal.SIGXCPU else "signal"
    truncated = told.out.cut or told.err.cut
    return Completed(code, told.out.text(), told.err.text(), reason or "exit", truncated, bytes(told.result.data))


def _end(first: int) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(first, signal.SIGKILL)


# ---- what all processes inside use together --------------------------------------------------------------------------
def excess(pid: int, limits: Limits) -> Literal["memory", "cpu"] | None:
    """Which limit the processes beneath `pid` have passed together, if any."""
    inside, most = descendants(pid), limits.memory_mb * _MIB - _written(pid)
    if sum(map(_resident, inside)) > most and sum(map(_share, inside)) > most:
        return "memory"
    return "cpu" if sum(map(_cpu_s, inside)) > limits.cpu_s else None


def _written(pid: int) -> int:
    """Bytes that files take where the processes can write: all of that is memory, and each file more than what is in it."""
    with suppress(OSError):
        if os.path.samefile(f"/proc/{pid}/root", "/"):
            return 0  # they are not enclosed yet: what is at these places is what the machine has there
    total = 0
    for place in WRITABLE:
        with suppress(OSError):
            room = os.statvfs(f"/proc/{pid}/root{place}")
            total += (room.f_blocks - room.f_bfree) * room.f_frsize + (room.f_files - room.f_ffree) * _INODE
    return total


def _resident(pid: int) -> int:
    """Bytes in memory, those shared with others too: quick to read."""
    with suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
    return 0


def _share(pid: int) -> int:
    """Bytes in memory, of what is shared only its part."""
    with suppress(OSError, StopIteration, ValueError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines()
        return int(next(line for line in lines if line.startswith(b"Pss:")).split()[1]) * 1024
    return 0


def _cpu_s(pid: int) -> float:
    """Seconds of processor time, those of its children that ended too."""
    with suppress(OSError, IndexError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return sum(map(int, fields[11:15])) / _CLOCK
    return 0.0


@cache
def _text(name: str) -> str:
    """A module of ours as a program for an interpreter that has none of them."""
    return files("apxm.capability.isolation").joinpath(f"{name}.py").read_text(encoding="utf-8")
