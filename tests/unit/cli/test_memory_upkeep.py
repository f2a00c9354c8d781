"""`apxm memory stats`, `verify`, `rebuild`, `compact`: what they say of a memory, and how they end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from apxm.cli.exits import Exit
from apxm.cli.main import main
from apxm.cli.memory_upkeep import report_text, stats_text
from apxm.config import MemoryConfig
from apxm.errors import EmbedderError
from apxm.memory.embed.base import Fingerprint
from apxm.memory.ltm.comparison import Finding, Report
from apxm.memory.ltm.entry import NamespaceStats, Stats
from apxm.memory.ltm.system import LongTermMemory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "memory"
    monkeypatch.setenv("APXM_MEMORY_FOLDER", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["memory", *arguments])
    return code, *capsys.readouterr()


class Fails:
    """An embedder that never works."""

    fingerprint = Fingerprint("hashing", "1", 384, True)

    def embed(self, texts: Sequence[str]) -> Any:
        raise EmbedderError("the server is gone")

    def embed_query(self, text: str) -> Any:
        raise EmbedderError("the server is gone")

    def close(self) -> None: ...


# ---- stats -----------------------------------------------------------------------------------------------------------
def test_an_empty_memory_has_stats(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    code, out, err = ended(capsys, "stats")
    assert (code, err) == (Exit.OK, "")
    assert [line.split(maxsplit=1) for line in out.splitlines()] == [
        ["folder", str(home)],
        ["holds", "0 entries in 0 namespaces"],
        ["vectors", "0 vectors"],
        ["embedder", "none yet"],
        ["record", "0 B"],
        ["index", "none"],
        ["owner", "nobody"],
    ]
    assert list(home.iterdir()) == []


def test_stats_say_what_is_held_and_who_owns_it(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    memory = LongTermMemory(lambda: home, MemoryConfig())
    home.mkdir(mode=0o700)
    memory.put("a", "text")
    memory.put("b", "fact", kind="fact", namespace="scout")
    _, out, _ = ended(capsys, "stats")
    assert "2 entries in 2 namespaces, 1 fact among them" in out
    assert "hashing 1 (384 dimensions, normalized)" in out
    _, out, _ = ended(capsys, "stats", "--json")
    said = json.loads(out)
    assert (said["entries"], said["facts"], said["vectors"], said["generation"]) == (2, 1, 2, None)
    assert said["owner"] == "this process"
    memory.close()
    assert json.loads(ended(capsys, "stats", "--json")[1])["owner"] is None


def test_stats_of_what_is_unfinished_say_so() -> None:
    spaces = (NamespaceStats("default", 5, 0, 3, 100),)
    said = stats_text(
        Stats("/m", 5, 0, 3, 2, 7, 4, 1, 2048, 4096, "hashing 1", "it \x1b[2J fails", "full\x07", "process 1", spaces)
    )
    lines = dict(line.split(maxsplit=1) for line in said.splitlines())
    assert lines["vectors"] == "3 vectors, 2 still to make"
    assert lines["index"] == r"index-4, 4.0 KiB, 7 writes behind, which fails: full\x07"
    assert lines["record"] == "2.0 KiB, 1 deleted entry to take off the disk: `apxm memory compact`"
    assert lines["embedder"] == r"hashing 1, which fails: it \x1b[2J fails"


def test_stats_of_an_index_that_is_gone_and_of_another_embedder_say_so() -> None:
    found = Stats("/m", 5, 0, 3, 0, 0, 4, 0, 2048, 0, "hashing 1 (384 dimensions, normalized)", None, None, None, ())
    lines = dict(line.split(maxsplit=1) for line in stats_text(found, "openai").splitlines())
    assert lines["index"] == "index-4, which is gone: it is made anew when needed"
    told = "hashing 1 (384 dimensions, normalized); `openai` is set now: `apxm memory rebuild` makes its vectors"
    assert lines["embedder"] == told
    assert "rebuild" not in stats_text(found)


# ---- verify ----------------------------------------------------------------------------------------------------------
def test_a_memory_in_order_is_verified(capsys: pytest.CaptureFixture[str]) -> None:
    ended(capsys, "put", "a", "text")
    code, out, err = ended(capsys, "verify")
    assert (code, err) == (Exit.OK, "")
    assert out.splitlines()[-1] == "everything is in order"
    assert json.loads(ended(capsys, "verify", "--json")[1])["ok"] is True


def test_what_is_not_in_order_is_named_and_ends_with_an_exit_code(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    home.mkdir(mode=0o700)
    memory = LongTermMemory(lambda: home, MemoryConfig(embedder=Fails()))
    entry = memory.put("a", "text")
    memory.close()
    code, out, err = ended(capsys, "verify")
    assert code == Exit.FATAL
    assert f"1 without a vector: {entry.id}" in out
    assert out.splitlines()[-1] == "not in order"
    assert err == "`apxm memory rebuild` sets it right\n"
    code, out, err = ended(capsys, "verify", "--json")
    assert (code, err) == (Exit.FATAL, "")
    said = json.loads(out)
    assert (said["ok"], said["unembedded"]) == (False, {"count": 1, "ids": [entry.id]})


def test_a_report_has_a_line_for_each_thing_that_was_found() -> None:
    report = Report(
        12,
        "index-3: as it was left",
        missing=Finding(4, ("a", "b", "c", "d")),
        extra=Finding(1, ("x",)),
        stale=Finding(1_000, ("s",) * 10),
        damage=("row 7 \x1b[2J is torn",),
    )
    assert report_text(report).splitlines() == [
        "index: index-3: as it was left; 12 vectors looked at",
        "4 missing in the index: a, b, c, …",
        "1 in the index alone: x",
        "1,000 not those of the record: s, s, s, …",
        r"damaged: row 7 \x1b[2J is torn",
        "not in order",
    ]


# ---- rebuild and compact ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("verb", ["rebuild", "compact"])
def test_who_does_not_own_the_folder_is_told_who_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path, verb: str
) -> None:
    home.mkdir(mode=0o700)
    monkeypatch.setenv("APXM_MEMORY_LOCK_TIMEOUT_S", "0")
    memory = LongTermMemory(lambda: home, MemoryConfig())
    memory.put("a", "text")
    code, _, err = ended(capsys, verb)
    assert code == Exit.TRANSIENT
    assert f"error [locked]: {home} is owned by" in err
    memory.close()


def test_what_was_deleted_leaves_the_disk(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    ended(capsys, "put", "a", "purple elephants")
    ended(capsys, "rm", "a")
    code, out, _ = ended(capsys, "compact")
    assert (code, out.splitlines()[-1]) == (Exit.OK, "everything is in order")
    assert not any(b"elephants" in file.read_bytes() for file in home.rglob("*") if file.is_file())
    assert json.loads(ended(capsys, "compact", "--json")[1])["ok"] is True


def test_an_index_that_was_not_compared_is_not_said_to_be_in_order(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Report(3, "cannot be opened", compared=False)
    monkeypatch.setattr(LongTermMemory, "verify", lambda memory, progress: found)
    code, out, _ = ended(capsys, "verify")
    assert code == Exit.FATAL
    assert out.splitlines()[-1] == "the record is in order; the index was not compared with it"
