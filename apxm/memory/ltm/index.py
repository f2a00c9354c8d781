"""The index of long-term memory: ids and their vectors in Chroma, one collection for each namespace, to find what is near.

It holds nothing that the record does not, and decides nothing: whatever is wrong with it, it is thrown away and built again.
Chroma is given vectors alone: no text, no metadata of entries, no embedding function. What lies on disk is looked at before
Chroma opens it, because Chroma makes the embedding functions that a stored schema names, and native code reads the rest.

Vectors are kept with length 1, which cosines do not see. This is the only module that imports chromadb.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sqlite3
from contextlib import closing, contextmanager
from hashlib import blake2b
from importlib import import_module
from threading import Condition
from typing import TYPE_CHECKING, Any

from apxm.errors import ConfigError, StorageError
from apxm.memory.ltm.remnants import overwritten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from apxm.memory.embed.base import Fingerprint

    Vectors = NDArray[np.float32]

INSTALL = "pip install 'apxm[memory]'"
HNSW = {
    "space": "cosine",
    "max_neighbors": 32,
    "ef_construction": 200,
    "ef_search": 200,
    "sync_threshold": 200,  # writes that Chroma does again when it opens the index after the process died
    "batch_size": 100,
}
BATCH_MAX = 5_000  # ids in one call: Chroma refuses more than 5,461
_FILE = "chroma.sqlite3"
_FINGERPRINT = "embedder"  # the one thing that is said about a collection
_COLLECTION = re.compile(r"ns-[0-9a-f]{32}")
_SEGMENTS = {"urn:chroma:segment/vector/hnsw-local-persisted", "urn:chroma:segment/metadata/sqlite"}
_NO_FUNCTION = ({"type": "legacy"}, {"type": "unknown"})  # what Chroma stores for a collection that has no embedding function
_NO_ROOM = re.compile(r"disk is full|No space left|os error 28|Disk quota|os error 122|readonly database|Read-only|os error 30")
_ROOM_MIN = 16 * 1024 * 1024  # free bytes: with fewer, any error is taken for a full disk, for Chroma does not always say so


class IndexDamaged(Exception):
    """The index cannot be used as it is. Never reaches a caller of ours: it is built again from the record."""


class Index:
    """One generation of the index: the folder `index-<generation>`, open. Thread-safe; used by the owner of the memory alone.

    `seq` is the number of a write of the record: the index has everything up to it, and may have more.
    """

    def __init__(self, folder: Path, generation: int, fingerprint: Fingerprint, seq: int) -> None:
        self.path, self.generation, self.seq = index_path(folder, generation), generation, seq
        self.dimension = fingerprint.dimension
        self.damaged = False  # Chroma gave an error
        self._fingerprint = fingerprint
        self._client = _client(self.path)
        self._collections: dict[str, Any] = {}
        self._free = Condition()
        self._users = 0
        self._closed = False
        self._pid = os.getpid()

    @staticmethod
    def make(folder: Path, generation: int, fingerprint: Fingerprint) -> Index:
        """A new, empty generation. ConfigError when chromadb is not installed."""
        _chroma()
        remove(folder, generation)
        path = index_path(folder, generation)
        try:
            path.mkdir(mode=0o700)
        except OSError as error:
            raise StorageError(f"{path} cannot be made: {error.strerror or error}", hint="searches do without it") from error
        return Index(folder, generation, fingerprint, 0)

    @staticmethod
    def open(folder: Path, generation: int, fingerprint: Fingerprint, seq: int) -> Index:
        """The generation as it lies on disk; IndexDamaged when that is none that we made, for vectors of this embedder."""
        _check_stored(index_path(folder, generation), fingerprint)
        return Index(folder, generation, fingerprint, seq)

    @property
    def usable(self) -> bool:
        """Whether it may be asked: open, in the process that opened it, and no error so far."""
        return not self._closed and not self.damaged and self._pid == os.getpid()

    # ---- writing -----------------------------------------------------------------------------------------------------
    def upsert(self, namespace: str, ids: Sequence[str], vectors: Vectors) -> None:
        """Vectors of shape (len(ids), dimension), finite, in place of those that the ids had. No id twice."""
        with self._using():
            collection = self._collection(namespace, make=True)
            for start in range(0, len(ids), BATCH_MAX):
                part = slice(start, start + BATCH_MAX)
                collection.upsert(ids=list(ids[part]), embeddings=vectors[part])

    def delete(self, namespace: str, ids: Sequence[str]) -> None:
        """Take ids out. Those that are not there do not matter."""
        with self._using():
            collection = self._collection(namespace)
            for start in range(0, len(ids) if collection is not None else 0, BATCH_MAX):
                collection.delete(ids=list(ids[start : start + BATCH_MAX]))

    # ---- reading -----------------------------------------------------------------------------------------------------
    def nearest(self, namespace: str, vector: Vectors, k: int) -> list[tuple[str, float]]:
        """(id, cosine) of up to `k` ids near a vector of shape (dimension,), the best first. Approximate."""
        with self._using():
            collection = self._collection(namespace)
            if collection is None or k < 1:
                return []
            found = collection.query(query_embeddings=vector[None, :], n_results=k, include=["distances"])
        return [(id, 1.0 - distance) for id, distance in zip(found["ids"][0], found["distances"][0], strict=True)]

    def ids(self, collection: str) -> set[str]:
        """Every id of a collection, as `collections` names it."""
        with self._using():
            return set(self._client.get_collection(collection, embedding_function=None).get(include=[])["ids"])

    def vectors(self, namespace: str, ids: Sequence[str]) -> dict[str, Vectors]:
        """What the index has for some ids: vectors of shape (dimension,) and length 1. Without those that it does not have."""
        with self._using():
            collection = self._collection(namespace)
            if collection is None or not ids:
                return {}
            found = collection.get(ids=list(ids), include=["embeddings"])
        return dict(zip(found["ids"], found["embeddings"], strict=True))

    def collections(self) -> set[str]:
        """The names of the collections: `collection_name` of their namespaces."""
        with self._using():
            return {collection.name for collection in self._client.list_collections()}

    def close(self) -> None:
        """Let go of every file and of the memory that the index takes, once nobody uses it any more. Idempotent."""
        with self._free:
            already, self._closed = self._closed, True
            self._free.wait_for(lambda: not self._users)
            if not already:
                self._collections.clear()
                with overwritten():
                    self._client.close()

    # ---- Chroma ------------------------------------------------------------------------------------------------------
    def _collection(self, namespace: str, *, make: bool = False) -> Any:
        """The collection of a namespace; None when there is none, and none is to be made."""
        name = collection_name(namespace)
        found = self._collections.get(name)
        if found is None and make:
            metadata = {_FINGERPRINT: str(self._fingerprint)}
            found = self._client.get_or_create_collection(
                name, embedding_function=None, metadata=metadata, configuration={"hnsw": HNSW}
            )
        elif found is None:
            try:
                found = self._client.get_collection(name, embedding_function=None)
            except import_module("chromadb.errors").NotFoundError:
                return None
        self._collections[name] = found
        return found

    @contextmanager
    def _using(self) -> Iterator[None]:
        with self._free:
            if not self.usable:
                raise IndexDamaged(f"{self.path} is closed")
            self._users += 1
        try:
            with _errors(self.path), overwritten():
                yield
        except (IndexDamaged, StorageError):
            self.damaged = True
            raise
        finally:
            with self._free:
                self._users -= 1
                self._free.notify_all()


# ---- names and files -------------------------------------------------------------------------------------------------
def collection_name(namespace: str) -> str:
    """The name of a namespace in Chroma, which takes few characters."""
    return f"ns-{blake2b(namespace.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


def index_path(folder: Path, generation: int) -> Path:
    """The folder of a generation."""
    return folder / f"index-{generation}"


def generations(folder: Path) -> list[int]:
    """The generations that lie in a folder, finished or not, in order."""
    found = (re.fullmatch(r"index-([0-9]{1,18})", path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in found if match)


def remove(folder: Path, generation: int) -> None:
    """Delete a generation that is not open, if it is there. StorageError when the disk does not let us."""
    path = index_path(folder, generation)
    try:
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be deleted: {error.strerror or error}", hint="delete it: it is an index") from error


def seal_of(path: Path) -> str:
    """A digest of every file of a generation, which must not be open. IndexDamaged where they cannot be read."""
    state = blake2b(digest_size=32)
    try:
        for file in sorted(path.rglob("*")):
            about = f"{file.relative_to(path)}\0{file.stat().st_size if file.is_file() else -1}\0"
            state.update(about.encode("utf-8", "surrogateescape"))
            if file.is_file():
                with file.open("rb") as content:
                    while block := content.read(1 << 20):
                        state.update(block)
    except OSError as error:
        raise IndexDamaged(f"{path.name} cannot be read: {error.strerror or error}") from error
    return state.hexdigest()


def _chroma() -> tuple[Any, Any]:
    """The modules `chromadb` and `chromadb.config`."""
    try:
        found = import_module("chromadb"), import_module("chromadb.config")
    except ImportError as error:
        raise ConfigError(f"the index of long-term memory needs chromadb: {error}", hint=INSTALL) from error
    except Exception as error:  # it reads the environment while it is imported, and refuses what it does not understand
        raise ConfigError(f"chromadb cannot be loaded: {error}", hint="look at the variables CHROMA_* and at `.env`") from error
    logging.getLogger("chromadb").setLevel(logging.CRITICAL)
    return found


def _client(path: Path) -> Any:
    """Chroma on a folder. What it would take from the environment or from a file `.env`, and then import, is given here."""
    chromadb, config = _chroma()
    settings = config.Settings(
        _env_file=None,
        anonymized_telemetry=False,
        allow_reset=False,
        chroma_api_impl="chromadb.api.rust.RustBindingsAPI",
        chroma_product_telemetry_impl="chromadb.telemetry.product.posthog.Posthog",
        chroma_otel_collection_endpoint="",
        chroma_server_nofile=None,
        migrations="apply",
        migrations_hash_algorithm="md5",
    )
    try:
        with _errors(path):
            return chromadb.PersistentClient(path=str(path), settings=settings)
    except (IndexDamaged, StorageError):
        chromadb.api.client.SharedSystemClient._identifier_to_system.pop(str(path), None)  # it keeps what did not start
        raise


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Whatever Chroma says: no room on the disk is the caller's matter, everything else is damage."""
    try:
        yield
    except IndexDamaged:
        raise
    except BaseException as error:
        panic = type(error).__name__ == "PanicException"  # of native code; no Exception
        if not panic and not isinstance(error, Exception):
            raise
        if _NO_ROOM.search(str(error)) or _room(path) < _ROOM_MIN:
            raise StorageError(f"{path} cannot be written: {error}", hint="make room; the index is caught up later") from error
        raise IndexDamaged(f"{path.name}: {error}") from error


def _room(path: Path) -> int:
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return _ROOM_MIN


# ---- what is looked at before Chroma opens it ------------------------------------------------------------------------
def _check_stored(path: Path, fingerprint: Fingerprint) -> None:
    """IndexDamaged unless the stored collections are such as we make them, and none names an embedding function."""
    if not (path / _FILE).is_file():
        raise IndexDamaged(f"{path} is not there")
    uri = f"{(path / _FILE).absolute().as_uri()}?mode=rw"  # rw: what a killed process left half done is taken back
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            connection.execute("PRAGMA trusted_schema=OFF")
            if connection.execute("SELECT count(*) FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchone()[0]:
                raise IndexDamaged(f"{path} has triggers or views")
            if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise IndexDamaged(f"{path} has damaged pages")
            _check_collections(connection, path, fingerprint)
    except (sqlite3.Error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise IndexDamaged(f"{path}: {error}") from error


def _check_collections(connection: sqlite3.Connection, path: Path, fingerprint: Fingerprint) -> None:
    rows = connection.execute("SELECT id, name, dimension, config_json_str, schema_str FROM collections").fetchall()
    for _, name, dimension, config, schema in rows:
        if not _COLLECTION.fullmatch(name) or dimension not in (None, fingerprint.dimension):
            raise IndexDamaged(f"{path} has a collection {name!r} of {dimension} dimensions")
        for stored in (_parsed(config or "{}"), _parsed(schema)):
            if any(function not in _NO_FUNCTION for function in _functions(stored)):
                raise IndexDamaged(f"{path}: collection {name} names an embedding function")
        if _parsed(schema)["keys"]["#embedding"]["float_list"]["vector_index"]["config"]["space"] != "cosine":
            raise IndexDamaged(f"{path}: collection {name} compares in another way")
    expected = {(id, _FINGERPRINT, str(fingerprint)) for id, *_ in rows}
    if set(connection.execute("SELECT collection_id, key, str_value FROM collection_metadata").fetchall()) != expected:
        raise IndexDamaged(f"{path} was made with another embedder")
    if not {type for (type,) in connection.execute("SELECT type FROM segments")} <= _SEGMENTS:
        raise IndexDamaged(f"{path} has segments of an unknown type")


def _parsed(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_no_name_twice)


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers may choose differently between two values of one name."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice in JSON")
    return found


def _functions(stored: Any) -> Iterator[Any]:
    """Whatever a stored configuration says about embedding functions, at any depth."""
    if isinstance(stored, list):
        for item in stored:
            yield from _functions(item)
    elif isinstance(stored, dict):
        for name, item in stored.items():
            if name == "embedding_function":
                yield item
            else:
                yield from _functions(item)
