"""Runs random programs on the real engine and holds each run against the oracle. `python -m apxm.testing.check` replays a seed.

A Bench holds one Runtime with the capabilities of the set registered; `check` runs one program on it.
"""

from __future__ import annotations

import argparse
import json
from asyncio import new_event_loop
from inspect import iscoroutinefunction
from time import monotonic
from typing import TYPE_CHECKING

from apxm.artifact import Artifact
from apxm.budget import UNLIMITED, Limits
from apxm.compiler.compile import compile
from apxm.config import RunOptions, RuntimeConfig, SchedulerConfig
from apxm.errors import ApxmError
from apxm.graph.contract import from_json
from apxm.llm.scripted import ScriptedModel
from apxm.runtime import Runtime
from apxm.testing.capabilities import CAPABILITIES, Faults, answering, blocking, flaky, functions, guarded, recorded
from apxm.testing.clock import SkippingClock
from apxm.testing.compare import Observed, compare, observe
from apxm.testing.firing import MODEL, canonical
from apxm.testing.meaning import same
from apxm.testing.oracle import Choices, OracleMismatch, OracleResult, run_oracle
from apxm.testing.programs import Program, generate
from apxm.testing.seeded import seeded_loops
from apxm.testing.shrink import shrink

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from apxm.engine.result import ExecutionResult
    from apxm.testing.clock import VirtualClock

GUARDED = guarded()
DEADLINE_S = 600.0  # of a clock that skips waits: no program of the generator needs so long; a run that does hangs


class Bench:
    """A Runtime with the capabilities of random programs, which also writes down what they are called with."""

    def __init__(
        self,
        config: SchedulerConfig | None = None,
        loop_factory: Callable[[], AbstractEventLoop] | None = None,
        clock: VirtualClock | None = None,
        threads: bool = False,
    ) -> None:
        """With `threads`, what would suspend runs on threads instead, in real time with all its waits."""
        self.config = config or SchedulerConfig()
        skipping = clock or SkippingClock()
        self.calls: list[tuple[str, str]] = []
        self.faults = Faults()
        answer = recorded(MODEL, answering(self.faults), self.calls)
        model = ScriptedModel([(lambda prompt: True, lambda prompt: answer(prompt.messages[-1].content))])
        self.runtime = Runtime(
            RuntimeConfig(scheduler_config=self.config),
            model=model,
            loop_factory=new_event_loop if threads else loop_factory or skipping.new_event_loop,
            clock=monotonic if threads else skipping,
        )
        for name, listed in {**CAPABILITIES, **flaky(self.faults)}.items():
            threaded = threads and iscoroutinefunction(listed.fn)
            fn = recorded(name, blocking(listed.fn) if threaded else listed.fn, self.calls)
            self.runtime.capability(name, effect=listed.effect, **({"run": "thread"} if threaded else {}))(fn)

    def forget(self) -> None:
        """Nothing was called yet: before a run."""
        self.calls.clear()
        self.faults.asked.clear()

    def check(self, program: Program) -> Observed:
        """Run a program, and hold the run against the oracle; raises OracleMismatch.

        First traced, with what the run chose; then, where nothing is open, once more untraced and optimised, which may
        take faster ways through the engine.
        """
        artifact = Artifact.from_bytes(compile(from_json(program.graph), level=0).to_bytes())
        seen = self._traced(program, artifact)
        expected = self.expected(program, seen.choices)
        compare(expected, seen)
        if expected.determined:
            self._untraced(program, artifact, expected)
            self._untraced(program, compile(from_json(program.graph), level=1), expected, whole=False)
        return seen

    def expected(self, program: Program, choices: Choices | None) -> OracleResult:
        """What the oracle says, given the choices of a run."""
        return run_oracle(
            program.graph,
            program.parameters,
            capabilities=functions(),
            on_failure=program.on_failure,
            choices=choices,
            guarded=GUARDED,
        )

    def run(self, program: Program, budget: Limits = UNLIMITED) -> tuple[ExecutionResult, ApxmError | None]:
        """One traced run, and the error that ended it."""
        return self._execute(program, compile(from_json(program.graph), level=0), trace=True, budget=budget)

    def _execute(
        self, program: Program, artifact: Artifact, *, trace: bool, budget: Limits = UNLIMITED
    ) -> tuple[ExecutionResult, ApxmError | None]:
        self.forget()
        options = RunOptions(trust=("*",), trace=trace, on_failure=program.on_failure, deadline_s=DEADLINE_S, budget=budget)
        try:
            return self.runtime.execute(artifact, program.parameters, run=options), None
        except ApxmError as error:
            if error.result is None:
                raise
            return error.result, error

    def _traced(self, program: Program, artifact: Artifact) -> Observed:
        result, error = self._execute(program, artifact, trace=True)
        seen = observe(result.events(), outputs=result.outputs, value=result.value, error=error)
        seen.calls = list(self.calls)
        stats = (result.stats.executed, result.stats.skipped, result.stats.cancelled)
        counted = (len(seen.done - seen.failed), len(seen.skipped), len(seen.cancelled))
        if stats != counted:
            raise OracleMismatch(f"executed, skipped and cancelled are {stats} in the statistics and {counted} in the events")
        return seen

    def _untraced(self, program: Program, artifact: Artifact, expected: OracleResult, *, whole: bool = True) -> None:
        result, error = self._execute(program, artifact, trace=False)
        how = "untraced" if whole else "optimised"
        if error is not None:
            raise OracleMismatch(f"{how}, the run fails with {error!r}")
        for name, got, wanted in (("outputs", result.outputs, expected.outputs), ("value", result.value, expected.value)):
            if not same(canonical(got), canonical(wanted)):
                raise OracleMismatch(f"{how}, {name} are {got!r}, expected {wanted!r}")
        if result.stats.retried != expected.retried:
            raise OracleMismatch(f"{how}, {result.stats.retried} attempts were repeated, expected {expected.retried}")
        executed = len(expected.fired - expected.failed)
        if whole and (result.stats.executed, result.stats.skipped) != (executed, len(expected.skipped)):
            counted = (result.stats.executed, result.stats.skipped)
            raise OracleMismatch(f"{how}, executed and skipped are {counted}, expected {(executed, len(expected.skipped))}")

    def why(self, program: Program) -> str | None:
        """Why a program does not pass; None when it does."""
        try:
            self.check(program)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None

    def close(self) -> None:
        self.runtime.close()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def on_loop(config: SchedulerConfig, loop: int | None = None, threads: bool = False) -> Bench:
    """A Bench on an event loop that runs what is ready in an order of that seed; without one, on one like any other."""
    clock = SkippingClock()
    return Bench(config, None if loop is None else seeded_loops(loop, clock), clock, threads)


def explain(program: Program, config: SchedulerConfig, tries: int = 1_000, loop: int | None = None, threads: bool = False) -> str:
    """What is wrong with a program that fails: the smallest one that fails alike, and the command that replays it."""
    with on_loop(config, loop, threads) as bench:
        reason = bench.why(program)
        again = f"replay with `{command(program, config, loop, threads)}`"
        if reason is None:
            return f"seed {program.seed} fails only now and then; {again}"
        kind = reason.partition(":")[0]
        small = shrink(program, lambda one: (bench.why(one) or "").startswith(kind), tries)
        return (
            f"seed {program.seed}: {reason}\n{again}\n"
            f"as small as possible ({small.size} nodes, {small.on_failure}, parameters {json.dumps(small.parameters)}):\n"
            f"{json.dumps(small.graph)}\n{bench.why(small)}"
        )


def command(program: Program, config: SchedulerConfig, loop: int | None = None, threads: bool = False) -> str:
    """The command line that runs this program again; `loop` is the seed of its event loop."""
    more = "" if config.enable_work_stealing else " --no-stealing"
    more += "" if loop is None else f" --loop {loop}"
    more += " --threads" if threads else ""
    return f"python -m apxm.testing.check {program.seed} --parallelism {config.max_parallelism}{more}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m apxm.testing.check", description=main.__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--count", type=int, default=1, help="how many seeds, counting up")
    engine = parser.add_argument_group("on the real engine")
    engine.add_argument("--parallelism", type=int, default=64)
    engine.add_argument("--no-stealing", action="store_true")
    engine.add_argument("--loop", type=int, help="an event loop that runs what is ready in an order of this seed")
    engine.add_argument("--threads", action="store_true", help="what would suspend runs on threads, in real time")
    simulated = parser.add_argument_group("in the simulator")
    simulated.add_argument("--schedule", type=int, help="simulate, in the order of this seed")
    simulated.add_argument("--workers", type=int, default=3)
    simulated.add_argument("--unwatched", action="store_true", help="on the ways that are taken when nobody asks for events")
    simulated.add_argument("--cancel-at", type=int, metavar="STEP", help="cancel the run before this step")
    parser.add_argument("--deadlines", action="store_true", help="a tree of timeouts and deadlines instead of a program")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Check the program of one seed, or of several; 1 when one does not pass."""
    given = _parser().parse_args(arguments)
    seeds = range(given.seed, given.seed + given.count)
    if given.deadlines:
        from apxm.testing.timing import why as why_late

        failed = [f"seed {seed}: {why}" for seed in seeds if (why := why_late(seed)) is not None]
    elif given.schedule is not None:
        failed = [f"seed {seed}: {why}" for seed in seeds if (why := _why_simulated(seed, given)) is not None]
    else:
        config = SchedulerConfig(max_parallelism=given.parallelism, enable_work_stealing=not given.no_stealing)
        how = {"loop": given.loop, "threads": given.threads}
        failed = [explain(program, config, **how) for program in _failing(seeds, config, **how)]
    for text in failed:
        print(text)
    print(f"{given.count - len(failed)} of {given.count} pass")
    return 1 if failed else 0


def _failing(seeds: Iterable[int], config: SchedulerConfig, loop: int | None, threads: bool) -> list[Program]:
    with on_loop(config, loop, threads) as bench:
        return [program for program in map(generate, seeds) if bench.why(program) is not None]


def _why_simulated(seed: int, given: argparse.Namespace) -> str | None:
    from apxm.testing.schedules import Schedules

    with Bench() as bench:
        try:
            one = Schedules(bench, generate(seed))
            if given.cancel_at is not None:
                one.check_cancelled(given.schedule, given.cancel_at, workers=given.workers)
            elif given.unwatched:
                one.check_unwatched(given.schedule, workers=given.workers)
            else:
                one.check(given.schedule, workers=given.workers)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    raise SystemExit(main())
