"""Who worked when, as rows that a page can draw: firings by worker, side by side where they overlap. Draws nothing."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from apxm.graph.render.marks import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apxm.observability.history import Span

SPANS_MAX = 4_000  # drawn one by one; of more, the longest, over a profile of all
BINS = 600
ROWS_MAX = 24  # of one worker; what overlaps more shares the last row


def timeline(spans: Sequence[Span], number: Callable[[Span], int], end_at: float) -> dict[str, Any]:
    """Lanes by worker, each with its spans [start, end, box, outcome, row] in seconds.

    `number` gives the box of a span, -1 for none. Past SPANS_MAX, `bins` of a lane say how many firings were under way in
    each of BINS equal parts of the run, and `hidden` how many spans are not listed.
    """
    end_at = max([end_at, *(span.end_at for span in spans)], default=end_at)
    lanes: dict[int, list[Span]] = {}
    for span in spans:
        lanes.setdefault(span.worker, []).append(span)
    shown = set(map(id, sorted(spans, key=lambda span: span.start_at - span.end_at)[:SPANS_MAX]))
    many = len(spans) > SPANS_MAX
    return {
        "end": end_at,
        "hidden": len(spans) - len(shown),
        "lanes": [_lane(worker, lanes[worker], shown, number, end_at, many=many) for worker in sorted(lanes)],
    }


def _lane(
    worker: int, spans: Sequence[Span], shown: set[int], number: Callable[[Span], int], end_at: float, *, many: bool
) -> dict[str, Any]:
    listed = sorted((span for span in spans if id(span) in shown), key=lambda span: (span.start_at, -span.end_at))
    rows = _rows(listed)
    outcomes = {outcome: at for at, outcome in enumerate(OUTCOMES)}
    lane: dict[str, Any] = {
        "worker": worker,
        "firings": len(spans),
        "rows": max(rows, default=0) + 1,
        "spans": [
            [round(span.start_at, 6), round(span.end_at, 6), number(span), outcomes.get(span.outcome, -1), row]
            for span, row in zip(listed, rows)
        ],
    }
    if many:
        lane["bins"] = _bins(spans, end_at)
    return lane


def _rows(spans: Sequence[Span]) -> list[int]:
    """For spans by start, the first row that is free: in each, one ends before the next begins."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []  # end, row
    rows, used = [], 0
    for span in spans:
        while busy and busy[0][0] <= span.start_at:
            heappush(free, heappop(busy)[1])
        if free:
            row = heappop(free)
        else:
            row, used = min(used, ROWS_MAX - 1), used + 1
        heappush(busy, (span.end_at, row))
        rows.append(row)
    return rows


def _bins(spans: Sequence[Span], end_at: float) -> list[float]:
    """How many firings were under way in each part of the run, on average."""
    size = end_at / BINS if end_at else 1.0
    steps = [0.0] * (BINS + 2)  # of the sum: what begins and ends within a part counts for its share
    load = [0.0] * (BINS + 1)
    for span in spans:
        first, last = min(int(span.start_at / size), BINS - 1), min(int(span.end_at / size), BINS - 1)
        if first == last:
            load[first] += (span.end_at - span.start_at) / size
            continue
        load[first] += first + 1 - span.start_at / size
        load[last] += span.end_at / size - last
        steps[first + 1] += 1
        steps[last] -= 1
    through, bins = 0.0, []
    for at in range(BINS):
        through += steps[at]
        bins.append(round(load[at] + through, 3))
    return bins
