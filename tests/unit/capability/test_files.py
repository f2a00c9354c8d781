from __future__ import annotations

import ctypes
import os
import stat
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest

from apxm.capability.tools import files
from apxm.capability.tools.files import LIST_MAX, TEXT_MAX, list_files, read, records, write
from apxm.errors import ApxmError, CapabilityError, DeniedError, InvalidError
from apxm.graph.ops import Effect

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A granted directory, with something secret beside it."""
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "granted-not").mkdir()
    (tmp_path / "granted-not" / "near.txt").write_text("secret")
    granted = tmp_path / "granted"
    (granted / "deep" / "er").mkdir(parents=True)
    (granted / "a.txt").write_text("one\ntwo\nthree\n")
    (granted / "b.md").write_text("# B\n")
    (granted / "deep" / "c.md").write_text("c")
    (granted / "deep" / "er" / "d.txt").write_text("d")
    (granted / ".hidden").write_text("h")
    return granted


def roots(*paths: Path) -> tuple[str, ...]:
    return tuple(map(str, paths))


# --- reading ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["a.txt", "./a.txt", "deep/../../granted/a.txt", "deep//er/./d.txt"])
def test_a_path_goes_from_the_root_downwards(root: Path, path: str) -> None:
    if ".." in path:
        with pytest.raises(DeniedError, match=r"has a `\.\.`"):
            read(path, roots=roots(root))
    else:
        assert read(path, roots=roots(root)) == (root / path).read_text()


def test_an_absolute_path_beneath_a_root_is_read(root: Path) -> None:
    assert read(str(root / "deep" / "c.md"), roots=roots(root)) == "c"
    assert read(str(root / "deep" / "c.md"), roots=(f"{root}/",)) == "c"


@pytest.mark.parametrize(
    ("offset", "limit", "text"), [(1, None, "two\nthree\n"), (0, 2, "one\ntwo\n"), (1, 1, "two\n"), (9, 5, ""), (0, 0, "")]
)
def test_some_lines_of_a_file(root: Path, offset: int, limit: int | None, text: str) -> None:
    assert read("a.txt", offset, limit, roots=roots(root)) == text


def test_with_several_roots_the_first_that_has_the_file_counts(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.txt").write_text("other")
    (other / "only.txt").write_text("only")
    assert read("a.txt", roots=roots(root, other)) == "one\ntwo\nthree\n"
    assert read("only.txt", roots=roots(root, other)) == "only"
    assert read(str(other / "a.txt"), roots=roots(root, other)) == "other"


@pytest.mark.parametrize("path", ["none.txt", "deep/none.txt", "none/none.txt"])
def test_a_file_that_is_not_there_is_named(root: Path, path: str) -> None:
    with pytest.raises(CapabilityError, match=f"there is no file '{path}'"):
        read(path, roots=roots(root))


@pytest.mark.parametrize("path", ["", " ", ".", "/", "deep/", "a\0b"])
def test_what_is_no_file_name_is_refused(root: Path, path: str) -> None:
    with pytest.raises(ApxmError):
        read(path, roots=roots(root))


def test_a_directory_or_a_pipe_is_no_file(root: Path) -> None:
    os.mkfifo(root / "pipe")
    for path in ("deep", "pipe"):  # opening the pipe must not wait for a writer
        with pytest.raises(CapabilityError, match="no regular file"):
            read(path, roots=roots(root))
    with pytest.raises(CapabilityError, match="cannot be opened"):
        read("a.txt/b", roots=roots(root))


def test_binary_and_broken_text_is_refused(root: Path) -> None:
    (root / "bin").write_bytes(b"ab\0c")
    (root / "latin").write_bytes("eins\nzw\u00f6lf".encode("latin-1"))
    (root / "bom").write_bytes(b"\xef\xbb\xbfhello")
    with pytest.raises(CapabilityError, match="'bin' is binary: byte 2 is NUL"):
        read("bin", roots=roots(root))
    with pytest.raises(CapabilityError, match=r"'latin' is not UTF-8: .* 0xf6 in line 2"):
        read("latin", roots=roots(root))
    assert read("bom", roots=roots(root)) == "hello"


def test_a_huge_file_is_refused_but_its_lines_can_be_read(root: Path) -> None:
    with open(root / "huge", "wb") as file:
        file.write(b"first\nsecond\n")
        file.truncate(100 * 1024**3)
    with pytest.raises(CapabilityError, match="use offset and limit"):
        read("huge", roots=roots(root))
    assert read("huge", 1, 1, roots=roots(root)) == "second\n"
    with pytest.raises(CapabilityError, match="more text than"):
        read("huge", 2, 1, roots=roots(root))


def test_a_line_far_into_a_huge_file_is_not_looked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SCAN_MAX", 1000)
    (root / "long").write_text("x" * 5000)
    with pytest.raises(CapabilityError, match="further than 1000 bytes"):
        read("long", 1, 1, roots=roots(root))


def test_text_up_to_the_limit_is_read(root: Path) -> None:
    (root / "full").write_text("x" * TEXT_MAX)
    assert len(read("full", roots=roots(root))) == TEXT_MAX


@pytest.mark.parametrize("bad", [{"offset": -1}, {"limit": -1}])
def test_lines_are_counted_upwards(root: Path, bad: dict[str, int]) -> None:
    with pytest.raises(InvalidError):
        read("a.txt", **bad, roots=roots(root))


# --- staying beneath the roots ------------------------------------------------------------------------------------------

ESCAPES = [
    "../secret.txt",
    "deep/../../secret.txt",
    "./../secret.txt",
    "..",
    "/etc/passwd",
    "//etc/passwd",
    "/proc/self/root/etc/passwd",
    "{root}/../secret.txt",
    "{root}-not/near.txt",
    "{root}/deep/../../secret.txt",
]


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.parametrize("tool", ["read", "list", "write"])
def test_no_path_leads_out(root: Path, path: str, tool: str) -> None:
    path = path.format(root=root)
    with pytest.raises(DeniedError):
        call(tool, path, root)
    assert (root.parent / "secret.txt").read_text() == "secret"


def call(tool: str, path: str, root: Path) -> Any:
    match tool:
        case "read":
            return read(path, roots=roots(root))
        case "list":
            return list_files(path, roots=roots(root))
        case _:
            return write(path, "overwritten", roots=roots(root))


@pytest.mark.parametrize("tool", ["read", "write"])
@pytest.mark.parametrize(
    ("link", "target", "path"),
    [
        ("link.txt", "../secret.txt", "link.txt"),
        ("inside.txt", "a.txt", "inside.txt"),
        ("up", "..", "up/secret.txt"),
        ("deep/up", "../..", "deep/up/secret.txt"),
        ("out", "/etc", "out/passwd"),
        ("dangling", "../new.txt", "dangling"),
        ("loop", "loop", "loop"),
    ],
)
def test_symbolic_links_are_not_followed(root: Path, tool: str, link: str, target: str, path: str) -> None:
    (root / link).symlink_to(target)
    with pytest.raises(ApxmError, match="symbolic link"):
        call(tool, path, root)
    assert (root.parent / "secret.txt").read_text() == "secret"
    assert (root / "a.txt").read_text() == "one\ntwo\nthree\n"
    assert not (root.parent / "new.txt").exists()


def test_an_append_does_not_follow_a_link_either(root: Path) -> None:
    (root / "link.txt").symlink_to("../secret.txt")
    with pytest.raises(DeniedError, match="symbolic link"):
        write("link.txt", "more", True, roots=roots(root))
    assert (root.parent / "secret.txt").read_text() == "secret"


def test_a_list_does_not_look_behind_links(root: Path) -> None:
    (root / "up").symlink_to("..")
    (root / "link.txt").symlink_to("a.txt")
    assert list_files(roots=roots(root)) == ["a.txt", "b.md", "deep/c.md", "deep/er/d.txt"]
    with pytest.raises(DeniedError, match="symbolic link"):
        list_files("up", roots=roots(root))


def test_the_root_itself_may_be_reached_through_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(root)
    assert read("b.md", roots=roots(tmp_path / "way")) == "# B\n"


def test_swapping_a_directory_for_a_link_meanwhile_leads_nowhere(root: Path) -> None:
    """Another thread exchanges `deep` and a link to the outside as fast as it can, in one step each time."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "c.md").write_text("secret")
    (root / "link").symlink_to(outside)
    stop, exchange = Event(), 2
    rename, here = ctypes.CDLL(None).renameat2, -100  # AT_FDCWD

    def swap() -> None:
        while not stop.is_set():
            assert rename(here, os.fsencode(root / "deep"), here, os.fsencode(root / "link"), exchange) == 0

    swapper = Thread(target=swap)
    swapper.start()
    outcomes = set()
    try:
        for number in range(1500):
            try:
                text = read("deep/c.md", roots=roots(root))
                assert text != "secret"
                assert not any("secret" in path for path in list_files(roots=roots(root)))
                write(f"deep/w{number % 3}", "mine", roots=roots(root))
                outcomes.add("done")
            except ApxmError as error:
                outcomes.add(type(error).__name__)
    finally:
        stop.set()
        swapper.join()
    assert "done" in outcomes
    assert outcomes <= {"done", "DeniedError", "CapabilityError"}
    assert os.listdir(outside) == ["c.md"]


# --- listing ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, ["a.txt", "b.md", "deep/c.md", "deep/er/d.txt"]),
        ({"patterns": ["*.md"]}, ["b.md", "deep/c.md"]),
        ({"patterns": ["*.md", "*.txt"]}, ["a.txt", "b.md", "deep/c.md", "deep/er/d.txt"]),
        ({"patterns": ["deep/*.md"]}, ["deep/c.md"]),
        ({"patterns": ["**/*.md"]}, ["b.md", "deep/c.md"]),
        ({"patterns": ["*.MD"]}, []),
        ({"recursive": False}, ["a.txt", "b.md"]),
        ({"path": "deep"}, ["deep/c.md", "deep/er/d.txt"]),
        ({"path": "./deep/", "patterns": ["er/*"]}, ["deep/er/d.txt"]),
        ({"limit": 2}, ["a.txt", "b.md"]),
        ({"limit": 0}, []),
        ({"hidden": True, "recursive": False}, [".hidden", "a.txt", "b.md"]),
    ],
    ids=str,
)
def test_what_a_list_finds(root: Path, options: dict[str, Any], found: list[str]) -> None:
    assert list_files(**options, roots=roots(root)) == found


def test_what_is_listed_can_be_read(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.txt").write_text("other")
    for granted in (roots(root), roots(root, other)):
        texts = [read(path, roots=granted) for path in list_files(patterns=["a.txt"], roots=granted)]
        assert texts == ["one\ntwo\nthree\n", "other"][: len(granted)]


def test_a_list_of_a_directory_that_is_not_there_is_refused(root: Path) -> None:
    with pytest.raises(CapabilityError, match="there is no directory 'none'"):
        list_files("none", roots=roots(root))
    with pytest.raises(CapabilityError, match="cannot be opened"):
        list_files("a.txt", roots=roots(root))
    with pytest.raises(CapabilityError, match=r"granted directory .* cannot be opened"):
        list_files(roots=roots(root / "gone"))


def test_too_many_files_are_refused_unless_a_limit_says_how_many(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LIST_MAX", 3)
    with pytest.raises(CapabilityError, match="4 files are too many"):
        list_files(roots=roots(root))
    assert list_files(limit=2, roots=roots(root)) == ["a.txt", "b.md"]
    assert LIST_MAX >= 1000


def test_looking_around_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "VISIT_MAX", 3)
    with pytest.raises(CapabilityError, match="more than 3 entries"):
        list_files(roots=roots(root))


@pytest.mark.parametrize("bad", [{"patterns": []}, {"patterns": ["*"] * 100}, {"patterns": ["x" * 1000]}, {"limit": -1}], ids=str)
def test_patterns_and_limits_are_bounded(root: Path, bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        list_files(**bad, roots=roots(root))


def test_a_name_that_is_not_unicode_is_left_out(root: Path) -> None:
    with open(os.fsencode(root) + b"/\xff.txt", "w"):
        pass
    assert list_files(recursive=False, roots=roots(root)) == ["a.txt", "b.md"]


# --- writing ------------------------------------------------------------------------------------------------------------


def test_a_file_is_written_with_the_directories_above_it(root: Path) -> None:
    assert write("new/dir/x.md", "hé", roots=roots(root)) == {"path": "new/dir/x.md", "bytes": 3}
    assert (root / "new" / "dir" / "x.md").read_text() == "hé"
    assert sorted(os.listdir(root / "new" / "dir")) == ["x.md"]


def test_a_file_is_replaced_as_a_whole_and_keeps_its_permissions(root: Path) -> None:
    os.chmod(root / "a.txt", 0o600)
    old = open(root / "a.txt")  # noqa: SIM115
    write("a.txt", "new", roots=roots(root))
    assert old.read() == "one\ntwo\nthree\n"  # whoever had it open reads the old text to its end
    old.close()
    assert (root / "a.txt").read_text() == "new"
    assert stat.S_IMODE(os.stat(root / "a.txt").st_mode) == 0o600


def test_a_text_is_added_at_the_end(root: Path) -> None:
    write("log", "one\n", True, roots=roots(root))
    write("log", "two\n", True, roots=roots(root))
    assert (root / "log").read_text() == "one\ntwo\n"


def test_with_several_roots_the_first_is_written_to(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write("x", "1", roots=roots(root, other))
    write(str(other / "y"), "2", roots=roots(root, other))
    assert (root / "x").exists()
    assert (other / "y").exists()


def test_a_write_that_fails_leaves_nothing_behind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CapabilityError, match=r"'a\.txt' cannot be written: No space left"):
        write("a.txt", "new", roots=roots(root))
    assert (root / "a.txt").read_text() == "one\ntwo\nthree\n"
    assert sorted(os.listdir(root)) == [".hidden", "a.txt", "b.md", "deep"]


def test_a_directory_is_not_replaced(root: Path) -> None:
    with pytest.raises(CapabilityError, match="no regular file"):
        write("deep", "x", roots=roots(root))
    with pytest.raises(CapabilityError, match=r"cannot be made|cannot be opened"):
        write("a.txt/x", "x", roots=roots(root))


def test_what_cannot_be_written_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "WRITE_MAX", 3)
    with pytest.raises(InvalidError, match="at most 3"):
        write("x", "four", roots=roots(root))
    with pytest.raises(InvalidError, match="not Unicode"):
        write("x", "\ud800", roots=roots(root))


def test_no_descriptor_is_left_open(root: Path) -> None:
    (root / "link").symlink_to("a.txt")
    before = len(os.listdir("/proc/self/fd"))
    for path in ("a.txt", "none", "link", "deep", "../x", "a.txt/b"):
        for tool in ("read", "list", "write"):
            if (path, tool) != ("a.txt", "write"):
                try:
                    call(tool, path, root)
                except ApxmError:
                    continue
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_tools_are_described_and_classed() -> None:
    tools = records()
    assert {name: record.effect for name, record in tools.items()} == {
        "read": Effect.READ,
        "list": Effect.READ,
        "write": Effect.GUARDED,
    }
    for record in tools.values():
        assert record.run == "thread"
        assert "roots" not in record.parameters["properties"]
        assert all("description" in parameter for parameter in record.parameters["properties"].values())
