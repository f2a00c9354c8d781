from __future__ import annotations

import random
from itertools import pairwise

from apxm.graph.render.timeline import BINS, ROWS_MAX, SPANS_MAX, timeline
from apxm.observability.history import Span


def span(start: float, end: float, worker: int = 0, node: int = 1, outcome: str = "done") -> Span:
    return Span((), node, "n", "PRINT", worker, start, end, outcome)


def test_each_worker_has_a_lane_with_its_spans_by_time() -> None:
    drawn = timeline([span(2, 3, 1), span(0, 1, 0), span(1, 2, 1, node=4, outcome="failed")], lambda one: one.node, 3.0)
    assert [(lane["worker"], lane["firings"], lane["rows"]) for lane in drawn["lanes"]] == [(0, 1, 1), (1, 2, 1)]
    assert drawn["lanes"][1]["spans"] == [[1, 2, 4, 0, 0], [2, 3, 1, 3, 0]]
    assert (drawn["end"], drawn["hidden"]) == (3.0, 0)


def test_spans_that_overlap_stand_in_rows_of_their_own(seed: int) -> None:
    rng = random.Random(seed)
    starts = [rng.uniform(0, 20) for _ in range(120)]
    lane = timeline([span(at, at + rng.uniform(0, 2)) for at in starts], lambda _: 0, 22.0)["lanes"][0]
    assert 1 < lane["rows"] <= ROWS_MAX
    for row in range(lane["rows"]):
        inside = [one for one in lane["spans"] if one[4] == row]
        assert all(one[1] <= other[0] for one, other in pairwise(inside)), f"seed {seed}"


def test_more_spans_than_are_drawn_leave_the_longest_and_a_profile_of_all() -> None:
    count = SPANS_MAX + 500
    spans = [span(at / count, (at + 0.5) / count, at % 2) for at in range(count)]
    spans[7] = span(0.0, 1.0, 1)
    drawn = timeline(spans, lambda _: 0, 1.0)
    listed = [one for lane in drawn["lanes"] for one in lane["spans"]]
    assert (len(listed), drawn["hidden"]) == (SPANS_MAX, 500)
    assert any(one[:2] == [0.0, 1.0] for one in listed)
    assert [len(lane["bins"]) for lane in drawn["lanes"]] == [BINS, BINS]
    assert sum(lane["firings"] for lane in drawn["lanes"]) == count


def test_the_profile_adds_up_to_the_time_that_was_spent(seed: int) -> None:
    rng = random.Random(seed)
    spans = [span(at, min(at + rng.expovariate(40), 1.0)) for at in (rng.random() for _ in range(SPANS_MAX + 1))]
    bins = timeline(spans, lambda _: 0, 1.0)["lanes"][0]["bins"]
    spent = sum(one.end_at - one.start_at for one in spans)
    assert abs(sum(bins) / BINS - spent) < 0.01 * spent, f"seed {seed}"


def test_a_run_without_firings_has_no_lanes() -> None:
    assert timeline([], lambda _: 0, 0.5) == {"end": 0.5, "hidden": 0, "lanes": []}
