"""`apxm config`: which settings hold here and who gave each of them. Changes none, resolves no secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from apxm.cli import flags
from apxm.cli.command import JSON, Command
from apxm.cli.exits import Exit

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from apxm.settings import Settings
    from apxm.settings.origin import Origin


class Row(NamedTuple):
    """One value, or one item of a joined list, and who gave it. None: nobody did, and there is no default."""

    key: str
    value: Any
    origin: Origin


def show(order: Namespace) -> int:
    """Print every setting with its value and its origin; the exit code."""
    from apxm.cli import report
    from apxm.cli.text import as_json, printable

    settings = flags.settings(order)
    if order.json:
        report.emit(as_json(as_map(settings)))
        return Exit.OK
    for file in settings.files:
        report.say(printable(f"{file.layer} file: {file.name}"))
    if not settings.files:
        report.say("no configuration file")
    report.emit(printable(table(list(rows(settings)))))
    return Exit.OK


def rows(settings: Settings) -> Iterator[Row]:
    """Every setting in the order of the table, then the models."""
    from apxm.settings.keys import KEYS

    for name, key in KEYS.items():
        value, origins = settings.value(name), settings.origins(name)
        items = value if key.joined and value else [value]
        yield from (Row(name, item, origin) for item, origin in zip(items, origins))
    for name, model in settings.models.items():
        parts: dict[str, Any] = {"kind": model.kind, **model.values} | ({"default": True} if model.default else {})
        for part, value in parts.items():
            yield Row(f"models.{name}.{part}", value, model.origin._replace(path=(*model.origin.path, part)))


def table(found: list[Row]) -> str:
    """Key, value, origin: one row each, in columns."""
    texts = [(row.key, _text(row.value), str(row.origin)) for row in found]
    widths = [max(len(text[column]) for text in texts) for column in range(2)]
    return "\n".join(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {origin}" for key, value, origin in texts)


def _text(value: Any) -> str:
    """As TOML writes it; a reference as a reference."""
    if value is None or value == ():
        return "-"
    return json.dumps(value, ensure_ascii=False) if type(value) in (str, bool) else str(value)


def as_map(settings: Settings) -> dict[str, Any]:
    """`{files: [{layer, file}], settings: {key: {value, from: [{layer, at}]}}}`; a list has one `from` for each item."""
    from apxm.settings.keys import KEYS
    from apxm.settings.secret import Secret

    said: dict[str, Any] = {}
    for row in rows(settings):
        value = {row.value.source: row.value.name} if isinstance(row.value, Secret) else row.value
        origin = {"layer": row.origin.layer, "at": row.origin.name if row.origin.file is None else str(row.origin)}
        if row.key in KEYS and KEYS[row.key].joined:
            entry = said.setdefault(row.key, {"value": [], "from": []})
            entry["value"] += [value] if value else []
            entry["from"].append(origin)
        else:
            said[row.key] = {"value": value, "from": [origin]}
    return {"files": [{"layer": file.layer, "file": file.name} for file in settings.files], "settings": said}


COMMANDS = {
    "config show": Command(
        "config show",
        "Show every setting, its value and where it came from.",
        "Settings come from the nearest apxm.toml (project), then the file of the user, then the environment, then flags:\n"
        "the later one wins. The options are those of `apxm run`, to see what they change. Secrets are shown as references.",
        (*flags.OPTIONS, JSON),
        show,
    )
}
