"""Runs random programs on the real engine and holds each run against the oracle. `python -m apxm.testing.check SEED` replays.

One Bench holds one Runtime with the capabilities of the set registered; `check` runs one program on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.artifact import Artifact
from apxm.compiler.compile import compile
from apxm.config import RunOptions, RuntimeConfig, SchedulerConfig
from apxm.errors import ApxmError
from apxm.graph.contract import from_json
from apxm.runtime import Runtime
from apxm.testing.capabilities import CAPABILITIES, functions, recorded
from apxm.testing.compare import Observed, compare, observe
from apxm.testing.oracle import OracleMismatch, run_oracle

if TYPE_CHECKING:
    from types import TracebackType

    from apxm.testing.programs import Program


class Bench:
    """A Runtime with the capabilities of random programs, which also writes down what they are called with."""

    def __init__(self, config: SchedulerConfig | None = None) -> None:
        self.runtime = Runtime(RuntimeConfig(scheduler_config=config or SchedulerConfig()))
        self.calls: list[tuple[str, str]] = []
        for name, listed in CAPABILITIES.items():
            decorate = self.runtime.capability(name, effect=listed.effect)
            decorate(recorded(name, listed.fn, self.calls))

    def artifact(self, program: Program) -> Artifact:
        """The program compiled as it stands: what the compiler may remove would never be seen to fire."""
        return Artifact.from_bytes(compile(from_json(program.graph), level=0).to_bytes())

    def observe(self, program: Program) -> Observed:
        """Run a program, traced, and read what it did."""
        self.calls.clear()
        options = RunOptions(trace=True, on_failure=program.on_failure, deadline_s=30)  # type: ignore[arg-type]
        error = None
        try:
            result: Any = self.runtime.execute(self.artifact(program), program.parameters, run=options)
        except ApxmError as raised:
            error, result = raised, raised.result
            if result is None:
                raise
        seen = observe(result.events(), outputs=result.outputs, value=result.value, error=error)
        seen.calls = list(self.calls)
        return seen

    def check(self, program: Program) -> Observed:
        """Run a program and hold the run against the oracle; raises OracleMismatch."""
        seen = self.observe(program)
        expected = run_oracle(
            program.graph,
            program.parameters,
            capabilities=functions(),
            on_failure=program.on_failure,
            choices=seen.choices,
        )
        compare(expected, seen)
        return seen

    def close(self) -> None:
        self.runtime.close()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def fails(program: Program, config: SchedulerConfig | None = None) -> str | None:
    """Why a program does not pass, None when it does."""
    with Bench(config) as bench:
        try:
            bench.check(program)
        except OracleMismatch as error:
            return f"OracleMismatch: {error}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return None
