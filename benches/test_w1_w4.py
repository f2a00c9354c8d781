"""W1-W4: what a node costs beyond its handler. Includes statistics, labels, budgets, cancellation; no subscriber, no trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from benches import workloads
from benches.dags import dag_of, every_hundredth, plain, reading, register
from benches.floor import floor

if TYPE_CHECKING:
    from collections.abc import Callable

    from apxm import Runtime
    from benches.conftest import Contest
    from benches.dags import Names
    from benches.workloads import Workload

WORKLOADS = (workloads.chain, workloads.fan, workloads.layered, workloads.tree)


@pytest.fixture(scope="module", params=WORKLOADS, ids=lambda make: make().name)
def work(request: pytest.FixtureRequest) -> Workload:
    made: Workload = request.param()
    return made


def _run(contest: Contest, runtime: Runtime, work: Workload, names: Names, variant: str, limit: float) -> None:
    register(runtime, work)
    dag = dag_of(work, names)
    run: Callable[[], Any] = lambda: runtime.execute(dag).value  # noqa: E731  # a def would add a frame to every run
    contest(work.name, variant, run, floor(work), expected=work.expected, nodes=work.n, limit=limit)


def test_as_it_comes(contest: Contest, runtime: Runtime, work: Workload) -> None:
    _run(contest, runtime, work, plain, "all pure", 0.5)


def test_without_the_static_tier(contest: Contest, runtime: Runtime, work: Workload) -> None:
    runtime.static_tier = False
    _run(contest, runtime, work, plain, "static tier off", 1.2 if work.name == "W3" else 1.0)


def test_with_one_percent_of_nodes_suspending(contest: Contest, runtime: Runtime, work: Workload) -> None:
    _run(contest, runtime, work, every_hundredth, "1 % suspend", 1.5)


def test_with_every_node_slow(contest: Contest, runtime: Runtime, work: Workload) -> None:
    _run(contest, runtime, work, reading, "every node slow", 3.0)
