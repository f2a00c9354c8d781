"""`apxm doctor`: whether apxm can work here. Looks and tries; changes nothing but the state directory, which it may make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.cli.command import JSON, Command, Option
from apxm.cli.exits import Exit

if TYPE_CHECKING:
    from argparse import Namespace

    from apxm.cli.checks import Check

CONFIG = Option("--config", "take this file in place of the nearest apxm.toml; `none`: read no configuration file", "FILE")
MARKS = {"ok": "✓", "absent": "–", "failed": "✗"}


def doctor(order: Namespace) -> int:
    """Run every check and say what came out; the exit code is that of an invalid environment when one failed."""
    from apxm.cli import checks, report
    from apxm.cli.text import as_json

    found: list[Check] = []
    for check in checks.all_checks(order.config):
        found.append(check)
        if not order.json:
            report.emit(as_line(check))
    failed = [check for check in found if check.state == "failed"]
    if order.json:
        report.emit(as_json({"ok": not failed, "checks": [as_map(check) for check in found]}))
    else:
        report.emit("")
        report.emit("apxm can work here" if not failed else f"{len(failed)} of {len(found)} checks failed")
    return Exit.INVALID if failed else Exit.OK


def as_line(check: Check) -> str:
    """Mark, area, name, detail, and what to do about it."""
    from apxm.cli.text import printable

    text = f"{MARKS[check.state]} {check.area:<12} {check.name:<22} {check.detail}"
    return printable(text + (f"\n{'':<15}try: {check.hint}" if check.hint else ""))


def as_map(check: Check) -> dict[str, Any]:
    """JSON form."""
    said = {"area": check.area, "name": check.name, "state": check.state, "detail": check.detail, "hint": check.hint}
    return {name: value for name, value in said.items() if value is not None}


COMMANDS = {
    "doctor": Command(
        "doctor",
        "Check the environment, extras, models, memory, sandbox, cluster, and a run offline.",
        "✓ is there and works, – is not installed or not set up and not needed by what runs today, ✗ must be mended first.",
        (
            Option("--config", "take this file in place of the nearest apxm.toml; `none`: read no configuration file", "FILE"),
            JSON,
        ),
        doctor,
    )
}
