"""What the runs of one session share: short-term memory that stays when a run ends. Kept in this process, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.memory.stm import MISSING, checked_key, checked_labels, checked_ttl, checked_value, search
from apxm.values import settle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from apxm.memory.stm import ShortTermMemory

SCOPE = "session"


class Session:
    """The memory of one session as a host sees it. Runs with `RunOptions(session=name)` read it, and write it if they say so."""

    __slots__ = ("_stm", "name")

    def __init__(self, name: str, stm: ShortTermMemory) -> None:
        self.name, self._stm = name, stm

    def put(self, key: str, value: Any, *, ttl_ms: float | None = None, labels: Sequence[str] = ()) -> Any:
        """Store a value and give it back; `ttl_ms` and `labels` as in RunMemory.put."""
        checked_key(key)
        checked_ttl(key, ttl_ms)
        value = checked_value(key, value)
        self._stm.put(SCOPE, key, value, ttl_ms, checked_labels(labels))
        return value

    def get(self, key: str, default: Any = None) -> Any:
        """The value under `key`, else `default`. Lists and maps are copies."""
        value = self._stm.get((SCOPE,), key)
        return default if value is MISSING else settle(value)

    def delete(self, key: str) -> bool:
        """Forget an entry; False when there was none."""
        return self._stm.delete(SCOPE, key)

    def search(
        self, query: str, *, limit: int = 10, min_score: float = 0.0, where: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Entries `{key, value, score}` as RunMemory.search gives them."""
        hits = search([(self._stm, (SCOPE,))], query, limit=limit, min_score=min_score, where=where)
        return [{"key": key, "value": value, "score": score} for key, value, score, _ in hits]

    def snapshot(self) -> dict[str, Any]:
        """Everything in it as one value, for `restore` in whatever process."""
        return self._stm.snapshot()

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Make it what a snapshot says."""
        self._stm.restore(snapshot)

    def clear(self) -> None:
        """Forget everything in it."""
        self._stm.clear()

    def __len__(self) -> int:
        return len(self._stm)
