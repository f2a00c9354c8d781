"""A run as text that a test can keep: which nodes fired and how they ended. Never when, on which worker, or with what values.

    brief.brief: done
    1 listing INV done; capability list
    2 notes MAP done
    2[0]/1 summary ASK done; 1 retry; model gpt x2, 1 failed
    2[0]/2 show PRINT done
      > what it said

One line for each firing, in the order of frame and node: `2[0]/1` is node 1 in step 0 of node 2. So the text is the same
for every schedule and engine, as long as the program is: what a RACE or a RETURN cancels, or what a failed run had not
begun yet, is up to the schedule.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from difflib import unified_diff
from hashlib import blake2b
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from apxm.errors import InvalidError
from apxm.observability.events import Called, Event, Gap, NodeEnded, NodeRetried, NodeStarted, Printed, RunEnded, RunStarted

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from apxm.observability import events

FOLDER = "__snapshots__"
NAME_CHARS = 120  # of a file name; the file systems in use take 255 bytes


# ---- the text --------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class _Firing:
    """What is kept of one node in one frame."""

    name: str = ""
    op: str = ""
    outcome: str = "unfinished"
    retries: int = 0
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    said: list[str] = field(default_factory=list)


def snapshot(run: Any) -> str:
    """The text of a run: of its events, or of the result (or the error with a result) of a run with `trace=True`."""
    flow, outcome = "?", "unfinished"
    firings: dict[tuple[events.Path, int], _Firing] = {}
    for event in _events_of(run):
        match event:
            case RunStarted():
                flow = event.flow
            case RunEnded():
                outcome = event.outcome
            case Gap():
                raise InvalidError(f"the events {event.first} to {event.last} of this run are lost: it has no snapshot")
            case NodeStarted() | NodeEnded() | NodeRetried() | Called() | Printed():
                _take(firings.setdefault((event.path, event.node), _Firing()), event)
    lines = [f"{_plain(flow)}: {outcome}"]
    for path, node in sorted(firings, key=_place):
        lines += _lines(path, node, firings[path, node])
    return "\n".join(lines) + "\n"


def _events_of(run: Any) -> Iterable[Event]:
    result = getattr(run, "result", None)
    if isinstance(run, BaseException) and result is not None:
        run = result
    recorded = run.events() if hasattr(run, "events") else run
    if not hasattr(recorded, "__iter__") or isinstance(recorded, (str, bytes)):
        raise InvalidError(f"a {type(run).__name__} has no events", hint="give a result, its events, or an error with a result")
    return recorded  # type: ignore[no-any-return]


def _take(firing: _Firing, event: NodeStarted | NodeEnded | NodeRetried | Called | Printed) -> None:
    match event:
        case NodeStarted():
            firing.name, firing.op = event.name, event.op
        case NodeEnded():
            firing.name, firing.op = event.name, event.op
            firing.outcome = "done by fallback" if event.outcome == "done" and event.error is not None else event.outcome
        case NodeRetried():
            firing.retries += 1
        case Called():
            firing.calls[event.kind, event.target] += 1
            firing.failed[event.kind, event.target] += not event.ok
        case Printed():
            firing.said.append(event.text)


def _place(key: tuple[events.Path, int]) -> list[tuple[int, int, str]]:
    """Orders a node before what it opened, steps by number before steps by name."""
    path, node = key
    order: list[tuple[int, int, str]] = []
    for parent, step in path:
        order.append((0, parent, ""))
        order.append((1, step, "") if isinstance(step, int) else (2, 0, step))
    order.append((0, node, ""))
    return order


def _lines(path: events.Path, node: int, firing: _Firing) -> list[str]:
    place = "".join(f"{parent}[{_plain(str(step))}]/" for parent, step in path) + str(node)
    said = [f"{place} {_plain(firing.name)} {firing.op} {firing.outcome}"]
    if firing.retries:
        said.append("1 retry" if firing.retries == 1 else f"{firing.retries} retries")
    for kind, target in sorted(firing.calls):
        count, failed = firing.calls[kind, target], firing.failed[kind, target]
        times = f" x{count}" if count > 1 else ""
        said.append(f"{kind} {_plain(target)}{times}" + (f", {failed} failed" if failed else ""))
    return ["; ".join(said), *(f"  > {_plain(line)}" for text in firing.said for line in text.split("\n"))]


def _plain(text: str) -> str:
    """The text on one line, with escapes for what an editor would not show."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text).rstrip(" ")


# ---- the files -------------------------------------------------------------------------------------------------------
class SnapshotMismatch(AssertionError):
    """A run is not the one that was kept, or none was kept."""


class SnapshotFiles:
    """Texts beside the tests that made them: `__snapshots__/test_file/test_name.trace`. With `update` they are written."""

    def __init__(self, update: bool = False) -> None:
        self.update = update
        self.used: set[Path] = set()
        self.written: list[Path] = []

    def compare(self, file: Path, text: str, *, how: str = "") -> None:
        """Hold a text against the file, or write it; SnapshotMismatch shows what differs. `how` says how to update."""
        self.used.add(file)
        kept = file.read_text(encoding="utf-8") if file.exists() else None
        if kept == text:
            return
        if self.update:
            _write(file, text)
            self.written.append(file)
        elif kept is None:
            raise SnapshotMismatch(f"there is no snapshot {file.name}; look at this one, and keep it{how}\n\n{text}")
        else:
            lines = unified_diff(kept.splitlines(), text.splitlines(), "kept", "now", lineterm="")
            raise SnapshotMismatch(
                f"the run is not that of {file.name}; if it is right now, update it{how}\n\n" + "\n".join(lines)
            )

    def obsolete(self, tests: dict[Path, dict[str, bool]], *, whole: bool) -> list[Path]:
        """Files that no test needs. `tests`: for each test file its test names, and whether that test ran and passed.

        Only with `whole` is every test of these files among them, so that a name that is not means a test that is gone.
        """
        found: list[Path] = []
        for test_file, names in tests.items():
            for file in sorted(folder_of(test_file).glob("*.trace")):
                owners = [name for name in names if file.stem == name or file.stem.startswith(f"{name}.")]
                unused = file not in self.used and any(names[name] for name in owners)
                if unused or (whole and not owners):
                    found.append(file)
        for root in sorted({test_file.parent / FOLDER for test_file in tests}):
            gone = [each for each in root.iterdir() if not (root.parent / f"{each.name}.py").exists()] if root.is_dir() else []
            found += [file for folder in sorted(gone) for file in sorted(folder.glob("*.trace"))]
        return found


def folder_of(test_file: Path) -> Path:
    """Where the snapshots of a test file lie."""
    return test_file.parent / FOLDER / test_file.stem


def name_of(test: str) -> str:
    """A test's name as a file name; what had to be changed or cut is told apart by a digest."""
    name = re.sub(r"[^\w.\[\]-]", "-", test.replace("::", "."))[:NAME_CHARS]
    return name if name == test.replace("::", ".") else f"{name}-{blake2b(test.encode(), digest_size=4).hexdigest()}"


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{token_hex(8)}")
    try:
        with draft.open("x", encoding="utf-8", newline="\n") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
