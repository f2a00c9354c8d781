"""One long-term memory for each folder of a process, however many runtimes use it: a folder has one owner."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from apxm.memory.ltm.system import LongTermMemory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeAlias

    from apxm.config import MemoryConfig
    from apxm.memory.embed.base import Embedder

    Key: TypeAlias = tuple[int, str, Embedder | None, Callable[[], float]]  # process, folder, what makes vectors, clock

_lock = threading.Lock()
_open: dict[Key, tuple[LongTermMemory, int]] = {}  # with how many use it
_closing: dict[Key, threading.Event] = {}  # set when it is closed


def join(folder: Path, config: MemoryConfig, clock: Callable[[], float]) -> LongTermMemory:
    """The memory of this folder, made when nobody in this process uses it yet; `leave` it in the end.

    Who comes later gets the one that is there, with the bounds it was made with; another embedder or clock makes another memory,
    which may read and, while the first is in use, not write.
    """
    key = (os.getpid(), os.path.realpath(folder), config.embedder, clock)
    while True:
        with _lock:
            closing = _closing.get(key)
            if closing is None:
                memory, users = _open.get(key) or (LongTermMemory(lambda: folder, config, clock=clock), 0)
                _open[key] = memory, users + 1
                return memory
        closing.wait()  # who joins now must find the folder free


def leave(memory: LongTermMemory) -> None:
    """Use it no more; who is the last closes it."""
    with _lock:
        key = next((key for key, (one, _) in _open.items() if one is memory), None)
        if key is None:
            return
        users = _open[key][1]
        if users > 1:
            _open[key] = memory, users - 1
            return
        del _open[key]
        closed = _closing[key] = threading.Event()
    try:
        memory.close()
    finally:
        with _lock:
            del _closing[key]
        closed.set()
