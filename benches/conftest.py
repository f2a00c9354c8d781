"""Ratios, not times: every round of a bench times its reference just before ours, and a table of all comes at the end."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pytest

from apxm import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `reached` is None where nothing was promised."""

    workload: str
    variant: str
    n: int
    rounds: int
    ours: str
    reference: str
    ratio: str
    target: str
    reached: bool | None


_ROWS = pytest.StashKey[list[Row]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    try:
        parser.addoption("--long", action="store_true", help="the sizes of a release instead of those of every day")
    except ValueError:  # the tests run in the same session and have it already
        return


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = []
    if hasattr(config.option, "benchmark_quiet"):
        config.option.benchmark_quiet = not config.option.benchmark_verbose  # one table, ours


@pytest.fixture(scope="session")
def long_run(request: pytest.FixtureRequest) -> bool:
    """Whether this run takes the sizes of a release."""
    return bool(request.config.option.long)


@pytest.fixture
def runtime() -> Any:
    """A runtime with default features and nothing registered."""
    with Runtime() as runtime:
        yield runtime


class Notes:
    """The table, as far as it is written."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows

    def note(
        self, workload: str, variant: str, n: int, rounds: int, measured: str, target: str = "", reached: bool | None = None
    ) -> None:
        """Write down a figure that is no ratio."""
        self._rows.append(Row(workload, variant, n, rounds, measured, "", "", target, reached))


class Contest(Notes):
    """Measures ours against a reference and writes down what came out."""

    def __init__(self, rows: list[Row], benchmark: Any) -> None:
        super().__init__(rows)
        self._benchmark = benchmark

    def __call__(
        self,
        workload: str,
        variant: str,
        run: Callable[[], Any],
        reference: Callable[[], Any],
        *,
        expected: Any,
        nodes: int,
        limit: float | None,
        rounds: int = 25,
        against: str = "floor",
        per: str = "ns/node",
        freeze: bool = True,
    ) -> list[float]:
        """Race one against the other; both must give `expected`. Gives our seconds of each round.

        The ratio is the median over the rounds of ours to the reference just before it.
        `per` is ns/node, µs/run (then `nodes` are the runs in one round), or ms for whole runs.
        """
        for contestant in (reference, run):
            got = contestant()
            assert got == expected, f"{workload}, {variant}: got {got!r}, expected {expected!r}"
        gc.collect()
        if freeze:
            gc.freeze()  # what is loaded is not walked again while we measure
        theirs: list[float] = []

        def reference_first() -> None:
            began = perf_counter()
            reference()
            theirs.append(perf_counter() - began)

        self._benchmark.pedantic(run, setup=reference_first, rounds=rounds, iterations=1)
        gc.unfreeze()
        if self._benchmark.stats is None:  # --benchmark-disable: run once, nothing measured
            return []
        ours = list(self._benchmark.stats.stats.data)
        ratio = statistics.median(own / other for own, other in zip(ours, theirs[-len(ours) :]))
        scale = {"ns/node": 1e9 / nodes, "µs/run": 1e6 / nodes, "ms": 1e3}[per]
        figures = [f"{statistics.median(times) * scale:,.{0 if per == 'ns/node' else 1}f} {per}" for times in (ours, theirs)]
        target = f"≤ {limit:g} × {against}" if limit is not None else f"(× {against})"
        reached = None if limit is None else ratio <= limit
        self._rows.append(Row(workload, variant, nodes, rounds, figures[0], figures[1], f"{ratio:.2f}", target, reached))
        self._benchmark.extra_info.update(nodes=nodes, ratio=ratio, limit=limit, against=against)
        return ours


@pytest.fixture
def notes(request: pytest.FixtureRequest) -> Notes:
    """For benches that measure no time."""
    return Notes(request.config.stash[_ROWS])


@pytest.fixture
def contest(request: pytest.FixtureRequest, benchmark: Any) -> Contest:
    """The stopwatch of one bench."""
    return Contest(request.config.stash[_ROWS], benchmark)


def _machine() -> str:
    """What every figure is quoted with."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    ).stdout.strip()
    return f"{model}, {os.cpu_count()} cores, CPython {platform.python_version()}, commit {commit or 'unknown'}"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash[_ROWS]
    if not rows:
        return
    head = ("workload", "variant", "n", "rounds", "ours", "reference", "ratio", "target", "reached")
    table = [head]
    for row in rows:
        reached = "" if row.reached is None else "yes" if row.reached else "NO"
        table.append(
            (row.workload, row.variant, f"{row.n:,}", str(row.rounds), row.ours, row.reference, row.ratio, row.target, reached)
        )
    widths = [max(len(cells[column]) for cells in table) for column in range(len(head))]
    right = {2, 3, 4, 5, 6}
    terminalreporter.section("workloads")
    for cells in table:
        padded = [cell.rjust(width) if i in right else cell.ljust(width) for i, (cell, width) in enumerate(zip(cells, widths))]
        terminalreporter.write_line("  ".join(padded).rstrip())
    terminalreporter.write_line(f"medians; ratio: median over the rounds; every result was checked; {_machine()}")
