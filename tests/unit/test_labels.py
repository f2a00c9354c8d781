from __future__ import annotations

from threading import Barrier, Thread

from apxm.labels import MANY, MANY_BIT, SOURCES_MAX, LabelTable


def test_every_source_has_a_bit_of_its_own_and_keeps_it() -> None:
    table = LabelTable()
    user, web = table.bit("user"), table.bit("web")
    assert user != web
    assert user & web == 0
    assert table.bit("user") == user
    assert table.names(user | web) == ("user", "web")


def test_no_labels_are_no_bits() -> None:
    table = LabelTable(["user"])
    assert table.bits(()) == 0
    assert table.names(0) == ()


def test_joining_sets_joins_their_names() -> None:
    table = LabelTable()
    joined = table.bits(["a", "b"]) | table.bits(["b", "c"])
    assert table.names(joined) == ("a", "b", "c")


def test_sources_past_the_first_64_are_many() -> None:
    table = LabelTable(f"s{number}" for number in range(SOURCES_MAX))
    assert table.bit("one more") == table.bit("and another") == MANY_BIT
    assert table.names(table.bits(["s3", "one more"])) == ("s3", MANY)
    assert len(table) == SOURCES_MAX
    assert table.bit(MANY) == MANY_BIT


def test_threads_that_meet_the_same_new_source_get_the_same_bit() -> None:
    table, barrier, found = LabelTable(), Barrier(4), []

    def intern() -> None:
        barrier.wait()
        found.append([table.bit(f"s{number}") for number in range(200)])

    threads = [Thread(target=intern) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(table) == SOURCES_MAX
    for row in found:
        assert all(bit == table.bit(f"s{number}") for number, bit in enumerate(row))
