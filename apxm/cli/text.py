"""Values and text as a person or a script reads them. Never lets a control sequence of a program reach a terminal."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from apxm.values import plain

if TYPE_CHECKING:
    from collections.abc import Iterable

# C0 and C1 control characters but for tab and newline: a program's text may not move the cursor or set a title. Lone surrogates
# too, which a shell passes on for bytes that are no text: they cannot be printed.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """`text` with control characters shown as escapes."""
    return _CONTROL.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def line(text: str, width: int) -> str:
    """`text` on one line of at most `width` characters."""
    flat = printable(" ".join(text.split()))
    return flat if len(flat) <= width else flat[: max(width - 1, 0)] + "…"


def as_json(value: Any, *, indent: int | None = 2) -> str:
    """JSON text of any value a run can give."""
    return json.dumps(plain(value), indent=indent, ensure_ascii=False)


def as_text(value: Any) -> str:
    """A text as it stands, anything else as JSON: on one line unless there are lists or maps inside it."""
    if isinstance(value, str):
        return value
    said = plain(value)
    items = said.values() if isinstance(said, dict) else said if isinstance(said, list) else ()
    return as_json(said, indent=2 if any(isinstance(item, (dict, list)) for item in items) else None)


def duration(seconds: float) -> str:
    """A duration with two or three meaningful digits: `3 ms`, `1.25 s`, `2 m 05 s`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} m"


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 node`, `3 nodes`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def spelling(word: str, known: Iterable[str]) -> str:
    """A hint for a name that is not there: the nearest right spelling, else what there is, up to ten."""
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean `{near[0]}`?"
    more = ", …" if len(names) > 10 else ""
    return f"there are: {', '.join(f'`{name}`' for name in names[:10])}{more}" if names else "there are none"
