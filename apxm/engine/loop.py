"""The one event loop of a runtime, on a thread of its own, started when the first operation has to wait."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from apxm.errors import RunCancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future

T = TypeVar("T")
LEFT_S = 0.25  # for what has to be cancelled in the end


class LoopThread:
    """Runs coroutines for callers on other threads. Async clients and limiters live on its loop."""

    def __init__(self, factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop) -> None:
        self._factory = factory
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on the loop."""
        try:
            loop = self._loop or self._start()
        except RunCancelled:
            coroutine.close()
            raise
        return asyncio.run_coroutine_threadsafe(coroutine, loop)

    def _start(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise RunCancelled("the runtime was closed")
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
        """Let what was asked to end do so for `timeout_s`, cancel what is left, end the thread. Takes a second more at most.

        Nothing can be submitted afterwards. Not to be called on the thread of the loop.
        """
        with self._lock:
            self._closed = True
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        ending = asyncio.run_coroutine_threadsafe(_cancel_all(timeout_s), loop)
        with suppress(TimeoutError):  # a handler that holds the loop dies with the process: the thread is a daemon
            ending.result(timeout_s + 2 * LEFT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(2 * LEFT_S)

    def is_current(self) -> bool:
        """Whether the caller is on the thread of the loop."""
        return self._thread is threading.current_thread()


async def _cancel_all(timeout_s: float) -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    if tasks:
        _, tasks_left = await asyncio.wait(tasks, timeout=timeout_s)
        for task in tasks_left:
            task.cancel()
        if tasks_left:
            await asyncio.wait(tasks_left, timeout=LEFT_S)
