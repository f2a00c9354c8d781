"""All memory of a runtime behind one vocabulary: put, get, delete, search. Of runs, of sessions, and what outlives both."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from threading import Lock
from time import monotonic, time
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from apxm.config import MemoryConfig
from apxm.errors import ConfigError, InvalidError
from apxm.memory.episodic import open_episodes
from apxm.memory.run import OpenRun, RunMemory
from apxm.memory.session import Session
from apxm.memory.stm import ShortTermMemory, checked_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from apxm.memory.episodic import Episodes
    from apxm.memory.facts import Facts
    from apxm.memory.ltm.entry import Entry, Put
    from apxm.memory.ltm.system import Lane, LongTermMemory
    from apxm.memory.stm import Change, Labels

    T = TypeVar("T")


class MemorySystem:
    """Opens the memory of runs and sessions, has what outlives them, and closes all of it when the runtime ends.

    `episodes` has what happened in all runs, or is None when the configuration keeps none. `ltm` and `facts` are made when
    they are first asked for; `folder` gives the directory of what is kept on disk, and is asked when that is first used. Without
    one there is no long-term memory.
    """

    def __init__(
        self,
        config: MemoryConfig | None = None,
        *,
        folder: Callable[[], Path] | None = None,
        clock: Callable[[], float] = monotonic,
        wall_clock: Callable[[], float] = time,
        secrets: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.config = config or MemoryConfig()
        self._folder, self._clock, self._wall = folder, clock, wall_clock
        self.episodes: Episodes | None = open_episodes(self.config, self._place, wall_clock, secrets)
        self._lock = Lock()
        self._ltm: LongTermMemory | None = None
        self._facts: Facts | None = None
        self._closed = False
        self._open: dict[int, tuple[str, ShortTermMemory]] = {}  # of runs, by id of the memory
        self._kept: OrderedDict[str, ShortTermMemory] = OrderedDict()  # of sessions, least recently used first
        self._used: WeakValueDictionary[str, ShortTermMemory] = WeakValueDictionary()  # of those, and of what open runs still use
        self._subscribers: tuple[Callable[[str, Change], None], ...] = ()

    # ---- short-term --------------------------------------------------------------------------------------------------
    def run(self, run_id: str, agent: str = "default", *, session: str | None = None) -> RunMemory:
        """A new, empty memory for one run, whatever its id: two runs share no more than their session. Close it in the end."""
        stm = self._new(run_id)
        with self._lock:
            self._open[id(stm)] = (run_id, stm)
        shared = None if session is None else self._of_session(session)
        return RunMemory(OpenRun(self, run_id, stm, shared), agent, None)

    def session(self, name: str) -> Session:
        """The memory that runs of one session share. It begins empty; of too many, those not used for longest go."""
        return Session(name, self._of_session(name))

    @property
    def sessions(self) -> list[str]:
        """Names of the sessions that are kept, the last used one last."""
        return list(self._kept)

    @property
    def open_runs(self) -> int:
        """Runs whose memory is not closed yet."""
        return len(self._open)

    def subscribe(self, subscriber: Callable[[str, Change], None]) -> Callable[[], None]:
        """Tell `subscriber(whose, change)` from now on what changes in short-term memory; gives what ends that.

        `whose` is the id of the run, for scope `session` the name of the session. It is called by whoever makes the change,
        on any thread: it has to be quick, and what it raises is raised there.
        """
        with self._lock:
            self._subscribers = (*self._subscribers, subscriber)
            self._listen()

        def end() -> None:
            with self._lock:
                self._subscribers = tuple(one for one in self._subscribers if one is not subscriber)
                self._listen()

        return end

    def _new(self, whose: str) -> ShortTermMemory:
        stm = ShortTermMemory(self.config.stm_entries, self.config.stm_bytes, clock=self._clock)
        if self._subscribers:
            stm.on_change = partial(self._tell, whose)
        return stm

    def _of_session(self, name: str) -> ShortTermMemory:
        checked_key(name)
        with self._lock:
            stm = self._used.get(name)
            if stm is None:
                stm = self._used[name] = self._new(name)
            self._kept[name] = stm
            self._kept.move_to_end(name)
            while len(self._kept) > self.config.sessions:
                self._kept.popitem(last=False)
        return stm

    def _listen(self) -> None:
        """Under the lock: who has nobody to tell does not try to, as that costs every change."""
        for whose, stm in (*self._open.values(), *self._used.items()):
            stm.on_change = partial(self._tell, whose) if self._subscribers else None

    def _tell(self, whose: str, change: Change) -> None:
        for subscriber in self._subscribers:
            subscriber(whose, change)

    def closed(self, stm: ShortTermMemory) -> None:
        """A run is over."""
        with self._lock:
            self._open.pop(id(stm), None)

    # ---- long-term ---------------------------------------------------------------------------------------------------
    @property
    def has_ltm(self) -> bool:
        """Whether there is a place for a long-term memory."""
        return self._folder is not None

    def _place(self) -> Path:
        if self._folder is None:
            raise ConfigError("this memory has no folder to keep anything in", hint="give MemorySystem a `folder`")
        return self._folder()

    @property
    def ltm(self) -> LongTermMemory:
        """What outlives the process: one for each folder, which the runtimes of a process share. Not there before it is used."""
        found = self._ltm
        if found is None:
            from apxm.memory.ltm.shared import join

            with self._lock:
                if self._closed:
                    raise InvalidError("this memory is closed", hint="make a new Runtime")
                if self._ltm is None:
                    self._ltm = join(self._place(), self.config, self._wall)
                found = self._ltm
        return found

    @property
    def facts(self) -> Facts:
        """Texts with tags and sources, in long-term memory."""
        if self._facts is None:
            from apxm.memory.facts import Facts

            self._facts = Facts(self.ltm, clock=self._wall)
        return self._facts

    def lasting(
        self,
        agent: str,
        key: str,
        value: Any,
        ttl_ms: float | None,
        labels: Labels,
        text: str | None,
        metadata: Mapping[str, Any] | None,
    ) -> Put:
        """A settled value as it goes into the namespace of an agent."""
        from apxm.memory.ltm.entry import TEXT_CHARS_MAX, Put
        from apxm.memory.matching import text_of

        said = text_of(value, TEXT_CHARS_MAX) if text is None else text
        expires_at = None if ttl_ms is None else self._wall() + ttl_ms / 1e3
        return Put(agent, key, value, said, metadata=dict(metadata or {}), labels=labels, expires_at=expires_at)

    def store(self, puts: Sequence[Put]) -> Future[Any]:
        """Store all of them or none; the future is done when they cannot be lost any more.

        Does not block: where too many writes wait, they wait on another thread until there is room.
        """
        ltm = self.ltm
        accepted = ltm.offer(puts)
        return ltm.later(lambda: ltm.submit(puts).result(), "writing") if accepted is None else accepted

    def recall(self, agent: str, key: str, where: Mapping[str, Any] | None) -> Entry | None:
        """The entry of an agent in long-term memory that has these fields, or None."""
        entry = self.ltm.get(key, namespace=agent)
        if entry is None or not where:
            return entry
        from apxm.memory.ltm.where import fields_of, fits, refuse_unfit

        refuse_unfit(where)
        return entry if fits(fields_of(entry.value, entry.metadata), where) else None

    def left_ms(self, entry: Entry) -> float | None:
        """How long an entry of long-term memory still lives; None for ever."""
        return None if entry.expires_at is None else (entry.expires_at - self._wall()) * 1e3

    def later(self, work: Callable[[], T], lane: Lane = "reading") -> Future[T]:
        """Run what blocks on a thread of long-term memory; a search does not hold up reads by key."""
        return self.ltm.later(work, lane)

    def fence(self) -> list[Future[Any]]:
        """What is done once everything is durable that was accepted before; nothing when it is already. Does not block."""
        waiting: list[Future[Any]] = []
        if self._ltm is not None and self._ltm.pending:
            waiting.append(self.store([]))  # writes are committed in their order
        if self.episodes is not None and self.episodes.pending:
            waiting.append(self.episodes.flushed())
        return waiting

    # ---- the end -----------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """Forget the memory of every run and session, and close what is on disk. Idempotent."""
        with self._lock:
            left, self._open = list(self._open.values()), {}
            sessions = list(self._used.values())
            self._kept.clear()
            ltm, self._ltm = self._ltm, None
            self._closed = True
        for stm in (*(stm for _, stm in left), *sessions):
            stm.clear()
        try:
            if ltm is not None:
                from apxm.memory.ltm.shared import leave

                leave(ltm)
        finally:
            if self.episodes is not None:
                self.episodes.close()
