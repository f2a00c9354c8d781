"""A record with its index, as the tests of upkeep use them: real files, and an embedder of few dimensions."""

from __future__ import annotations

import os
import random
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from apxm.memory.embed.hashing import HashingEmbedder
from apxm.memory.ltm.entry import Put, entry_id
from apxm.memory.ltm.record import Record
from apxm.memory.ltm.upkeep import Upkeep

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from apxm.memory.embed.base import Embedder

DIMENSION = 32
WORDS = ["river", "stone", "lamp", "garden", "winter", "copper", "signal", "harbour", "violin", "engine", "meadow", "ledger"]


class Store:
    """A folder of memory that this process has for itself."""

    def __init__(self, folder: Path, embedder: Embedder | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.embedder = embedder or HashingEmbedder(DIMENSION)
        self.record = Record(folder)
        self.upkeep = Upkeep(folder, self.record, self.embedder)

    def put(self, keys: Iterable[str], *, namespace: str = "default", text: str = "", embedded: bool = True) -> list[str]:
        """Store a text under each key, by default one of its own; the ids."""
        puts = [Put(namespace, key, key, text or text_for(key)) for key in keys]
        vectors = self.embedder.embed([put.text for put in puts]) if embedded else [None] * len(puts)
        rows = [(put, None if vector is None else vector.tobytes()) for put, vector in zip(puts, vectors, strict=True)]
        return [entry.id for entry in self.record.write(rows, [])]

    def delete(self, keys: Iterable[str], *, namespace: str = "default") -> None:
        self.record.write([], [entry_id(namespace, "entry", key) for key in keys])

    def nearest(self, text: str, k: int, *, namespace: str = "default") -> list[str]:
        """The ids that the index gives, the nearest first."""
        served = self.upkeep.served()
        assert served is not None
        return [id for id, _ in served[0].nearest(namespace, self.embedder.embed_query(text), k)]

    def close(self) -> None:
        self.upkeep.close()
        self.record.close()

    def again(self) -> Store:
        """Closed, and opened as the next process would."""
        self.close()
        return Store(self.folder, self.embedder)

    def left_open(self) -> Store:
        """Opened again after nothing was closed properly: as after the death of the process, in one process."""
        served = self.upkeep.served()
        if served is not None:
            served[0].close()
        self.record.close()
        return Store(self.folder, self.embedder)


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder in memory where the machine has such: these tests make many small databases, and wait for a disk all the time."""
    memory = "/dev/shm"
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        folder = Path(name) / "memory"
        folder.mkdir(mode=0o700)
        yield folder


def before_a_fork() -> None:
    """Let no thread of ours be inside of SQLite while a test forks: what it locks there stays locked in the child."""
    for thread in threading.enumerate():
        if thread.name in ("apxm-ltm-writer", "apxm-ltm-index"):
            thread.join(60)


def text_for(key: str) -> str:
    """Five words that differ from key to key, and are the same every time."""
    return f"{' '.join(random.Random(key).choices(WORDS, k=5))} {key}"


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, with what is in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        with suppress(IsADirectoryError):
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def hits(folder: Path, needle: bytes) -> list[str]:
    """The files that have some bytes in them."""
    return [name for name, content in files(folder).items() if needle in content]


def vector_bytes(store: Store, text: str) -> bytes:
    """The vector of a text as it lies on disk."""
    return np.asarray(store.embedder.embed([text])[0], dtype="<f4").tobytes()
