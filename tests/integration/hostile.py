"""Tools that do not want to end. Each writes a line to the file `note` once it is at it. Worker processes import this module."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

FOREVER_S = 600
_STOPPING = [number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD)]


def _deaf() -> None:
    for number in _STOPPING:
        try:
            signal.signal(number, signal.SIG_IGN)
        except OSError:  # some belong to the C library
            continue


def _ready(note: str) -> None:
    with open(note, "a") as file:
        file.write("at it\n")


def _stay() -> NoReturn:
    while True:
        time.sleep(FOREVER_S)


def _forked(then: Callable[[], Any], own_session: bool) -> None:
    if os.fork() == 0:
        if own_session:
            os.setsid()
        _deaf()
        then()
        os._exit(0)


def _orphaned(then: Callable[[], Any]) -> None:
    """What a daemon does: in a session of its own, with no parent that is left."""

    def again() -> None:
        _forked(then, own_session=True)

    _forked(again, own_session=True)


def ignore_signals(note: str) -> None:
    _deaf()
    _ready(note)
    _stay()


def fork(note: str) -> None:
    for _ in range(5):
        _forked(_stay, own_session=False)
    _ready(note)
    _stay()


def become_daemons(note: str) -> None:
    for _ in range(3):
        _orphaned(_stay)
    _ready(note)
    _stay()


def leave_daemons_and_exit(note: str) -> None:
    """The worker itself is gone, and what it left holds the pipe of its answers open."""
    _orphaned(_stay)
    _ready(note)
    os._exit(3)


def hop(note: str) -> None:
    """Never the same process for long: a chain in which every process starts the next one and ends."""

    def go_on() -> NoReturn:
        while True:
            if os.fork():
                os._exit(0)
            os.setsid()

    _forked(go_on, own_session=True)
    _ready(note)
    _stay()


def swarm(note: str) -> None:
    """Some fifty processes in a tree, each in a session of its own, that start those anew which are gone."""

    def grow(levels: int) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        while True:
            for _ in range(3):
                if levels:
                    _forked(lambda: grow(levels - 1), own_session=True)
            if not levels:
                _stay()
            for _ in range(3):
                os.wait()

    _forked(lambda: grow(3), own_session=True)
    _ready(note)
    _stay()


def spin(note: str) -> None:
    _deaf()
    _ready(note)
    while True:
        pass


def spin_in_c(note: str) -> None:
    """No byte code in between: no Python signal handler would ever run."""
    _ready(note)
    sum(range(10**15))


def flood_output(note: str) -> None:
    _ready(note)
    while True:
        os.write(1, b"x" * 65_536)
        os.write(2, b"x" * 65_536)


def _answer_pipes() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            if number > 2 and stat.S_ISFIFO(os.fstat(number).st_mode):
                os.set_blocking(number, True)
                os.write(number, b"")
                found.append(number)
        except OSError:
            continue
    return found


def flood_answers(note: str) -> None:
    """Announces a frame of the largest size, and keeps sending."""
    pipes = _answer_pipes()
    for number in pipes:
        os.write(number, (1 << 28).to_bytes(8, "big"))
    _ready(note)
    while True:
        for number in pipes:
            os.write(number, bytes(65_536))


def trickle_an_answer(note: str) -> None:
    for number in _answer_pipes():
        os.write(number, (100).to_bytes(8, "big") + b"x")
    _ready(note)
    _stay()


def forge_an_answer(note: str) -> str:
    """A frame too many: the next call must not take it for its own."""
    import msgpack

    frame = msgpack.packb({"call": b"12345678", "value": "forged"})
    for number in _answer_pipes():
        os.write(number, len(frame).to_bytes(8, "big") + frame)
    _ready(note)
    return "honest"


def answer_rubbish(note: str) -> str:
    for number in _answer_pipes():
        os.write(number, (6).to_bytes(8, "big") + b"\x81\xa1a\xa1b\x00")
    _ready(note)
    return "honest"


def hold_memory(note: str) -> None:
    held = bytearray(256 * 1024 * 1024)
    for at in range(0, len(held), 4096):
        held[at] = 1
    _ready(note)
    _stay()


def close_the_pipes(note: str) -> None:
    _ready(note)
    os.closerange(0, 1024)
    _stay()


def stop_itself(note: str) -> None:
    _ready(note)
    os.kill(os.getpid(), signal.SIGSTOP)


def stop_the_supervisor(note: str) -> None:
    """And leave a daemon behind."""
    _orphaned(_stay)
    os.kill(os.getppid(), signal.SIGSTOP)
    _ready(note)
    _stay()


def signal_everybody(note: str) -> None:
    """What a careless tool does to clean up: whoever is in its group, and its parent, politely."""
    _deaf()
    _orphaned(_stay)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
        os.kill(0, number)
        os.kill(os.getppid(), number)
    _ready(note)
    _stay()


def use_a_shell(note: str) -> None:
    script = "trap '' TERM INT HUP; setsid sh -c \"trap '' TERM; sleep 600 & sleep 601\" & nohup sleep 602 >/dev/null 2>&1 & wait"
    subprocess.Popen(["sh", "-c", script])
    _ready(note)
    _stay()


def pid() -> int:
    return os.getpid()


TOOLS = (
    *(ignore_signals, fork, become_daemons, hop, swarm, spin, spin_in_c, flood_output, trickle_an_answer, hold_memory),
    *(stop_itself, stop_the_supervisor, signal_everybody, use_a_shell),
)
# These end by themselves, or their process is ended for what it did; the run fails before anybody can cancel it.
ENDING = (leave_daemons_and_exit, close_the_pipes, flood_answers)


def serve(tool: str, note: str) -> None:
    """A runtime of its own that calls a tool, for a test that kills it."""
    from apxm import CapabilityRecord, Runtime, flow, step

    with Runtime() as runtime:
        fn = getattr(sys.modules[__name__], tool)
        runtime.capability_system().register("tool", CapabilityRecord("Hostile.", fn, run="process", effect="read"))
        runtime.execute(flow(lambda: step.inv("tool", note=note, name="call"), name="f"))
