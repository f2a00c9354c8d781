"""What long-term memory holds: entries, how they are named, and what a search gives. Pure: no disk, no vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

ID_BYTES = 16
EntryKind: TypeAlias = Literal["entry", "fact"]


@dataclass(frozen=True, slots=True)
class Put:
    """What is to be stored: `key` in `namespace` (that of an agent has its name) means one entry, which it replaces.

    `value` is settled and checked; `text` is what searches read. `metadata` are the fields that `where` asks for: a flat map of
    texts, numbers, booleans, null and lists of texts. `expires_at` is Unix time in seconds.
    """

    namespace: str
    key: str
    value: Any
    text: str
    kind: EntryKind = "entry"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    expires_at: float | None = None

    @property
    def id(self) -> str:
        return entry_id(self.namespace, self.kind, self.key)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as it is stored. Times are Unix seconds; `seq` is the number of the write, growing in the whole store."""

    id: str
    namespace: str
    key: str
    kind: EntryKind
    value: Any
    text: str
    metadata: Mapping[str, Any]
    labels: tuple[str, ...]
    created_at: float
    updated_at: float
    expires_at: float | None
    seq: int


@dataclass(frozen=True, slots=True)
class Hit:
    """An entry that a search found. `score` is from 0 to 1; `cosine` and `lexical` are what it was made of."""

    entry: Entry
    score: float
    cosine: float
    lexical: float


def entry_id(namespace: str, kind: str, key: str) -> str:
    """The id of an entry: the same for the same namespace, kind and key, in every process. 32 hexadecimal digits."""
    state = blake2b(digest_size=ID_BYTES)
    for part in (namespace, kind, key):
        data = part.encode("utf-8", "surrogatepass")
        state.update(len(data).to_bytes(8, "little"))  # so that no two triples read the same
        state.update(data)
    return state.hexdigest()
