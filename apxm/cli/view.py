"""Who shows a run while it goes: nobody, plain lines, or the live tree. They only read Progress; stdout is never theirs."""

from __future__ import annotations

import shlex
import sys
import threading
from typing import TYPE_CHECKING, Protocol

from apxm.cli.text import count, duration, line, printable
from apxm.observability import events

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self, TextIO

    from apxm.observability.progress import Progress, Row

LONG_S = 0.5  # a node faster than this gets no line of its own when it is done
QUIET_S = 5.0  # after this long without a line, say what is running


class View(Protocol):
    """Shows events as they come, between `__enter__` and `__exit__`; `tell` may be called from any thread meanwhile."""

    def show(self, event: events.Event) -> None: ...
    def tell(self, text: str) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def choose(progress: Progress, *, quiet: bool) -> View:
    """The live tree when standard error is a terminal, lines when it is not, silence when asked to be quiet."""
    if quiet:
        return Silence(sys.stderr)
    if sys.stderr.isatty():
        from apxm.cli.live import LiveTree

        return LiveTree(progress)
    return Lines(progress, sys.stderr)


class Silence:
    """Shows nothing, and tells only what it is told to."""

    def __init__(self, to: TextIO) -> None:
        self.to = to

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, event: events.Event) -> None:
        """Not even that."""

    def tell(self, text: str) -> None:
        print(text, file=self.to, flush=True)


class Lines:
    """Sparse lines for logs and pipes: what went wrong, what took long, what the program printed, how far a MAP is."""

    def __init__(self, progress: Progress, to: TextIO) -> None:
        self.progress, self.to = progress, to
        self._stop = threading.Event()
        self._pulse = threading.Thread(target=self._beat, name="apxm-cli-pulse", daemon=True)
        self._said_at = progress.clock()

    def __enter__(self) -> Self:
        self._pulse.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pulse.join()

    def show(self, event: events.Event) -> None:
        self.progress.apply(event)
        match event:
            case events.Printed():
                self._write(printable(event.text))
            case events.Paused():
                self._say(question(event))
            case events.Spliced():
                self._say(f"+ {line(event.name, 40)}: {plan_of(event)}")
            case events.Called(kind="capability", ok=False) if told := tool_trouble(self.progress, event):
                self._say(told)
            case events.NodeRetried():
                self._say(f"! {self._name(event)} is tried again in {duration(event.seconds)}: {line(event.error, 160)}")
            case events.NodeEnded(outcome="failed"):
                self._say(f"✗ {line(event.name, 40)} ({event.op}) failed: {line(event.error or '', 160)}")
            case events.NodeEnded(outcome="done") if not event.path and event.duration_ms >= LONG_S * 1000:
                self._say(f"✓ {line(event.name, 40)} ({event.op}) in {duration(event.duration_ms / 1000)}")

    def _name(self, event: events.NodeRetried) -> str:
        row = self.progress.rows.get((*(step[0] for step in event.path), event.node))
        return line(row.name, 40) if row else f"node {event.node}"

    def tell(self, text: str) -> None:
        self._say(text)

    def _say(self, text: str) -> None:
        self._write(f"[{self.progress.now():6.1f} s] {text}")

    def _write(self, text: str) -> None:
        self._said_at = self.progress.clock()
        print(text, file=self.to, flush=True)

    def _beat(self) -> None:
        while not self._stop.wait(QUIET_S / 5):
            if self.progress.clock() - self._said_at < QUIET_S:
                continue
            with self.progress.lock:
                busy = "; ".join(state_of(row) for row in self.progress.running() if row.depth == 0)
            self._say(f"… {busy or 'waiting'}")


def plan_of(event: events.Spliced) -> str:
    """A plan that a model made: `a plan of 3 nodes (ASK, 2 INV), may call look`."""
    names = ", ".join(line(f"{number} {op}" if number > 1 else op, 40) for op, number in event.operations.items())
    calls = f", may call {line(', '.join(event.capabilities), 100)}" if event.capabilities else ""
    return f"a plan of {count(event.nodes, 'node')} ({names}){calls}"


def tool_trouble(progress: Progress, event: events.Called) -> str | None:
    """A call that a model asked for and that went wrong; None for one of the node itself, which says so when it ends."""
    row = progress.rows.get((*(step[0] for step in event.path), event.node))
    if row is None or row.op != "ASK":
        return None
    return f"! {line(row.name, 40)}: tool `{line(event.target, 60)}` failed: {line(event.error or '', 600)}"


def question(event: events.Paused) -> str:
    """What a program asks, and how to answer."""
    return f"? {line(event.message, 400)}  (`apxm answer {shlex.quote(printable(event.checkpoint))} VALUE`)"


def state_of(row: Row) -> str:
    """A node that runs, in a few words: `read (MAP) 37 of 120`."""
    text = f"{line(row.name, 40)} ({row.op})"
    if row.frames_total:
        return f"{text} {row.frames_closed:,} of {row.frames_total:,}"
    return f"{text} round {row.frames_closed + 1:,}" if row.frames_opened else text


def opening(flow: str, nodes: int) -> str:
    """The line before a run."""
    return f"running `{line(flow, 60)}`: {count(nodes, 'node')}"
