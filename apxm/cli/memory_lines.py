"""Entries of long-term memory as JSON Lines: a header, then one line each, without loss. Opens no store."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from apxm.errors import ApxmError, InvalidError
from apxm.memory.ltm.entry import Put
from apxm.values import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from apxm.memory.ltm.entry import Entry

VERSION = 1
LINE_BYTES_MAX = 256 * 1024 * 1024  # of one line: what is longer is no entry, and would only fill the memory of this process
_MARK = "apxm_memory"
_PLAIN = (type(None), bool, int, float, str)


# ---- writing ---------------------------------------------------------------------------------------------------------
def header_line(embedder: Mapping[str, Any] | None) -> str:
    """The first line: the version of the form, and the fingerprint of the embedder whose vectors the store has."""
    return _said({_MARK: VERSION, "embedder": embedder})


def entry_line(entry: Entry) -> str:
    """One entry. Its value is there as JSON, or where JSON cannot say it as the base64 of its packed bytes."""
    value = {"value": entry.value} if _is_json(entry.value) else {"packed": b64encode(pack(entry.value)).decode("ascii")}
    said = {
        "namespace": entry.namespace,
        "kind": entry.kind,
        "key": entry.key,
        **value,
        "text": entry.text,
        "metadata": dict(entry.metadata),
        "labels": list(entry.labels),
        "created_at": entry.created_at,
        "updated_at": entry.updated_at,
        "expires_at": entry.expires_at,
    }
    return _said(said)


def _said(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _is_json(value: Any) -> bool:
    """Whether JSON brings the value back as it was: there are no bytes, arrays or tensors in it."""
    if isinstance(value, list | dict):
        return all(map(_is_json, value.values() if isinstance(value, dict) else value))
    return isinstance(value, _PLAIN)


# ---- reading ---------------------------------------------------------------------------------------------------------
class Line(NamedTuple):
    """One line of a file: its number, how many bytes it has, the entry it tells of."""

    number: int
    size: int
    put: Put


def read(file: IO[bytes]) -> Iterator[Line]:
    """The entries of a file. InvalidError, with the number of its line, for the first thing that is wrong."""
    lines = _lines(file)
    number, first = next(lines, (1, b""))
    _header(number, first)
    for number, line in lines:
        yield Line(number, len(line), _put(number, line))


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            raise _wrong(number, f"is longer than {LINE_BYTES_MAX:,} bytes")
        if line.strip():
            yield number, line


def _header(number: int, line: bytes) -> None:
    hint = "`apxm memory export` writes files that can be imported"
    try:
        said = _object(number, line)
    except InvalidError as error:
        raise InvalidError(f"{error.message}, and no header of exported memory", hint=hint) from None
    if _MARK not in said:
        raise _wrong(number, "is no header of exported memory", hint)
    if type(said[_MARK]) is not int or said[_MARK] != VERSION:
        raise _wrong(number, f"is of version {said[_MARK]!r:.40} of this form, expected {VERSION}", "is this apxm older?")
    if set(said) != {_MARK, "embedder"} or not isinstance(said["embedder"], dict | None):
        raise _wrong(number, f"is a header with {_names(said)}, expected `{_MARK}` and `embedder`", hint)


_FIELDS = {"namespace", "kind", "key", "text", "metadata", "labels", "created_at", "updated_at", "expires_at"}


def _put(number: int, line: bytes) -> Put:
    said = _object(number, line)
    if set(said) - {"value", "packed"} != _FIELDS or ("value" in said) == ("packed" in said):
        names = ", ".join(f"`{name}`" for name in sorted(_FIELDS))
        raise _wrong(number, f"has {_names(said)}, expected {names}, and `value` or `packed`")
    _expect(number, "metadata", said["metadata"], isinstance(said["metadata"], dict), "a map")
    _expect(number, "labels", said["labels"], isinstance(said["labels"], list), "a list of texts")
    for name in ("created_at", "updated_at", "expires_at"):
        none = name == "expires_at" and said[name] is None
        _expect(number, name, said[name], none or type(said[name]) in (int, float), "Unix time in seconds")
    put = Put(
        said["namespace"],
        said["key"],
        _value(number, said),
        said["text"],
        said["kind"],
        said["metadata"],
        tuple(said["labels"]),
        said["expires_at"],
        said["created_at"],
        said["updated_at"],
    )
    try:
        put.check()
    except ApxmError as error:
        raise _wrong(number, f"cannot be stored: {error.message}", error.hint) from None
    return put


def _value(number: int, said: Mapping[str, Any]) -> Any:
    if "value" in said:
        return said["value"]
    try:
        return unpack(b64decode(said["packed"], validate=True))
    except (ValueError, TypeError) as error:
        raise _wrong(number, f"has `packed` that is no base64: {error}") from None
    except ApxmError as error:
        raise _wrong(number, f"has `packed` that is no value: {error.message}") from None


def _object(number: int, line: bytes) -> dict[str, Any]:
    try:
        said = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _wrong(number, f"is no UTF-8: {error.reason} at byte {error.start:,}") from None
    except json.JSONDecodeError as error:
        raise _wrong(number, f"is no JSON: {error.msg} at character {error.pos + 1:,}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, lists within lists
        raise _wrong(number, f"is no JSON that can be read: {error}") from None
    if not isinstance(said, dict):
        raise _wrong(number, "is no JSON object")
    return said


def _expect(number: int, name: str, value: Any, holds: bool, expected: str) -> None:
    if not holds:
        raise _wrong(number, f"has `{name}` {value!r:.60}, expected {expected}")


def _names(said: Mapping[str, Any]) -> str:
    names = ", ".join(f"`{name:.40}`" for name in sorted(said)[:12])
    return names or "nothing in it"


def _wrong(number: int, what: str, hint: str | None = None) -> InvalidError:
    return InvalidError(f"line {number:,} {what}", hint=hint)
