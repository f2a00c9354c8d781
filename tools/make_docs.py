"""Writes docs/reference from the tables in the code: operations, errors, command line, configuration. `--check` only compares."""

from __future__ import annotations

import argparse
import difflib
import inspect
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from apxm import errors  # noqa: E402  # the checkout this file lies in, installed or not
from apxm.cli import ops as cli_ops  # noqa: E402
from apxm.cli.exits import MEANING, Exit  # noqa: E402
from apxm.cli.main import COMMANDS, command  # noqa: E402
from apxm.graph.ops import COMMON_ATTRIBUTES, OPERATIONS  # noqa: E402
from apxm.settings.keys import KEYS, SECTIONS  # noqa: E402
from apxm.settings.layers import OTHER_VARIABLES  # noqa: E402
from apxm.settings.models import MODEL_KINDS  # noqa: E402
from apxm.settings.secret import FORMS  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apxm.cli.command import Command
    from apxm.graph.operation import Attribute, Operation
    from apxm.settings.keys import Key

NOTE = "<!-- Written by tools/make_docs.py from the code. Change the code, then run it. -->\n"


def _cell(text: object) -> str:
    """Text that may stand in a table cell."""
    return str(text).replace("|", "\\|").replace("\n", " ")


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
        *("| " + " | ".join(_cell(item) for item in row) + " |" for row in rows),
        "",
    ]


def _attributes(found: tuple[Attribute, ...]) -> list[str]:
    rows = []
    for attribute in found:
        notes = ", ".join(cli_ops.attribute_notes(attribute)[1:])
        rows.append((f"`{attribute.name}`", attribute.type, attribute.doc, notes))
    return _table(("attribute", "type", "meaning", "notes"), rows)


def _operation(row: Operation) -> list[str]:
    lines = [f"### {row.name}", "", row.doc, ""]
    lines += [f"- {name}: " + (f"`{text}`" if name == "in Python" else text) for name, text in cli_ops.facts(row)] + [""]
    return lines + (_attributes(row.attributes) if row.attributes else [])


def _short(row: Operation) -> str:
    return cli_ops.first_sentence(row.doc)


def _operations_page() -> str:
    lines = [NOTE, "# Operations", ""]
    lines += [f"The {len(OPERATIONS)} operations a program is made of, by category. `apxm ops show NAME` prints the same.", ""]
    summary = [
        (f"[{row.name}](#{row.name.lower()})", row.category, cli_ops.effect_of(row), _short(row)) for row in OPERATIONS.values()
    ]
    lines += _table(("operation", "category", "effect", "in short"), summary)
    lines += ["## Attributes of every operation", "", *_attributes(COMMON_ATTRIBUTES)]
    for category in sorted({row.category for row in OPERATIONS.values()}):
        lines += [f"## {category.replace('_', ' ').capitalize()}", ""]
        for row in OPERATIONS.values():
            if row.category == category:
                lines += _operation(row)
    return _page(lines)


def _tree(kind: type[errors.ApxmError], depth: int = 0) -> Iterator[tuple[int, type[errors.ApxmError]]]:
    yield depth, kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree(child, depth + 1)


def _errors_page() -> str:
    lines = [NOTE, "# Errors", ""]
    lines += [
        "Every error that apxm raises on purpose is an `apxm.ApxmError`. `code` says what happened and never changes its",
        "meaning, `failure` is its class: what a caller may do about it. `hint` says what to try. When the error comes out of",
        "a run, `node`, `op`, `flow`, `path` and `attempt` say where, and `result` holds what was finished before it.",
        "",
        "## Classes of failure",
        "",
    ]
    about = {name: text for exit_code, text in MEANING.items() for name in [exit_code.name]}
    rows: list[tuple[object, ...]] = []
    for failure in errors.FailureClass:
        name = "INTERRUPTED" if failure.name == "CANCELLED" else failure.name
        text = "somebody cancelled the run" if failure.name == "CANCELLED" else about[name]
        rows.append((f"`{failure.value}`", Exit[name].value, text))
    lines += _table(("class", "exit code", "meaning"), rows)
    lines += ["Only `transient` is ever retried.", "", "## Codes", ""]
    lines += _table(("code", "meaning"), [(f"`{code}`", text) for code, text in errors.CODES.items()])
    lines += ["## The tree", ""]
    for depth, kind in _tree(errors.ApxmError):
        first = (inspect.getdoc(kind) or "").splitlines()[0]
        lines.append(f"{'  ' * depth}- `{kind.__name__}` ({kind.failure.value}, `{kind.default_code}`): {first}")
    return _page(lines)


def _command(found: Command) -> list[str]:
    lines = [f"## apxm {found.name}", "", f"`{found.usage}`", "", f"{found.summary} {found.details}", ""]
    rows: list[tuple[object, ...]] = [(f"`{option.label}`", option.help) for option in found.options]
    return lines + (_table(("", "meaning"), rows) if rows else [])


def _cli_page() -> str:
    lines = [NOTE, "# The command line", ""]
    lines += [
        "The result of a command goes to standard output, everything else to standard error. `--json` prints one object.",
        "",
    ]
    for name in COMMANDS:
        lines += _command(command(name))
    lines += ["## Exit codes", ""]
    lines += _table(("code", "name", "meaning"), [(code.value, code.name.lower(), MEANING[code]) for code in Exit])
    lines += ["## Environment", ""]
    lines += _table(("variable", "meaning"), [("`APXM_DEBUG`", "when set, an internal error shows its traceback")])
    return _page(lines)


def _default(key: Key[Any]) -> str:
    if key.shown is not None:
        return key.shown
    return "" if key.default in (None, ()) else f"`{json.dumps(key.default)}`"


def _settings(prefix: str, found: list[Key[Any]]) -> list[str]:
    rows: list[tuple[object, ...]] = []
    for key in found:
        name = f"`{key.name.removeprefix(prefix)}`"
        rows.append((name, key.kind.expected, _default(key), f"`{key.variable}`", key.doc))
    return _table(("key", "value", "default", "variable", "meaning"), rows)


def _configuration_page() -> str:
    lines = [NOTE, "# Configuration", ""]
    lines += [
        "What `apxm.toml` and the environment may say. [Configure apxm](../how-to/configure.md) explains the layers;",
        "`apxm config show` prints every value that holds and where it came from. A key that is not here is an error.",
        "",
        "## Above all tables",
        "",
    ]
    lines += _settings("", [key for name, key in KEYS.items() if "." not in name])
    for name, section in SECTIONS.items():
        about = (inspect.getdoc(section) or "").splitlines()[0]
        lines += [f"## [{name}]", "", about, ""]
        lines += _settings(f"{name}.", [key for key in KEYS.values() if key.name.startswith(f"{name}.")])
    lines += [
        "## [models.NAME]",
        "",
        "A model under a name that nodes may give as `model`, and `run.model` too. Only in files.",
        "",
    ]
    kinds = ", ".join(f"`{name}` ({kind.doc})" for name, kind in MODEL_KINDS.items())
    rows: list[tuple[object, ...]] = [("`kind`", "all", f"required: {kinds}")]
    rows += [
        (f"`{key}`", f"`{name}`", f"required: {doc}") for name, kind in MODEL_KINDS.items() for key, doc in kind.keys.items()
    ]
    rows += [("`default`", "all", "true: the model of nodes that name none")]
    lines += _table(("key", "kind", "meaning"), rows)
    lines += [f"A value may be a reference in place of a text: {FORMS}. Where a key holds a secret, it must be one.", ""]
    lines += ["## Variables that are no settings", ""]
    lines += _table(("variable", "meaning"), [(f"`{name}`", about) for name, about in OTHER_VARIABLES.items()])
    return _page(lines)


def _page(lines: list[str]) -> str:
    return "\n".join(lines).rstrip("\n") + "\n"


PAGES = {
    "operations.md": _operations_page,
    "errors.md": _errors_page,
    "cli.md": _cli_page,
    "configuration.md": _configuration_page,
}


def main() -> int:
    """Write or compare every page; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a page is out of date")
    check = parser.parse_args().check
    stale = 0
    for name, make in PAGES.items():
        path, text = ROOT / "docs" / "reference" / name, make()
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if before == text:
            continue
        stale += 1
        if check:
            diff = difflib.unified_diff(
                before.splitlines(), text.splitlines(), f"docs/reference/{name}", "what the code says", lineterm="", n=1
            )
            print("\n".join(list(diff)[:40]))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote docs/reference/{name}")
    if check and stale:
        print(f"{stale} of {len(PAGES)} pages are out of date: run tools/make_docs.py")
    elif not stale:
        print(f"{len(PAGES)} pages are up to date")
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
