"""`apxm compile`: a graph in, an artifact out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SUFFIX = ".apxm"


def compile(
    file: Annotated[str, typer.Argument(metavar="FILE", help="a graph as JSON, or a Python file (`file.py:name`)")],
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="OUT", help="where to write; default: FILE with the ending .apxm")
    ] = None,
    level: Annotated[int, typer.Option("-O", metavar="LEVEL", help="0: lower only; 1: what is always safe (default)")] = 1,
    capabilities: Annotated[
        list[str] | None, typer.Option(metavar="FILE.py", help="what its capabilities are: effect and schema; repeatable")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="say what each pass did, and why it declined")] = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON object on standard output, for errors too")] = False,
) -> None:
    """Compile a program to an artifact.

    The same program always gives the same bytes. A file that is there already is replaced at once or not at all.
    """
    from apxm.cli import report, source
    from apxm.cli.text import as_json, count

    program = source.load(file)
    artifact, notes = program.compiled_report(level, source.offered(program, capabilities or []))
    target = Path(out) if out else program.path.with_suffix(SUFFIX)
    artifact.save(target)
    size = len(artifact.to_bytes())
    if json:
        said = {"file": str(target), "bytes": size, "digest": artifact.digest, "name": artifact.name, "level": level}
        report.emit(as_json({**said, "report": notes.to_map()} if explain else said))
        return
    if explain:
        report.say("\n".join(notes.lines()))
    report.emit(f"{target}: {count(size, 'byte')}, {count(len(artifact.flows()), 'flow')}, digest {artifact.digest[:16]}")
