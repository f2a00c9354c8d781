"""What a URL names, read so that no two readers can disagree, and which hosts somebody may reach. Connects to nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urljoin

from apxm.capability.http.addresses import Standing, judge
from apxm.errors import DeniedError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apxm.capability.http.addresses import Address

URL_MAX = 8_192
PATTERNS_MAX = 1_000
PORTS = {"http": 80, "https": 443}
FORMS = "`example.org`, `*.example.org`, `example.org:8443`, or `*` for every public host"

_URL = re.compile(r"(https?)://([^/?#]*)([^#]*)(?:#.*)?", re.I)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([1-9][0-9]{0,4}))?")
_NAME = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_BAD = re.compile(r"[\x00-\x20\x7f\\]")
_METADATA = ("metadata.google.internal", "metadata.goog", "metadata.azure.internal", "instance-data.ec2.internal")
_LOCAL = ("localhost", "local", "internal", "home.arpa")  # last parts of names that mean one's own network


class Target(NamedTuple):
    """Where a URL leads. `host` is lower-case; `address` when it is one; `path` is what the request line says."""

    scheme: str
    host: str
    port: int
    path: str
    address: Address | None

    @property
    def authority(self) -> str:
        """`host` or `host:port`, as a Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def peer(self) -> str:
        """`host:port`, as an allow-list has it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def read_url(url: str) -> Target:
    """Take a URL apart; InvalidError for whatever is not plainly http or https, a host, perhaps a port, and a path."""
    if not isinstance(url, str) or len(url) > URL_MAX:
        raise InvalidError(f"the URL {url!r:.80} is no text of at most {URL_MAX} characters")
    odd = _BAD.search(url)
    if odd is not None:
        raise InvalidError(f"the URL {url!r:.200} has {odd[0]!r} at {odd.start()}", hint="write it as a percent code, e.g. `%20`")
    parts = _URL.fullmatch(url)
    if parts is None:
        raise InvalidError(f"{url!r:.200} is no URL", hint="expected `http://HOST/PATH` or `https://HOST/PATH`")
    scheme = parts[1].lower()
    host, port, address = read_host(parts[2], f"the URL {url!r:.200}")
    path = quote(parts[3], safe="/?:@!$&'()*+,;=%~-._[]|^`{}<>\"", errors="replace")
    if not path.startswith("/"):
        path = f"/{path}"
    return Target(scheme, host, PORTS[scheme] if port is None else port, path, address)


def read_host(text: str, whose: str) -> tuple[str, int | None, Address | None]:
    """`host` or `host:port` as (host, port, the address that the host is); InvalidError says what is wrong with it."""
    if "@" in text:
        raise InvalidError(f"{whose} has a user name or password before the host", hint="leave out everything up to the `@`")
    parts = _AUTHORITY.fullmatch(text)
    port = int(parts[2]) if parts is not None and parts[2] else None
    if parts is None or (port is not None and port > 65_535):
        hint = "letters, digits, `-` and `.`, perhaps `:PORT`; a name in other letters in its `xn--` form"
        raise InvalidError(f"{whose} has no plain host: {text!r:.80}", hint=hint)
    host = parts[1].lower()
    try:
        if host.startswith("["):
            numbers = IPv6Address(host[1:-1])
            return str(numbers), port, numbers
        if _NUMBER.fullmatch(host.rpartition(".")[2]):
            address = IPv4Address(host)
            return str(address), port, address
    except AddressValueError as error:
        raise InvalidError(f"{whose} has no plain address: {error}", hint="four decimal numbers, or IPv6 in brackets") from None
    if not _NAME.fullmatch(host):
        raise InvalidError(f"{whose} has no plain host: {host!r:.80}", hint="no empty part, no `.` at the end")
    return host, port, None


def follow(target: Target, location: str) -> Target:
    """Where a redirect leads; InvalidError for what `read_url` refuses."""
    odd = _BAD.search(location)  # urljoin drops some of these without a word
    if odd is not None:
        raise InvalidError(f"{target} redirects to {location!r:.200}, which is no URL")
    try:
        return read_url(location if _SCHEME.match(location) else urljoin(str(target), location))
    except ValueError:  # of urljoin: brackets that are none
        raise InvalidError(f"{target} redirects to {location!r:.200}, which is no URL") from None


class _Pattern(NamedTuple):
    """One entry of an allow-list. `host` "" is every host; `below` means the names that end in it."""

    host: str
    port: int | None
    below: bool

    def covers(self, target: Target) -> bool:
        if self.port is None:
            if target.port not in PORTS.values():
                return False
        elif target.port != self.port:
            return False
        if not self.host:
            return True
        return target.host.endswith(f".{self.host}") if self.below else target.host == self.host


@dataclass(frozen=True, slots=True)
class Reach:
    """The hosts that somebody may reach; equal ones are equal.

    An entry without a port means 80 and 443. `private` are pairs of host and port that may have an address of one's own
    machine or network.
    """

    allowed: tuple[_Pattern, ...] = ()
    private: frozenset[tuple[str, int]] = frozenset()

    @classmethod
    def parse(cls, allowed: Iterable[str], private: Iterable[str] = ()) -> Reach:
        """From texts: FORMS, and for `private` exactly `host:port`.

        What is in `private` is allowed as well. An entry of `allowed` that is an address with its port is private too if
        its address is: whoever writes 127.0.0.1:8080 means it. A name is not: it may come to mean anything.
        """
        patterns = [_pattern(text) for text in allowed]
        own: set[tuple[str, int]] = set()
        for pattern in patterns:
            if pattern.port is not None and pattern.host and judge(pattern.host)[0] is Standing.PRIVATE:
                own.add((pattern.host, pattern.port))
        for text in private:
            pattern = _pattern(text)
            if not pattern.host or pattern.port is None or pattern.below:
                raise InvalidError(f"{text!r:.80} is no private peer", hint="write exactly `HOST:PORT`")
            patterns.append(pattern)
            own.add((pattern.host, pattern.port))
        if len(patterns) > PATTERNS_MAX:
            raise InvalidError(f"{len(patterns)} hosts are more than the {PATTERNS_MAX} that an allow-list holds")
        return cls(tuple(patterns), frozenset(own))

    def admit(self, target: Target) -> bool:
        """Whether the host may have a private address; DeniedError when it may not be reached, or only by another name."""
        if target.host in _METADATA:
            raise DeniedError(f"{target.host} is a metadata service; nobody may reach it")
        if not any(pattern.covers(target) for pattern in self.allowed):
            named = ", ".join(map(_text, self.allowed[:10])) or "none"
            where = target.host if target.port in PORTS.values() else f"{target.host} at port {target.port}"
            known = target.port in PORTS.values() and target.address is None
            this = _text(_Pattern(target.host, None if known else target.port, False))
            raise DeniedError(f"the host {where} is not allowed", hint=f"allowed: {named}; this one is `{this}`")
        private = (target.host, target.port) in self.private
        if not private and target.address is None and ("." not in target.host or _is_local(target.host)):
            raise DeniedError(
                f"the host {target.host} is of one's own network",
                hint=f"allow its address with its port: `ADDRESS:{target.port}`",
            )
        return private


def admit_address(target: Target, address: str, *, private: bool) -> None:
    """DeniedError unless a connection for this target may go to this address."""
    standing, what = judge(address)
    if standing is Standing.PUBLIC or (private and standing is Standing.PRIVATE):
        return
    named = address if address == target.host else f"{target.host}, which has the address {address},"
    hint = None
    if standing is Standing.PRIVATE:
        number = f"[{address}]" if ":" in address else address
        hint = f"should that be meant, allow exactly `{number}:{target.port}`"
    raise DeniedError(f"{named} must not be reached: it is {what}", hint=hint)


def _is_local(host: str) -> bool:
    return any(host == name or host.endswith(f".{name}") for name in _LOCAL)


def _pattern(text: str) -> _Pattern:
    if not isinstance(text, str):
        raise InvalidError(f"{text!r:.80} is no host", hint=f"write {FORMS}")
    if text == "*" or text.startswith("*:"):
        port = read_host(f"any{text[1:]}", f"the allowed host {text!r:.80}")[1]
        return _Pattern("", port, below=False)
    below = text.startswith("*.")
    try:
        host, port, address = read_host(text[2:] if below else text, f"the allowed host {text!r:.80}")
    except InvalidError as error:
        raise InvalidError(error.message, hint=f"write {FORMS}") from None
    if below and address is not None:
        raise InvalidError(f"the allowed host {text!r:.80} is an address with a `*`", hint=f"write {FORMS}")
    return _Pattern(host, port, below)


def _text(pattern: _Pattern) -> str:
    host = f"[{pattern.host}]" if ":" in pattern.host else pattern.host or "*"
    return f"{'*.' if pattern.below else ''}{host}{'' if pattern.port is None else f':{pattern.port}'}"
