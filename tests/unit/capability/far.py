"""Functions that worker processes of the tests import. Not a test module."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from apxm.errors import DeniedError, TransientError


def double(value: Any) -> Any:
    return [value, value]


def pid() -> int:
    return os.getpid()


def talk() -> str:
    print("this goes to stderr and not into the answer")
    return sys.stdin.read()


def hang(note: str | None = None) -> None:
    """Never return; first write the ids of this process and of a child of its own into the named pipe `note`."""
    if note is not None:
        child = os.fork()
        if child == 0:
            time.sleep(600)
            os._exit(0)
        Path(note).write_text(f"{os.getpid()} {child}")
    time.sleep(600)


def fail(kind: str) -> None:
    raise {
        "value": ValueError("no good \ud800"),
        "timeout": TimeoutError("too slow"),
        "refused": ConnectionRefusedError("nobody there"),
        "denied": DeniedError("not yours", hint="ask"),
        "transient": TransientError("later"),
        "exit": SystemExit(3),
    }[kind]


def die(code: int) -> None:
    os._exit(code)


def no_value() -> Any:
    return {1, 2}


class Holder:
    @staticmethod
    def inside(value: int) -> int:
        return value + 1


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave_orphans(count: int) -> list[int]:
    """Processes whose parent is gone; they end when nobody holds the other end of their pipe. Gives their ids."""
    reader, writer = os.pipe()
    told, tell = os.pipe()
    for _ in range(count):
        if os.fork() == 0:
            if os.fork() == 0:
                os.write(tell, os.getpid().to_bytes(4, "big"))
                os.close(writer)
                os.read(reader, 1)
            os._exit(0)
        os.wait()
    os.close(reader)
    return [int.from_bytes(os.read(told, 4), "big") for _ in range(count)]
