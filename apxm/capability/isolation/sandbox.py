"""Where code that nobody vouches for runs: in bubblewrap, without network, beneath limits. Refuses where it cannot be isolated.

One Sandbox belongs to one CapabilitySystem; each call gets a fresh one of its own kind, which is gone when the call ends.
"""

from __future__ import annotations

import os
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from apxm.capability.calling.threads import Lane, outcome
from apxm.capability.isolation import enclosure
from apxm.capability.isolation.cell import RANGES, RESULT_MAX, Cell, Completed, Limits, NoSandbox
from apxm.capability.isolation.enclosure import INSTALL, SCRATCH, Enclosure
from apxm.errors import CapabilityError, DeniedError, InvalidError, ValueRefused
from apxm.values import check

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["RANGES", "RESULT_MAX", "Completed", "Limits", "Sandbox", "absence"]

GRACE_S = 3.0  # for a cancelled command to be gone
CLOSE_S = 3.0
LIMITS = Limits()
_PROBE = ["/bin/sh", "-c", "/bin/true & wait"]

# How an error says what ended a command.
_ENDS = {
    "timeout": "it ran longer than {wall_s} s",
    "memory": "it used more than {memory_mb} MB of memory",
    "cpu": "it used more than {cpu_s} s of processor time",
    "output": "it did not stop writing; {output_bytes} bytes of output are kept",
    "killed": "the runtime is closed",
}


class Sandbox:
    """Runs commands and Python code, each in a fresh sandbox with a scratch directory that goes with it."""

    def __init__(self, runs_max: int | None = None) -> None:
        self._lane = Lane("sandbox", runs_max or max(4, os.cpu_count() or 4))
        self._cells: set[Cell] = set()
        self._lock = Lock()
        self._closed = False

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        cwd: str = SCRATCH,
        limits: Limits = LIMITS,
        roots: Sequence[str] = (),
        name: str = "sandbox",
    ) -> Completed:
        """Run a program. `cwd` is an absolute directory inside; `roots` are directories that it may read (`DIR:rw`: and write).

        However the program ends is a value. Raises DeniedError with code `sandbox` where nothing can be isolated, and
        CapabilityError for a program that the kernel could not be asked for. Cancelled, it ends everything inside.
        """
        argv = list(argv)
        if not argv or not all(isinstance(each, str) and "\0" not in each for each in argv) or not argv[0]:
            raise InvalidError(f"{argv!r:.80} is no command", hint="a list of texts without NUL, the program first")
        enclosure.check_roots(roots)
        return await self._done(name, {"argv": argv, "cwd": cwd}, limits, stdin=stdin, roots=roots)

    async def evaluate(
        self, code: str, names: Mapping[str, Any], *, limits: Limits = LIMITS, name: str = "sandbox"
    ) -> tuple[Any, Completed]:
        """Run Python code with these variables; gives what it assigned to `result` (null when it did not), and how it went.

        Variables and result are JSON values. Raises CapabilityError for whatever the code raises, for a result that is no
        JSON value, and when a limit ended it; `run` says the rest.
        """
        request = {"code": code, "names": _sendable(names, name), "cwd": SCRATCH, "result_max": RESULT_MAX - 64}
        done = await self._done(name, request, limits, gives=True)
        refuse_ended(done, limits, name)
        return _result(done, name, limits), done

    def close(self) -> None:
        """End what is running; bounded and idempotent. Nothing can be run afterwards."""
        with self._lock:
            self._closed = True
            cells = list(self._cells)
        for cell in cells:
            cell.kill()
        self._lane.close(CLOSE_S)

    async def _done(self, name: str, request: dict[str, Any], limits: Limits, **more: Any) -> Completed:
        cell = Cell(request, limits, **more)
        job = self._lane.submit(name, lambda: self._run(cell, name))
        done: Completed = await outcome(self._lane, job, cell.kill, GRACE_S)
        return done

    def _run(self, cell: Cell, name: str) -> Completed:
        """On a thread of the lane."""
        found = _looked()
        if isinstance(found, str):
            raise _denied(found)
        with self._lock:
            if self._closed:
                raise CapabilityError(f"`{name}` cannot run: the runtime is closed")
            self._cells.add(cell)
        try:
            return cell.run(found)
        except NoSandbox as error:
            raise _denied(f"bubblewrap could not make one: {error}") from None
        finally:
            with self._lock:
                self._cells.discard(cell)


def absence() -> str | None:
    """Why nothing can be isolated on this machine; None when it can. Tries it out the first time: some milliseconds."""
    found = _looked()
    return found if isinstance(found, str) else None


@cache
def _looked() -> Enclosure | str:
    """How sandboxes are made here, tried out once; or why they are not."""
    found = enclosure.find()
    if isinstance(found, str):
        return found
    try:
        done = Cell({"argv": _PROBE, "cwd": SCRATCH}, Limits()).run(found)
    except NoSandbox as error:
        return f"bubblewrap cannot make a sandbox: {error}"
    return found if done.exit_code == 0 else f"nothing runs in the sandbox of bubblewrap: {done.stderr.strip()}"


def refuse_ended(done: Completed, limits: Limits, name: str) -> None:
    """CapabilityError when a limit ended the command, or when it was killed."""
    if done.reason in _ENDS:
        amounts = {field: getattr(limits, field) for field in (*RANGES, "wall_s")}
        text = f"`{name}` was ended: {_ENDS[done.reason].format(**amounts)}"
        raise CapabilityError(text, hint=_tail(done))


def _denied(reason: str) -> DeniedError:
    return DeniedError(f"code runs only in a sandbox, and there is none: {reason}", code="sandbox", hint=INSTALL)


def _sendable(names: Mapping[str, Any], whose: str) -> dict[str, Any]:
    for name, value in names.items():
        check(value, f"variable `{name}` of `{whose}`")
        odd = _odd(value)
        if odd is not None:
            raise InvalidError(
                f"variable `{name}` of `{whose}` holds a {odd}", hint="code takes JSON values: make it a list or text"
            )
    return dict(names)


def _odd(value: Any) -> str | None:
    """The type of something inside a value that JSON cannot say."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return None
    if isinstance(value, list):
        return next((found for item in value if (found := _odd(item)) is not None), None)
    if isinstance(value, dict):
        return next((found for item in value.values() if (found := _odd(item)) is not None), None)
    return type(value).__name__


def _result(done: Completed, name: str, limits: Limits) -> Any:
    """The result in what code wrote, which may be anything: one JSON document of three known forms, or an error."""
    told = _document(done.result)
    match told:
        case {"result": value, **more} if not more:
            try:
                check(value, f"`result` of `{name}`")
            except ValueRefused as error:
                raise CapabilityError(error.message, hint=error.hint) from None
            return value
        case {"refused": str(problem), **more} if not more:
            text = f"the result of `{name}` is no JSON value: {problem}"
            raise CapabilityError(text, hint="assign text, numbers, lists, maps, None")
        case {"error": {"type": str(kind), "message": str(message), "line": int() | None as line}, **more} if not more:
            raise _raised(name, kind, message, line, limits)
    if not done.result and done.exit_code:
        text = f"`{name}` ended its process with exit code {done.exit_code} before it gave a result"
        raise CapabilityError(text, hint=_tail(done))
    raise CapabilityError(f"`{name}` wrote something that is no result", hint="assign to `result`; leave other descriptors alone")


def _document(data: bytes) -> Any:
    import msgspec

    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def _raised(name: str, kind: str, message: str, line: int | None, limits: Limits) -> CapabilityError:
    place = "" if line is None else f" in line {line}"
    hint = f"it may use {limits.memory_mb} MB of memory" if kind == "MemoryError" else None
    return CapabilityError(f"the code of `{name}` raised {kind[:80]}{place}: {message[:4000]}".removesuffix(": "), hint=hint)


def _tail(done: Completed) -> str | None:
    """The end of what it said to stderr."""
    said = done.stderr.strip()[-400:]
    return f"stderr: {said}" if said else None
