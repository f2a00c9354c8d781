"""`apxm validate`: every broken rule of a program, with its place and the fix. Runs nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.cli.command import JSON, Command, Option
from apxm.cli.exits import Exit

if TYPE_CHECKING:
    from argparse import Namespace

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
    return rules.validate(program.authored), rules.warnings(program.authored)


COMMANDS = {
    "validate": Command(
        "validate",
        "Check a program and report every broken rule.",
        "Ends with 0 when the program is valid, warnings or not, and with 2 when it is not.",
        (FILE, JSON),
        validate,
    )
}
