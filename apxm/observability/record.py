"""The runs that were recorded: a folder with a file for each. Finds, lists and deletes them; judges none.

A file is named after its run and holds its events (see lines.py). One without RunEnded belongs to a run that goes on while its
writer holds the lock on it, else to one that was killed. Any number of processes may write, list and clean up at once.
"""

from __future__ import annotations

import os
import re
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from apxm.errors import InvalidError
from apxm.observability.lines import read
from apxm.observability.writer import RecordWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apxm.observability.summary import Summary

__all__ = ["RecordWriter", "RunStore", "read"]

RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")  # no path separator, no leading dot, no option
LAST = "last"  # the newest run, where an id is asked for


class RunStore:
    """Records in a folder, which is made, for its owner alone, when the first is written. `clock` gives Unix time."""

    def __init__(self, folder: str | os.PathLike[str], *, clock: Callable[[], float] = time.time) -> None:
        self.folder = Path(folder)
        self._clock = clock

    def path(self, run_id: str) -> Path:
        """Where the record of a run is, or will be. InvalidError for what cannot be an id."""
        if not RUN_ID.fullmatch(run_id):
            raise InvalidError(
                f"{run_id[:200]!r} is no run id", code="record", hint="an id is up to 128 letters, digits, `.`, `_`, `-`"
            )
        return self.folder / f"{run_id}.jsonl"

    def writer(
        self, run_id: str, *, bytes_max: int | None = None, warn: Callable[[str], object] = lambda _: None
    ) -> RecordWriter:
        """A writer of a new record. InvalidError when the folder cannot be used or the run has a record already."""
        path = self.path(run_id)
        try:
            for folder in (*reversed(self.folder.parents), self.folder):
                if not folder.is_dir():
                    folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise InvalidError(f"cannot make the folder {self.folder}: {error.strerror or error}", code="record") from None
        return RecordWriter(path, new=True, bytes_max=bytes_max, warn=warn)

    # ---- reading -----------------------------------------------------------------------------------------------------
    def resolve(self, text: str) -> str:
        """The run id that begins with `text`, or the newest for `last`. InvalidError when there is none, or more than one."""
        if text == LAST:
            newest = next(iter(self.list()), None)
            if newest is None:
                raise InvalidError("no run is recorded", code="record", hint="`apxm run FILE` records one")
            return newest.run_id
        known = [entry.run_id for entry in self._entries()]
        found = [run_id for run_id in known if run_id.startswith(text)] if text else []
        if text in found:
            return text
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(f"`{run_id}`" for run_id in sorted(found)[:5])
            raise InvalidError(f"{len(found)} runs begin with `{text}`", code="record", hint=f"write more of it: {some}")
        raise InvalidError(f"no run `{text[:128]}` is recorded", code="record", hint=_near(text, known))

    def list(self) -> tuple[Summary, ...]:
        """Every recorded run, the one that began last first."""
        from apxm.observability.summary import summary_of

        found: list[Summary] = []
        for entry in self._entries():
            with suppress(FileNotFoundError):  # deleted meanwhile
                found.append(summary_of(entry.path, entry.status, self._clock()))
        return tuple(sorted(found, key=lambda summary: (-summary.began, summary.run_id)))

    def summary(self, run_id: str) -> Summary:
        """The summary of one run."""
        from apxm.observability.summary import summary_of

        path = self.path(run_id)
        try:
            return summary_of(path, path.stat(), self._clock())
        except OSError as error:
            raise InvalidError(f"cannot read {path}: {error.strerror or error}", code="record") from None

    def _entries(self) -> Iterator[_Entry]:
        """The files that are named like records, in no order."""
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.folder) as found:
            for one in found:
                if one.name.endswith(".jsonl") and RUN_ID.fullmatch(one.name.removesuffix(".jsonl")):
                    with suppress(FileNotFoundError):
                        status = one.stat(follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            yield _Entry(Path(one.path), status)

    # ---- deleting ------------------------------------------------------------------------------------------------------
    def gc(
        self,
        runs_max: int | None = None,
        bytes_max: int | None = None,
        older_than_s: float | None = None,
        *,
        dry_run: bool = False,
    ) -> tuple[str, ...]:
        """Delete the records written to longest ago, beyond a number, a size in all, an age; the ids of those that went.

        A run that goes on keeps its record. The newest record is never deleted for the sake of `bytes_max`.
        """
        entries = sorted(self._entries(), key=lambda entry: (-entry.status.st_mtime_ns, entry.run_id))
        oldest = self._clock() - older_than_s if older_than_s is not None else None
        gone: list[str] = []
        size = 0
        for number, entry in enumerate(entries):
            size += entry.status.st_size
            too_many = runs_max is not None and number >= runs_max
            too_large = bytes_max is not None and number > 0 and size > bytes_max
            too_old = oldest is not None and entry.status.st_mtime < oldest
            if (too_many or too_large or too_old) and _delete(entry.path, dry_run=dry_run):
                gone.append(entry.run_id)
        return tuple(gone)


class _Entry(NamedTuple):
    """A file of the folder."""

    path: Path
    status: os.stat_result

    @property
    def run_id(self) -> str:
        return self.path.name.removesuffix(".jsonl")


def _delete(path: Path, *, dry_run: bool) -> bool:
    """Delete the record of a run that is over; False when the run goes on, or the file is gone."""
    from apxm.observability.summary import locked

    try:
        with path.open("rb") as file:
            if locked(file):
                return False
            if not dry_run:
                path.unlink()  # under the lock: a writer that has just made it sees that, and makes it again
    except OSError:
        return False
    return True


def _near(text: str, known: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(text, [LAST, *known], n=1)
    return f"did you mean `{close[0]}`?" if close else "`apxm runs ls` shows those that are"
