"""What others may watch: one event type per thing that happens in a run. Imports nothing of ours.

Every event of a run has a sequence number, 1 for the first, and the seconds since the run began. Both are stamped when it is
published, in the order in which things happened; a number that is missing was lost by the reader, never by the run.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

Path: TypeAlias = tuple[tuple[int, str | int], ...]  # a frame path: (authored node id, step) from the root


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What all events have: `seq` counts those of one run from 1, `at` is seconds since it began."""

    seq: int = 0
    at: float = 0.0

    def stamp(self, seq: int, at: float) -> None:
        """Set both, once, when it is published: only then are they known."""
        object.__setattr__(self, "seq", seq)
        object.__setattr__(self, "at", at)


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """The first event of every run. `began` is Unix time in seconds; `metadata` is that of its RunOptions."""

    run_id: str
    flow: str
    nodes: int
    began: float = 0.0
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeStarted(Event):
    """A node begins to run, on the worker of that number."""

    path: Path
    node: int
    name: str
    op: str
    worker: int = 0


@dataclass(frozen=True, slots=True)
class NodeEnded(Event):
    """A node is terminal. `outcome`: done, skipped, failed, cancelled. `code` is that of its error.

    One that failed and gave its fallback is done, with the error. `winner` is the in-edge position that an ANY or RACE took.
    """

    path: Path
    node: int
    name: str
    op: str
    outcome: str
    duration_ms: float = 0.0
    error: str | None = None
    winner: int | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class NodeRetried(Event):
    """A node failed with a transient error and is tried again after `seconds`."""

    path: Path
    node: int
    attempt: int
    seconds: float
    error: str


@dataclass(frozen=True, slots=True)
class FrameOpened(Event):
    """A child frame opens under node `path[-1][0]` of frame `path[:-1]`; `total` counts its siblings where known."""

    path: Path
    flow: str
    nodes: int
    total: int | None


@dataclass(frozen=True, slots=True)
class FrameClosed(Event):
    """A child frame ended: done, failed or cancelled."""

    path: Path
    outcome: str


@dataclass(frozen=True, slots=True)
class Printed(Event):
    """PRINT said something."""

    path: Path
    node: int
    text: str


@dataclass(frozen=True, slots=True)
class Paused(Event):
    """A node asks a person, under the id `checkpoint`, and waits: until `deadline` (Unix time), if there is one."""

    path: Path
    node: int
    checkpoint: str
    message: str
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Called(Event):
    """One call to the world ended; `kind` is model, capability or message, `target` its name, `code` that of its error.

    `usage` holds llm_calls, input_tokens, output_tokens and cost_usd where known. `details` of a model call are temperature,
    max_output_tokens, model (the one that answered), finish, and where there were any thinking_tokens and tool_calls (names).
    `content` is what was said, as text, and there only when a subscriber asked for it: {prompt, reply} or {arguments, result}.
    """

    path: Path
    node: int
    kind: str
    target: str
    duration_ms: float
    ok: bool
    usage: dict[str, Any] | None = None
    error: str | None = None
    details: dict[str, Any] | None = None
    content: dict[str, str] | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk(Event):
    """A streaming capability gave something; `index` counts from 0 within its call, which tells at most the first thousand.

    `content` is that chunk as text, and there only when a subscriber asked for it. Best effort: the whole is the value.
    """

    path: Path
    node: int
    target: str
    index: int
    content: str | None = None


@dataclass(frozen=True, slots=True)
class Spliced(Event):
    """The model of a node made a plan, which is about to run as the frame `path` + ((`node`, `step`),).

    `nodes` and `edges` count those of its regions too. `operations` are those in it with how often they stand there,
    `capabilities` the ones it may call, `depth` how many plans it is inside of, itself included. `graph` is what runs, in the
    JSON contract, `digest` names it.
    """

    path: Path
    node: int
    name: str
    step: str
    nodes: int
    edges: int
    depth: int
    digest: str
    capabilities: list[str] = field(default_factory=list)
    operations: dict[str, int] = field(default_factory=dict)
    graph: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunEnded(Event):
    """The last event of every run. `outcome` is done or the class of what ended it, `stats` is ExecutionStats.totals()."""

    run_id: str
    outcome: str
    duration_ms: float
    error: str | None = None
    stats: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gap(Event):
    """A reader was too slow, or came too late: the events `first` to `last` are gone. Its own `seq` is `last`."""

    first: int
    last: int


NODE_EVENTS = (NodeStarted, NodeEnded, FrameOpened, FrameClosed)  # those that cost a run its fast ways
KINDS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        *(RunStarted, NodeStarted, NodeEnded, NodeRetried, FrameOpened, FrameClosed),
        *(Printed, Paused, Called, Chunk, Spliced, RunEnded, Gap),
    )
}


def to_map(event: Event) -> dict[str, Any]:
    """An event as JSON data: its kind, and its fields without those that say nothing."""
    said: dict[str, Any] = {"event": type(event).__name__}
    for name in _NAMES[type(event)]:
        value = getattr(event, name)
        if value is not None and value != {}:
            said[name] = value
    return said


def from_map(data: dict[str, Any]) -> Event:
    """The event that `to_map` gave, read back from JSON. KeyError or TypeError for what is none."""
    known = KINDS[data["event"]]
    given = {name: value for name, value in data.items() if name != "event"}
    if "path" in given:
        given["path"] = tuple((int(node), step) for node, step in given["path"])
    if known is FrameOpened:
        given.setdefault("total", None)
    return known(**given)


_NAMES = {kind: tuple(f.name for f in fields(kind)) for kind in KINDS.values()}
