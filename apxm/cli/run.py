"""`apxm run`: one program, once. Wires what was typed to Runtime.start and shows its events; knows nothing of scheduling."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from apxm.cli.command import JSON, Command, Option
from apxm.cli.exits import Exit, exit_code

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from apxm.capability.record import CapabilityRecord
    from apxm.config import RunOptions, RuntimeConfig
    from apxm.engine.handle import RunHandle
    from apxm.engine.result import ExecutionResult
    from apxm.llm.base import LanguageModel
    from apxm.observability.progress import Progress
    from apxm.runtime import Runtime

ENDINGS = {"cancelled": "cancelled", "deadline": "out of time", "budget": "out of budget"}
TIMES_SHOWN = 30  # rows of the table that --trace prints


OPTIONS = (
    Option("file", "an artifact, a graph as JSON, or a Python file (`file.py:name`)", "FILE"),
    Option("flow", "`flow` or `agent.flow`; default: the entry flow", "FLOW", optional=True),
    Option("--param", "a parameter, converted to its declared type; repeatable", "NAME=VALUE", repeat=True),
    Option("--params", "a JSON object of parameters; --param goes before it", "FILE"),
    Option("--deadline", "end the run after this time", "SECONDS", type=float),
    Option("--budget", "what the run may spend: llm_calls=10,nodes=1000; repeatable", "NAME=N,…", repeat=True),
    Option("--grant", "allow a capability; for read, list and write: in a folder; repeatable", "NAME[=FOLDER]", repeat=True),
    Option("--capabilities", "register the CAPABILITIES of a file or module; repeatable", "FILE.py", repeat=True),
    Option("--model", "`extractive` (default) or `scripted:FILE`", "MODEL"),
    Option("--max-parallelism", "how many operations may wait at once", "N", type=int),
    Option(
        "--on-failure",
        "`fail_fast` (default), or `continue`: finish the rest, say what failed, exit by the first failure",
        "POLICY",
        default="fail_fast",
    ),
    Option("--trace", "time per node; with --json: every event"),
    JSON,
    Option("--quiet", "only the result and errors", short="-q"),
)


def run(order: Namespace) -> int:
    """Load, run, report; the exit code."""
    from apxm.cli import source
    from apxm.cli.arguments import bind
    from apxm.observability.progress import Progress
    from apxm.runtime import Runtime

    program = source.load(order.file)
    offered = source.offered(program, order.capabilities)
    dag = program.compiled(offered).into_dag(order.flow)
    parameters = bind(order.param, Path(order.params) if order.params else None, dag.parameters)
    options = _options(order)
    with Runtime(_config(order)) as runtime:
        _equip(runtime, order, offered)
        progress = Progress.of(dag, time.monotonic)
        handle = runtime.start(dag, parameters, run=options)
        return _see_through(handle, progress, order)


def _see_through(handle: RunHandle, progress: Progress, order: Namespace) -> int:
    """Show the run to its end, then its result or its error; the exit code."""
    from apxm.cli import report
    from apxm.cli.interrupts import Interrupts
    from apxm.cli.text import as_json
    from apxm.cli.view import choose
    from apxm.errors import ApxmError
    from apxm.observability.events import to_map

    view = choose(progress, quiet=order.quiet)
    with Interrupts(handle.cancel, view.tell) as interrupts:
        with view:
            for event in handle.events():
                view.show(event)
        try:
            result = handle.result()
        except ApxmError as error:
            _close(progress, error.result, ENDINGS.get(error.failure.value, "failed"), order)
            code = report.fail(error, json=order.json)
            return 128 + interrupts.received if interrupts.received else code
    _close(progress, result, "done", order)
    said = result.to_map()
    if order.trace:
        said["trace"] = [to_map(event) for event in result.events()]
    report.emit(as_json(said) if order.json else report.result_text(result))
    for failure in result.unhandled:
        report.say(report.failure_text(failure))
    return exit_code(result.unhandled[0]) if result.unhandled else Exit.OK


def _config(order: Namespace) -> RuntimeConfig:
    from apxm.config import RuntimeConfig, SchedulerConfig

    if order.max_parallelism is None:
        return RuntimeConfig()
    return RuntimeConfig(scheduler_config=SchedulerConfig(max_parallelism=order.max_parallelism))


def _options(order: Namespace) -> RunOptions:
    from apxm.cli.arguments import limits
    from apxm.config import RunOptions

    return RunOptions(
        deadline_s=order.deadline,
        budget=limits(order.budget),
        grants=tuple(order.grant),
        on_failure=order.on_failure,
        trace=order.trace,
    )


def _equip(runtime: Runtime, order: Namespace, offered: Mapping[str, CapabilityRecord]) -> None:
    """Register the capabilities and the model that were named; refuse a grant of something that is not there."""
    from apxm.cli.text import spelling
    from apxm.errors import InvalidError

    system = runtime.capability_system()
    for name, record in offered.items():
        system.register(name, record)
    known = system.list_capability_names()
    for grant in order.grant:
        name = grant.partition("=")[0]
        if name not in known:
            raise InvalidError(f"--grant names `{name}`, which is no capability of this run", hint=spelling(name, known))
    if order.model is not None:
        runtime.models.register("default", _model(order.model), default=True)


def _model(spec: str) -> LanguageModel:
    from apxm.errors import InvalidError

    kind, colon, file = spec.partition(":")
    if kind == "extractive" and not colon:
        from apxm.llm.extractive import ExtractiveModel

        return ExtractiveModel()
    if kind == "scripted" and file:
        from apxm.llm.scripted import ScriptedModel

        return ScriptedModel.load(file)
    raise InvalidError(f"--model is {spec!r}", hint="expected `extractive` or `scripted:FILE`")


def _close(progress: Progress, result: ExecutionResult | None, outcome: str, order: Namespace) -> None:
    from apxm.cli import report

    if order.quiet:
        return
    if order.trace:
        report.say(times(progress))
    if result is not None:
        report.say(report.summary(result.stats, outcome))


def times(progress: Progress) -> str:
    """The places of the program that took longest: name, operation, firings, seconds in all."""
    from apxm.cli.text import duration, line

    rows = sorted(progress.rows.values(), key=lambda row: -row.seconds)[:TIMES_SHOWN]
    lines = [f"{'node':<44} {'operation':<16} {'runs':>8} {'time':>10}"]
    for row in rows:
        around = [
            progress.rows[row.place[:depth]].name for depth in range(1, len(row.place)) if row.place[:depth] in progress.rows
        ]
        name = line(" / ".join([*around, row.name]), 44)
        lines.append(f"{name:<44} {row.op:<16} {row.ended.total():>8,} {duration(row.seconds):>10}")
    return "\n".join(lines)


COMMANDS = {
    "run": Command(
        "run",
        "Run a program and print its value.",
        "The result goes to standard output, everything else to standard error. Ctrl-C and SIGTERM cancel the run and\n"
        "print what was finished; a second one ends at once.",
        OPTIONS,
        run,
    )
}
