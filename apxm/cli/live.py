"""The live tree on a terminal: a row per place in the program, folded to the height of the screen. Only draws."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from apxm.cli.text import count, duration, line, printable
from apxm.cli.view import question, tool_trouble
from apxm.observability import events

if TYPE_CHECKING:
    from typing import Self

    from rich.console import RenderableType

    from apxm.observability.progress import Place, Progress, Row

SPIN = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
MARKS = {
    "done": ("✓", "green"),
    "failed": ("✗", "red"),
    "cancelled": ("■", "yellow"),
    "skipped": ("–", "dim"),
    "pending": ("·", "dim"),
}
FRAMES_PER_S = 10
ROOM = 3  # lines kept for the header and the prompt


class LiveTree:
    """A rich Live display over Progress; what the program prints scrolls by above it."""

    def __init__(self, progress: Progress, console: Console | None = None) -> None:
        self.progress = progress
        self.console = console or Console(file=sys.stderr, highlight=False)
        self._live = Live(
            console=self.console,
            get_renderable=self.render,
            refresh_per_second=FRAMES_PER_S,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, event: events.Event) -> None:
        self.progress.apply(event)
        match event:
            case events.Printed():
                self.console.print(Text(printable(event.text)))
            case events.Paused():
                self.console.print(Text(question(event), style="bold yellow"))
            case events.Called(kind="capability", ok=False) if told := tool_trouble(self.progress, event):
                self.console.print(Text(told, style="yellow"))
            case events.NodeEnded(outcome="failed") if event.path:
                self.console.print(Text(f"✗ {line(event.name, 40)}: {line(event.error or 'failed', 200)}", style="red"))

    def tell(self, text: str) -> None:
        """A line above the tree; it may have colours of its own."""
        self.console.print(Text.from_ansi(text) if "\x1b" in text else Text(text, style="bold"))

    def render(self) -> RenderableType:
        """The display of this moment."""
        with self.progress.lock:
            rows = tree_order(self.progress.rows)
            shown, hidden = fold(rows, max(self.console.size.height - ROOM, 3))
            table = Table.grid(padding=(0, 1))
            for _ in range(4):
                table.add_column(no_wrap=True, overflow="ellipsis")
            for row in shown:
                table.add_row(*self._cells(row))
            parts: list[RenderableType] = [self._header(), table]
            if hidden:
                parts.append(Text(f"  … {count(hidden, 'more row')}", style="dim"))
        return Group(*parts)

    def _header(self) -> Text:
        progress = self.progress
        text = Text(f"{line(progress.flow, 40) or 'starting'}", style="bold")
        text.append(f"  {progress.top_ended:,} of {progress.nodes:,} nodes  {duration(progress.now())}", style="default")
        if progress.frames_open:
            text.append(f"  {progress.frames_open:,} frames open", style="dim")
        if progress.calls["model"]:
            text.append(f"  {progress.calls['model']:,} model calls", style="dim")
        return text

    def _cells(self, row: Row) -> tuple[RenderableType, ...]:
        mark, style = MARKS.get(row.state) or (SPIN[int(self.progress.now() * FRAMES_PER_S) % len(SPIN)], "cyan")
        name = Text("  " * row.depth)
        name.append(f"{mark} ", style=style)
        name.append(line(row.name, 40), style="dim" if row.state in ("pending", "skipped") else "")
        return name, Text(row.op, style="dim"), self._time(row), self._detail(row)

    def _time(self, row: Row) -> Text:
        if row.running and row.depth == 0:
            return Text(duration(self.progress.clock() - row.since), style="cyan")
        return Text(duration(row.seconds) if row.seconds >= 0.001 else "", style="dim")

    def _detail(self, row: Row) -> RenderableType:
        if row.note:
            return Text(line(row.note, 100), style="red" if row.ended["failed"] else "yellow")
        if row.planned:
            return Text(f"a plan of {count(row.planned, 'node')}", style="dim")
        if row.frames_total and (row.running or not row.finished):
            return bar(row.frames_closed, row.frames_total)
        if row.frames_total or row.frames_opened:
            return Text(f"{row.frames_closed:,} {'items' if row.frames_total else 'rounds'}", style="dim")
        return Text(firings(row), style="dim") if row.depth else Text("")


def bar(closed: int, total: int) -> RenderableType:
    """`━━━━──── 37/120`."""
    grid = Table.grid(padding=(0, 1))
    grid.add_row(ProgressBar(total=total, completed=closed, width=24), Text(f"{closed:,}/{total:,}"))
    return grid


def firings(row: Row) -> str:
    """What a row of child frames did so far: `37 done, 2 running`."""
    counts = [(row.ended[outcome], outcome) for outcome in ("done", "failed", "skipped", "cancelled")]
    return ", ".join(f"{number:,} {word}" for number, word in [*counts, (row.running, "running")] if number)


def tree_order(rows: dict[Place, Row]) -> list[Row]:
    """Rows with every child below its parent; siblings stay in the order in which they are known."""
    children: dict[Place, list[Place]] = {}
    for place in rows:
        parent = place[:-1]
        children.setdefault(parent if parent in rows else (), []).append(place)
    ordered: list[Row] = []
    stack = children.get((), [])[::-1]
    while stack:
        place = stack.pop()
        ordered.append(rows[place])
        stack.extend(children.get(place, [])[::-1])
    return ordered


def fold(rows: list[Row], height: int) -> tuple[list[Row], int]:
    """At most `height` rows: the ones with least to say are left out first."""
    weight = {"running": 0, "failed": 1, "cancelled": 2, "pending": 3, "done": 3, "skipped": 4}
    if len(rows) <= height:
        return rows, 0
    ranked = sorted(range(len(rows)), key=lambda i: (weight[rows[i].state], rows[i].depth, i))
    kept = sorted(ranked[:height])
    return [rows[i] for i in kept], len(rows) - len(kept)
