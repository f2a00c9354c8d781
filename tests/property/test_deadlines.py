"""P9: timeouts and deadlines are honoured to the moment, nested ones take the minimum; in virtual time, with the real engine.

With --long 10,000 trees, others each time. A failure prints the command that runs its tree alone.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from apxm.engine.local import LocalRun
from apxm.testing.check import main
from apxm.testing.timing import SCOPES, End, Limited, Timed, Tree, generate

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST = int(os.environ.get("APXM_SEED", "0"))
TREES, TREES_LONG = 250, 10_000


@pytest.fixture(scope="module")
def timed() -> Iterator[Timed]:
    made = Timed()
    yield made
    made.close()


def test_random_trees_of_limits_end_when_the_smallest_limit_says(timed: Timed, long_run: bool, seed: int) -> None:
    first = seed if long_run else FIRST
    ends: Counter[str] = Counter()
    for number in range(first, first + (TREES_LONG if long_run else TREES)):
        tree = generate(number)
        why = timed.why(tree)
        assert why is None, why
        ends[tree.end().code or "in time"] += 1
    assert min(ends[end] for end in ("in time", "transient", "deadline")) > TREES / 20


def wait(number: int, seconds: float, timeout_ms: int | None = None) -> Limited:
    return Limited(number, "INV", timeout_ms, seconds)


@pytest.mark.parametrize("op", SCOPES)
@pytest.mark.parametrize(
    ("outer", "inner", "own", "deadline", "wanted"),
    [
        (5_000, 3_000, 4_000, 6.0, End(3.0, "n2", "deadline")),
        (2_000, 3_000, 4_000, 6.0, End(2.0, "n1", "deadline")),
        (5_000, 3_000, 1_000, 6.0, End(1.0, "n3", "transient")),
        (5_000, 3_000, 4_000, 0.5, End(0.5, "run", "deadline")),
        (50_000, 30_000, 40_000, 60.0, End(10.0)),
        (None, None, None, None, End(10.0)),
    ],
)
def test_of_nested_limits_the_smallest_ends_what_it_stands_around(
    timed: Timed, op: str, outer: int | None, inner: int | None, own: int | None, deadline: float | None, wanted: End
) -> None:
    nested = Limited(1, op, outer, inside=[Limited(2, op, inner, inside=[wait(3, 10.0, own)])])
    tree = Tree(-1, [nested], False, deadline)
    assert tree.end() == wanted
    assert timed.why(tree) is None


def test_a_limit_with_a_fallback_gives_the_time_back_to_what_comes_after(timed: Timed) -> None:
    late = Limited(1, "LOOP", 2_000, fallback=True, inside=[wait(2, 10.0)])
    tree = Tree(-1, [late, wait(3, 1.0)], False, 3.5)
    assert tree.end() == End(3.0)
    assert timed.why(tree) is None


def test_the_command_that_a_failure_prints_runs_that_tree_alone(
    timed: Timed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a bug planted in the engine: the time of a scope never runs out."""
    with monkeypatch.context() as planted:
        planted.setattr(LocalRun, "_spawn_late", lambda run, activation, seconds: None)
        why = next(why for number in range(100) if (why := timed.why(generate(number))) is not None)
        commands = re.findall(r"`python -m apxm.testing.check (.*)`", why)
        assert len(commands) == 1
        assert main(commands[0].split()) == 1
        assert "expected End(" in capsys.readouterr().out
    assert main(commands[0].split()) == 0
