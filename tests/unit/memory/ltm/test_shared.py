"""Several runtimes of one process on one folder."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import time
from typing import TYPE_CHECKING, Any

import pytest

from apxm import MemoryConfig, MemorySystem
from apxm.errors import LockedError
from apxm.memory.embed.hashing import HashingEmbedder
from apxm.memory.ltm import shared
from apxm.memory.ltm.entry import Put
from tests.unit.memory.ltm.stores import before_a_fork

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def system(folder: Path, config: MemoryConfig | None = None) -> MemorySystem:
    return MemorySystem(config, folder=lambda: folder)


def test_two_systems_on_one_folder_write_beside_each_other(tmp_path: Path) -> None:
    one, other = system(tmp_path), system(tmp_path)
    one.ltm.put("a", 1)
    other.ltm.put("b", 2)
    assert one.ltm.get("b").value == 2
    one.close()
    other.ltm.put("c", 3)
    assert other.ltm.get("a").value == 1
    other.close()


def test_a_folder_is_one_by_whatever_way_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    one, other = system(tmp_path / "real"), system(tmp_path / "link")
    assert one.ltm is other.ltm
    one.close()
    other.close()


def test_the_last_one_that_closes_gives_the_folder_back(tmp_path: Path) -> None:
    one, other = system(tmp_path), system(tmp_path)
    first = one.ltm
    assert other.ltm is first
    one.close()
    one.close()
    other.ltm.put("a", 1)
    other.close()
    again = system(tmp_path)
    assert again.ltm is not first
    again.ltm.put("b", 2)
    again.close()


def test_another_embedder_shares_no_memory_and_may_not_write_beside_it(tmp_path: Path) -> None:
    one = system(tmp_path)
    other = system(tmp_path, MemoryConfig(embedder=HashingEmbedder(dimension=64), lock_timeout_ms=0))
    one.ltm.put("a", 1)
    assert other.ltm is not one.ltm
    assert other.ltm.get("a").value == 1
    with pytest.raises(LockedError, match="this process"):
        other.ltm.put("b", 2)
    one.close()
    other.close()


def test_a_child_of_fork_does_not_take_its_parents_memory_for_its_own(tmp_path: Path) -> None:
    parent = system(tmp_path)
    parent.ltm.put("a", 1)
    before_a_fork()
    child = os.fork()
    if child == 0:
        try:
            its = system(tmp_path, MemoryConfig(lock_timeout_ms=0))
            assert its.ltm is not parent.ltm
            assert its.ltm.get("a").value == 1
            try:
                its.ltm.put("b", time())
            except LockedError:
                os._exit(0)
            os._exit(1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    parent.close()


def test_closing_one_folder_keeps_nobody_from_another_and_makes_its_own_wait(tmp_path: Path) -> None:
    class Slow(HashingEmbedder):
        def embed(self, texts: Sequence[str]) -> Any:
            began.set()
            free.wait()
            return super().embed(texts)

    began, free, time_to_turn = Event(), Event(), Event()
    config = MemoryConfig(embedder=Slow(), batch_ms=0, lock_timeout_ms=0)
    one, elsewhere = system(tmp_path / "a", config), system(tmp_path / "b")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one.ltm.submit([Put("default", "k", "text", "text")])
    assert began.wait(60)
    with ThreadPoolExecutor() as pool:
        closing = pool.submit(one.close)
        while not shared._closing:
            time_to_turn.wait(0.001)
        elsewhere.ltm.put("a", 1)
        elsewhere.close()
        again = pool.submit(lambda: system(tmp_path / "a", config).ltm)
        assert not closing.done()
        assert not again.done()
        free.set()
        closing.result(60)
        memory = again.result(60)
    assert memory.put("x", 1).value == 1
    shared.leave(memory)
