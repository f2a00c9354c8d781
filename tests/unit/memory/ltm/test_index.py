"""What Chroma is given and asked, and what is refused before Chroma sees it."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from apxm.errors import ConfigError, StorageError
from apxm.memory.embed.base import Fingerprint
from apxm.memory.ltm.index import BATCH_MAX, Index, IndexDamaged, collection_name, generations, index_path, remove, seal_of
from tests.unit.memory.ltm.stores import files, quick_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from apxm.memory.embed.base import Vectors

DIMENSION = 8
FINGERPRINT = Fingerprint("testing", "1", DIMENSION, normalized=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder."""
    with quick_folder() as folder:
        yield folder


@pytest.fixture
def index(folder: Path) -> Iterator[Index]:
    """An empty index, of generation 1."""
    index = Index.make(folder, 1, FINGERPRINT)
    yield index
    index.close()


def vectors(count: int, seed: int = 0) -> Vectors:
    found = np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_what_is_near_comes_first_with_its_cosine(index: Index) -> None:
    given = vectors(50)
    ids = [f"{number:032x}" for number in range(50)]
    index.upsert("space", ids, given)
    found = index.nearest("space", given[7], 5)
    exact = given @ given[7]
    assert [id for id, _ in found] == [ids[place] for place in np.argsort(-exact)[:5]]
    np.testing.assert_allclose([cosine for _, cosine in found], np.sort(exact)[::-1][:5], atol=1e-5)


def test_ids_are_replaced_deleted_and_listed(index: Index) -> None:
    given = vectors(3)
    index.upsert("space", ["a", "b"], given[:2])
    index.upsert("space", ["b"], given[2:])
    index.delete("space", ["a", "nobody"])
    index.delete("nowhere", ["a"])
    assert index.ids(collection_name("space")) == {"b"}
    assert index.collections() == {collection_name("space")}
    there = index.vectors("space", ["a", "b"])
    np.testing.assert_allclose(there.pop("b"), given[2], atol=1e-6)
    assert there == {}
    assert index.vectors("nowhere", ["a"]) == index.vectors("space", []) == {}


def test_nothing_is_near_in_a_namespace_that_has_nothing(index: Index) -> None:
    assert index.nearest("space", vectors(1)[0], 5) == []
    index.upsert("space", ["a"], vectors(1))
    assert [id for id, _ in index.nearest("space", vectors(1)[0], 500)] == ["a"]
    assert index.nearest("space", vectors(1)[0], 0) == []


def test_more_ids_than_chroma_takes_at_once(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    assert index._client.get_max_batch_size() >= BATCH_MAX
    monkeypatch.setattr("apxm.memory.ltm.index.BATCH_MAX", 10)
    ids = [str(number) for number in range(37)]
    index.upsert("space", ids, vectors(len(ids)))
    assert len(index.ids(collection_name("space"))) == len(ids)
    index.delete("space", ids[:-1])
    assert index.ids(collection_name("space")) == {ids[-1]}


@pytest.mark.parametrize("namespace", ["", " ", "a" * 5_000, "../..", "näh\n\x00", "\ud800", "ns-x"])
def test_a_namespace_may_have_any_name(index: Index, namespace: str) -> None:
    index.upsert(namespace, ["a"], vectors(1))
    assert [id for id, _ in index.nearest(namespace, vectors(1)[0], 1)] == ["a"]


def test_no_name_text_or_metadata_of_ours_reaches_the_disk(index: Index) -> None:
    index.upsert("the name of an agent", ["a"], vectors(1))
    index.close()
    assert not any(b"name of an agent" in content for content in files(index.path).values())


def test_closing_waits_for_who_asks_and_then_nothing_is_left_open(index: Index) -> None:
    index.upsert("space", ["a"], vectors(1))
    asking, go_on = threading.Event(), threading.Event()

    def ask() -> None:
        with index._using():
            asking.set()
            go_on.wait(60)

    thread, closer = threading.Thread(target=ask), threading.Thread(target=index.close)
    thread.start()
    asking.wait(60)
    closer.start()
    closer.join(0.05)
    waits = closer.is_alive()
    go_on.set()
    closer.join(60)
    thread.join()
    assert waits
    assert not index.usable
    with pytest.raises(IndexDamaged, match="closed"):
        index.nearest("space", vectors(1)[0], 1)


def test_a_folder_that_was_closed_can_be_deleted_and_made_again(folder: Path, index: Index) -> None:
    index.upsert("space", ["a"], vectors(1))
    index.close()
    remove(folder, 1)
    remove(folder, 1)
    assert generations(folder) == []
    again = Index.make(folder, 1, FINGERPRINT)
    assert again.collections() == set()
    again.close()


def test_two_indexes_are_open_at_once_and_know_nothing_of_each_other(folder: Path, index: Index) -> None:
    other = Index.make(folder, 2, FINGERPRINT)
    index.upsert("space", ["a"], vectors(1))
    other.upsert("space", ["b"], vectors(1))
    other.close()
    assert index.ids(collection_name("space")) == {"a"}
    assert generations(folder) == [1, 2]


def test_an_error_of_chroma_is_damage_and_the_index_is_not_asked_again(index: Index) -> None:
    index.upsert("space", ["a"], vectors(1))
    with pytest.raises(IndexDamaged):
        index.nearest("space", np.ones(DIMENSION + 1, dtype=np.float32), 1)
    assert index.damaged
    assert not index.usable


def test_a_full_disk_is_no_damage(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.upsert("space", ["a"], vectors(1))
    usage = shutil.disk_usage(index.path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    with pytest.raises(StorageError, match="make room"):
        index.nearest("space", np.ones(DIMENSION + 1, dtype=np.float32), 1)


def test_chroma_says_nothing(index: Index, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        index.upsert("space", ["a", "b"], vectors(2))
        index.delete("space", ["a", "nobody"])
        index.close()
        index.close()
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.name.startswith("chroma")] == []


def test_a_folder_that_takes_no_index_is_an_error_of_storage(folder: Path) -> None:
    with pytest.raises(StorageError, match="No such file or directory; searches do without it"):
        Index.make(folder / "missing", 1, FINGERPRINT)


def test_without_chromadb_it_is_said_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "chromadb", None)
    with pytest.raises(ConfigError, match=r"pip install 'apxm\[memory\]'"):
        Index.make(folder, 1, FINGERPRINT)
    assert generations(folder) == []


# ---- what is refused before Chroma opens it -------------------------------------------------------------------------
@pytest.fixture
def stored(folder: Path, index: Index) -> Path:
    """A folder with a closed index that has one collection."""
    index.upsert("space", ["a", "b"], vectors(2))
    index.close()
    return folder


def change(folder: Path, *statements: str) -> None:
    """Do something to the tables of a stored index."""
    with closing(sqlite3.connect(index_path(folder, 1) / "chroma.sqlite3")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def change_schema(folder: Path, edit: Callable[[Any], Any], column: str = "schema_str") -> None:
    """Replace the stored configuration of the collection."""
    with closing(sqlite3.connect(index_path(folder, 1) / "chroma.sqlite3")) as connection, connection:
        (stored,) = connection.execute(f"SELECT {column} FROM collections").fetchone()
        connection.execute(f"UPDATE collections SET {column} = ?", (json.dumps(edit(json.loads(stored))),))


def vector_index(schema: Any) -> Any:
    return schema["keys"]["#embedding"]["float_list"]["vector_index"]["config"]


def test_what_we_made_is_opened(stored: Path) -> None:
    again = Index.open(stored, 1, FINGERPRINT, 3)
    assert (again.seq, again.ids(collection_name("space"))) == (3, {"a", "b"})
    again.close()


def _poison(function: Any) -> Callable[[Any], Any]:
    def edit(schema: Any) -> Any:
        vector_index(schema)["embedding_function"] = function
        return schema

    return edit


def _poison_sparse(schema: Any) -> Any:
    schema["defaults"]["sparse_vector"]["sparse_vector_index"]["config"]["embedding_function"] = KNOWN
    return schema


def _other_space(schema: Any) -> Any:
    vector_index(schema)["space"] = "l2"
    return schema


def _without_space(schema: Any) -> Any:
    del vector_index(schema)["space"]
    return schema


MODEL = {"model_name": "evil", "device": "cpu", "normalize_embeddings": False, "kwargs": {"trust_remote_code": True}}
KNOWN = {"type": "known", "name": "sentence_transformer", "config": MODEL}


@pytest.mark.parametrize(
    "edit",
    [
        _poison(KNOWN),
        _poison({"type": "custom"}),
        _poison({"type": "legacy", "name": "sentence_transformer"}),
        _poison([KNOWN]),
        _poison(None),
        _poison_sparse,
        _other_space,
        _without_space,
        lambda schema: {**schema, "more": [{"embedding_function": KNOWN}]},
        lambda _: {},
        lambda _: [],
        lambda _: None,
    ],
)
def test_a_schema_that_we_did_not_make_is_refused(stored: Path, edit: Callable[[Any], Any]) -> None:
    change_schema(stored, edit)
    with pytest.raises(IndexDamaged):
        Index.open(stored, 1, FINGERPRINT, 0)


@pytest.mark.parametrize(
    "statement",
    [
        """UPDATE collections SET schema_str = '{"keys": {}, ' || substr(schema_str, 2)""",  # a name twice
        "UPDATE collections SET schema_str = NULL",
        "UPDATE collections SET schema_str = '{'",
        """UPDATE collections SET config_json_str = '{"embedding_function": {"type": "known", "name": "default"}}'""",
        "UPDATE collections SET dimension = 9",
        "UPDATE collections SET name = 'other'",
        "UPDATE collection_metadata SET str_value = 'another embedder'",
        "DELETE FROM collection_metadata",
        "UPDATE collection_metadata SET key = 'hnsw:space'",
        "UPDATE segments SET type = 'urn:chroma:segment/vector/other'",
        "CREATE TRIGGER more AFTER INSERT ON collections BEGIN DELETE FROM collections; END",
        "CREATE VIEW more AS SELECT 1",
        "DROP TABLE collections",
    ],
)
def test_tables_that_we_did_not_make_are_refused(stored: Path, statement: str) -> None:
    change(stored, statement)
    with pytest.raises(IndexDamaged):
        Index.open(stored, 1, FINGERPRINT, 0)


def test_vectors_of_another_embedder_are_refused(stored: Path) -> None:
    with pytest.raises(IndexDamaged, match="another embedder"):
        Index.open(stored, 1, Fingerprint("testing", "2", DIMENSION, normalized=True), 0)
    with pytest.raises(IndexDamaged, match="8 dimensions"):
        Index.open(stored, 1, Fingerprint("testing", "1", 9, normalized=True), 0)


def test_an_index_that_is_not_there_is_refused_and_not_made(folder: Path) -> None:
    with pytest.raises(IndexDamaged, match="not there"):
        Index.open(folder, 1, FINGERPRINT, 0)
    assert generations(folder) == []


_POISONED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from apxm.memory.embed.base import Fingerprint
from apxm.memory.ltm.index import Index, IndexDamaged, collection_name
import chromadb
import numpy as np
from chromadb.config import Settings

vector = np.ones((1, 8), dtype=np.float32)
try:
    Index.open(Path(sys.argv[2]), 1, Fingerprint("testing", "1", 8, normalized=True), 0).upsert("space", ["c"], vector)
except IndexDamaged:
    print("refused", "sentence_transformers" in sys.modules)
client = chromadb.PersistentClient(sys.argv[2] + "/index-1", Settings(_env_file=None))  # what would happen without the look at it
client.get_collection(collection_name("space"), embedding_function=None).upsert(ids=["c"], embeddings=vector)
"""
_STAND_IN = """
print("imported")
class SentenceTransformer:
    def __init__(self, **given):
        print("made", given["trust_remote_code"])
"""


def test_a_stored_embedding_function_is_neither_imported_nor_made(stored: Path, tmp_path: Path) -> None:
    (tmp_path / "sentence_transformers.py").write_text(_STAND_IN)
    change_schema(stored, _poison(KNOWN))
    command = [sys.executable, "-c", _POISONED, str(tmp_path), str(stored)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert told[0] == "refused False"
    assert told[1:] == ["imported", "made True"], "the poison does not work any more: this test proves nothing"


def test_a_file_env_where_the_program_runs_says_nothing_to_chroma(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("CHROMA_API_IMPL=evil.Api\nCHROMA_PRODUCT_TELEMETRY_IMPL=evil.Telemetry\nALLOW_RESET=true\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CHROMA_PRODUCT_TELEMETRY_IMPL", "evil.Telemetry")
    index = Index.make(folder, 1, FINGERPRINT)
    assert index.collections() == set()
    index.close()


def test_a_seal_knows_every_byte_and_every_name(stored: Path) -> None:
    path = index_path(stored, 1)
    seal = seal_of(path)
    assert seal_of(path) == seal
    for file in [file for file in path.rglob("*") if file.is_file()]:
        content = file.read_bytes()
        if content:
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            assert seal_of(path) != seal, file
            file.write_bytes(content[:-1])
            assert seal_of(path) != seal, file
        file.write_bytes(content)
        moved = file.rename(file.with_name("moved"))
        assert seal_of(path) != seal, file
        moved.rename(file)
    (path / "more").mkdir()
    assert seal_of(path) != seal
    shutil.rmtree(path / "more")
    assert seal_of(path) == seal
