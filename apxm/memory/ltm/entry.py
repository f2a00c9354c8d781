"""What long-term memory holds: entries, how they are named, and what a search gives. Pure: no disk, no vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from apxm.errors import InvalidError
from apxm.values import SCALARS, check

if TYPE_CHECKING:
    from collections.abc import Mapping

ID_BYTES = 16
EntryKind: TypeAlias = Literal["entry", "fact"]

KEY_CHARS_MAX = 1_000  # of a key, and of the name of a namespace
TEXT_CHARS_MAX = 4 * 1024 * 1024  # of one entry; a value may have more
FIELDS_MAX = 200  # of the metadata of one entry
METADATA_CHARS_MAX = 64 * 1024  # of all their names and texts
LABELS_MAX = 1_000  # of one entry


@dataclass(frozen=True, slots=True)
class Put:
    """What is to be stored: `key` in `namespace` (that of an agent has its name) means one entry, which it replaces.

    `value` is settled and checked; `text` is what searches read. `metadata` are the fields that `where` asks for: a flat map of
    texts, numbers, booleans, null and lists of texts. `expires_at` is Unix time in seconds. `created_at` and `updated_at` are
    for what was stored before, elsewhere; without them an entry is new, or the same entry changed, as of its write.
    """

    namespace: str
    key: str
    value: Any
    text: str
    kind: EntryKind = "entry"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    expires_at: float | None = None
    created_at: float | None = None
    updated_at: float | None = None

    @property
    def id(self) -> str:
        return entry_id(self.namespace, self.kind, self.key)

    def check(self) -> None:
        """InvalidError for what cannot be stored as it is."""
        _refuse_name("memory key", self.key)
        _refuse_name("namespace", self.namespace)
        whose = f"memory key `{self.key:.60}`"
        if self.kind not in get_args(EntryKind):
            raise InvalidError(f"{whose}: there is no kind {self.kind!r:.60}, expected {' or '.join(get_args(EntryKind))}")
        check(self.value, whose)
        if type(self.text) is not str or len(self.text) > TEXT_CHARS_MAX:
            text = f"{whose}: the text is not a text of at most {TEXT_CHARS_MAX:,} characters"
            raise InvalidError(text, hint="keep the whole as the value; let `text` say what to search for")
        check(self.text, f"the text of {whose}")
        if not all(type(label) is str for label in self.labels) or len(self.labels) > LABELS_MAX:
            raise InvalidError(f"{whose}: the labels are not at most {LABELS_MAX:,} texts")
        check([*self.labels, self.expires_at, self.created_at, self.updated_at], f"labels and times of {whose}")
        self._check_metadata(whose)

    def _check_metadata(self, whose: str) -> None:
        check(dict(self.metadata), f"the metadata of {whose}")
        chars = 0
        for name, item in self.metadata.items():
            texts = [item] if type(item) is str else item if type(item) is list else []
            if (type(item) not in SCALARS and type(item) is not list) or type(item) is bytes or not _are_texts(texts):
                raise InvalidError(
                    f"the metadata of {whose} has {item!r:.60} in `{name:.60}`, expected a text, a number, true, false, null or "
                    "a list of texts",
                    hint="the value may hold anything: metadata is what filters ask for",
                )
            chars += len(name) + sum(map(len, texts))
        if len(self.metadata) > FIELDS_MAX or chars > METADATA_CHARS_MAX:
            raise InvalidError(
                f"the metadata of {whose} has {len(self.metadata):,} fields and {chars:,} characters, at most {FIELDS_MAX} and "
                f"{METADATA_CHARS_MAX:,} are kept",
                hint="the value may hold more",
            )


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


def _refuse_name(what: str, name: Any) -> None:
    if type(name) is not str or not 0 < len(name) <= KEY_CHARS_MAX:
        raise InvalidError(f"{what} {name!r:.60} is not a text of 1 to {KEY_CHARS_MAX:,} characters")
    check(name, what)


def _are_texts(items: list[Any]) -> bool:
    return all(type(one) is str for one in items)


def entry_id(namespace: str, kind: str, key: str) -> str:
    """The id of an entry: the same for the same namespace, kind and key, in every process. 32 hexadecimal digits."""
    state = blake2b(digest_size=ID_BYTES)
    for part in (namespace, kind, key):
        data = part.encode("utf-8", "surrogatepass")
        state.update(len(data).to_bytes(8, "little"))  # so that no two triples read the same
        state.update(data)
    return state.hexdigest()


@dataclass(frozen=True, slots=True)
class NamespaceStats:
    """One namespace: its living entries, how many of them are facts, how many have a vector; bytes of texts and values."""

    name: str
    entries: int
    facts: int
    vectors: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Stats:
    """What a long-term memory holds and where.

    `unembedded` texts have no vector yet, and `failure` is what the embedder said last if it fails; `unindexed` writes are in
    the record and not in the index, whose folders count their `generation`; None where there is none; `index_failure` is why
    this process last left the index as it was, if it could not do better since. `deleted` entries are
    found by nobody, and their bytes may be on disk until memory is compacted. `embedder` made the vectors that are there.
    `owner` is who may write, in words; None when nobody has written since the last owner ended.
    """

    folder: str
    entries: int
    facts: int
    vectors: int
    unembedded: int
    unindexed: int
    generation: int | None
    deleted: int
    record_bytes: int
    index_bytes: int
    embedder: str | None
    failure: str | None
    index_failure: str | None
    owner: str | None
    namespaces: tuple[NamespaceStats, ...]
