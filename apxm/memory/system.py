"""All memory of a runtime behind one vocabulary: put, get, delete, search. Each run gets its own short-term memory."""

from __future__ import annotations

from threading import Lock
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from apxm.config import MemoryConfig
from apxm.errors import InvalidError
from apxm.memory.episodic import NOWHERE, Episodes
from apxm.memory.matching import fits
from apxm.memory.stm import MISSING, ShortTermMemory
from apxm.values import SCALARS, check, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from apxm.memory.episodic import Place
    from apxm.memory.stm import Change

TIERS = ("stm", "episodic", "all")
LATER = {"ltm": "comes with the long-term memory"}
KEY_CHARS_MAX = 1_000


def tier_refusal(tier: str) -> str | None:
    """Why a tier cannot be used, or None when it can."""
    if tier in TIERS:
        return None
    reason = LATER.get(tier)
    if reason is None:
        return f"there is no memory tier `{tier}`; expected {', '.join((*TIERS, *LATER))}"
    return f"memory tier `{tier}` {reason}; this version has {', '.join(f'`{one}`' for one in TIERS)}"


class RunMemory:
    """The memory of one run, as one agent (and flow) of it sees it.

    Scopes are nested: `run` is shared by all agents, `agent` by the flows of one, `flow` is for one flow. Reading looks
    into the narrowest scope first; writing goes to `agent` unless told otherwise. Closed when the run ends.
    """

    __slots__ = ("_chain", "_scopes", "_stm", "_system", "_views", "agent", "flow", "run_id")

    def __init__(
        self, system: MemorySystem, stm: ShortTermMemory, run_id: str, agent: str, flow: str | None, views: dict[Any, RunMemory]
    ) -> None:
        self.run_id, self.agent, self.flow = run_id, agent, flow
        self._system, self._stm, self._views = system, stm, views
        scopes = {"agent": f"agent:{agent}", "run": "run"}
        # The length keeps agent `a.b` with flow `c` apart from agent `a` with flow `b.c`.
        self._scopes = scopes if flow is None else {"flow": f"flow:{len(agent)}:{agent}.{flow}", **scopes}
        self._chain = tuple(self._scopes.values())  # narrowest first
        views[agent, flow] = self

    def view(self, agent: str, flow: str | None = None) -> RunMemory:
        """The same memory as another agent or flow sees it."""
        return self._views.get((agent, flow)) or RunMemory(self._system, self._stm, self.run_id, agent, flow, self._views)

    def put(
        self,
        key: str,
        value: Any,
        *,
        tier: str = "stm",
        scope: str = "agent",
        ttl_ms: float | None = None,
        labels: Sequence[str] = (),
    ) -> Any:
        """Store a value and give it back. `scope` is run, agent or flow; after `ttl_ms` it is forgotten.

        `labels` say where it came from (`web`, `llm:<model>`, `tool:<name>`): who reads it inherits them, and what the label
        policy says of them holds for it. Without any it is the host's own word.
        In tier `episodic` it is put on record, of type `key`, for the agent: it has neither a scope nor an end.
        """
        if tier == "all":
            raise InvalidError("tier `all` is for reading", hint="write to `stm` or `episodic`")
        if tier != "stm":
            _refuse(tier)
        if type(key) is not str or not 0 < len(key) <= KEY_CHARS_MAX:
            raise _bad_key(key)
        if ttl_ms is not None and ttl_ms <= 0:
            raise InvalidError(f"ttl_ms of `{key}` is {ttl_ms!r}, expected more than 0")
        if type(value) not in SCALARS:
            value = settle(value, where=f"memory key `{key}`")
            check(value, f"memory key `{key}`")
        if tier == "episodic":
            return self.record(key, value, labels=tuple(labels))
        place = self._scopes.get(scope)
        if place is None:
            raise _no_scope(scope)
        self._stm.put(place, key, value, ttl_ms, tuple(labels))
        return value

    def record(self, key: str, value: Any, place: Place = NOWHERE, labels: tuple[str, ...] = ()) -> Any:
        """Put a settled value on record, as an episode of type `key` of this agent.

        `place` says which node did it, `labels` where the value came from: who reads it inherits them.
        """
        if type(key) is not str or not 0 < len(key) <= KEY_CHARS_MAX:
            raise _bad_key(key)
        self._episodes().add(self.run_id, (*place[:-1], self.agent), "record", key, 0.0, value=value, labels=labels)
        return value

    def keep(self, key: str, value: Any, ttl_ms: float | None = None, labels: tuple[str, ...] = ()) -> Any:
        """`put` of a value that is settled already: what UMEM does with its input."""
        if type(key) is not str or not 0 < len(key) <= KEY_CHARS_MAX:
            raise _bad_key(key)
        self._stm.put(self._scopes["agent"], key, value, ttl_ms, labels)
        return value

    def get(self, key: str, default: Any = None, *, tier: str = "stm") -> Any:
        """The value under `key`, else `default`. Lists and maps are copies. Tier `all` asks `stm` first, then `episodic`."""
        value, _ = self._lookup(key, tier, None)
        if value is MISSING:
            return default
        return value if type(value) in SCALARS else settle(value)

    def find_in(self, tier: str, key: str, where: Mapping[str, Any] | None = None) -> tuple[Any, tuple[str, ...]]:
        """`get` without a copy, for who will not change it: what QMEM does; also where the value came from.

        `where` are fields that the value must have.
        """
        value, labels = self._lookup(key, tier, where)
        return None if value is MISSING else value, labels

    def _lookup(self, key: str, tier: str, where: Mapping[str, Any] | None) -> tuple[Any, tuple[str, ...]]:
        """The value in the first of the tiers that has one with these fields, else MISSING; and its labels, if it has some."""
        if tier_refusal(tier) is not None:
            _refuse(tier)
        if tier != "episodic":
            value, labels = self._stm.find(self._chain, key)
            if value is not MISSING and fits(value, where):
                return value, labels
        if tier != "stm" and self._has_episodes(tier):
            last = self._episodes().last(key, self.agent, where)
            if last is not None:
                return last.remembered, last.labels
        return MISSING, ()

    def search(
        self,
        query: str,
        *,
        tier: str = "stm",
        limit: int = 10,
        min_score: float = 0.0,
        where: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Entries `{key, value, score}` whose key or text matches, best first; `where` are fields their values must have.

        Tier `all` takes from all tiers; among equally good ones `stm` goes first.
        """
        return self.search_in(tier, query, limit, min_score, where)[0]

    def search_in(
        self, tier: str, query: str, limit: int, min_score: float, where: Mapping[str, Any] | None
    ) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
        """`search`; also where the values came from."""
        if tier != "stm":
            _refuse(tier)
        hits: list[tuple[str, Any, float, tuple[str, ...]]] = []
        if tier != "episodic":
            hits += self._stm.search(self._chain, query, limit=limit, min_score=min_score, where=where)
        if tier != "stm" and self._has_episodes(tier):
            episodes = self._episodes().search(query, self.agent, limit=limit, min_score=min_score, where=where)
            hits += ((one.key, one.remembered, score, one.labels) for one, score in episodes)
            hits = sorted(hits, key=lambda hit: -hit[2])[:limit]
        labels = tuple(dict.fromkeys(label for *_, its in hits for label in its))
        return [{"key": key, "value": value, "score": score} for key, value, score, _ in hits], labels

    def _has_episodes(self, tier: str) -> bool:
        """Tier `all` is all that there is; who asks for episodes alone must be told when none are kept."""
        return tier == "episodic" or self._system.episodes is not None

    def _episodes(self) -> Episodes:
        if self._system.episodes is None:
            raise InvalidError("no episodes are kept here", hint='set MemoryConfig(episodic="memory")')
        return self._system.episodes

    def delete(self, key: str, *, tier: str = "stm", scope: str = "agent") -> bool:
        """Forget an entry of one scope; False when there was none."""
        if tier != "stm":
            _refuse(tier)
            raise InvalidError(f"nothing is deleted from tier `{tier}`: episodes are only ever added, and the oldest go")
        place = self._scopes.get(scope)
        if place is None:
            raise _no_scope(scope)
        return self._stm.delete(place, key)

    def snapshot(self) -> dict[str, Any]:
        """The memory of the whole run as one value."""
        return self._stm.snapshot()

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Make the memory of the whole run what a snapshot says."""
        self._stm.restore(snapshot)

    def __len__(self) -> int:
        return len(self._stm)

    def close(self) -> None:
        """The run is over: forget everything. Idempotent."""
        self._stm.clear()
        self._system._closed(self._stm)


def _no_scope(scope: str) -> InvalidError:
    hint = "make a view of the flow first: memory.view(agent, flow)" if scope == "flow" else "expected run, agent or flow"
    return InvalidError(f"there is no memory scope `{scope}` here", hint=hint)


def _refuse(tier: str) -> None:
    reason = tier_refusal(tier)
    if reason is not None:
        raise InvalidError(reason)


def _bad_key(key: Any) -> InvalidError:
    return InvalidError(f"memory key {key!r:.60} is not a text of 1 to {KEY_CHARS_MAX} characters")


class MemorySystem:
    """Opens the memory of runs, and closes what is still open when the runtime ends.

    `episodes` has what happened in all of them, or is None when the configuration keeps none.
    """

    def __init__(
        self,
        config: MemoryConfig | None = None,
        *,
        clock: Callable[[], float] = monotonic,
        wall_clock: Callable[[], float] = time,
    ) -> None:
        self.config = config or MemoryConfig()
        self._clock = clock
        self.episodes: Episodes | None = None
        if self.config.episodic == "memory":
            self.episodes = Episodes(self.config.episodes, self.config.episode_content, clock=wall_clock)
        self._lock = Lock()
        self._open: dict[int, ShortTermMemory] = {}

    def run(self, run_id: str, agent: str = "default", *, on_change: Callable[[Change], None] | None = None) -> RunMemory:
        """A new, empty memory for one run, whatever its id: two runs never share one. Close it when the run ends."""
        stm = ShortTermMemory(self.config.stm_entries, self.config.stm_bytes, clock=self._clock, on_change=on_change)
        with self._lock:
            self._open[id(stm)] = stm
        return RunMemory(self, stm, run_id, agent, None, {})

    @property
    def open_runs(self) -> int:
        """Runs whose memory is not closed yet."""
        return len(self._open)

    def close(self) -> None:
        """Forget the memory of every run. Idempotent."""
        with self._lock:
            left, self._open = list(self._open.values()), {}
        for stm in left:
            stm.clear()

    def _closed(self, stm: ShortTermMemory) -> None:
        with self._lock:
            self._open.pop(id(stm), None)
