"""Which work is next, and what a thief takes."""

from __future__ import annotations

import pytest

from apxm.scheduler.binding import CHEAP, LANES, OPENING, SHORT, WAITING
from apxm.scheduler.work_stealing import Worker

FRAME = object()


def worker_with(**lanes):
    worker = Worker(0)
    for name, count in lanes.items():
        lane = {"waiting": WAITING, "short": SHORT, "cheap": CHEAP, "opening": OPENING}[name]
        for slot in range(count):
            worker.push(lane, FRAME, slot)
    return worker


def test_what_waits_longest_goes_first_and_what_opens_frames_last():
    worker = worker_with(opening=1, cheap=1, short=1, waiting=1)
    order = []
    for _ in range(LANES):
        left = [name for name in ("waiting", "short", "cheap", "opening") if getattr(worker, name)]
        worker.pop()
        order += [name for name in left if not getattr(worker, name)]
    assert order == ["waiting", "short", "cheap", "opening"]
    assert worker.pop() is None


@pytest.mark.parametrize("lane", ["waiting", "short", "cheap", "opening"])
def test_the_owner_takes_its_newest_work(lane):
    worker = worker_with(**{lane: 3})
    assert [worker.pop()[1] for _ in range(3)] == [2, 1, 0]


def test_no_frame_is_opened_while_a_batch_is_open():
    worker = worker_with(opening=1)
    worker.batches.append((FRAME, [7]))
    assert worker.pop() is None
    worker.batches.clear()
    assert worker.pop() == (FRAME, 0)


@pytest.mark.parametrize("lane", ["waiting", "short", "cheap", "opening"])
@pytest.mark.parametrize(("there", "taken"), [(1, 1), (2, 1), (5, 3)])
def test_a_thief_takes_the_oldest_half_of_a_lane(lane, there, taken):
    victim, thief = worker_with(**{lane: there}), Worker(1)
    assert victim.steal_into(thief)
    assert [slot for _, slot in getattr(thief, lane)] == list(range(taken))
    assert [slot for _, slot in getattr(victim, lane)] == list(range(taken, there))


def test_a_thief_takes_from_the_most_urgent_lane_only():
    victim, thief = worker_with(waiting=2, cheap=4), Worker(1)
    victim.batches.append((FRAME, [1]))
    assert victim.steal_into(thief)
    assert (len(thief.waiting), len(thief.cheap), len(thief.batches)) == (1, 0, 0)


@pytest.mark.parametrize(("ready", "taken"), [([0, 1], [0]), ([0, 1, 2, 3, 4], [0, 1])])
def test_a_thief_takes_the_oldest_part_of_the_only_batch(ready, taken):
    victim, thief = Worker(0), Worker(1)
    victim.batches.append((FRAME, list(ready)))
    assert victim.steal_into(thief)
    assert thief.batches == [(FRAME, taken)]
    assert victim.batches == [(FRAME, ready[len(taken) :])]


def test_a_thief_takes_a_batch_of_one_slot_whole():
    victim, thief = Worker(0), Worker(1)
    victim.batches.append((FRAME, [3]))
    assert victim.steal_into(thief)
    assert (thief.batches, victim.batches) == ([(FRAME, [3])], [])


def test_a_thief_takes_the_oldest_half_of_several_batches():
    victim, thief = Worker(0), Worker(1)
    victim.batches += [(FRAME, [place]) for place in range(3)]
    assert victim.steal_into(thief)
    assert [ready for _, ready in thief.batches] == [[0], [1]]
    assert [ready for _, ready in victim.batches] == [[2]]


def test_there_is_nothing_to_steal_from_one_who_has_nothing():
    assert not Worker(0).steal_into(Worker(1))


@pytest.mark.parametrize("lane", ["waiting", "short", "cheap", "opening"])
def test_any_lane_is_work(lane):
    assert worker_with(**{lane: 1}).has_work()


def test_a_batch_is_work():
    worker = Worker(0)
    assert not worker.has_work()
    worker.batches.append((FRAME, [1]))
    assert worker.has_work()
