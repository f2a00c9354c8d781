"""The one event loop of a runtime, on a thread of its own, started when the first operation has to wait."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for callers on other threads. Async clients and limiters live on its loop."""

    def __init__(self, factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop) -> None:
        self._factory = factory
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on the loop."""
        loop = self._loop or self._start()
        return asyncio.run_coroutine_threadsafe(coroutine, loop)

    def _start(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = self._factory()
                self._thread = threading.Thread(target=self._serve, args=(loop,), name="apxm-loop", daemon=True)
                self._thread.start()
                self._loop = loop
            return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()

    def close(self, timeout_s: float) -> None:
        """Let what was asked to end do so, cancel what is left, end the thread. Takes at most twice `timeout_s`."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        ending = asyncio.run_coroutine_threadsafe(_cancel_all(timeout_s / 2), loop)
        with suppress(TimeoutError):  # a handler that holds the loop dies with the process: the thread is a daemon
            ending.result(timeout_s)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout_s)


async def _cancel_all(timeout_s: float) -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    if tasks:
        _, tasks_left = await asyncio.wait(tasks, timeout=timeout_s)
        for task in tasks_left:
            task.cancel()
        if tasks_left:
            await asyncio.wait(tasks_left, timeout=timeout_s / 2)
