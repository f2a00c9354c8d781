"""MCP both ways: a server's tools as capabilities of a runtime, and flows as tools of a server. Needs the extra `mcp`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.capability.http.reach import read_url
from apxm.errors import ConfigError, InvalidError
from apxm.graph.operation import Effect
from apxm.interop.mcp_client import Link
from apxm.interop.mcp_server import make_server
from apxm.interop.mcp_tools import declared_effect, record_of_tool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from mcp.types import Tool

    from apxm.capability.record import CapabilityRecord
    from apxm.runtime import Runtime

__all__ = ["Connection", "connect", "make_server"]

CALL_MS = 60_000.0
CONNECT_S = 30.0


class Connection:
    """The tools of one MCP server as capabilities of a runtime, until it is closed. A context manager."""

    def __init__(self, runtime: Runtime, link: Link) -> None:
        self._system, self._link = runtime.capability_system(), link
        self.names: tuple[str, ...] = ()  # of the capabilities

    def add(self, name: str, record: CapabilityRecord) -> None:
        """Register one tool, until the connection is closed."""
        self._system.register(name, record)
        self.names = (*self.names, name)

    def close(self) -> None:
        """Take the capabilities back, end the server and its process. Idempotent; a call in flight fails."""
        for name in self.names:
            self._system.unregister(name)
        self.names = ()
        self._link.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def connect(
    runtime: Runtime,
    name: str,
    *,
    command: Sequence[str] | None = None,
    url: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    headers: Mapping[str, str] | None = None,
    only: Iterable[str] | None = None,
    effects: Mapping[str, str] | None = None,
    believe_hints: bool = False,
    source: str | None = "web",
    timeout_ms: float | None = CALL_MS,
    connect_s: float = CONNECT_S,
) -> Connection:
    """Register every tool of an MCP server, or those in `only`, as capabilities `name.tool`. Blocks until it has answered.

    `command` starts a process that speaks on its standard streams (`env` adds to the few variables that it inherits); `url`
    reaches a server by streamable HTTP, with `headers`. A process that ended is started again at the next call.

    Every tool counts as guarded, whatever it says of itself: `effects` maps tools to what the host knows better, and
    `believe_hints` takes the server's word. Results are labelled `source`; None labels them `tool:<name>`, for servers that
    give nothing that strangers wrote.
    """
    link = Link(name, _maker(command, url, env, cwd, headers), connect_s=connect_s)
    made = Connection(runtime, link)
    try:
        for tool in _chosen(link.tools(), name, only, effects or {}):
            effect = (effects or {}).get(tool.name) or (declared_effect(tool) if believe_hints else Effect.GUARDED)
            record = record_of_tool(tool, link.call, effect=effect, timeout_ms=timeout_ms, source=source)
            made.add(f"{name}.{tool.name}", record)
    except BaseException:
        made.close()
        raise
    return made


def _maker(
    command: Sequence[str] | None,
    url: str | None,
    env: Mapping[str, str] | None,
    cwd: str | None,
    headers: Mapping[str, str] | None,
) -> Any:
    """What opens the way to the server, and again after it ended."""
    try:
        import mcp  # noqa: F401
    except ImportError as error:
        raise ConfigError("MCP needs the package `mcp`", hint="pip install 'apxm[mcp]'") from error
    if (command is None) == (url is None):
        raise InvalidError("an MCP server is either a `command` or a `url`", hint="give one of them")
    if url is not None:
        if env or cwd:
            raise InvalidError("`env` and `cwd` are for a `command`", hint="with a `url` there are `headers`")
        address = str(read_url(url))
        return lambda: _streams().http_streams(address, headers or {})
    assert command is not None
    if isinstance(command, str) or not command or headers:
        raise InvalidError("`command` is a list of words, without `headers`", hint='e.g. command=["my-server", "--quiet"]')
    words, added = list(command), dict(env or {})
    return lambda: _streams().process_streams(words, added, cwd)


def _streams() -> Any:
    """The module that needs the SDK, which takes half a second to import."""
    from apxm.interop import mcp_streams

    return mcp_streams


def _chosen(tools: list[Tool], name: str, only: Iterable[str] | None, effects: Mapping[str, str]) -> list[Tool]:
    """The tools that are wanted; InvalidError for a name that the server does not have."""
    offered = {tool.name: tool for tool in tools}
    wanted = list(offered) if only is None else list(only)
    for asked in (*wanted, *effects):
        if asked not in offered:
            known = ", ".join(f"`{each}`" for each in list(offered)[:20]) or "none"
            raise InvalidError(f"the MCP server `{name}` has no tool `{asked}`", hint=f"it has {known}")
    return [offered[each] for each in wanted]
