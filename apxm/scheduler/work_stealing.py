"""Whose work is next, and who may take it from whom: the lanes of a worker. Pure; random choices come from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from apxm.scheduler.dataflow import Frame

Job: TypeAlias = tuple["Frame", int]  # a ready slot of a frame; slot RESUME: a static frame that gave way
RESUME = -1


class Worker:
    """The ready work of one worker: four lanes of slow nodes, and batches of fast ones (a frame with its ready slots).

    The owner takes its newest work (the last child of what it just did), a thief the oldest half: what has waited
    longest is nearest the root and brings the most work with it (Blumofe & Leiserson, 1999).
    """

    __slots__ = ("batches", "cheap", "id", "listed", "opening", "short", "waiting")

    def __init__(self, number: int) -> None:
        self.id = number
        self.listed = False  # as a victim; an engine's own note
        self.waiting: list[Job] = []
        self.short: list[Job] = []
        self.cheap: list[Job] = []
        self.opening: list[Job] = []
        self.batches: list[tuple[Frame, list[int]]] = []

    @property
    def lanes(self) -> tuple[list[Job], list[Job], list[Job], list[Job]]:
        """By lane number of binding.py."""
        return self.waiting, self.short, self.cheap, self.opening

    def push(self, lane: int, frame: Frame, slot: int) -> None:
        if lane == 2:
            self.cheap.append((frame, slot))
        elif lane == 0:
            self.waiting.append((frame, slot))
        elif lane == 1:
            self.short.append((frame, slot))
        else:
            self.opening.append((frame, slot))

    def pop(self) -> Job | None:
        """The most urgent slow node. Frames are opened only when no batch is open, so that they run depth first."""
        if self.waiting:
            return self.waiting.pop()
        if self.short:
            return self.short.pop()
        if self.cheap:
            return self.cheap.pop()
        if self.opening and not self.batches:
            return self.opening.pop()
        return None

    def has_work(self) -> bool:
        return bool(self.batches or self.waiting or self.short or self.cheap or self.opening)

    def steal_into(self, thief: Worker) -> bool:
        """Move the oldest half of the most urgent lane to `thief`; batches, or half of the only one, when lanes are empty."""
        for theirs, mine in zip(thief.lanes, self.lanes):
            if mine:
                half = (len(mine) + 1) // 2
                theirs += mine[:half]
                del mine[:half]
                return True
        if len(self.batches) == 1 and len(self.batches[0][1]) > 1:
            frame, ready = self.batches[0]
            half = len(ready) // 2
            thief.batches.append((frame, ready[:half]))
            del ready[:half]
            return True
        half = (len(self.batches) + 1) // 2  # of one batch with one slot: that slot, as a victim may wait for long
        thief.batches += self.batches[:half]
        del self.batches[:half]
        return half > 0
