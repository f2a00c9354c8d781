"""A critical path explains the time of a run, whatever the program: random ones, run for real with every kind of failure."""

from __future__ import annotations

from itertools import pairwise

import pytest

from apxm import RunOptions, compile
from apxm.artifact.lift import lift
from apxm.errors import ApxmError
from apxm.graph.contract import from_json
from apxm.graph.critical import critical_path
from apxm.observability.history import History
from apxm.testing.check import DEADLINE_S, Bench
from apxm.testing.programs import generate

PROGRAMS, PROGRAMS_LONG = 300, 20_000


def test_the_steps_of_a_critical_path_follow_each_other_and_add_up(seed: int, long_run: bool) -> None:
    with Bench() as bench:
        for number in range(PROGRAMS_LONG if long_run else PROGRAMS):
            program = generate(seed + number)
            artifact = compile(from_json(program.graph), level=number % 2)
            options = RunOptions(trust=("*",), trace=True, on_failure=program.on_failure, deadline_s=DEADLINE_S)
            try:
                result = bench.runtime.execute(artifact, program.parameters, run=options)
            except ApxmError as error:
                result = error.result
            if result is None:
                continue  # refused before anything ran
            history = History.of(result.events())
            steps = critical_path(history, lift(artifact))
            replay = f"--seed {seed}, program {seed + number}"
            assert bool(steps) == bool(history.spans), replay
            for before, after in pairwise(steps):
                assert before.span.end_at <= after.span.start_at, replay
            if steps:
                total = sum(step.waited + step.span.duration_ms / 1e3 for step in steps)
                assert total == pytest.approx(steps[-1].span.end_at), replay
                last = max(span.end_at for span in history.spans if span.outcome != "cancelled" or len(steps) == 1)
                assert steps[-1].span.end_at <= last, replay
            done = sum(facts.fired for facts in history.places.values())
            assert done == len(history.spans), replay
