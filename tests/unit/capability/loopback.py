"""A server on this machine that says exactly the bytes that a test wants, and remembers what it was asked."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from threading import Event, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

Answer = Callable[[bytes], "bytes | Iterable[bytes]"]


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    """An answer with its length."""
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


class Loopback:
    """Serves one connection after the other; `requests` has what came, `over` is set when the test is done."""

    def __init__(
        self, answer: bytes | Answer, address: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self._answer: Answer = answer if callable(answer) else lambda _: answer
        self._tls = tls
        self.requests: list[bytes] = []
        self.over = Event()
        self._listening = socket.create_server((address, port))
        self.address, self.port = self._listening.getsockname()[:2]
        self.peer = f"{self.address}:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.peer}/"
        self._thread = Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        while True:
            link, _ = self._listening.accept()
            with link:
                if self.over.is_set():
                    return
                try:
                    self._talk(self._tls.wrap_socket(link, server_side=True) if self._tls else link)
                except OSError:
                    continue

    def _talk(self, link: socket.socket) -> None:
        with link:
            link.settimeout(10)
            request = b""
            while not self._whole(request):
                piece = link.recv(65_536)
                if not piece:
                    break
                request += piece
            self.requests.append(request)
            answer = self._answer(request)
            for piece in [answer] if isinstance(answer, bytes) else answer:
                link.sendall(piece)
            link.shutdown(socket.SHUT_WR)
            while link.recv(65_536):  # until the other side has it, else closing would throw it away
                pass

    @staticmethod
    def _whole(request: bytes) -> bool:
        head, end, body = request.partition(b"\r\n\r\n")
        if not end:
            return False
        lengths = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return len(body) >= (lengths[0] if lengths else 0)

    def __enter__(self) -> Loopback:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.over.set()
        socket.create_connection((self.address, self.port), 5).close()
        self._thread.join(5)
        self._listening.close()
        assert not self._thread.is_alive()


class Canary:
    """Listens on every address of this machine, of both kinds, and must never hear anything."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self._listening.setblocking(False)
        self.port: int = self._listening.getsockname()[1]

    def heard(self) -> bool:
        """Whether anybody has connected since it was last asked."""
        try:
            self._listening.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        self._listening.close()
