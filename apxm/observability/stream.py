"""The events of one run, kept for whoever reads them: bounded, in order, resumable by sequence number. Decides nothing else."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from apxm.observability.events import Gap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apxm.observability.events import Event

EVENTS_MAX = 65_536  # what a reader may be behind: some 20 MB of events
BATCH = 256  # events a reader takes at once


class EventStream:
    """A ring of the newest `bound` events or more, at most a quarter more. One writer, any number of readers.

    A run never waits for a reader. A reader that falls behind gets a Gap in place of what it lost, and goes on.
    """

    def __init__(self, bound: int = EVENTS_MAX) -> None:
        self._bound = bound
        self._events: list[Event] = []
        self._first = 1  # the sequence number of _events[0]
        self._changed = threading.Condition()
        self._waiting = 0
        self._closed = False

    def put(self, event: Event) -> None:
        """Append the next event; their sequence numbers have no holes."""
        with self._changed:
            events = self._events
            events.append(event)
            if len(events) > self._bound + self._bound // 4:
                gone = len(events) - self._bound
                del events[:gone]
                self._first += gone
            if self._waiting:
                self._changed.notify_all()

    def close(self) -> None:
        """Nothing more comes: readers end once they have read everything."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def read(self, after: int = 0) -> Iterator[Event]:
        """Every event with a sequence number above `after`, then each as it comes, until the stream is closed."""
        while batch := self._take(after):
            yield from batch
            after = batch[-1].seq

    def kept(self) -> list[Event]:
        """What is there now, behind a Gap if something is gone."""
        with self._changed:
            return self._from(0, len(self._events))

    def _take(self, after: int) -> list[Event]:
        """The next events, at least one unless nothing more comes."""
        with self._changed:
            while after >= self._first + len(self._events) - 1:
                if self._closed:
                    return []
                self._waiting += 1
                try:
                    self._changed.wait()
                finally:
                    self._waiting -= 1
            return self._from(after, BATCH)

    def _from(self, after: int, count: int) -> list[Event]:
        place = after + 1 - self._first
        if place >= 0:
            return self._events[place : place + count]
        lost = Gap(after + 1, self._first - 1, seq=self._first - 1, at=self._events[0].at)
        return [lost, *self._events[:count]]
