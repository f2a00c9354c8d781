"""Keeps the index of long-term memory like the record: follows its writes, finds what differs, builds anew, and compacts.

The record says which generation of the index counts, up to which write it has followed, and how it was left: sealed, with a
digest of its files, or open. A generation that was left open by a process that died is compared with the record before it is
used; one that is not what we left, that was open when the machine went down, or that killed who looked at it, is built again. So
nothing that happens to the index is ever more than lost time.

Who calls owns the folder. Every step is done again without harm: first the index, then the number of the write.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from apxm.errors import StorageError, TransientError
from apxm.fault import fault
from apxm.memory.ltm.comparison import PAGE, Finding, Report, by_namespace, compared, unit_vectors
from apxm.memory.ltm.index import (
    INSTALL,
    Index,
    IndexDamaged,
    generations,
    index_path,
    remove,
    seal_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apxm.memory.embed.base import Embedder, Fingerprint
    from apxm.memory.ltm.record import Change, Record

    Progress = Callable[[str, int, int], None]

T = TypeVar("T")

EMBED_AT_ONCE = 128  # texts
SWEEP_MAX = 5_000  # vectors of an index that is given up when the memory is closed: it is built again in about three seconds
SWEEP_BYTES_MAX = 64 * 1024 * 1024  # of a record that is compacted then: about one second
CRASHES_MAX = 3  # processes in a row that died while the index was open: it may be what killed them
_META = "index"


@dataclass(frozen=True, slots=True)
class _State:
    """What the record keeps about the index. `boot` is the run of the machine in which it was last open.

    `suspect` while it is compared after a crash: whoever finds it so knows that the one who compared did not survive that.
    `crashes` is how many processes in a row died while it was open.
    """

    generation: int
    seq: int
    boot: str
    seal: str | None = None
    suspect: bool = False
    crashes: int = 0


class Upkeep:
    """The index of one folder, which the caller owns. Thread-safe: one piece of upkeep at a time, searches beside it.

    ConfigError where chromadb is needed and not installed; StorageError where the disk takes nothing more.
    """

    def __init__(self, folder: Path, record: Record, embedder: Embedder) -> None:
        self._folder, self._record, self._embedder = folder, record, embedder
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._index: Index | None = None
        self._opened_before = False
        self._story = "as it was left"
        self._crashes = 0
        self._pid = os.getpid()

    # ---- for searches ------------------------------------------------------------------------------------------------
    def served(self) -> tuple[Index, int] | None:
        """The index and the write up to which it has everything, if one is open that can be searched. Waits for nothing."""
        index = self._index
        return None if index is None or not index.usable else (index, index.seq)

    @property
    def generation(self) -> int | None:
        """That of the index, if there is one."""
        state = self._state()
        return None if state is None else state.generation

    def behind(self) -> int:
        """How many writes the index has not taken over."""
        state = self._state()
        return self._record.last_seq() - (state.seq if state else 0)

    # ---- what is done with it ----------------------------------------------------------------------------------------
    def catch_up(self, progress: Progress | None = None) -> None:
        """Open the index, repair it where that is needed, and take over what was written since. `close` ends it early.

        The first time it also compacts, if something was deleted that an earlier process did not compact.
        """
        with self._lock, suppress(_Closing):
            self._go_on()
            self._with_index(progress, lambda index: None)
            first, self._opened_before = not self._opened_before, True
            if first and self._record.deleted():
                self._compacted(progress)

    def verify(self, progress: Progress | None = None) -> Report:
        """Compare the record, its index of words, and the index; what the index had not taken over yet it has afterwards."""
        with self._lock:
            damage = tuple(self._record.damage())
            if damage:
                return Report(0, "not looked at: the record is damaged", damage=damage)
            lacking = self._without_vector()
            if self._state() is None:
                return Report(self._record.count(), "none, and none was needed yet", unembedded=lacking)
            if not _installed():
                told = f"cannot be opened without chromadb: {INSTALL}"
                return Report(self._record.count(), told, unembedded=lacking, compared=False)
            found = self._with_index(progress, lambda index: self._compared(index, progress))
            return replace(found, index=f"{found.index}: {self._story}", unembedded=lacking)

    def rebuild(self, progress: Progress | None = None) -> Report:
        """Make everything again that can be made of the entries: vectors, where the embedder is another one or was not to be
        had; the index of words; the index. Interrupted, it goes on when it is called again."""
        with self._lock:
            self._change_embedder()
            self._embed(progress)
            self._record.rebuild_words()
            if _installed():
                self._built(progress)
            else:
                self._dropped()
            self._story = "built again"
            return self.verify(progress)

    def compact(self, progress: Progress | None = None) -> Report:
        """Let nothing on disk that was deleted or replaced: neither in the record nor in the index."""
        with self._lock:
            self._compacted(progress)
            return self.verify(progress)

    def sweep(self) -> bool:
        """Compact before the memory is closed, if something was deleted and it takes a moment; whether it was done.

        The index is not built again: it is deleted, and made anew when it is needed. A larger one waits for `compact`, or for
        the first `catch_up` of the next process. Ends a `catch_up` that runs: only `close` comes after this.
        """
        self._closing.set()
        with self._lock:
            if not self._record.deleted() or self._record.path.stat().st_size > SWEEP_BYTES_MAX:
                return False
            if self._state() is not None and self._record.count() > SWEEP_MAX:
                return False
            last = self._record.last_seq()
            self._dropped()
            self._forget_deleted(last)
            return True

    def close(self) -> None:
        """End what runs, and leave the index sealed. Final; idempotent."""
        self._closing.set()
        if os.getpid() != self._pid:
            return
        with self._lock:
            index = self._let_go()
            if index is not None and not index.damaged:
                fault("ltm.close.before_seal")
                with suppress(StorageError, IndexDamaged):  # then the next process looks at it closely
                    self._save(_State(index.generation, index.seq, _boot(), seal_of(index.path)))

    # ---- opening and repairing ---------------------------------------------------------------------------------------
    def _with_index(self, progress: Progress | None, work: Callable[[Index], T]) -> T:
        """What `work` gives with the index, which has everything that the record has. If that fails, with one built again."""
        try:
            return work(self._current(progress))
        except IndexDamaged as error:
            why = str(error)
        try:
            self._anew(why)
            return work(self._current(progress))
        except IndexDamaged as error:
            raise _not_built(error) from error

    def _current(self, progress: Progress | None) -> Index:
        index = self._opened()
        try:
            self._follow(index, progress, self._open_state(index))
        except StorageError:
            if index.damaged:  # no room: what it takes is worth more to the record
                self._let_go()
                self._remove_all_but(None)
            raise
        return index

    def _opened(self) -> Index:
        """The index that counts: as it was left, or an empty one in its place."""
        if self._index is not None:
            if self._index.usable:
                return self._index
            return self._anew("it gave an error")
        state = self._state()
        self._remove_all_but(state.generation if state else None)
        if state is None:
            return self._anew("there was none")
        try:
            self._index = self._reopened(state)
        except IndexDamaged as error:
            return self._anew(str(error))
        return self._index

    def _reopened(self, state: _State) -> Index:
        boot, sealed = _boot(), state.seal is not None
        self._crashes = 0 if sealed else state.crashes + 1
        if state.suspect or self._crashes > CRASHES_MAX or not (sealed or (boot and boot == state.boot)):
            raise IndexDamaged("it was not closed")
        if not self._record.number("pruned") <= state.seq <= self._record.last_seq():
            raise IndexDamaged("it followed another record")
        if sealed and seal_of(index_path(self._folder, state.generation)) != state.seal:
            raise IndexDamaged("it was changed after it was closed")
        fault("ltm.open.before_mark")
        self._save(_State(state.generation, state.seq, boot, suspect=not sealed, crashes=self._crashes))
        fault("ltm.open.after_mark")
        index = Index.open(self._folder, state.generation, self._fingerprint(), state.seq)
        try:
            if not sealed:
                self._checked(index)
        except BaseException:
            index.close()
            raise
        self._story = "as it was left" if sealed else "compared after a crash"
        return index

    def _checked(self, index: Index) -> None:
        """Whether an index that a process left open has what the record has. Only whoever survives this takes the mark away."""
        try:
            self._follow(index, None, replace(self._open_state(index), suspect=True))
            if not self._compared(index, None).ok:
                raise IndexDamaged("it was not closed, and differs from the record")
        finally:
            fault("ltm.open.before_unmark")
            self._save(self._open_state(index))

    def _anew(self, why: str) -> Index:
        """An empty index in the place of what there is, which cannot be used."""
        self._let_go()
        state = self._state()
        generation = self._next_generation(state)
        self._remove_all_but(None)
        fault("ltm.anew.before_make")
        index = Index.make(self._folder, generation, self._fingerprint())
        fault("ltm.anew.after_make")
        self._crashes = 0
        self._save(self._open_state(index))
        self._story = f"built again: {why}"
        self._index = index
        return index

    def _built(self, progress: Progress | None) -> Index:
        """A full index in the place of the one that there is. One that breaks while it is built is begun again, once."""
        with suppress(IndexDamaged):
            return self._built_beside(progress)
        try:
            return self._built_beside(progress)
        except IndexDamaged as error:
            raise _not_built(error) from error

    def _built_beside(self, progress: Progress | None) -> Index:
        """A full index beside the one that searches go on using, and then in its place."""
        generation = self._next_generation(self._state())
        index: Index | None = None
        try:
            fault("ltm.build.before_make")
            index = Index.make(self._folder, generation, self._fingerprint())
            fault("ltm.build.after_make")
            self._follow(index, progress, None)
            fault("ltm.build.before_swap")
            self._crashes = 0
            self._save(self._open_state(index))
        except BaseException:
            if index is not None:
                index.close()
            remove(self._folder, generation)
            raise
        fault("ltm.build.after_swap")
        old, self._index = self._index, index
        if old is not None:
            old.close()
        fault("ltm.build.before_removal")
        self._remove_all_but(generation)
        fault("ltm.build.after_removal")
        return index

    def _dropped(self) -> None:
        """No index, until it is needed again."""
        self._let_go()
        if self._state() is not None:
            fault("ltm.drop.before_mark")
            self._record.set_meta(**{_META: ""})
        fault("ltm.drop.before_removal")
        self._remove_all_but(None)

    def _let_go(self) -> Index | None:
        index, self._index = self._index, None
        if index is not None:
            index.close()
        return index

    # ---- following the record ----------------------------------------------------------------------------------------
    def _follow(self, index: Index, progress: Progress | None, state: _State | None) -> None:
        """Take over what was written after `index.seq`, and say so in the record, as `state`: afterwards, and page by page."""
        begin, end = index.seq, self._record.last_seq()
        while True:
            self._go_on()
            last = self._record.last_seq()
            if index.seq == last:
                return
            page = self._record.changes(index.seq, PAGE)
            self._take_over(index, page)
            seq = page[-1].seq if len(page) == PAGE else last
            if state is not None:
                fault("ltm.index.before_watermark")
                self._save(replace(state, seq=seq))
                fault("ltm.index.after_watermark")
            index.seq = seq
            if progress is not None:
                progress("indexing", min(seq, end) - begin, end - begin)

    def _take_over(self, index: Index, page: Sequence[Change]) -> None:
        for namespace, changes in by_namespace(page).items():
            ids, vectors = unit_vectors(changes, index.dimension)
            gone = sorted({change.id for change in changes} - set(ids))  # deleted, or with a new text that has no vector yet
            if gone:
                fault("ltm.index.before_delete")
                index.delete(namespace, gone)
                fault("ltm.index.after_delete")
            if ids:
                fault("ltm.index.before_upsert")
                index.upsert(namespace, ids, vectors)
                fault("ltm.index.after_upsert")

    def _compared(self, index: Index, progress: Progress | None) -> Report:
        def each_page(seq: int) -> None:
            self._go_on()
            if progress is not None:
                progress("comparing", seq, index.seq)

        return compared(self._record, index, each_page)

    # ---- the record --------------------------------------------------------------------------------------------------
    def _change_embedder(self) -> None:
        """Take away the vectors of another embedder, all at once: vectors of two are never in one memory."""
        ours = self._embedder.fingerprint
        if self._fingerprint() != ours:
            self._embedder.embed(["Does it work at all?"])  # before anything is taken away
            self._let_go()
            fault("ltm.embedder.before_change")
            self._record.forget_vectors(embedder=json.dumps(ours.to_map()))
            fault("ltm.embedder.after_change")

    def _embed(self, progress: Progress | None) -> None:
        """Make the vectors that are missing."""
        done, total, after = 0, self._without_vector().count, 0
        while rows := self._record.unembedded(EMBED_AT_ONCE, after=after):
            self._go_on()
            after = rows[-1][1]
            rows = [row for row in rows if row[2]]
            vectors = self._embedder.embed([text for _, _, text in rows])
            fault("ltm.embed.before_set")
            self._record.set_vectors(
                [(id, seq, vector.astype("<f4").tobytes()) for (id, seq, _), vector in zip(rows, vectors, strict=True)]
            )
            done += len(rows)
            if progress is not None:
                progress("embedding", done, max(done, total))

    def _without_vector(self) -> Finding:
        """Entries that have a text and no vector."""
        found, after = Finding(), 0
        while rows := self._record.unembedded(PAGE, after=after):
            after = rows[-1][1]
            found = found.and_also([id for id, _, text in rows if text])
        return found

    def _compacted(self, progress: Progress | None) -> None:
        last = self._record.last_seq()
        if self._state() is not None and _installed():
            last = self._built(progress).seq
        else:
            self._dropped()
        self._story = "compacted"
        self._forget_deleted(last)

    def _forget_deleted(self, last: int) -> None:
        """Of what was deleted up to `last`, the index has nothing left: now the record."""
        fault("ltm.compact.before_vacuum")
        self._record.vacuum()
        fault("ltm.compact.before_prune")
        self._record.prune(last)
        fault("ltm.compact.after_prune")

    # ---- what is kept about the index --------------------------------------------------------------------------------
    def _state(self) -> _State | None:
        """What the record says about the index; None when there is none, or it says nothing of use."""
        try:
            state = _State(**json.loads(self._record.meta(_META) or ""))
        except (ValueError, TypeError, RecursionError):
            return None
        return state if {type(state.generation), type(state.seq), type(state.crashes)} == {int} else None

    def _open_state(self, index: Index) -> _State:
        return _State(index.generation, index.seq, _boot(), crashes=self._crashes)

    def _save(self, state: _State) -> None:
        self._record.set_meta(**{_META: json.dumps(asdict(state))})

    def _next_generation(self, state: _State | None) -> int:
        return max(0, state.generation if state else 0, *generations(self._folder)) + 1

    def _remove_all_but(self, generation: int | None) -> None:
        """Delete what a crash left, and what was replaced."""
        for each in generations(self._folder):
            if each != generation:
                remove(self._folder, each)

    def _fingerprint(self) -> Fingerprint:
        """That of the vectors of the record: an index has no other."""
        return self._record.made_by() or self._embedder.fingerprint

    def _go_on(self) -> None:
        if self._closing.is_set():
            raise _Closing("the memory is being closed", hint="what was not done yet is done next time")


class _Closing(TransientError):
    """Somebody closes the memory while its upkeep runs."""


def _not_built(error: IndexDamaged) -> StorageError:
    return StorageError(f"the index cannot be built: {error}", hint="is the disk whole?")


def _installed() -> bool:
    return find_spec("chromadb") is not None


def _boot() -> str:
    """Which run of the machine this is; empty where that cannot be known."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""
