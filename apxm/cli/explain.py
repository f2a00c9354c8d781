"""`apxm explain`: what a flow does, in words, from its graph alone. Runs nothing and asks no model."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from apxm.cli.analyze import CAPABILITIES, FILE, FLOW, effects
from apxm.cli.command import Command
from apxm.cli.exits import Exit

if TYPE_CHECKING:
    from argparse import Namespace

WIDTH_MAX = 100  # longer lines are harder to read


def explain(order: Namespace) -> int:
    """Read, tell; the exit code."""
    from apxm.artifact.lift import lift
    from apxm.cli import report, source
    from apxm.cli.text import printable
    from apxm.graph import explain as words

    program = source.load(order.file)
    offered = source.offered(program, order.capabilities)
    artifact = program.artifact or program.compiled_report(0, offered)[0]
    dag = artifact.into_dag(order.flow)
    width = min(shutil.get_terminal_size().columns, WIDTH_MAX) if sys.stdout.isatty() else WIDTH_MAX
    text = words.explain(lift(artifact), (dag.agent, dag.name), effects(artifact, offered), width, artifact.agents)
    report.emit(printable(text))
    return Exit.OK


COMMANDS = {
    "explain": Command(
        "explain",
        "Tell in words what a flow does.",
        "Numbered steps in the order in which they may happen, what happens at the same time, branches, loops, what is\n"
        "done about failures, and what the flow may touch. From the graph alone: a graph as it is written, an artifact\n"
        "as it was compiled.",
        (FILE, FLOW, CAPABILITIES),
        explain,
    )
}
