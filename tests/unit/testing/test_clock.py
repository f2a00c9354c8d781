"""Clocks on which nobody waits, and the loops that live by them."""

from __future__ import annotations

import asyncio

import pytest

from apxm.testing.clock import SkippingClock, VirtualClock
from apxm.testing.seeded import SeededLoop

YEAR_S = 365 * 86_400.0


async def naps(order: list[int]) -> None:
    async def nap(number: int) -> None:
        await asyncio.sleep(number * 3_600)
        order.append(number)

    await asyncio.gather(*(nap(number) for number in (3, 1, 2)))


@pytest.mark.parametrize("began", [0.0, YEAR_S, 30 * YEAR_S])
def test_timers_end_in_their_order_however_late_it_is(began: float) -> None:
    clock = VirtualClock()
    clock.advance(began)
    loop, order = clock.new_event_loop(), list[int]()
    try:
        loop.run_until_complete(naps(order))
    finally:
        loop.close()
    assert order == [1, 2, 3]
    assert clock() - began == pytest.approx(3 * 3_600)


def test_real_time_without_its_waits_goes_on_by_itself_and_skips_them() -> None:
    clock = SkippingClock()
    before, skipped = clock(), clock.skipped
    loop, order = clock.new_event_loop(), list[int]()
    try:
        loop.run_until_complete(naps(order))
    finally:
        loop.close()
    assert order == [1, 2, 3]
    assert clock() - before >= 3 * 3_600 - 1
    assert clock.skipped - skipped == pytest.approx(3 * 3_600, abs=60)


def test_a_shuffled_loop_may_skip_waits_as_well() -> None:
    clock, order = SkippingClock(), list[int]()
    loop = SeededLoop(3, clock)
    try:
        loop.run_until_complete(naps(order))
    finally:
        loop.close()
    assert order == [1, 2, 3]
