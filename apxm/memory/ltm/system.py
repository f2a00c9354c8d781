"""Long-term memory: record, owner, writer, index and search behind one door. What was put is there for the next process.

Reading needs nobody's leave. The first write takes the folder for this process; others read beside it.
"""

from __future__ import annotations

import os
import threading
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from apxm.errors import ApxmError, ConfigError, InvalidError, LockedError
from apxm.memory.ltm.embedding import Embedding
from apxm.memory.ltm.entry import TEXT_CHARS_MAX, Entry, Hit, NamespaceStats, Put, Stats, entry_id
from apxm.memory.ltm.owner import Owner, holder
from apxm.memory.ltm.patience import Patience, limited
from apxm.memory.ltm.record import Record
from apxm.memory.ltm.writer import Writer
from apxm.memory.matching import text_of
from apxm.memory.stm import checked_labels, checked_ttl
from apxm.values import INT_MAX, check, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from apxm.config import MemoryConfig
    from apxm.memory.embed.base import Embedder
    from apxm.memory.ltm.comparison import Report
    from apxm.memory.ltm.entry import EntryKind
    from apxm.memory.ltm.index import Index
    from apxm.memory.ltm.search import Mode, Searcher
    from apxm.memory.ltm.upkeep import Progress, Upkeep
    from apxm.memory.ltm.where import Where

    Entries: TypeAlias = list[Entry]  # inside the class `list` is its method
    Hits: TypeAlias = list[Hit]
    Namespaces: TypeAlias = list[NamespaceStats]

T = TypeVar("T")
Lane = Literal["reading", "searching", "writing"]  # of `later`: none of them waits for another

LATER_THREADS = 4  # of `later`, for each lane
CLOSE_S = 5.0  # that `close` waits for an embedder
SEARCH_S = 30.0  # that a search waits for the vector of its query
INDEX_BEHIND_MAX = 1_000  # writes that the index may lack before it is opened to take them over
NO_INDEX_S = 30.0  # after it could not be opened, until that is tried again
EXPIRED_AT_ONCE = 100  # entries past their end that one commit removes
EMBEDDED_AT_ONCE = 256  # texts without a vector that one commit embeds
LIMIT_MAX = 10_000  # entries of one listing
CLEAR_PAGE = 1_000


class LongTermMemory:
    """Entries that outlive the process, found by key, by filter, and by meaning as far as the embedder knows any.

    `folder` gives the directory that holds them; it is asked when something is first read or written. Every method blocks and
    may be called from any thread. StorageError for a record that cannot be used, LockedError where another process writes.
    """

    def __init__(self, folder: Callable[[], Path], config: MemoryConfig, *, clock: Callable[[], float] = time) -> None:
        self._folder, self._config, self._clock = folder, config, clock
        self._lock = threading.RLock()  # of what is made when it is first used
        self._closed = False
        self._embedder = config.embedder
        self._record: Record | None = None
        self._owner: Owner | None = None
        self._embedding: Embedding | None = None
        self._searcher: Searcher | None = None
        self._upkeep: Upkeep | None = None
        self._catching_up: threading.Thread | None = None
        self._no_index_before = 0.0
        self._count_again_at = 0  # the number of the write after which it is seen again how large namespaces are
        self._index_failure: str | None = None
        self._left_over = False  # whether an earlier process deleted something that may still be on the disk
        self._patience = Patience()
        self._pools: dict[Lane, ThreadPoolExecutor] = {}
        self._writer = Writer(self._commit, batch_ms=config.batch_ms, batch_max=config.batch_max, then=self._after_commit)
        _memories.add(self)

    @property
    def embedder(self) -> Embedder:
        """What makes vectors of texts here."""
        with self._lock:
            if self._embedder is None:
                from apxm.memory.embed.hashing import HashingEmbedder

                self._embedder = HashingEmbedder()
            return self._embedder

    @property
    def record(self) -> Record:
        """The file that has everything, for who only reads."""
        found = self._record
        if found is None:
            with self._lock:
                self._refuse_closed()
                found = self._record = self._record or Record(self._folder(), clock=self._clock)
        return found

    @property
    def failure(self) -> str | None:
        """What the embedder said last, if it failed: what was written since has no vector yet. Cheap."""
        return None if self._embedding is None else self._embedding.failure

    @property
    def pending(self) -> bool:
        """Whether something was accepted that is not committed yet. Cheap: no lock, no disk."""
        return self._writer.pending

    def _refuse_closed(self) -> None:
        if self._closed:
            raise InvalidError("this memory is closed", hint="make a new one")

    # ---- writing -----------------------------------------------------------------------------------------------------
    def put(
        self,
        key: str,
        value: Any,
        *,
        namespace: str = "default",
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        labels: Sequence[str] = (),
        ttl_ms: float | None = None,
        kind: EntryKind = "entry",
    ) -> Entry:
        """Store a value under `key`, in the place of what was there. Done when it cannot be lost any more.

        `text` is what searches read, by default the texts inside the value, as many as are kept. `metadata` is a flat map for
        filters. `labels` say where the value came from: who reads it inherits them. After `ttl_ms` it is gone.
        """
        checked_ttl(key, ttl_ms)
        settled = settle(value, where=f"memory key `{key}`")
        said = text_of(settled, TEXT_CHARS_MAX) if text is None else text
        expires_at = None if ttl_ms is None else self._clock() + ttl_ms / 1e3
        fields = settle(dict(metadata or {}), where=f"the metadata of memory key `{key}`")
        return self.submit([Put(namespace, key, settled, said, kind, fields, checked_labels(labels), expires_at)]).result()[0]

    def submit(self, puts: Sequence[Put]) -> Future[Entries]:
        """Store several at once, all of them or none; the future is done when they cannot be lost any more."""
        return self._writer.submit(_checked(puts))

    def offer(self, puts: Sequence[Put]) -> Future[Entries] | None:
        """`submit` for who must not wait: None where so much waits to be committed that it would; then nothing was accepted."""
        return self._writer.offer(_checked(puts))

    def delete(self, key: str, *, namespace: str = "default", kind: EntryKind = "entry") -> bool:
        """Forget an entry; False when there was none."""
        _refuse_unfit(namespace=namespace, key=key, kind=kind)
        return bool(self._writer.submit([entry_id(namespace, kind, key)]).result()[0])

    def clear(self, namespace: str, *, prefix: str = "") -> int:
        """Forget everything in a namespace, or only entries whose key begins with `prefix`; how many that were."""
        _refuse_unfit(namespace=namespace, prefix=prefix)
        gone = 0
        while ids := self._ids(namespace, prefix):
            gone += sum(self._writer.submit(ids).result())
        return gone

    def _ids(self, namespace: str, prefix: str) -> Sequence[str]:
        if not prefix:
            return self.record.ids(namespace, CLEAR_PAGE)
        return [entry.id for entry in self.list(namespace=namespace, kind="entry", prefix=prefix, limit=CLEAR_PAGE)]

    def flush(self) -> None:
        """Wait until everything that was accepted is committed; the index too takes it over, if it is open."""
        self._writer.flush()
        if self._owner is None or not self._owner.held:
            return
        with suppress(ApxmError):  # nothing is lost when it is done later
            self._remove_expired()
            self._embeds().catch_up()
            if self._upkeep is not None and self._upkeep.served() is not None:
                self._upkeep.catch_up()

    def _remove_expired(self) -> None:
        while expired := self.record.expired(CLEAR_PAGE):
            self.record.apply(expired)

    def _commit(self, writes: Sequence[Put | str]) -> Sequence[Entry | bool]:
        """What the writer calls, on its thread: one transaction."""
        self._own()
        record = self.record
        texts = [one.text for one in writes if not isinstance(one, str) and one.text]
        vectors, meta = self._embeds().vectors(texts)
        each = iter(vectors)
        expired = record.expired(EXPIRED_AT_ONCE)
        rows = [one if isinstance(one, str) else (one, next(each) if one.text else None) for one in writes]
        return record.apply([*expired, *rows], **meta)[len(expired) :]

    def _after_commit(self) -> None:
        """What the writer calls when it has told those who waited: what can also be done later."""
        if self._owner is not None and self._owner.held:
            with suppress(ApxmError):
                self._embeds().catch_up(EMBEDDED_AT_ONCE)
                self._index_if_needed()
                if self._left_over:
                    self._left_over = False
                    self._beside(self._compact_left_over)

    def _own(self, timeout_ms: float | None = None) -> None:
        """Take the folder for this process. LockedError names who has it."""
        with self._lock:
            self._refuse_closed()
            owner = self._owner = self._owner or Owner(self._folder())
        if not owner.held:
            owner.acquire(self._config.lock_timeout_ms if timeout_ms is None else timeout_ms)
            self._left_over = self.record.deleted() > 0

    def _embeds(self) -> Embedding:
        with self._lock:
            self._embedding = self._embedding or Embedding(self.embedder, self.record, self._patience)
            return self._embedding

    # ---- reading -----------------------------------------------------------------------------------------------------
    def get(self, key: str, *, namespace: str = "default", kind: EntryKind = "entry") -> Entry | None:
        """The entry under `key`, or None."""
        _refuse_unfit(namespace=namespace, key=key, kind=kind)
        return self.record.get(entry_id(namespace, kind, key), self._clock())

    def list(
        self,
        *,
        namespace: str | None = None,
        kind: EntryKind | None = None,
        prefix: str = "",
        where: Where | None = None,
        limit: int = 100,
        after: int = 0,
    ) -> Entries:
        """Entries in the order of their seq; those past `after`, which is the seq of an entry.

        That is the order of their writes. An entry whose vector could only be made later gets a new seq then.
        """
        _refuse_unfit(prefix=prefix, **{name: one for name, one in (("namespace", namespace), ("kind", kind)) if one is not None})
        if type(limit) is not int or not 1 <= limit <= LIMIT_MAX:
            raise InvalidError(f"`limit` is {limit!r:.60}, expected a number of entries from 1 to {LIMIT_MAX:,}")
        if type(after) is not int or not 0 <= after <= INT_MAX:
            raise InvalidError(f"`after` is {after!r:.60}, expected the seq of an entry")
        return self.record.listed(namespace=namespace, kind=kind, prefix=prefix, where=where, after=after, limit=limit)

    def search(
        self,
        query: str,
        *,
        namespace: str = "default",
        kind: EntryKind | None = None,
        limit: int = 10,
        min_score: float = 0.0,
        where: Where | None = None,
        mode: Mode = "hybrid",
    ) -> Hits:
        """Entries that answer `query`, best first. `mode` says by what: vectors, words, or both (hybrid)."""
        _refuse_unfit(namespace=namespace)
        return self._searches().search(
            query, namespace=namespace, kind=kind, limit=limit, min_score=min_score, where=where, mode=mode
        )

    def _searches(self) -> Searcher:
        found = self._searcher
        if found is None:
            from apxm.memory.ltm.exact import Matrices
            from apxm.memory.ltm.search import Searcher

            with self._lock:
                if self._searcher is None:
                    embedder = limited(self.embedder, self._patience, SEARCH_S)
                    self._searcher = Searcher(
                        self.record, Matrices(self.record), embedder, exact_max=self._config.exact_max, index=self._served
                    )
                found = self._searcher
        return found

    def namespaces(self) -> Namespaces:
        """The namespaces that hold something, by name."""
        return [NamespaceStats(*row) for row in self.record.spaces()]

    def later(self, work: Callable[[], T], lane: Lane = "reading") -> Future[T]:
        """Run what blocks on a thread of this memory. What may wait for an embedder or for room holds up no read by key."""
        with self._lock:
            self._refuse_closed()
            if lane not in self._pools:
                self._pools[lane] = ThreadPoolExecutor(LATER_THREADS, f"apxm-ltm-{lane}")
            return self._pools[lane].submit(work)

    # ---- the index ---------------------------------------------------------------------------------------------------
    def _keeps(self, timeout_ms: float | None = None) -> Upkeep:
        """The index, which only the owner of the folder touches."""
        self._own(timeout_ms)
        return self._kept_by()

    def _kept_by(self) -> Upkeep:
        with self._lock:
            if self._upkeep is None:
                from apxm.memory.ltm.upkeep import Upkeep

                self._upkeep = Upkeep(self.record.path.parent, self.record, limited(self.embedder, self._patience, None))
            return self._upkeep

    def _served(self) -> tuple[Index, int] | None:
        """The index for a search that needs one. It is opened beside the search, which does without until then."""
        found = None if self._upkeep is None else self._upkeep.served()
        if found is None:
            self._beside(self._catch_up)
        return found

    def _index_if_needed(self) -> None:
        """After a write: let the index take over what it lacks, if that is much, and searches will ask it."""
        behind, last = self._keeps().behind(), self.record.last_seq()
        if behind < INDEX_BEHIND_MAX or last < self._count_again_at:
            return
        # Not each time: to count the entries of 100,000 namespaces takes longer than a write.
        self._count_again_at = last + INDEX_BEHIND_MAX // 10
        if self.record.largest() > self._config.exact_max:
            self._beside(self._catch_up)

    def _beside(self, work: Callable[[], None]) -> None:
        """Do something to the index on a thread of its own, unless one is at work."""
        with self._lock:
            running = self._catching_up is not None and self._catching_up.is_alive()
            if self._closed or running or monotonic() < self._no_index_before:
                return
            self._catching_up = threading.Thread(target=work, name="apxm-ltm-index")
            self._catching_up.start()

    def _catch_up(self) -> None:
        if not self._succeeds(lambda: self._keeps(timeout_ms=0).catch_up()):  # searches are exact, and it is tried again
            self._no_index_before = monotonic() + NO_INDEX_S

    def _compact_left_over(self) -> None:
        """An earlier process deleted something that it had no time to remove from the disk; nor may we have."""
        self._succeeds(lambda: self._keeps(timeout_ms=0).compact())

    def _succeeds(self, work: Callable[[], object]) -> bool:
        """Do what nobody waits for. A failure is kept for `stats`, and said once, unless it is how things are set up."""
        try:
            work()
        except (LockedError, ConfigError) as error:  # another process has the folder, or chromadb is not there
            self._index_failure = str(error)
            return False
        except Exception as error:
            said, self._index_failure = self._index_failure, str(error) or type(error).__name__
            if said != self._index_failure:
                import logging

                text = "the index of long-term memory is left as it is for now: %s"
                logging.getLogger("apxm.memory").warning(text, self._index_failure)
            return False
        self._index_failure = None
        return True

    def verify(self, progress: Progress | None = None) -> Report:
        """Compare the index with the record."""
        return self._kept(lambda upkeep: upkeep.verify(progress))

    def rebuild(self, progress: Progress | None = None) -> Report:
        """Make vectors and index again from the record: with the embedder of now, whatever made them before."""
        return self._kept(lambda upkeep: upkeep.rebuild(progress))

    def compact(self, progress: Progress | None = None) -> Report:
        """Leave nothing on disk of what was deleted."""
        return self._kept(lambda upkeep: upkeep.compact(progress))

    def _kept(self, work: Callable[[Upkeep], Report]) -> Report:
        self._writer.flush()
        return work(self._keeps())

    def stats(self) -> Stats:
        """What there is, and how large."""
        record, spaces = self.record, tuple(self.namespaces())
        folder = record.path.parent
        indexes = [path for path in folder.glob("index-*") if path.is_dir()]
        made_by = record.made_by()
        return Stats(
            folder=str(folder),
            entries=sum(one.entries for one in spaces),
            facts=sum(one.facts for one in spaces),
            vectors=sum(one.vectors for one in spaces),
            unembedded=record.unembedded_count(),
            unindexed=self._kept_by().behind(),
            generation=self._kept_by().generation,
            deleted=record.deleted(),
            record_bytes=sum(_size(path) for path in folder.glob("record.db*")),
            index_bytes=sum(_size(path) for one in indexes for path in one.rglob("*")),
            embedder=None if made_by is None else str(made_by),
            failure=self.failure,
            index_failure=self._index_failure,
            owner=holder(folder),
            namespaces=spaces,
        )

    # ---- the end -----------------------------------------------------------------------------------------------------
    def _forked(self) -> None:
        """In a child: begin anew with all that has locks, which threads of the parent may hold for ever."""
        self._lock = threading.RLock()
        kept = self._embedding, self._searcher, self._upkeep, self._pools
        _abandoned.append(kept)  # so that nobody ends what is the parent's
        self._patience, self._pools = Patience(), {}  # threads do not outlive a fork
        self._embedding = self._searcher = self._upkeep = self._catching_up = None

    def close(self) -> None:
        """Commit what was accepted, leave nothing of what was deleted, and let go of everything. Idempotent.

        An embedder is not asked any more, and waited for no longer than CLOSE_S: a vector that is missing then is made later.
        """
        self._patience.close(CLOSE_S)
        self._writer.close()
        with self._lock:
            closed, self._closed = self._closed, True
            pools, self._pools = self._pools, {}
        if closed:
            return
        for pool in pools.values():
            pool.shutdown(wait=True)
        try:
            if self._owner is not None and self._owner.held:
                self._end_index()
        finally:
            if self._record is not None:
                self._record.close()
            if self._owner is not None:
                self._owner.release()
            if self._config.embedder is None and self._embedder is not None:
                self._embedder.close()
            self._record = self._searcher = None

    def _end_index(self) -> None:
        """Compact where that takes a moment, and leave the index as the next process wants to find it."""
        running = self._catching_up is not None and self._catching_up.is_alive()
        with suppress(ApxmError):  # what was deleted is found by nobody; its bytes leave when the next process compacts
            self._remove_expired()
            if self.record.deleted():
                self._kept_by().sweep()
        if self._upkeep is not None:
            self._upkeep.close()
        if running and self._catching_up is not None:
            self._catching_up.join()


def _checked(puts: Sequence[Put]) -> list[Put]:
    """The same, fit to be stored. What is searched for is a text that says something, or none."""
    for put in puts:
        put.check()
    return [put if put.text.strip() else replace(put, text="") for put in puts]


def _refuse_unfit(**given: Any) -> None:
    for name, one in given.items():
        if type(one) is not str:
            raise InvalidError(f"`{name}` is {one!r:.60}, expected a text")
        check(one, f"`{name}`")


def _size(path: Path) -> int:
    with suppress(OSError):  # it may be gone by now
        return path.stat().st_size
    return 0


def _after_fork() -> None:
    for memory in tuple(_memories):
        memory._forked()


_memories: weakref.WeakSet[LongTermMemory] = weakref.WeakSet()
_abandoned: list[Any] = []
os.register_at_fork(after_in_child=_after_fork)
