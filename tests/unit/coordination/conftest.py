"""A store in a folder of its own, and the time that it is told."""

from __future__ import annotations

import pytest

from apxm.coordination.checkpoint import Checkpoints
from apxm.coordination.queue import Queues
from apxm.coordination.store import Store


class Clock:
    """Unix time that passes when the test says so."""

    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now

    def pass_ms(self, ms):
        self.now += ms / 1e3


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    made = Store(lambda: tmp_path, clock)
    yield made
    made.close()


@pytest.fixture
def queues(store):
    return Queues(store)


@pytest.fixture
def checkpoints(store):
    return Checkpoints(store)
