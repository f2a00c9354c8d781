"""Runs as log lines for people, by structlog: what happened that somebody may want to know. Never on the path of a node.

A subscriber: `runtime.subscribe(EventLogger(level="info", format="json"), nodes=False)`. Its logger is its own; how the program
around it has configured structlog or the standard library's logging is neither used nor changed.
"""

from __future__ import annotations

import re
import sys
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from apxm.errors import InvalidError
from apxm.observability import events

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
Format: TypeAlias = Literal["console", "json"]

LEVELS: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
FORMATS = ("console", "json")
USAGE = ("llm_calls", "input_tokens", "output_tokens", "cost_usd")
EVENT_WIDTH = 19  # of "node is tried again"
TEXT_MAX = 1_000  # characters of one text in a line
RUNS_MAX = 10_000  # runs whose flow is remembered; the end of one may have been lost
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # a text may not move the cursor, nor begin a line of its own


class EventLogger:
    """Takes the events of any number of runs, one after the other; each line has `run_id`, `flow` and, where it has one, `node`.

    error: a run or a node failed. warning: a retry, a call that failed, a question to a person, a cancelled run, lost events.
    info: a run began or ended, PRINT, a plan of a model. debug: every call. Lines go to `write`, without their end; by default
    to standard error, in colours on a terminal.
    """

    def __init__(
        self,
        level: Level = "info",
        format: Format = "console",
        *,
        write: Callable[[str], object] | None = None,
        colors: bool | None = None,
    ) -> None:
        if level not in LEVELS:
            raise InvalidError(f"there is no log level {level!r}", hint=f"expected {', '.join(LEVELS)}")
        if format not in FORMATS:
            raise InvalidError(f"there is no log format {format!r}", hint=f"expected {', '.join(FORMATS)}")
        if colors is None:
            colors = write is None and sys.stderr.isatty()
        self._log = _logger(LEVELS[level], format == "json", colors, write or _to_stderr)
        self._runs: OrderedDict[str, Any] = OrderedDict()  # id -> (its logger, when it began)

    def __call__(self, run_id: str, event: events.Event) -> None:
        """Log an event, or pass it over."""
        match event:
            case events.RunStarted():
                self._started(run_id, event)
            case events.RunEnded():
                self._ended(run_id, event)
            case events.NodeEnded(outcome="failed"):
                said = {"name": event.name, "op": event.op, "duration_ms": round(event.duration_ms, 1), "error": event.error}
                self._say(run_id, event, "error", "node failed", **_place(event), **said)
            case events.NodeRetried():
                said = {"attempt": event.attempt, "retry_in_s": round(event.seconds, 3), "error": event.error}
                self._say(run_id, event, "warning", "node is tried again", **_place(event), **said)
            case events.Called():
                self._called(run_id, event)
            case events.Printed():
                self._say(run_id, event, "info", "printed", **_place(event), text=event.text)
            case events.Paused():
                said = {"checkpoint": event.checkpoint, "message": event.message}
                self._say(run_id, event, "warning", "waits for a person", **_place(event), **said)
            case events.Spliced():
                said = {"name": event.name, "nodes": event.nodes, "depth": event.depth, "may_call": ", ".join(event.capabilities)}
                self._say(run_id, event, "info", "plan of a model", **_place(event), **said)
            case events.Gap():
                self._say(run_id, event, "warning", "events were lost", first=event.first, last=event.last)

    def _started(self, run_id: str, event: events.RunStarted) -> None:
        self._runs[run_id] = (self._log.bind(run_id=run_id, flow=event.flow), event.began)
        if len(self._runs) > RUNS_MAX:
            self._runs.popitem(last=False)
        self._say(run_id, event, "info", "run began", nodes=event.nodes, metadata=dict(event.metadata) or None)

    def _ended(self, run_id: str, event: events.RunEnded) -> None:
        level = {"done": "info", "cancelled": "warning"}.get(event.outcome, "error")
        counts = {name: event.stats[name] for name in ("executed", "failed", "retried") if event.stats.get(name)}
        said = {"outcome": event.outcome, "duration_ms": round(event.duration_ms, 1), **counts, "error": event.error}
        self._say(run_id, event, level, "run ended", **said)
        self._runs.pop(run_id, None)

    def _called(self, run_id: str, event: events.Called) -> None:
        used = {name: event.usage[name] for name in USAGE if name in event.usage} if event.usage else {}
        said = {
            "kind": event.kind,
            "target": event.target,
            "duration_ms": round(event.duration_ms, 1),
            **used,
            "error": event.error,
        }
        if event.ok:
            self._say(run_id, event, "debug", "called", **_place(event), **said)
        else:
            self._say(run_id, event, "warning", "call failed", **_place(event), **said)

    def _say(self, run_id: str, event: events.Event, level: str, what: str, /, **said: Any) -> None:
        log, began = self._runs.get(run_id) or (self._log.bind(run_id=run_id), None)
        known = {name: value for name, value in said.items() if value is not None}
        getattr(log, level)(what, timestamp=None if began is None else began + event.at, **known)


def _place(
    event: events.NodeEnded | events.NodeRetried | events.Called | events.Printed | events.Paused | events.Spliced,
) -> dict[str, Any]:
    """The authored id of the node, and the frame when it is not the flow's own: `3[17]/8[0]`."""
    said: dict[str, Any] = {"node": event.node}
    if event.path:
        said["frame"] = "/".join(f"{node}[{step}]" for node, step in event.path)
    return said


def _logger(level: int, as_json: bool, colors: bool, write: Callable[[str], object]) -> Any:
    """A bound logger that takes nothing from structlog's global configuration."""
    import structlog

    last: list[Any]
    if as_json:
        last = [_iso_time, _in_order, structlog.processors.JSONRenderer(default=str)]
    else:
        last = [_local_time, _one_line, structlog.dev.ConsoleRenderer(EVENT_WIDTH, colors=colors, sort_keys=False)]
    return structlog.wrap_logger(
        _Sink(write),
        processors=[structlog.processors.add_log_level, _bounded, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        context_class=dict,
        cache_logger_on_first_use=True,
    ).bind()


class _Sink:
    """Where structlog leaves a finished line, whatever its level."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self.debug = self.info = self.warning = self.error = write


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _bounded(_log: object, _level: str, said: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in said.items():
        if isinstance(value, str) and len(value) > TEXT_MAX:
            said[name] = f"{value[:TEXT_MAX]}… ({len(value):,} characters)"
    return said


def _one_line(_log: object, _level: str, said: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in said.items():
        if isinstance(value, str):
            said[name] = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", " ".join(value.split()))
    return said


def _in_order(_log: object, _level: str, said: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: said[name] for name in ("timestamp", "level", "event")} | dict(said)


def _iso_time(_log: object, _level: str, said: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """When the event happened, not when it is written."""
    said["timestamp"] = _when(said).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return said


def _local_time(_log: object, _level: str, said: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    said["timestamp"] = _when(said).astimezone().strftime("%H:%M:%S.%f")[:-3]
    return said


def _when(said: MutableMapping[str, Any]) -> datetime:
    at = said["timestamp"]
    return datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
