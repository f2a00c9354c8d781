"""P8: a cancellation always ends the run, wherever it strikes, and leaves no task, reservation or frame behind."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest

from apxm.budget import Limits
from apxm.capability.record import CapabilityRecord
from apxm.compiler.compile import compile
from apxm.config import RunOptions
from apxm.errors import ApxmError, RunCancelled
from apxm.graph.contract import from_json
from apxm.runtime import Runtime
from apxm.testing.capabilities import CAPABILITIES
from apxm.testing.programs import generate


class Tripwire:
    """Cancels the run at its n-th call of any capability; with n = 0 it only counts."""

    def __init__(self) -> None:
        self.handle = None
        self.known = threading.Event()
        self.left = 0
        self.count = 0

    def arm(self, n: int) -> None:
        self.handle, self.left, self.count = None, n, 0
        self.known.clear()

    def step(self) -> None:
        self.count += 1
        self.left -= 1
        if self.left == 0:
            self.known.wait(10)
            self.handle.cancel("tripped")

    def around(self, fn):
        if asyncio.iscoroutinefunction(fn):

            async def waits(*args, **named):
                self.step()
                return await fn(*args, **named)

            waits.__wrapped__ = fn
            return waits

        def runs(*args, **named):
            self.step()
            return fn(*args, **named)

        runs.__wrapped__ = fn
        return runs


@pytest.fixture
def wire():
    return Tripwire()


@pytest.fixture
def runtime(wire):
    with Runtime() as runtime:
        for name, listed in CAPABILITIES.items():
            runtime.capability_system().register(name, CapabilityRecord(name, wire.around(listed.fn), effect=listed.effect))
        yield runtime


def run_to_its_end(runtime, wire, artifact, program, n):
    wire.arm(n)
    options = RunOptions(on_failure=program.on_failure, budget=Limits(nodes=100_000, tool_calls=10_000), deadline_s=60)
    handle = runtime.start(artifact, program.parameters, run=options)
    wire.handle = handle
    wire.known.set()
    error = None
    try:
        handle.result(30)
    except ApxmError as raised:
        error = raised
    return handle, error


async def tasks():
    return sorted(task.get_coro().__qualname__ for task in asyncio.all_tasks())


def test_a_cancellation_at_any_call_ends_the_run_and_leaves_nothing(runtime, wire, seed, long_run):
    chance = random.Random(seed)
    wanted, cancelled = (1_000 if long_run else 150), 0
    while cancelled < wanted:
        program = generate(chance.randrange(2**31))
        artifact = compile(from_json(program.graph), level=0)
        run_to_its_end(runtime, wire, artifact, program, 0)
        for n in chance.sample(range(1, wire.count + 1), min(3, wire.count)):
            handle, error = run_to_its_end(runtime, wire, artifact, program, n)
            note = f"--seed {seed}: program {program.seed}, cancelled at call {n}, ended with {error!r}"
            state = handle._run
            assert error is None or isinstance(error, ApxmError), note
            cancelled += isinstance(error, RunCancelled)
            assert state.over, note
            assert state.root.gone, note
            assert not list(state.root.running or {}), note
            assert state.live_frames == 0, note
            assert not state.ledger.reserved().get("tool_calls"), note
            assert not state.ledger.reserved().get("nodes"), note
            assert state.abandoned == [], note
            assert not runtime._live, note
            assert not runtime.capability_system().calls.abandoned(), note
            left = asyncio.run_coroutine_threadsafe(tasks(), runtime._loop._loop).result(5)
            assert left == ["tasks"], note
