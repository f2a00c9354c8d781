"""Keeps what freed memory still holds out of files. Knows nothing of indexes.

HNSW files are written as they lie in memory, with the places that nothing was written to yet: what was there before, perhaps a
vector that was deleted, went to disk with them. Blocks of up to 1 KiB, which glibc hands on at once, are not filled.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PERTURB = -6  # of mallopt, glibc: fill what is allocated and what is freed
_FILLING = 0xA5

_lock = Lock()
_users = 0


@contextmanager
def overwritten() -> Iterator[None]:
    """While the block runs, memory that is allocated or freed is filled first. Does nothing where the C library cannot."""
    global _users
    fill = _mallopt()
    if fill is None:
        yield
        return
    with _lock:
        _users += 1
        fill(_PERTURB, _FILLING)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                fill(_PERTURB, 0)


@cache
def _mallopt() -> Callable[[int, int], int] | None:
    import ctypes

    return getattr(ctypes.CDLL(None), "mallopt", None)
