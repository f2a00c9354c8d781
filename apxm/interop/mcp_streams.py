"""The two ways to an MCP server: a process with its standard streams, and HTTP. Neither can make us hold more than it may.

The SDK's own transports have no limit on a line of a process and on a JSON answer by HTTP; the rest of HTTP is theirs.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
from mcp.client.stdio import get_default_environment
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Mapping, Sequence

LINE_MAX = 8 * 1024 * 1024  # bytes of one message; what a tool gives may be half of it, the rest is how JSON writes it
LEAVE_S, TERM_S, KILL_S = 2.0, 2.0, 2.0  # to go when nobody speaks any more, after SIGTERM, after SIGKILL
_POLL_S = 0.01


@asynccontextmanager
async def process_streams(command: Sequence[str], env: Mapping[str, str], cwd: str | None) -> AsyncIterator[Any]:
    """Start a process in a group of its own and speak with it, one line a message; the whole group is gone afterwards.

    It inherits HOME, PATH and the like, and what `env` adds; its standard error is ours. A line that is no message is passed
    over, one that is too long ends the process.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=PIPE,
        stdout=PIPE,
        env=get_default_environment() | dict(env),
        cwd=cwd,
        start_new_session=True,
        limit=LINE_MAX,
    )
    received, ours = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    theirs, sent = anyio.create_memory_object_stream[SessionMessage](0)

    async def read() -> None:
        assert process.stdout is not None
        async with received:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                while (line := await _line(process.stdout)) is not None:
                    with suppress(ValueError):
                        await received.send(SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False)))
        _signal(process, signal.SIGKILL)

    async def write() -> None:
        assert process.stdin is not None
        async with sent:
            with suppress(OSError):  # it does not listen any more; the reader learns of it
                async for message in sent:
                    process.stdin.write(message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
                    await process.stdin.drain()

    async with anyio.create_task_group() as both:
        both.start_soon(read)
        both.start_soon(write)
        try:
            yield ours, theirs
        finally:
            with anyio.CancelScope(shield=True):
                ours.close()
                theirs.close()
                await _end(process)
            both.cancel_scope.cancel()


async def _line(stream: asyncio.StreamReader) -> bytes | None:
    """The next line; None at the end, or when it is too long."""
    try:
        return await stream.readline() or None
    except ValueError:
        return None


async def _end(process: Process) -> None:
    """Let it go by itself, then make it; then whatever it left in its group."""
    assert process.stdin is not None
    process.stdin.close()
    for number, seconds in ((None, LEAVE_S), (signal.SIGTERM, TERM_S), (signal.SIGKILL, KILL_S)):
        if number is not None:
            _signal(process, number)
        if await _gone(process, seconds):
            break
    _signal(process, signal.SIGKILL)
    process._transport.close()  # type: ignore[attr-defined]  # else it waits for pipes that a child of the process may hold


async def _gone(process: Process, seconds: float) -> bool:
    """Whether it ends within this time. Not `process.wait()`: that waits for its pipes too."""
    until = asyncio.get_running_loop().time() + seconds
    while process.returncode is None:
        if asyncio.get_running_loop().time() >= until:
            return False
        await asyncio.sleep(_POLL_S)
    return True


def _signal(process: Process, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # its number cannot be that of another group so soon
        os.killpg(process.pid, number)


# ---- HTTP --------------------------------------------------------------------------------------------------------------
@asynccontextmanager
async def http_streams(url: str, headers: Mapping[str, str]) -> AsyncIterator[Any]:
    """Speak streamable HTTP; without proxies and passwords of the environment, without redirects to elsewhere."""
    timeout = httpx2.Timeout(30.0, read=300.0)
    http = httpx2.AsyncClient(headers=dict(headers), timeout=timeout, trust_env=False, transport=_Bounded())
    async with http, streamable_http_client(url, http_client=http) as streams:
        yield streams


class _Bounded(httpx2.AsyncHTTPTransport):
    """Ends an answer that is one JSON text and too long. Events are bounded by the SDK, one by one."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = _Counted(response.stream)
        return response


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        came = 0
        async for piece in self._stream:
            came += len(piece)
            if came > LINE_MAX:
                raise httpx2.ReadError(f"an answer of more than {LINE_MAX} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()
