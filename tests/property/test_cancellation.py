"""P8: a cancellation always ends the run, wherever it strikes, and leaves no task, reservation or frame behind."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter

import pytest

from apxm.budget import Limits
from apxm.capability.record import CapabilityRecord
from apxm.compiler.compile import compile
from apxm.config import RunOptions
from apxm.errors import ApxmError, RunCancelled
from apxm.graph.contract import from_json
from apxm.llm.scripted import ScriptedModel
from apxm.observability.events import FrameClosed, FrameOpened, NodeEnded, NodeStarted, RunEnded
from apxm.runtime import Runtime
from apxm.testing.capabilities import CAPABILITIES, Faults, answering, flaky
from apxm.testing.check import Bench
from apxm.testing.clock import SkippingClock, VirtualClock
from apxm.testing.programs import generate
from apxm.testing.seeded import SeededLoop

AGAIN = "python -m pytest tests/property/test_cancellation.py"


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
def faults():
    return Faults()


@pytest.fixture
def runtime(wire, faults):
    clock, answer = SkippingClock(), answering(faults)
    model = ScriptedModel([(lambda prompt: True, lambda prompt: answer(prompt.messages[-1].content))])
    with Runtime(model=model, clock=clock, loop_factory=clock.new_event_loop) as runtime:
        for name, listed in {**CAPABILITIES, **flaky(faults)}.items():
            runtime.capability_system().register(name, CapabilityRecord(name, wire.around(listed.fn), effect=listed.effect))
        yield runtime


def run_to_its_end(runtime, wire, faults, artifact, program, n):
    wire.arm(n)
    faults.asked.clear()
    options = RunOptions(
        trust=("*",), on_failure=program.on_failure, budget=Limits(nodes=100_000, tool_calls=10_000), deadline_s=3600
    )
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


def test_a_cancellation_at_any_call_ends_the_run_and_leaves_nothing(runtime, wire, faults, seed, long_run):
    chance = random.Random(seed)
    wanted, cancelled = (1_000 if long_run else 100), 0
    while cancelled < wanted:
        program = generate(chance.randrange(2**31))
        artifact = compile(from_json(program.graph), level=0)
        run_to_its_end(runtime, wire, faults, artifact, program, 0)
        for n in chance.sample(range(1, wire.count + 1), min(3, wire.count)):
            handle, error = run_to_its_end(runtime, wire, faults, artifact, program, n)
            note = f"again: {AGAIN} --seed {seed}: program {program.seed}, cancelled at call {n}, ended with {error!r}"
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


class Stepped(SeededLoop):
    """A seeded loop on virtual time that calls `at_step` before the step that it is set to."""

    def __init__(self, seed: int, clock: VirtualClock) -> None:
        super().__init__(seed, clock)
        self.steps, self.stop_at, self.at_step = 0, 0, None

    def _run_once(self) -> None:
        self.steps += 1
        if self.steps == self.stop_at:
            self.at_step()
        super()._run_once()

    def timers(self):
        return [timer for timer in self._scheduled if not timer.cancelled()]


def simulate(program, artifact, schedule, stop_at):
    """Run a program on one thread with virtual time; cancel it before a step of its loop (0: never)."""
    clock = VirtualClock()
    loop = Stepped(schedule, clock)
    with Bench(clock=clock).runtime as runtime:
        budget = Limits(nodes=100_000, tool_calls=10_000)
        options = RunOptions(trust=("*",), on_failure=program.on_failure, budget=budget, deadline_s=3600, trace=True)
        state, trace = runtime._open(artifact, program.parameters, {}, options)
        loop.stop_at, loop.at_step = stop_at, lambda: state.ask_cancel(RunCancelled("now"))
        error = None
        try:
            if not state.drive_inline():
                loop.run_until_complete(state.drive())
            runtime._close_run(state, trace)
        except ApxmError as raised:
            error = raised
        left = {
            "over": state.over and state.root.gone,
            "tasks": [repr(task) for task in asyncio.all_tasks(loop)],
            "timers": loop.timers(),
            "frames": state.live_frames,
            "running": list(state.root.running or {}),
            "reserved": {name: amount for name, amount in state.ledger.reserved().items() if amount},
            "abandoned": state.abandoned,
            "live": len(runtime._live),
            "ends": [event.outcome for event in trace.kept() if isinstance(event, RunEnded)],
            "open": opened(trace.kept()),
            "late": clock.now > 3600,
        }
    steps = loop.steps
    loop.close()
    return steps, error, left


def opened(events):
    """Nodes and frames that began and never ended, by what the events say."""
    begun = Counter()
    for event in events:
        match event:
            case NodeStarted():
                begun[event.path, event.node] += 1
            case NodeEnded() if (event.path, event.node) in begun:
                begun[event.path, event.node] -= 1
            case FrameOpened():
                begun[event.path] += 1
            case FrameClosed():
                begun[event.path] -= 1
    return sorted(map(repr, +begun))


def test_a_cancellation_at_every_suspension_point_ends_the_run_and_leaves_nothing(seed, long_run):
    chance = random.Random(seed)
    wanted, cancelled, tried = (1_000 if long_run else 100), 0, 0
    while cancelled < wanted:
        program, schedule = generate(chance.randrange(2**31)), chance.randrange(2**31)
        artifact = compile(from_json(program.graph), level=0)
        steps, _, left = simulate(program, artifact, schedule, 0)
        for stop_at in range(steps + 1):
            if stop_at:
                _, error, left = simulate(program, artifact, schedule, stop_at)
                cancelled += isinstance(error, RunCancelled)
            outcome = left.pop("ends")
            place = f"program {program.seed}, schedule {schedule}, cancelled at step {stop_at} of {steps}"
            note = f"{place}; again: {AGAIN} --seed {seed}"
            assert len(outcome) == 1, note
            assert left.pop("over"), note
            assert not any(left.values()), f"{left}; {note}"
            tried += 1
    print(f"{cancelled} of {tried} runs were cancelled")
