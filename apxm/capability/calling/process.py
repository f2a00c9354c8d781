"""Worker processes for calls that must be killed when their time is up. Each belongs to one thread of a lane.

On Linux a worker has a supervisor (supervisor.py), which ends the worker and whatever it started, wherever that went. On
other systems the worker's process group is killed.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from secrets import token_bytes
from threading import Lock, local
from typing import TYPE_CHECKING, Any

from apxm.capability.calling import wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The path of imports is the parent's as it is now, so that what the parent can import the worker can too.
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1])"
_SUPERVISE = "from apxm.capability.calling.supervisor import supervise; supervise(int(sys.argv[2]))"  # with little to fork
_SERVE = "from apxm.capability.calling.child import main; main()"


_SUPERVISED = sys.platform == "linux"
_PROGRAM = "; ".join([_BOOT, _SUPERVISE, _SERVE] if _SUPERVISED else [_BOOT, _SERVE])
_END_S = 2.0  # for a supervisor to end everything; it takes some milliseconds, and gives up after a second


class ProcessDied(Exception):
    """A worker process ended in the middle of a call."""


class Child:
    """One worker process, and all that comes from it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._lock = Lock()
        self._collected = False

    @property
    def alive(self) -> bool:
        """Whether it can be asked: it has not ended, and has not said anything that nobody wants to hear."""
        if self._collected or self._process.poll() is not None:
            return False
        heard = select.poll()
        heard.register(self._process.stdout, select.POLLIN)  # type: ignore[arg-type]
        return not heard.poll(0)

    def ask(self, frame: bytes) -> bytearray:
        """Send a call and wait for the answer; ProcessDied when there is none."""
        try:
            wire.send(self._process.stdin, frame)  # type: ignore[arg-type]  # unbuffered
            answer = wire.receive(self._process.stdout)  # type: ignore[arg-type]
        except OSError:
            answer = None
        except BaseException:  # in the middle of a frame: what follows is no answer to anything
            self.close()
            raise
        if answer is None:
            raise ProcessDied(self._ended())
        return answer

    def kill(self) -> None:
        """End it and everything that came from it. `ask` then raises, when that is done."""
        with self._lock:
            if not self._collected:  # so long nobody else can have its id
                with suppress(ProcessLookupError):
                    if _SUPERVISED:
                        os.kill(self.pid, signal.SIGTERM)
                        os.kill(self.pid, signal.SIGCONT)  # should the worker have stopped it
                    else:
                        os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill it and collect what is left of it."""
        if not self._collected:
            self._ended()

    def _ended(self) -> str:
        self.kill()
        with self._lock:
            self._collected = True
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what was still to be written has no reader
                stream.close()  # type: ignore[union-attr]
        return f"by signal {-code}" if code < 0 else f"with exit code {code}"


class Crew:
    """The worker processes of one lane, one for each of its threads, started at the first call there."""

    def __init__(self) -> None:
        self._here = local()
        self._children: set[Child] = set()
        self._lock = Lock()

    def child(self) -> Child:
        """The process of this thread; a new one when there is none or it died."""
        child: Child | None = getattr(self._here, "child", None)
        if child is None or not child.alive:
            self.leave()
            child = self._here.child = Child()
            with self._lock:
                self._children.add(child)
        return child

    def leave(self) -> None:
        """End the process of this thread."""
        child: Child | None = getattr(self._here, "child", None)
        if child is not None:
            self._here.child = None
            child.close()
            with self._lock:
                self._children.discard(child)

    def kill(self) -> None:
        """End all of them, whatever they do."""
        with self._lock:
            for child in self._children:
                child.kill()


class ProcessCall:
    """One call in a worker process: `run` on a thread of the lane, `kill` from anywhere."""

    def __init__(self, crew: Crew, target: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._crew = crew
        self._name = token_bytes(8)
        self._frame = wire.request(self._name, target, args, kwargs)
        self._lock = Lock()
        self._child: Child | None = None
        self._killed = False

    def run(self) -> Any:
        """The function's value, or raises what it raised; ProcessDied when its process ended."""
        child = self._crew.child()
        with self._lock:
            if self._killed:
                raise ProcessDied("before the call began")
            self._child = child
        try:
            frame = child.ask(self._frame)
        finally:
            with self._lock:
                self._child = None
                killed = self._killed
            if killed:  # perhaps a moment after its answer: it must not serve the next call
                self._crew.leave()
        told = wire.opened(frame, self._name)
        if told is None:
            self._crew.leave()
            raise ProcessDied("because it wrote something that is no answer")
        return wire.answer(told)

    def kill(self) -> None:
        """End the process, if it is at this call."""
        with self._lock:
            self._killed = True
            if self._child is not None:
                self._child.kill()
