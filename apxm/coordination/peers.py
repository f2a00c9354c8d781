"""Agents in other processes: their URLs by name, who may send to which, and one message sent to one of them over HTTP."""

from __future__ import annotations

import asyncio
import json
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from apxm.aam.agent import nearest
from apxm.capability.http.exchange import HttpLimits
from apxm.capability.http.reach import Reach, read_url
from apxm.errors import (
    ApxmError,
    BindError,
    DeadlineError,
    DeniedError,
    HandlerError,
    InvalidError,
    TransientError,
    UnknownEffectError,
)
from apxm.values import check

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.capability.grants import Grants
    from apxm.capability.http.broker import Broker, Response
    from apxm.capability.http.reach import Target
    from apxm.coordination.mailbox import Envelope

GRANT = "communicate"
RECEIVE = "/v1/receive"  # where a peer takes messages whose URL has no path
PEERS_MAX = 10_000
REQUEST_BYTES_MAX = REPLY_BYTES_MAX = 4 * 1024 * 1024
TIMEOUT_S = 30.0  # for the whole exchange, when the node does not say
CONNECT_S = 10.0
SAID_CHARS_MAX = 300  # of what a peer says about a failure
_HOW = 'none are registered: Runtime.peers.register(name, url), or `peers = ["NAME=URL"]` in apxm.toml'


class Peer(NamedTuple):
    """Somebody that a message can be posted to."""

    name: str  # as the program says it: a registered name, or a URL
    target: Target

    def __str__(self) -> str:
        return f"`{self.name}`" if "://" in self.name else f"`{self.name}` at {self.target}"


class Peers:
    """The peers that the host of a runtime registered. To be registered is to be permitted. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._peers: Mapping[str, Peer] = MappingProxyType({})

    def register(self, name: str, url: str) -> None:
        """File a peer under a name; one of the same name is replaced. A URL without a path means its path RECEIVE."""
        if not name or "://" in name:
            raise InvalidError(f"{name!r:.80} is no name of a peer", hint="a name is a text, and no URL")
        peer = Peer(name, _target(url))
        with self._lock:
            if name not in self._peers and len(self._peers) >= PEERS_MAX:
                raise InvalidError(f"peer `{name}` is one more than the {PEERS_MAX} that a runtime knows", code="limit")
            self._peers = MappingProxyType({**self._peers, name: peer})

    def remove(self, name: str) -> bool:
        """Forget a peer; False when there was none of that name."""
        with self._lock:
            if name not in self._peers:
                return False
            self._peers = MappingProxyType({key: peer for key, peer in self._peers.items() if key != name})
            return True

    def list(self) -> dict[str, str]:
        """Name -> URL."""
        return {name: str(peer.target) for name, peer in sorted(self._peers.items())}

    def find(self, recipient: str, grants: Grants, *, secure: bool, explicit: bool) -> Peer:
        """Whom a message to `recipient` goes to, a registered name or a URL.

        A URL needs the grant `communicate=` with its scheme, host and port. What a model's plan sends (`explicit`) needs
        one for a registered peer too, by its name. BindError for an unknown name, DeniedError for what is not granted, and
        for a URL without TLS where it must be `secure`.
        """
        if "://" in recipient:
            peer = Peer(recipient, _target(recipient))
            granted = _grants(peer, grants)
        else:
            registered = self._peers.get(recipient)
            if registered is None:
                raise BindError(f"there is no peer `{recipient}`", hint=nearest(recipient, self._peers) if self._peers else _HOW)
            peer, granted = registered, not explicit or _grants(registered, grants)
        if not granted:
            scope = _origin(peer.target) if "://" in recipient else recipient
            raise DeniedError(f"a message to {peer} was not granted", hint=f"grant `{GRANT}={scope}`")
        if secure and peer.target.scheme != "https":
            raise DeniedError(f"a message to {peer} would go without TLS", hint="use an https URL, or the protocol `http`")
        return peer


def _target(url: str) -> Target:
    target = read_url(url)
    return target._replace(path=RECEIVE) if target.path == "/" else target


def _origin(target: Target) -> str:
    return f"{target.scheme}://{target.authority}"


def _grants(peer: Peer, grants: Grants) -> bool:
    """Whether one of the grants is about this peer: its name, or its origin."""
    for scope in grants.scopes(GRANT):
        if scope == peer.name or ("://" in scope and read_url(scope).origin == peer.target.origin):
            return True
    return False


async def post(broker: Broker, peer: Peer, envelope: Envelope, timeout_s: float) -> Any:
    """Send one message, and give the reply: the JSON value of the answer, or the receipt when none is wanted.

    TransientError when it was not reached, so that nothing was sent; UnknownEffectError when the answer was lost;
    DeadlineError when it took too long. Nothing is sent twice, and no redirect is followed.
    """
    body = _body(envelope, peer)
    limits = HttpLimits(REPLY_BYTES_MAX, total_s=timeout_s + 1, connect_s=min(CONNECT_S, timeout_s + 1), idle_s=timeout_s + 1)
    headers = {"Content-Type": "application/json", "Accept": "application/json", "Idempotency-Key": envelope.id}
    reach = Reach.parse((), (_address(peer.target),))
    scope = asyncio.timeout(timeout_s)
    try:
        async with scope:
            answer = await broker.request("POST", str(peer.target), reach=reach, body=body, headers=headers, limits=limits)
    except TimeoutError:
        if not scope.expired():
            raise
        text = f"{peer} gave no answer within {timeout_s:g} s; whether it did anything with the message is not known"
        raise _sent(DeadlineError(text)) from None
    except UnknownEffectError as error:
        raise _sent(UnknownEffectError(f"the answer of {peer} was lost: {error.message}", hint=error.hint)) from error
    except TransientError as error:
        raise TransientError(f"{peer} was not reached: {error.message}") from error
    return _reply(answer, peer, envelope)


def _address(target: Target) -> str:
    """Exactly this host and port: whoever registered or granted them meant them, in one's own network too."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    return f"{host}:{target.port}"


def _body(envelope: Envelope, peer: Peer) -> bytes:
    try:
        body = json.dumps(envelope.to_map(), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        text = f"the message to {peer} holds what JSON cannot carry: {error}"
        raise InvalidError(text, hint="send text, numbers, lists and maps") from None
    if len(body) > REQUEST_BYTES_MAX:
        raise InvalidError(f"the message to {peer} takes {len(body)} bytes, the bound is {REQUEST_BYTES_MAX}", code="limit")
    return body


def _reply(answer: Response, peer: Peer, envelope: Envelope) -> Any:
    """What an answer means: the peer has it, so whatever is wrong with it, the message is not sent again."""
    if not 200 <= answer.status < 300:
        raise _sent(_refusal(answer, peer))
    if not envelope.reply:
        return envelope.receipt()
    if not answer.body.strip():
        hint = "a peer answers with a JSON value; set `reply` to false where none is wanted"
        raise _sent(HandlerError(f"{peer} gave no reply, only the status {answer.status}", hint=hint))
    try:
        value = json.loads(answer.body, parse_constant=_no_number)
        check(value, f"the reply of {peer}")
    except (ValueError, RecursionError) as error:
        raise _sent(HandlerError(f"{peer} replied with what is no JSON: {error}")) from None
    except ApxmError as error:
        raise _sent(error) from None
    return value


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _refusal(answer: Response, peer: Peer) -> ApxmError:
    """The error of a status that is no success. 502 and 504 come from a proxy, which knows no more than we do."""
    said = " ".join(answer.body.decode("utf-8", "replace").split())
    what = f": {said[:SAID_CHARS_MAX]}" if said else ""
    text = f"{peer} answered with the status {answer.status}{what}"
    if 300 <= answer.status < 400:
        return DeniedError(f"{peer} redirects to {answer.headers.get('location', 'nowhere')!r:.200}; messages are not redirected")
    if answer.status in (401, 403, 407):
        return DeniedError(text)
    if answer.status in (408, 425, 429, 503):
        return TransientError(text, hint="nothing was done there; it may take the message later")
    if answer.status in (502, 504):
        return UnknownEffectError(text, hint="a proxy answered: look whether the message arrived")
    return InvalidError(text) if answer.status < 500 else HandlerError(text)


def _sent(error: ApxmError) -> ApxmError:
    """Mark an error: the message went out, so nobody may fire the node again."""
    error.called = True
    return error
