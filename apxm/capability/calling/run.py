"""Running a capability where it belongs: inline, on a thread, in a process; with a timeout; with errors by class."""

from __future__ import annotations

import asyncio
import inspect
import os
import random
from contextlib import aclosing, closing, suppress
from functools import partial
from math import inf
from threading import Event
from typing import TYPE_CHECKING, Any

from apxm.capability.calling.chunks import Chunks
from apxm.capability.calling.process import Crew, ProcessCall, ProcessDied
from apxm.capability.calling.threads import Lane, Odd, outcome
from apxm.capability.calling.wire import RemoteFailure, kind_of
from apxm.capability.signature import is_async
from apxm.errors import ApxmError, CapabilityError, TransientError, UnknownEffectError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from apxm.capability.record import CapabilityRecord

THREADS_MAX = 64  # as many calls as a run may have waiting by default
GRACE_S = 2.0  # for a killed process to be collected
CLOSE_S = 1.0
STREAM_GRACE_S = 0.1  # for a generator on a thread to give its next chunk, and so to see that nobody wants it
RETRY_BASE_S, RETRY_CAP_S = 0.05, 10.0


class Calls:
    """Owns the threads and processes in which capabilities run; both are started when first needed. Thread-safe."""

    def __init__(self, *, threads_max: int = THREADS_MAX, processes_max: int | None = None) -> None:
        self._crew = Crew()
        self._threads = Lane("tool", threads_max)
        self._processes = Lane("process", processes_max or max(2, os.cpu_count() or 2), self._crew.leave)

    async def call(
        self,
        record: CapabilityRecord,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        timeout_s: float | None = None,
        until: float = inf,
        chunk: Callable[[int, Any], None] | None = None,
    ) -> Any:
        """Call once; `timeout_s` None means the record's own. The arguments must have been checked; the result is, and settled.

        When the call is cancelled after `until` (the clock of the loop), its time was up by a limit that the caller keeps
        himself. `chunk(index, value)` is told, on the loop, of everything that a streaming capability gives.

        Raises the ApxmError that the capability raised; CapabilityError for any other exception, chained; TransientError
        where trying again may help and is safe; UnknownEffectError where a call that must not be repeated got lost.
        """
        if timeout_s is None and record.timeout_ms is not None:
            timeout_s = record.timeout_ms / 1e3
        scope = asyncio.timeout(timeout_s)
        attempt = _Attempt(record)
        try:
            async with scope:
                if record.run == "inline":
                    attempt.began = True
                    value = await _inline(record, args, kwargs, chunk)
                else:
                    value = await self._start(attempt, args, kwargs, chunk)
        except ApxmError as error:
            error.called = error.called or attempt.began
            raise
        except asyncio.CancelledError:
            if asyncio.get_running_loop().time() < until:
                raise
            raise attempt.late("did not answer in time") from None
        except Exception as error:
            if isinstance(error, TimeoutError) and scope.expired():
                raise attempt.late(f"did not answer within {timeout_s:g} s") from None
            raise attempt.failed(error) from error
        return record.confirm(value)

    async def aside(self, name: str, fn: Callable[..., Any], *args: Any) -> Any:
        """Ask a function of the host that is no capability: a def on a thread, for it may block; anything else is awaited."""
        if is_async(fn):
            return await fn(*args)
        value = await outcome(self._threads, self._threads.submit(name, partial(fn, *args)))
        return await value if inspect.isawaitable(value) else value

    def abandoned(self) -> list[str]:
        """Names of capabilities whose calls were given up and still hold a thread."""
        return self._threads.abandoned()

    def close(self) -> None:
        """Kill the processes and end the threads, within about a second; calls that hold a thread are left behind."""
        self._crew.kill()
        self._processes.close(CLOSE_S)
        self._crew.kill()  # one that was just starting
        self._threads.close(CLOSE_S)

    async def _start(
        self, attempt: _Attempt, args: Sequence[Any], kwargs: Mapping[str, Any], chunk: Callable[[int, Any], None] | None
    ) -> Any:
        record = attempt.record
        if record.streams:
            return await self._stream(attempt, args, kwargs, chunk)
        if record.run == "thread":
            fn = record.fn

            def work() -> Any:
                attempt.began = True
                return fn(*args, **kwargs)

            return await outcome(self._threads, self._threads.submit(record.name, work))
        assert record.target is not None
        call = ProcessCall(self._crew, record.target, args, kwargs)

        def ask() -> Any:
            attempt.began = True
            return call.run()

        return await outcome(self._processes, self._processes.submit(record.name, ask), call.kill, GRACE_S)

    async def _stream(
        self, attempt: _Attempt, args: Sequence[Any], kwargs: Mapping[str, Any], chunk: Callable[[int, Any], None] | None
    ) -> Any:
        """A generator on a thread: it can be stopped whenever it gives something."""
        record, loop, stopped = attempt.record, asyncio.get_running_loop(), Event()
        told = None if chunk is None else partial(_soon, loop, chunk)

        def work() -> Any:
            attempt.began = True
            chunks = Chunks(record, told)
            with closing(record.fn(*args, **kwargs)) as stream:
                for value in stream:
                    if stopped.is_set():
                        break
                    chunks.add(value)
            return chunks.value()

        return await outcome(self._threads, self._threads.submit(record.name, work), stopped.set, STREAM_GRACE_S)


async def _inline(
    record: CapabilityRecord, args: Sequence[Any], kwargs: Mapping[str, Any], chunk: Callable[[int, Any], None] | None
) -> Any:
    try:
        value = record.fn(*args, **kwargs)
        if record.streams:
            return await _collected(Chunks(record, chunk), value)
        return await value if record.is_async or inspect.isawaitable(value) else value
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Odd(error) from error
    except (SystemExit, KeyboardInterrupt) as error:  # a tool may not end the loop that others wait on
        raise Odd(error) from error


def _soon(loop: asyncio.AbstractEventLoop, chunk: Callable[[int, Any], None], index: int, value: Any) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody listens
        loop.call_soon_threadsafe(chunk, index, value)


async def _collected(chunks: Chunks, stream: Any) -> Any:
    if hasattr(stream, "__aiter__"):
        async with aclosing(stream):
            async for value in stream:
                chunks.add(value)
    else:
        with closing(stream):
            for value in stream:
                chunks.add(value)
    return chunks.value()


class _Attempt:
    """One call on its way; knows whether the capability was reached, and so what a failure means."""

    __slots__ = ("began", "record")

    def __init__(self, record: CapabilityRecord) -> None:
        self.record = record
        self.began = False

    def late(self, what: str) -> ApxmError:
        """The error of a call that nobody waits for any longer."""
        text = f"capability `{self.record.name}` {what}"
        if not self.began:
            return TransientError(f"{text}: it was still waiting for a free {self.record.run}", hint="raise its timeout_ms")
        return self._lost(text)

    def failed(self, error: Exception) -> ApxmError:
        """The error of a call that raised."""
        record = self.record
        if isinstance(error, ProcessDied):
            text = f"the process of capability `{record.name}` ended {error}"
            return called(CapabilityError(text) if record.harmless else UnknownEffectError(text))
        kind = kind_of(error)
        raised = str(error) if isinstance(error, (Odd, RemoteFailure)) else f"{type(error).__name__}: {error}"
        text = f"capability `{record.name}` raised {raised}"
        if kind in ("timeout", "connection"):
            return self._lost(text)
        return called(TransientError(text) if kind != "other" and record.repeatable else CapabilityError(text))

    def _lost(self, text: str) -> ApxmError:
        if self.record.harmless:
            return called(TransientError(text))
        hint = f"its effect is {self.record.effect.value}, so it is not tried again; look whether it happened"
        return called(UnknownEffectError(text, hint=hint))


def failure_of(record: CapabilityRecord, error: Exception) -> ApxmError:
    """What it means that a capability raised: by its effect and by what it raised."""
    attempt = _Attempt(record)
    attempt.began = True
    return attempt.failed(error)


def called(error: ApxmError) -> ApxmError:
    """Mark an error: a call went out, so whoever made the call owned the retries."""
    error.called = True
    return error


async def with_retries(
    attempt: Callable[[], Awaitable[Any]],
    *,
    retries: int,
    permit: Callable[[], bool],
    announce: Callable[[int, float, ApxmError], None],
    until: float,
    may: Callable[[TransientError], bool] = lambda error: True,
) -> Any:
    """Repeat a call that may be repeated while it fails with TransientError: exponential back-off with full jitter.

    At most `retries` times, each with a `permit` of the run, never when the pause would last beyond `until` (the clock of
    the loop), and only after failures that `may` be followed by another try. `announce(attempt, seconds, error)` is told
    before each pause.
    """
    tries = 0
    while True:
        tries += 1
        try:
            return await attempt()
        except TransientError as error:
            seconds = random.uniform(0, min(RETRY_CAP_S, RETRY_BASE_S * 2 ** (tries - 1)))
            late = asyncio.get_running_loop().time() + seconds >= until
            if tries > retries or late or not may(error) or not permit():
                error.called = error.called or tries > 1
                raise
            announce(tries, seconds, error)
        await asyncio.sleep(seconds)
