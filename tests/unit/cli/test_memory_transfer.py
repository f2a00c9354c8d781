"""`apxm memory export` and `import`: a memory goes through a file and is the same on the other side, or nothing happens."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from apxm.cli import memory_transfer
from apxm.cli.exits import Exit
from apxm.cli.main import main
from apxm.errors import StorageError
from apxm.fault import at_faults
from apxm.memory.ltm.system import LongTermMemory
from apxm.settings import load

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["memory", *arguments]) == Exit.OK, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["memory", *arguments]) == Exit.INVALID
    return capsys.readouterr().err


def opened() -> LongTermMemory:
    settings = load()
    return LongTermMemory(settings.memory_folder, settings.memory_config())


def elsewhere(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("APXM_MEMORY_FOLDER", str(folder))


def fill(count: int = 5) -> None:
    memory = opened()
    memory.put("bytes", b"\x00\xff", text="some bytes", labels=("web", "llm:x"))
    memory.put("array", {"grid": np.arange(3, dtype="i4")}, metadata={"lang": "en", "tags": ["a"], "n": 1.0, "none": None})
    memory.put("f1", "a fact", kind="fact", ttl_ms=3_600_000)
    memory.put("unicode \x1b[2J 漢字", ["ä", {"": -0.0}, 2**63 - 1, 1.0, True])
    for number in range(count):
        memory.put(f"k{number}", {"number": number}, namespace="scout")
    memory.close()


def keys(namespace: str | None = None) -> list[str]:
    memory = opened()
    found = [entry.key for entry in memory.list(namespace=namespace, limit=10_000)]
    memory.close()
    return found


# ---- there and back --------------------------------------------------------------------------------------------------
def test_what_was_exported_imported_and_exported_again_is_the_same_bytes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    fill()
    said(capsys, "export", "--all", "first.jsonl")
    elsewhere(monkeypatch, home / "other")
    assert said(capsys, "import", "first.jsonl") == "imported 9 entries\n"
    said(capsys, "export", "--all", "second.jsonl")
    first = (home / "first.jsonl").read_bytes()
    assert first == (home / "second.jsonl").read_bytes()
    assert first.count(b"\n") == 10
    assert json.loads(first.splitlines()[0])["apxm_memory"] == 1
    assert said(capsys, "search", "number", "-n", "scout", "--json") != "[]\n"


def test_an_export_goes_through_a_pipe(capsysbinary: Any, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    fill()
    assert main(["memory", "export", "--all"]) == Exit.OK
    first = capsysbinary.readouterr().out
    elsewhere(monkeypatch, home / "other")
    reading, writing = os.pipe()
    os.write(writing, first)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(pipe))
        assert main(["memory", "import"]) == Exit.OK
    capsysbinary.readouterr()
    assert main(["memory", "export", "--all", "-"]) == Exit.OK
    assert capsysbinary.readouterr().out == first


def test_an_export_is_of_one_namespace_unless_all_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    fill(2)
    assert [json.loads(line)["key"] for line in said(capsys, "export", "-n", "scout").splitlines()[1:]] == ["k0", "k1"]
    assert {json.loads(line)["namespace"] for line in said(capsys, "export").splitlines()[1:]} == {"default"}
    assert len(said(capsys, "export", "--all").splitlines()) == 7


def test_many_pages_are_written_and_read(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setattr(memory_transfer, "PAGE", 4)
    monkeypatch.setattr(memory_transfer, "READ_PAGE", 2)
    fill(5)
    assert json.loads(said(capsys, "export", "--all", "e.jsonl", "--json")) == {"file": "e.jsonl", "entries": 9}
    elsewhere(monkeypatch, home / "other")
    assert json.loads(said(capsys, "import", "e.jsonl", "--json")) == {"entries": 9, "skipped": 0}
    assert keys("scout") == [f"k{number}" for number in range(5)]
    monkeypatch.setattr(memory_transfer, "PAGE_BYTES", 1)
    assert json.loads(said(capsys, "import", "e.jsonl", "--replace", "--json")) == {"entries": 9, "skipped": 0}


def test_what_is_written_meanwhile_is_exported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_transfer, "READ_PAGE", 1)
    memory = opened()
    for key in "abc":
        memory.put(key, "old")
    found: list[tuple[str, str]] = []
    for lines in memory_transfer._pages(memory, None, []):
        said = [json.loads(line) for line in lines]
        found += [(one["key"], one["value"]) for one in said if "key" in one]
        if found == [("a", "old")]:
            memory.put("a", "new")
            memory.put("b", "new")
    memory.close()
    assert sorted(found) == [("a", "old"), ("b", "new"), ("c", "old")]


def test_nothing_exported_is_a_header(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    (line,) = said(capsys, "export").splitlines()
    (home / "e.jsonl").write_text(line)
    assert said(capsys, "import", "e.jsonl") == "imported 0 entries\n"
    assert keys() == []


# ---- what is there already -------------------------------------------------------------------------------------------
def test_what_is_there_is_replaced_or_skipped_only_when_asked(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    said(capsys, "put", "a", "old")
    said(capsys, "export", "e.jsonl")
    said(capsys, "put", "a", "new")
    with (home / "e.jsonl").open("a") as out:
        out.write(json.dumps({**json.loads((home / "e.jsonl").read_text().splitlines()[1]), "key": "b"}) + "\n")
    text = refused(capsys, "import", "e.jsonl")
    assert "line 2 has `a` of namespace `default`, which is there already" in text
    assert keys() == ["a"]
    assert said(capsys, "import", "e.jsonl", "--skip") == "imported 1 entry, skipped 1\n"
    assert (said(capsys, "get", "a"), said(capsys, "get", "b")) == ("new\n", "old\n")
    assert said(capsys, "import", "e.jsonl", "--replace") == "imported 2 entries\n"
    assert said(capsys, "get", "a") == "old\n"
    assert "exclude each other" in refused(capsys, "import", "e.jsonl", "--replace", "--skip")


# ---- files that are none ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("last", [b"{", b"\xff", b'{"key": 1}', None, b'"x"'])
def test_one_bad_line_and_nothing_is_imported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path, last: bytes | None
) -> None:
    monkeypatch.setattr(memory_transfer, "PAGE", 1)
    fill(2)
    said(capsys, "export", "--all", "e.jsonl")
    data = (home / "e.jsonl").read_bytes()
    (home / "e.jsonl").write_bytes(data + (last or data.splitlines()[-1]) + b"\n")
    elsewhere(monkeypatch, home / "other")
    assert "line 8 " in refused(capsys, "import", "e.jsonl")
    assert keys() == []


@pytest.mark.parametrize(
    "fields",
    [{"key": ""}, {"key": "k" * 5_000}, {"namespace": ""}, {"metadata": {"a": {"b": 1}}}, {"labels": [1]}, {"text": "\ud800"}],
)
def test_what_cannot_be_stored_is_found_before_anything_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path, fields: dict[str, Any]
) -> None:
    monkeypatch.setattr(memory_transfer, "PAGE", 1)
    fill(0)
    said(capsys, "export", "e.jsonl")
    data = (home / "e.jsonl").read_text().splitlines()
    bad = json.dumps({**json.loads(data[-1]), **fields})
    (home / "e.jsonl").write_text("\n".join([*data, bad]) + "\n")
    elsewhere(monkeypatch, home / "other")
    assert f"line {len(data) + 1} " in refused(capsys, "import", "e.jsonl")
    assert keys() == []


def test_an_import_that_is_broken_off_says_how_far_it_came_and_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr(memory_transfer, "PAGE", 2)
    fill(3)
    said(capsys, "export", "--all", "e.jsonl")
    elsewhere(monkeypatch, home / "other")
    commits: list[str] = []

    def full(site: str) -> None:
        commits.append(site)
        if commits.count("ltm.record.before_commit") == 3:
            raise StorageError("the disk is full")

    with at_faults(full):
        assert main(["memory", "import", "e.jsonl"]) == Exit.FATAL
    err = capsys.readouterr().err
    assert "4 of 7 entries were imported before that; --skip leaves them when it goes on\n" in err
    assert "error [storage]: the disk is full" in err
    assert len(keys()) == 4
    assert said(capsys, "import", "e.jsonl", "--skip") == "imported 3 entries, skipped 4\n"


def test_a_file_that_cannot_be_read_or_written_is_named(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert "cannot read gone.jsonl: No such file" in refused(capsys, "import", "gone.jsonl")
    assert "cannot read .: Is a directory" in refused(capsys, "import", ".")
    assert "cannot write no/e.jsonl: No such file" in refused(capsys, "export", "no/e.jsonl")
    assert "both want it" in json.loads(_out(capsys, "export", "--json"))["error"]["message"]


def _out(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["memory", *arguments]) == Exit.INVALID
    return capsys.readouterr().out


def test_an_export_is_private_and_whole_or_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    fill(1)
    said(capsys, "export", "e.jsonl")
    assert (home / "e.jsonl").stat().st_mode & 0o777 == 0o600
    before = (home / "e.jsonl").read_bytes()

    def torn(self: LongTermMemory, **asked: Any) -> list[Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(LongTermMemory, "list", torn)
    assert main(["memory", "export", "e.jsonl"]) == Exit.INTERRUPTED
    assert (home / "e.jsonl").read_bytes() == before
    assert sorted(one.name for one in home.iterdir()) == ["apxm", "e.jsonl"]


def test_an_export_goes_on_past_damaged_entries_and_says_which(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr(memory_transfer, "READ_PAGE", 2)
    fill(5)
    record = sqlite3.connect(home / "apxm/memory/record.db")
    record.execute("UPDATE entries SET crc = crc + 1 WHERE key IN ('bytes', 'array', 'k3')")
    record.commit()
    record.close()
    assert main(["memory", "export", "--all", "e.jsonl", "--json"]) == Exit.FATAL
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert (told["entries"], len(told["left_out"])) == (6, 3)
    assert "left out: the entry `k3` in `scout` is damaged" in said.err
    assert "3 entries could not be read and were left out" in said.err
    elsewhere(monkeypatch, home / "other")
    assert main(["memory", "import", "e.jsonl"]) == Exit.OK
    assert keys() == ["f1", "unicode \x1b[2J 漢字", "k0", "k1", "k2", "k4"]


def test_an_export_goes_where_a_link_leads_and_into_a_pipe(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    fill(1)
    (home / "real.jsonl").write_text("old")
    (home / "link.jsonl").symlink_to("real.jsonl")
    said(capsys, "export", "link.jsonl")
    assert (home / "link.jsonl").is_symlink()
    assert (home / "real.jsonl").read_text().startswith('{"apxm_memory"')
    os.mkfifo(home / "pipe")
    with open(os.open(home / "pipe", os.O_RDWR), "rb") as pipe:  # so that whoever writes need not wait for a reader
        said(capsys, "export", "pipe")
        assert (home / "pipe").is_fifo()
        assert pipe.readline() + pipe.readline() == b"".join((home / "real.jsonl").read_bytes().splitlines(keepends=True)[:2])


def test_an_export_on_a_terminal_moves_no_cursor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    memory = opened()
    memory.put("k", "\x9b31m\x1b[2J\x7f")
    memory.close()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert not set(said(capsys, "export")) & {"\x9b", "\x1b", "\x7f"}
