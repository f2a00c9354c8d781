"""Whatever happens to the files of the index, the next search gives what brute force gives, and the index is whole again."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from apxm.memory.ltm.entry import Put
from apxm.memory.ltm.index import Index, generations, index_path
from tests.integration import ltm_child
from tests.integration.ltm_child import memory
from tests.unit.memory.ltm.stores import hits, quick_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from apxm.memory.ltm.entry import Entry, Hit
    from apxm.memory.ltm.system import LongTermMemory

COUNT = 300
QUERIES = 8
FLIPS, FLIPS_LONG = 2, 60


@pytest.fixture(scope="module")
def whole() -> Iterator[Path]:
    """A folder of memory with an index that was closed properly."""
    with quick_folder() as base:
        folder = base / "whole"
        folder.mkdir(mode=0o700)
        ltm = memory(folder)
        chance = random.Random(7)
        texts = [f"{ltm_child.text(chance)} {number}" for number in range(COUNT)]
        ltm.submit([Put("default", str(number), number, said) for number, said in enumerate(texts)]).result()
        ltm._keeps().catch_up()
        ltm.close()
        assert generations(folder) == [1]
        yield folder


@pytest.fixture
def folder(whole: Path) -> Path:
    """A copy, to be damaged."""
    copy = whole.parent / f"copy-{len(list(whole.parent.iterdir()))}"
    shutil.copytree(whole, copy)
    return copy


def asked(ltm: LongTermMemory, seed: int) -> list[list[tuple[str, float]]]:
    """What searches by vector give."""
    chance = random.Random(seed)

    def said(found: Sequence[Hit]) -> list[tuple[str, float]]:
        return [(hit.entry.key, hit.score) for hit in found]

    return [said(ltm.search(ltm_child.text(chance), mode="vector")) for _ in range(QUERIES)]


def same(found: list[list[tuple[str, float]]], exact: list[list[tuple[str, float]]]) -> None:
    """The same scores; of equals, others may be there."""
    for some, those in zip(found, exact, strict=True):
        np.testing.assert_allclose([score for _, score in some], [score for _, score in those], atol=1e-5)


def repaired(folder: Path, seed: int) -> str:
    """Searches at once, and again with the index, which is whole again; what became of it."""
    ltm = memory(folder)
    served = ltm._keeps().served()
    assert served is None
    exact = asked(ltm, seed)  # the index is not open: brute force
    assert opened(ltm).seq == ltm.record.last_seq()
    same(asked(ltm, seed), exact)
    report = ltm.verify()
    assert report.ok, report
    assert report.vectors == COUNT
    ltm.close()
    assert len(generations(folder)) == 1
    return report.index


def opened(ltm: LongTermMemory) -> Index:
    """The index of a memory."""
    upkeep = ltm._keeps()
    upkeep.catch_up()
    served = upkeep.served()
    assert served is not None
    return served[0]


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _other_database(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE collections (id, name, dimension, config_json_str, schema_str)")


NAMES = ["chroma.sqlite3", "data_level0.bin", "header.bin", "index_metadata.pickle", "length.bin", "link_lists.bin"]
OF_ALL: dict[str, Callable[[Path], object]] = {
    "deleted": _remove,
    "a file": lambda path: (shutil.rmtree(path), path.write_bytes(b"index")),
    "empty": lambda path: (shutil.rmtree(path), path.mkdir()),
    "another database": lambda path: _other_database(path / "chroma.sqlite3"),
}
OF_ONE: dict[str, Callable[[Path], object]] = {
    "deleted": _remove,
    "cut": _cut,
    "garbage": lambda path: path.write_bytes(b"\xff" * 999),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("what", OF_ALL)
def test_a_damaged_index_is_built_again(folder: Path, seed: int, what: str) -> None:
    OF_ALL[what](index_path(folder, 1))
    assert "built again" in repaired(folder, seed)


@pytest.mark.parametrize("name", NAMES)
def test_an_index_with_a_damaged_file_is_built_again(folder: Path, seed: int, long_run: bool, name: str) -> None:
    for what in OF_ONE if long_run else [random.Random(seed).choice(list(OF_ONE))]:
        print(f"{name}: {what}")
        OF_ONE[what](next(iter(index_path(folder, generations(folder)[0]).rglob(name))))
        assert "built again" in repaired(folder, seed)


def test_an_index_that_nothing_happened_to_is_used(folder: Path, seed: int) -> None:
    assert "as it was left" in repaired(folder, seed)


def test_a_bit_that_flips_anywhere_is_noticed(folder: Path, seed: int, long_run: bool) -> None:
    chance = random.Random(seed)
    for _ in range(FLIPS_LONG if long_run else FLIPS):
        generation = generations(folder)[0]
        file = chance.choice(
            [path for path in index_path(folder, generation).rglob("*") if path.is_file() and path.stat().st_size]
        )
        content = bytearray(file.read_bytes())
        place = chance.randrange(len(content))
        content[place] ^= 1 << chance.randrange(8)
        file.write_bytes(content)
        print(f"{file.name}, byte {place}")
        assert "changed after it was closed" in repaired(folder, seed)


def test_an_index_that_breaks_while_it_is_used_is_built_again(folder: Path, seed: int) -> None:
    ltm = memory(folder)
    exact = asked(ltm, seed)
    index = opened(ltm)
    assert index.nearest("default", ltm.embedder.embed_query("river"), 1) != []
    index._client.close()  # under its hands
    same(asked(ltm, seed), exact)
    assert not index.usable
    report = ltm.verify()
    assert report.ok
    assert "built again" in report.index
    same(asked(ltm, seed), exact)
    ltm.close()


def test_an_index_that_lost_a_namespace_hides_nothing(folder: Path, seed: int) -> None:
    ltm = memory(folder)
    exact = asked(ltm, seed)
    index = opened(ltm)
    index._client.delete_collection(next(iter(index.collections())))
    index._collections.clear()  # as if it had been so when the index was opened
    same(asked(ltm, seed), exact)
    report = ltm.verify()
    assert report.missing.count == COUNT
    assert ltm.rebuild().ok
    same(asked(ltm, seed), exact)
    ltm.close()


def needles_of(ltm: LongTermMemory, entry: Entry) -> list[bytes]:
    """The text of an entry, and its vector as the record has it and as the index has it."""
    stored = np.frombuffer(ltm.record.vectors([entry.id])[entry.id], dtype="<f4")
    indexed = opened(ltm).vectors("default", [entry.id])[entry.id]
    return [entry.text.encode(), *(np.asarray(vector, dtype="<f4").tobytes() for vector in (stored, indexed))]


def test_deleting_leaves_neither_text_nor_vector_in_any_file(folder: Path) -> None:
    ltm = memory(folder)
    entry = ltm.get("17")
    assert entry is not None
    needles = needles_of(ltm, entry)
    assert [bool(hits(folder, needle)) for needle in needles] == [True, True, True]
    assert ltm.delete("17")
    assert ltm.compact().ok
    assert [hits(folder, needle) for needle in needles] == [[], [], []]
    another = ltm.get("18")
    assert another is not None
    needles = needles_of(ltm, another)
    assert ltm.delete("18")
    ltm.close()  # compacts by itself what was deleted after that
    assert [hits(folder, needle) for needle in needles] == [[], [], []]
    assert hits(folder, b"19") != []


def test_searches_and_writes_go_on_while_the_index_is_built_and_compacted(folder: Path, seed: int) -> None:
    ltm = memory(folder)
    exact = asked(ltm, seed)
    opened(ltm)
    stop, failed, done = threading.Event(), [], []

    def beside(name: str) -> None:
        try:
            while not stop.is_set():
                key = f"{name} {len(done)}"
                ltm.put(key, 1, namespace="other", text=f"{key} of other things")
                assert ltm.search(key, namespace="other", limit=1)[0].entry.key == key
                ltm.delete(key, namespace="other")
                same(asked(ltm, seed), exact)
                done.append(key)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=beside, args=(name,)) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for upkeep in (ltm.rebuild, ltm.compact, ltm.verify):
        report = upkeep()
        assert not any(finding.count for finding in (report.missing, report.extra, report.stale, report.unfound)), report
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []
    assert ltm.verify().ok
    ltm.close()


# ---- two processes ---------------------------------------------------------------------------------------------------
ROOT = str(Path(ltm_child.__file__).resolve().parents[2])
_READING = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.integration.ltm_child import memory
ltm = memory(Path(sys.argv[2]), lock_timeout_ms=0.0)
for line in sys.stdin:
    found = ltm.get(json.loads(line))
    near = ltm.search(json.loads(line), limit=1)
    print(json.dumps([found.value if found else None, near[0].entry.key if near else None]), flush=True)
try:
    ltm.put("mine", 1)
except Exception as error:
    print(type(error).__name__, error, flush=True)
"""


def test_another_process_reads_everything_that_was_acknowledged_and_cannot_write(folder: Path) -> None:
    command = [sys.executable, "-c", _READING, ROOT, str(folder)]
    ltm = memory(folder)
    ltm._keeps().catch_up()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        for number in range(15):
            key = f"beside {number}"
            ltm.put(key, number, text=f"{key} unheard{number}")
            if number % 7 == 0:
                ltm._keeps().catch_up()
            print(f'"{key}"', file=reader.stdin, flush=True)
            assert reader.stdout.readline() == f'[{number}, "{key}"]\n'
        ltm.delete("beside 3")
        print('"beside 3"', file=reader.stdin, flush=True)
        assert reader.stdout.readline().startswith("[null, ")
        reader.stdin.close()
        refused = reader.stdout.readline()
        assert refused.startswith("LockedError")
        assert f"process {os.getpid()} on" in refused
    assert ltm.verify().ok
    ltm.close()
