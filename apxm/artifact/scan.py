"""Is this msgpack complete, shallow, small in number and plain? Looks at every byte once and builds no value.

A msgpack decoder allocates what the bytes claim before it has seen it: a few bytes can ask for gigabytes. So the payload
is walked first. What comes through is one whole value without trailing bytes, of known depth and count, without
extension types, NaN, infinities, numbers over 64 bits or keys that are no text.
"""

from __future__ import annotations

from itertools import repeat
from typing import NoReturn

from apxm.artifact.format import MAP_ENTRIES_MAX, NESTING_MAX, STRING_BYTES_MAX
from apxm.errors import ArtifactError

# Bytes of the values of fixed size that may hold any bits, head included: nil, false, true, integers.
_FIXED = {0xC0: 1, 0xC2: 1, 0xC3: 1, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}
_FLOAT, _UINT64 = 0xCB, 0xCF  # 9 bytes each
# Bytes that hold the length of text, bytes, a list, a map.
_TEXT = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_LIST = {0xDC: 2, 0xDD: 4}
_MAP = {0xDE: 2, 0xDF: 4}
_REFUSED = {0xC1: "a reserved byte", 0xCA: "a float of 32 bits"}


def scan(data: bytes, values_max: int) -> None:
    """Raise ArtifactError unless `data` is one plain value within the limits. Linear time, constant memory."""
    end, at = len(data), 0
    left, keyed = 1, False  # values to come in the innermost container, and whether it is a map (two for each entry)
    outer: list[tuple[int, bool]] = []
    for _ in repeat(None, values_max + 1):
        while not left:
            if not outer:
                _finish(at, end)
                return
            left, keyed = outer.pop()
        if at >= end:
            _fail("it ends in the middle of a value", at)
        head = data[at]
        left -= 1
        if 0xA0 <= head <= 0xBF:  # short text
            at += head - 0x9F
            continue
        if keyed and left & 1 and head not in _TEXT:
            _fail("a map key that is no text", at)
        if head < 0x80 or head >= 0xE0:  # small integer
            at += 1
        elif head in _FIXED:
            at += _FIXED[head]
        elif head < 0xA0 or head in _LIST or head in _MAP:
            count, is_map, size = _container(data, at, head)
            at += size
            if count:
                if len(outer) >= NESTING_MAX:
                    _fail(f"values nested deeper than {NESTING_MAX}", at)
                outer.append((left, keyed))
                left, keyed = count, is_map
        else:
            at += _leaf(data, at, head)
    _fail(f"more than {values_max} values", at)


def _finish(at: int, end: int) -> None:
    if at > end:
        _fail("it ends in the middle of a value", end)
    if at < end:
        _fail(f"{end - at} bytes after its end", at)


def _container(data: bytes, at: int, head: int) -> tuple[int, bool, int]:
    """Values in a list or map (two for each entry), whether it is a map, bytes of its head."""
    if head < 0xA0:
        is_map = head < 0x90
        return (head & 0x0F) * (2 if is_map else 1), is_map, 1
    is_map = head in _MAP
    width = (_MAP if is_map else _LIST)[head]
    count = int.from_bytes(data[at + 1 : at + 1 + width], "big")
    if is_map and count > MAP_ENTRIES_MAX:
        _fail(f"a map of {count} entries, more than {MAP_ENTRIES_MAX}", at)
    return count * (2 if is_map else 1), is_map, 1 + width


def _leaf(data: bytes, at: int, head: int) -> int:
    """Bytes of a value that holds no other values and is no small one."""
    if head == _FLOAT:
        if data[at + 1 : at + 2] in (b"\x7f", b"\xff") and data[at + 2 : at + 3] >= b"\xf0":
            _fail("a float that is no number or infinite", at)
        return 9
    if head == _UINT64:
        if data[at + 1 : at + 2] >= b"\x80":
            _fail("an integer over 64 bits", at)
        return 9
    width = _TEXT.get(head)
    if width is not None:
        length = int.from_bytes(data[at + 1 : at + 1 + width], "big")
        if length > STRING_BYTES_MAX:
            _fail(f"a text of {length} bytes, more than {STRING_BYTES_MAX}", at)
        return 1 + width + length
    width = _BYTES.get(head)
    if width is not None:
        return 1 + width + int.from_bytes(data[at + 1 : at + 1 + width], "big")
    raise ArtifactError(f"the payload has {_REFUSED.get(head, 'an extension type')} (0x{head:02x}), at byte {at}")


def _fail(what: str, at: int) -> NoReturn:
    raise ArtifactError(f"the payload has {what}, at byte {at}")
