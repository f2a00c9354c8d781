"""Facts: short texts worth keeping, with tags, a source and a session, found by what they say and by how new they are.

A fact is an entry of long-term memory. Its id comes from its text, so that what is told twice is one fact, told again.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from hashlib import blake2b
from threading import Lock
from time import time
from typing import TYPE_CHECKING, Any

from apxm.errors import InvalidError
from apxm.memory.stm import checked_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from apxm.memory.ltm.entry import Entry, Hit, NamespaceStats
    from apxm.memory.ltm.system import LongTermMemory

HALF_LIFE_DAYS = 30.0
MMR = 0.7
DAY_S = 86_400.0
POOL = 50  # facts that age and variety put in a new order, at least
POOL_PER_HIT = 4
PAGE = 1_000  # facts that a listing reads at a time
ID_BYTES = 16
TEXT_CHARS_MAX = 1024 * 1024
TAGS_MAX = 100
NAME_CHARS_MAX = 200  # of a tag, a source, a session, an id
OWN = ("tags", "source", "session")  # the fields of metadata that are ours
LOCKS = 64


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact. Times are Unix seconds; `labels` say where it came from, `metadata` is the caller's own.

    `score`, from 0 to 1, is there when a search found it.
    """

    id: str
    text: str
    namespace: str
    tags: tuple[str, ...]
    source: str | None
    session: str | None
    metadata: Mapping[str, Any]
    labels: tuple[str, ...]
    created_at: float
    updated_at: float
    score: float | None = None


class Facts:
    """The facts of a long-term memory. Thread-safe; every method blocks, as those of the memory do, and raises what they raise.

    Wherever tags are asked for, a fact must have all of them. `clock` is Unix time, in seconds.
    """

    def __init__(self, ltm: LongTermMemory, *, clock: Callable[[], float] = time) -> None:
        self._ltm, self._clock = ltm, clock
        self._locks = tuple(Lock() for _ in range(LOCKS))  # by id: telling and changing read before they write

    def store(
        self,
        text: str,
        *,
        namespace: str = "default",
        tags: Iterable[str] = (),
        source: str | None = None,
        session: str | None = None,
        labels: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        id: str | None = None,
    ) -> Fact:
        """Keep a text. What is known already is renewed: tags, labels and metadata are added, a source or session replaces.

        Without `id` it comes from namespace and text. A fact whose text was changed since keeps the id that it had.
        """
        said, labels = _text(text), checked_labels(labels)
        given = _metadata(metadata, _tags(tags), _name("source", source), _name("session", session))
        key = fact_id(namespace, said) if id is None else _id(id)
        with self._lock(key):
            known = self.get(key, namespace=namespace)
            while id is None and known is not None and known.text != said:  # it had this text once
                key = fact_id(namespace, said, beside=key)
                known = self.get(key, namespace=namespace)
            if known is not None:
                given = {**_told(known), **given, "tags": list(dict.fromkeys((*known.tags, *given["tags"])))}
                labels = tuple(dict.fromkeys((*known.labels, *labels)))
            return self._put(key, namespace, said, given, labels)

    def update(
        self,
        id: str,
        *,
        namespace: str = "default",
        text: str | None = None,
        tags: Iterable[str] | None = None,
        source: str | None = None,
        session: str | None = None,
        labels: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Fact:
        """Change what is given and leave the rest: `tags` and `metadata` replace, labels are added, a `source` of "" is none.

        The id and the time of its making stay. InvalidError when there is no such fact.
        """
        labels = checked_labels(labels)
        with self._lock(_id(id)):
            known = self.get(id, namespace=namespace)
            if known is None:
                raise InvalidError(f"there is no fact `{id}` in the namespace `{namespace}`", hint="store() makes one")
            given = _metadata(
                known.metadata if metadata is None else metadata,
                known.tags if tags is None else _tags(tags),
                known.source if source is None else _name("source", source or None),
                known.session if session is None else _name("session", session or None),
            )
            said = known.text if text is None else _text(text)
            return self._put(id, namespace, said, given, dict.fromkeys((*known.labels, *labels)))

    def get(self, id: str, *, namespace: str = "default") -> Fact | None:
        """One fact, or None."""
        entry = self._ltm.get(_id(id), namespace=namespace, kind="fact")
        return None if entry is None else _fact(entry)

    def delete(self, id: str, *, namespace: str = "default") -> bool:
        """Forget a fact; False when there was none."""
        with self._lock(_id(id)):
            return self._ltm.delete(id, namespace=namespace, kind="fact")

    def search(
        self,
        query: str,
        *,
        namespace: str = "default",
        tags: Iterable[str] | None = None,
        source: str | None = None,
        session: str | None = None,
        limit: int = 10,
        min_score: float = 0.0,
        half_life_days: float | None = HALF_LIFE_DAYS,
        mmr: float = MMR,
    ) -> list[Fact]:
        """Facts that answer `query`, each with its score, in which age is weighed; none of less than `min_score`.

        `half_life_days` None ignores age. The order is that of maximal marginal relevance: `mmr` 1 is that of the scores, and
        the less it is, the further back go facts that say what one before them says.
        """
        _refuse_limit(limit)
        _refuse_weights(half_life_days, mmr)
        where = _where(tags, source, session)
        pool = max(POOL, POOL_PER_HIT * limit)
        hits = self._ltm.search(query, namespace=namespace, kind="fact", limit=pool, min_score=min_score, where=where)
        scores = self._scores(hits, half_life_days)
        scored = [(hit, score) for hit, score in zip(hits, scores, strict=True) if score >= min_score]
        return [_fact(hit.entry, score) for hit, score in self._varied(scored, limit, mmr)]

    def count(self, namespace: str = "default") -> int:
        """How many facts a namespace has."""
        spaces: Sequence[NamespaceStats] = self._ltm.namespaces()
        return next((one.facts for one in spaces if one.name == namespace), 0)

    def _put(self, id: str, namespace: str, text: str, metadata: Mapping[str, Any], labels: Iterable[str]) -> Fact:
        put = self._ltm.put
        return _fact(put(id, text, namespace=namespace, text=text, metadata=metadata, labels=tuple(labels), kind="fact"))

    def _all(self, namespace: str, where: Mapping[str, Any] | None) -> Iterator[Entry]:
        after = 0
        while page := self._ltm.list(namespace=namespace, kind="fact", where=where, limit=PAGE, after=after):
            yield from page
            after = page[-1].seq

    def _scores(self, hits: Sequence[Hit], half_life_days: float | None) -> list[float]:
        import numpy as np

        from apxm.memory.ltm.ranking import aged

        scores = np.array([hit.score for hit in hits])
        if half_life_days is None:
            return [hit.score for hit in hits]
        now = self._clock()
        ages = np.array([(now - hit.entry.updated_at) / DAY_S for hit in hits])
        return [round(score, 6) for score in aged(scores, ages, half_life_days).tolist()]

    def _varied(self, scored: Sequence[tuple[Hit, float]], limit: int, weight: float) -> Iterator[tuple[Hit, float]]:
        """At most `limit`, in the order of maximal marginal relevance."""
        import numpy as np

        from apxm.memory.ltm.ranking import mmr

        ranked = sorted(scored, key=lambda one: (-one[1], one[0].entry.id))
        stored = self._ltm.record.vectors([hit.entry.id for hit, _ in ranked])
        dimension = self._ltm.embedder.fingerprint.dimension
        vectors = np.zeros((len(ranked), dimension), dtype=np.float32)
        for row, (hit, _) in enumerate(ranked):
            vector = np.frombuffer(stored.get(hit.entry.id, b""), dtype="<f4")
            if len(vector) == dimension:
                vectors[row] = vector
        return (ranked[row] for row in mmr(vectors, np.array([score for _, score in ranked]), weight, limit))

    def _lock(self, id: str) -> Lock:
        return self._locks[hash(id) % LOCKS]

    def list(
        self,
        *,
        namespace: str = "default",
        tags: Iterable[str] | None = None,
        source: str | None = None,
        session: str | None = None,
        limit: int = 100,
    ) -> list[Fact]:
        """Facts, those told last first."""
        _refuse_limit(limit)
        entries = self._all(namespace, _where(tags, source, session))
        newest = heapq.nlargest(limit, entries, key=lambda entry: (entry.updated_at, entry.seq))
        return [_fact(entry) for entry in newest]


def fact_id(namespace: str, text: str, *, beside: str = "") -> str:
    """The id of a fact of which only the text is known: the same in every process. `beside` is one that another fact has."""
    state = blake2b(digest_size=ID_BYTES)
    for part in (namespace, text, beside):
        data = part.encode("utf-8", "surrogatepass")
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()


def _fact(entry: Entry, score: float | None = None) -> Fact:
    told = entry.metadata
    return Fact(
        entry.key,
        entry.text,
        entry.namespace,
        tuple(tags) if type(tags := told.get("tags", [])) is list else (str(tags),),
        _as_name(told.get("source")),
        _as_name(told.get("session")),
        {name: value for name, value in told.items() if name not in OWN},
        entry.labels,
        entry.created_at,
        entry.updated_at,
        score,
    )


def _as_name(told: Any) -> str | None:
    """A source or session as it was stored: what was imported may have a number there."""
    return None if told is None else str(told)


def _told(known: Fact) -> dict[str, Any]:
    return _metadata(known.metadata, known.tags, known.source, known.session)


def _metadata(given: Mapping[str, Any] | None, tags: Iterable[str], source: str | None, session: str | None) -> dict[str, Any]:
    """What is stored beside the text. A source or session that is not there is no field."""
    if given is not None and (taken := [name for name in OWN if name in given]):
        raise InvalidError(f"the metadata of a fact has `{taken[0]}`, which is a field of its own", hint=f"pass {taken[0]}=")
    own = {name: value for name, value in (("source", source), ("session", session)) if value is not None}
    return {**(given or {}), "tags": list(tags), **own}


def _where(tags: Iterable[str] | None, source: str | None, session: str | None) -> dict[str, Any] | None:
    where: dict[str, Any] = {}
    if tags is not None and (wanted := _tags(tags)):
        where["tags"] = {"$contains": wanted}
    if source is not None:
        where["source"] = _name("source", source)
    if session is not None:
        where["session"] = _name("session", session)
    return where or None


# ---- what is refused -------------------------------------------------------------------------------------------------
def _text(text: Any) -> str:
    if not isinstance(text, str) or not text.strip():
        raise InvalidError(f"a fact is a text that says something, this is {text!r:.60}", hint="put() of `ltm` stores any value")
    if len(text) > TEXT_CHARS_MAX:
        raise InvalidError(f"a fact of {len(text):,} characters, at most {TEXT_CHARS_MAX:,} are taken", hint="store its parts")
    return text.strip()


def _tags(tags: Any) -> list[str]:
    if isinstance(tags, str):
        raise InvalidError(f"`tags` is the text {tags!r:.60}, expected several texts", hint=f"pass [{tags!r:.60}]")
    found = list(dict.fromkeys(tags))
    if len(found) > TAGS_MAX:
        raise InvalidError(f"{len(found):,} tags, at most {TAGS_MAX} are taken")
    for tag in found:
        if _name("tag", tag) is None:
            raise InvalidError("a tag is None, expected a text")
    return found


def _name(what: str, name: Any) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_CHARS_MAX:
        raise InvalidError(f"a {what} is a text of 1 to {NAME_CHARS_MAX} characters, this is {name!r:.60}")
    return name


def _id(id: Any) -> str:
    name = _name("fact's id", id)
    if name is None:
        raise InvalidError("the id of a fact is None, expected a text")
    return name


def _refuse_limit(limit: Any) -> None:
    if type(limit) is not int or limit < 1:
        raise InvalidError(f"`limit` is {limit!r:.60}, expected a number of facts of at least 1")


def _refuse_weights(half_life_days: Any, mmr: Any) -> None:
    if half_life_days is not None and (type(half_life_days) not in (int, float) or not half_life_days > 0):
        raise InvalidError(f"`half_life_days` is {half_life_days!r:.60}, expected days, more than 0, or None to ignore age")
    if type(mmr) not in (int, float) or not 0 <= mmr <= 1:
        raise InvalidError(f"`mmr` is {mmr!r:.60}, expected a number from 0 (variety) to 1 (relevance)")
