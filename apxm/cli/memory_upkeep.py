"""`apxm memory stats`, `verify`, `rebuild`, `compact`: how long-term memory lies on disk, and how it is set right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.cli.command import JSON, Command
from apxm.cli.exits import Exit
from apxm.cli.remembered import CONFIG

if TYPE_CHECKING:
    from argparse import Namespace

    from apxm.memory.ltm.comparison import Finding, Report
    from apxm.memory.ltm.entry import Stats

DAMAGED = "the record is damaged: put back a copy of its folder, or take along what can be read with `apxm memory export`"
HASHING = "hashing"  # the embedder where none is set
WIDTH = 14  # of the names of facts, with the spaces behind


def stats(order: Namespace) -> int:
    """Print what the memory holds and where; the exit code."""
    from dataclasses import asdict

    from apxm.cli import remembered, report
    from apxm.cli.text import as_json

    with remembered.opened(order) as memory:
        found = memory.stats()
        chosen = getattr(memory.embedder, "kind", HASHING)
    report.emit(as_json(asdict(found)) if order.json else stats_text(found, chosen))
    return Exit.OK


def stats_text(found: Stats, chosen: str = HASHING) -> str:
    """The same for a person. `chosen` is the kind of embedder that is set: no model is loaded and no service asked for more."""
    from apxm.cli.remembered import bytes_text
    from apxm.cli.text import count, line

    held = f"{count(found.entries, 'entry', 'entries')} in {count(len(found.namespaces), 'namespace')}"
    vectors = count(found.vectors, "vector") + (f", {found.unembedded:,} still to make" if found.unembedded else "")
    index = "none"
    if found.generation is not None:
        behind = f"{count(found.unindexed, 'write')} behind" if found.unindexed else "up to date"
        is_there = (
            f"{bytes_text(found.index_bytes)}, {behind}" if found.index_bytes else "which is gone: it is made anew when needed"
        )
        index = f"index-{found.generation}, {is_there}"
    record = bytes_text(found.record_bytes)
    if found.deleted:
        record += f", {count(found.deleted, 'deleted entry', 'deleted entries')} to take off the disk: `apxm memory compact`"
    facts = {
        "folder": found.folder,
        "holds": held + (f", {count(found.facts, 'fact')} among them" if found.facts else ""),
        "vectors": vectors,
        "embedder": found.embedder or "none yet",
        "record": record,
        "index": index,
        "owner": found.owner or "nobody",
    }
    if found.embedder is not None and found.embedder.split(" ")[0] != chosen:
        facts["embedder"] += f"; `{chosen}` is set now: `apxm memory rebuild` makes its vectors"
    if found.failure is not None:
        facts["embedder"] += f", which fails: {line(found.failure, 200)}"
    if found.index_failure is not None:
        facts["index"] += f", which fails: {line(found.index_failure, 200)}"
    return "\n".join(f"{name:<{WIDTH}}{text}" for name, text in facts.items())


def verify(order: Namespace) -> int:
    """Compare the index with the record; the exit code, which is not 0 when something was found."""
    from apxm.cli import report
    from apxm.cli.text import as_json

    found = _done(order, "verify")
    report.emit(as_json(found.to_map()) if order.json else report_text(found))
    if not found.ok and not order.json:
        report.say(DAMAGED if found.damage else "`apxm memory rebuild` sets it right")
    return Exit.OK if found.ok and found.compared else Exit.FATAL


def rebuild(order: Namespace) -> int:
    """Make the index anew from the record, and the vectors that are missing; the exit code."""
    return _changed(order, "rebuild")


def compact(order: Namespace) -> int:
    """Let nothing on disk that was deleted; the exit code."""
    return _changed(order, "compact")


def _changed(order: Namespace, verb: str) -> int:
    from apxm.cli import report
    from apxm.cli.text import as_json

    found = _done(order, verb)
    report.emit(as_json(found.to_map()) if order.json else report_text(found))
    return Exit.OK if found.ok else Exit.FATAL


def _done(order: Namespace, verb: str) -> Report:
    from apxm.cli import bar, remembered

    with remembered.opened(order) as memory, bar.Bar() as progress:
        done: Report = getattr(memory, verb)(progress)
    return done


def report_text(found: Report) -> str:
    """What was looked at and found, for a person."""
    from apxm.cli.text import count, line

    lines = [f"index: {line(found.index, 200)}; {count(found.vectors, 'vector')} looked at"]
    for what, finding in (
        ("missing in the index", found.missing),
        ("in the index alone", found.extra),
        ("not those of the record", found.stale),
        ("in the index and not found there", found.unfound),
        ("without a vector", found.unembedded),
    ):
        if finding.count:
            lines.append(f"{finding.count:,} {what}: {_ids(finding)}")
    lines += [f"damaged: {line(text, 200)}" for text in found.damage]
    in_order = "everything is in order" if found.compared else "the record is in order; the index was not compared with it"
    return "\n".join([*lines, in_order if found.ok else "not in order"])


def _ids(finding: Finding) -> str:
    shown = ", ".join(finding.ids[:3])
    return shown + (", …" if finding.count > 3 else "")


COMMANDS = {
    "memory stats": Command(
        "memory stats",
        "Show what the memory holds, where it lies, and who owns it.",
        "Sizes on disk, the embedder of its vectors, how far its index is behind.",
        (CONFIG, JSON),
        stats,
    ),
    "memory verify": Command(
        "memory verify",
        "Compare the index with the record.",
        "Finds vectors that are missing, left over or not those of the record, and entries that have none. Exits with 7 when\n"
        "there are some.",
        (CONFIG, JSON),
        verify,
    ),
    "memory rebuild": Command(
        "memory rebuild",
        "Build the index anew from the record.",
        "Makes the vectors that are missing, and all of them where another embedder is set than the one that made them.",
        (CONFIG, JSON),
        rebuild,
    ),
    "memory compact": Command(
        "memory compact",
        "Take what was deleted off the disk.",
        "Closing the memory does so by itself while it is small; this does it however large it is.",
        (CONFIG, JSON),
        compact,
    ),
}
