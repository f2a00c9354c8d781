"""W14: a loaded dag of 5 nodes, executed 10,000 times on one runtime by synchronous calls, outputs and statistics included."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import pytest

from benches import workloads
from benches.dags import dag_of, plain, register, waiting
from benches.floor import floor

if TYPE_CHECKING:
    from apxm import Runtime
    from benches.conftest import Contest
    from benches.dags import Names

ROUNDS = 10


@pytest.mark.parametrize(
    ("variant", "names", "runs", "limit_us"),
    [("nothing suspends", plain, 1_000, 10.0), ("every node suspends", waiting, 100, 150.0)],
    ids=["static", "async"],
)
def test_many_small_runs(contest: Contest, runtime: Runtime, variant: str, names: Names, runs: int, limit_us: float) -> None:
    work = workloads.small()
    register(runtime, work)
    dag = dag_of(work, names)
    result = runtime.execute(dag)
    assert result.value == work.expected
    assert result.stats.executed == work.n
    execute, bare = runtime.execute, floor(work)

    def many() -> Any:
        for _ in range(runs - 1):
            execute(dag)
        return execute(dag).value

    def many_bare() -> Any:
        for _ in range(runs - 1):
            bare()
        return bare()

    times = contest("W14", variant, many, many_bare, expected=work.expected, nodes=runs, limit=None, rounds=ROUNDS, per="µs/run")
    if times:
        measured = statistics.median(times) / runs * 1e6
        contest.note("W14", variant, work.n, ROUNDS * runs, f"{measured:.1f} µs/run", f"≤ {limit_us:g} µs", measured <= limit_us)
