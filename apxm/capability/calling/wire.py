"""What a worker process and its parent say to each other: msgpack frames over pipes. No pickle, no code."""

from __future__ import annotations

import socket
from errno import EAGAIN, EBUSY, ECONNABORTED, ECONNRESET, EHOSTUNREACH, EINTR, ENETDOWN, ENETUNREACH, ETIMEDOUT, EWOULDBLOCK
from types import NoneType
from typing import TYPE_CHECKING, Any

from apxm import errors
from apxm.errors import ApxmError, CapabilityError, ValueRefused
from apxm.values import pack, settle, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from io import RawIOBase

FRAME_MAX = 1 << 28  # bytes; more than this is a mistake, not a result: a process may make us hold three times as much
_HEAD = 8
_PIECE = 1 << 16  # what a pipe holds: memory grows with what came, not with what a head announces

_KINDS = ("timeout", "connection", "refused", "temporary", "other")
_TEMPORARY = frozenset(
    (EAGAIN, EBUSY, ECONNABORTED, ECONNRESET, EHOSTUNREACH, EINTR, ENETDOWN, ENETUNREACH, ETIMEDOUT, EWOULDBLOCK)
)


def send(stream: RawIOBase, frame: bytes) -> None:
    """Write one frame."""
    left = memoryview(len(frame).to_bytes(_HEAD, "big") + frame)
    while left:
        left = left[stream.write(left) :]


def receive(stream: RawIOBase) -> bytearray | None:
    """Read one frame; None at the end of the stream, or when what is there is no frame."""
    head = _exactly(stream, _HEAD)
    size = int.from_bytes(head or b"", "big")
    return None if head is None or size > FRAME_MAX else _exactly(stream, size)


def _exactly(stream: RawIOBase, size: int) -> bytearray | None:
    data = bytearray()
    while len(data) < size:
        piece = stream.read(min(_PIECE, size - len(data)))
        if not piece:
            return None
        data += piece
    return data


def request(call: bytes, target: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """What the parent sends: which function, and its arguments. `call` names the call, and its answer."""
    return _framed({"call": call, "target": target, "args": list(args), "kwargs": dict(kwargs)})


def success(call: bytes, value: Any) -> bytes:
    """What the worker answers when the function returned. ValueRefused when the result is no value."""
    return _framed({"call": call, "value": settle(value)})


def failure(call: bytes, error: BaseException, text: str) -> bytes:
    """What the worker answers when it raised; `text` is the traceback."""
    told: dict[str, Any] = {"name": type(error).__name__, "message": str(error), "text": text}
    if isinstance(error, ApxmError):
        told.update(ours=True, message=error.message, code=error.code, hint=error.hint)
    else:
        told["kind"] = kind_of(error)
    return pack({"call": call, "error": {key: _clean(value) for key, value in told.items()}})


def opened(frame: bytes | bytearray, call: bytes) -> dict[str, Any] | None:
    """The answer to a call; None when the frame is anything else: a function can write to the pipe what it likes."""
    try:
        told = unpack(frame)
    except ValueRefused:
        return None
    if type(told) is not dict or told.get("call") != call:
        return None
    return told if told.keys() == {"call", "value"} or _is_error(told.get("error")) else None


def _is_error(told: Any) -> bool:
    if type(told) is not dict or not all(type(told.get(name)) is str for name in ("name", "message", "text")):
        return False
    if not told.get("ours"):
        return told.get("kind") in _KINDS
    return told.get("code") in errors.CODES and type(told.get("hint")) in (str, NoneType)


def answer(told: dict[str, Any]) -> Any:
    """The value in an answer, or raises what the worker raised."""
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
