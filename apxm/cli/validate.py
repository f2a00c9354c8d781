"""`apxm validate`: every broken rule of a program, with its place and the fix. Runs nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.cli.command import JSON, Command, Option
from apxm.cli.exits import Exit

if TYPE_CHECKING:
    from argparse import Namespace

    from apxm.cli.source import Source
    from apxm.errors import Problem

FILE = Option("file", "a graph as JSON, a Python file (`file.py:name`), or an artifact", "FILE")


def validate(order: Namespace) -> int:
    """Check, report; the exit code."""
    from apxm.cli import report
    from apxm.cli.text import as_json, count, printable

    errors, warnings = _problems(order.file)
    if order.json:
        found = {"errors": [problem.to_map() for problem in errors], "warnings": [problem.to_map() for problem in warnings]}
        report.emit(as_json({"file": order.file, "valid": not errors, **found}))
    else:
        verdict = f"not valid: {count(len(errors), 'error')}" if errors else "valid"
        more = f", {count(len(warnings), 'warning')}" if warnings else ""
        lines = [f"{order.file}: {verdict}{more}"]
        lines += [f"  error   [{problem.code}] {problem}" for problem in errors]
        lines += [f"  warning [{problem.code}] {problem}" for problem in warnings]
        report.emit(printable("\n".join(lines)))
    return Exit.INVALID if errors else Exit.OK


def _problems(file: str) -> tuple[list[Problem], list[Problem]]:
    """Errors and warnings; raises for what cannot be read at all."""
    from apxm.cli import source
    from apxm.errors import GraphError
    from apxm.graph import validate as rules

    try:
        program = source.load(file)
    except GraphError as error:
        return list(error.problems), []
    if program.authored is None:
        return [], []
    errors = rules.validate(program.authored)
    return errors, rules.warnings(program.authored) + ([] if errors else _strangers(program))


def _strangers(program: Source) -> list[Problem]:
    """Capabilities that nodes call and the file does not offer, though it offers some; nor are they built in."""
    from difflib import get_close_matches

    from apxm.artifact.lift import lift
    from apxm.capability.system import CapabilitySystem
    from apxm.cli import source
    from apxm.errors import Problem

    offered = source.offered(program, ())
    if not offered:
        return []
    system = CapabilitySystem()
    known = {*offered, *system.list_capability_names()}
    system.close()
    found = []
    graphs = list(lift(program.compiled_report(0, offered)[0]).values())
    for graph in graphs:
        for node in graph.nodes:
            graphs += node.regions.values()
            name = node.attributes.get("capability")
            if node.op == "INV" and name not in known:
                close = get_close_matches(str(name), known, 1)
                text = f"node `{node.name}` of `{graph.name}` calls capability `{name}`, which is not among those of the file"
                found.append(Problem("bind", text, node=node.id, nearest=close[0] if close else None))
    return found


COMMANDS = {
    "validate": Command(
        "validate",
        "Check a program and report every broken rule.",
        "Ends with 0 when the program is valid, warnings or not, and with 2 when it is not.",
        (FILE, JSON),
        validate,
    )
}
