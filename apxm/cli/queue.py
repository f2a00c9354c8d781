"""`apxm queue`: tasks for CLAIM, to put, look at, bring back and delete. Runs nothing."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from apxm.cli.command import JSON, Command, Option
from apxm.cli.exits import Exit
from apxm.cli.state import CONFIG

if TYPE_CHECKING:
    from argparse import Namespace

    from apxm.coordination.queue import Task

LIMIT = 20  # tasks that are listed when nobody says how many
DATA_SHOWN = 60  # characters
STATES = ("ready", "leased", "dead")


def put(order: Namespace) -> int:
    """Put a task, or one for each line; the exit code."""
    from apxm.cli import report, state
    from apxm.cli.text import as_json, count

    tasks = _typed(order)
    with state.opened(order.config) as system:
        options = {"priority": order.priority, "delay_ms": order.delay * 1e3, "attempts_max": order.attempts}
        ids = [system.queues.put(order.queue, task, **options) for task in tasks]
    if order.json:
        report.emit(as_json([{"task_id": task_id, "queue": order.queue} for task_id in ids]))
    elif order.lines:
        report.emit(f"put {count(len(ids), 'task')} into `{order.queue}`")
    else:
        report.emit(ids[0])
    return Exit.OK


def _typed(order: Namespace) -> list[Any]:
    """The data of the tasks to put. InvalidError for the first that is no JSON: then none is put."""
    text = sys.stdin.read() if order.data in (None, "-") else order.data
    if not order.lines:
        return [_parsed(text, "the data")]
    return [_parsed(line, f"line {number}") for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _parsed(text: str, what: str) -> Any:
    from apxm.cli.text import line
    from apxm.errors import InvalidError

    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidError(
            f"{what} is no JSON: {line(text, 60)!r} ({error})", hint="a text has quotes of its own: '\"like this\"'"
        ) from None


def list_tasks(order: Namespace) -> int:
    """Print the queues, or the tasks of one; the exit code."""
    from apxm.cli import report, state
    from apxm.cli.text import as_json
    from apxm.errors import InvalidError

    if order.limit < 1:
        raise InvalidError(f"--limit is {order.limit}", hint="expected 1 or more")
    if order.queue is None and order.state is not None:
        raise InvalidError("--state lists tasks, and no queue is named", hint=f"apxm queue list QUEUE --state {order.state}")
    with state.opened(order.config) as system:
        if order.queue is None:
            stats = system.queues.stats()
            if order.json:
                report.emit(as_json([_stat_map(stat) for stat in stats]))
            elif stats:
                head = ("queue", *STATES, "delayed")
                rows = [[stat.queue, *(f"{_stat_map(stat)[name]:,}" for name in head[1:])] for stat in stats]
                report.emit(state.columns(head, rows, right=head[1:]))
            else:
                report.say("no queue has a task; `apxm queue put QUEUE JSON` adds one")
            return Exit.OK
        tasks = system.queues.list(order.queue, state=order.state, limit=order.limit + 1)
    if order.json:
        report.emit(as_json([task.to_map() for task in tasks[: order.limit]]))
    elif tasks:
        report.emit(state.columns(HEAD, [_row(task) for task in tasks[: order.limit]], right=("priority", "attempts")))
        if len(tasks) > order.limit:
            report.say("there are more; `--limit N` shows them")
    else:
        report.say(f"queue `{order.queue}` has no {order.state or 'task'}" + (" task" if order.state else ""))
    return Exit.OK


def _stat_map(stat: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(stat)


HEAD = ("task", "state", "priority", "attempts", "put", "data")


def _row(task: Task) -> tuple[str, ...]:
    from apxm.cli.runs import moment
    from apxm.cli.text import line

    attempts = f"{task.attempts} of {task.attempts_max}"
    data = line(json.dumps(task.data, ensure_ascii=False), DATA_SHOWN)
    return task.task_id, task.state, str(task.priority), attempts, moment(task.put_at), data


def show(order: Namespace) -> int:
    """Print one task; the exit code."""
    from apxm.cli import report, state
    from apxm.cli.runs import moment
    from apxm.cli.text import as_json, as_text, line

    with state.opened(order.config) as system:
        task = system.queues.get(order.id)
    if order.json:
        report.emit(as_json(task.to_map()))
        return Exit.OK
    free = {"leased": f"leased to {line(task.owner or '-', 80)} until {moment(task.free_at)}", "dead": "dead"}
    ready = f"ready from {moment(task.free_at)}" + (f", last with {line(task.owner, 80)}" if task.owner else "")
    about = [
        f"task {task.task_id} of queue `{line(task.queue, 80)}`",
        f"{free.get(task.state, ready)}; attempt {task.attempts} of {task.attempts_max}, priority {task.priority}",
        f"put {moment(task.put_at)}",
        "",
        as_text(task.data),
    ]
    report.emit("\n".join(about))
    return Exit.OK


def requeue(order: Namespace) -> int:
    """Give a task its attempts again; the exit code."""
    from apxm.cli import report, state
    from apxm.cli.text import as_json

    with state.opened(order.config) as system:
        system.queues.requeue(order.id)
        task = system.queues.get(order.id)
    report.emit(as_json(task.to_map()) if order.json else f"task {task.task_id} is ready again")
    return Exit.OK


def drop(order: Namespace) -> int:
    """Delete a task; the exit code."""
    from apxm.cli import report, state
    from apxm.cli.text import as_json

    with state.opened(order.config) as system:
        system.queues.drop(order.id)
    report.emit(as_json({"deleted": [order.id]}) if order.json else f"deleted task {order.id}")
    return Exit.OK


def purge(order: Namespace) -> int:
    """Delete the tasks of a queue; the exit code."""
    from apxm.cli import report, state
    from apxm.cli.text import as_json, count

    with state.opened(order.config) as system:
        gone = system.queues.purge(order.queue, state=order.state)
    report.emit(as_json({"queue": order.queue, "deleted": gone}) if order.json else f"deleted {count(gone, 'task')}")
    return Exit.OK


_QUEUE = Option("queue", "the name of a queue", "QUEUE")
_ID = Option("id", "the id of a task", "ID")
_STATE = Option("--state", "only tasks in this state: ready, leased or dead", "STATE", choices=STATES)

COMMANDS = {
    "queue put": Command(
        "queue put",
        "Put a task into a queue and print its id.",
        "A CLAIM of that queue gives the data to a program. A queue is there as long as it has tasks.",
        (
            _QUEUE,
            Option("data", "what the task is, as JSON; `-` or nothing: read it from standard input", "JSON", optional=True),
            Option("--lines", "every line is a task of its own"),
            Option("--priority", "tasks with a higher one come first; default 0", "N", type=int, default=0),
            Option("--delay", "nobody can claim it before this time passed", "SECONDS", type=float, default=0.0),
            Option("--attempts", "how many attempts may fail before it is dead; default 5", "N", type=int, default=5),
            CONFIG,
            JSON,
        ),
        put,
    ),
    "queue list": Command(
        "queue list",
        "List the queues, or the tasks of one.",
        "Tasks stand in the order in which they will be claimed. Those that are done are gone.",
        (
            Option("queue", "the queue whose tasks are listed", "QUEUE", optional=True),
            _STATE,
            Option("--limit", f"at most so many tasks; default {LIMIT}", "N", type=int, default=LIMIT),
            CONFIG,
            JSON,
        ),
        list_tasks,
    ),
    "queue show": Command("queue show", "Show one task.", "Its state, its attempts and its data.", (_ID, CONFIG, JSON), show),
    "queue requeue": Command(
        "queue requeue",
        "Make a task ready again, with all its attempts.",
        "The way back for a dead one. A program that has the task leased loses it.",
        (_ID, CONFIG, JSON),
        requeue,
    ),
    "queue drop": Command("queue drop", "Delete a task.", "Whatever its state is.", (_ID, CONFIG, JSON), drop),
    "queue purge": Command(
        "queue purge",
        "Delete the tasks of a queue.",
        "All of them, or those of one state: `--state dead` leaves the others.",
        (_QUEUE, _STATE, CONFIG, JSON),
        purge,
    ),
}
