"""Questions to people that outlive the run that asked: who asked what, until when, and what was answered. Waits for nobody.

A checkpoint is `open` until it is `answered`, `expired` or `withdrawn`. The first answer wins. An answer stays: whoever asks
again under the same id is given it, so that a run after a crash goes on where the first one stopped.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from apxm.capability.schema import JsonSchema
from apxm.coordination.store import as_json
from apxm.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from sqlite3 import Row

    from apxm.coordination.store import Store

ID_MAX = 200  # characters
BYTES_MAX = 1 << 20  # of the data and of an answer, as JSON

# One whose deadline passed has expired, though only the run that asked writes it down.
_STATE = "CASE WHEN state = 'open' AND deadline <= :now THEN 'expired' ELSE state END"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One question. Times are Unix time; `deadline` None never comes. `answer` counts only when it is answered."""

    id: str
    message: str
    data: Any
    answer_schema: dict[str, Any] | None
    run_id: str
    opened_at: float
    deadline: float | None
    state: str
    answer: Any = None
    answered_at: float | None = None

    def to_map(self) -> dict[str, Any]:
        """It as JSON data; without an answer where there is none."""
        said = asdict(self)
        if self.state != "answered":
            del said["answer"], said["answered_at"]
        return said


class Checkpoints:
    """All checkpoints of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # ---- what a run does ---------------------------------------------------------------------------------------------
    def open(
        self,
        id: str,
        message: str,
        data: Any = None,
        *,
        run_id: str = "",
        schema: Mapping[str, Any] | None = None,
        timeout_ms: float = 0,
    ) -> Checkpoint:
        """Ask; gives the checkpoint as it is now: open, or answered before. `timeout_ms` 0 is without end.

        One that is there and not answered is asked anew, by this run.
        """
        _identified(id)
        text = as_json(data, "what a PAUSE shows", BYTES_MAX)
        now = self._store.clock()
        deadline = now + timeout_ms / 1e3 if timeout_ms else None
        with self._store.writing() as db:
            db.execute(
                "INSERT INTO checkpoints (id, message, data, answer_schema, run_id, opened_at, deadline) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET message = excluded.message, data = excluded.data, run_id = excluded.run_id, "
                "answer_schema = excluded.answer_schema, opened_at = excluded.opened_at, deadline = excluded.deadline, "
                "state = 'open' WHERE state != 'answered'",
                (id, message, text, None if schema is None else json.dumps(dict(schema)), run_id, now, deadline),
            )
        found = self.get(id)
        assert found is not None
        return found

    def get(self, id: str) -> Checkpoint | None:
        """The checkpoint as it is now; None when there is none of this id."""
        with self._store.reading() as db:
            row = db.execute(
                f"SELECT *, {_STATE} AS state_now FROM checkpoints WHERE id = :id", {"id": id, "now": self._store.clock()}
            ).fetchone()
        return None if row is None else _checkpoint(row)

    def expire(self, id: str) -> Checkpoint | None:
        """Nobody waits any more, the time is up: close it, unless it was answered at the last moment."""
        return self._end(id, "expired", "")

    def withdraw(self, id: str, run_id: str) -> Checkpoint | None:
        """Nobody waits any more: close it, unless it was answered, or asked anew by another run."""
        return self._end(id, "withdrawn", "AND run_id = :run_id", run_id)

    def _end(self, id: str, state: str, only: str, run_id: str = "") -> Checkpoint | None:
        with self._store.writing() as db:
            db.execute(
                f"UPDATE checkpoints SET state = :state WHERE id = :id AND state = 'open' {only}",
                {"id": id, "state": state, "run_id": run_id},
            )
        return self.get(id)

    # ---- what a person does ------------------------------------------------------------------------------------------
    def pending(self) -> list[Checkpoint]:
        """Every open checkpoint, the oldest first."""
        with self._store.reading() as db:
            rows = db.execute(
                f"SELECT *, {_STATE} AS state_now FROM checkpoints WHERE state = 'open' AND state_now = 'open' "
                "ORDER BY opened_at, id",
                {"now": self._store.clock()},
            )
            return [_checkpoint(row) for row in rows]

    def answer(self, id: str, value: Any) -> Checkpoint:
        """Answer; the first answer wins.

        InvalidError for an id that nobody asked under, a question that is closed, and an answer that is no JSON or does not
        fit the schema.
        """
        asked = self._answerable(id)
        text = as_json(value, "the answer", BYTES_MAX)
        problem = misfit(asked.answer_schema, json.loads(text), f"checkpoint `{id}`")
        if problem is not None:
            raise InvalidError(
                f"checkpoint `{id}` takes no such answer: {problem}", hint=f"it wants {json.dumps(asked.answer_schema)}"
            )
        now = self._store.clock()
        with self._store.writing() as db:
            done = db.execute(
                "UPDATE checkpoints SET state = 'answered', answer = :answer, answered_at = :now "
                f"WHERE id = :id AND {_STATE} = 'open' AND opened_at = :opened_at",
                {"id": id, "answer": text, "now": now, "opened_at": asked.opened_at},
            )
        if done.rowcount != 1:
            self._answerable(id)
            raise InvalidError(
                f"checkpoint `{id}` was asked anew meanwhile", hint="look at it with `apxm pending`, and answer again"
            )
        found = self.get(id)
        assert found is not None
        return found

    def forget(self, id: str) -> None:
        """Delete a checkpoint and its answer; a run that waits for it asks anew. InvalidError when there is none."""
        with self._store.writing() as db:
            if db.execute("DELETE FROM checkpoints WHERE id = ?", (id,)).rowcount != 1:
                raise _unknown(id, self.pending())

    def _answerable(self, id: str) -> Checkpoint:
        found = self.get(id)
        if found is None:
            raise _unknown(id, self.pending())
        if found.state == "answered":
            raise InvalidError(
                f"checkpoint `{id}` was answered already", hint=f"`apxm answer {id} --forget` lets it be asked again"
            )
        if found.state != "open":
            why = "its deadline passed" if found.state == "expired" else "the run that asked was cancelled"
            raise InvalidError(f"checkpoint `{id}` takes no answer any more: {why}", hint="`apxm pending` lists those that do")
        return found


def misfit(schema: Mapping[str, Any] | None, answer: Any, whose: str) -> str | None:
    """What is wrong with an answer, by the schema that it should fit; None when nothing is."""
    return None if schema is None else JsonSchema(schema, whose).problem(answer)


def _checkpoint(row: Row) -> Checkpoint:
    values = {name: row[name] for name in Checkpoint.__slots__}
    for name in ("data", "answer_schema", "answer"):
        values[name] = None if values[name] is None else json.loads(values[name])
    return Checkpoint(**values | {"state": row["state_now"]})


def _identified(id: str) -> None:
    if not id.strip() or id != id.strip() or len(id) > ID_MAX or not id.isprintable():
        raise InvalidError(f"{id[:ID_MAX]!r} is no id of a checkpoint", hint=f"expected 1 to {ID_MAX} printable characters")


def _unknown(id: str, known: list[Checkpoint]) -> InvalidError:
    from difflib import get_close_matches

    close = get_close_matches(id, [one.id for one in known], n=1)
    return InvalidError(
        f"there is no checkpoint `{id[:ID_MAX]}`",
        hint=f"close: `{close[0]}`" if close else "`apxm pending` lists those that wait",
    )
