"""The queues and checkpoints that a command works on: those of the state directory. Prints nothing but columns of text."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from apxm.cli.flags import OPTIONS as SETTINGS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from apxm.coordination.system import CoordinationSystem

CONFIG = next(option for option in SETTINGS if option.name == "--config")


@contextmanager
def opened(config: str | None) -> Iterator[CoordinationSystem]:
    """What is shared on this machine. ConfigError where no state directory can be, StorageError for its file."""
    from apxm.coordination.system import CoordinationSystem
    from apxm.settings import load

    system = CoordinationSystem(load(config=config).state_folder)
    try:
        yield system
    finally:
        system.close()


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()) -> str:
    """A table in plain text, aligned by spaces, nothing cut; `right` are the columns whose cells end below each other."""
    every = [head, *rows]
    widths = [max(len(row[place]) for row in every) for place in range(len(head))]
    sides = [str.rjust if name in right else str.ljust for name in head]
    lines = ("  ".join(side(cell, width) for side, cell, width in zip(sides, row, widths)) for row in every)
    return "\n".join(line.rstrip() for line in lines)
