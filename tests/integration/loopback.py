"""A real HTTP server on this machine for the time of a test, and what it was sent."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    Answer = Callable[[str, str, Any], tuple[int, Any]]


class Loopback:
    """Answers (method, path, body) with (status, JSON); `seen` has every request in order. Listens from the start."""

    def __init__(self, answer: Answer) -> None:
        self.seen: list[tuple[str, str, Any]] = []
        self._changed = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self._answer("POST", json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def do_GET(self) -> None:
                self._answer("GET", None)

            def _answer(self, method: str, body: Any) -> None:
                status, said = answer(method, self.path, body)
                with outer._changed:
                    outer.seen.append((method, self.path, body))
                    outer._changed.notify_all()
                text = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="loopback")
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def wait_for(self, count: int, timeout_s: float = 10.0) -> bool:
        """Whether so many requests came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.seen) >= count, timeout_s)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
