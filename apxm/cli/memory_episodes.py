"""`apxm memory episodes`: what happened in runs, of which episodes were kept in the folder. Changes none."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import TYPE_CHECKING

from apxm.cli.command import JSON, Command, Option
from apxm.cli.exits import Exit
from apxm.cli.remembered import CONFIG, MORE

if TYPE_CHECKING:
    from argparse import Namespace

    from apxm.memory.episodic import Episode
    from apxm.settings import Settings

KINDS = ("model", "capability", "message", "reflection", "record", "firing")
OUTCOMES = ("done", "failed")
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}  # seconds
HEAD = ("at", "run", "agent", "node", "op", "kind", "target", "outcome", "time")


def episodes(order: Namespace) -> int:
    """Print the newest episodes that are asked for; the exit code."""
    from dataclasses import replace

    from apxm.cli import remembered, report
    from apxm.cli.text import as_json
    from apxm.memory.episodic import open_episodes
    from apxm.settings import load

    limit, now = remembered.bounded(order.limit), time.time()
    since, until = when("--since", order.since, now), when("--until", order.until, now)
    settings = load(config=order.config)
    store = open_episodes(replace(settings.memory_config(), episodic="sqlite"), settings.memory_folder)
    assert store is not None, "there is a store of sqlite"
    try:
        names = ("agent", "op", "kind", "target", "outcome", "text")
        asked = {name: getattr(order, name) for name in names}
        found = store.find(**asked, run=_run_id(settings, order.run), since=since, until=until, limit=limit + 1)
        kept = bool(found) or len(store) > 0
    finally:
        store.close()
    if order.json:
        report.emit(as_json([one.to_map() for one in found[:limit]]))
    elif found:
        remembered.show(HEAD, [_row(one) for one in found[:limit]], right=("time",), give=("agent", "node", "outcome", "target"))
        if len(found) > limit:
            report.say("there are more; `--limit N` shows them")
    elif kept:
        report.say("no episode is like that")
    else:
        report.say(
            'no episode is kept in the folder; `episodic = "sqlite"` in the table [memory] of apxm.toml keeps those of runs'
        )
    return Exit.OK


def _run_id(settings: Settings, text: str | None) -> str | None:
    """The recorded run that begins so, or is the last; else what was typed, for a run need not be recorded."""
    from apxm.cli.recording import store_of
    from apxm.errors import InvalidError

    if text is None:
        return None
    try:
        return store_of(settings).resolve(text)
    except InvalidError:
        return text


def _row(one: Episode) -> tuple[str, ...]:
    from apxm.cli.recording import short
    from apxm.cli.runs import moment
    from apxm.cli.text import duration, line

    outcome = one.outcome if one.code is None else f"{one.outcome}: {one.code}"
    names = (line(text, 30) or "-" for text in (one.agent, one.name, one.op, one.kind, one.target, outcome))
    return moment(one.at), short(one.run) or "-", *names, duration(one.duration_ms / 1e3)


def when(name: str, text: str | None, now: float) -> float | None:
    """A point in time that an option gives: ISO 8601, local where it names no zone, or how long ago: `90s`, `2h`, `3d`."""
    from apxm.cli.text import line
    from apxm.errors import InvalidError

    if text is None:
        return None
    ago = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])", text.strip())
    if ago is not None:
        return now - float(ago[1]) * UNITS[ago[2]]
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        hint = "a time as 2026-01-31 or 2026-01-31T12:30, or how long ago: 90s, 15m, 2h, 3d, 1w"
        raise InvalidError(f"{name} is {line(text, 40)!r}, no point in time", hint=hint) from None


COMMANDS = {
    "memory episodes": Command(
        "memory episodes",
        "List what happened in runs, the newest first.",
        "Calls of models and capabilities, messages, reflections, and what programs put on record; firings of nodes too, where\n"
        "`memory.episode_scope` is `all`. Only where `memory.episodic` is `sqlite` do they outlive their run.",
        (
            Option("--run", "of this run: its id, the beginning of one that is recorded, or `last`", "ID"),
            Option("--agent", "of this agent", "NAME"),
            Option("--op", "of this operation: ASK, INV, …", "OP"),
            Option("--kind", "of this kind: model, capability, message, reflection, record or firing", "KIND", choices=KINDS),
            Option("--target", "only calls of this model or capability, and records of this type", "NAME"),
            Option("--outcome", "that ended so: done or failed", "OUTCOME", choices=OUTCOMES),
            Option("--since", "not before: 2026-01-31T12:30, or how long ago: 90s, 2h, 3d", "TIME"),
            Option("--until", "not after", "TIME"),
            Option("--text", "with this text somewhere in them", "TEXT"),
            MORE,
            CONFIG,
            JSON,
        ),
        episodes,
    ),
}
