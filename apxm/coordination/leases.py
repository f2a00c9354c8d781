"""Keeps the leases of this process: one thread renews them while there are any, and ends when there are none left."""

from __future__ import annotations

import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

TURNS = 3  # renewals within one lease: two may fail before it is lost


class _Lease:
    """One lease: what renews it, how often, and when next. `late` is a renewal that a server has not answered yet."""

    __slots__ = ("due", "every_s", "late", "renew")

    def __init__(self, renew: Callable[[], bool | Future[bool]], every_s: float) -> None:
        self.renew, self.every_s = renew, every_s
        self.due = monotonic() + every_s
        self.late: Future[bool] | None = None


class Leases:
    """The leases of one runtime, by their tokens. A renewal that fails is tried again; who was too late learns it in the end."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: dict[str, _Lease] = {}
        self._thread: threading.Thread | None = None

    def keep(self, token: str, lease_ms: float, renew: Callable[[], bool | Future[bool]]) -> None:
        """Call `renew` several times within every lease, until it gives False or the lease is let go."""
        with self._changed:
            self._held[token] = _Lease(renew, lease_ms / 1e3 / TURNS)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="apxm-leases", daemon=True)
                self._thread.start()
            self._changed.notify()

    def let_go(self, token: str) -> None:
        """Renew this one no more."""
        with self._changed:
            self._held.pop(token, None)
            self._changed.notify()

    def close(self, timeout_s: float = 1.0) -> None:
        """Let go of all."""
        with self._changed:
            self._held.clear()
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _work(self) -> None:
        while (token := self._next()) is not None:
            lease = self._held.get(token)
            if lease is None or (lease.late is not None and not lease.late.done()):
                continue
            found: Any = None
            with suppress(Exception):  # whatever it is: the others are to be renewed, and an acknowledgement is fenced
                found = lease.renew()
            lease.late = found if found is not None and not isinstance(found, bool) else None
            if found is False:
                self.let_go(token)

    def _next(self) -> str | None:
        """The token of the lease that is due next, once it is; None when there are none left: then this thread ends."""
        with self._changed:
            while self._held:
                token = min(self._held, key=lambda one: self._held[one].due)
                lease, now = self._held[token], monotonic()
                if lease.due <= now:
                    lease.due = now + lease.every_s
                    return token
                self._changed.wait(lease.due - now)
            self._thread = None
            return None
