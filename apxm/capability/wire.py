"""What a worker process and its parent say to each other: msgpack frames over pipes. No pickle, no code."""

from __future__ import annotations

import socket
from errno import EAGAIN, EBUSY, ECONNABORTED, ECONNRESET, EHOSTUNREACH, EINTR, ENETDOWN, ENETUNREACH, ETIMEDOUT, EWOULDBLOCK
from typing import IO, TYPE_CHECKING, Any

from apxm import errors
from apxm.errors import ApxmError, CapabilityError, ValueRefused
from apxm.values import pack, settle, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FRAME_MAX = 1 << 30  # bytes; more than this is a mistake, not a result
_HEAD = 8

_TEMPORARY = frozenset(
    (EAGAIN, EBUSY, ECONNABORTED, ECONNRESET, EHOSTUNREACH, EINTR, ENETDOWN, ENETUNREACH, ETIMEDOUT, EWOULDBLOCK)
)


def send(stream: IO[bytes], frame: bytes) -> None:
    """Write one frame."""
    stream.write(len(frame).to_bytes(_HEAD, "big"))
    stream.write(frame)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """Read one frame; None at the end of the stream, or when what is there is no frame."""
    head = stream.read(_HEAD)
    size = int.from_bytes(head, "big")
    if len(head) < _HEAD or size > FRAME_MAX:
        return None
    frame = stream.read(size)
    return frame if len(frame) == size else None


def request(target: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """What the parent sends: which function, and its arguments."""
    return _framed({"target": target, "args": list(args), "kwargs": dict(kwargs)})


def success(value: Any) -> bytes:
    """What the worker answers when the function returned. ValueRefused when the result is no value."""
    return _framed({"value": settle(value)})


def failure(error: BaseException, text: str) -> bytes:
    """What the worker answers when it raised; `text` is the traceback."""
    told: dict[str, Any] = {"name": type(error).__name__, "message": str(error), "text": text}
    if isinstance(error, ApxmError):
        told.update(ours=True, message=error.message, code=error.code, hint=error.hint)
    else:
        told["kind"] = kind_of(error)
    return pack({"error": {key: _clean(value) for key, value in told.items()}})


def answer(frame: bytes) -> Any:
    """The value in an answer, or raises what the worker raised."""
    told = unpack(frame)
    if "value" in told:
        return told["value"]
    raise _rebuilt(told["error"])


def kind_of(error: BaseException) -> str:
    """`timeout` or `connection` (whether it arrived is open), `refused` (it did not), `temporary`, or `other`."""
    if isinstance(error, RemoteFailure):
        return error.kind
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ConnectionRefusedError) or (isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN):
        return "refused"
    if isinstance(error, ConnectionError):
        return "connection"
    if isinstance(error, OSError) and error.errno in _TEMPORARY:
        return "temporary"
    return "other"


class RemoteFailure(Exception):
    """What a function raised in a worker process: its name, its message, its traceback as text."""

    def __init__(self, name: str, message: str, kind: str, text: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name, self.kind = name, kind
        self.add_note(text)


def _rebuilt(told: dict[str, Any]) -> Exception:
    remote = RemoteFailure(told["name"], told["message"], told.get("kind", "other"), told["text"])
    if not told.get("ours"):
        return remote
    known = getattr(errors, told["name"], CapabilityError)
    plain = isinstance(known, type) and issubclass(known, ApxmError) and known.__init__ is ApxmError.__init__
    rebuilt = (known if plain else CapabilityError)(told["message"], code=told["code"], hint=told["hint"])
    rebuilt.__cause__ = remote
    return rebuilt


def _framed(value: Any) -> bytes:
    frame = pack(value)
    if len(frame) > FRAME_MAX:
        raise ValueRefused(f"{len(frame)} bytes are too much for a worker process", hint=f"at most {FRAME_MAX}; pass a file name")
    return frame


def _clean(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
