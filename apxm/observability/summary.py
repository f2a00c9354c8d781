"""What a recorded run was, from the first and the last line of its record. Reads no more of it, changes nothing."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from apxm.observability.events import RunEnded, RunStarted
from apxm.observability.lines import LINE_BYTES_MAX, event_of

if TYPE_CHECKING:
    from pathlib import Path

    from apxm.observability.events import Event

TAIL_BYTES = 65_536  # read from the end of a file to find its last line; more when that line is longer


@dataclass(frozen=True, slots=True)
class Summary:
    """What the first and the last line of a record say.

    `outcome` is that of RunEnded, or running, killed, unreadable. `began` is Unix time. The duration of a killed run reaches
    to the last event that was written. `nodes` are those that ran; of a run without an end, those of its flow. `error` is
    what ended the run, or what is wrong with the file.
    """

    run_id: str
    outcome: str
    began: float
    flow: str = ""
    file: str = ""
    artifact: str = ""
    pid: int | None = None
    duration_ms: float = 0.0
    nodes: int = 0
    llm_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    bytes: int = 0
    error: str | None = None

    def to_map(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def summary_of(path: Path, status: os.stat_result, now: float) -> Summary:
    """The summary of a record, also of a file that is none. FileNotFoundError when it is gone. `now` is Unix time."""
    run_id = path.name.removesuffix(".jsonl")
    alive = is_written(path)  # first: what nobody writes does not change any more
    try:
        first, last = ends(path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        if alive:  # its first line is on its way
            return Summary(run_id, "running", status.st_mtime, bytes=status.st_size)
        return Summary(run_id, "unreadable", status.st_mtime, bytes=status.st_size, error=str(error))
    ended = last if isinstance(last, RunEnded) else None
    duration_ms = ended.duration_ms if ended else (now - first.began) * 1e3 if alive else last.at * 1e3
    used = _used(ended.stats if ended else {})
    pid = first.metadata.get("pid", "")
    return Summary(
        run_id,
        ended.outcome if ended else "running" if alive else "killed",
        first.began,
        first.flow,
        first.metadata.get("file", ""),
        first.metadata.get("artifact", ""),
        int(pid) if pid.isdecimal() else None,
        max(duration_ms, 0.0),
        int(_number(ended.stats.get("executed"))) if ended else first.nodes,
        int(used["llm_calls"]),
        int(used["input_tokens"]),
        int(used["output_tokens"]),
        used["cost_usd"],
        status.st_size,
        ended.error if ended else None,
    )


def ends(path: Path) -> tuple[RunStarted, Event]:
    """The first and the last whole event of a record, however long it is. ValueError when the file is none."""
    with path.open("rb") as file:
        head = file.readline(LINE_BYTES_MAX + 1)
        if not head:
            raise ValueError("it is empty")
        first = event_of(head)
        if not isinstance(first, RunStarted):
            raise ValueError("it does not begin with RunStarted")
        size = file.seek(0, os.SEEK_END)
        span = TAIL_BYTES
        while True:
            file.seek(max(size - span, 0))
            lines = file.read(span).split(b"\n")[:-1]  # what follows the last line end is torn
            if len(lines) > 1 or span >= size:
                return first, event_of(lines[-1]) if lines else first
            if span > LINE_BYTES_MAX:
                raise ValueError(f"its last line has more than {LINE_BYTES_MAX:,} bytes")
            span *= 4


def is_written(path: Path) -> bool:
    """Whether a living process writes it."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        return locked(file)
    return False


def locked(file: BinaryIO) -> bool:
    """Whether its writer holds the lock; if not, it is ours until `file` is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    return False


def _used(stats: dict[str, Any]) -> dict[str, float]:
    """Calls, tokens and cost over all models."""
    usage = stats.get("usage")
    models = usage.get("model") if isinstance(usage, dict) else None
    each = [used for used in models.values() if isinstance(used, dict)] if isinstance(models, dict) else []
    names = ("llm_calls", "input_tokens", "output_tokens", "cost_usd")
    return {name: sum(_number(used.get(name)) for used in each) for name in names}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
