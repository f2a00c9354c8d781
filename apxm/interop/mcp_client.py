"""A connection to one MCP server: started when it is needed, started again when it died, ended with all that came from it.

The client lives on an event loop of its own thread, so that programs on any loop can call, and so that nothing of it can
keep a run waiting that was cancelled.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any

from apxm.engine.loop import LoopThread
from apxm.errors import ApxmError, CapabilityError, InvalidError
from apxm.interop.mcp_tools import value_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp import Client
    from mcp.types import Tool

STARTS_MAX = 5  # in a row without any answer in between; then the server is left alone
TOOLS_MAX, PAGES_MAX = 1_000, 100
CLOSE_S = 10.0  # for the server to end: it is asked, then terminated, then killed, which takes 6 s at most


class Session:
    """One life of a server: the client is open from `opened` to `close`."""

    def __init__(self, make: Callable[[], Any], connect_s: float) -> None:
        self._make, self._connect_s = make, connect_s
        self._stop = asyncio.Event()
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live())
        self.dead = False

    async def opened(self) -> Client:
        """The client, when the server has greeted; raises what kept it from that."""
        return await asyncio.shield(self._ready)

    async def close(self) -> None:
        """End the server. Safe to call more than once."""
        self.dead = True
        self._stop.set()
        await asyncio.wait([self._task])

    async def _live(self) -> None:
        import anyio
        from mcp import Client

        try:
            with anyio.CancelScope(deadline=anyio.current_time() + self._connect_s) as scope:
                async with Client(self._make()) as client:
                    scope.deadline = inf
                    self._ready.set_result(client)
                    await self._stop.wait()
            if not self._ready.done():
                self._fail(TimeoutError(f"no greeting within {self._connect_s:g} s"))
        except BaseException as error:
            if not self._ready.done():
                self._fail(_first(error))
            elif isinstance(error, asyncio.CancelledError):
                raise  # otherwise: it was over anyway, and its calls have failed
        finally:
            self.dead = True

    def _fail(self, error: BaseException) -> None:
        self._ready.set_exception(ConnectionError("cancelled") if isinstance(error, asyncio.CancelledError) else error)
        self._ready.exception()  # seen, should nobody wait


class Link:
    """What calls the server, from any thread or loop. Keeps one session alive while there are calls for it."""

    def __init__(self, name: str, make: Callable[[], Any], *, connect_s: float) -> None:
        self._name, self._make, self._connect_s = name, make, connect_s
        self._home = LoopThread()
        self._session: Session | None = None
        self._starts = 0
        self._closed = False

    def tools(self) -> list[Tool]:
        """What the server offers. Blocks until it has answered."""
        return self._home.submit(self._tools()).result()

    async def call(self, tool: str, arguments: dict[str, Any]) -> Any:
        """Call one tool. ConnectionError when the server ended before it answered, CapabilityError when it refused."""
        if self._closed:
            raise CapabilityError(f"the connection to the MCP server `{self._name}` is closed")
        return await asyncio.wrap_future(self._home.submit(self._call(tool, arguments)))

    def close(self) -> None:
        """End the server and the thread. Idempotent; not for the thread of the connection itself."""
        if self._closed:
            return
        self._closed = True
        if self._session is not None:
            with suppress(TimeoutError):
                self._home.submit(self._end()).result(CLOSE_S)
        self._home.close(0.25)

    async def _end(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _client(self) -> tuple[Session, Client]:
        session = self._session
        if session is None or session.dead:
            if self._starts >= STARTS_MAX:
                raise CapabilityError(
                    f"the MCP server `{self._name}` ended {self._starts} times in a row", hint="see what it says"
                )
            self._starts += 1
            session = self._session = Session(self._make, self._connect_s)
        try:
            return session, await session.opened()
        except ApxmError:
            raise
        except Exception as error:
            raise CapabilityError(
                f"the MCP server `{self._name}` cannot be reached: {_said(error)}",
                hint="does it run? what a process that ends at once says of it is on standard error",
            ) from error

    async def _tools(self) -> list[Tool]:
        _, client = await self._client()
        found: list[Tool] = []
        cursor: str | None = None
        for _ in range(PAGES_MAX):
            page = await client.list_tools(cursor=cursor)
            found += page.tools
            cursor = page.next_cursor
            if cursor is None or len(found) > TOOLS_MAX:
                break
        if cursor is not None or len(found) > TOOLS_MAX:
            raise InvalidError(
                f"the MCP server `{self._name}` offers more than {TOOLS_MAX} tools, or more than {PAGES_MAX} pages of them"
            )
        self._starts = 0
        return found

    async def _call(self, tool: str, arguments: dict[str, Any]) -> Any:
        from mcp.shared.exceptions import MCPError
        from mcp.types import CONNECTION_CLOSED, REQUEST_TIMEOUT

        session, client = await self._client()
        whose = f"the tool `{tool}` of the MCP server `{self._name}`"
        try:
            result = await client.call_tool(tool, arguments)
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                await session.close()
                raise ConnectionError(f"the MCP server `{self._name}` ended before it answered") from error
            if error.code == REQUEST_TIMEOUT:
                raise TimeoutError(f"{whose} did not answer in time") from error
            raise CapabilityError(f"{whose} refused the call: {error.message:.2000}") from error
        except (ValueError, RuntimeError) as error:
            raise CapabilityError(f"{whose} gave something that is no result: {_said(error)}") from error
        self._starts = 0
        return value_of(result, whose)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _said(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text:.500}" if text else type(error).__name__
