"""`apxm mcp serve`: the flows of files as tools for MCP clients, on standard streams or by HTTP on this machine."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import contextmanager, nullcontext, redirect_stdout
from functools import partial
from typing import TYPE_CHECKING, Any

from apxm.cli.command import Command, Option
from apxm.cli.exits import Exit
from apxm.cli.flags import OPTIONS as SETTINGS

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator

    from mcp.server.lowlevel.server import Server

    from apxm.capability.record import CapabilityRecord
    from apxm.runtime import Runtime

LOCAL = ("127.0.0.1", "localhost", "::1")
STOP_S = 3  # for open connections to end by themselves
OPTIONS = (
    Option("files", "artifacts, graphs as JSON, or Python files (`file.py:name`)", "FILE", repeat=True),
    *SETTINGS,
    Option("--http", "serve streamable HTTP at /mcp there instead; HOST is 127.0.0.1 (default), localhost or ::1", "[HOST:]PORT"),
)


def serve(order: Namespace) -> int:
    """Load, bind, serve until the client is gone or a signal comes; the exit code."""
    from apxm.cli import flags, source
    from apxm.cli.run import equip
    from apxm.errors import ConfigError
    from apxm.runtime import Runtime

    try:
        import anyio
        import mcp  # noqa: F401
    except ImportError as error:
        raise ConfigError("`apxm mcp serve` needs the package `mcp`", hint="pip install 'apxm[mcp]'") from error
    from apxm.interop.mcp import make_server

    address = None if order.http is None else _address(order.http)
    settings = flags.settings(order)
    with _standard_output_kept():
        programs = [source.load(file) for file in order.files]
        offered: dict[str, CapabilityRecord] = {}
        for program in programs:
            offered |= source.offered(program, settings.capabilities)
    artifacts = [program.compiled(offered) for program in programs]
    with Runtime(settings.runtime_config()) as runtime:
        equip(runtime, settings, [artifact.into_dag() for artifact in artifacts], offered)
        server = make_server(runtime, artifacts, run=settings.run_options())
        if address is None:
            return anyio.run(_on_standard_streams, server, runtime)
        with socket.create_server(address, family=socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as listening:
            return anyio.run(_on_http, server, listening)


async def _on_standard_streams(server: Server[Any], runtime: Runtime) -> int:
    """Serve until the client closes our standard input. The exit code."""
    import anyio
    from mcp.server.stdio import stdio_server

    async with stdio_server() as (reads, writes):
        with anyio.CancelScope() as scope, _signals(scope.cancel) as received, redirect_stdout(sys.stderr):
            await server.run(reads, writes, server.create_initialization_options())
        if received:  # what reads the standard input is a thread that cannot be interrupted
            runtime.close()
            os._exit(128 + received[0])
    return Exit.OK


async def _on_http(server: Server[Any], listening: socket.socket) -> int:
    """Serve until a signal comes. The exit code."""
    import uvicorn

    from apxm.cli import report

    class Quiet(uvicorn.Server):
        def capture_signals(self) -> Any:
            return nullcontext()  # it would raise them again, in the middle of closing

    host, port = listening.getsockname()[:2]
    app = server.streamable_http_app(host=host)
    http = Quiet(uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=STOP_S))
    with _signals(partial(setattr, http, "should_exit", True)) as received:
        report.say(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}/mcp")
        await http.serve(sockets=[listening])
    return 128 + received[0] if received else Exit.OK


@contextmanager
def _signals(stop: Callable[[], object]) -> Iterator[list[int]]:
    """Call `stop` at Ctrl-C and SIGTERM; gives the list of those that came."""
    import asyncio

    loop, received = asyncio.get_running_loop(), list[int]()

    def heard(number: int) -> None:
        received.append(number)
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, heard, number)
    try:
        yield received
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@contextmanager
def _standard_output_kept() -> Iterator[None]:
    """What is printed meanwhile goes to standard error: standard output belongs to the protocol."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _address(text: str) -> tuple[str, int]:
    """HOST and PORT; there is no password, so only this machine may be one that listens."""
    from apxm.errors import InvalidError

    host, _, port = text.rpartition(":")
    host = host.strip("[]") or LOCAL[0]
    if not port.isascii() or not port.isdigit() or int(port) > 65_535 or host not in LOCAL:
        raise InvalidError(
            f"--http {text!r:.80} is no address of this machine",
            hint=f"HOST:PORT with HOST one of {', '.join(LOCAL)}; nobody has to log in, so others come through a proxy of yours",
        )
    return host, int(port)


COMMANDS = {
    "mcp serve": Command(
        "mcp serve",
        "Offer flows as tools to MCP clients.",
        "Every flow of every FILE becomes a tool with its description, the schema of its parameters, its effect class and its\n"
        "bounds. Each call is a run of its own under the options given here. Standard input and output speak the protocol,\n"
        "everything else goes to standard error; it ends when the client closes the standard input.",
        OPTIONS,
        serve,
    )
}
