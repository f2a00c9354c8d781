"""How far long work is: a bar on a terminal, elsewhere a line now and then. Only draws."""

from __future__ import annotations

import sys
from time import monotonic
from typing import TYPE_CHECKING

from apxm.cli.report import say
from apxm.cli.text import line

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from rich.progress import Progress, TaskID

WHAT_SHOWN = 40  # characters
QUIET_S = 2.0  # work that takes no longer is through before a line about it is read
STEPS = 10  # lines that one piece of work may have where there is no terminal


class Bar:
    """Called with what is done, how much of it is through and how much there is. On standard error."""

    def __init__(self, *, shown: bool = True, clock: Callable[[], float] = monotonic) -> None:
        self._shown, self._clock = shown, clock
        self._began = clock()
        self._drawn: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, int] = {}  # the last tenth of each piece of work that was said

    def __call__(self, what: str, done: int, total: int) -> None:
        if not self._shown:
            return
        if self._drawn is None:
            self._line(what, done, total)
        elif what in self._tasks:
            self._drawn.update(self._tasks[what], completed=done, total=total)
        else:
            self._tasks[what] = self._drawn.add_task(line(what, WHAT_SHOWN), completed=done, total=total)

    def _line(self, what: str, done: int, total: int) -> None:
        if self._clock() - self._began < QUIET_S:
            return
        step = done * STEPS // total if total else STEPS
        if step > self._said.get(what, -1):
            self._said[what] = step
            say(f"{line(what, WHAT_SHOWN)}: {done:,} of {total:,}")

    def __enter__(self) -> Self:
        if self._shown and sys.stderr.isatty():
            self._drawn = _drawn()
            self._drawn.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn is not None:
            self._drawn.stop()


def _drawn() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(file=sys.stderr, highlight=False), transient=True)
