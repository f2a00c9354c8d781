"""What happened in runs: one episode for every call to the world. Append-only and bounded; the oldest go first.

An episode says who called what, when, how long it took and how it ended. What was said in a call is kept only when the
configuration asks for it: cut, or as a digest. What a program itself puts on record is kept as it is.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, fields
from hashlib import blake2b
from time import time
from typing import TYPE_CHECKING, Any, TypeAlias

from apxm.memory.matching import Query, fits, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from apxm.config import EpisodeContent
    from apxm.observability.events import Path

CONTENT_CHARS_MAX = 2_000  # of one prompt, reply, argument or result that an episode keeps
DIGEST_BYTES = 16

Place: TypeAlias = "tuple[Path, int, str, str, str, str]"  # frame path, node id, node name, operation, flow, agent
NOWHERE: Place = ((), 0, "", "", "", "")


@dataclass(frozen=True, slots=True)
class Episode:
    """One thing that happened. `number` counts those of one runtime from 1, `at` is Unix time in seconds of its end.

    `kind` is model, capability, message or reflection, or `record` for what a program put on record itself; `target` is
    the name of what was called, of a record its type. `outcome` is done or failed, `code` that of the error. `content` has
    what was said, as far as the configuration keeps it; `value` is that of a record or a reflection, and `labels` say where
    that, or a content that is kept as text, came from.
    """

    number: int
    at: float
    run: str
    path: Path
    node: int
    name: str
    op: str
    flow: str
    agent: str
    kind: str
    target: str
    duration_ms: float
    code: str | None = None
    usage: Mapping[str, float] | None = None
    content: Mapping[str, str] | None = None
    value: Any = None
    labels: tuple[str, ...] = ()

    @property
    def outcome(self) -> str:
        return "done" if self.code is None else "failed"

    @property
    def key(self) -> str:
        """What a search finds it by: the type of a record, else what was called."""
        return self.target if self.kind == "record" else f"{self.kind}:{self.target}"

    @property
    def remembered(self) -> Any:
        """What memory gives for it: the value of a record, else the episode as a map."""
        return self.value if self.kind == "record" else self.to_map()

    def to_map(self) -> dict[str, Any]:
        """JSON form, without what says nothing."""
        found: dict[str, Any] = {name: getattr(self, name) for name in (*_NAMES, "outcome")}
        found["path"] = [list(step) for step in self.path] or None
        for name in ("usage", "content"):
            found[name] = dict(found[name]) if found[name] else None
        found["labels"] = list(self.labels) or None
        return {name: value for name, value in found.items() if value is not None}

    def text(self) -> str:
        """Everything in it that can be searched for, one thing on each line."""
        parts = [self.key, self.name, self.op, self.flow, self.agent, self.outcome, self.code or ""]
        return "\n".join([*parts, *(self.content or {}).values(), text_of(self.value)])


_NAMES = tuple(one.name for one in fields(Episode))


class Episodes:
    """The episodes of one runtime, the newest `entries_max` of them. Thread-safe: a run only ever appends one row.

    `content` says what is kept of what was said: off, digest (of 16 bytes: the same text has the same digest) or text.
    """

    __slots__ = ("_clock", "_numbers", "_rows", "content")

    def __init__(self, entries_max: int, content: EpisodeContent = "off", *, clock: Callable[[], float] = time) -> None:
        self.content = content
        self._clock = clock
        self._numbers = itertools.count(1)
        self._rows: deque[tuple[Any, ...]] = deque(maxlen=entries_max)  # the fields of an Episode: made when somebody looks

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
        """Append one. `content` is taken by the policy, `value` as it is: a settled one."""
        if content is not None:
            content = self._kept(content)
        row = (next(self._numbers), self._clock(), run, *place, kind, target, duration_ms, code, usage, content, value, labels)
        self._rows.append(row)

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
        wanted = {"run": run, "agent": agent, "op": op, "kind": kind, "target": target, "outcome": outcome}
        exact = {name: value for name, value in wanted.items() if value is not None}
        folded = None if text is None else text.casefold()

        def holds(one: Episode) -> bool:
            if any(getattr(one, name) != value for name, value in exact.items()):
                return False
            if (since is not None and one.at < since) or (until is not None and one.at > until):
                return False
            return folded is None or folded in one.text().casefold()

        return list(itertools.islice(filter(holds, self), limit))

    def last(self, key: str, agent: str, where: Mapping[str, Any] | None = None) -> Episode | None:
        """The newest episode of an agent with this key, and with these fields in its value."""
        for one in self:
            if one.key == key and one.agent == agent and fits(one.remembered, where):
                return one
        return None

    def search(
        self, query: str, agent: str, *, limit: int = 10, min_score: float = 0.0, where: Mapping[str, Any] | None = None
    ) -> list[tuple[Episode, float]]:
        """(episode, score) of those of an agent that have something in common with `query`, best first, then newest."""
        wanted = Query(query)
        found = [
            (one, score)
            for one in self
            if one.agent == agent
            and fits(one.remembered, where)
            and (score := wanted.score(one.key, one.text())) > 0
            and score >= min_score
        ]
        return sorted(found, key=lambda hit: -hit[1])[:limit]

    def clear(self) -> None:
        """Forget all of them."""
        self._rows.clear()

    def __iter__(self) -> Iterator[Episode]:
        """Newest first, as they are now."""
        return (Episode(*row) for row in reversed(self._rows.copy()))

    def __len__(self) -> int:
        return len(self._rows)

    def _kept(self, content: Mapping[str, str]) -> dict[str, str] | None:
        if self.content == "off":
            return None
        keep = digest if self.content == "digest" else _cut
        return {name: keep(text) for name, text in content.items()}


def digest(text: str) -> str:
    """A name for a text that does not tell it."""
    return f"blake2b:{blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=DIGEST_BYTES).hexdigest()}"


def _cut(text: str) -> str:
    return text if len(text) <= CONTENT_CHARS_MAX else f"{text[:CONTENT_CHARS_MAX]}… ({len(text)} characters)"
