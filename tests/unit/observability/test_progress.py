from __future__ import annotations

from dataclasses import dataclass

from apxm.observability import progress as module
from apxm.observability.events import (
    Called,
    FrameClosed,
    FrameOpened,
    NodeEnded,
    NodeRetried,
    NodeStarted,
    RunEnded,
    RunStarted,
)
from apxm.observability.progress import Progress


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def started(node: int, path: tuple = (), at: float = 0.0) -> NodeStarted:
    return NodeStarted(path, node, f"n{node}", "INV", at=at)


def ended(node: int, outcome: str = "done", path: tuple = (), ms: float = 0.0, error: str | None = None) -> NodeEnded:
    return NodeEnded(path, node, f"n{node}", "INV", outcome, ms, error)


def test_a_node_goes_from_pending_to_running_to_its_outcome() -> None:
    progress = Progress(Clock(), [(1, "n1", "INV")])
    row = progress.rows[(1,)]
    assert row.state == "pending"
    progress.apply(started(1))
    assert row.state == "running"
    progress.apply(ended(1, ms=250))
    assert (row.state, row.seconds, progress.top_ended) == ("done", 0.25, 1)


def test_a_failed_firing_shows_even_when_others_are_done() -> None:
    progress = Progress(Clock())
    for item, outcome in enumerate(["done", "failed", "done"]):
        progress.apply(started(2, ((1, item),)))
        progress.apply(ended(2, outcome, ((1, item),), error="no" if outcome == "failed" else None))
    row = progress.rows[(1, 2)]
    assert row.state == "failed"
    assert dict(row.ended) == {"done": 2, "failed": 1}


def test_the_items_of_a_map_are_one_row_with_a_total() -> None:
    progress = Progress(Clock())
    progress.apply(started(1))
    for item in range(3):
        progress.apply(FrameOpened(((1, item),), "body", 2, 10))
        progress.apply(started(7, ((1, item),)))
    progress.apply(FrameClosed(((1, 0),), "done"))
    row = progress.rows[(1,)]
    assert (row.frames_total, row.frames_opened, row.frames_closed) == (10, 3, 1)
    assert progress.rows[(1, 7)].running == 3
    assert progress.frames_open == 2


def test_nested_maps_add_up_their_totals() -> None:
    progress = Progress(Clock())
    progress.apply(started(1))
    for outer in range(2):
        progress.apply(FrameOpened(((1, outer),), "body", 1, 2))
        progress.apply(started(5, ((1, outer),)))
        for inner in range(3):
            progress.apply(FrameOpened(((1, outer), (5, inner)), "inner", 1, 3))
    assert progress.rows[(1, 5)].frames_total == 6


def test_a_second_activation_of_the_same_map_counts_again() -> None:
    progress = Progress(Clock())
    for turn in range(2):
        path = ((9, turn),)
        progress.apply(started(1, path))
        progress.apply(FrameOpened((*path, (1, 0)), "body", 1, 4))
        progress.apply(ended(1, path=path))
    assert progress.rows[(9, 1)].frames_total == 8


def test_a_skipped_node_never_ran() -> None:
    progress = Progress(Clock())
    progress.apply(ended(1, "skipped"))
    row = progress.rows[(1,)]
    assert (row.running, row.state) == (0, "skipped")


def test_a_retry_and_an_error_are_noted_and_a_success_wipes_the_note() -> None:
    progress = Progress(Clock())
    progress.apply(started(1))
    progress.apply(NodeRetried((), 1, 1, 0.5, "busy"))
    assert progress.rows[(1,)].note == "attempt 2 in 0.5 s: busy"
    progress.apply(ended(1))
    assert progress.rows[(1,)].note == ""


def test_calls_and_tokens_are_counted() -> None:
    progress = Progress(Clock())
    progress.apply(Called((), 1, "model", "m", 5.0, True, {"input_tokens": 10, "output_tokens": 2}))
    progress.apply(Called((), 1, "capability", "read", 5.0, True))
    assert (progress.calls["model"], progress.calls["capability"], progress.calls["input_tokens"]) == (1, 1, 10)


def test_time_runs_from_the_start_of_the_run() -> None:
    clock = Clock()
    progress = Progress(clock)
    clock.now = 105.0
    progress.apply(RunStarted("r", "flow", 3))
    clock.now = 107.5
    assert progress.now() == 2.5
    progress.apply(RunEnded("r", "done", 2500.0))
    assert progress.ended == "done"


def test_the_number_of_rows_is_bounded_and_what_runs_is_kept() -> None:
    progress = Progress(Clock())
    progress.apply(started(0))
    for node in range(1, module.ROWS_MAX + 50):
        progress.apply(started(node))
        progress.apply(ended(node))
    assert len(progress.rows) <= module.ROWS_MAX
    assert (0,) in progress.rows
    assert progress.totals["done"] == module.ROWS_MAX + 49
