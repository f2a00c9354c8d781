"""Ctrl-C and SIGTERM: the first cancels the run, the second ends the process at once."""

from __future__ import annotations

import os
import queue
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Watches both signals while a run goes on. `received` is the first one that came.

    The handler runs between two bytecodes of the main thread, which may hold any lock just then, so it only puts a
    number into a queue made for that; a thread of its own calls `tell` and `cancel`, both with a sentence.
    """

    def __init__(self, cancel: Callable[[str], object], tell: Callable[[str], object]) -> None:
        self.received: int | None = None
        self._cancel, self._tell = cancel, tell
        self._queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._watch, name="apxm-cli-signals", daemon=True)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._arrived)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._queue.put(None)
        self._thread.join()

    def _arrived(self, number: int, _frame: object) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = number
        self._queue.put(number)

    def _watch(self) -> None:
        number = self._queue.get()
        if number is not None:
            name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
            self._tell(f"{name}: cancelling; once more ends at once")
            self._cancel(f"{name} cancelled the run")
