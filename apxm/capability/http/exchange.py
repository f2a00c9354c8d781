"""One HTTP/1.1 exchange over a connection that is open: write the request, read the answer within limits. Decides nothing.

An answer that two readers could read in two ways is refused, not repaired.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from asyncio import IncompleteReadError, LimitOverrunError
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apxm.errors import CapabilityError, InvalidError, TransientError

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncIterator, Awaitable, Mapping
    from typing import TypeVar

    T = TypeVar("T")

HEAD_MAX = 64 * 1024  # bytes of the status line and the headers together; StreamReader has the same limit
_PIECE = 64 * 1024
_CHUNK_LINE_MAX = 256
_HINTS_MAX = 8  # 1xx answers before the real one

_STATUS = re.compile(r"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n\0]*)?")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_OURS = frozenset(("host", "connection", "content-length", "transfer-encoding", "accept-encoding", "te", "upgrade", "expect"))


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """`bytes_max` holds for the body as it came and as it is unpacked; seconds in all, to connect, and without a byte."""

    bytes_max: int = 2 * 1024 * 1024
    total_s: float = 30.0
    connect_s: float = 10.0
    idle_s: float = 15.0
    redirects_max: int = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """`headers` have lower-case names; several of one name are joined with `, `."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def request_bytes(method: str, authority: str, path: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """A whole request; InvalidError for a header that is none, or that belongs to the connection."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {authority}", "Accept-Encoding: gzip", "Connection: close"]
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value) or name.lower() in _OURS:
            raise InvalidError(f"the request header {name!r:.80} cannot be sent")  # its value may be a secret
        lines.append(f"{name}: {value}")
    given = {name.lower() for name in headers}
    lines += [f"{name}: {value}" for name, value in (("User-Agent", "apxm"), ("Accept", "*/*")) if name.lower() not in given]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + (body or b"")


async def exchange(
    reader: StreamReader, writer: StreamWriter, method: str, request: bytes, limits: HttpLimits, where: str
) -> Answer:
    """Send and read; CapabilityError for what is no HTTP or too large, TransientError when nothing comes."""
    try:
        writer.write(request)
        await within(limits.idle_s, writer.drain(), f"{where} takes nothing")
        status, headers = await _head(reader, limits, where)
        body = bytearray()
        unpack = _Unpacker(headers.get("content-encoding", ""), limits.bytes_max, where)
        came = 0
        if method != "HEAD" and status not in (204, 304):
            async for piece in _pieces(reader, headers, limits, where):
                came += len(piece)
                body += unpack.feed(piece)
                if max(came, len(body)) > limits.bytes_max:
                    raise _too_large(where, limits.bytes_max)
            unpack.end()
    except (IncompleteReadError, OSError) as error:
        raise TransientError(f"{where} ended the connection in the middle of its answer") from error
    except LimitOverrunError as error:
        raise CapabilityError(f"{where} answers with headers of more than {HEAD_MAX} bytes") from error
    return Answer(status, headers, bytes(body))


async def within(seconds: float, awaitable: Awaitable[T], what: str) -> T:
    """Await, for so long at most; TransientError afterwards."""
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            return await awaitable
    except TimeoutError:
        if not scope.expired():  # the system's own
            raise
        raise TransientError(f"{what} for {seconds:g} s") from None


def _too_large(where: str, bytes_max: int) -> CapabilityError:
    return CapabilityError(f"{where} answers with more than {bytes_max} bytes", hint="raise max_bytes, where there is one")


async def _head(reader: StreamReader, limits: HttpLimits, where: str) -> tuple[int, dict[str, str]]:
    for _ in range(_HINTS_MAX):
        data = await within(limits.idle_s, reader.readuntil(b"\r\n\r\n"), f"{where} sends nothing")
        first, *rest = data[:-4].decode("latin-1").split("\r\n")
        line = _STATUS.fullmatch(first)
        if line is None:
            raise CapabilityError(f"{where} does not speak HTTP: it begins with {first!r:.80}")
        status = int(line[1])
        if status >= 200:
            return status, _headers(rest, where)
    raise CapabilityError(f"{where} announces an answer {_HINTS_MAX} times and gives none")


def _headers(lines: list[str], where: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        parts = _HEADER.fullmatch(line)
        if parts is None:
            raise CapabilityError(f"{where} answers with a header that is none: {line!r:.80}")
        name = parts[1].lower()
        if name in found and name in ("content-length", "transfer-encoding", "location"):
            if found[name] == parts[2]:
                continue
            raise CapabilityError(f"{where} answers with two headers `{name}` that differ")
        found[name] = f"{found[name]}, {parts[2]}" if name in found else parts[2]
    return found


async def _pieces(reader: StreamReader, headers: Mapping[str, str], limits: HttpLimits, where: str) -> AsyncIterator[bytes]:
    """The body as it comes, without the frame around it."""
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    silent = f"{where} sends nothing more"
    if coding is not None:
        if coding.lower() != "chunked" or length is not None:
            raise CapabilityError(f"{where} answers with the transfer coding {coding!r:.80}", hint="only `chunked` is read")
        while left := _chunk_size(await within(limits.idle_s, reader.readuntil(b"\r\n"), silent), where):
            if left > limits.bytes_max:
                raise _too_large(where, limits.bytes_max)
            async for piece in _exactly(reader, left, limits, silent):
                yield piece
            if await within(limits.idle_s, reader.readexactly(2), silent) != b"\r\n":
                raise CapabilityError(f"{where} answers with a chunk that does not end where it says")
    elif length is not None:
        if not re.fullmatch(r"[0-9]{1,18}", length):
            raise CapabilityError(f"{where} answers with the length {length!r:.80}")
        if int(length) > limits.bytes_max:
            raise _too_large(where, limits.bytes_max)
        async for piece in _exactly(reader, int(length), limits, silent):
            yield piece
    else:
        while piece := await within(limits.idle_s, reader.read(_PIECE), silent):
            yield piece


async def _exactly(reader: StreamReader, left: int, limits: HttpLimits, silent: str) -> AsyncIterator[bytes]:
    while left:
        piece = await within(limits.idle_s, reader.read(min(left, _PIECE)), silent)
        if not piece:
            raise IncompleteReadError(b"", left)
        left -= len(piece)
        yield piece


def _chunk_size(line: bytes, where: str) -> int:
    size = re.fullmatch(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n", line)
    if size is None or len(line) > _CHUNK_LINE_MAX:
        raise CapabilityError(f"{where} answers with a chunk without a size")
    return int(size[1], 16)


class _Unpacker:
    """Undoes gzip, never further than `bytes_max` and one."""

    def __init__(self, coding: str, bytes_max: int, where: str) -> None:
        if coding.lower() not in ("", "identity", "gzip", "x-gzip"):
            raise CapabilityError(f"{where} answers encoded as {coding!r:.80}, which was not asked for")
        self._zlib = zlib.decompressobj(wbits=31) if coding.lower() in ("gzip", "x-gzip") else None
        self._left, self._where, self._begun = bytes_max + 1, where, False

    def feed(self, piece: bytes) -> bytes:
        if self._zlib is None:
            return piece
        if self._zlib.eof or self._left == 0:
            return b""  # what stands behind the end of the packed text is nobody's
        self._begun = True
        try:
            plain = self._zlib.decompress(piece, self._left)
        except zlib.error as error:
            raise CapabilityError(f"{self._where} answers with gzip that is none: {error}") from None
        self._left -= len(plain)
        return plain

    def end(self) -> None:
        if self._zlib is not None and self._begun and not self._zlib.eof:
            raise CapabilityError(f"{self._where} answers with gzip that lacks its end")
