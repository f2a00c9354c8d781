"""What an event is as one line of JSON, and back. Bounded both ways; judges no run.

What a newer version wrote stays readable: a field that is not known is left out, an event that is not known becomes a Gap.
"""

from __future__ import annotations

import json
import math
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from apxm.errors import InvalidError
from apxm.observability.events import KINDS, Event, FrameOpened, Gap, to_map

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    Encode: TypeAlias = Callable[[dict[str, Any]], bytes]

LINE_BYTES_MAX = 4 * 2**20  # of one event; a run with thousands of model nodes ends with a line of some 1 MiB
TEXT_MAX = 16_384  # characters of a text in an event that would not fit otherwise
ITEMS_MAX = 1_000  # items of a list or map in such an event

_compact = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode


def encode(said: dict[str, Any]) -> bytes:
    """JSON by the standard library. ValueError, TypeError or RecursionError for what is none."""
    return _compact(said).encode()


def bulk_encoder() -> Encode:
    """Three times as fast as `encode`; to import it takes as long as to write some 2,000 lines."""
    import msgspec

    return msgspec.json.Encoder().encode


def line_of(event: Event, encode: Encode = encode) -> bytes:
    """The line of an event, with its end. What does not fit is cut; what even then does not is a Gap of one event."""
    said = to_map(event)
    try:
        line = encode(said) + b"\n"
        if len(line) <= LINE_BYTES_MAX:
            return line
    except (TypeError, ValueError, RecursionError):  # no JSON in `details` or `stats`, half a surrogate pair in a text
        pass
    line = encode(_modest(said)) + b"\n"
    return line if len(line) <= LINE_BYTES_MAX else line_of(Gap(event.seq, event.seq, seq=event.seq, at=event.at))


def _modest(value: Any, depth: int = 0) -> Any:
    """`value` as JSON of bounded size that any reader can decode."""
    match value:
        case None | bool():
            return value
        case int():
            return value if -(2**63) <= value < 2**63 else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case dict() if depth < 8:
            items = list(value.items())[:ITEMS_MAX]
            return {_modest(str(key), depth): _modest(item, depth + 1) for key, item in items}
        case list() | tuple() if depth < 8:
            return [_modest(item, depth + 1) for item in value[:ITEMS_MAX]]
    text = value if isinstance(value, str) else f"<{type(value).__name__}>"
    text = text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}… ({len(text):,} characters)"
    return text.encode("utf-8", "backslashreplace").decode()


def read(path: str | os.PathLike[str]) -> Iterator[Event]:
    """The events of a file, in order. InvalidError names the line that is none.

    A last line without its end is what a killed writer left: it is taken when it is whole, else left out.
    """
    try:
        with open(path, "rb") as file:
            number = 0
            while line := file.readline(LINE_BYTES_MAX + 1):
                number += 1
                if len(line) > LINE_BYTES_MAX:
                    raise damaged(path, number, f"it has more than {LINE_BYTES_MAX:,} bytes")
                try:
                    event = event_of(line)
                except ValueError as error:
                    if not line.endswith(b"\n"):
                        return
                    raise damaged(path, number, str(error)) from None
                yield event
    except OSError as error:
        raise InvalidError(f"cannot read {path}: {error.strerror or error}", code="record") from error


def damaged(path: str | os.PathLike[str], number: int, why: str) -> InvalidError:
    """The error for line `number` of a file."""
    return InvalidError(
        f"{path}, line {number}: {why}",
        code="record",
        hint="expected the events of a run, one JSON object per line, as `apxm run --events FILE` writes them",
    )


def event_of(line: bytes) -> Event:
    """The event in a line. ValueError says why it is none."""
    import msgspec

    try:
        head = _decoder("").decode(line)
        kind = KINDS.get(head.event)
        if kind is None:
            return Gap(head.seq, head.seq, seq=head.seq, at=head.at)
        if kind is FrameOpened:  # `to_map` leaves out a `total` of None
            return msgspec.convert({"total": None, **msgspec.json.decode(line)}, FrameOpened)
        event: Event = _decoder(head.event).decode(line)
        return event
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"it is no event: {error}") from None
    except RecursionError:
        raise ValueError("it is no event: nested too deeply") from None


@cache
def _decoder(kind: str) -> Any:
    """A decoder of one kind of event that checks every type; of what all lines have, without one."""
    import msgspec

    head = msgspec.defstruct("Head", [("event", str), ("seq", int, 0), ("at", float, 0.0)])
    return msgspec.json.Decoder(KINDS[kind] if kind else head)
