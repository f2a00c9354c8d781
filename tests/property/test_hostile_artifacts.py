"""P11: whatever the bytes, a decode gives an artifact or an ArtifactError, in bounded time and memory, and nothing runs.

What is expected of each mutant, binding included, is in `hostile_bytes.judge`; most mutants get their digest made right again.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from apxm.artifact import Artifact
from apxm.artifact.format import BYTES_MAX
from apxm.errors import ArtifactError
from tests.property.hostile_bytes import TooLong, Touched, World, check_peak, judge
from tests.property.large_bytes import LARGE, large
from tests.property.mutants import Mutator

ROOT = Path(__file__).resolve().parents[2]
CORPUS = sorted((ROOT / "artifacts" / "corpus").glob("*.bin"))
MUTANTS, MUTANTS_LONG = 10_000, 1_000_000
LARGE_BYTES, LARGE_BYTES_LONG = 300_000, BYTES_MAX // 2
CPU_S_PER_MIB = 4.0  # it takes a tenth of that; what grows with the square takes a thousand times as much
PEAK_BYTES = 400 * 1024 * 1024  # what format.py promises for the largest


def test_no_bytes_make_a_decode_do_anything_but_give_an_artifact_or_refuse(seed, long_run):
    count = MUTANTS_LONG if long_run else MUTANTS
    command = [sys.executable, "-m", "tests.property.hostile_bytes", "--seed", str(seed), "--count", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=600 + count / 20)
    assert done.returncode == 0, done.stderr[-5_000:]  # its last line says how to see it again
    told = json.loads(done.stdout)
    print(told)
    assert told["mutants"] == count
    assert told["right_digest"] > 0.9 * count
    # The mutants come close to what is right, and are not; many can even be bound.
    assert count // 20 < told["accepted"] + told["bound"] < count // 2
    assert told["bound"] > count // 50


@pytest.fixture(scope="module")
def world():
    return World()


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_an_input_of_the_corpus_is_refused_or_does_no_harm(path, world):
    judge(path.read_bytes(), world)
    check_peak(path.read_bytes())


def test_the_corpus_has_every_verdict_and_is_small(world):
    assert {judge(path.read_bytes(), world) for path in CORPUS} == {"refused", "accepted", "bound"}
    assert 50 <= len(CORPUS) <= 200
    assert sum(path.stat().st_size for path in CORPUS) <= 1024 * 1024
    assert len({path.read_bytes() for path in CORPUS}) == len(CORPUS)


@pytest.mark.parametrize("what", LARGE)
def test_much_of_one_thing_takes_time_and_memory_in_proportion(what, long_run, world):
    data = large(what, LARGE_BYTES_LONG if long_run else LARGE_BYTES)
    limit = CPU_S_PER_MIB * max(1.0, len(data) / 2**20)
    took = [0.0, 0.0]
    before = signal.signal(signal.SIGVTALRM, _too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, 2 * limit)
    try:
        began = time.thread_time()
        artifact = _decoded(data)
        took[0] = time.thread_time() - began
        if artifact is not None:
            world.bind([artifact.into_dag()])
            took[1] = time.thread_time() - began - took[0]
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert not world.canary.touched
    tracemalloc.start()
    try:
        _decoded(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    print(f"{what}: {len(data)} bytes, decode {took[0]:.2f} s, bind {took[1]:.2f} s of CPU, peak {peak / 2**20:.0f} MiB")
    assert max(took) < limit
    assert peak < PEAK_BYTES


def _decoded(data):
    try:
        return Artifact.from_bytes(data)
    except ArtifactError:
        return None


def _too_long(*_):
    raise TooLong


def test_most_kinds_of_large_artifacts_come_through_so_that_all_of_the_decoder_has_to_work():
    refused = [what for what in LARGE if _decoded(large(what, 20_000)) is None]
    assert refused == ["same names", "regions without dags", "regions of one slot"]


# ---- that the checks above would say something ---------------------------------------------------------------------
def test_a_mutant_is_the_same_whenever_it_is_made():
    first, second = Mutator(5), Mutator(5)
    assert [first.mutant(number) for number in range(50)] == [second.mutant(number) for number in range(49, -1, -1)][::-1]


def test_the_canary_sings_when_it_is_touched():
    fresh = World()
    with pytest.raises(Touched):
        fresh.runtime.capability_system().get("c").fn()
    assert fresh.canary.touched == 1


@pytest.mark.parametrize(
    ("does", "found"),
    [("next(x for x in iter(int, 1) if x)", "TooLong"), ("bytearray(2 * h.MEMORY_BYTES)", "MemoryError")],
)
def test_a_mutant_that_takes_too_much_is_found_and_can_be_made_again(does, found):
    program = (
        "import tests.property.hostile_bytes as h\n"
        f"h.judge = lambda data, world, thorough=None: thorough is None or {does}\n"
        "h.CPU_S = 0.2\n"
        "h.fuzz(1, range(1))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert f"mutant 0: {found}()" in done.stderr
    assert "again: python -m tests.property.hostile_bytes --seed 1 --only 0" in done.stderr
