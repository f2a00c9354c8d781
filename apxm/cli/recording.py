"""Where the events of a run go besides the screen: the store of records, a file, a log. None of them can stop a run."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from apxm.errors import ApxmError, InvalidError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from apxm.artifact.format import Artifact
    from apxm.observability.events import Event
    from apxm.observability.logging import EventLogger
    from apxm.observability.record import RunStore
    from apxm.observability.writer import RecordWriter
    from apxm.settings import Settings

STDOUT = "-"  # as the FILE of --events
SHORT = 8  # characters of a run id that tell it from the others


def metadata(file: str, artifact: Artifact) -> dict[str, str]:
    """What RunStarted says about where a run comes from."""
    return {"file": os.path.abspath(file), "artifact": artifact.digest, "pid": str(os.getpid())}


def short(run_id: str) -> str:
    """A run id as a person writes it: `runs show` takes the beginning."""
    return run_id[:SHORT]


def store_of(settings: Settings) -> RunStore:
    """Where runs are recorded. ConfigError when the state directory cannot be used."""
    from apxm.observability.record import RunStore

    return RunStore(settings.state_folder() / "runs")


def log_level(order: Namespace, settings: Settings) -> str:
    """From where on events are logged: nowhere, unless it was typed or set, for `apxm run` shows what goes wrong anyway."""
    return order.log or (settings.log.level if "log.level" in settings.values else "off")


class Recording:
    """Takes the events of one run. The file of --events is opened at once, so that a wrong path is known before it starts.

    `logs` tells whether a log is written, `recorded` is the run id once there is a record in the store.
    """

    def __init__(self, order: Namespace, settings: Settings) -> None:
        self._settings = settings
        self._keep = settings.records.enabled and not order.no_record
        self._tell: Callable[[str], object] = lambda _: None
        self._level = log_level(order, settings)
        self._log: EventLogger | None = None
        self._store: RunStore | None = None
        self._run_id = ""
        self.logs = self._level != "off"
        self.recorded: str | None = None
        self._writers: list[RecordWriter] = [_events_file(order, self._warn)] if order.events is not None else []

    def begin(self, run_id: str, tell: Callable[[str], object], *, colors: bool) -> None:
        """From now on everything that is to be said goes to `tell`."""
        self._tell = tell
        if self.logs:
            from apxm.observability.logging import EventLogger

            self._log = EventLogger(self._level, self._settings.log.format, write=tell, colors=colors)  # type: ignore[arg-type]
        self._run_id = run_id
        if self._keep:
            self._open_record(run_id)

    def _open_record(self, run_id: str) -> None:
        try:
            self._store = store_of(self._settings)
            limit = self._settings.records.bytes_max
            self._writers.append(self._store.writer(run_id, bytes_max=limit, warn=self._warn))
            self.recorded = run_id
        except ApxmError as error:
            self._warn(f"this run is not recorded: {error}")

    def _warn(self, text: str) -> None:
        self._tell(f"warning: {text}")

    def take(self, event: Event) -> None:
        """Hand an event on; waits for no disk."""
        for writer in self._writers:
            writer.write(event)
        if self._log is not None:
            self._log(self._run_id, event)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Write what is left, and delete old records beyond what is to be kept. May be called again."""
        for writer in self._writers:
            writer.close()
        self._writers.clear()
        store, self._store = self._store, None
        if store is not None:
            records = self._settings.records
            with suppress(OSError):
                store.gc(records.runs_max, records.bytes_max)


def _events_file(order: Namespace, warn: Callable[[str], object]) -> RecordWriter:
    """The writer of --events FILE. InvalidError for what cannot be written, and for what should not be."""
    from apxm.observability.writer import RecordWriter

    if order.events == STDOUT:
        if order.json:
            raise InvalidError(
                "--events - and --json both want standard output", hint="--json --trace gives one object with every event"
            )
        return RecordWriter(os.dup(1), warn=warn)
    program = order.file.rpartition(":")[0] if not os.path.exists(order.file) else order.file
    with suppress(OSError):
        if os.path.samefile(program, order.events):
            raise InvalidError(f"--events {order.events} would replace the program", hint="name another file")
    return RecordWriter(order.events, warn=warn)
