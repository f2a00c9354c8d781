"""The writer: in order, together, all of it or nothing; whoever waits hears of it; nothing that was accepted is lost."""

from __future__ import annotations

import linecache
import os
import subprocess
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from apxm.errors import InvalidError, LockedError, StorageError, TransientError
from apxm.memory.ltm import writer as module
from apxm.memory.ltm.entry import Put
from apxm.memory.ltm.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Disk:
    """Where batches go: it can be stopped, and it can fail."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Event()
        self.fails: dict[str, BaseException] = {}

    def commit(self, writes: Sequence[Put | str]) -> list[Any]:
        self.begun.set()
        assert self.go.wait(30)
        keys = [one if isinstance(one, str) else one.key for one in writes]
        for key in keys:
            if key in self.fails:
                raise self.fails[key]
        self.batches.append(keys)
        return [f"done {key}" for key in keys]


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def writer(disk) -> Iterator[Writer]:
    found = Writer(disk.commit, batch_ms=0, batch_max=4)
    yield found
    disk.go.set()
    found.close()


def put(key: str, text: str = "") -> Put:
    return Put("n", key, None, text)


def test_what_was_written_is_told_to_who_wrote_it(writer, disk):
    assert writer.submit([put("a"), "b", put("c")]).result(10) == ["done a", "done b", "done c"]
    assert disk.batches == [["a", "b", "c"]]
    writer.flush()
    assert not writer.pending


def test_what_comes_while_the_disk_is_busy_is_written_together_in_order_and_within_the_bound(writer, disk):
    disk.go.clear()
    first = writer.submit([put("0")])
    assert disk.begun.wait(10)
    others = [writer.submit([put(str(n)), str(n)]) for n in range(1, 4)]
    large = writer.submit([put(f"large{n}") for n in range(6)])  # at once, though it is more than the bound
    assert writer.pending
    assert not first.done()
    disk.go.set()
    assert large.result(10)[-1] == "done large5"
    assert [one.result(10)[0] for one in others] == ["done 1", "done 2", "done 3"]
    assert disk.batches == [["0"], ["1", "1", "2", "2"], ["3", "3"], [f"large{n}" for n in range(6)]]


def test_writes_within_the_time_of_a_batch_wait_for_each_other(disk):
    writer = Writer(disk.commit, batch_ms=60_000, batch_max=3)
    futures = [writer.submit([put(key)]) for key in "abc"]
    assert [future.result(10) for future in futures] == [["done a"], ["done b"], ["done c"]]
    assert disk.batches == [["a", "b", "c"]]
    last = writer.submit([put("d")])
    writer.flush()  # nobody waits for more
    assert last.done()
    writer.close()


def test_only_what_cannot_be_written_fails(writer, disk):
    disk.fails["bad"] = StorageError("no")
    disk.go.clear()
    writer.submit([put("0")])
    assert disk.begun.wait(10)
    futures = {key: writer.submit([put(key)]) for key in ("a", "bad", "b")}
    disk.go.set()
    assert (futures["a"].result(10), futures["b"].result(10)) == (["done a"], ["done b"])
    with pytest.raises(StorageError, match="no"):
        futures["bad"].result(10)
    assert disk.batches == [["0"], ["a"], ["b"]]


def test_who_waits_for_the_owner_waits_once(writer, disk):
    disk.go.clear()
    writer.submit([put("0")])
    assert disk.begun.wait(10)
    asked = []

    class Locked(dict):
        def __contains__(self, key: object) -> bool:
            asked.append(key)
            return True

        def __getitem__(self, key: str) -> BaseException:
            return LockedError("somebody has it", hint="wait")

    disk.fails = Locked()
    futures = [writer.submit([put(key)]) for key in "abc"]
    disk.go.set()
    errors = [future.exception(10) for future in futures]
    assert [(type(error), str(error)) for error in errors] == [(LockedError, "somebody has it; wait")] * 3
    assert len(set(map(id, errors))) == 3  # what is noted on one is not on the others
    assert asked == ["0", "a"]  # one try for the three of them


def test_who_brings_more_than_fits_waits(disk, monkeypatch):
    monkeypatch.setattr(module, "WAITING_MAX", 3)
    monkeypatch.setattr(module, "WAITING_CHARS_MAX", 10)
    writer = Writer(disk.commit, batch_ms=0, batch_max=1)
    disk.go.clear()
    writer.submit([put(f"too many{n}") for n in range(5)])  # alone it may have any size
    accepted = threading.Event()

    def bring() -> None:
        writer.submit([put("a", "x" * 8)])
        accepted.set()
        writer.submit([put("b", "x" * 8)]).result(10)

    thread = threading.Thread(target=bring)
    thread.start()
    waits = not accepted.wait(0.05)
    disk.go.set()
    thread.join(10)
    assert waits
    assert disk.batches[1:] == [["a"], ["b"]]
    writer.close()
    assert (writer._waiting, writer._chars) == (0, 0)


def test_closing_writes_what_was_accepted_and_takes_no_more(writer, disk):
    disk.go.clear()
    futures = [writer.submit([put(str(n))]) for n in range(10)]
    thread = threading.Thread(target=writer.close)
    thread.start()
    disk.go.set()
    thread.join(10)
    assert all(future.done() for future in futures)
    with pytest.raises(InvalidError, match="closed"):
        writer.submit([put("late")])
    writer.close()


def test_who_stops_waiting_takes_nothing_back(writer, disk):
    disk.go.clear()
    future = writer.submit([put("a")])
    assert not future.cancel()
    disk.go.set()
    assert future.result(10) == ["done a"]


def test_nobody_is_there_while_nothing_is_written(writer, disk):
    before = set(threading.enumerate())
    disk.go.clear()
    writer.submit([put("a")])
    (thread,) = set(threading.enumerate()) - before
    disk.go.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_forked_child_does_not_write_what_its_parent_accepted(writer, disk):
    disk.go.clear()
    theirs = writer.submit([put("parent")])
    assert disk.begun.wait(10)
    child = os.fork()
    if child == 0:
        disk.go = threading.Event()
        disk.go.set()
        os._exit(0 if writer.submit([put("child")]).result(10) == ["done child"] and disk.batches == [["child"]] else 1)
    assert os.waitpid(child, 0)[1] == 0
    disk.go.set()
    assert theirs.result(10) == ["done parent"]
    assert disk.batches == [["parent"]]


ENDS = """
import sys
from apxm.memory.ltm.entry import Put
from apxm.memory.ltm.writer import Writer

def commit(writes):
    sys.stdout.write("".join(one.key for one in writes))
    sys.stdout.flush()
    return writes

writer = Writer(commit, batch_ms=20, batch_max=2)
for key in "abcde":
    writer.submit([Put("n", key, None, "")])
"""


def test_a_program_that_ends_loses_nothing_that_was_accepted():
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("abcde", "", 0)


def interrupted(call, at: int) -> bool:
    """Call; raise KeyboardInterrupt before the `at`-th line of the writer that runs on this thread. Whether there is one.

    Not where a `with` ends or a `try` begins: there the interpreter looks for no signal.
    """
    lines = 0

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal lines
        if frame.f_code.co_filename != module.__file__:
            return None
        if event == "line" and not linecache.getline(module.__file__, frame.f_lineno).strip().startswith(("with ", "try:")):
            lines += 1
            if lines == at:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("what", ["submit", "offer", "flush"])
def test_who_is_interrupted_anywhere_leaves_a_writer_that_works(disk, what):
    at = 0
    while True:
        at += 1
        writer = Writer(disk.commit, batch_ms=0, batch_max=4)
        writer.submit([put("a")])
        call = getattr(writer, what)
        hit = interrupted(call if what == "flush" else partial(call, [put("b")]), at)
        assert writer.submit([put("c")]).result(10) == ["done c"]
        flushed = threading.Thread(target=writer.flush, daemon=True)
        flushed.start()
        flushed.join(10)
        assert not flushed.is_alive()
        assert not writer.pending
        writer.close()
        assert (writer._waiting, writer._chars, writer._queued) == (0, 0, 0)
        if not hit:
            break
    assert at > 5


def test_what_an_interrupt_left_behind_is_written_before_the_end(disk, monkeypatch):
    writer = Writer(disk.commit, batch_ms=0, batch_max=4)
    with monkeypatch.context() as patch:
        patch.setattr(writer, "_work", lambda: None)  # it came before there was a thread
        left = writer.submit([put("a")])
    assert writer.pending
    writer.close()
    assert left.result(0) == ["done a"]


def test_who_cannot_wait_is_told_that_there_is_no_room(disk, monkeypatch):
    monkeypatch.setattr(module, "WAITING_CHARS_MAX", 10)
    writer = Writer(disk.commit, batch_ms=0, batch_max=1)
    disk.go.clear()
    assert writer.offer([put("a", "x" * 8)]) is not None
    assert writer.offer([put("b", "x" * 8)]) is None
    small = writer.offer([put("c", "xx")])
    disk.go.set()
    assert small is not None
    assert small.result(10) == ["done c"]
    writer.close()
    with pytest.raises(InvalidError, match="closed"):
        writer.offer([put("late")])
    assert disk.batches == [["a"], ["c"]]


def test_what_fails_for_all_is_tried_once(writer, disk):
    disk.go.clear()
    writer.submit([put("0")])
    assert disk.begun.wait(10)
    futures = [writer.submit([put(key)]) for key in "abc"]
    tries = []

    def commit(writes: Sequence[Put | str]) -> list[Any]:
        tries.append(len(writes))
        raise TransientError("others kept it for more than 5 s")

    writer._commit = commit
    disk.go.set()
    assert [type(future.exception(10)) for future in futures] == [TransientError] * 3
    assert tries == [3]


def test_threads_write_at_once_and_each_in_its_order(disk):
    writer = Writer(disk.commit, batch_ms=0, batch_max=50)

    def write(name: str) -> None:
        for number in range(200):
            writer.submit([put(f"{name} {number}")])

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.flush()
    written = [key.split() for batch in disk.batches for key in batch]
    assert all([int(number) for of, number in written if of == name] == list(range(200)) for name in "abcd")
    assert max(map(len, disk.batches)) <= 50
    writer.close()
