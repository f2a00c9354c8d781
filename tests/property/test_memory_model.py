"""Long-term memory against a dictionary: whatever is put, deleted, ended, listed, searched and opened again, they agree."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from apxm.config import MemoryConfig
from apxm.errors import EmbedderError
from apxm.memory.embed.hashing import HashingEmbedder
from apxm.memory.ltm import embedding as embedding_module
from apxm.memory.ltm.entry import Put
from apxm.memory.ltm.system import LongTermMemory
from apxm.memory.ltm.where import fields_of, fits
from apxm.values import same
from tests.unit.memory.ltm.stores import WORDS, quick_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

DIMENSION = 16
SPACES = ("a", "b", "a\0b", "😀")
KEYS = ("k", "k2", "K", "%", "_", "\0", "é", "e\u0301", "' --")
KINDS = ("entry", "fact")
WHERE: tuple[dict[str, Any], ...] = (
    {"n": 1},
    {"n": {"$gte": 2}},
    {"m": "x"},
    {"$or": [{"n": 0}, {"m": {"$exists": True}}]},
    {"$not": {"n": {"$in": [0, 1, 2]}}},
    {"tags": {"$contains": "red"}},
)


class Moody(HashingEmbedder):
    """An embedder that fails while it is told to."""

    fails = False

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self.fails:
            raise EmbedderError("not now")
        return super().embed(texts)


@dataclass
class Kept:
    """What the model knows of one entry."""

    value: Any
    text: str
    metadata: dict[str, Any]
    labels: tuple[str, ...]
    created: float
    expires: float | None
    order: int


class Model:
    """A memory and a dictionary, to which everything is done alike."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder, self.rng, self.now, self.order = folder, rng, 1_000.0, 0
        self.kept: dict[tuple[str, str, str], Kept] = {}
        self.embedder = Moody(DIMENSION)
        self.failed = False
        self.open()

    def open(self) -> None:
        config = MemoryConfig(batch_ms=0, exact_max=self.rng.choice((0, 20_000)), embedder=self.embedder)
        self.ltm = LongTermMemory(lambda: self.folder, config, clock=lambda: self.now)

    def alive(self) -> dict[tuple[str, str, str], Kept]:
        return {place: one for place, one in self.kept.items() if one.expires is None or one.expires > self.now}

    def place(self) -> tuple[str, str, str]:
        return self.rng.choice(SPACES), self.rng.choice(KINDS), self.rng.choice(KEYS)

    # ---- what is done ------------------------------------------------------------------------------------------------
    def put(self) -> None:
        puts = [self.any_put() for _ in range(self.rng.choice((1, 1, 1, 3)))]
        entries = self.ltm.submit(puts).result()
        for put, entry in zip(puts, entries, strict=True):
            place = put.namespace, put.kind, put.key
            before = self.alive().get(place)
            created = before.created if before else self.now
            assert (entry.created_at, entry.updated_at) == (created, self.now)
            self.order += 1
            self.kept[place] = Kept(put.value, put.text, dict(put.metadata), put.labels, created, put.expires_at, self.order)

    def any_put(self) -> Put:
        rng = self.rng
        namespace, kind, key = self.place()
        text = " ".join(rng.choices(WORDS, k=rng.randrange(4)))
        value = rng.choice((text, None, rng.randrange(9), {"n": rng.randrange(4), "m": "x"}, [text, b"\0"], {"deep": [[1]]}))
        metadata = rng.choice(({}, {"n": rng.randrange(4)}, {"tags": rng.choices(("red", "blue"), k=2)}))
        ends = None if rng.random() < 0.7 else self.now + rng.randrange(1, 20)
        return Put(namespace, key, value, text, kind, metadata, tuple(rng.choices(("web", "tool:x"), k=rng.randrange(2))), ends)

    def delete(self) -> None:
        namespace, kind, key = place = self.place()
        assert self.ltm.delete(key, namespace=namespace, kind=kind) is (place in self.alive())
        self.kept.pop(place, None)

    def clear(self) -> None:
        namespace = self.rng.choice(SPACES)
        gone = [place for place in self.kept if place[0] == namespace]
        assert self.ltm.clear(namespace) == len([place for place in gone if place in self.alive()])
        for place in gone:
            del self.kept[place]

    def pass_time(self) -> None:
        self.now += self.rng.randrange(10)

    def mood(self) -> None:
        self.embedder.fails = not self.embedder.fails
        self.failed = True

    def flush(self) -> None:
        self.ltm.flush()

    def reopen(self) -> None:
        self.ltm.close()
        self.open()

    def compact(self) -> None:
        if not self.embedder.fails:
            self.ltm.compact()

    # ---- what must be so ---------------------------------------------------------------------------------------------
    def look_up(self) -> None:
        namespace, kind, key = place = self.place()
        entry, known = self.ltm.get(key, namespace=namespace, kind=kind), self.alive().get(place)
        assert (entry is None) is (known is None)
        if entry is not None and known is not None:
            assert same(entry.value, known.value)
            assert (entry.namespace, entry.kind, entry.key, entry.text) == (*place, known.text)
            assert (entry.metadata, entry.labels) == (known.metadata, known.labels)
            assert (entry.created_at, entry.expires_at) == (known.created, known.expires)

    def list(self) -> None:
        namespace, kind = self.rng.choice((None, *SPACES)), self.rng.choice((None, *KINDS))
        prefix, where = self.rng.choice(("", "k", "%", "e")), self.rng.choice((None, *WHERE))
        found = self.ltm.list(namespace=namespace, kind=kind, prefix=prefix, where=where)
        wanted = sorted(
            (one.order, place)
            for place, one in self.alive().items()
            if namespace in (None, place[0]) and kind in (None, place[1]) and place[2].startswith(prefix)
            if where is None or fits(fields_of(one.value, one.metadata), where)
        )
        places = [(entry.namespace, entry.kind, entry.key) for entry in found]
        assert set(places) == {place for _, place in wanted}
        assert self.failed or places == [place for _, place in wanted]  # an entry that gets its vector later moves to the end
        assert [entry.seq for entry in found] == sorted({entry.seq for entry in found})

    def search(self) -> None:
        """By vector: exactly those of the namespace that have one and pass the filter, in the order of their cosines."""
        if self.embedder.fails:
            return
        if self.ltm.record.unembedded_count():
            self.put()  # only who owns the folder makes what is missing
        self.ltm.flush()  # now each text has its vector
        namespace, kind, where = self.rng.choice(SPACES), self.rng.choice((None, *KINDS)), self.rng.choice((None, None, *WHERE))
        query = " ".join(self.rng.choices(WORDS, k=2))
        hits = self.ltm.search(query, namespace=namespace, kind=kind, where=where, limit=100, mode="vector")
        asked = self.embedder.embed_query(query)
        cosines = {
            place: float(self.embedder.embed([one.text])[0] @ asked)
            for place, one in self.alive().items()
            if place[0] == namespace and kind in (None, place[1]) and one.text
            if where is None or fits(fields_of(one.value, one.metadata), where)
        }
        wanted = {place for place, cosine in cosines.items() if cosine > 1e-5}
        found = {(hit.entry.namespace, hit.entry.kind, hit.entry.key) for hit in hits if hit.score > 1e-5}
        assert found == wanted
        assert all(abs(hit.cosine - cosines[hit.entry.namespace, hit.entry.kind, hit.entry.key]) < 1e-4 for hit in hits)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)

    def search_words(self) -> None:
        namespace, word = self.rng.choice(SPACES), self.rng.choice(WORDS)
        hits = self.ltm.search(word, namespace=namespace, limit=100, mode="lexical")
        having = {place for place, one in self.alive().items() if place[0] == namespace and word in one.text.split()}
        assert {(hit.entry.namespace, hit.entry.kind, hit.entry.key) for hit in hits} == having

    def check(self) -> None:
        alive = self.alive()
        stats = self.ltm.stats()
        assert (stats.entries, stats.facts) == (len(alive), sum(place[1] == "fact" for place in alive))
        assert {one.name: one.entries for one in stats.namespaces} == {
            name: count for name in SPACES if (count := sum(place[0] == name for place in alive))
        }
        assert self.ltm.record.damage() == []


STEPS = {
    Model.put: 40,
    Model.delete: 12,
    Model.look_up: 20,
    Model.list: 10,
    Model.search: 6,
    Model.search_words: 6,
    Model.pass_time: 6,
    Model.mood: 2,
    Model.flush: 2,
    Model.reopen: 2,
    Model.clear: 1,
    Model.compact: 1,
}


def test_a_memory_does_what_a_dictionary_does(seed, long_run, monkeypatch):
    monkeypatch.setattr(embedding_module, "RETRY_S", 0.0)
    for number in range(2_000 if long_run else 3):
        rng = random.Random(seed * 10_000 + number)
        done = []
        with quick_folder() as folder:
            model = Model(folder, rng)
            try:
                for step in rng.choices(list(STEPS), weights=list(STEPS.values()), k=100):
                    done.append(step.__name__)
                    step(model)
                model.check()
                model.embedder.fails = False
                model.reopen()
                model.check()
                assert model.ltm.verify().ok or model.ltm.stats().unembedded
            except BaseException as error:
                error.add_note(f"seed {seed}, run {number}: {' '.join(done)}")
                raise
            finally:
                model.ltm.close()


def test_replacing_is_the_same_as_deleting_and_putting(seed):
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(WORDS, k=5)) for _ in range(30)]
    found = []
    for delete in (False, True):
        with quick_folder() as folder:
            config = replace(MemoryConfig(), batch_ms=0, embedder=HashingEmbedder(DIMENSION))
            ltm = LongTermMemory(lambda folder=folder: folder, config)
            for text in texts:
                key = text.split()[0]
                if delete:
                    ltm.delete(key)
                ltm.put(key, text)
            found.append([[(hit.entry.key, hit.entry.value, hit.score) for hit in ltm.search(word, limit=50)] for word in WORDS])
            ltm.close()
    assert found[0] == found[1]
