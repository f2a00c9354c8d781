"""What bytes can do to a decoder, and what the scan says about it before a decoder sees them."""

from __future__ import annotations

import math
import random
import struct
import subprocess
import sys

import msgpack
import pytest

from apxm.artifact.format import MAP_ENTRIES_MAX, NESTING_MAX, STRING_BYTES_MAX
from apxm.artifact.scan import scan
from apxm.errors import ArtifactError


def _nested(depth: int) -> bytes:
    return b"\x91" * (depth - 1) + b"\x90"


def _random_value(rng: random.Random, depth: int = 0):
    kind = rng.randrange(9 if depth < 5 else 7)
    match kind:
        case 0:
            return rng.choice([None, True, False])
        case 1:
            return rng.choice(
                [0, 1, -1, 127, 128, 255, 256, 65_535, 65_536, 2**31, 2**32, 2**63 - 1, -33, -129, -(2**15) - 1, -(2**63)]
            )
        case 2:
            return rng.choice([0.0, 1.5, -2.5e300, 5e-324])
        case 3 | 4:
            return "ä" * rng.choice([0, 1, 15, 16, 31, 32, 255, 256, 70_000])
        case 5 | 6:
            return b"\xc1" * rng.choice([0, 1, 255, 256, 70_000])
        case 7:
            return [_random_value(rng, depth + 1) for _ in range(rng.choice([0, 1, 3, 15, 16]))]
        case _:
            return {f"k{i}": _random_value(rng, depth + 1) for i in range(rng.choice([0, 1, 3, 15, 16]))}


def test_whatever_msgpack_writes_for_a_plain_value_comes_through(seed):
    rng = random.Random(seed)
    for _ in range(300):
        scan(msgpack.packb(_random_value(rng)), 1_000_000)


def test_every_prefix_and_every_longer_form_of_a_value_is_refused(seed):
    rng = random.Random(seed)
    for _ in range(40):
        data = msgpack.packb([_random_value(rng, 4), {"a": [1, "b", 2.0]}])
        for cut in {rng.randrange(len(data)) for _ in range(40)}:
            with pytest.raises(ArtifactError):
                scan(data[:cut], 1_000_000)
        with pytest.raises(ArtifactError, match="after its end"):
            scan(data + b"\xc0", 1_000_000)


REFUSED = {
    "array32 that claims 2^32-1": (b"\xdd\xff\xff\xff\xff", "middle of a value"),
    "array32 that claims 2^32-1, within the count": (b"\xdd\xff\xff\xff\xff" + b"\x00" * 100, "middle of a value"),
    "map32 that claims 2^32-1": (b"\xdf\xff\xff\xff\xff", "a map of 4294967295"),
    "str32 that claims 2 GiB": (b"\xdb\x80\x00\x00\x00", "a text of"),
    "bin32 that claims 4 GiB": (b"\xc6\xff\xff\xff\xff", "middle of a value"),
    "ext32 that claims 4 GiB": (b"\xc9\xff\xff\xff\xff\x01", "extension type"),
    "204 nested array32": (b"\xdd\x00\x00\x00\x01" * 204, "nested deeper"),
    "nested array32 with huge claims": (b"\xdd\x00\xff\xff\xff" * 1000, "nested deeper"),
    "fixext": (b"\xd4\x01\x00", "extension type"),
    "timestamp": (msgpack.packb(msgpack.Timestamp(1)), "extension type"),
    "NaN": (msgpack.packb(math.nan), "no number or infinite"),
    "infinity": (msgpack.packb(-math.inf), "no number or infinite"),
    "negative NaN": (b"\xcb\xff\xf8" + bytes(6), "no number or infinite"),
    "float 32": (b"\xca" + struct.pack(">f", 1.0), "32 bits"),
    "uint over 64 bits signed": (msgpack.packb(2**63), "over 64 bits"),
    "reserved byte": (b"\xc1", "reserved byte"),
    "int key": (msgpack.packb({1: 2}), "no text"),
    "bytes key": (msgpack.packb({b"a": 2}), "no text"),
    "list key": (b"\x81\x90\xc0", "no text"),
    "nil key": (b"\x82\xa1a\xc0\xc0\xc0", "no text"),
    "empty": (b"", "middle of a value"),
    "two values": (b"\xc0\xc0", "after its end"),
    "text longer than the file": (b"\xa5ab", "middle of a value"),
    "long text": (msgpack.packb("a" * (STRING_BYTES_MAX + 1)), "a text of"),
    "wide map": (msgpack.packb({str(i): i for i in range(MAP_ENTRIES_MAX + 1)}), "a map of"),
    "deep list": (_nested(NESTING_MAX + 2), "nested deeper"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_bytes_are_refused(name):
    data, expected = REFUSED[name]
    with pytest.raises(ArtifactError, match=expected):
        scan(data, 10_000_000)


def test_the_limits_themselves_are_allowed():
    scan(_nested(NESTING_MAX + 1), 100)  # the innermost is empty, and holds nothing deeper
    scan(msgpack.packb([0] * 99), 100)
    with pytest.raises(ArtifactError, match="more than 100 values"):
        scan(msgpack.packb([0] * 100), 100)


_BOMBS = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
from apxm.artifact import Artifact
from apxm.artifact.format import seal
from apxm.errors import ArtifactError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = 16 * 1024 * 1024 - 64
bombs = [
    b"\\x80" * size, b"\\xdd\\x00\\xff\\xff\\xff" + b"\\x80" * (size - 5), b"\\xdd\\x00\\xff\\xff\\xff" * (size // 5),
    b"\\xdd\\x00\\xff\\xff\\xff" + b"\\x00" * (size - 5), b"\\x91" * size, b"\\xdc\\xff\\xff" * (size // 3),
    b"\\x87\\xa4name\\xdd\\x00\\x30\\x00\\x00" + b"\\x90" * 0x300000,
]
for bomb in bombs:
    try:
        Artifact.from_bytes(seal(bomb))
    except ArtifactError:
        continue
    sys.exit("accepted")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_bombs_of_the_full_size_take_little_memory():
    out = subprocess.run([sys.executable, "-c", _BOMBS], capture_output=True, text=True, check=True, timeout=60)
    assert int(out.stdout) < 400 * 1024  # KiB
