"""What episodes cost: nothing where none are kept, a few microseconds a node where every firing is, until it is on disk.

The reference is the same program on a runtime that keeps no episodes. The time of the thread that writes is in it: the run has
ended when the store says that everything is on disk.
"""

from __future__ import annotations

import statistics
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pytest

from apxm import MemoryConfig, Runtime, RuntimeConfig
from benches import workloads
from benches.dags import dag_of, plain, reading, register

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benches.conftest import Contest
    from benches.dags import Names

ROUNDS = 15
LIMIT_US = 5.0  # for every node, where all firings are kept
LIMIT_OFF = 1.05  # of the time without episodes, where only calls to the world are kept and there are none


@pytest.fixture
def bare() -> Iterator[Runtime]:
    with Runtime(RuntimeConfig(memory_config=MemoryConfig(episodic="off"))) as made:
        yield made


def keeping(folder: Path, **memory: Any) -> Runtime:
    kept = {"folder": str(folder / "memory"), "episodes": 1_000_000} | memory
    return Runtime(RuntimeConfig(memory_config=MemoryConfig(**kept)))


@pytest.mark.parametrize("where", ["memory", "sqlite"])
def test_calls_alone(contest: Contest, bare: Runtime, tmp_path: Path, where: str) -> None:
    work = workloads.chain()
    with keeping(tmp_path, episodic=where) as runtime:
        for one in (bare, runtime):
            register(one, work)
        dag = dag_of(work, plain)
        run, reference = lambda: runtime.execute(dag).value, lambda: bare.execute(dag).value
        contest(
            "W1",
            f"episodes of calls, {where}",
            run,
            reference,
            expected=work.expected,
            nodes=work.n,
            limit=LIMIT_OFF,
            against="off",
        )


@pytest.mark.parametrize("where", ["memory", "sqlite"])
@pytest.mark.parametrize(("names", "variant"), [(plain, "all pure"), (reading, "every node slow")], ids=["pure", "slow"])
def test_every_firing(contest: Contest, bare: Runtime, tmp_path: Path, where: str, names: Names, variant: str) -> None:
    work = workloads.chain()
    without: list[float] = []
    with keeping(tmp_path, episodic=where, episode_scope="all") as runtime:
        for one in (bare, runtime):
            register(one, work)
        dag, episodes = dag_of(work, names), runtime.memory.episodes
        assert episodes is not None

        def run() -> Any:
            value = runtime.execute(dag).value
            episodes.flush()
            return value

        def reference() -> Any:
            began = perf_counter()
            value = bare.execute(dag).value
            without.append(perf_counter() - began)
            return value

        variant = f"every firing, {where}, {variant}"
        with_all = contest(
            *("W1", variant, run, reference),
            expected=work.expected,
            nodes=work.n,
            limit=None,
            rounds=ROUNDS,
            against="off",
        )
        assert len(episodes.find(kind="firing", limit=work.n)) == work.n
    if with_all:
        pairs = zip(with_all, without[-len(with_all) :])
        more_us = statistics.median(own - other for own, other in pairs) / work.n * 1e6
        contest.note("W1", variant, work.n, ROUNDS, f"{more_us:+.2f} µs/node", f"≤ {LIMIT_US:g} µs", more_us <= LIMIT_US)
