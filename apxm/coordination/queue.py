"""Queues of tasks that several workers share: who has which task, and until when. Decides nothing about what a task is.

A task is `ready`, `leased` to one claimer, or `dead` after too many attempts; one that is acknowledged is gone. A lease that ran
out is a failed attempt, noticed by the next claim. The token of a claim fences: once somebody else has the task, whoever comes
late with an older token is refused (leases: Gray & Cheriton, 1989; fencing: Burrows, 2006).
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from apxm.coordination.store import as_json
from apxm.errors import InvalidError, UnknownEffectError

if TYPE_CHECKING:
    from sqlite3 import Row

    from apxm.coordination.store import Store

DATA_BYTES_MAX = 1 << 20  # of one task, as JSON
NAME_MAX = 200  # characters of the name of a queue
NUMBER_MAX = 1_000_000
DELAY_MS_MAX = 10 * 365 * 86_400 * 1_000  # ten years
ATTEMPTS_MAX = 5  # claims of a task, when nobody says how many
STATES = ("ready", "leased", "dead")

# A lease that ran out counts as given back wherever somebody looks, though only a claim writes it down.
_STATE = """CASE WHEN state != 'leased' OR free_at > :now THEN state
                 WHEN attempts >= attempts_max THEN 'dead' ELSE 'ready' END"""


class Claim(NamedTuple):
    """A task as its claimer gets it. The token belongs to nobody else."""

    task_id: str
    data: Any
    token: str


@dataclass(frozen=True, slots=True)
class Task:
    """One task, as others may see it. Times are Unix time; `free_at` is when its lease or its delay ends."""

    task_id: str
    queue: str
    data: Any
    state: str
    priority: int
    attempts: int
    attempts_max: int
    put_at: float
    free_at: float
    owner: str | None = None

    def to_map(self) -> dict[str, Any]:
        """It as JSON data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class QueueStat:
    """How many tasks of a queue are in each state; those that still wait out a delay are counted apart from `ready`."""

    queue: str
    ready: int
    delayed: int
    leased: int
    dead: int


class Queues:
    """All queues of one store. Times to wait are in milliseconds."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # ---- what a producer does ----------------------------------------------------------------------------------------
    def put(self, queue: str, data: Any, *, priority: int = 0, delay_ms: float = 0, attempts_max: int = ATTEMPTS_MAX) -> str:
        """Add a task, which can be claimed after `delay_ms`; gives its id.

        Tasks of a higher `priority` come first, those of the same in the order in which they were put. After
        `attempts_max` attempts that failed a task is dead. InvalidError for data that is no JSON, or too much.
        """
        _named(queue)
        for name, given, least, most in (
            ("priority", priority, -NUMBER_MAX, NUMBER_MAX),
            ("attempts_max", attempts_max, 1, NUMBER_MAX),
            ("delay_ms", delay_ms, 0, DELAY_MS_MAX),
        ):
            if not least <= given <= most:
                raise InvalidError(f"{name} of a task is {given:g}", hint=f"expected {least:,} to {most:,}")
        text = as_json(data, "the data of a task", DATA_BYTES_MAX)
        task_id, now = secrets.token_hex(8), self._store.clock()
        with self._store.writing() as db:
            db.execute(
                "INSERT INTO tasks (task_id, queue, data, priority, attempts_max, put_at, free_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (task_id, queue, text, priority, attempts_max, now, now + delay_ms / 1e3),
            )
        return task_id

    # ---- what a worker does ------------------------------------------------------------------------------------------
    def claim(self, queue: str, owner: str, lease_ms: float) -> Claim | None:
        """Lease the next task to `owner` for so long; None when there is none to have now."""
        _named(queue)
        clock = self._store.clock
        with self._store.reading() as db:  # an empty queue must not cost its pollers the write lock
            if db.execute(f"SELECT 1 FROM tasks WHERE queue = ? AND {_CLAIMABLE} LIMIT 1", (queue, clock())).fetchone() is None:
                return None
        with self._store.writing() as db:
            now = clock()
            db.execute(
                "UPDATE tasks SET state = CASE WHEN attempts >= attempts_max THEN 'dead' ELSE 'ready' END, token = NULL "
                "WHERE queue = ? AND state = 'leased' AND free_at <= ?",
                (queue, now),
            )
            found = db.execute(
                "SELECT place, attempts FROM tasks WHERE queue = ? AND state = 'ready' AND free_at <= ? "
                "ORDER BY priority DESC, place LIMIT 1",
                (queue, now),
            ).fetchone()
            if found is None:
                return None
            token = f"{found['attempts'] + 1}-{secrets.token_hex(8)}"
            taken = db.execute(
                "UPDATE tasks SET state = 'leased', attempts = attempts + 1, owner = ?, token = ?, free_at = ? "
                "WHERE place = ? RETURNING task_id, data",
                (owner, token, now + lease_ms / 1e3, found["place"]),
            ).fetchone()
        return Claim(taken["task_id"], json.loads(taken["data"]), token)

    def renew(self, task_id: str, token: str, lease_ms: float) -> bool:
        """Hold on to a task for so long from now; False when it is not this claimer's any more."""
        with self._store.writing() as db:
            done = db.execute(
                f"UPDATE tasks SET free_at = ? WHERE {_HELD}", (self._store.clock() + lease_ms / 1e3, task_id, token)
            )
            return done.rowcount == 1

    def acknowledge(self, task_id: str, token: str) -> None:
        """The task is done and gone. UnknownEffectError `lease_lost` when it is not this claimer's any more."""
        with self._store.writing() as db:
            if db.execute(f"DELETE FROM tasks WHERE {_HELD}", (task_id, token)).rowcount != 1:
                raise lost(task_id)

    def give_back(self, task_id: str, token: str) -> None:
        """Let others have the task at once; the attempt counts. Does nothing when it is not this claimer's any more."""
        with self._store.writing() as db:
            db.execute(
                "UPDATE tasks SET state = CASE WHEN attempts >= attempts_max THEN 'dead' ELSE 'ready' END, token = NULL, "
                f"free_at = ? WHERE {_HELD}",
                (self._store.clock(), task_id, token),
            )

    # ---- what a person does ------------------------------------------------------------------------------------------
    def stats(self) -> list[QueueStat]:
        """Every queue that has tasks, by name."""
        counts = ", ".join(
            f"count(*) FILTER (WHERE now = '{state}' AND {late} free_at > :now) AS {name}"
            for name, state, late in (("ready", "ready", "NOT"), ("delayed", "ready", ""))
        )
        counts += ", count(*) FILTER (WHERE now = 'leased') AS leased, count(*) FILTER (WHERE now = 'dead') AS dead"
        inner = f"SELECT queue, free_at, {_STATE} AS now FROM tasks"
        with self._store.reading() as db:
            rows = db.execute(
                f"SELECT queue, {counts} FROM ({inner}) GROUP BY queue ORDER BY queue", {"now": self._store.clock()}
            )
            return [QueueStat(*row) for row in rows]

    def list(self, queue: str, *, state: str | None = None, limit: int = 100) -> list[Task]:
        """The first tasks of a queue in the order in which they will be claimed, those of one state or all."""
        wanted = {"queue": queue, "state": state, "limit": limit, "now": self._store.clock()}
        with self._store.reading() as db:
            rows = db.execute(
                f"SELECT *, {_STATE} AS state_now FROM tasks WHERE queue = :queue AND (:state IS NULL OR state_now = :state) "
                "ORDER BY priority DESC, place LIMIT :limit",
                wanted,
            )
            return [_task(row) for row in rows]

    def get(self, task_id: str) -> Task:
        """One task; InvalidError when there is none of this id."""
        with self._store.reading() as db:
            row = db.execute(
                f"SELECT *, {_STATE} AS state_now FROM tasks WHERE task_id = :id", {"id": task_id, "now": self._store.clock()}
            ).fetchone()
        if row is None:
            raise _unknown(task_id)
        return _task(row)

    def requeue(self, task_id: str) -> None:
        """Give a task all its attempts again, and to whoever comes next: the way back for a dead one.

        Whoever has it leased loses it. InvalidError when there is none of this id.
        """
        with self._store.writing() as db:
            done = db.execute(
                "UPDATE tasks SET state = 'ready', attempts = 0, token = NULL, owner = NULL, free_at = ? WHERE task_id = ?",
                (self._store.clock(), task_id),
            )
            if done.rowcount != 1:
                raise _unknown(task_id)

    def drop(self, task_id: str) -> None:
        """Delete a task, whatever its state. InvalidError when there is none of this id."""
        with self._store.writing() as db:
            if db.execute("DELETE FROM tasks WHERE task_id = ?", (task_id,)).rowcount != 1:
                raise _unknown(task_id)

    def purge(self, queue: str, *, state: str | None = None) -> int:
        """Delete the tasks of a queue, those of one state or all; gives how many."""
        wanted = {"queue": queue, "state": state, "now": self._store.clock()}
        with self._store.writing() as db:
            return db.execute(
                f"DELETE FROM tasks WHERE queue = :queue AND (:state IS NULL OR {_STATE} = :state)", wanted
            ).rowcount


_CLAIMABLE = "state IN ('ready', 'leased') AND free_at <= ?"
_HELD = "task_id = ? AND token = ? AND state = 'leased'"


def _task(row: Row) -> Task:
    values = {name: row[name] for name in Task.__slots__}
    return Task(**values | {"data": json.loads(row["data"]), "state": row["state_now"]})


def _named(queue: str) -> None:
    if not queue.strip() or len(queue) > NAME_MAX or not queue.isprintable():
        raise InvalidError(f"{queue[:NAME_MAX]!r} is no name of a queue", hint=f"expected 1 to {NAME_MAX} printable characters")


def _unknown(task_id: str) -> InvalidError:
    return InvalidError(
        f"there is no task `{task_id[:NAME_MAX]}`", hint="done ones are gone; `apxm queue list QUEUE` shows those there are"
    )


def lost(task_id: str) -> UnknownEffectError:
    """What a claimer is told who comes too late."""
    return UnknownEffectError(
        f"the lease of task `{task_id}` was lost before it was acknowledged: somebody else may have done it too",
        code="lease_lost",
        hint="give CLAIM a longer `lease_ms`",
    )
