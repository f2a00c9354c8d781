"""`apxm run`: one program, once. Wires what was typed to Runtime.start and shows its events; knows nothing of scheduling."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from apxm.cli.command import JSON, Command, Option
from apxm.cli.exits import Exit, exit_code
from apxm.cli.flags import OPTIONS as SETTINGS

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence

    from apxm.capability.record import CapabilityRecord
    from apxm.cli.recording import Recording
    from apxm.dag import ExecutionDag
    from apxm.engine.handle import RunHandle
    from apxm.engine.result import ExecutionResult
    from apxm.observability.progress import Progress
    from apxm.runtime import Runtime
    from apxm.settings import Settings

ENDINGS = {"cancelled": "cancelled", "deadline": "out of time", "budget": "out of budget"}
TIMES_SHOWN = 30  # rows of the table that --trace prints
LEVELS = ("debug", "info", "warning", "error", "off")  # of --log


OPTIONS = (
    Option("file", "an artifact, a graph as JSON, or a Python file (`file.py:name`)", "FILE"),
    Option("flow", "`flow` or `agent.flow`; default: the entry flow", "FLOW", optional=True),
    Option("--param", "a parameter, converted to its declared type; repeatable", "NAME=VALUE", repeat=True),
    Option("--params", "a JSON object of parameters; --param goes before it", "FILE"),
    *SETTINGS,
    Option("--wait", "wait for people without end: see PAUSE and `apxm pending`"),
    Option("--trace", "time per node; with --json: every event"),
    Option("--events", "write every event to a file, as JSON lines; `-`: to standard output, in place of the result", "FILE"),
    Option("--no-record", "keep no record of this run for `apxm runs`"),
    Option(
        "--log", "log from this level on: above the tree on a terminal, else in place of the other lines", "LEVEL", choices=LEVELS
    ),
    JSON,
    Option("--quiet", "only the result and errors", short="-q"),
)


def run(order: Namespace) -> int:
    """Load, run, report; the exit code."""
    from apxm.cli import flags, source
    from apxm.cli.arguments import bind
    from apxm.cli.recording import Recording, metadata
    from apxm.cli.telemetry import Telemetry
    from apxm.observability.progress import Progress
    from apxm.runtime import Runtime

    settings = flags.settings(order)
    program = source.load(order.file)
    offered = source.offered(program, settings.capabilities)
    artifact = program.compiled(offered)
    dag = artifact.into_dag(order.flow)
    parameters = bind(order.param, Path(order.params) if order.params else None, dag.parameters)
    options = settings.run_options(wait=order.wait, trace=order.trace, metadata=metadata(order.file, artifact))
    with Runtime(settings.runtime_config()) as runtime, Recording(order, settings) as recording, Telemetry(runtime, settings):
        equip(runtime, settings, [dag], offered)
        progress = Progress.of(dag, time.monotonic)
        handle = runtime.start(dag, parameters, run=options)
        return _see_through(handle, progress, recording, order)


def _see_through(handle: RunHandle, progress: Progress, recording: Recording, order: Namespace) -> int:
    """Show the run to its end, then its result or its error; the exit code."""
    from apxm.cli import report
    from apxm.cli.interrupts import Interrupts
    from apxm.cli.recording import STDOUT
    from apxm.cli.text import as_json
    from apxm.cli.view import choose
    from apxm.errors import ApxmError
    from apxm.observability.events import to_map

    tree = sys.stderr.isatty() and not order.quiet
    view = choose(progress, quiet=order.quiet or (recording.logs and not tree))
    with Interrupts(handle.cancel, view.tell) as interrupts:
        with view:
            recording.begin(handle.run_id, view.tell, colors=tree)
            for event in handle.events():
                view.show(event)
                recording.take(event)
            recording.close()
        try:
            result = handle.result()
        except ApxmError as error:
            _close(progress, error.result, ENDINGS.get(error.failure.value, "failed"), recording.recorded, order)
            if order.events == STDOUT:
                error.result = None  # its place is taken
            code = report.fail(error, json=order.json)
            return 128 + interrupts.received if interrupts.received else code
    _close(progress, result, "done", recording.recorded, order)
    said = result.to_map()
    if order.trace:
        said["trace"] = [to_map(event) for event in result.events()]
    if order.events != STDOUT:
        report.emit(as_json(said) if order.json else report.result_text(result))
    for failure in result.unhandled:
        report.say(report.failure_text(failure))
    return exit_code(result.unhandled[0]) if result.unhandled else Exit.OK


def equip(runtime: Runtime, settings: Settings, dags: Sequence[ExecutionDag], offered: Mapping[str, CapabilityRecord]) -> None:
    """Register capabilities, peers, and the models that programs ask for; refuse a typed grant of something that is not there."""
    from apxm.cli.text import spelling
    from apxm.coordination.peers import GRANT as MESSAGES
    from apxm.errors import InvalidError

    system = runtime.capability_system()
    for name, record in offered.items():
        system.register(name, record)
    known = system.list_capability_names()
    grantable = (*known, MESSAGES)
    for grant, origin in zip(settings.grants, settings.origins("grants")):
        name = grant.partition("=")[0]
        if name not in grantable and origin.layer == "flag":  # a configuration grants for many programs
            raise InvalidError(f"--grant names `{name}`, which is no capability of this run", hint=spelling(name, grantable))
    for trust, origin in zip(settings.trust, settings.origins("trust")):
        _, equals, name = trust.partition("=")
        if equals and name.strip() not in known and origin.layer == "flag":
            raise InvalidError(f"--trust names `{name}`, which is no capability of this run", hint=spelling(name, known))
    if any(grant.partition("=")[0].strip() == "search_web" for grant in settings.grants):
        system.web.provider = settings.search_provider()
    for peer in settings.peers:
        name, _, url = peer.partition("=")
        runtime.peers.register(name.strip(), url.strip())
    if settings.models or settings.run.model is not None:
        _register_models(runtime, settings, dags)


def _register_models(runtime: Runtime, settings: Settings, dags: Sequence[ExecutionDag]) -> None:
    """Those that the programs ask for, before they start: what they lack is missed now, and nothing is built in vain."""
    from apxm.settings.models import asked_for

    asked = {name for dag in dags for name in asked_for(dag)}
    if None in asked or settings.origins("run.model")[0].layer == "flag":
        runtime.models.register(*settings.default_model(), default=True)
    for name, table in settings.models.items():
        if name in asked and name not in runtime.models.names():
            runtime.models.register(name, table.build())


def _close(progress: Progress, result: ExecutionResult | None, outcome: str, recorded: str | None, order: Namespace) -> None:
    from apxm.cli import report
    from apxm.cli.recording import short

    if order.quiet:
        return
    if order.trace:
        report.say(times(progress))
    if result is not None:
        where = f"; `apxm runs show {short(recorded)}`" if recorded else ""
        report.say(report.summary(result.stats, outcome) + where)


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
