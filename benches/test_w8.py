"""W8: how the cost of a node and its memory grow with the dag. W3 with 1e3 to 1e5 nodes; 1e6 with --long."""

from __future__ import annotations

import gc
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from apxm import Runtime
from benches import workloads
from benches.dags import columns_of, dag_of, register
from benches.floor import floor

if TYPE_CHECKING:
    from collections.abc import Callable

    from benches.conftest import Contest, Notes

SIZES = (1_000, 10_000, 100_000, 1_000_000)


@pytest.mark.parametrize("n", SIZES)
def test_the_cost_of_a_node_does_not_grow(contest: Contest, runtime: Runtime, long_run: bool, n: int) -> None:
    if n == SIZES[-1] and not long_run:
        pytest.skip("takes minutes: --long")
    work = workloads.layered(n)
    register(runtime, work)
    runtime.static_tier = False
    dag = dag_of(work)
    run: Callable[[], Any] = lambda: runtime.execute(dag).value  # noqa: E731
    rounds = max(5, min(25, 1_000_000 // n))
    contest("W8", f"static tier off, {n:.0e}", run, floor(work), expected=work.expected, nodes=n, limit=1.2, rounds=rounds)


@pytest.mark.parametrize("n", SIZES[1:])
def test_the_memory_of_a_node_is_bounded(notes: Notes, long_run: bool, n: int) -> None:
    """Everything that is there while a loaded dag runs, without the values: dag, plan, binding and frame."""
    if n == SIZES[-1] and not long_run:
        pytest.skip("takes minutes: --long")
    work = workloads.layered(n)
    with Runtime() as runtime:
        runtime.static_tier = False
        register(runtime, work)
        runtime.execute(columns_of(workloads.layered(1_000)))  # imports and caches are no cost of a node
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        dag = columns_of(work)
        value = runtime.execute(dag).value
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.reset_peak()
        again = runtime.execute(dag).value
        peak = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
    assert value == again == work.expected
    notes.note("W8", "memory held by dag, plan, binding", n, 1, f"{held / n:.0f} bytes/node", "≤ 400 bytes", held / n <= 400)
    notes.note("W8", "the same and a run, at its peak", n, 1, f"{peak / n:.0f} bytes/node")
