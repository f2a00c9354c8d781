"""Runs random programs on the real engine and holds each run against the oracle. `python -m apxm.testing.check SEED` replays.

A Bench holds one Runtime with the capabilities of the set registered; `check` runs one program on it.
"""

from __future__ import annotations

import argparse
import json
from asyncio import new_event_loop
from time import monotonic
from typing import TYPE_CHECKING, Any

from apxm.artifact import Artifact
from apxm.compiler.compile import compile
from apxm.config import RunOptions, RuntimeConfig, SchedulerConfig
from apxm.errors import ApxmError
from apxm.graph.contract import from_json
from apxm.runtime import Runtime
from apxm.testing.capabilities import CAPABILITIES, functions, recorded
from apxm.testing.compare import Observed, compare, observe
from apxm.testing.firing import canonical
from apxm.testing.meaning import same
from apxm.testing.oracle import Choices, OracleMismatch, OracleResult, run_oracle
from apxm.testing.programs import Program, generate
from apxm.testing.shrink import shrink

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from types import TracebackType

DEADLINE_S = 60.0  # nothing in the set waits for anything; a run that takes so long hangs


class Bench:
    """A Runtime with the capabilities of random programs, which also writes down what they are called with."""

    def __init__(
        self,
        config: SchedulerConfig | None = None,
        loop_factory: Callable[[], AbstractEventLoop] = new_event_loop,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.config = config or SchedulerConfig()
        self.runtime = Runtime(RuntimeConfig(scheduler_config=self.config), loop_factory=loop_factory, clock=clock)
        self.calls: list[tuple[str, str]] = []
        for name, listed in CAPABILITIES.items():
            self.runtime.capability(name, effect=listed.effect)(recorded(name, listed.fn, self.calls))

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
            program.graph, program.parameters, capabilities=functions(), on_failure=program.on_failure, choices=choices
        )

    def _execute(self, program: Program, artifact: Artifact, *, trace: bool) -> tuple[Any, ApxmError | None]:
        self.calls.clear()
        options = RunOptions(trace=trace, on_failure=program.on_failure, deadline_s=DEADLINE_S)
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


def explain(program: Program, config: SchedulerConfig, tries: int = 1_000) -> str:
    """What is wrong with a program that fails: the smallest one that fails alike, and the command that replays it."""
    with Bench(config) as bench:
        reason = bench.why(program)
        if reason is None:
            return f"seed {program.seed} fails only now and then; replay with `{command(program, config)}`"
        kind = reason.partition(":")[0]
        small = shrink(program, lambda one: (bench.why(one) or "").startswith(kind), tries)
        return (
            f"seed {program.seed}: {reason}\nreplay with `{command(program, config)}`\n"
            f"as small as possible ({small.size} nodes, {small.on_failure}, parameters {json.dumps(small.parameters)}):\n"
            f"{json.dumps(small.graph)}\n{bench.why(small)}"
        )


def command(program: Program, config: SchedulerConfig) -> str:
    """The command line that runs this program again."""
    stealing = "" if config.enable_work_stealing else " --no-stealing"
    return f"python -m apxm.testing.check {program.seed} --parallelism {config.max_parallelism}{stealing}"


def main(arguments: list[str] | None = None) -> int:
    """Check the program of one seed, or of several; 1 when one does not pass."""
    parser = argparse.ArgumentParser(prog="python -m apxm.testing.check", description=main.__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--count", type=int, default=1, help="how many seeds, counting up")
    parser.add_argument("--parallelism", type=int, default=64)
    parser.add_argument("--no-stealing", action="store_true")
    given = parser.parse_args(arguments)
    config = SchedulerConfig(max_parallelism=given.parallelism, enable_work_stealing=not given.no_stealing)
    with Bench(config) as bench:
        failed = [seed for seed in range(given.seed, given.seed + given.count) if bench.why(generate(seed)) is not None]
    for seed in failed:
        print(explain(generate(seed), config))
    print(f"{given.count - len(failed)} of {given.count} programs pass")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
