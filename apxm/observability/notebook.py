"""A run in a notebook while it goes on: a table that is drawn again as events come. Only shows; the run never waits for it."""

from __future__ import annotations

import threading
import time
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apxm.engine.handle import RunHandle
    from apxm.observability.progress import Progress, Row

EVERY_S = 0.2  # a picture more often than this is seen by nobody, and costs the browser
ROWS_MAX = 40
MARKS = {
    "running": ("◐", "#0969da"),
    "done": ("✓", "#1a7f37"),
    "failed": ("✗", "#cf222e"),
    "cancelled": ("■", "#9a6700"),
    "skipped": ("–", "#6e7781"),
    "pending": ("·", "#6e7781"),
}


def display_run(handle: RunHandle) -> None:
    """Show `handle` in the cell that runs now, and keep the picture up to date from a thread until the run has ended."""
    import IPython.display

    from apxm.observability.progress import Progress

    front: Any = IPython.display  # untyped
    progress = Progress.of(handle.dag, time.monotonic)
    shown = front.display(front.HTML(as_html(progress)), display_id=True)

    def update() -> None:
        shown.update(front.HTML(as_html(progress)))

    threading.Thread(target=_follow, args=(handle, progress, update), name="apxm-notebook", daemon=True).start()


def _follow(handle: RunHandle, progress: Progress, update: Callable[[], None]) -> None:
    drawn = 0.0
    for event in handle.events():
        progress.apply(event)
        if time.monotonic() - drawn >= EVERY_S:
            update()
            drawn = time.monotonic()
    update()


def as_html(progress: Progress) -> str:
    """The picture of this moment: a header and a row for each place of the program, at most 40."""
    with progress.lock:
        state = progress.ended or "running"
        head = f"{progress.flow or 'starting'} · {state} · {progress.top_ended:,} of {progress.nodes:,} nodes"
        head += f" · {progress.now():.1f} s"
        if calls := progress.calls["model"]:
            head += f" · {calls:,} model calls"
        rows = sorted(progress.rows.values(), key=lambda row: row.place)
        drawn = "".join(_cells(row) for row in rows[:ROWS_MAX])
        more = f"<tr><td colspan=4>… {len(rows) - ROWS_MAX:,} more</td></tr>" if len(rows) > ROWS_MAX else ""
    style = "font-family:ui-monospace,monospace;font-size:12px"
    return f'<div style="{style}"><b>{escape(head)}</b><table style="{style}">{drawn}{more}</table></div>'


def _cells(row: Row) -> str:
    mark, colour = MARKS[row.state]
    indent = "&emsp;" * row.depth
    cells = [
        f'{indent}<span style="color:{colour}">{mark}</span> {escape(row.name[:60])}',
        escape(row.op),
        f"{row.seconds:.2f} s" if row.seconds >= 0.01 else "",
        escape(", ".join(_words(row))[:200]),
    ]
    return "<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells) + "</tr>"


def _words(row: Row) -> Iterator[str]:
    if row.note:
        yield row.note
    if row.planned:
        yield f"a plan of {row.planned:,} node{'s' if row.planned > 1 else ''}"
    elif row.frames_total:
        yield f"{row.frames_closed:,} of {row.frames_total:,}"
    elif row.frames_opened:
        yield f"{row.frames_closed:,} rounds"
    if row.depth:
        yield from (
            f"{row.ended[outcome]:,} {outcome}" for outcome in ("done", "failed", "skipped", "cancelled") if row.ended[outcome]
        )
