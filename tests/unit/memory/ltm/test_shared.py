"""Several runtimes of one process on one folder."""

from __future__ import annotations

import os
from time import time
from typing import TYPE_CHECKING

import pytest

from apxm import MemoryConfig, MemorySystem
from apxm.errors import LockedError
from apxm.memory.embed.hashing import HashingEmbedder

if TYPE_CHECKING:
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
