"""`apxm memory`: what it stores, lists, finds and removes, and what it says where there is nothing."""

from __future__ import annotations

import io
import json
import re
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from apxm.cli.exits import Exit
from apxm.cli.main import main
from apxm.cli.remembered import bytes_text, fitted, snippet
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


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said for a person, where nothing comes out."""
    assert main(["memory", *arguments]) == Exit.OK
    out, err = capsys.readouterr()
    assert out == ""
    return err


def data(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(said(capsys, *arguments, "--json"))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: Exit = Exit.INVALID) -> str:
    assert main(["memory", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    return err


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def opened() -> LongTermMemory:
    settings = load()
    return LongTermMemory(settings.memory_folder, settings.memory_config())


# ---- put and get -----------------------------------------------------------------------------------------------------
def test_what_is_put_is_got(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "put", "capital", "Paris is the capital of France") == "stored `capital` in namespace `default`\n"
    assert said(capsys, "get", "capital") == "Paris is the capital of France\n"
    said(capsys, "put", "capital", '{"name": "Paris"}', "--text", "the capital", "--label", "web", "--label", "tool:read")
    found = data(capsys, "get", "capital")
    assert (found["value"], found["text"], found["labels"]) == ({"name": "Paris"}, "the capital", ["web", "tool:read"])
    assert (found["namespace"], found["key"], found["kind"], found["expires_at"]) == ("default", "capital", "entry", None)
    assert found["updated_at"] > found["created_at"]


def test_metadata_and_an_end_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    stored = data(capsys, "put", "k", "v", "--metadata", '{"lang": "en", "pages": 3}', "--ttl", "60")
    assert stored["metadata"] == {"lang": "en", "pages": 3}
    assert stored["expires_at"] == pytest.approx(stored["created_at"] + 60, abs=1)
    assert data(capsys, "get", "k") == stored


def test_a_value_may_come_from_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for place, arguments in enumerate((["a"], ["a", "-"])):
        typed(monkeypatch, f"line {place}\nand more ä\n")
        said(capsys, "put", *arguments)
        assert said(capsys, "get", "a") == f"line {place}\nand more ä\n"


def test_a_namespace_keeps_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "put", "k", "mine")
    said(capsys, "put", "k", "of the agent", "-n", "scout")
    assert (said(capsys, "get", "k"), said(capsys, "get", "k", "--namespace", "scout")) == ("mine\n", "of the agent\n")


def test_a_value_of_any_kind_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    memory = opened()
    memory.put("bytes", b"\x00\xff")
    memory.put("array", {"grid": np.arange(3, dtype="i4")})
    memory.close()
    assert json.loads(said(capsys, "get", "bytes")) == {"base64": "AP8="}
    assert data(capsys, "get", "array")["value"] == {"grid": {"dtype": "int32", "shape": [3], "data": [0, 1, 2]}}


def test_what_is_not_there_is_named_with_what_is_near(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "put", "capital", "Paris")
    text = refused(capsys, "get", "capitol")
    assert "namespace `default` has no entry `capitol`" in text
    assert "did you mean `capital`?" in text
    assert "the namespace is empty; did you mean `default`?" in refused(capsys, "rm", "x", "-n", "defautl")
    error = json.loads(_out(capsys, Exit.INVALID, "get", "x", "--json"))["error"]
    assert (error["code"], error["class"]) == ("invalid", "invalid")


def _out(capsys: pytest.CaptureFixture[str], code: Exit, *arguments: str) -> str:
    assert main(["memory", *arguments]) == code
    return capsys.readouterr().out


# ---- ls --------------------------------------------------------------------------------------------------------------
def test_namespaces_are_counted_and_entries_listed_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    for key in ("b", "a", "c"):
        said(capsys, "put", key, f"text of {key}", "--metadata", json.dumps({"first": key == "b"}))
    said(capsys, "put", "x", "1", "-n", "scout")
    head, *rows = said(capsys, "ls").splitlines()
    assert head.split() == ["namespace", "entries", "facts", "vectors", "size"]
    assert [row.split()[:3] for row in rows] == [["default", "3", "0"], ["scout", "1", "0"]]
    assert [(one["name"], one["entries"]) for one in data(capsys, "ls")] == [("default", 3), ("scout", 1)]
    head, *rows = said(capsys, "ls", "default").splitlines()
    assert head.split() == ["key", "kind", "changed", "text"]
    assert [row.split()[0] for row in rows] == ["b", "a", "c"]
    assert rows[0].endswith("text of b")
    assert said(capsys, "ls", "scout").splitlines()[1].endswith(" 1")
    assert [one["key"] for one in data(capsys, "ls", "default", "--prefix", "a")] == ["a"]
    assert [one["key"] for one in data(capsys, "ls", "default", "--where", '{"first": false}')] == ["a", "c"]
    assert data(capsys, "ls", "default", "--kind", "fact") == []


def test_a_long_list_is_cut_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for key in "abc":
        said(capsys, "put", key, key)
    assert main(["memory", "ls", "default", "--limit", "2"]) == Exit.OK
    out, err = capsys.readouterr()
    assert (len(out.splitlines()), err) == (3, "there are more; `--limit N` shows them\n")
    assert main(["memory", "ls", "default", "--limit", "3"]) == Exit.OK
    assert capsys.readouterr().err == ""


def test_where_there_is_nothing_it_says_so(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert "nothing is remembered here" in told(capsys, "ls")
    assert told(capsys, "ls", "scout") == "namespace `scout` has no entry\n"
    assert main(["memory", "ls", "\udcff"]) == Exit.INVALID  # a shell passes this on for the byte 255
    assert "`namespace`: the value is text that is not Unicode" in capsys.readouterr().err
    assert "nothing in namespace `default` answers that" in told(capsys, "search", "x")
    assert (data(capsys, "ls"), data(capsys, "ls", "scout"), data(capsys, "search", "x")) == ([], [], [])
    assert list((home / "apxm" / "memory").iterdir()) == []  # who only looks leaves nothing
    said(capsys, "put", "a", "b", "-n", "scouts")
    assert told(capsys, "ls", "scout") == "namespace `scout` has no entry; did you mean `scouts`?\n"
    assert told(capsys, "ls", "scouts", "--prefix", "z") == "namespace `scouts` has no entry like that\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["ls", "--limit", "0"], "--limit is 0"),
        (["ls", "x", "--limit", "5001"], "expected 1 to 5,000"),
        (["search", "x", "--limit", "99999999999999999999"], "--limit is 99999999999999999999"),
        (["ls", "--prefix", "a"], "no namespace is named"),
        (["ls", "x", "--where", "[1]"], "--where is [1], expected a map"),
        (["ls", "x", "--where", "{a: 1}"], "--where is no JSON: '{a: 1}'"),
        (["ls", "x", "--where", '{"a": {"$near": 1}}'], "there is no `$near`"),
        (["put", "k", "v", "--metadata", "3"], "--metadata is 3, expected a map"),
        (["put", "k", "v", "--ttl", "0"], "expected seconds, more than 0"),
        (["put", "", "v"], "memory key ''"),
        (["put", "k" * 2_000, "v"], "memory key"),
        (["put", "k", "v", "-n", ""], "namespace"),
        (["put", "k", "9999999999999999999999"], "64 bits"),
        (["put", "k", "v", "--ttl", "-1"], "--ttl is -1\n  try: expected seconds, more than 0"),
        (["rm"], "`apxm memory rm` was given nothing"),
        (["rm", "k", "--all"], "was given a KEY and --all"),
        (["rm", "", "--all"], "was given a KEY and --all"),
        (["rm", "--prefix", "k", "--all"], "was given --prefix and --all"),
        (["rm", "--prefix", ""], "--prefix is empty"),
        (["ls", "-n", "scout"], "try: NAMESPACE is given without one: apxm memory ls [NAMESPACE] [options]"),
        (["ls", "--namespace=scout"], "try: NAMESPACE is given without one"),
        (["ls", "--knd", "fact"], "did you mean `--kind`?"),
        (["search", "x", "--mode", "fuzzy"], "--mode"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_stored(
    capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert expected in refused(capsys, *arguments)
    assert data(capsys, "ls") == []


# ---- search ----------------------------------------------------------------------------------------------------------
def test_a_search_gives_scores_keys_and_the_place_of_the_hit(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "put", "france", "word " * 60 + "Paris is the capital of France")
    said(capsys, "put", "bread", "flour, water and salt", "--metadata", '{"kind": "recipe"}')
    head, row, *_ = said(capsys, "search", "capital of France").splitlines()
    assert head.split() == ["score", "key", "text"]
    assert row.split()[1] == "france"
    assert "capital" in row
    hit, *_ = data(capsys, "search", "capital of France")
    assert (hit["key"], hit["namespace"]) == ("france", "default")
    assert 0 < hit["score"] <= 1
    assert {"cosine", "lexical", "value", "metadata"} <= set(hit)
    assert [one["key"] for one in data(capsys, "search", "water", "--mode", "lexical")] == ["bread"]
    assert data(capsys, "search", "water", "--where", '{"kind": "letter"}') == []
    assert data(capsys, "search", "water", "--min-score", "1") == []
    assert data(capsys, "search", "water", "-n", "scout") == []
    assert len(data(capsys, "search", "water capital", "--limit", "1")) == 1


def test_a_search_that_the_embedder_does_not_allow_says_that_words_can_be_searched(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said(capsys, "put", "tea", "Ann likes tea")
    monkeypatch.setenv("APXM_MEMORY_EMBEDDER_DIMENSION", "512")
    text = refused(capsys, "search", "tea", code=Exit.FATAL)
    assert "which embeds everything anew; `--mode lexical` searches by words alone" in text
    assert [one["key"] for one in data(capsys, "search", "tea", "--mode", "lexical")] == ["tea"]


@pytest.mark.parametrize(
    ("text", "query", "shown"),
    [
        ("short text", "text", "short text"),
        ("a" * 30 + " needle " + "b" * 30, "NEEDLE x", "…aaaa needle bbbbbb…"),
        ("a" * 60 + " needle", "needle", "…aaaaaaaaaaaa needle"),
        ("is it " + "a" * 30 + " needle. " + "b" * 30, "is the needle?", "…aaaa needle. bbbbb…"),
        ("needle " + "b" * 30, "needle", "needle bbbbbbbbbbbb…"),
        ("a" * 30, "", "a" * 19 + "…"),
        ("tab\tand\nline", "x", "tab and line"),
    ],
)
def test_a_snippet_shows_where_the_query_stands(text: str, query: str, shown: str) -> None:
    assert snippet(text, query, 20) == shown


# ---- rm --------------------------------------------------------------------------------------------------------------
def test_an_entry_is_removed_or_all_of_a_namespace(capsys: pytest.CaptureFixture[str]) -> None:
    for key in "abc":
        said(capsys, "put", key, key)
    said(capsys, "put", "x", "x", "-n", "scout")
    assert said(capsys, "rm", "a") == "deleted 1 entry of namespace `default`\n"
    assert "has no entry `a`" in refused(capsys, "get", "a")
    assert data(capsys, "rm", "--all") == {"namespace": "default", "deleted": 2}
    assert [one["name"] for one in data(capsys, "ls") if one["entries"]] == ["scout"]


def test_a_fact_is_got_and_removed_by_its_id_where_no_entry_has_it_as_key(capsys: pytest.CaptureFixture[str]) -> None:
    memory = opened()
    memory.put("f1", "a fact", kind="fact")
    memory.put("both", "a fact too", kind="fact")
    memory.put("both", "an entry")
    memory.close()
    assert (said(capsys, "get", "f1"), said(capsys, "get", "both")) == ("a fact\n", "an entry\n")
    for key in ("f1", "both"):
        said(capsys, "rm", key)
    assert [(one["key"], one["kind"]) for one in data(capsys, "ls", "default")] == [("both", "fact")]


def test_all_whose_keys_begin_alike_are_removed_and_no_fact(capsys: pytest.CaptureFixture[str]) -> None:
    for key in ("summary a", "summary b", "answer"):
        said(capsys, "put", key, key)
    said(capsys, "put", "summary c", "of another", "-n", "scout")
    memory = opened()
    memory.put("summary of a fact", "a fact", kind="fact")
    memory.close()
    assert said(capsys, "rm", "--prefix", "summary ") == "deleted 2 entries of namespace `default`\n"
    assert [one["key"] for one in data(capsys, "ls", "default")] == ["answer", "summary of a fact"]
    assert [one["key"] for one in data(capsys, "ls", "scout")] == ["summary c"]
    assert data(capsys, "rm", "--prefix", "nothing") == {"namespace": "default", "deleted": 0}


def test_the_beginning_of_an_id_that_a_list_shows_stands_for_the_fact(capsys: pytest.CaptureFixture[str]) -> None:
    id = said(capsys, "facts", "add", "Rust has no garbage collector.").strip()
    assert said(capsys, "get", id[:12]) == "Rust has no garbage collector.\n"
    assert "has no entry" in refused(capsys, "rm", id[:2])
    said(capsys, "rm", id[:12])
    assert data(capsys, "facts") == []


def test_what_another_namespace_has_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "facts", "add", "Plain words help.")
    said(capsys, "put", "motto", "Plain words.", "-n", "scout")
    assert "namespace `scout` has one: -n NAMESPACE" in refused(capsys, "get", "motto")
    assert "there are only facts: `apxm memory facts` lists them" in refused(capsys, "get", "nothing")


# ---- what a terminal is given ----------------------------------------------------------------------------------------
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m"


def test_nothing_that_is_remembered_moves_the_cursor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said(capsys, "put", f"key {HOSTILE}", f"needle {HOSTILE}", "-n", f"space {HOSTILE}")
    where = ("-n", f"space {HOSTILE}")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for arguments in (["ls"], ["ls", where[1]], ["search", "needle", *where], ["get", f"key {HOSTILE}", *where]):
        for more in ([], ["--json"]):
            out = said(capsys, *arguments, *more)
            assert "owned" in out
            assert not set(out) & {"\x07", "\x9b"}
            assert "\x1b]" not in out
            assert "\x1b[2J" not in out
    assert "\x1b" not in refused(capsys, "get", HOSTILE, *where)
    assert "\x1b" not in told(capsys, "search", "zebra", "-n", HOSTILE)


@pytest.mark.parametrize("width", [80, 120])
def test_a_table_fits_the_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    from rich.cells import cell_len

    said(capsys, "put", "clé " * 30, "une très longue phrase 漢字かな交じり文 " * 20)
    said(capsys, "put", "short", "needle")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    for arguments in (["ls"], ["ls", "default"], ["search", "phrase needle"]):
        lines = re.sub("\x1b\\[[0-9;]*m", "", said(capsys, *arguments)).splitlines()
        assert max(map(cell_len, lines)) <= width
        assert len(lines) == len(data(capsys, *arguments)) + 1
    head, *rows = re.sub("\x1b\\[[0-9;]*m", "", said(capsys, "ls", "default")).splitlines()
    assert head.split() == ["key", "kind", "changed", "text"]
    assert all(re.search(r" entry  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", row) for row in rows)


def test_columns_give_way_to_each_other() -> None:
    give = [False, True, True]
    assert fitted([10, 20, 30], give, 64) == [10, 20, 30]
    assert fitted([10, 20, 30], give, 63) == [10, 19, 30]  # 30 counts as 15
    assert fitted([10, 20, 90], give, 64) == [10, 16, 34]
    assert fitted([10, 20, 90], give, 10) == [10, 6, 6]
    assert fitted([10, 20], [False, False], 10) == [10, 20]


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 20, "3.0 MiB"), (5 << 40, "5120.0 GiB")]
)
def test_a_size_is_said_in_its_unit(number: int, text: str) -> None:
    assert bytes_text(number) == text


# ---- an embedder that does not answer --------------------------------------------------------------------------------
def test_what_has_no_vector_yet_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APXM_MEMORY_EMBEDDER", "onnx")
    monkeypatch.setenv("APXM_MEMORY_EMBEDDER_PATH", "gone")
    assert main(["memory", "put", "sea", "salt"]) == Exit.OK
    out, err = capsys.readouterr()
    assert out == "stored `sea` in namespace `default`\n"
    assert err.startswith("warning: what was stored has no vector yet, and only its words are found: ")
    assert [one["key"] for one in data(capsys, "search", "salt", "--mode", "lexical")] == ["sea"]


# ---- folders that cannot be used -------------------------------------------------------------------------------------
def test_a_folder_that_cannot_be_used_is_said_with_its_setting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    (home / "open").mkdir()
    (home / "open").chmod(0o755)
    monkeypatch.setenv("APXM_MEMORY_FOLDER", str(home / "open"))
    assert "the memory folder" in (text := refused(capsys, "ls"))
    assert "environment APXM_MEMORY_FOLDER" in text
    assert "is open to others" in text
    (home / "file").write_text("")
    monkeypatch.setenv("APXM_MEMORY_FOLDER", str(home / "file"))
    assert "set `memory.folder`" in refused(capsys, "put", "a", "b")


def test_the_folder_of_the_settings_is_the_one_that_is_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("APXM_MEMORY_FOLDER", str(home / "mine"))
    said(capsys, "put", "a", "b")
    assert (home / "mine" / "record.db").exists()
    assert not (home / "apxm").exists()


def test_a_record_that_is_none_is_said_with_its_exit_code(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    said(capsys, "put", "a", "b")
    (home / "apxm" / "memory" / "record.db").write_bytes(b"nonsense" * 2_000)
    assert "error [storage]" in refused(capsys, "ls", code=Exit.FATAL)


def test_help_of_the_group_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "--help").splitlines()
    assert lines[0] == "usage: apxm memory COMMAND [options]"
    assert any(line.split()[:2] == ["memory", "search"] for line in lines)
