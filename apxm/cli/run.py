"""`apxm run`: one program, once. Wires what was typed to Runtime.start and shows its events; knows nothing of scheduling."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apxm.cli.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.capability.record import CapabilityRecord
    from apxm.cli.progress import Progress
    from apxm.config import RunOptions, RuntimeConfig
    from apxm.engine.handle import RunHandle
    from apxm.engine.result import ExecutionResult
    from apxm.llm.base import LanguageModel
    from apxm.observability.events import Event
    from apxm.runtime import Runtime

TIMES_SHOWN = 30  # rows of the table that --trace prints


def run(
    file: Annotated[str, typer.Argument(metavar="FILE", help="an artifact, a graph as JSON, or a Python file (`file.py:name`)")],
    flow: Annotated[str | None, typer.Argument(metavar="FLOW", help="`flow` or `agent.flow`; default: the entry flow")] = None,
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="a parameter, converted to its declared type; repeatable")
    ] = None,
    params: Annotated[str | None, typer.Option(metavar="FILE", help="JSON object of parameters; --param goes before it")] = None,
    deadline: Annotated[float | None, typer.Option(metavar="SECONDS", help="end the run after this time")] = None,
    budget: Annotated[
        list[str] | None, typer.Option(metavar="NAME=N,…", help="what the run may spend: llm_calls=10,nodes=1000; repeatable")
    ] = None,
    grant: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=FOLDER]", help="allow a capability, read/list/write in a folder; repeatable"),
    ] = None,
    capabilities: Annotated[
        list[str] | None, typer.Option(metavar="FILE.py", help="register the CAPABILITIES of a file or module; repeatable")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="`extractive` (default) or `scripted:FILE`")] = None,
    max_parallelism: Annotated[int | None, typer.Option(metavar="N", help="how many operations may wait at once")] = None,
    on_failure: Annotated[str, typer.Option(metavar="POLICY", help="`fail_fast` (default) or `continue`")] = "fail_fast",
    trace: Annotated[bool, typer.Option("--trace", help="time per node; with --json: every event")] = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON object on standard output, for errors too")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="only the result and errors")] = False,
) -> None:
    """Run a program and print its value.

    The result goes to standard output, everything else to standard error. Ctrl-C and SIGTERM cancel the run and print
    what was finished; a second one ends at once.
    """
    order = Order(
        file=file,
        flow=flow,
        param=param or [],
        params=Path(params) if params else None,
        deadline=deadline,
        budget=budget or [],
        grant=grant or [],
        capabilities=capabilities or [],
        model=model,
        max_parallelism=max_parallelism,
        on_failure=on_failure,
        trace=trace,
        quiet=quiet,
    )
    raise typer.Exit(carry_out(order, json=json))


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line asked for, still as it was typed."""

    file: str
    flow: str | None = None
    param: list[str] = field(default_factory=list)
    params: Path | None = None
    deadline: float | None = None
    budget: list[str] = field(default_factory=list)
    grant: list[str] = field(default_factory=list)
    capabilities: list[str] = field(default_factory=list)
    model: str | None = None
    max_parallelism: int | None = None
    on_failure: str = "fail_fast"
    trace: bool = False
    quiet: bool = False


def carry_out(order: Order, *, json: bool) -> int:
    """Load, run, report; the exit code."""
    from apxm.cli import report, source
    from apxm.cli.arguments import bind
    from apxm.cli.interrupts import Interrupts
    from apxm.cli.progress import Progress
    from apxm.cli.text import as_json
    from apxm.errors import ApxmError
    from apxm.runtime import Runtime

    program = source.load(order.file)
    offered = source.offered(program, order.capabilities)
    dag = program.compiled(offered).into_dag(order.flow)
    parameters = bind(order.param, order.params, dag.parameters)
    options = _options(order)
    with Runtime(_config(order)) as runtime:
        _equip(runtime, order, offered)
        progress = Progress.of(dag, time.monotonic)
        handle = runtime.start(dag, parameters, run=options)
        with Interrupts(handle.cancel) as interrupts:
            _watch(handle, progress, quiet=order.quiet)
            try:
                result = handle.result()
            except ApxmError as error:
                _close(progress, error.result, error.failure.value, order)
                code = report.fail(error, json=json)
                return 128 + interrupts.received if interrupts.received else code
        _close(progress, result, "done", order)
        said = result.to_map()
        if order.trace:
            said["trace"] = [event_map(event) for event in result.events()]
        report.emit(as_json(said) if json else report.result_text(result))
    return Exit.OK


def _config(order: Order) -> RuntimeConfig:
    from apxm.config import RuntimeConfig, SchedulerConfig

    if order.max_parallelism is None:
        return RuntimeConfig()
    return RuntimeConfig(scheduler_config=SchedulerConfig(max_parallelism=order.max_parallelism))


def _options(order: Order) -> RunOptions:
    from apxm.cli.arguments import limits
    from apxm.config import RunOptions

    return RunOptions(
        deadline_s=order.deadline,
        budget=limits(order.budget),
        grants=tuple(order.grant),
        on_failure=order.on_failure,  # type: ignore[arg-type]  # RunOptions checks it and says what it may be
        trace=order.trace,
    )


def _equip(runtime: Runtime, order: Order, offered: Mapping[str, CapabilityRecord]) -> None:
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


def _watch(handle: RunHandle, progress: Progress, *, quiet: bool) -> None:
    from apxm.cli.view import choose

    view = choose(progress, quiet=quiet)
    if view is None:
        return
    with view:
        for event in handle.events():
            view.show(event)


def _close(progress: Progress, result: ExecutionResult | None, outcome: str, order: Order) -> None:
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
    lines = [f"{'node':<40} {'operation':<16} {'runs':>8} {'time':>10}"]
    for row in rows:
        name = "  " * row.depth + line(row.name, 40 - 2 * row.depth)
        lines.append(f"{name:<40} {row.op:<16} {row.ended.total():>8,} {duration(row.seconds):>10}")
    return "\n".join(lines)


def event_map(event: Event) -> dict[str, Any]:
    """An event as data: its name and its fields."""
    return {"event": type(event).__name__, **asdict(event)}
