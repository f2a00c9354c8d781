"""`apxm schema`: the JSON Schema of graphs, for editors and for prompts that ask a model for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.cli.command import Command
from apxm.cli.exits import Exit

if TYPE_CHECKING:
    from argparse import Namespace


def schema(_: Namespace) -> int:
    """Print it; the exit code."""
    from apxm.cli import report
    from apxm.cli.text import as_json
    from apxm.graph.schema import json_schema

    report.emit(as_json(json_schema()))
    return Exit.OK


COMMANDS = {
    "schema": Command(
        "schema",
        "Print the JSON Schema of a graph.",
        "The contract with its version, and the attributes of every operation.",
        (),
        schema,
    )
}
