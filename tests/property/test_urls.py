"""A URL that is accepted means the same to everybody: mutated ones are read by us and by two other readers."""

from __future__ import annotations

import json
import random
import string
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from apxm.capability.http.addresses import Standing, judge
from apxm.capability.http.reach import Reach, Target, admit_address, follow, read_url
from apxm.errors import DeniedError, InvalidError

HOSTILE = Path(__file__).parents[1] / "unit" / "capability" / "hostile_urls.txt"
GOOD = [
    "http://example.org/",
    "https://www.example.org:8443/a/b?c=d&e=%20#f",
    "http://93.184.216.34:8080/x",
    "https://[2606:2800:220:1:248:1893:25c8:1946]/",
    "http://xn--bcher-kva.example/?q=ä",
]
PIECES = [
    *"@:/\\[]%.#?&=-_ \t\n\0",
    "127.0.0.1",
    "[::1]",
    "localhost",
    "::",
    "%2e",
    "0x7f",
    "\u3002",
    "\uff0e",
    "//",
    "http:",
    "xn--",
]
COUNT, COUNT_LONG = 3_000, 300_000


def mutants(seed: int, count: int) -> list[str]:
    """URLs that were good or bad, with a few changes each."""
    chance = random.Random(seed)
    lines = [line for line in HOSTILE.read_text().splitlines() if line and not line.startswith("#")]
    origins = [*GOOD * 20, *(json.loads(line).replace("{port}", "8080") for line in lines)]
    found = []
    for _ in range(count):
        url = chance.choice(origins)
        for _ in range(chance.randint(1, 3)):
            at = chance.randint(0, len(url))
            kind = chance.randrange(4)
            piece = chance.choice(PIECES) if chance.random() < 0.7 else chance.choice(string.printable)
            if kind == 0:
                url = url[:at] + piece + url[at:]
            elif kind == 1:
                url = url[:at] + url[at + chance.randint(1, 3) :]
            elif kind == 2:
                url = url[:at] + piece + url[at + len(piece) :]
            else:
                other = chance.choice(origins)
                url = url[:at] + other[chance.randint(0, len(other)) :]
        found.append(url)
    return found


def accepted(url: str) -> Target | None:
    try:
        return read_url(url)
    except InvalidError:
        return None


def test_readers_agree_on_every_url_that_is_accepted(seed: int, long_run: bool) -> None:
    httpx = pytest.importorskip("httpx")
    read = 0
    for url in mutants(seed, COUNT_LONG if long_run else COUNT):
        target = accepted(url)
        if target is None:
            continue
        read += 1
        standard = urlsplit(url)
        host = (standard.hostname or "").lower()
        assert read_url(f"{target.scheme}://{f'[{host}]' if ':' in host else host}/").host == target.host, url
        assert (standard.scheme, standard.port or (443 if target.scheme == "https" else 80)) == (target.scheme, target.port), url
        assert (standard.username, standard.password) == (None, None), url
        sent = httpx.URL(str(target))  # what we send is what others would, from what we made of it
        assert sent.raw_host.decode().strip("[]") == target.host, url
        assert (sent.port or (443 if sent.scheme == "https" else 80)) == target.port, url
        assert str(read_url(str(target))) == str(target), url
        assert target.path.isascii(), url
        assert target.path.isprintable(), url
        assert " " not in target.path, url
    assert read > 200


def test_no_mutant_is_allowed_to_go_to_an_address_that_is_not_public(seed: int, long_run: bool) -> None:
    reach = Reach.parse(["*", "*:8080", "*:8443"])
    base = read_url("https://example.org/")
    for url in mutants(seed + 1, COUNT_LONG if long_run else COUNT):
        for read in (read_url, lambda location: follow(base, location)):
            try:
                target = read(url)
                private = reach.admit(target)
                address = str(target.address or "93.184.216.34")
                admit_address(target, address, private=private)
            except (InvalidError, DeniedError):
                continue
            assert not private, url
            assert judge(address)[0] is Standing.PUBLIC, url
            assert target.host != "localhost", url
