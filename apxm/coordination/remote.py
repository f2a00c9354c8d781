"""The queues and checkpoints of a server, over HTTP: as those of this machine, except that every answer is a future.

    POST /v1/tasks/{queue}/claim        {agent_id, lease_ms, max_wait_ms: 0} -> {task_id, data, claim_token}; 404: none
    POST /v1/tasks/{id}/renew           {claim_token, lease_ms}              -> 409: the lease is lost
    POST /v1/tasks/{id}/complete        {claim_token, success: true}         -> 400, 404, 409: the lease is lost
    POST /v1/tasks/{id}/return          {claim_token}
    POST /v1/checkpoints                {checkpoint_id, message, display_data, answer_schema, timeout_ms} -> as GET
    GET  /v1/checkpoints/{id}           -> {checkpoint_id, status: pending | resumed | expired | withdrawn, human_input}; 404
    POST /v1/checkpoints/{id}/withdraw  {} -> as GET

The paths and names of claim, complete and checkpoints are those of the public reference.
"""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

from apxm.coordination.checkpoint import BYTES_MAX, Checkpoint
from apxm.coordination.queue import Claim, lost
from apxm.coordination.store import as_json
from apxm.errors import ApxmError, HandlerError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TIMEOUT_S = 10.0  # of one request
THREADS = 8
REPLY_BYTES_MAX = 4 << 20
STATES = {"pending": "open", "resumed": "answered", "expired": "expired", "withdrawn": "withdrawn"}


class Reply(NamedTuple):
    """What a server said: the HTTP status, and the JSON of its body where that is an object."""

    status: int
    body: dict[str, Any]


class Servers:
    """Sends requests from a few threads of its own; follows no redirect. `timeout_s` is that of one request."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="apxm-server")

    def post(self, url: str, body: Mapping[str, Any], then: Callable[[Reply], Any] = lambda reply: None) -> Future[Any]:
        """What `then` makes of the reply. TransientError when there is none, or one of 5xx or 429."""
        return self._pool.submit(lambda: then(self._call("POST", url, json.dumps(body).encode())))

    def get(self, url: str, then: Callable[[Reply], Any]) -> Future[Any]:
        """As `post`."""
        return self._pool.submit(lambda: then(self._call("GET", url, None)))

    def close(self) -> None:
        """Send nothing more; what is under way ends by its own timeout at the latest."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _call(self, method: str, url: str, body: bytes | None) -> Reply:
        from http.client import HTTPConnection, HTTPException, HTTPSConnection

        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self._timeout_s)
        headers = {"Accept": "application/json"} | ({"Content-Type": "application/json"} if body is not None else {})
        try:
            connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path or "/", body, headers)
            with connection.getresponse() as answer:
                status, text = answer.status, answer.read(REPLY_BYTES_MAX + 1)
        except (OSError, HTTPException) as error:
            raise TransientError(f"{method} {url}: {error or type(error).__name__}", hint="is the server there?") from error
        finally:
            connection.close()
        if status >= 500 or status == 429:
            raise TransientError(f"{method} {url} was answered with status {status}")
        if len(text) > REPLY_BYTES_MAX:
            raise HandlerError(f"{method} {url} was answered with more than {REPLY_BYTES_MAX:,} bytes")
        return Reply(status, _object(text))


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class RemoteQueues:
    """The queues of a server, as a worker needs them."""

    def __init__(self, servers: Servers, url: str) -> None:
        self._servers, self._url = servers, f"{url.rstrip('/')}/v1/tasks/"

    def claim(self, queue: str, owner: str, lease_ms: float) -> Future[Claim | None]:
        """Lease the next task of a queue; None when there is none to have now."""
        body = {"agent_id": owner, "lease_ms": lease_ms, "max_wait_ms": 0}
        return self._servers.post(self._place(queue, "claim"), body, self._claimed)

    def renew(self, task_id: str, token: str, lease_ms: float) -> Future[bool]:
        """Hold on to a task; False when it is not this claimer's any more."""
        body = {"claim_token": token, "lease_ms": lease_ms}
        return self._servers.post(self._place(task_id, "renew"), body, lambda reply: reply.status < 300)

    def acknowledge(self, task_id: str, token: str) -> Future[None]:
        """The task is done. UnknownEffectError `lease_lost` when it is not this claimer's any more."""

        def acknowledged(reply: Reply) -> None:
            if reply.status in (400, 404, 409):
                raise lost(task_id)
            self._expect(reply, "acknowledge a task")

        return self._servers.post(self._place(task_id, "complete"), {"claim_token": token, "success": True}, acknowledged)

    def give_back(self, task_id: str, token: str) -> Future[None]:
        """Let others have the task at once. A server that cannot will when the lease ends."""
        return self._servers.post(self._place(task_id, "return"), {"claim_token": token})

    def _claimed(self, reply: Reply) -> Claim | None:
        if reply.status == 404:
            return None
        self._expect(reply, "claim a task", "task_id", "claim_token")
        return Claim(str(reply.body["task_id"]), reply.body.get("data"), str(reply.body["claim_token"]))

    def _place(self, name: str, verb: str) -> str:
        return f"{self._url}{quote(name, safe='')}/{verb}"

    def _expect(self, reply: Reply, what: str, *keys: str) -> None:
        _expect(self._url, reply, what, *keys)


class RemoteCheckpoints:
    """The checkpoints of a server, as a run needs them."""

    def __init__(self, servers: Servers, url: str) -> None:
        self._servers, self._url = servers, f"{url.rstrip('/')}/v1/checkpoints"

    def open(
        self,
        id: str,
        message: str,
        data: Any = None,
        *,
        run_id: str = "",
        schema: Mapping[str, Any] | None = None,
        timeout_ms: float = 0,
    ) -> Future[Checkpoint]:
        """Ask; gives the checkpoint as it is now."""
        as_json(data, "what a PAUSE shows", BYTES_MAX)
        body: dict[str, Any] = {"checkpoint_id": id, "message": message, "display_data": data}
        body |= {"answer_schema": schema} if schema is not None else {}
        body |= {"timeout_ms": timeout_ms} if timeout_ms else {}

        def opened(reply: Reply) -> Checkpoint:
            _expect(self._url, reply, "open a checkpoint")
            return _checkpoint(id, reply, schema)

        return self._servers.post(self._url, body, opened)

    def get(self, id: str) -> Future[Checkpoint | None]:
        """The checkpoint as it is now; None when there is none of this id."""
        return self._servers.get(f"{self._url}/{quote(id, safe='')}", lambda reply: self._found(id, reply))

    def expire(self, id: str) -> Future[Checkpoint | None]:
        """Nobody waits any more: close it, unless it was answered at the last moment."""
        return self.withdraw(id)

    def withdraw(self, id: str, run_id: str = "") -> Future[Checkpoint | None]:
        """Nobody waits any more: close it, unless it was answered."""
        return self._servers.post(f"{self._url}/{quote(id, safe='')}/withdraw", {}, lambda reply: self._closed(id, reply))

    def _found(self, id: str, reply: Reply) -> Checkpoint | None:
        if reply.status == 404:
            return None
        _expect(self._url, reply, "read a checkpoint", "status")
        return _checkpoint(id, reply, None)

    def _closed(self, id: str, reply: Reply) -> Checkpoint | None:
        return _checkpoint(id, reply, None) if reply.status < 300 and "status" in reply.body else None


def _expect(url: str, reply: Reply, what: str, *keys: str) -> None:
    """HandlerError unless the server did what it was asked to, and said so."""
    missing = [key for key in keys if key not in reply.body]
    if reply.status >= 300 or missing:
        why = f"its reply has no `{missing[0]}`" if reply.status < 300 else f"status {reply.status} {reply.body.get('error', '')}"
        error: ApxmError = HandlerError(f"the server {url} was asked to {what}: {why.strip()}")
        error.called = True
        raise error


def _checkpoint(id: str, reply: Reply, schema: Mapping[str, Any] | None) -> Checkpoint:
    body = reply.body
    state = STATES.get(str(body.get("status", "pending")), "open")
    return Checkpoint(
        id=id,
        message=str(body.get("message", "")),
        data=body.get("display_data"),
        answer_schema=None if schema is None else dict(schema),
        run_id="",
        opened_at=0.0,
        deadline=None,
        state=state,
        answer=body.get("human_input"),
    )
