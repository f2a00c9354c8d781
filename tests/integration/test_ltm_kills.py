"""A process that writes long-term memory is killed at every step: nothing acknowledged is lost, and the index repairs itself."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from apxm.fault import at_faults
from apxm.memory.ltm.index import generations
from tests.integration import ltm_child
from tests.integration.ltm_child import KEYS, memory
from tests.unit.memory.ltm.stores import quick_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from apxm.memory.ltm.system import LongTermMemory

AIMED, AIMED_LONG = 2, 100
ANYWHERE, ANYWHERE_LONG = 1, 60
QUERIES = 5
OPENING = ("ltm.open.after_mark", "ltm.open.before_unmark")


class Killer:
    """Starts children that write memory, and kills them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        file = str(Path(ltm_child.__file__))
        self._forking = subprocess.Popen([sys.executable, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def folder(self) -> Path:
        """A new one, for one memory."""
        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir(mode=0o700)
        return folder

    def kill_at(self, folder: Path, site: str, hit: int, seed: int) -> bool:
        """Let a process work in a folder, and die at the `hit`th time of a place; whether it came there."""
        return self._kill(folder, seed, site, hit, lambda pid: None)

    def kill_after(self, folder: Path, delay_s: float, seed: int) -> bool:
        """The same after some time, wherever it is; whether that was before its end."""

        def kill(pid: int) -> None:
            time.sleep(delay_s)
            os.kill(pid, signal.SIGKILL)

        return self._kill(folder, seed, "nowhere", 0, kill)

    def _kill(self, folder: Path, seed: int, site: str, hit: int, then: Callable[[int], None]) -> bool:
        order = {"folder": str(folder), "seed": seed, "site": site, "hit": hit}
        assert self._forking.stdin is not None
        assert self._forking.stdout is not None
        print(json.dumps(order), file=self._forking.stdin, flush=True)
        then(int(self._forking.stdout.readline()))
        code = int(self._forking.stdout.readline())
        assert code in (0, -signal.SIGKILL), "the child failed by itself"
        return code != 0

    def close(self) -> None:
        assert self._forking.stdin is not None
        self._forking.stdin.close()
        self._forking.wait()
        assert self._forking.stdout is not None
        self._forking.stdout.close()


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    """A process that forks children to be killed."""
    with quick_folder() as folder:
        killer = Killer(folder)
        yield killer
        killer.close()


def sites_of(seed: int) -> Counter[str]:
    """The places that an undisturbed run comes by, and how often."""
    hits: Counter[str] = Counter()
    with quick_folder() as folder, at_faults(lambda site: hits.update([site])):
        ltm_child.work(folder, seed, lambda said: None)
    return hits


def promised(said: list[Mapping[str, Any]]) -> dict[str, set[str | None]]:
    """What may be under each key: the last that was acknowledged, and what was tried since."""
    may: dict[str, set[str | None]] = {key: {None} for key in KEYS}
    for line in said:
        for key, text in line.get("try", {}).items():
            may[key].add(text)
        for key, text in line.get("did", {}).items():
            may[key] = {text}
    return may


def check(folder: Path, seed: int) -> None:
    """Nothing that was acknowledged is lost; the index repairs itself, and gives what brute force gives."""
    witness = folder.with_suffix(".witness")
    said = [json.loads(line) for line in witness.read_text().splitlines()] if witness.exists() else []
    ltm = memory(folder)
    for key, may in promised(said).items():
        entry = ltm.get(key)
        assert (None if entry is None else entry.value["said"]) in may, key
    report = ltm.verify()
    assert report.ok, report
    ltm.put("afterwards", "one more thing", text="one more thing")
    ltm.close()
    again = memory(folder)  # which writes nothing: nobody puts another index in the place of the one that is looked at
    again._keeps().catch_up()
    same_as_brute_force(again, seed)
    again.close()
    assert len(generations(folder)) <= 1


def same_as_brute_force(ltm: LongTermMemory, seed: int) -> None:
    """The index gives the cosines that the vectors of the record have."""
    rows = [change for change in ltm.record.changes(0, 10_000) if change.vector]
    ids = [change.id for change in rows]
    matrix = np.array([np.frombuffer(change.vector or b"", dtype="<f4") for change in rows])
    served = ltm._keeps().served()
    assert served is not None
    chance = random.Random(seed)
    for _ in range(QUERIES):
        vector = ltm.embedder.embed_query(ltm_child.text(chance))
        exact = dict(zip(ids, (matrix @ vector).tolist(), strict=True))
        found = served[0].nearest("default", vector, 10)
        best = sorted(exact.values(), reverse=True)[:10]
        np.testing.assert_allclose([cosine for _, cosine in found], best, atol=1e-5)
        np.testing.assert_allclose([exact[id] for id, _ in found], best, atol=1e-5)


def test_a_run_comes_by_every_kind_of_step(seed: int) -> None:
    named = {"build", "compact", "drop", "anew", "index", "record", "open", "close"}
    assert named == {site.split(".")[1] for site in sites_of(seed)}


def test_a_process_killed_at_any_step_loses_nothing_that_was_acknowledged(killer: Killer, seed: int, long_run: bool) -> None:
    chance = random.Random(seed)
    hits = sites_of(seed)
    aims = [(site, hit) for site, times in hits.items() for hit in {1, chance.randint(1, times)}]
    chance.shuffle(aims)
    aims = aims[:AIMED] if not long_run else aims + chance.choices(aims, k=max(0, AIMED_LONG - len(aims)))
    for site, hit in aims:
        print(f"killed at {site}, time {hit}")
        folder = killer.folder()
        assert killer.kill_at(folder, site, hit, seed) or hit > 1
        check(folder, seed)


def test_a_process_killed_while_it_repairs_leaves_what_the_next_one_repairs(killer: Killer, seed: int, long_run: bool) -> None:
    for site in OPENING if long_run else (random.Random(seed).choice(OPENING),):
        print(f"killed at {site}")
        folder = killer.folder()
        assert killer.kill_at(folder, "ltm.index.after_upsert", 1, seed)
        assert killer.kill_at(folder, site, 1, seed + 1)
        check(folder, seed)


def test_a_process_killed_at_any_time_loses_nothing_that_was_acknowledged(killer: Killer, seed: int, long_run: bool) -> None:
    chance = random.Random(seed)
    for _ in range(ANYWHERE_LONG if long_run else ANYWHERE):
        folder = killer.folder()
        for again in range(chance.randint(1, 3)):
            delay_s = chance.uniform(0.0, 1.0)
            print(f"killed after {delay_s:.3f} s")
            killer.kill_after(folder, delay_s, seed + again)
        check(folder, seed)
