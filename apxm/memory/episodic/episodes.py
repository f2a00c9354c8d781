"""The interface of every store of episodes, and what is the same for all: which are wanted, and what is kept of a text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from itertools import islice
from time import time
from typing import TYPE_CHECKING, Any

from apxm.memory.episodic.episode import CONTENT_CHARS_MAX, FIRING, digest
from apxm.memory.matching import Query, fits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from apxm.config import EpisodeContent
    from apxm.memory.episodic.episode import Episode, Place
    from apxm.memory.episodic.firings import Firings

SECRET_CHARS = 4_096  # a text is looked through for secrets as far as this beyond what is kept of it: none is cut in two
_EXACT = ("run", "agent", "op", "kind", "target", "outcome")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which episodes somebody asks for: those for which all that is given holds.

    `since` and `until` are Unix times in seconds, both included; `text` stands somewhere in it, in whatever case. Without
    `firings` those of nodes are left out.
    """

    run: str | None = None
    agent: str | None = None
    op: str | None = None
    kind: str | None = None
    target: str | None = None
    outcome: str | None = None
    since: float | None = None
    until: float | None = None
    text: str | None = None
    firings: bool = True

    def holds(self, one: Episode) -> bool:
        """Whether an episode is wanted."""
        if not self.firings and one.kind == FIRING:
            return False
        for name in _EXACT:
            wanted = getattr(self, name)
            if wanted is not None and getattr(one, name) != wanted:
                return False
        if (self.since is not None and one.at < self.since) or (self.until is not None and one.at > self.until):
            return False
        return self.text is None or self.text.casefold() in one.text().casefold()


@dataclass(frozen=True, slots=True)
class EpisodeStats:
    """How a store is doing. `dropped` are episodes that were never kept, because they came faster than they could be written
    or could not be written at all; `bytes` are those of its files, 0 in memory. `failure` is why it cannot be written now."""

    where: str
    episodes: int
    first: int
    last: int
    bytes: int = 0
    waiting: int = 0
    dropped: int = 0
    failure: str | None = None

    def to_map(self) -> dict[str, Any]:
        return asdict(self)


class Episodes(ABC):
    """What happened in runs. Append-only and bounded: the oldest go first. Thread-safe.

    `content` says what is kept of what was said: off, digest (of 16 bytes: the same text has the same digest) or text, from
    which `redact` takes what is secret.
    """

    def __init__(
        self, content: EpisodeContent, clock: Callable[[], float] = time, redact: Callable[[str], str] | None = None
    ) -> None:
        self.content = content
        self.clock = clock  # Unix time
        self._redact = redact

    # ---- what happens ------------------------------------------------------------------------------------------------
    @abstractmethod
    def add(
        self,
        run: str,
        place: Place,
        kind: str,
        target: str,
        duration_ms: float,
        code: str | None = None,
        usage: Mapping[str, float] | None = None,
        content: Mapping[str, str] | None = None,
        value: Any = None,
        labels: tuple[str, ...] = (),
    ) -> None:
        """Append one. `content` is taken by the policy, `value` as it is: a settled one. Never fails for want of a disk."""

    @abstractmethod
    def record(self, run: str, place: Place, key: str, value: Any, labels: tuple[str, ...] = ()) -> None:
        """Append what a program puts on record, and come back when it is there. Raises StorageError when it cannot be."""

    @abstractmethod
    def fired(self, firings: Firings) -> None:
        """Append the episodes of these firings. Never fails for want of a disk."""

    def kept(self, content: Mapping[str, str] | None) -> dict[str, str] | None:
        """What the policy leaves of what was said."""
        if self.content == "off" or content is None:
            return None
        keep = digest if self.content == "digest" else self._text
        return {name: keep(text) for name, text in content.items()}

    def _text(self, text: str) -> str:
        kept = text[: CONTENT_CHARS_MAX + SECRET_CHARS]
        if self._redact is not None:
            kept = self._redact(kept)
            if len(text) > CONTENT_CHARS_MAX + SECRET_CHARS:
                kept = kept[:-SECRET_CHARS]  # of what stands there the end was not seen, however much before it was blacked out
        if len(text) <= CONTENT_CHARS_MAX:
            return kept
        return f"{kept[:CONTENT_CHARS_MAX]}… ({len(text)} characters)"

    # ---- what happened -----------------------------------------------------------------------------------------------
    @abstractmethod
    def select(self, wanted: Wanted) -> Iterator[Episode]:
        """Those that are wanted, newest first, as they are now; read as they are asked for."""

    def find(
        self,
        *,
        run: str | None = None,
        agent: str | None = None,
        op: str | None = None,
        kind: str | None = None,
        target: str | None = None,
        outcome: str | None = None,
        since: float | None = None,
        until: float | None = None,
        text: str | None = None,
        limit: int | None = None,
    ) -> list[Episode]:
        """Those for which all that is given holds, newest first, at most `limit`.

        `since` and `until` are Unix times in seconds, both included; `text` stands somewhere in it, in whatever case.
        """
        wanted = Wanted(run, agent, op, kind, target, outcome, since, until, text)
        return list(islice(self.select(wanted), limit))

    def last(self, key: str, agent: str, where: Mapping[str, Any] | None = None) -> Episode | None:
        """The newest episode of an agent with this key, and with these fields in its value."""
        for one in self._with_key(key, agent):
            if one.key == key and fits(one.remembered, where):
                return one
        return None

    def search(
        self, query: str, agent: str, *, limit: int = 10, min_score: float = 0.0, where: Mapping[str, Any] | None = None
    ) -> list[tuple[Episode, float]]:
        """(episode, score) of those of an agent that have something in common with `query`, best first, then newest.

        Of calls, records and reflections: that a node fired is no answer to a question.
        """
        wanted = Query(query)
        found = [
            (one, score)
            for one in self._candidates(wanted, agent)
            if fits(one.remembered, where) and (score := wanted.score(one.key, one.text())) > 0 and score >= min_score
        ]
        return sorted(found, key=lambda hit: -hit[1])[:limit]

    def _with_key(self, key: str, agent: str) -> Iterator[Episode]:
        """Newest first, at least those of an agent with this key."""
        return self.select(Wanted(agent=agent))

    def _candidates(self, query: Query, agent: str) -> Iterator[Episode]:
        """Newest first, at least the newest of those that a query may find."""
        return self.select(Wanted(agent=agent, firings=False))

    def __iter__(self) -> Iterator[Episode]:
        """Newest first, as they are now."""
        return self.select(Wanted())

    @abstractmethod
    def __len__(self) -> int: ...

    # ---- the store ---------------------------------------------------------------------------------------------------
    @abstractmethod
    def stats(self) -> EpisodeStats:
        """How many there are, and how the store is doing."""

    @abstractmethod
    def clear(self) -> None:
        """Forget all of them."""

    @property
    def pending(self) -> bool:
        """Whether some were accepted and are not written yet. Cheap."""
        return False

    def flush(self) -> None:
        """Come back when everything accepted so far is written. Raises StorageError when it cannot be."""
        self.flushed().result()

    def flushed(self) -> Future[None]:
        """The same for who cannot wait here."""
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def close(self) -> None:  # noqa: B027  (nothing to write, nothing to end)
        """Write what was accepted, and end. Idempotent; episodes that come later are not kept."""
