"""`apxm runs`: what was recorded of past runs, to list, look into and delete. Runs nothing again."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apxm.cli.command import JSON, Command, Option
from apxm.cli.exits import Exit
from apxm.cli.flags import OPTIONS as SETTINGS

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable

    from rich.table import Table

    from apxm.observability.events import Spliced
    from apxm.observability.history import History, PlaceFacts
    from apxm.observability.record import RunStore
    from apxm.observability.summary import Summary
    from apxm.settings import Settings

CONFIG = next(option for option in SETTINGS if option.name == "--config")
CLASSES = ("invalid", "denied", "budget", "deadline", "transient", "fatal", "unknown", "cancelled")
OUTCOMES = ("done", *CLASSES, "running", "killed", "unreadable")
STYLES = {"done": "green", "running": "cyan", "cancelled": "yellow", "unreadable": "dim"}  # any other is red
LIMIT = 20  # runs that are listed when nobody says how many
PLACES_SHOWN = 10  # rows of the table of slowest places
FAILURES_SHOWN = 5
SECONDS_PER_DAY = 86_400


def list_runs(order: Namespace) -> int:
    """Print the newest runs, one line each; the exit code."""
    from apxm.cli import report
    from apxm.cli.text import as_json

    _, store = _opened(order)
    found = [run for run in store.list() if order.outcome in (None, run.outcome)]
    shown = found[: order.limit]
    if order.json:
        report.emit(as_json([run.to_map() for run in shown]))
        return Exit.OK
    if not shown:
        report.say("no run is recorded" if order.outcome is None else f"no recorded run is {order.outcome}")
        return Exit.OK
    rows = [_row(run) for run in shown]
    if sys.stdout.isatty():
        _print(_table(rows))
    else:
        report.emit(_columns([HEAD, *rows]))
    if len(found) > len(shown):
        report.say(f"{len(found) - len(shown):,} more; `--limit {len(found)}` shows them")
    return Exit.OK


def show_run(order: Namespace) -> int:
    """Print one run: its end, its cost, where its time went, what failed; the exit code."""
    from apxm.cli import report
    from apxm.cli.text import as_json
    from apxm.observability.history import History
    from apxm.observability.record import read

    _, store = _opened(order)
    run_id = store.resolve(order.id)
    if order.events and not order.json:
        for event in read(store.path(run_id)):
            report.emit(event_line(event))
        return Exit.OK
    run = store.summary(run_id)
    recorded = list(read(store.path(run_id))) if order.events else read(store.path(run_id))
    history = History.of(recorded)
    if order.json:
        said = run_map(run, history)
        if order.events:
            from apxm.observability.events import to_map

            said["events"] = [to_map(event) for event in recorded]
        report.emit(as_json(said))
    else:
        report.emit(run_text(run, history))
    return Exit.OK


def clean(order: Namespace) -> int:
    """Delete old records; the exit code."""
    from apxm.cli import report
    from apxm.cli.text import as_json, count

    settings, store = _opened(order)
    keep, size, days = order.keep, order.max_bytes, order.older_than
    for name, value in (("--keep", keep), ("--max-bytes", size), ("--older-than", days)):
        _not_negative(name, value)
    if keep is size is days is None:
        keep, size = settings.records.runs_max, settings.records.bytes_max
    age = days * SECONDS_PER_DAY if days is not None else None
    gone = store.gc(keep, size, age, dry_run=order.dry_run)
    if order.json:
        report.emit(as_json({"deleted": list(gone), "dry_run": order.dry_run}))
    else:
        report.emit(f"{'would delete' if order.dry_run else 'deleted'} {count(len(gone), 'run')}")
    return Exit.OK


def _not_negative(name: str, value: float | None) -> None:
    if value is not None and not value >= 0:
        from apxm.errors import InvalidError

        raise InvalidError(f"{name} is {value:g}", hint="expected 0 or more")


def _opened(order: Namespace) -> tuple[Settings, RunStore]:
    from apxm.cli.recording import store_of
    from apxm.settings import load

    settings = load(config=order.config)
    return settings, store_of(settings)


# ---- the list ----------------------------------------------------------------------------------------------------------
HEAD = ("run", "began", "flow", "file", "outcome", "time", "nodes", "calls", "tokens", "cost")
RIGHT = frozenset({"time", "nodes", "calls", "tokens", "cost"})


def _row(run: Summary) -> tuple[str, ...]:
    from apxm.cli.recording import short
    from apxm.cli.text import duration, line

    tokens = run.input_tokens + run.output_tokens
    return (
        short(run.run_id),
        moment(run.began),
        line(run.flow, 40) or "-",
        line(Path(run.file).name, 30) or "-",
        line(run.outcome, 12),
        "-" if run.outcome == "unreadable" else duration(run.duration_ms / 1e3),
        f"{run.nodes:,}",
        f"{run.llm_calls:,}" if run.llm_calls else "-",
        f"{tokens:,}" if tokens else "-",
        f"${run.cost_usd:.4f}" if run.cost_usd else "-",
    )


def moment(began: float) -> str:
    """A point in time, local."""
    try:
        return datetime.fromtimestamp(began).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return "-"


def _columns(rows: list[tuple[str, ...]]) -> str:
    """Aligned by spaces, nothing cut."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    sides = [str.rjust if name in RIGHT else str.ljust for name in HEAD]
    lines = [[side(cell, width) for side, cell, width in zip(sides, row, widths)] for row in rows]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _table(rows: list[tuple[str, ...]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in HEAD:
        keep = name in ("run", "outcome", "time")
        table.add_column(name, justify="right" if name in RIGHT else "left", no_wrap=True, min_width=8 if keep else None)
    for row in rows:
        style = STYLES.get(row[4], "red")
        cells = [Text(cell, style="dim" if cell == "-" else "") for cell in row]
        table.add_row(Text(row[0], style="bold"), *cells[1:4], Text(row[4], style=style), *cells[5:])
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    Console(highlight=False).print(table)


# ---- one run -----------------------------------------------------------------------------------------------------------
def run_map(run: Summary, history: History) -> dict[str, Any]:
    """A run as data: the summary, and `parallelism`, `usage` by model, `places` by time, `failures`, `fallbacks`, `lost`."""
    return {
        **run.to_map(),
        "metadata": history.metadata,
        "parallelism": parallelism(history),
        "usage": models(history),
        "places": [place_map(facts) for facts in slowest(history)],
        "failures": [place_map(facts) for facts in failures(history)],
        "fallbacks": [place_map(facts) for facts in fallbacks(history)],
        "plans": [plan_map(plan) for plan in history.splices],
        "lost": sum(gap.last - gap.first + 1 for gap in history.gaps),
    }


def plan_map(plan: Spliced) -> dict[str, Any]:
    """A plan that a model made and the run took in, as data; its graph is in the record."""
    names = ("node", "name", "step", "nodes", "edges", "depth", "digest", "capabilities", "operations")
    return {"path": [list(step) for step in plan.path], **{name: getattr(plan, name) for name in names}}


def place_map(facts: PlaceFacts) -> dict[str, Any]:
    """What happened at one place, as data."""
    return {
        "place": list(facts.place),
        "name": facts.name,
        "op": facts.op,
        "count": dict(facts.count),
        "total_ms": round(facts.total_ms, 3),
        "max_ms": round(facts.max_ms, 3),
        "retries": facts.retries,
        "fallbacks": facts.fallbacks,
        "error": facts.error,
    }


def parallelism(history: History) -> dict[str, float] | None:
    """How many operations waited at once, at most and on average; None when the run did not say."""
    names = ("parallelism_max", "parallelism_avg")
    found = [history.stats.get(name) for name in names]
    return {name: value for name, value in zip(("max", "avg"), found) if isinstance(value, int | float)} or None


def models(history: History) -> dict[str, dict[str, float]]:
    """Usage by model, from the end of the run."""
    usage = history.stats.get("usage")
    found = usage.get("model") if isinstance(usage, dict) else None
    if not isinstance(found, dict):
        return {}
    return {
        str(name): {quantity: amount for quantity, amount in used.items() if isinstance(amount, int | float)}
        for name, used in found.items()
        if isinstance(used, dict)
    }


def slowest(history: History) -> list[PlaceFacts]:
    """The places of the program where most time went."""
    fired = [facts for facts in history.places.values() if facts.fired]
    return sorted(fired, key=lambda facts: -facts.total_ms)[:PLACES_SHOWN]


def failures(history: History) -> list[PlaceFacts]:
    """The places that failed: the one that failed first stands first, which is most often the cause."""
    failed = [facts for facts in history.places.values() if facts.count["failed"]]
    return sorted(failed, key=lambda facts: (facts.last_at or 0.0, -len(facts.place)))[:FAILURES_SHOWN]


def fallbacks(history: History) -> list[PlaceFacts]:
    """The places that gave their fallback and did not fail as well, those with the most of them first."""
    gave = [facts for facts in history.places.values() if facts.fallbacks and not facts.count["failed"]]
    return sorted(gave, key=lambda facts: -facts.fallbacks)[:FAILURES_SHOWN]


def run_text(run: Summary, history: History) -> str:
    """A run for a person."""
    from apxm.cli.text import count, duration, line

    facts = [("flow", run.flow), ("file", run.file), ("artifact", run.artifact[:16]), ("began", moment(run.began))]
    facts.append(("took", duration(run.duration_ms / 1e3)))
    facts.append(("nodes", f"{run.nodes:,} run" if history.stats else f"{run.nodes:,} in the flow"))
    if (waited := parallelism(history)) is not None:
        facts.append(("parallelism", f"{waited.get('max', 1):g} (average {waited.get('avg', 1):.1f})"))
    facts += [("model", model_text(name, used)) for name, used in models(history).items()]
    if history.splices:
        deep = max(plan.depth for plan in history.splices)
        facts.append(("plans", f"{count(len(history.splices), 'plan')} of models, at most {deep:,} within each other"))
    if history.gaps:
        facts.append(("lost", count(sum(gap.last - gap.first + 1 for gap in history.gaps), "event") + " not recorded"))
    failed = failures(history)
    if run.error and run.error not in {place.error for place in failed}:
        facts.append(("error", run.error))
    lines = [f"run {run.run_id}: {line(run.outcome, 20)}"]
    lines += [f"  {name:<12}{line(text, 400)}" for name, text in facts if text]
    for place in failed:
        lines += ["", f"failed: {place_text(place, history)}", f"  {line(place.error or 'for no reason given', 400)}"]
    for place in fallbacks(history):
        times = f" ({count(place.fallbacks, 'time')})" if place.fallbacks > 1 else ""
        lines += [
            "",
            f"fallback used{times}: {place_text(place, history)}",
            f"  {line(place.error or '', 400)}",
        ]
    if found := slowest(history):
        lines += ["", *places_table(found, history)]
    return "\n".join(lines)


def model_text(name: str, used: dict[str, float]) -> str:
    """`small: 3 calls, 120 tokens in, 40 out, $0.0100`."""
    from apxm.cli.text import count

    text = f"{name}: {count(int(used.get('llm_calls', 0)), 'call')}"
    text += f", {int(used.get('input_tokens', 0)):,} tokens in, {int(used.get('output_tokens', 0)):,} out"
    return text + (f", ${used['cost_usd']:.4f}" if used.get("cost_usd") else "")


def place_text(facts: PlaceFacts, history: History) -> str:
    """``node `read` (INV) in `loop` ``."""
    from apxm.cli.text import line

    around = " / ".join(f"`{line(name, 40)}`" for name in _names(facts, history)[:-1])
    return f"node `{line(facts.name, 60)}` ({line(facts.op, 30)})" + (f" in {around}" if around else "")


def places_table(found: Iterable[PlaceFacts], history: History) -> list[str]:
    """The slowest places: name, operation, firings, retries, times."""
    from apxm.cli.text import duration, line

    lines = [f"{'slowest':<40} {'operation':<16} {'runs':>8} {'retries':>8} {'in all':>10} {'longest':>10}"]
    for facts in found:
        name = line(_tail(" / ".join(_names(facts, history)), 40), 40)
        retries = f"{facts.retries:,}" if facts.retries else "-"
        times = f"{duration(facts.total_ms / 1e3):>10} {duration(facts.max_ms / 1e3):>10}"
        lines.append(f"{name:<40} {line(facts.op, 16):<16} {facts.fired:>8,} {retries:>8} {times}")
    return lines


def _names(facts: PlaceFacts, history: History) -> list[str]:
    """The names from the flow's own node down to this one, with the regions, cases and flows between them."""
    names: list[str] = []
    for depth, part in enumerate(facts.place[:-1], 1):
        node = history.places.get(facts.place[:depth]) if isinstance(part, int) else None
        names.append(node.name if node is not None else f"node {part}" if isinstance(part, int) else part)
    return [*names, facts.name]


def _tail(text: str, width: int) -> str:
    """The end of a text that is too long: a node is known by its own name."""
    return text if len(text) <= width else f"…{text[1 - width :]}"


def event_line(event: Any) -> str:
    """One event for a person: when, what, and its fields as `name=value`."""
    from apxm.cli.text import as_text, line
    from apxm.observability.events import to_map

    said = to_map(event)
    kind = said.pop("event")
    said.pop("seq", None)
    at = said.pop("at", 0.0)
    path = "/".join(f"{node}[{step}]" for node, step in said.pop("path", ()))
    fields = [f"frame={path}"] if path else []
    fields += [f"{name}={as_text(value)}" for name, value in said.items()]
    return f"{at:10.3f} s  {kind:<12} {line(' '.join(fields), 400)}"


COMMANDS = {
    "runs ls": Command(
        "runs ls",
        "List recorded runs, the newest first.",
        "A run without an end is `running` while its process lives, and `killed` when that is gone.",
        (
            Option("--limit", f"how many; default: {LIMIT}", "N", type=int, default=LIMIT),
            Option("--outcome", "only those that ended so: done, fatal, killed, …", "OUTCOME", choices=OUTCOMES),
            CONFIG,
            JSON,
        ),
        list_runs,
    ),
    "runs show": Command(
        "runs show",
        "Show one recorded run.",
        "How it ended, what it used, which nodes failed, where its time went.",
        (
            Option("id", "a run id, the beginning of one, or `last`", "ID"),
            Option("--events", "every event, one line each; with --json: as a list"),
            CONFIG,
            JSON,
        ),
        show_run,
    ),
    "runs gc": Command(
        "runs gc",
        "Delete the oldest records.",
        "Without a limit, down to those of the settings: `records.runs_max`, `records.bytes_max`. A run that goes on keeps its\n"
        "record.",
        (
            Option("--keep", "keep this many of the newest", "N", type=int),
            Option("--max-bytes", "keep this many bytes of the newest, and the newest in any case", "N", type=int),
            Option("--older-than", "delete those that ended more days ago", "DAYS", type=float),
            Option("--dry-run", "delete nothing, say how many it would be"),
            CONFIG,
            JSON,
        ),
        clean,
    ),
}
