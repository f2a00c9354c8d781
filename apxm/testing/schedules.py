"""One program under many schedules: each simulated, and held against the oracle. Runs nothing on the real engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.compiler.compile import compile
from apxm.config import RunOptions
from apxm.errors import ApxmError, RunCancelled
from apxm.graph.contract import from_json
from apxm.testing.compare import compare
from apxm.testing.firing import canonical
from apxm.testing.meaning import same
from apxm.testing.oracle import OracleMismatch
from apxm.testing.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apxm.testing.check import Bench
    from apxm.testing.programs import Program
    from apxm.testing.simulator import Choose, Simulated


class Schedules:
    """The schedules of one program. A schedule is a seed, or a function that chooses."""

    def __init__(self, bench: Bench, program: Program) -> None:
        self.bench, self.program = bench, program
        dag = compile(from_json(program.graph), level=0).into_dag()
        options = RunOptions(trust=("*",), on_failure=program.on_failure)
        self.simulator = Simulator(bench.runtime, dag, program.parameters, options, bench.forget)
        self._any = bench.expected(program, None)

    def check(self, schedule: Choose | int, **how: Any) -> Simulated:
        """One run, held against the oracle. `how` goes to the simulator."""
        done = self.simulator.run(schedule, **how)
        self._hold(done)
        return done

    def check_every(self, *, limit: int, **how: Any) -> Iterator[Simulated]:
        """Every schedule there is, at most `limit` of them, each held against the oracle."""
        for done in self.simulator.every_run(limit=limit, **how):
            self._hold(done)
            yield done

    def check_unwatched(self, schedule: Choose | int, **how: Any) -> bool:
        """One run on the faster ways, which nobody watches. False when its value is a matter of choices."""
        if not self._any.determined:
            return False
        done = self.simulator.run(schedule, watched=False, **how)
        _empty(done)
        if done.run.error is not None or not same(canonical(done.seen.value), canonical(self._any.value)):
            raise OracleMismatch(f"unwatched, it gives {done.run.error or done.seen.value!r}, expected {self._any.value!r}")
        return True

    def check_cancelled(self, schedule: int, step: int, **how: Any) -> None:
        """One run that is cancelled before a step: it ends, leaves nothing behind, and every `finally` that was due ran."""
        done = self.simulator.run(schedule, cancel_at=step, **how)
        _empty(done)
        opened = done.seen.opened
        tries = {path for path in opened if path[-1][1] == "try"}
        lasts = {(*path[:-1], (path[-1][0], "finally")) for path in tries} & self._lasts(schedule, **how)
        if lasts - opened:
            raise OracleMismatch(f"cancelled at step {step}, no `finally` ran at {sorted(lasts - opened, key=repr)}")
        if done.run.error is not None and not isinstance(done.run.error, ApxmError):
            raise OracleMismatch(f"cancelled at step {step}, it ends with {done.run.error!r}")
        if step == 0 and not isinstance(done.run.error, RunCancelled):
            raise OracleMismatch(f"cancelled before it began, it ends with {done.run.error!r}")

    def _lasts(self, schedule: int, **how: Any) -> set[Any]:
        whole = self.simulator.run(schedule, **how)
        return {path for path in whole.seen.opened if path[-1][1] == "finally"}

    def _hold(self, done: Simulated) -> None:
        done.seen.calls = list(self.bench.calls)
        expected = self._any if self._any.determined else self.bench.expected(self.program, done.seen.choices)
        compare(expected, done.seen)
        _empty(done)


def _empty(done: Simulated) -> None:
    left = done.run.left_behind()
    if left:
        raise OracleMismatch(f"left behind: {left}")


def command(program: Program, schedule: int, workers: int, *, unwatched: bool = False, cancel_at: int | None = None) -> str:
    """The command line that simulates this program under this schedule again."""
    more = " --unwatched" if unwatched else "" if cancel_at is None else f" --cancel-at {cancel_at}"
    return f"python -m apxm.testing.check {program.seed} --schedule {schedule} --workers {workers}{more}"
