"""`apxm compile`: a graph in, an artifact out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from apxm.cli.command import JSON, Command, Option
from apxm.cli.exits import Exit

if TYPE_CHECKING:
    from argparse import Namespace

SUFFIX = ".apxm"

OPTIONS = (
    Option("file", "a graph as JSON, or a Python file (`file.py:name`)", "FILE"),
    Option("--out", "where to write; default: FILE with the ending .apxm", "OUT", short="-o"),
    Option("-O", "0: lower only; 1: what is always safe (default)", "LEVEL", type=int, default=1, choices=(0, 1)),
    Option("--capabilities", "what its capabilities are (effect, schema): a file or module; repeatable", "FILE.py", repeat=True),
    Option("--explain", "say what each pass did, and why it declined"),
    JSON,
)


def compile(order: Namespace) -> int:
    """Compile, save, report; the exit code."""
    from apxm.cli import report, source
    from apxm.cli.text import as_json, count

    program = source.load(order.file)
    artifact, notes = program.compiled_report(order.O, source.offered(program, order.capabilities))
    target = Path(order.out) if order.out else program.path.with_suffix(SUFFIX)
    artifact.save(target)
    size = len(artifact.to_bytes())
    if order.json:
        said = {"file": str(target), "bytes": size, "digest": artifact.digest, "name": artifact.name, "level": artifact.level}
        report.emit(as_json({**said, "report": notes.to_map()} if order.explain else said))
        return Exit.OK
    if order.explain:
        report.say("\n".join(notes.lines()))
    report.emit(f"{target}: {count(size, 'byte')}, {count(len(artifact.flows()), 'flow')}, digest {artifact.digest[:16]}")
    return Exit.OK


COMMANDS = {
    "compile": Command(
        "compile",
        "Compile a program to an artifact.",
        "The same program always gives the same bytes. A file that is there already is replaced at once or not at all.",
        OPTIONS,
        compile,
    )
}
