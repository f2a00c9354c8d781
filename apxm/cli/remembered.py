"""What the commands of `apxm memory` share: opening what is remembered, and how entries are shown. Changes nothing."""

from __future__ import annotations

import json
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from apxm.cli.command import Option
from apxm.cli.state import CONFIG as CONFIG

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Collection, Iterator, Sequence

    from apxm.memory.ltm.entry import Entry
    from apxm.memory.ltm.system import LongTermMemory

LIMIT = 20  # rows that are listed when nobody says how many
LIMIT_MAX = 5_000
TEXT_SHOWN = 100  # characters of an entry in a row of a table
KEY_SHOWN = 60
WIDTH_MIN = 6  # of a column that is cut
MINE = "default"  # the namespace of whoever names none

NAMESPACE = Option("--namespace", f"whose: an agent's has its name; default: `{MINE}`", "NAME", short="-n", default=MINE)
WHERE = Option("--where", 'only with these fields of metadata, as JSON: \'{"lang": "en"}\'', "JSON")
MORE = Option("--limit", f"at most so many; default {LIMIT}", "N", type=int, default=LIMIT)


@contextmanager
def opened(order: Namespace) -> Iterator[LongTermMemory]:
    """The long-term memory of this user. ConfigError when its folder cannot be used."""
    from apxm.cli import report
    from apxm.cli.text import printable
    from apxm.memory.ltm.system import LongTermMemory
    from apxm.settings import load

    settings = load(config=order.config)
    memory = LongTermMemory(settings.memory_folder, settings.memory_config())
    try:
        yield memory
    finally:
        failure = memory.failure
        memory.close()
    if failure is not None:
        report.say(printable(f"warning: what was stored has no vector yet, and only its words are found: {failure}"))


def parsed(name: str, text: str | None) -> dict[str, Any] | None:
    """The map that an option gives as JSON; None without one. InvalidError for anything else."""
    from apxm.cli.text import line
    from apxm.errors import InvalidError

    if text is None:
        return None
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"{name} is no JSON: {line(text, 60)!r} ({error})", hint=f'{name} \'{{"lang": "en"}}\'') from None
    if not isinstance(said, dict):
        raise InvalidError(f"{name} is {line(text, 60)}, expected a map", hint=f'{name} \'{{"lang": "en"}}\'')
    return said


def bounded(limit: int) -> int:
    """The value of --limit. InvalidError for one that nobody can mean."""
    from apxm.errors import InvalidError

    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidError(f"--limit is {limit}", hint=f"expected 1 to {LIMIT_MAX:,}")
    return limit


# ---- how it is shown -------------------------------------------------------------------------------------------------
def show(head: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = (), give: Collection[str] = ()) -> None:
    """A table: fitted to the terminal where there is one, else nothing is cut. `give` are the columns that are cut for it."""
    from apxm.cli import report, state

    if not sys.stdout.isatty():
        report.emit(state.columns(head, rows, right))
        return
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    widths = [max(map(cell_len, column)) for column in zip(head, *rows)]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, width in zip(head, fitted(widths, [name in give for name in head], console.width)):
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True, overflow="ellipsis", width=width)
    for row in rows:
        table.add_row(*(Text(cell, style="dim" if cell == "-" else "") for cell in row))
    console.print(table)


def fitted(widths: Sequence[int], give: Sequence[bool], room: int) -> list[int]:
    """Widths of columns that stand in `room` with two spaces between them.

    Of those that give, the widest is cut first; the last of them, which says most, counts as half as wide as it is.
    """
    found = list(widths)
    giving = [place for place, gives in enumerate(give) if gives]
    excess = sum(found) + 2 * (len(found) - 1) - room
    for _ in range(excess):
        places = [place for place in giving if found[place] > WIDTH_MIN]
        if not places:
            break
        found[max(places, key=lambda place: found[place] / (2 if place == giving[-1] else 1))] -= 1
    return found


def entry_map(entry: Entry) -> dict[str, Any]:
    """An entry as data."""
    names = ("namespace", "key", "kind", "value", "text", "labels", "created_at", "updated_at", "expires_at")
    said = {name: getattr(entry, name) for name in names}
    return said | {"metadata": dict(entry.metadata), "labels": list(entry.labels)}


def snippet(text: str, query: str, width: int) -> str:
    """The part of a text where the longest word of a query that it has stands, on one line of at most `width` characters."""
    from apxm.cli.text import line

    flat = " ".join(text.split())
    low = flat.lower()
    words = sorted(re.findall(r"\w+", query.lower()), key=len, reverse=True)
    start = max(next((place for word in words if (place := low.find(word)) >= 0), 0) - width // 4, 0)
    if start == 0 or len(flat) <= width:
        return line(flat, width)
    start = min(start, len(flat) - width + 1)
    return line("…" + flat[start:], width)


def bytes_text(number: float) -> str:
    """A size: `512 B`, `1.5 KiB`, `3.0 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def namespace_text(namespace: str) -> str:
    """How a message calls a namespace."""
    from apxm.cli.text import line

    return f"namespace `{line(namespace, KEY_SHOWN)}`"
