"""`apxm memory export` and `import`: what is remembered, to a file and back. The form of the lines is memory_lines.py's."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from apxm.cli.command import JSON, Command, Option
from apxm.cli.exits import Exit
from apxm.cli.remembered import CONFIG, KEY_SHOWN, NAMESPACE

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator

    from apxm.cli import bar
    from apxm.memory.ltm.entry import Put
    from apxm.memory.ltm.system import LongTermMemory

STREAM = "-"
LOST_SHOWN = 20  # entries that could not be read
READ_PAGE = 100  # entries that are read at once: each may have some MiB
PAGE = 500  # entries that are written in one transaction
PAGE_BYTES = 16 * 1024 * 1024  # of their lines
SPOOL_BYTES = 16 * 1024 * 1024  # of a pipe that stay in memory until every line is looked at; more lie in a temporary file


# ---- export ----------------------------------------------------------------------------------------------------------
def export(order: Namespace) -> int:
    """Write the entries of one namespace, or of all; the exit code."""
    from apxm.cli import bar, remembered, report
    from apxm.cli.text import as_json, count
    from apxm.errors import InvalidError

    to_stdout = order.file in (None, STREAM)
    if to_stdout and order.json:
        raise InvalidError("an export to standard output and --json both want it", hint="name a file, or leave --json away")
    namespace = None if order.all else order.namespace
    lost: list[str] = []
    with remembered.opened(order) as memory, bar.Bar(shown=not (to_stdout and sys.stdout.isatty())) as progress:
        total = _total(memory, namespace)
        with _written(order.file, to_stdout) as write:
            done = 0
            for lines in _pages(memory, namespace, lost):
                write("".join(f"{line}\n" for line in lines))
                done += len(lines)
                progress("exported", done - 1, total)
        done -= 1
    if order.json:
        report.emit(as_json({"file": order.file, "entries": done, **({"left_out": lost} if lost else {})}))
    elif not to_stdout:
        report.say(f"wrote {count(done, 'entry', 'entries')} to {order.file}")
    return _left_out(lost)


def _left_out(lost: list[str]) -> int:
    """Say what could not be read; the exit code."""
    from apxm.cli import report
    from apxm.cli.text import count, printable

    if not lost:
        return Exit.OK
    for text in lost[:LOST_SHOWN]:
        report.say(printable(f"left out: {text}"))
    report.say(f"{count(len(lost), 'entry', 'entries')} could not be read and were left out; all others were written")
    return Exit.FATAL


def _total(memory: LongTermMemory, namespace: str | None) -> int:
    """How many entries there are; 0 where damage keeps that from being counted."""
    from apxm.errors import StorageError

    with suppress(StorageError):
        return sum(one.entries for one in memory.namespaces() if namespace in (None, one.name))
    return 0


def _pages(memory: LongTermMemory, namespace: str | None, lost: list[str]) -> Iterator[list[str]]:
    """The lines of an export, the header first. What cannot be read is left out, and `lost` says it."""
    from apxm.cli.memory_lines import entry_line, header_line
    from apxm.errors import StorageError

    embedder = memory.record.meta("embedder")
    yield [header_line(None if embedder is None else json.loads(embedder))]
    last: int | None = 0
    known = set[str]()
    while last is not None:
        after = last
        try:
            found = memory.list(namespace=namespace, limit=READ_PAGE, after=after)
            last = found[-1].seq if found else None
        except StorageError:
            found, damage, last = memory.record.salvaged(namespace, after, READ_PAGE)
            lost += damage
        yield [entry_line(entry) for entry in found if entry.id not in known]  # one that is written meanwhile comes again
        known.update(entry.id for entry in found)


@contextmanager
def _written(file: str | None, to_stdout: bool) -> Iterator[Callable[[str], object]]:
    """Where the lines go: standard output, or a file that is there as a whole or not at all, and that only its owner may read."""
    from apxm.cli import report
    from apxm.errors import InvalidError

    if to_stdout or file is None:
        yield report.emit if sys.stdout.isatty() else _raw
        return
    try:
        with _replaced(Path(file)) as out:
            yield out.write
    except OSError as error:
        raise InvalidError(f"cannot write {file}: {error.strerror or error}") from None


@contextmanager
def _replaced(file: Path) -> Iterator[IO[str]]:
    """A file that takes the place of the one that is there when all is written. What is no file, a pipe, is written to."""
    path = file.resolve()
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8", newline="\n") as out:
            yield out
        return
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as out:
            yield out
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _raw(text: str) -> None:
    """To standard output as UTF-8, whatever its encoding is: what reads it back reads nothing else."""
    sys.stdout.buffer.write(text.encode("utf-8"))
    sys.stdout.buffer.flush()


# ---- import ----------------------------------------------------------------------------------------------------------
def bring(order: Namespace) -> int:
    """Store the entries of a file, after every line of it was looked at; the exit code."""
    from apxm.cli import bar, remembered, report
    from apxm.cli.text import as_json, count
    from apxm.errors import InvalidError

    if order.replace and order.skip:
        raise InvalidError("--replace and --skip exclude each other")
    with _whole(order.file) as file, remembered.opened(order) as memory, bar.Bar() as progress:
        total = _looked_through(file, memory, progress, refuse=not (order.replace or order.skip))
        file.seek(0)
        stored = seen = 0
        try:
            for page in _puts(file):
                kept = [put for put in page if not (order.skip and _there(memory, put))]
                if kept:
                    memory.submit(kept).result()
                seen, stored = seen + len(page), stored + len(kept)
                progress("imported", seen, total)
        except BaseException:
            report.say(f"{stored:,} of {total:,} entries were imported before that; --skip leaves them when it goes on")
            raise
    said = {"entries": stored, "skipped": seen - stored}
    text = f"imported {count(stored, 'entry', 'entries')}" + (f", skipped {seen - stored:,}" if order.skip else "")
    report.emit(as_json(said) if order.json else text)
    return Exit.OK


@contextmanager
def _whole(name: str | None) -> Iterator[IO[bytes]]:
    """A file that can be read twice: a pipe is copied first."""
    from apxm.errors import InvalidError

    try:
        with sys.stdin.buffer if name in (None, STREAM) else open(str(name), "rb") as given:
            if given.seekable():
                yield given
                return
            with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as copy:
                while data := given.read(1 << 20):
                    copy.write(data)
                copy.seek(0)
                yield copy
    except OSError as error:
        raise InvalidError(f"cannot read {name or 'standard input'}: {error.strerror or error}") from None


def _looked_through(file: IO[bytes], memory: LongTermMemory, progress: bar.Bar, *, refuse: bool) -> int:
    """How many entries a file has. InvalidError with the line of the first that cannot be stored; then none is."""
    from apxm.cli.memory_lines import read
    from apxm.cli.remembered import namespace_text
    from apxm.cli.text import line
    from apxm.errors import InvalidError

    seen: dict[bytes, int] = {}
    size, done = file.seek(0, os.SEEK_END), 0
    file.seek(0)
    for found in read(file):
        put, number = found.put, found.number
        name = f"`{line(put.key, KEY_SHOWN)}` of {namespace_text(put.namespace)}"
        before = seen.setdefault(bytes.fromhex(put.id), number)
        if before != number:
            raise InvalidError(f"line {number:,} has {name}, which line {before:,} has too")
        if refuse and _there(memory, put):
            raise InvalidError(f"line {number:,} has {name}, which is there already", hint="--replace it, or --skip it")
        done += found.size
        progress("bytes looked at", done, size)
    return len(seen)


def _there(memory: LongTermMemory, put: Put) -> bool:
    return memory.get(put.key, namespace=put.namespace, kind=put.kind) is not None


def _puts(file: IO[bytes]) -> Iterator[list[Put]]:
    """The entries of a file, as many at once as one transaction takes."""
    from apxm.cli.memory_lines import read

    page: list[Put] = []
    size = 0
    for found in read(file):
        page.append(found.put)
        size += found.size
        if len(page) >= PAGE or size >= PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page


COMMANDS = {
    "memory export": Command(
        "memory export",
        "Write what is remembered to a file, as JSON lines.",
        "A header, then one entry a line, without loss: `apxm memory import` reads it. Of one namespace, unless --all.\n"
        "Vectors are not written: they are made again. Entries that are damaged are left out, and said.",
        (
            Option("file", "where to; `-` or nothing: standard output", "FILE", optional=True),
            NAMESPACE,
            Option("--all", "the entries of every namespace"),
            CONFIG,
            JSON,
        ),
        export,
    ),
    "memory import": Command(
        "memory import",
        "Store what `apxm memory export` wrote.",
        "Every line is looked at before the first entry is stored. Entries go to the namespaces they came from.",
        (
            Option("file", "what to read; `-` or nothing: standard input", "FILE", optional=True),
            Option("--replace", "an entry goes before one that is there under its key"),
            Option("--skip", "an entry that is there stays as it is"),
            CONFIG,
            JSON,
        ),
        bring,
    ),
}
