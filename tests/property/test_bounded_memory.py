"""P10: a fast producer, a slow consumer and a slow subscriber do not fill the memory, and the run is none the worse for them.

What is bounded, and what is the program's own, for `count` tokens of 1 KiB:

- A LOOP keeps the values that it carries and nothing of the turns before.
- A MAP has at most `window` child frames alive. Its value is the list of all results; until it ends each item has a small
  entry, which holds the result. What the items made on the way is gone with their frames. Of items that failed the first
  thousand errors are kept.
- A flow keeps the value of every node until it ends; consumers of one token share it. At most `max_parallelism` nodes wait.
- A reader of events may be 65,536 events behind, and a quarter more until the oldest are dropped; a subscriber 65,536 over
  all its runs; a traced run keeps a million. In place of what was dropped stands a Gap.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from apxm.config import SchedulerConfig
from apxm.observability.stream import EVENTS_MAX
from apxm.observability.subscription import QUEUE_MAX
from apxm.runtime import TRACE_MAX
from apxm.scheduler.failing import ERRORS_MAX
from tests.property.memory_program import FAN_OUT, WINDOW

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak of resident memory is read from /proc")

ROOT = Path(__file__).resolve().parents[2]
COUNT, COUNT_LONG = 14_000, 1_000_000  # the small one makes more events than a reader or a subscriber may be behind
COUNT_FAILING = 8_000  # eight times as many as are kept; one takes as long as ten that succeed
NOISE_KIB = 8 * 1024  # arenas, caches, the buffers of a first run
ITEM_KIB = 160 / 1024  # the entry of an item of a MAP and its place in the list; the token itself would take 1 KiB
EVENT_KIB = 400 / 1024  # one kept event
ERROR_KIB = 16  # one error with its traceback and what that holds


def said(scenario, long_run, count=COUNT):
    """What the scenario says, in a process of its own."""
    count = COUNT_LONG if long_run else count
    command = [sys.executable, "-m", "tests.property.memory_program", scenario, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    again = f"again: python -m tests.property.memory_program {scenario} {count}"
    assert done.returncode == 0, f"{done.stderr[-3_000:]}\n{again}"
    print(done.stdout.strip())
    told = json.loads(done.stdout)
    return count, told, f"{told}; {again}"


def test_a_loop_keeps_nothing_of_the_turns_before(long_run):
    count, told, note = said("loop", long_run)
    assert (told["value"], told["executed"]) == (1024, 2 * count + 1), note
    assert told["kib"] < NOISE_KIB, note


def test_a_map_keeps_its_results_and_not_what_they_were_made_of(long_run):
    count, told, note = said("map_window", long_run)
    assert (told["value"], told["executed"]) == (count, 2 * count + 1), note
    assert told["most"] == {"eating": WINDOW}, note
    assert told["kib"] < NOISE_KIB + ITEM_KIB * count, note


def test_a_map_whose_items_fail_keeps_the_first_errors_only(long_run):
    count, told, note = said("map_failing", long_run, COUNT_FAILING)
    assert (told["value"], told["errors"]) == (0, ERRORS_MAX), note
    assert told["kib"] < NOISE_KIB + ITEM_KIB * count + ERROR_KIB * ERRORS_MAX, note


def test_ten_thousand_consumers_share_one_token_and_wait_their_turn(long_run):
    count, told, note = said("fan_out", long_run, FAN_OUT)
    assert told["value"] == count, note
    assert told["most"] == {"eating": SchedulerConfig().max_parallelism}, note
    assert told["kib"] < NOISE_KIB, note


def test_a_reader_that_does_not_read_loses_events_and_nothing_else(long_run):
    count, told, note = said("reader", long_run)
    assert told["value"] == count, note
    assert told["most"]["kept"] <= EVENTS_MAX + EVENTS_MAX // 4, note
    assert told["lost"] > 0, note
    assert told["all"], note
    assert told["kib"] < NOISE_KIB + ITEM_KIB * count + EVENT_KIB * 1.25 * EVENTS_MAX, note


def test_a_subscriber_that_is_stuck_gets_a_gap_and_holds_up_nobody(long_run):
    count, told, note = said("subscriber", long_run)
    assert told["value"] == count, note
    assert told["most"]["queued"] == QUEUE_MAX, note
    assert told["lost"] > 0, note
    assert told["all"], note
    assert told["kib"] < NOISE_KIB + ITEM_KIB * count + EVENT_KIB * QUEUE_MAX, note


def test_a_traced_run_keeps_as_many_events_as_it_says(long_run):
    count, told, note = said("traced", long_run)
    assert told["value"] == count, note
    assert told["all"], note
    assert told["told"] <= 1.25 * TRACE_MAX, note
    assert (told["lost"] > 0) == (7 * count + 4 > 1.25 * TRACE_MAX), note
    assert told["kib"] < NOISE_KIB + ITEM_KIB * count + EVENT_KIB * min(7 * count, 1.25 * TRACE_MAX), note
