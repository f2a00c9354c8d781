"""Whatever a server sends, reading it gives an answer within its limits, or an error of ours. Nothing else, and in time."""

from __future__ import annotations

import asyncio
import gzip
import random
from typing import Any, cast

from apxm.capability.http.exchange import HttpLimits, exchange
from apxm.errors import CapabilityError, TransientError

LIMITS = HttpLimits(bytes_max=10_000, idle_s=5)
COUNT, COUNT_LONG = 2_000, 200_000
GOOD = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;a=b\r\nabc\r\n0\r\nTrailer: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"hello" * 100),
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n" + gzip.compress(bytes(90_000)),
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 404 Not Found\r\nX-A: b\r\nX-A: c\r\n\r\nno such thing",
    b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
]
PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b": ",
    b"Content-Length: 7\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"\r\n\r\n",
    b"fffffff",
    b"-1",
]
PIECES += [b"Content-Encoding: gzip\r\n", b"HTTP/1.1 200 OK\r\n", b" ", b"\xff\xfe", b"0\r\n\r\n", b"x" * 9_000]


class Nowhere:
    """A connection that takes everything."""

    def write(self, data: bytes) -> None:
        pass

    async def drain(self) -> None:
        pass


def mutant(chance: random.Random) -> bytes:
    raw = bytearray(chance.choice(GOOD))
    for _ in range(chance.randint(0, 4)):
        at = chance.randint(0, len(raw))
        kind = chance.randrange(4)
        if kind == 0:
            raw[at:at] = chance.choice(PIECES)
        elif kind == 1:
            del raw[at : at + chance.randint(1, 20)]
        elif kind == 2 and at < len(raw):
            raw[at] = chance.randrange(256)
        else:
            raw[at:] = chance.choice(GOOD)[chance.randint(0, 60) :]
    return bytes(raw)


async def read(raw: bytes) -> Any:
    reader = asyncio.StreamReader()
    reader.feed_data(raw)
    reader.feed_eof()
    return await exchange(reader, cast("Any", Nowhere()), "GET", b"", LIMITS, "somebody")


def test_an_answer_is_read_within_its_limits_or_refused(seed: int, long_run: bool) -> None:
    chance = random.Random(seed)
    outcomes = {"read": 0, "refused": 0}

    async def every() -> None:
        for _ in range(COUNT_LONG if long_run else COUNT):
            raw = mutant(chance)
            try:
                answer = await read(raw)
            except (CapabilityError, TransientError):
                outcomes["refused"] += 1
                continue
            outcomes["read"] += 1
            assert 200 <= answer.status <= 599, raw
            assert len(answer.body) <= LIMITS.bytes_max, raw
            assert all(name == name.lower() and not {"\r", "\n", "\0"} & set(value) for name, value in answer.headers.items()), (
                raw
            )

    asyncio.run(every())
    assert min(outcomes.values()) > 200, outcomes
