"""Long-term memory with an embedding service: what it finds by meaning, and what happens while the service is away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from apxm.config import MemoryConfig
from apxm.errors import EmbedderError, TransientError
from apxm.memory.embed.http import HttpEmbedder
from apxm.memory.ltm.system import LongTermMemory
from tests.integration.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("httpx", reason="the extra `models` is not installed")

MEANINGS = (("car", "automobile", "lorry"), ("bread", "cake", "loaf"), ("sea", "ocean", "lake"))


class Service:
    """Speaks like Ollama; texts are near when they mean the same. `down` answers 503, `size` adds numbers to every vector."""

    def __init__(self) -> None:
        self.down, self.size, self.calls = False, len(MEANINGS), 0

    def __call__(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.calls += 1
        if self.down:
            return 503, {"error": "away"}
        found = [[float(any(word in text for word in words)) + 0.01 for words in MEANINGS] for text in body["input"]]
        return 200, {"model": body["model"], "embeddings": [[*vector, 0.5, 0.5, 0.5][: self.size] for vector in found]}


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def url(service: Service) -> Iterator[str]:
    with Loopback(service) as server:
        yield server.url


def memory(folder: Path, url: str) -> LongTermMemory:
    embedder = HttpEmbedder("ollama", model="m", url=url, tries=1)
    return LongTermMemory(lambda: folder, MemoryConfig(embedder=embedder))


def found(ltm: LongTermMemory, query: str) -> list[str]:
    return [hit.entry.key for hit in ltm.search(query, limit=1, mode="vector")]


def test_what_means_the_same_is_found_without_a_word_in_common(tmp_path: Path, url: str) -> None:
    ltm = memory(tmp_path, url)
    for key, text in (("garage", "a red car"), ("kitchen", "warm bread"), ("beach", "the sea")):
        ltm.put(key, text)
    assert [found(ltm, query) for query in ("my automobile", "some cake", "an ocean")] == [["garage"], ["kitchen"], ["beach"]]
    ltm.close()
    again = memory(tmp_path, url)
    assert found(again, "a lorry") == ["garage"]
    again.close()


def test_what_is_remembered_while_the_service_is_away_is_found_by_meaning_later(
    tmp_path: Path, url: str, service: Service
) -> None:
    ltm = memory(tmp_path, url)
    ltm.put("garage", "a red car")
    service.down = True
    ltm.put("kitchen", "warm bread")
    assert ltm.get("kitchen") is not None
    assert [hit.entry.key for hit in ltm.search("bread", mode="lexical")] == ["kitchen"]
    with pytest.raises(TransientError, match="answers 503: away"):
        ltm.search("some cake", mode="vector")
    ltm.close()
    service.down = False
    again = memory(tmp_path, url)
    again.put("beach", "the sea")
    again.flush()
    assert found(again, "some cake") == ["kitchen"]
    again.close()


def test_a_model_of_another_dimension_behind_the_same_name_is_noticed(tmp_path: Path, url: str, service: Service) -> None:
    ltm = memory(tmp_path, url)
    ltm.put("garage", "a red car")
    ltm.close()
    service.size += 1
    again = memory(tmp_path, url)
    with pytest.raises(EmbedderError, match=r"made with the embedder ollama m \(3 dimensions.*apxm memory rebuild"):
        again.search("lorry", mode="vector")
    assert again.get("garage") is not None
    again.rebuild()
    assert found(again, "a lorry") == ["garage"]
    again.close()
