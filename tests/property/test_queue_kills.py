"""Workers of one queue are killed at random moments: no task is lost, none is done after its end, the file stays whole."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from apxm.coordination.queue import Queues
from apxm.coordination.store import FILE, Store

ROOT = Path(__file__).resolve().parents[2]
TASKS, KILLS = 40, 3
TASKS_LONG, KILLS_LONG = 3_000, 200
LEASE_MS = 50

# Puts a task of its own now and then, and says on its output what it did, each after it is certain.
WORKER = f"""
import sys, time
from pathlib import Path
from apxm.coordination.queue import Queues
from apxm.coordination.store import Store

queues = Queues(Store(lambda: Path(sys.argv[1]), time.time))
while True:
    claim = queues.claim("q", "w", {LEASE_MS})
    if claim is None:
        time.sleep(0.001)
        continue
    time.sleep(0.0005)
    if claim.data % 7 == 0 and claim.data < 1_000_000:
        queues.put("q", claim.data + 1_000_000, attempts_max=1_000_000)
        print("put", claim.data + 1_000_000, flush=True)
    try:
        queues.acknowledge(claim.task_id, claim.token)
    except Exception:
        continue
    print("done", claim.data, flush=True)
"""


def test_killed_workers_lose_no_task(tmp_path, seed, long_run):
    chance = random.Random(seed)
    tasks, kills = (TASKS_LONG, KILLS_LONG) if long_run else (TASKS, KILLS)
    store = Store(lambda: tmp_path, time.time)
    queues = Queues(store)
    for number in range(tasks):
        queues.put("q", number, attempts_max=1_000_000)
    said: list[str] = []

    def started() -> subprocess.Popen[bytes]:
        out = (tmp_path / f"said-{len(said)}").open("wb")
        said.append(out.name)
        with out:
            return subprocess.Popen(
                [sys.executable, "-c", WORKER, str(tmp_path)], stdout=out, env={**os.environ, "PYTHONPATH": str(ROOT)}
            )

    workers = [started() for _ in range(2)]
    try:
        for _ in range(kills):
            time.sleep(chance.uniform(0.05, 0.3))
            victim = workers.pop(chance.randrange(len(workers)))
            victim.kill()
            victim.wait()
            workers.append(started())
        give_up = time.monotonic() + 120
        while queues.stats() and time.monotonic() < give_up:
            time.sleep(0.02)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    lines = [line.split() for name in said for line in Path(name).read_text().splitlines(keepends=True) if line.endswith("\n")]
    done = [int(number) for what, number in lines if what == "done"]
    put = {int(number) for what, number in lines if what == "put"}
    assert queues.stats() == []
    # a worker that died between an acknowledgement and its word left no word: at most one for each that was killed
    assert len(set(range(tasks)) - set(done)) <= kills + 2
    assert len(put - set(done)) <= kills + 2
    once = [number for number in done if number < 1_000_000]
    assert len(once) == len(set(once))
    store.close()
    with sqlite3.connect(tmp_path / FILE) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    db.close()
