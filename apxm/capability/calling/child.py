"""A worker process: reads calls, runs them, writes results, until its parent closes the pipe. Started by process.py."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from io import FileIO
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from apxm.capability.calling import wire

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Serve on what were stdin and stdout; a function that prints or reads gets others."""
    calls, answers = FileIO(os.dup(0), "rb"), FileIO(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    frames: SimpleQueue[bytearray] = SimpleQueue()
    Thread(target=_listen, args=(calls, frames), daemon=True).start()
    functions: dict[str, Callable[..., Any]] = {}
    while True:
        wire.send(answers, _answer(frames.get(), functions))


def _listen(calls: FileIO, frames: SimpleQueue[bytearray]) -> None:
    """On a thread of its own, so that the end of the parent ends this process in the middle of a call too."""
    while (frame := wire.receive(calls)) is not None:
        frames.put(frame)
    os.killpg(0, signal.SIGKILL)  # this process leads its group: what it started goes with it


def _answer(frame: bytearray, functions: dict[str, Callable[..., Any]]) -> bytes:
    from apxm.values import unpack

    call = unpack(frame)
    asked = call["call"]
    try:
        target = call["target"]
        if target not in functions:
            functions[target] = _function(target)
        return wire.success(asked, functions[target](*call["args"], **call["kwargs"]))
    except BaseException as error:
        return wire.failure(asked, error, traceback.format_exc())
    finally:
        sys.stdout.flush()


def _function(target: str) -> Callable[..., Any]:
    module, _, path = target.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    function: Callable[..., Any] = found
    return function
