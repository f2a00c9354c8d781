"""W5, W5b: nodes that wait. The makespan against a bare coroutine driver and the critical path, and the CPU time of a run."""

from __future__ import annotations

import statistics
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import pytest

from apxm import Runtime, RuntimeConfig, SchedulerConfig
from benches import workloads
from benches.dags import dag_of, register, waiting
from benches.floor import driver

if TYPE_CHECKING:
    from collections.abc import Callable

    from benches.conftest import Contest

ROUNDS = 9
RUNTIMES = {
    "default": RuntimeConfig(),
    "32 at once": RuntimeConfig(scheduler_config=SchedulerConfig(max_parallelism=32)),
    "no stealing": RuntimeConfig(scheduler_config=SchedulerConfig(enable_work_stealing=False)),
}


def _cpu_ms(run: Callable[[], Any]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = process_time()
        run()
        times.append(process_time() - began)
    return statistics.median(times) * 1e3


def _makespan_ms(run: Callable[[], Any]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = perf_counter()
        run()
        times.append(perf_counter() - began)
    return statistics.median(times) * 1e3


@pytest.mark.parametrize("config", RUNTIMES)
def test_agents_that_wait(contest: Contest, config: str) -> None:
    work = workloads.agents()
    with Runtime(RUNTIMES[config]) as runtime:
        register(runtime, work)
        dag = dag_of(work, waiting)
        run: Callable[[], Any] = lambda: runtime.execute(dag).value  # noqa: E731
        bare = driver(work)
        contest(
            "W5", config, run, bare, expected=work.expected, nodes=work.n, limit=1.02, rounds=ROUNDS, against="driver", per="ms"
        )
        cpu = _cpu_ms(run)
        contest.note("W5", f"{config}, CPU time", work.n, ROUNDS, f"{cpu:.1f} ms", "≤ 20 ms", cpu <= 20)
        contest.note("W5", "driver, CPU time", work.n, ROUNDS, f"{_cpu_ms(bare):.1f} ms")


def test_a_skewed_diamond_has_no_superstep_barrier(contest: Contest, runtime: Runtime) -> None:
    work = workloads.diamonds()
    register(runtime, work)
    dag = dag_of(work, waiting)
    run: Callable[[], Any] = lambda: runtime.execute(dag).value  # noqa: E731
    contest(
        "W5b",
        "default",
        run,
        driver(work),
        expected=work.expected,
        nodes=work.n,
        limit=None,
        rounds=ROUNDS,
        against="driver",
        per="ms",
    )
    path = work.critical_path_s * 1e3
    measured = _makespan_ms(run)
    ratio = measured / path
    contest.note("W5b", "of the critical path", work.n, ROUNDS, f"{measured:.1f} ms = {ratio:.3f} ×", "≤ 1.02 ×", ratio <= 1.02)
