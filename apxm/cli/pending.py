"""`apxm pending` and `apxm answer`: the questions of programs that wait, and what a person says to them. Runs nothing."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from apxm.cli.command import JSON, Command, Option
from apxm.cli.exits import Exit
from apxm.cli.state import CONFIG

if TYPE_CHECKING:
    from argparse import Namespace

    from apxm.coordination.checkpoint import Checkpoint

MESSAGE_SHOWN, SCHEMA_SHOWN = 80, 40  # characters
HEAD = ("id", "age", "ends in", "answer", "message")


def pending(order: Namespace) -> int:
    """Print what waits for an answer; the exit code."""
    from apxm.cli import report, state
    from apxm.cli.text import as_json

    with state.opened(order.config) as system:
        found = system.checkpoints.pending()
    if order.json:
        report.emit(as_json([checkpoint.to_map() for checkpoint in found]))
    elif found:
        report.emit(state.columns(HEAD, [_row(checkpoint, time.time()) for checkpoint in found], right=("age", "ends in")))
    else:
        report.say("nothing waits for an answer")
    return Exit.OK


def _row(checkpoint: Checkpoint, now: float) -> tuple[str, ...]:
    from apxm.cli.text import duration, line

    ends = "-" if checkpoint.deadline is None else duration(max(0.0, checkpoint.deadline - now))
    age = duration(max(0.0, now - checkpoint.opened_at))
    return checkpoint.id, age, ends, _wanted(checkpoint.answer_schema), line(checkpoint.message, MESSAGE_SHOWN)


def _wanted(schema: dict[str, Any] | None) -> str:
    """An answer schema in a word, where there is one."""
    from apxm.cli.text import line

    if schema is None:
        return "anything"
    if isinstance(schema.get("enum"), list):
        return line(" | ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"]), SCHEMA_SHOWN)
    if set(schema) == {"type"}:
        return line(str(schema["type"]), SCHEMA_SHOWN)
    return line(json.dumps(schema, ensure_ascii=False), SCHEMA_SHOWN)


def answer(order: Namespace) -> int:
    """Answer a checkpoint, or delete it; the exit code."""
    from apxm.cli import report, state
    from apxm.cli.text import as_json, as_text, line
    from apxm.errors import InvalidError

    with state.opened(order.config) as system:
        if order.forget:
            system.checkpoints.forget(order.id)
            report.emit(as_json({"forgotten": order.id}) if order.json else f"forgot `{order.id}` and its answer")
            return Exit.OK
        if order.value is None:
            raise InvalidError(
                "`apxm answer` needs a value", hint="write it behind the id, or `-` to read it from standard input"
            )
        text = sys.stdin.read().rstrip("\n") if order.value == "-" else order.value
        asked = system.checkpoints.get(order.id)
        done = system.checkpoints.answer(order.id, meant(text, asked.answer_schema if asked is not None else None))
    report.emit(as_json(done.to_map()) if order.json else f"answered `{done.id}`: {line(as_text(done.answer), MESSAGE_SHOWN)}")
    return Exit.OK


def meant(text: str, schema: dict[str, Any] | None) -> Any:
    """What was typed, as JSON where it is some, else as a text; with a schema, whichever of the two fits."""
    from apxm.coordination.checkpoint import misfit

    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if misfit(schema, value, "the checkpoint") is not None and misfit(schema, text, "the checkpoint") is None:
        return text
    return value


COMMANDS = {
    "pending": Command(
        "pending",
        "List the questions of programs that wait for a person.",
        "A PAUSE asks; `apxm answer ID VALUE` answers. A question whose program was killed stays until it is answered,\n"
        "its deadline passes, or somebody forgets it.",
        (CONFIG, JSON),
        pending,
    ),
    "answer": Command(
        "answer",
        "Answer the question of a program that waits.",
        "The value is JSON, or else a text; what the question wants decides where both are possible. The first answer\n"
        "counts, and stays: a program that asks again under the same id is given it, until it is forgotten.",
        (
            Option("id", "the id of the checkpoint, as `apxm pending` lists it", "ID"),
            Option("value", "the answer; `-`: read it from standard input", "VALUE", optional=True),
            Option("--forget", "delete the checkpoint and its answer, so that it can be asked again"),
            CONFIG,
            JSON,
        ),
        answer,
    ),
}
