"""The guard: nothing leaves this machine, by whatever door; what stays on it is let through."""

from __future__ import annotations

import _socket
import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from apxm import CapabilityError, CapabilityRecord, Graph
from apxm.testing import NetworkGuard, NetworkRefused

if TYPE_CHECKING:
    from collections.abc import Callable

getaddrinfo = socket.getaddrinfo  # as a module that imported it long ago has it
FAR = "192.0.2.1"  # of a block that is nobody's (RFC 5737)
FAR6 = "2001:db8::1"


def udp(send: Callable[[socket.socket], Any], family: int = socket.AF_INET) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        send(one)


def tcp(connect: Callable[[socket.socket], Any]) -> None:
    with socket.socket() as one:
        one.settimeout(5)
        connect(one)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "connect to a number": (lambda: tcp(lambda one: one.connect((FAR, 80))), f"{FAR}:80 (connect)"),
    "connect to a name": (lambda: tcp(lambda one: one.connect(("host.invalid", 80))), "host.invalid:80 (connect)"),
    "connect_ex": (lambda: tcp(lambda one: one.connect_ex((FAR, 80))), f"{FAR}:80 (connect)"),
    "create_connection": (lambda: socket.create_connection(("host.invalid", 80)), "host.invalid (getaddrinfo)"),
    "a datagram": (lambda: udp(lambda one: one.sendto(b"x", (FAR, 53))), f"{FAR}:53 (sendto)"),
    "a datagram with flags": (lambda: udp(lambda one: one.sendto(b"x", 0, (FAR, 53))), f"{FAR}:53 (sendto)"),
    "a message": (lambda: udp(lambda one: one.sendmsg([b"x"], [], 0, ("host.invalid", 53))), "host.invalid:53 (sendmsg)"),
    "a socket below ours": (
        lambda: _socket.socket().connect((FAR, 80)),
        f"{FAR}:80 (connect)",
    ),
    "a look-up that was imported before": (lambda: getaddrinfo("host.invalid", 80), "host.invalid (getaddrinfo)"),
    "a look-up in bytes": (lambda: getaddrinfo(b"host.invalid", 80), "host.invalid (getaddrinfo)"),
    "an old look-up": (lambda: socket.gethostbyname("host.invalid"), "host.invalid (gethostbyname)"),
    "a reverse look-up": (lambda: socket.gethostbyaddr(FAR), f"{FAR} (gethostbyaddr)"),
    "asyncio": (lambda: asyncio.run(asyncio.wait_for(asyncio.open_connection(FAR, 80), 5)), f"{FAR}:80 (connect)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_leaves_the_machine_is_refused_with_its_address(name: str) -> None:
    reach, shown = REFUSED[name]
    with NetworkGuard("this test", "stay at home") as guard, pytest.raises(NetworkRefused) as caught:
        reach()
    assert str(caught.value) == f"this test tried to reach {shown}; it may use no network: stay at home"
    assert [str(one) for one in guard.attempts] == [shown]
    guard.attempts.clear()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6_is_refused_too() -> None:
    with NetworkGuard(), pytest.raises(NetworkRefused, match=FAR6):
        udp(lambda one: one.sendto(b"x", (FAR6, 53)), socket.AF_INET6)


def test_loopback_is_open() -> None:
    with NetworkGuard() as guard, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "localhost", "127.8.9.1"):
            with socket.socket() as one:
                one.connect_ex((host, port))
        udp(lambda one: one.sendto(b"x", ("localhost", port)))
        if socket.has_ipv6:
            udp(lambda one: one.sendto(b"x", ("::ffff:127.0.0.1", port)), socket.AF_INET6)
        socket.getaddrinfo(None, 80)
        socket.getaddrinfo(FAR, 80)  # a number asks nobody
        socket.getaddrinfo(socket.gethostname(), 80)
        assert guard.attempts == []


def test_unix_sockets_and_pipes_of_event_loops_are_open(tmp_path: Any) -> None:
    async def serve() -> bytes:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"yes\n")
            writer.close()

        server = await asyncio.start_unix_server(answer, tmp_path / "s")
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        said = await reader.readline()
        writer.close()
        server.close()
        return said

    with NetworkGuard() as guard:
        assert asyncio.run(serve()) == b"yes\n"
    assert guard.attempts == []


def test_other_threads_are_refused_and_named() -> None:
    caught: list[BaseException] = []

    def reach() -> None:
        try:
            socket.create_connection((FAR, 80))
        except BaseException as error:
            caught.append(error)

    with NetworkGuard() as guard:
        thread = threading.Thread(target=reach, name="worker-7")
        thread.start()
        thread.join()
    assert isinstance(caught[0], NetworkRefused)
    assert str(guard.attempts[0]) == f"{FAR}:80 (connect on thread worker-7)"


def test_a_capability_that_wants_out_fails_its_run_with_the_address(apxm_runtime: Any, no_network: NetworkGuard) -> None:
    def fetch() -> str:
        """Fetch it."""
        socket.create_connection(("host.invalid", 443))
        return ""

    runtime = apxm_runtime(capabilities={"fetch": CapabilityRecord("Fetch it.", fetch)})
    graph = Graph("out")
    graph.inv("fetch")
    with pytest.raises(CapabilityError, match=r"NetworkRefused: .*host.invalid"):
        runtime.execute(graph)
    no_network.attempts.clear()


def test_what_somebody_swallowed_is_told_once() -> None:
    with NetworkGuard("it") as guard:
        for _ in range(2):
            with pytest.raises(NetworkRefused):
                udp(lambda one: one.sendto(b"x", (FAR, 53)))
        assert guard.hidden() == f"it tried to reach {FAR}:53 (sendto), and hid the refusal; it may use no network"
        assert guard.hidden() is None


def test_guards_nest_and_leave_sockets_as_they_were() -> None:
    outer, inner = NetworkGuard("outer"), NetworkGuard("inner")
    before = dict(vars(socket.socket))
    with outer:
        with inner, pytest.raises(NetworkRefused, match="inner"):
            udp(lambda one: one.sendto(b"x", (FAR, 53)))
        with pytest.raises(NetworkRefused, match="outer"):
            udp(lambda one: one.sendto(b"x", (FAR, 53)))
    assert dict(vars(socket.socket)) == before
