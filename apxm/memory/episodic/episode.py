"""One episode: what happened, where, when, and how it ended. Pure; keeps nothing."""

from __future__ import annotations

from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeAlias

from apxm.memory.matching import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.observability.events import Path

CONTENT_CHARS_MAX = 2_000  # of one prompt, reply, argument or result that an episode keeps
DIGEST_BYTES = 16
FIRING = "firing"  # the kind of an episode of a node

Place: TypeAlias = "tuple[Path, int, str, str, str, str]"  # frame path, node id, node name, operation, flow, agent
NOWHERE: Place = ((), 0, "", "", "", "")


@dataclass(frozen=True, slots=True)
class Episode:
    """One thing that happened. `number` counts those of one store in the order in which they were put on record.

    `at` is Unix time in seconds of its end. `kind` is model, capability, message or reflection, `firing` for a node that fired,
    or `record` for what a program put on record itself; `target` is the name of what was called, of a firing that of the node,
    of a record its type. `outcome` is done or failed, `code` that of the error. `content` has what was said, as far as the
    configuration keeps it; `value` is that of a record or a reflection, and `labels` say where that, or a content that is kept
    as text, came from. `attempt` counts the tries of a firing; `duration_ms` is that of the last.
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
    attempt: int = 1

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
        if self.attempt == 1:
            del found["attempt"]
        return {name: value for name, value in found.items() if value is not None}

    def text(self) -> str:
        """Everything in it that can be searched for, one thing on each line."""
        parts = [self.key, self.name, self.op, self.flow, self.agent, self.outcome, self.code or ""]
        return "\n".join([*parts, *(self.content or {}).values(), text_of(self.value)])


_NAMES = tuple(one.name for one in fields(Episode))


def digest(text: str) -> str:
    """A name for a text that does not tell it."""
    return f"blake2b:{blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=DIGEST_BYTES).hexdigest()}"
