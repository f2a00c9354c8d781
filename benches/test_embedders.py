"""Embedders: texts a second of the default, what it finds by how many dimensions, and what a service costs besides its answer."""

from __future__ import annotations

import importlib
import inspect
import json
import random
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from apxm.memory.embed.hashing import HashingEmbedder
from apxm.memory.embed.http import HttpEmbedder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benches.conftest import Contest, Notes

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 5
TEXTS = 20_000
DIMENSIONS = (128, 256, 384, 512, 1024, 2048)
BATCH, DIMENSION = 64, 384
MODULES = """argparse ast asyncio calendar cmd codecs collections configparser csv ctypes datetime decimal difflib dis email enum
    fractions ftplib functools gettext gzip heapq html http.client imaplib inspect io ipaddress itertools json locale logging
    mailbox math mimetypes operator optparse os pathlib pdb pickle platform poplib queue random re sched selectors shelve shutil
    smtplib socket sqlite3 ssl statistics string struct subprocess tarfile tempfile textwrap threading timeit tokenize trace
    turtle typing unittest urllib.parse urllib.request uuid warnings weakref xml.dom.minidom zipfile numpy
    numpy.linalg networkx"""


def test_hashing_is_fast(notes: Notes) -> None:
    pick = random.Random(1)
    words = ["".join(pick.choices("etaoinshrdlu", k=pick.randint(2, 10))) for _ in range(20_000)]
    texts = [" ".join(pick.choices(words, k=9)) for _ in range(TEXTS)]
    embedder = HashingEmbedder()
    for count, least in ((TEXTS, 20_000), (100, None), (1, None)):
        times = []
        for _ in range(ROUNDS):
            began = perf_counter()
            embedder.embed(texts[:count])
            times.append(perf_counter() - began)
        speed = count / min(times)
        target = "" if least is None else f"≥ {least:,}"
        reached = None if least is None else speed >= least
        notes.note("hashing", f"{count:,} at once, 62 characters", count, ROUNDS, f"{speed:,.0f} texts/s", target, reached)
    began = perf_counter()
    embedder.embed_query(" ".join(pick.choices(words, k=170_000))[: 1 << 20])
    notes.note("hashing", "one of 1 MiB", 1, 1, f"{(perf_counter() - began) * 1e3:,.0f} ms")


def headings() -> list[tuple[str, str]]:
    """Headings of the docs with the text below them, and first lines of docstrings with the rest."""
    found = []
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for section in re.split(r"\n#+ ", page.read_text(encoding="utf-8"))[1:]:
            heading, _, body = section.partition("\n")
            found.append((heading, body))
    for name in MODULES.split():
        named = [value for key, value in sorted(vars(importlib.import_module(name)).items()) if not key.startswith("_")]
        inner = [value for one in named if inspect.isclass(one) for key, value in sorted(vars(one).items()) if key[0] != "_"]
        for value in (*named, *inner):
            first, _, rest = (inspect.getdoc(value) or "").partition("\n\n")
            found.append((first, rest))
    return [(first, rest[:2_000]) for first, rest in dict.fromkeys(found) if 8 < len(first) < 200 and len(rest) > 80]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_more_dimensions_find_more(notes: Notes) -> None:
    """How often the text below a heading is among the first ten. By vectors alone: the search of a memory knows words too."""
    questions, texts = zip(*headings(), strict=True)
    found = []
    for dimension in DIMENSIONS:
        embedder = HashingEmbedder(dimension)
        scores = embedder.embed(questions) @ embedder.embed(texts).T
        recall = float(((scores > np.diag(scores)[:, None]).sum(axis=1) < 10).mean())
        notes.note("hashing", f"recall@10, {dimension} dimensions", len(texts), 1, f"{recall:.3f}")
        found.append(recall)
    assert found == sorted(found)


@pytest.fixture
def service() -> Iterator[str]:
    """Answers at once, like Ollama, the same vectors to all."""
    vector = [round(number / DIMENSION, 6) for number in range(DIMENSION)]
    answer = json.dumps({"embeddings": [vector] * BATCH}).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n\r\n"
            self.wfile.write(head.encode() + answer)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_service_costs_little_besides_its_answer(contest: Contest, service: str) -> None:
    import httpx

    texts = [f"text number {number}, of some length" for number in range(BATCH)]
    embedder = HttpEmbedder("ollama", model="m", url=service, dimension=DIMENSION)
    client = httpx.Client(trust_env=False)

    def plain() -> tuple[int, int]:
        said = client.post(f"{service}/api/embed", json={"model": "m", "input": texts}).json()
        return np.array(said["embeddings"], np.float32).shape

    contest(
        "service",
        f"{BATCH} texts of {DIMENSION}",
        lambda: embedder.embed(texts).shape,
        plain,
        expected=(BATCH, DIMENSION),
        nodes=1,
        limit=1.5,
        rounds=25,
        against="httpx and json",
        per="ms",
    )
    embedder.close()
    client.close()
