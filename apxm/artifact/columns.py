"""Packed columns: what a dag has many of, as little-endian integers in bytes, so that loading is copying."""

from __future__ import annotations

import itertools
import sys
from array import array
from itertools import chain, groupby, repeat
from operator import ne
from typing import TYPE_CHECKING, Any

from apxm.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

UINT, INT64 = "I", "q"  # array codes: slots, edges, offsets are 32 bits; node ids and milliseconds 64
assert array(UINT).itemsize == 4
assert array(INT64).itemsize == 8


def pack(code: str, values: Iterable[int]) -> bytes:
    """Integers as little-endian bytes."""
    column = array(code, values)
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()


def unpack(code: str, data: bytes, count: int | None, what: str) -> array[int]:
    """The integers in `data`; ArtifactError unless there are `count` of them."""
    column = array(code)
    if len(data) % column.itemsize or (count is not None and len(data) != count * column.itemsize):
        expected = f"{count} times " if count is not None else "a multiple of "
        raise ArtifactError(f"{what}: a column of {len(data)} bytes, expected {expected}{column.itemsize}")
    column.frombytes(data)
    if sys.byteorder == "big":
        column.byteswap()
    return column


def repeated(counts: list[int]) -> array[int]:
    """0 as often as the first count says, 1 as often as the second, and so on: the target of every in-edge, from in-degrees.

    Where many neighbours have the same count, their entries are laid out a column at a time.
    """
    changes = sum(map(ne, counts, counts[1:]))
    if changes * 16 > len(counts):
        return array(UINT, chain.from_iterable(map(repeat, range(len(counts)), counts)))
    column, first = array(UINT), 0
    for count, alike in groupby(counts):
        run = len(list(alike))
        numbers, part = array(UINT, range(first, first + run)), array(UINT, bytes(4 * count * run))
        for place in range(count):
            part[place::count] = numbers
        column += part
        first += run
    return column


def all_below(lower: array[int], upper: array[int]) -> bool:
    """Whether every entry of one UINT column is below that of the other, both below 2**31.

    All entries are compared at once, as lanes of one large integer: with the top bit of each lane set before subtracting,
    no lane borrows from the next one, and the bit stays where the difference is not negative. Comparing one by one took
    three times as long, a third of loading a dag of 100,000 nodes.
    """
    count = len(lower)
    top = int.from_bytes(b"\0\0\0\x80" * count, "little")
    small, large = (int.from_bytes(column.tobytes(), sys.byteorder) for column in (lower, upper))
    if (small | large) & top:
        return False
    ones = top >> 31
    return ((large | top) - small - ones) & top == top


def pack_texts(texts: Mapping[int, str]) -> list[Any]:
    """A sparse column of texts: the distinct ones, the indexes that have one, and which one each has."""
    table: dict[str, int] = {}
    indexes = sorted(texts)
    which = [table.setdefault(texts[index], len(table)) for index in indexes]
    return [list(table), pack(UINT, indexes), pack(UINT, which)]


def unpack_texts(data: Sequence[Any], limit: int, what: str) -> dict[int, str]:
    """A sparse column of texts; ArtifactError unless indexes grow, stay below `limit`, and every text is used."""
    table, packed_indexes, packed_which = fields(data, (list, bytes, bytes), what)
    indexes = unpack(UINT, packed_indexes, None, what).tolist()
    which = unpack(UINT, packed_which, len(indexes), what).tolist()
    if not all(type(text) is str and text for text in table) or len(set(table)) != len(table):
        raise ArtifactError(f"{what}: expected distinct texts that are not empty")
    check_growing(indexes, limit, what)
    if set(which) != set(range(len(table))):
        raise ArtifactError(f"{what}: uses texts that are not there, or not all that are")
    return dict(zip(indexes, map(table.__getitem__, which)))


def fields(data: Any, types: tuple[type, ...], what: str) -> Sequence[Any]:
    """`data` as a list of values of exactly these types."""
    if type(data) is not list or tuple(map(type, data)) != types:
        raise ArtifactError(f"{what}: expected a list of {', '.join(kind.__name__ for kind in types)}")
    return data


def check_growing(indexes: Sequence[int], limit: int, what: str) -> None:
    """ArtifactError unless `indexes` are strictly growing and below `limit`."""
    if indexes and (indexes[-1] >= limit or any(a >= b for a, b in itertools.pairwise(indexes))):
        raise ArtifactError(f"{what}: indexes must grow and stay below {limit}")
