"""The cyclic collector, while a large thing is made and afterwards."""

from __future__ import annotations

import gc

import pytest

from apxm.collector import collector_paused


class Thing:
    pass


def test_nothing_is_collected_within_and_what_was_made_is_old_afterwards():
    with collector_paused():
        assert not gc.isenabled()
        made = [Thing() for _ in range(5_000)]
    assert gc.isenabled()
    assert any(one is made for one in gc.get_objects(generation=2))
    assert gc.get_freeze_count() == 0


def test_what_somebody_froze_stays_frozen():
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with collector_paused():
            made = [Thing() for _ in range(10)]
        assert made
        assert gc.get_freeze_count() >= frozen > 0
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_as_it_was(on):
    if not on:
        gc.disable()
    try:
        with pytest.raises(ValueError, match="x"), collector_paused():
            raise ValueError("x")
        assert gc.isenabled() is on
        with collector_paused(False):
            assert gc.isenabled() is on
    finally:
        gc.enable()
