"""What searches find in real text, with the real index: our own docs, by section."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from apxm import MemoryConfig
from apxm.memory.ltm.entry import Put
from apxm.memory.ltm.system import LongTermMemory
from benches.corpus import sections

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AT = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("retrieval")
    ltm = LongTermMemory(lambda: made, MemoryConfig())
    ltm.submit([Put("docs", one.key, None, one.body) for one in sections()]).result()
    ltm.close()
    return made


@pytest.fixture
def exact(folder: Path) -> Iterator[LongTermMemory]:
    ltm = LongTermMemory(lambda: folder, MemoryConfig())
    yield ltm
    ltm.close()


def keys(ltm: LongTermMemory, query: str, mode: str) -> list[str]:
    return [hit.entry.key for hit in ltm.search(query, namespace="docs", limit=AT, mode=mode)]


def test_titles_find_their_sections_by_words_and_no_worse_by_both(exact: LongTermMemory) -> None:
    """Bodies only are stored, so that a title is a question about its section."""
    asked = [one for one in sections() if len(one.title) > 12]
    found = {
        mode: np.mean([one.key in keys(exact, one.title, mode) for one in asked]) for mode in ("lexical", "vector", "hybrid")
    }
    assert found["hybrid"] >= 0.6
    assert found["hybrid"] >= max(found["lexical"], found["vector"]) - 0.03


def test_the_index_finds_what_looking_at_everything_finds(exact: LongTermMemory, folder: Path) -> None:
    pytest.importorskip("chromadb")
    queries = [one.title for one in sections()][::4]
    expected = {query: set(keys(exact, query, "vector")) for query in queries}
    indexed = LongTermMemory(lambda: folder, MemoryConfig(exact_max=0))
    indexed.rebuild()
    try:
        assert indexed.stats().generation is not None
        assert indexed.stats().unindexed == 0
        shares = [
            len(wanted.intersection(keys(indexed, query, "vector"))) / len(wanted) for query, wanted in expected.items() if wanted
        ]
    finally:
        indexed.close()
    assert np.mean(shares) >= 0.95
