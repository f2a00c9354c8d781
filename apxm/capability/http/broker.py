"""The one way out for HTTP: a host is looked up once, every address is judged, and the connection goes to one of those judged.

Nothing is looked up again between the check and the connection, so a name that changes its meaning meanwhile changes
nothing. Each redirect is a new request with all its checks. No proxy, no cookie, no password is ever taken from anywhere.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from apxm.capability.calling.threads import Lane, outcome
from apxm.capability.http.exchange import HttpLimits, exchange, request_bytes, within
from apxm.capability.http.reach import admit_address, follow, read_url
from apxm.errors import ApxmError, CapabilityError, InvalidError, TransientError, UnknownEffectError

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Mapping

    from apxm.capability.http.exchange import Answer
    from apxm.capability.http.reach import Reach, Target

Resolver: TypeAlias = Callable[[str, int], Sequence[str]]  # (host, port) -> addresses; runs on a thread

RESOLVERS_MAX = 8  # look-ups at once
ADDRESSES_MAX = 4  # of one host that are tried
CLOSE_S = 0.2
SAFE = frozenset(("GET", "HEAD"))
METHODS = frozenset((*SAFE, "POST", "PUT", "PATCH", "DELETE"))
REDIRECTS = frozenset((301, 302, 303, 307, 308))


@dataclass(frozen=True, slots=True)
class Response:
    """What came: `url` is where the redirects ended, `headers` have lower-case names, `body` is unpacked."""

    status: int
    url: str
    headers: Mapping[str, str]
    body: bytes


class Broker:
    """Makes HTTP requests for tools and messages. One per runtime; owns the threads that look names up.

    `resolver` and `tls` are for hosts and tests that have their own names and certificates.
    """

    def __init__(self, *, resolver: Resolver | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._resolver = resolver or system_resolver
        self._tls = tls
        self._lane = Lane("resolve", RESOLVERS_MAX)

    async def request(
        self,
        method: str,
        url: str,
        *,
        reach: Reach,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        limits: HttpLimits | None = None,
    ) -> Response:
        """One request, with the redirects of a GET or HEAD; whatever status comes at the end is an answer.

        Raises InvalidError for what is no URL, DeniedError for hosts and addresses that may not be reached, TransientError
        when nobody answers and nothing can have happened, UnknownEffectError when a request that may change something was
        sent and its answer is lost, CapabilityError for answers that are too large or no HTTP.
        """
        if method not in METHODS:
            raise InvalidError(f"the method {method!r:.40} is none of {', '.join(sorted(METHODS))}")
        limits = limits or HttpLimits()
        target = read_url(url)
        trip = _Trip(method, body, dict(headers or {}))
        scope = asyncio.timeout(limits.total_s)
        try:
            async with scope:
                return await self._follow(trip, target, reach, limits)
        except TimeoutError:
            if not scope.expired():
                raise
            raise trip.lost(TransientError(f"{target.host} did not answer within {limits.total_s:g} s")) from None

    def close(self) -> None:
        """End the threads; a look-up that hangs is left behind."""
        self._lane.close(CLOSE_S)

    async def _follow(self, trip: _Trip, target: Target, reach: Reach, limits: HttpLimits) -> Response:
        for _ in range(limits.redirects_max + 1):
            answer = await self._once(trip, target, reach, limits)
            location = answer.headers.get("location")
            if answer.status not in REDIRECTS or location is None or trip.method not in SAFE:
                return Response(answer.status, str(target), answer.headers, answer.body)
            beyond = follow(target, location)
            if target.scheme == "https" and beyond.scheme == "http":
                raise CapabilityError(f"{target.host} redirects from https to http: {beyond}")
            if beyond.origin != target.origin:
                trip.headers = {}  # what was meant for one host is no other's business
            target = beyond
        raise CapabilityError(f"{target.host} redirects for the {limits.redirects_max + 1}. time", hint="perhaps in a circle")

    async def _once(self, trip: _Trip, target: Target, reach: Reach, limits: HttpLimits) -> Answer:
        private = reach.admit(target)
        addresses = await self._judged(target, limits, private=private)
        request = request_bytes(trip.method, target.authority, target.path, trip.headers, trip.body)
        reader, writer = await self._connect(target, addresses, limits)
        try:
            trip.sent = True
            return await exchange(reader, writer, trip.method, request, limits, target.host)
        except ApxmError as error:
            raise trip.lost(error) from error.__cause__
        finally:
            writer.transport.abort()

    async def _judged(self, target: Target, limits: HttpLimits, *, private: bool) -> list[str]:
        """The addresses of a host, each of them allowed: one that is not condemns the host."""
        if target.address is not None:
            found: Sequence[str] = [str(target.address)]
        else:
            job = self._lane.submit("http", lambda: self._resolver(target.host, target.port))
            try:
                found = await within(limits.connect_s, outcome(self._lane, job), f"the address of {target.host} was looked up")
            except OSError as error:
                text = f"the host {target.host} has no address: {error.strerror or error}"
                temporary = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
                raise (TransientError if temporary else CapabilityError)(text) from error
        if not found:
            raise CapabilityError(f"the host {target.host} has no address")
        for address in found:
            admit_address(target, address, private=private)
        return list(dict.fromkeys(found))[:ADDRESSES_MAX]

    async def _connect(self, target: Target, addresses: Sequence[str], limits: HttpLimits) -> tuple[StreamReader, StreamWriter]:
        for address in addresses[:-1]:
            try:
                return await self._open(target, address, limits)
            except TransientError:  # the next one may be reachable
                continue
        return await self._open(target, addresses[-1], limits)

    async def _open(self, target: Target, address: str, limits: HttpLimits) -> tuple[StreamReader, StreamWriter]:
        loop = asyncio.get_running_loop()
        link = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            link.setblocking(False)
            where = f"{target.host} at {address}"
            await within(limits.connect_s, loop.sock_connect(link, (address, target.port)), f"{where} was not reached")
            context = self._context() if target.scheme == "https" else None
            opening = asyncio.open_connection(sock=link, ssl=context, server_hostname=target.host if context else None)
            return await within(limits.connect_s, opening, f"{where} made no secure connection")
        except ssl.SSLCertVerificationError as error:
            link.close()
            raise CapabilityError(f"the certificate of {target.host} does not hold: {error.verify_message}") from error
        except OSError as error:
            link.close()
            raise TransientError(f"{target.host} cannot be reached: {error.strerror or error}") from error
        except BaseException:
            link.close()
            raise

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


class _Trip:
    """A request on its way; knows whether it left, and so what a failure means."""

    __slots__ = ("body", "headers", "method", "sent")

    def __init__(self, method: str, body: bytes | None, headers: dict[str, str]) -> None:
        self.method, self.body, self.headers = method, body, headers
        self.sent = False

    def lost(self, error: ApxmError) -> ApxmError:
        """What an error means for the caller."""
        if not self.sent or self.method in SAFE or not isinstance(error, TransientError):
            return error
        text = f"{error.message}, after a {self.method} was sent"
        return UnknownEffectError(text, hint="look whether it happened; it is not sent again")


def system_resolver(host: str, port: int) -> list[str]:
    """The addresses that the system knows for a host."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
