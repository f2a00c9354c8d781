"""The file of the record: made when first written, refused when it is not ours, readable where nothing can be written."""

from __future__ import annotations

import os
import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest

from apxm.database import HINTS
from apxm.errors import StorageError
from apxm.memory.ltm.entry import Put, entry_id
from apxm.memory.ltm.record import Record
from apxm.memory.ltm.tables import FILE, open_for_writing
from tests.unit.memory.ltm.stores import quick_folder

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = 65534


def test_writing_makes_a_file_that_only_its_owner_may_read(tmp_path):
    db = open_for_writing(tmp_path / FILE)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    told = {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "secure_delete")}
    assert told == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1}
    db.close()


@pytest.mark.parametrize(
    "content", [b"no database, but long enough to look like one\n" * 200, b"SQLite format 3\0" + b"x" * 5000]
)
def test_what_is_no_database_is_refused_and_kept(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    record = Record(tmp_path)
    for use in (record.last_seq, lambda: record.write([(Put("a", "b", 1, ""), None)], [])):
        with pytest.raises(StorageError, match=r"record\.db is damaged or no file of apxm"):
            use()
    assert (tmp_path / FILE).read_bytes() == content
    record.close()


def test_a_link_to_nowhere_is_not_followed(tmp_path):
    (tmp_path / FILE).symlink_to(tmp_path / "elsewhere.db")
    record = Record(tmp_path)
    with pytest.raises(StorageError, match=r"record\.db cannot be used"):
        record.set_meta(a="b")
    assert not (tmp_path / "elsewhere.db").exists()


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path):
    (tmp_path / FILE).mkdir()
    record = Record(tmp_path)
    with pytest.raises(StorageError, match=r"record\.db cannot be used"):
        record.last_seq()
    with pytest.raises(StorageError, match=r"record\.db cannot be used"):
        record.set_meta(a="b")


def test_a_folder_that_cannot_be_written_is_read_and_writing_to_it_says_so():
    with quick_folder() as folder:
        record = Record(folder)
        record.write([(Put("a", "k", "value", "hello"), None)], [])
        beside_an_owner = read_by_another(folder)
        record.close()
        assert beside_an_owner == read_by_another(folder)
        assert beside_an_owner == f"value 1 1 storage {HINTS[sqlite3.SQLITE_READONLY]}"


def test_a_reader_without_a_place_for_locks_sees_what_is_written_later():
    with quick_folder() as folder:
        record = Record(folder)
        for value in ("first", "second"):
            record.write([(Put("a", "k", value, "hello"), None)], [])
            record.close()
            assert read_by_another(folder).startswith(value)


def read_by_another(folder: Path) -> str:
    """What somebody finds who may read the folder, and write nothing in it: a child that has given its rights away."""
    folder.parent.chmod(0o711)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o555 if path.is_dir() else 0o444)
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            os.write(into, said_of(folder).encode())
        finally:
            os._exit(0)
    os.close(into)
    with os.fdopen(out) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return said


def said_of(folder: Path) -> str:
    record = Record(folder)
    try:
        entry = record.get(entry_id("a", "entry", "k"), 0.0)
        found = f"{entry.value} {len(record.lexical('a', 'hello', 5, None))} {entry.seq}"
        record.set_meta(a="b")
    except StorageError as error:
        return f"{found} {error.code} {error.hint}"
    return "it could be written"
