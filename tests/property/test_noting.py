"""Putting every firing on record changes nothing about a run, and what is on record is what happened."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from apxm import compile
from apxm.config import MemoryConfig, SchedulerConfig
from apxm.engine.noting import NotedRun
from apxm.graph.contract import from_json
from apxm.observability.events import NodeEnded, NodeStarted
from apxm.runtime import _run_type
from apxm.testing.check import Bench, explain
from apxm.testing.programs import generate

if TYPE_CHECKING:
    from apxm.memory.episodic import Episodes
    from apxm.testing.programs import Program

FIRST = int(os.environ.get("APXM_SEED", "0"))
PROGRAMS, PROGRAMS_LONG = 60, 2_000


def noted(bench: Bench) -> Episodes:
    """Let every run of a bench be noted; gives where."""
    bench.runtime._run_type = _run_type(MemoryConfig(episode_scope="all"))
    assert bench.runtime._run_type is NotedRun
    assert bench.runtime.memory.episodes is not None
    return bench.runtime.memory.episodes


def test_random_programs_do_what_the_oracle_says_when_they_are_noted(long_run: bool, seed: int) -> None:
    first, count = (seed, PROGRAMS_LONG) if long_run else (FIRST, PROGRAMS)
    config = SchedulerConfig(max_parallelism=3)
    with Bench(config) as bench:
        noted(bench)
        for program in map(generate, range(first, first + count)):
            assert bench.why(program) is None, explain(program, config)


def test_on_record_is_what_happened(long_run: bool, seed: int) -> None:
    first, count = (seed, PROGRAMS_LONG) if long_run else (FIRST, PROGRAMS)
    outcomes: Counter[str] = Counter()
    with Bench() as bench:
        episodes = noted(bench)
        for program in map(generate, range(first, first + count)):
            episodes.clear()
            result, _ = bench.run(program)
            events = list(result.events())
            began = {(one.path, one.node) for one in events if isinstance(one, NodeStarted)}
            ended = [one for one in events if isinstance(one, NodeEnded) and (one.path, one.node) in began]
            told = Counter((one.path, one.node, one.name, one.op, one.outcome) for one in ended if one.outcome != "skipped")
            kept = Counter()
            for one in episodes.find(kind="firing"):
                outcome = "cancelled" if one.code == "cancelled" else one.outcome
                kept[one.path, one.node, one.name, one.op, outcome] += 1
            assert kept == told, f"program {program.seed if hasattr(program, 'seed') else program}"
            outcomes.update(outcome for *_, outcome in told.elements())
    assert outcomes["done"] > 10 * count
    assert outcomes["failed"]
    assert outcomes["cancelled"]


def test_on_record_is_the_same_whether_somebody_takes_the_events_or_not(long_run: bool, seed: int) -> None:
    """Without events pure nodes are fired in leases, and frames of pure nodes replayed."""
    first, count = (seed, PROGRAMS_LONG) if long_run else (FIRST, PROGRAMS)
    compared = 0
    with Bench() as bench:
        episodes = noted(bench)

        def ran(program: Program, *, trace: bool) -> tuple[Counter[tuple[object, ...]], int]:
            episodes.clear()
            artifact = compile(from_json(program.graph), level=0)
            result, _ = bench._execute(program, artifact, trace=trace)
            fired = [one for one in episodes.find(kind="firing") if one.code != "cancelled"]
            return Counter((one.path, one.node, one.name, one.op, one.code) for one in fired), result.stats.executed

        for program in map(generate, range(first, first + count)):
            if bench.expected(program, None).determined:
                assert ran(program, trace=False) == ran(program, trace=True), explain(program)
                compared += 1
    assert compared > count // 4
