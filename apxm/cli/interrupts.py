"""Ctrl-C and SIGTERM: the first cancels the run, the second ends the process at once."""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_END = b"\0"  # no signal has this number


class Interrupts:
    """Watches both signals while a run goes on. `received` is the first one that came. For the main thread.

    A handler in Python runs only when the main thread gets to it, and one that just begins to wait may never get to it. So
    the number of a signal is written into a socket at once, by the C handler, and a thread that reads it calls `tell` and
    `cancel`, both with a sentence.
    """

    def __init__(self, cancel: Callable[[str], object], tell: Callable[[str], object]) -> None:
        self.received: int | None = None
        self._cancel, self._tell = cancel, tell
        self._thread = threading.Thread(target=self._watch, name="apxm-cli-signals", daemon=True)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._reads, self._writes = socket.socketpair()
        self._writes.setblocking(False)
        self._thread.start()
        self._wakeup = signal.set_wakeup_fd(self._writes.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, _heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._writes.send(_END)
        self._thread.join()
        self._reads.close()
        self._writes.close()

    def _watch(self) -> None:
        while (said := self._reads.recv(1)) != _END:
            number = said[0]
            if number not in _SIGNALS:
                continue
            if self.received is not None:
                os._exit(128 + number)
            self.received = number
            name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
            self._tell(f"{name}: cancelling; once more ends at once")
            self._cancel(f"{name} cancelled the run")


def _heard(number: int, frame: object) -> None:
    """Only there so that the signal does not do what it does by default."""
