"""The memory of one run: which tier a read or write goes to, and in which order they are asked. Stores nothing itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from apxm.errors import InvalidError
from apxm.memory.episodic import NOWHERE
from apxm.memory.matching import fits
from apxm.memory.session import SCOPE
from apxm.memory.stm import KEY_CHARS_MAX, MISSING, checked_key, checked_ttl, checked_value, search
from apxm.values import SCALARS, check, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future
    from typing import TypeAlias

    from apxm.memory.episodic import Episodes, Place
    from apxm.memory.ltm.entry import Entry, Put
    from apxm.memory.ltm.system import Lane
    from apxm.memory.stm import Labels, ShortTermMemory
    from apxm.memory.system import MemorySystem

    T = TypeVar("T")
    Hit: TypeAlias = tuple[str, Any, float, Labels]  # key, value, score, where it came from

TIERS = ("stm", "ltm", "episodic", "all")
FROM_LTM = "memory:ltm"  # the label of what came from long-term memory by way of another tier


class OpenRun:
    """What all views of one run share. `writes` counts what the run wrote to long-term memory."""

    __slots__ = ("run_id", "session", "stm", "system", "views", "writes")

    def __init__(self, system: MemorySystem, run_id: str, stm: ShortTermMemory, session: ShortTermMemory | None) -> None:
        self.system, self.run_id, self.stm, self.session = system, run_id, stm, session
        self.views: dict[tuple[str, str | None], RunMemory] = {}
        self.writes = 0


class RunMemory:
    """The memory of one run, as one agent (and flow) of it sees it.

    Scopes are nested: `session` is shared by the runs of a session, `run` by all agents of a run, `agent` by the flows of
    one, `flow` is for one flow. Reading looks into the narrowest scope first; writing goes to `agent` unless told otherwise.
    Closed when the run ends. What lies in tier `ltm` outlives it, and belongs to the agent of that name. Whatever uses the
    tiers `ltm` and `all` blocks.
    """

    __slots__ = ("_chain", "_copies", "_places", "_rest", "_run", "_scopes", "_stm", "agent", "flow")

    def __init__(self, run: OpenRun, agent: str, flow: str | None) -> None:
        self.agent, self.flow = agent, flow
        self._run, self._stm = run, run.stm
        scopes = {"agent": f"agent:{agent}", "run": "run"}
        # The length keeps agent `a.b` with flow `c` apart from agent `a` with flow `b.c`.
        self._scopes = scopes if flow is None else {"flow": f"flow:{len(agent)}:{agent}.{flow}", **scopes}
        self._copies = f"ltm:{agent}"  # what was found in long-term memory: behind everything that was written here
        chain = tuple(self._scopes.values())  # narrowest first
        self._places: list[tuple[ShortTermMemory, tuple[str, ...]]] = [(self._stm, chain)]
        self._rest: list[tuple[ShortTermMemory, tuple[str, ...]]] = []
        if run.session is None:
            self._chain = (*chain, self._copies)
        else:
            self._chain = chain
            self._places.append((run.session, (SCOPE,)))
            self._rest += (self._places[1], (self._stm, (self._copies,)))
        run.views[agent, flow] = self

    @property
    def run_id(self) -> str:
        return self._run.run_id

    def view(self, agent: str, flow: str | None = None) -> RunMemory:
        """The same memory as another agent or flow sees it."""
        found = self._run.views.get((agent, flow))
        return RunMemory(self._run, agent, flow) if found is None else found  # an empty one is one, too

    # ---- writing -----------------------------------------------------------------------------------------------------
    def put(
        self,
        key: str,
        value: Any,
        *,
        tier: str = "stm",
        scope: str = "agent",
        ttl_ms: float | None = None,
        labels: Sequence[str] = (),
        durable: bool = False,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Any:
        """Store a value and give it back. `scope` is run, agent, flow or session; after `ttl_ms` it is forgotten.

        `labels` say where it came from (`web`, `llm:<model>`, `tool:<name>`): who reads it inherits them, and what the label
        policy says of them holds for it. Without any it is the host's own word.
        In tier `ltm` it is stored for good, in the namespace of the agent: done when it cannot be lost any more. `text` is what
        searches read there, by default the texts inside the value; `metadata` are fields for `where` beside those of the
        value. `durable` stores it in long-term memory too, whatever the tier.
        In tier `episodic` it is put on record, of type `key`, for the agent: it has neither a scope nor an end.
        """
        if type(key) is not str or not 0 < len(key) <= KEY_CHARS_MAX:
            checked_key(key)
        if ttl_ms is not None:
            checked_ttl(key, ttl_ms)
        if type(value) not in SCALARS:
            value = checked_value(key, value)
        labels = tuple(labels) if labels else ()
        if tier == "stm" and not durable and text is None and metadata is None:
            place = self._scopes.get(scope)
            if place is None:
                self._shared(scope).put(SCOPE, key, value, ttl_ms, labels)
            else:
                self._stm.put(place, key, value, ttl_ms, labels)
            return value
        self._refuse_write(tier, scope, ttl_ms)
        if tier == "ltm" or durable:
            self.submit(key, value, ttl_ms, labels, text, metadata).result()
        elif text is not None or metadata is not None:
            raise InvalidError(f"tier `{tier}` takes neither `text` nor `metadata`", hint="they are for `ltm`, and for `durable`")
        if tier == "episodic":
            return self.record(key, value, labels=labels)
        return self.keep(key, value, ttl_ms, labels, scope) if tier == "stm" else value

    def keep(self, key: str, value: Any, ttl_ms: float | None = None, labels: Labels = (), scope: str = "agent") -> Any:
        """`put` into short-term memory of a value that is settled already: what UMEM does with its input."""
        if type(key) is not str or not 0 < len(key) <= KEY_CHARS_MAX:
            checked_key(key)
        place = self._scopes.get(scope)
        if place is None:
            self._shared(scope).put(SCOPE, key, value, ttl_ms, labels)
        else:
            self._stm.put(place, key, value, ttl_ms, labels)
        return value

    def record(self, key: str, value: Any, place: Place = NOWHERE, labels: Labels = ()) -> Any:
        """Put a settled value on record, as an episode of type `key` of this agent.

        `place` says which node did it, `labels` where the value came from: who reads it inherits them.
        """
        checked_key(key)
        self._episodes().record(self.run_id, (*place[:-1], self.agent), key, value, labels)
        return value

    def submit(
        self,
        key: str,
        value: Any,
        ttl_ms: float | None = None,
        labels: Labels = (),
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Future[Any]:
        """Store a settled value in long-term memory; the future is done when it cannot be lost any more. Does not block."""
        return self.submit_all([self.lasting(key, value, ttl_ms, labels, text, metadata)])

    def lasting(
        self,
        key: str,
        value: Any,
        ttl_ms: float | None = None,
        labels: Labels = (),
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Put:
        """A settled value as `submit_all` stores it."""
        checked_key(key)
        check(value, f"memory key `{key}`")
        return self._run.system.lasting(self.agent, key, value, ttl_ms, labels, text, metadata)

    def submit_all(self, puts: Sequence[Put]) -> Future[Any]:
        """`submit` of several: all of them are stored, or none."""

        def wrote(_: Any = None) -> None:
            for put in puts:
                self._wrote(put.key)

        wrote()
        stored = self._run.system.store(puts)
        stored.add_done_callback(wrote)
        return stored

    def delete(self, key: str, *, tier: str = "stm", scope: str = "agent") -> bool:
        """Forget an entry of one scope, or of long-term memory; False when there was none."""
        if tier == "stm":
            place = self._scopes.get(scope)
            return self._shared(scope).delete(SCOPE, key) if place is None else self._stm.delete(place, key)
        if tier == "episodic":
            raise InvalidError("nothing is deleted from tier `episodic`: episodes are only ever added, and the oldest go")
        self._refuse_write(tier, scope, None)
        gone = self._run.system.ltm.delete(key, namespace=self.agent)
        self._wrote(key)
        return gone

    def _refuse_write(self, tier: str, scope: str, ttl_ms: float | None) -> None:
        checked_tier(tier)
        if tier == "all":
            raise InvalidError("tier `all` is for reading", hint="write to `stm`, `ltm` or `episodic`")
        if tier != "stm" and scope != "agent":
            raise InvalidError(f"tier `{tier}` has no scopes: what is in it belongs to the agent", hint="leave out `scope`")
        if tier == "episodic" and ttl_ms is not None:
            raise InvalidError("a record in tier `episodic` has no end", hint="leave out `ttl_ms`")
        if tier == "stm":
            self.check_scope(scope)

    def check_scope(self, scope: str) -> None:
        """InvalidError unless short-term memory has this scope here."""
        if scope not in self._scopes:
            self._shared(scope)

    def _shared(self, scope: str) -> ShortTermMemory:
        """The memory of the session; InvalidError for whatever else is no scope of this run."""
        if scope == SCOPE and self._run.session is not None:
            return self._run.session
        hints = {
            "flow": "make a view of the flow first: memory.view(agent, flow)",
            SCOPE: "give the run one: RunOptions(session=name)",
        }
        raise InvalidError(
            f"there is no memory scope `{scope}` here", hint=hints.get(scope, "expected run, agent, flow or session")
        )

    # ---- reading by key ----------------------------------------------------------------------------------------------
    def get(self, key: str, default: Any = None, *, tier: str = "stm") -> Any:
        """The value under `key`, else `default`. Lists and maps are copies.

        Tier `all` asks `stm` first, then `ltm`, then `episodic`. What it finds in `ltm` is in `stm` from then on, behind
        everything that the run wrote there, until the run writes that key to `ltm`.
        """
        if tier == "stm":
            value = self._stm.find(self._chain, key)[0]
            if value is MISSING and self._rest:
                value = self._find_behind(key)[0]
        else:
            value = self._look(tier, key, None)[0]
        if type(value) in SCALARS:
            return value
        return default if value is MISSING else settle(value)

    def find_in(self, tier: str, key: str, where: Mapping[str, Any] | None = None) -> tuple[Any, Labels]:
        """`get` without a copy, for who will not change it: what QMEM does; also where the value came from.

        `where` are fields that the value must have.
        """
        value, labels = self._look(tier, key, where)
        return None if value is MISSING else value, labels

    def find_at_once(self, tier: str, key: str, where: Mapping[str, Any] | None = None) -> tuple[Any, Labels] | None:
        """`find_in` as far as it does not block: None when it would have to."""
        if tier in ("stm", "all"):
            value, labels = self._find(key)
            if value is not MISSING and fits(value, where):
                return value, labels
        return (None, ()) if tier == "stm" else None

    def _find(self, key: str) -> tuple[Any, Labels]:
        found = self._stm.find(self._chain, key)
        return self._find_behind(key) if found[0] is MISSING and self._rest else found

    def _find_behind(self, key: str) -> tuple[Any, Labels]:
        """What the session has, else a copy of what was found in long-term memory."""
        for memory, scopes in self._rest:
            found = memory.find(scopes, key)
            if found[0] is not MISSING:
                return found
        return MISSING, ()

    def _look(self, tier: str, key: str, where: Mapping[str, Any] | None) -> tuple[Any, Labels]:
        """The value in the first of the tiers that has one with these fields, else MISSING; and its labels, if it has some."""
        if tier not in TIERS:
            checked_tier(tier)
        if tier == "stm" or tier == "all":
            value, labels = self._find(key)
            if value is not MISSING and fits(value, where):
                return value, labels
        if tier == "ltm" or (tier == "all" and self._run.system.has_ltm):
            writes = self._run.writes
            entry = self._run.system.recall(self.agent, key, where)
            if entry is not None:
                return entry.value, self._promote(entry, writes) if tier == "all" else entry.labels
        if tier == "episodic" or (tier == "all" and self._run.system.episodes is not None):
            last = self._episodes().last(key, self.agent, where)
            if last is not None:
                return last.remembered, last.labels
        return MISSING, ()

    # ---- searching ---------------------------------------------------------------------------------------------------
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

        Tier `all` takes from all tiers; among equally good ones `stm` goes first, then `ltm`. A key that `stm` has is not
        looked for in `ltm`.
        """
        return self.search_in(tier, query, limit, min_score, where)[0]

    def search_in(
        self, tier: str, query: str, limit: int, min_score: float, where: Mapping[str, Any] | None
    ) -> tuple[list[dict[str, Any]], Labels]:
        """`search`; also where the values came from."""
        checked_tier(tier)
        hits: list[Hit] = []
        if tier in ("stm", "all"):
            places = self._places if tier == "all" else [(self._stm, self._chain), *self._rest]
            hits += search(places, query, limit=limit, min_score=min_score, where=where)
        if tier == "ltm" or (tier == "all" and self._run.system.has_ltm):
            hits += self._recalled(tier, query, limit, min_score, where)
        if tier == "episodic" or (tier == "all" and self._run.system.episodes is not None):
            episodes = self._episodes().search(query, self.agent, limit=limit, min_score=min_score, where=where)
            hits += ((one.key, one.remembered, score, one.labels) for one, score in episodes)
        if tier == "all":
            hits = sorted(hits, key=lambda hit: -hit[2])[:limit]
        labels = tuple(dict.fromkeys(label for *_, its in hits for label in its))
        return [{"key": key, "value": value, "score": score} for key, value, score, _ in hits], labels

    def _recalled(self, tier: str, query: str, limit: int, min_score: float, where: Mapping[str, Any] | None) -> list[Hit]:
        """What long-term memory finds; for tier `all` without what short-term memory says otherwise, and copied there."""
        writes = self._run.writes
        found = self._run.system.ltm.search(query, namespace=self.agent, limit=limit, min_score=min_score, where=where)
        if tier == "ltm":
            return [(hit.entry.key, hit.entry.value, hit.score, hit.entry.labels) for hit in found]
        hits: list[Hit] = []
        for hit in found:
            entry = hit.entry
            if entry.kind != "entry":
                hits.append((entry.key, entry.value, hit.score, (*entry.labels, FROM_LTM)))
            elif not any(memory.holds(scopes, entry.key) for memory, scopes in self._places):
                hits.append((entry.key, entry.value, hit.score, self._promote(entry, writes)))
        return hits

    # ---- what came from long-term memory -----------------------------------------------------------------------------
    def _promote(self, entry: Entry, writes: int) -> Labels:
        """Copy what was read after so many `writes` of the run into short-term memory, for no longer than it lives there."""
        labels = tuple(dict.fromkeys((*entry.labels, FROM_LTM)))
        left_ms = self._run.system.left_ms(entry)
        if left_ms is None or left_ms > 0:
            self._stm.put(self._copies, entry.key, entry.value, left_ms, labels)
        if self._run.writes != writes:  # it may have been replaced since it was read
            self._stm.delete(self._copies, entry.key)
        return labels

    def _wrote(self, key: str) -> None:
        """The run changes a key in long-term memory: what it read there before does not count any more."""
        self._run.writes += 1
        self._stm.delete(self._copies, key)

    def _episodes(self) -> Episodes:
        if self._run.system.episodes is None:
            raise InvalidError("no episodes are kept here", hint='set MemoryConfig(episodic="memory")')
        return self._run.system.episodes

    async def later(self, work: Callable[[], T], lane: Lane = "reading") -> T:
        """Do what blocks on another thread, and wait for it on this loop; a search does not hold up reads by key."""
        return await asyncio.wrap_future(self._run.system.later(work, lane))

    # ---- the whole of it ---------------------------------------------------------------------------------------------
    def fence(self) -> list[Future[Any]]:
        """What is done once everything is durable that was written before; nothing when it is already. Does not block."""
        return self._run.system.fence()

    def snapshot(self) -> dict[str, Any]:
        """The short-term memory of the whole run as one value, without that of its session."""
        return self._stm.snapshot()

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Make the short-term memory of the whole run what a snapshot says."""
        self._stm.restore(snapshot)

    def __len__(self) -> int:
        return len(self._stm)

    def close(self) -> None:
        """The run is over: forget everything that was only its own. Idempotent."""
        self._stm.clear()
        self._run.system.closed(self._stm)


def checked_tier(tier: str) -> None:
    """InvalidError unless it is a tier of memory."""
    if tier not in TIERS:
        raise InvalidError(f"there is no memory tier `{tier}`; expected {', '.join(TIERS)}")
