"""The events of a run are kept in order, within bounds, for any number of readers."""

from __future__ import annotations

import threading

import pytest

from apxm.observability.events import Gap, RunStarted
from apxm.observability.stream import EventStream


def filled(count, bound=100):
    stream = EventStream(bound)
    for seq in range(1, count + 1):
        stream.put(RunStarted("r", f"f{seq}", 1, seq=seq, at=seq / 10))
    return stream


def seqs(events):
    return [event.seq for event in events]


def test_every_reader_gets_everything_in_order():
    stream = filled(1000, bound=2000)
    stream.close()
    assert seqs(stream.read()) == seqs(stream.read()) == list(range(1, 1001))


@pytest.mark.parametrize("after", [0, 1, 7, 10, 11])
def test_reading_goes_on_behind_the_number_it_is_given(after):
    stream = filled(10)
    stream.close()
    assert seqs(stream.read(after)) == list(range(after + 1, 11))


def test_what_a_late_reader_lost_is_a_gap_that_names_it():
    stream = filled(126)
    stream.close()
    assert seqs(stream.kept()) == [26, *range(27, 127)]
    first, *rest = stream.read(5)
    assert first == Gap(6, 26, seq=26, at=2.7)
    assert seqs(rest) == list(range(27, 127))


def test_a_reader_who_falls_behind_meets_a_gap_and_goes_on():
    stream = filled(10)
    reader = stream.read()
    assert next(reader).seq == 1
    for seq in range(11, 1001):
        stream.put(RunStarted("r", "f", 1, seq=seq))
    stream.close()
    rest = list(reader)
    lost = [event for event in rest if isinstance(event, Gap)]
    assert len(lost) == 1
    assert sum(gap.last - gap.first + 1 for gap in lost) + len(rest) - len(lost) == 999
    assert rest[-1].seq == 1000


def test_no_more_than_a_quarter_above_its_bound_is_kept():
    stream = EventStream(100)
    for seq in range(1, 10_000):
        stream.put(RunStarted("r", "f", 1, seq=seq))
        assert len(stream.kept()) <= 126


def test_a_reader_who_waits_is_woken_by_an_event_and_by_the_end():
    stream, seen, woken = EventStream(), [], threading.Semaphore(0)

    def read():
        for event in stream.read():
            seen.append(event.seq)
            woken.release()
        woken.release()

    threading.Thread(target=read, daemon=True).start()
    for seq in (1, 2):
        stream.put(RunStarted("r", "f", 1, seq=seq))
        assert woken.acquire(timeout=5)
    stream.close()
    assert woken.acquire(timeout=5)
    assert seen == [1, 2]
