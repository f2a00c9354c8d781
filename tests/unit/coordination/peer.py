"""A real peer on loopback: an HTTP server on a thread that answers messages in as many ways as a test wants."""

from __future__ import annotations

import json
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        peer: Peer = self.server.peer  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        peer.got.append((self.path, dict(self.headers), json.loads(body)))
        peer.arrived.set()
        getattr(self, f"say_{self.path.strip('/').split('/')[-1]}", self.say_receive)(peer, json.loads(body))

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def say_receive(self, peer: Peer, data: dict[str, Any]) -> None:
        self.answer(200, json.dumps(peer.reply(data)).encode())

    def say_raw(self, peer: Peer, data: dict[str, Any]) -> None:
        self.answer(data["message"]["status"], data["message"]["body"].encode(), **data["message"].get("headers", {}))

    def say_slow(self, peer: Peer, data: dict[str, Any]) -> None:
        peer.let_go.wait(10)
        self.close_connection = True

    def say_huge(self, peer: Peer, data: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 40))
        self.end_headers()

    def say_half(self, peer: Peer, data: dict[str, Any]) -> None:
        """Promises more than it sends, and closes."""
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b'{"half')
        self.close_connection = True

    def say_gone(self, peer: Peer, data: dict[str, Any]) -> None:
        """Takes the message, and closes without a word."""
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


class Peer:
    """`got` has (path, headers, envelope) of every message; `let_go` ends the slow answers. A context manager."""

    def __init__(self, reply: Any = lambda envelope: envelope["message"]) -> None:
        self.reply = reply
        self.got: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.arrived, self.let_go = Event(), Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.peer = self  # type: ignore[attr-defined]
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Peer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
