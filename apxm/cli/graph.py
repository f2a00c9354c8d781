"""`apxm graph`: a program as a picture, with what a run did if one is named. Runs nothing of it."""

from __future__ import annotations

import os
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from apxm.cli.command import JSON, Command, Option
from apxm.cli.exits import Exit
from apxm.cli.flags import OPTIONS as SETTINGS

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from apxm.artifact.format import Artifact, FlowKey
    from apxm.capability.record import CapabilityRecord
    from apxm.cli.source import Source
    from apxm.graph.model import Graph
    from apxm.graph.render.overlay import Overlay

FORMATS = ("tree", "mermaid", "html")
ENDINGS = {".html": "html", ".htm": "html", ".mmd": "mermaid", ".mermaid": "mermaid"}
STDOUT = "-"  # as the OUT of -o
CONFIG = next(option for option in SETTINGS if option.name == "--config")

OPTIONS = (
    Option(
        "file",
        "an artifact, a graph as JSON, or a Python file (`file.py:name`); default with --run: what ran",
        "FILE",
        optional=True,
    ),
    Option("flow", "`flow` or `agent.flow`; default: all", "FLOW", optional=True),
    Option(
        "--format",
        "`tree` (default), `mermaid`, or `html`: one page that needs nothing else; by default that of OUT",
        "FORMAT",
        choices=FORMATS,
    ),
    Option("--out", "where to write; `-`: standard output. Default for html: FILE with the ending .html", "OUT", short="-o"),
    Option(
        "--run",
        "lay a run over it: the beginning of its id, `last` of this program, or a file of `--events`",
        "ID|FILE.jsonl",
    ),
    CONFIG,
    JSON,
)


def graph(order: Namespace) -> int:
    """Read, draw, say where it is; the exit code."""
    from apxm.artifact.lift import lift
    from apxm.cli import report, source
    from apxm.cli.analyze import effects
    from apxm.cli.text import as_json, count, printable

    program = source.load(order.file or _what_ran(order))
    form, target = _form(order), _target(order, program)
    offered = source.offered(program, ())
    artifact = program.artifact or program.compiled_report(0, offered)[0]
    flows: Mapping[FlowKey, Graph] = lift(artifact)
    flows, run, notes = _run(order, program, artifact, flows, offered)
    if order.flow is not None:
        dag = artifact.into_dag(order.flow)
        flows = {(dag.agent, dag.name): flows[dag.agent, dag.name]}
    text, told = _drawn(form, artifact, flows, effects(artifact, offered), run)
    notes += told
    for note in notes:
        report.say(printable(f"note: {note}"))
    if target is None:
        report.emit(as_json({"format": form, "text": text, "notes": notes}) if order.json else text)
        return Exit.OK
    _save(target, text)
    said = {"file": str(target), "format": form, "flows": [".".join(key) for key in flows], "notes": notes}
    size = f"{form} of {count(len(flows), 'flow')}, {count(len(text.encode()), 'byte')}"
    report.emit(as_json(said) if order.json else f"{target}: {size}")
    return Exit.OK


def _what_ran(order: Namespace) -> str:
    """The program of the run that was asked for, which is named by its id from here on: no other may become the last."""
    from apxm.cli.recorded import recorded
    from apxm.errors import InvalidError

    if order.run is None:
        raise InvalidError("no program is named", hint="apxm graph FILE, or `apxm graph --run last` for what ran last")
    order.run, file = recorded(order.run, order.config)
    return file


def _form(order: Namespace) -> str:
    """What was asked for, else what the ending of OUT says."""
    return order.format or ENDINGS.get(Path(order.out or "").suffix.lower(), "tree")


def _target(order: Namespace, program: Source) -> Path | None:
    """Where to write; None is standard output. A page goes to a file, since nobody wants to see its text."""
    from apxm.errors import InvalidError

    if order.out is None:
        return program.path.with_suffix(".html") if _form(order) == "html" else None
    if order.out == STDOUT:
        return None
    target = Path(order.out)
    if target.exists() and target.samefile(program.path):
        raise InvalidError(f"--out {target} would replace the program", hint="name another file")
    return target


def _drawn(
    form: str, artifact: Artifact, flows: Mapping[FlowKey, Graph], effects: Mapping[str, str | None], run: Overlay | None
) -> tuple[str, list[str]]:
    """The picture, and what its reader must be told."""
    if form == "html":
        from apxm.graph.render.page import page

        return page(flows, title=artifact.name, entry=artifact.entry, effects=effects, run=run)
    if form == "mermaid":
        from apxm.graph.render.mermaid import limits, mermaid

        text = mermaid(flows, artifact.entry, run)
        return text, limits(flows, text)
    from apxm.graph.render.tree import tree

    return tree(flows, artifact.entry, run), []


def _run(
    order: Namespace,
    program: Source,
    artifact: Artifact,
    flows: Mapping[FlowKey, Graph],
    offered: Mapping[str, CapabilityRecord],
) -> tuple[Mapping[FlowKey, Graph], Overlay | None, list[str]]:
    """The flows with the plans of the run that was asked for, the run laid over them, and what makes it doubtful."""
    if order.run is None:
        return flows, None, []
    from apxm.cli.recorded import history
    from apxm.graph.render.overlay import overlay, with_plans

    ran, doubts = history(order.run, program, artifact, [".".join(key) for key in flows], offered, order.config)
    flows = with_plans(flows, ran)
    return flows, overlay(ran, flows), doubts


def _save(target: Path, text: str) -> None:
    """Write the file: whoever reads it sees the old content or all of the new one."""
    from apxm.errors import InvalidError

    draft = target.with_name(f".{target.name}.{os.getpid()}-{token_hex(4)}")
    try:
        try:
            with draft.open("x", encoding="utf-8") as file:
                file.write(text if text.endswith("\n") else text + "\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InvalidError(f"cannot write {target}: {error.strerror or error}", hint="-o names another file") from error


COMMANDS = {
    "graph": Command(
        "graph",
        "Draw a program as a tree, as Mermaid, or as a page to look around in.",
        "A graph is drawn as it is written, an artifact as it was compiled. With --run, every node says what happened\n"
        "there: how often, how long, with what outcome; the page adds the critical path and who worked when.",
        OPTIONS,
        graph,
    )
}
