"""`apxm memory`: what is remembered from run to run, to list, read, search, put and remove."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from apxm.cli.command import JSON, Command, Option
from apxm.cli.exits import Exit
from apxm.cli.remembered import CONFIG, KEY_SHOWN, MORE, NAMESPACE, TEXT_SHOWN, WHERE

if TYPE_CHECKING:
    from argparse import Namespace

    from apxm.memory.ltm.entry import Entry, EntryKind
    from apxm.memory.ltm.system import LongTermMemory

KINDS: tuple[EntryKind, ...] = ("entry", "fact")
MODES = ("hybrid", "vector", "lexical")
ID_SHOWN = 8  # characters of the id of a fact that stand for it: fewer might as well be a key that is not there
SAME_SHOWN = 3  # namespaces that a message names
NOTHING = "nothing is remembered here; `apxm memory put KEY VALUE` stores something, and so do programs"


# ---- looking ---------------------------------------------------------------------------------------------------------
def list_entries(order: Namespace) -> int:
    """Print the namespaces, or the entries of one; the exit code."""
    from apxm.cli import remembered, report
    from apxm.cli.text import as_json
    from apxm.errors import InvalidError

    limit, where = remembered.bounded(order.limit), remembered.parsed("--where", order.where)
    if order.namespace is None and (order.prefix or order.kind or where):
        raise InvalidError(
            "--prefix, --kind and --where list entries, and no namespace is named", hint="apxm memory ls NAMESPACE"
        )
    with remembered.opened(order) as memory:
        if order.namespace is None:
            return _namespaces(memory, order)
        found = memory.list(namespace=order.namespace, kind=order.kind, prefix=order.prefix or "", where=where, limit=limit + 1)
        near = "" if found else _near_namespace(memory, order.namespace)
    if order.json:
        report.emit(as_json([remembered.entry_map(entry) for entry in found[:limit]]))
    elif found:
        remembered.show(("key", "kind", "changed", "text"), [_row(entry) for entry in found[:limit]], give=("key", "text"))
        if len(found) > limit:
            report.say("there are more; `--limit N` shows them")
    else:
        chosen = order.prefix or order.kind or where
        report.say(f"{remembered.namespace_text(order.namespace)} has no entry{' like that' if chosen else ''}{near}")
    return Exit.OK


def _namespaces(memory: LongTermMemory, order: Namespace) -> int:
    from dataclasses import asdict

    from apxm.cli import remembered, report
    from apxm.cli.text import as_json, line

    found = memory.namespaces()
    if order.json:
        report.emit(as_json([asdict(one) for one in found]))
    elif found:
        rows = [
            (
                line(one.name, KEY_SHOWN),
                *(f"{n:,}" for n in (one.entries, one.facts, one.vectors)),
                remembered.bytes_text(one.bytes),
            )
            for one in found
        ]
        head = ("namespace", "entries", "facts", "vectors", "size")
        remembered.show(head, rows, right=head[1:], give=("namespace",))
    else:
        report.say(NOTHING)
    return Exit.OK


def _near_namespace(memory: LongTermMemory, name: str) -> str:
    """What to say besides when a namespace is empty: the ones that are not, by their nearest name."""
    from apxm.cli.text import printable, spelling

    known = [one.name for one in memory.namespaces()]
    return printable(f"; {spelling(name, known)}") if known and name not in known else ""


def _row(entry: Entry) -> tuple[str, ...]:
    from apxm.cli.runs import moment
    from apxm.cli.text import as_text, line

    text = entry.text or as_text(entry.value)
    return line(entry.key, KEY_SHOWN), entry.kind, moment(entry.updated_at), line(text, TEXT_SHOWN) or "-"


def get(order: Namespace) -> int:
    """Print the value of one entry; the exit code."""
    from apxm.cli import remembered, report
    from apxm.cli.text import as_json, as_text

    with remembered.opened(order) as memory:
        entry = _found(memory, order.namespace, order.key)
    report.emit(as_json(remembered.entry_map(entry)) if order.json else as_text(entry.value))
    return Exit.OK


def _found(memory: LongTermMemory, namespace: str, key: str) -> Entry:
    """The entry with this key, else the fact with this id, or its beginning as lists show it. InvalidError without either."""
    from apxm.cli.remembered import namespace_text
    from apxm.cli.text import line
    from apxm.errors import InvalidError

    for kind in KINDS:
        entry = memory.get(key, namespace=namespace, kind=kind)
        if entry is not None:
            return entry
    begun = memory.list(namespace=namespace, kind="fact", prefix=key, limit=2) if len(key) >= ID_SHOWN else []
    if len(begun) == 1:
        return begun[0]
    raise InvalidError(f"{namespace_text(namespace)} has no entry `{line(key, KEY_SHOWN)}`", hint=_near(memory, namespace, key))


def _near(memory: LongTermMemory, namespace: str, key: str) -> str:
    """What may have been meant instead: the same key in another namespace, or one like it in this."""
    from apxm.cli.text import line, printable, spelling

    others = [one.name for one in memory.namespaces() if one.name != namespace]
    there = [name for name in others if memory.get(key, namespace=name) is not None]
    if there:
        return f"namespace {' and '.join(f'`{line(name, KEY_SHOWN)}`' for name in there[:SAME_SHOWN])} has one: -n NAMESPACE"
    known = [entry.key for entry in memory.list(namespace=namespace, kind="entry", limit=1_000)]
    if known:
        return printable(spelling(key, known))
    if memory.list(namespace=namespace, limit=1):
        return "there are only facts: `apxm memory facts` lists them"
    return f"the namespace is empty{_near_namespace(memory, namespace)}"


def search(order: Namespace) -> int:
    """Print the entries that answer a query best; the exit code."""
    from apxm.cli import remembered, report
    from apxm.cli.text import as_json, line
    from apxm.errors import EmbedderError, TransientError

    limit, where = remembered.bounded(order.limit), remembered.parsed("--where", order.where)
    with remembered.opened(order) as memory:
        try:
            hits = memory.search(
                order.query,
                namespace=order.namespace,
                kind=order.kind,
                limit=limit,
                min_score=order.min_score,
                where=where,
                mode=order.mode,
            )
        except (EmbedderError, TransientError) as error:
            error.hint = "; ".join(filter(None, (error.hint, "`--mode lexical` searches by words alone")))
            raise
        near = "" if hits else _near_namespace(memory, order.namespace)
    if order.json:
        made = [(hit.score, hit.cosine, hit.lexical) for hit in hits]
        names = ("score", "cosine", "lexical")
        report.emit(as_json([dict(zip(names, parts)) | remembered.entry_map(hit.entry) for hit, parts in zip(hits, made)]))
    elif hits:
        rows = [
            (f"{hit.score:.3f}", line(hit.entry.key, KEY_SHOWN), remembered.snippet(hit.entry.text, order.query, TEXT_SHOWN))
            for hit in hits
        ]
        remembered.show(("score", "key", "text"), rows, right=("score",), give=("key", "text"))
    else:
        report.say(f"nothing in {remembered.namespace_text(order.namespace)} answers that{near}")
    return Exit.OK


# ---- changing --------------------------------------------------------------------------------------------------------
def put(order: Namespace) -> int:
    """Store an entry; the exit code."""
    from apxm.cli import remembered, report
    from apxm.cli.pending import meant
    from apxm.cli.text import as_json, line
    from apxm.errors import InvalidError

    if order.ttl is not None and not order.ttl > 0:
        raise InvalidError(f"--ttl is {order.ttl:g}", hint="expected seconds, more than 0")
    given = sys.stdin.read().rstrip("\n") if order.value in (None, "-") else order.value
    metadata = remembered.parsed("--metadata", order.metadata)
    with remembered.opened(order) as memory:
        entry = memory.put(
            order.key,
            meant(given, None),
            namespace=order.namespace,
            text=order.text,
            metadata=metadata,
            labels=tuple(order.label),
            ttl_ms=None if order.ttl is None else order.ttl * 1e3,
        )
    where = remembered.namespace_text(entry.namespace)
    report.emit(as_json(remembered.entry_map(entry)) if order.json else f"stored `{line(entry.key, KEY_SHOWN)}` in {where}")
    return Exit.OK


def remove(order: Namespace) -> int:
    """Delete an entry, or all of a namespace; the exit code."""
    from apxm.cli import remembered, report
    from apxm.cli.text import as_json, count
    from apxm.errors import InvalidError

    ways = (("a KEY", order.key is not None), ("--prefix", order.prefix is not None), ("--all", order.all))
    given = [name for name, is_given in ways if is_given]
    if order.prefix == "":
        raise InvalidError("--prefix is empty", hint="--all is everything in the namespace")
    if len(given) != 1:
        what = " and ".join(given) or "nothing"
        hint = "name what is to go: a KEY, what begins with --prefix, or --all of the namespace"
        raise InvalidError(f"`apxm memory rm` was given {what}", hint=hint)
    with remembered.opened(order) as memory:
        if order.key is None:
            gone = memory.clear(order.namespace, prefix=order.prefix or "")
        else:
            entry = _found(memory, order.namespace, order.key)
            gone = int(memory.delete(entry.key, namespace=entry.namespace, kind=entry.kind))
    said = {"namespace": order.namespace, "deleted": gone}
    where = remembered.namespace_text(order.namespace)
    report.emit(as_json(said) if order.json else f"deleted {count(gone, 'entry', 'entries')} of {where}")
    return Exit.OK


_KEY = Option("key", "the key of an entry, or the id of a fact: its first 8 characters will do", "KEY")
_KIND = Option("--kind", "only these: entry or fact", "KIND", choices=KINDS)

COMMANDS = {
    "memory ls": Command(
        "memory ls",
        "List what is remembered: the namespaces, or the entries of one.",
        "Entries stand in the order in which they were written. What only reads works while another process owns the memory.",
        (
            Option("namespace", "the namespace whose entries are listed", "NAMESPACE", optional=True),
            Option("--prefix", "only keys that begin with this", "TEXT"),
            _KIND,
            WHERE,
            MORE,
            CONFIG,
            JSON,
        ),
        list_entries,
    ),
    "memory get": Command(
        "memory get",
        "Print what is remembered under a key.",
        "The value as it is; with --json also its text, metadata, labels and times.",
        (_KEY, NAMESPACE, CONFIG, JSON),
        get,
    ),
    "memory search": Command(
        "memory search",
        "Search what is remembered in a namespace.",
        "By vectors and by words, best first. The default embedder knows words, not meanings.",
        (
            Option("query", "what to look for", "QUERY"),
            NAMESPACE,
            _KIND,
            Option("--min-score", "only what scores at least this, 0 to 1", "SCORE", type=float, default=0.0),
            WHERE,
            Option(
                "--mode",
                "hybrid (default), or by vector or words alone: vector, lexical",
                "MODE",
                choices=MODES,
                default="hybrid",
            ),
            Option("--limit", "at most so many; default 10", "N", type=int, default=10),
            CONFIG,
            JSON,
        ),
        search,
    ),
    "memory put": Command(
        "memory put",
        "Remember a value under a key.",
        "The value is JSON, or else a text. It replaces what the key held before.",
        (
            Option("key", "what it is remembered under", "KEY"),
            Option("value", "what is remembered; `-` or nothing: read it from standard input", "VALUE", optional=True),
            NAMESPACE,
            Option("--text", "what searches read, in place of the value", "TEXT"),
            Option("--metadata", "fields that --where can ask for, as JSON", "JSON"),
            Option(
                "--label", "where it came from: `web`, `tool:NAME`; who reads it inherits that; repeatable", "LABEL", repeat=True
            ),
            Option("--ttl", "forget it after this time", "SECONDS", type=float),
            CONFIG,
            JSON,
        ),
        put,
    ),
    "memory rm": Command(
        "memory rm",
        "Forget an entry, those whose keys begin alike, or a whole namespace.",
        "It is gone for every reader at once, and from the disk when the memory is closed or compacted.",
        (
            Option("key", "the key of an entry, or the id of a fact: its first 8 characters will do", "KEY", optional=True),
            Option("--prefix", "all entries whose keys begin with this", "TEXT"),
            Option("--all", "everything in the namespace, facts too"),
            NAMESPACE,
            CONFIG,
            JSON,
        ),
        remove,
    ),
}
