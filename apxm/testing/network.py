"""Keeps the code under test from the network: refuses what would leave this machine, and remembers that it was tried.

Two nets, because either has a hole. An audit hook sees every use of Python's sockets, whoever imported what and from where,
on every thread and event loop; but `connect` looks up a host name before it reports. So while a guard is up, the methods of
`socket.socket` that take an address are looked at first. Loopback and Unix sockets stay open.

Not seen: child processes, and C libraries that open sockets without Python's socket module.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

# Look-ups of these ask nobody. The machine's own name is asked for by servers of the standard library when they start.
_LOCAL_NAMES = ("", "localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
_LOCAL_FAMILIES = frozenset(getattr(socket, name) for name in ("AF_UNIX", "AF_NETLINK", "AF_ALG") if hasattr(socket, name))
_LOOK_UPS = ("socket.getaddrinfo", "socket.gethostbyname")  # a number asks nobody
_REVERSE = ("socket.gethostbyaddr", "socket.getnameinfo")  # a number asks a name server
_SENDING = ("socket.connect", "socket.sendto", "socket.sendmsg")
_METHODS = ("connect", "connect_ex", "sendto", "sendmsg")


class NetworkRefused(AssertionError):
    """The code under test wanted to leave this machine. Not an OSError: code that copes with outages must not hide it."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was refused: `how` is connect, getaddrinfo, sendto and so on."""

    how: str
    address: str
    thread: str

    def __str__(self) -> str:
        where = "" if self.thread == threading.main_thread().name else f" on thread {self.thread}"
        return f"{self.address} ({self.how}{where})"


class NetworkGuard:
    """While it is entered, nothing leaves this machine. `attempts` has what was refused; `who` is named in the error."""

    def __init__(self, who: str = "this code", hint: str = "") -> None:
        self.who, self.hint = who, hint
        self.attempts: list[Attempt] = []

    def refuse(self, attempt: Attempt) -> NetworkRefused:
        """Remember an attempt, and give the error to raise."""
        self.attempts.append(attempt)
        return NetworkRefused(self._said(f"tried to reach {attempt}"))

    def hidden(self) -> str | None:
        """What to say of attempts so far, when nobody else said it: somebody swallowed the error. Forgets them."""
        tried, self.attempts = self.attempts, []
        return self._said(f"tried to reach {', '.join(map(str, dict.fromkeys(tried)))}, and hid the refusal") if tried else None

    def _said(self, what: str) -> str:
        return f"{self.who} {what}; it may use no network{': ' if self.hint else ''}{self.hint}"

    def __enter__(self) -> NetworkGuard:
        _raise_guard(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _lower_guard(self)


_guards: list[NetworkGuard] = []  # the last one speaks
_lock = threading.Lock()
_hooked = False
_kept: dict[str, Any] = {}  # what socket.socket itself had under the names of _METHODS


def _raise_guard(guard: NetworkGuard) -> None:
    global _hooked
    with _lock:
        if not _hooked:
            sys.addaudithook(_audit)  # for good: Python has no way back. Without a guard it looks at one list.
            _hooked = True
        if not _guards:
            for name in _METHODS:
                _kept[name] = vars(socket.socket).get(name)
                setattr(socket.socket, name, _looking_first(name))
        _guards.append(guard)


def _lower_guard(guard: NetworkGuard) -> None:
    with _lock:
        _guards.remove(guard)
        if not _guards:
            for name, before in _kept.items():
                if before is None:
                    delattr(socket.socket, name)
                else:
                    setattr(socket.socket, name, before)
            _kept.clear()


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if _guards and event.startswith("socket."):
        _judge(event, args)


def _looking_first(name: str) -> Any:
    """A method of socket.socket that looks at the address before the C code looks up its host name."""
    plain = getattr(socket.socket, name)
    event = "socket.connect" if name == "connect_ex" else f"socket.{name}"

    def guarded(self: socket.socket, *args: Any) -> Any:
        if args and (name != "sendmsg" or len(args) == 4):
            _judge(event, (self, args[-1]))
        return plain(self, *args)

    return guarded


def _judge(event: str, args: tuple[Any, ...]) -> None:
    address = _refused(event, args)
    guards = _guards
    if address is not None and guards:
        if event == "socket.connect":
            args[0].close()  # callers close it after an OSError only, and its warning would blame a later test
        raise guards[-1].refuse(Attempt(event.removeprefix("socket."), address, threading.current_thread().name))


def _refused(event: str, args: tuple[Any, ...]) -> str | None:
    """The address that may not be reached or asked for, as text; None when it may."""
    if event in _SENDING:
        used, address = args[0], args[1]
        if address is None or used.family in _LOCAL_FAMILIES:
            return None
        if not isinstance(address, tuple) or not address:
            return str(address)
        host = address[0]
        return None if _is_local(host) else f"{_text(host)}:{address[1] if len(address) > 1 else '?'}"
    if event in _LOOK_UPS:
        return None if _is_local(args[0]) or _number(args[0]) is not None else _text(args[0])
    if event in _REVERSE:
        host = args[0][0] if isinstance(args[0], tuple) and args[0] else args[0]
        return None if _is_local(host) else _text(host)
    return None


def _is_local(host: Any) -> bool:
    if host is None:
        return True
    number = _number(host)
    if number is None:
        name = _text(host).rstrip(".").lower()
        return name in _LOCAL_NAMES or name.endswith(".localhost") or name == socket.gethostname().lower()
    mapped = getattr(number, "ipv4_mapped", None)
    number = number if mapped is None else mapped
    return number.is_loopback or number.is_unspecified


def _number(host: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(_text(host))
    except ValueError:
        return None


def _text(host: Any) -> str:
    return host.decode("ascii", "replace") if isinstance(host, (bytes, bytearray)) else str(host)
