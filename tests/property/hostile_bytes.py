"""Makes mutants of artifacts, and looks what becomes of them. Run as a program it does so under limits of memory and time.

    python -m tests.property.hostile_bytes --seed 1 --count 100000        mutants 0 to 99,999 of seed 1
    python -m tests.property.hostile_bytes --seed 1 --only 4711           that one again, with its bytes

The same seed and number make the same mutant. What is expected is in `judge`.
"""

from __future__ import annotations

import argparse
import json
import resource
import signal
import sys
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apxm.artifact import Artifact
from apxm.artifact.lift import lift
from apxm.capability.grants import Grants
from apxm.capability.record import CapabilityRecord
from apxm.engine.agents import Agents
from apxm.engine.binding import Binder
from apxm.errors import ApxmError, ArtifactError
from apxm.runtime import Runtime
from apxm.scheduler.plan import ExecutionPlan
from apxm.testing.capabilities import CAPABILITIES, Faults, flaky
from tests.property.mutants import Mutator

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apxm.dag import ExecutionDag

MEMORY_BYTES = 512 * 1024 * 1024  # of address space, more than before the first mutant
CPU_S = 1.0  # for one mutant, of at most a few thousand bytes
MESSAGE_MAX = 1_000  # characters an error may say
PEAK_PER_BYTE, PEAK_LEAST = 100, 256 * 1024  # memory a decode may hold at once
THOROUGH_EVERY = 20  # mutants for each of which the peak is measured and the artifact written again: five times the work


# ---- what is expected ----------------------------------------------------------------------------------------------
class Touched(BaseException):
    """Something ran that nobody asked for."""


class TooLong(BaseException):
    """A mutant took more time than it may."""


class Canary:
    """Is every model and every capability. Whoever calls it hears about it; being counted and named is no call."""

    name = "canary"

    def __init__(self) -> None:
        self.touched = 0

    async def complete(self, prompt: Any) -> Any:
        self.sing()

    def count_tokens(self, text: str) -> int:
        return len(text)

    def sing(self, *args: Any, **named: Any) -> Any:
        self.touched += 1
        raise Touched


class World:
    """What a hostile program could reach: a runtime in which everything is the canary."""

    def __init__(self) -> None:
        self.canary = Canary()
        self.runtime = Runtime(model=self.canary)
        for name in ("small", "a"):
            self.runtime.models.register(name, self.canary)
        self.grants = Grants.parse(("read=.", "list=.", "write=."))
        effects = ("pure", "read", "idempotent", "guarded")
        for place, name in enumerate(("c", "a", "x", "search", "shout", *CAPABILITIES, *flaky(Faults()))):
            record = CapabilityRecord("Sings.", self.canary.sing, effect=effects[place % 4])
            self.runtime.capability_system().register(name, record)

    def bind(self, dags: Iterable[ExecutionDag]) -> int:
        """Bind flows; gives how many could be."""
        bound, runtime = 0, self.runtime
        for dag in dags:
            agents = Agents(runtime.flow_registry().snapshot(), self.grants, {})
            binder = Binder(runtime.capability_system(), runtime.models, agents, 8)
            try:
                binder.bind(dag)
            except ApxmError:
                continue
            bound += 1
        return bound


def use(artifact: Artifact) -> None:
    """Look at everything a run would look at; a decoded dag must not surprise whoever takes it."""
    for dag in artifact.flows().values():
        stack = [dag]
        while stack:
            one = stack.pop()
            plan = ExecutionPlan(one)
            for slot in range(len(one)):
                assert all(edge.source < slot for edge in one.in_edges(slot))
                plan.out_edges(slot)
            assert all(len(one.parameters) <= slot < len(one) for slot in one.exits)
            for regions in one.regions.values():
                stack.extend(regions.values())
    assert artifact.into_dag() in artifact.flows().values()
    assert lift(artifact).keys() == artifact.flows().keys()


def check_normal_form(artifact: Artifact) -> None:
    """Written by us, what was accepted is read again, and from then on always written alike."""
    once = _rewritten(artifact)
    assert _rewritten(Artifact.from_bytes(once)) == once


def _rewritten(artifact: Artifact) -> bytes:
    return Artifact(
        artifact.name,
        artifact.flows(),
        entry=artifact.entry,
        level=artifact.level,
        compiler=artifact.compiler,
        manifest=artifact.manifest,
        agents=artifact.agents,
        metadata=artifact.metadata,
    ).to_bytes()


def judge(data: bytes, world: World, thorough: bool = True) -> str:
    """`refused`, `accepted` or `bound`. Raises where something else than ArtifactError came, or anything ran."""
    try:
        artifact = Artifact.from_bytes(data)
    except ArtifactError as refused:
        message = str(refused)
    else:
        use(artifact)
        if thorough:
            check_normal_form(artifact)
        bound = world.bind(artifact.flows().values())
        assert not world.canary.touched
        return "bound" if bound else "accepted"
    assert len(message) <= MESSAGE_MAX
    assert "more memory than there is" not in message
    return "refused"


def check_peak(data: bytes) -> int:
    """The most memory that a decode holds at once, in bytes; it is bounded by the size of the artifact."""
    tracemalloc.start()
    try:
        Artifact.from_bytes(data)
    except ArtifactError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak <= PEAK_LEAST + PEAK_PER_BYTE * len(data), f"{peak} bytes for an artifact of {len(data)}"
    return peak


# ---- as a program --------------------------------------------------------------------------------------------------
def _too_long(*_: Any) -> None:
    raise TooLong


def limit_memory() -> None:
    """No more address space than what there is now, and MEMORY_BYTES."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def fuzz(seed: int, numbers: range) -> dict[str, Any]:
    """Judge mutants; gives how many came to what, and what the slowest took."""
    mutator, world = Mutator(seed), World()
    judge(mutator.mutant(0)[0], world)  # what is imported late
    counts = {"refused": 0, "accepted": 0, "bound": 0}
    slowest, slow, peak, right_digest = 0.0, -1, 0, 0
    limit_memory()
    signal.signal(signal.SIGVTALRM, _too_long)
    for number in numbers:
        data, right = mutator.mutant(number)
        right_digest += right
        began = time.thread_time()
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S)
        try:
            counts[judge(data, world, number % THOROUGH_EVERY == 0)] += 1
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            if number % THOROUGH_EVERY == 0:
                peak = max(peak, check_peak(data))
        except BaseException as error:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            again = f"python -m tests.property.hostile_bytes --seed {seed} --only {number}"
            raise AssertionError(f"mutant {number}: {error!r:.500}; again: {again}") from error
        took = time.thread_time() - began
        if took > slowest:
            slowest, slow = took, number
    totals = {"seed": seed, "mutants": len(numbers), "right_digest": right_digest, **counts}
    return {**totals, "slowest_ms": round(slowest * 1e3, 2), "slowest": slow, "peak_kib": peak // 1024}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--only", type=int, default=None)
    options = parser.parse_args()
    if options.only is not None:
        data, _ = Mutator(options.seed).mutant(options.only)
        print(f"mutant {options.only}, {len(data)} bytes: {data.hex()}", file=sys.stderr)
        print(judge(data, World()))
        return
    print(json.dumps(fuzz(options.seed, range(options.count))))


if __name__ == "__main__":
    main()
