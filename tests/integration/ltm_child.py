"""A process that writes long-term memory and is killed while it does.

Run as a program it waits for orders, one JSON object on each line, and forks for each: the child does `work` and dies by SIGKILL
where it was told to. Everything is imported before, and no thread runs when it forks. What the child was promised it writes to a
file, line by line and without a buffer, as a witness: `try` before each write, `did` once it was acknowledged.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from apxm.config import MemoryConfig
from apxm.fault import at_faults
from apxm.memory.embed.hashing import HashingEmbedder
from apxm.memory.ltm import system
from apxm.memory.ltm.entry import Put
from apxm.memory.ltm.system import LongTermMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DIMENSION = 32
KEYS = [f"key {number}" for number in range(40)]
WORDS = "river stone lamp garden winter copper signal harbour violin engine meadow ledger".split()  # noqa: SIM905


def memory(folder: Path, lock_timeout_ms: float = 5_000.0) -> LongTermMemory:
    """The memory of a folder, where every search asks the index, and the index follows soon."""
    system.INDEX_BEHIND_MAX = 1
    config = MemoryConfig(embedder=HashingEmbedder(DIMENSION), exact_max=0, batch_ms=0.0, lock_timeout_ms=lock_timeout_ms)
    return LongTermMemory(lambda: folder, config)


def text(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=6))


def work(folder: Path, seed: int, witness: Callable[[Mapping[str, Any]], None]) -> None:
    """Open and close a memory again and again: put and replace, delete, let the index follow, build it again, compact."""
    chance = random.Random(seed)
    for what in ("rebuild", "delete", "leave", "compact", "leave"):
        ltm = memory(folder)
        for _ in range(2):
            texts = {key: text(chance) for key in chance.sample(KEYS, 12)}
            witness({"try": texts})
            ltm.submit([Put("default", key, {"said": said}, said) for key, said in texts.items()]).result()
            witness({"did": texts})
            ltm.flush()
        ltm.search(text(chance))
        if what == "rebuild":
            ltm.rebuild()
        if what in ("delete", "compact"):
            for key in chance.sample(KEYS, 4):
                witness({"try": {key: None}})
                ltm.delete(key)
                witness({"did": {key: None}})
        if what == "compact":
            ltm.compact()
        ltm.close()


def main() -> None:
    """Take orders {folder, seed, site, hit}; the child kills itself at that hit of that site, or not at all."""
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _obey(order)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _obey(order: Mapping[str, Any]) -> None:
    folder = Path(order["folder"])
    file = os.open(folder.with_suffix(".witness"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    hits: Counter[str] = Counter()

    def die_there(site: str) -> None:
        hits[site] += 1
        if site == order["site"] and hits[site] == order["hit"]:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)  # a moment may pass before it is dead

    code = 1
    try:
        with at_faults(die_there):
            work(folder, order["seed"], lambda said: os.write(file, json.dumps(said).encode() + b"\n"))
        code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
