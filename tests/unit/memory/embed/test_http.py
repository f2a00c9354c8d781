import base64
import ipaddress
import json
import logging
import socket
import ssl
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from apxm.errors import ConfigError, EmbedderError, TransientError
from apxm.llm.resilience import RetryPolicy
from apxm.memory.embed import http
from apxm.memory.embed.http import HttpEmbedder

pytest.importorskip("httpx", reason="the extra `models` is not installed")

KEY = "sk-very-secret-0123456789"


def vector_of(text: str, dimension: int = 4) -> list[float]:
    """What the services here make of a text: not of length 1, another one for every text."""
    return [float(len(text)), *(float(ord(text[index % len(text)])) for index in range(dimension - 1))]


class Server:
    """Speaks like OpenAI, Ollama and Cohere; `script` are answers to give first: (status, headers, body), or a function that is
    given the handler and answers by itself. `seen` has (path, headers, body) of every request."""

    def __init__(self, context=None) -> None:
        self.script = []
        self.seen = []
        self.peers = set()
        self.dimension = 4
        self.released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.seen.append((self.path, dict(self.headers), body))
                outer.peers.add(self.client_address)
                answer = outer.script.pop(0) if outer.script else (200, {}, outer.answer(self.path, body))
                if callable(answer):
                    answer(self)
                else:
                    self.say(*answer)

            def say(self, status, headers, body) -> None:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # a client that does not trust us leaves
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def answer(self, path, body):
        if path == "/v1/embeddings":
            size = body.get("dimensions", self.dimension)
            data = [{"object": "embedding", "index": n, "embedding": vector_of(t, size)} for n, t in enumerate(body["input"])]
            usage = {"prompt_tokens": 8, "total_tokens": 8}
            return {"object": "list", "data": data[::-1], "model": body["model"], "usage": usage}
        if path == "/api/embed":
            size = body.get("dimensions", self.dimension)
            vectors = [vector_of(text, size) for text in body["input"]]
            return {"model": body["model"], "embeddings": vectors, "total_duration": 14143917, "prompt_eval_count": 8}
        assert path == "/v2/embed", path
        size = body.get("output_dimension", self.dimension)
        vectors = [vector_of(text, size) for text in body["texts"]]
        return {"id": "1", "embeddings": {"float": vectors}, "texts": body["texts"], "meta": {"api_version": {"version": "2"}}}

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server():
    one = Server()
    yield one
    one.close()


@contextmanager
def asking(server, kind="openai", **options):
    """An embedder of the server; its pauses are noted in `paused` and take no time."""
    url = server if isinstance(server, str) else server.url + ("/v1" if kind == "openai" else "")
    paused: list[float] = []
    options = {"model": "m", "pause": paused.append, "retry": RetryPolicy(draw=lambda: 1.0), **options}
    embedder = HttpEmbedder(kind, url=url, **options)
    embedder.paused = paused
    try:
        yield embedder
    finally:
        embedder.close()


def unit(vector):
    return np.array(vector) / np.linalg.norm(vector)


# ---- what is asked ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["openai", "ollama", "cohere"])
def test_every_service_gives_vectors_of_length_1_in_the_order_of_the_texts(server, kind) -> None:
    texts = [f"text {number}" * (number + 1) for number in range(10)]
    with asking(server, kind, batch=3) as embedder:
        found = embedder.embed(texts)
        assert (found.dtype, found.shape) == (np.float32, (10, 4))
        assert np.allclose(found, [unit(vector_of(text)) for text in texts], atol=1e-6)
        assert np.allclose(embedder.embed_query("text 0"), found[0])
        assert embedder.embed_query("text 0").shape == (4,)
        assert embedder.embed([]).shape == (0, 4)
        assert embedder.fingerprint.to_map() == {"name": kind, "version": "m", "dimension": 4, "normalized": True}
    asked = [body.get("input", body.get("texts")) for _, _, body in server.seen]
    assert [len(part) for part in asked] == [1, 3, 3, 3, 1, 1, 1]  # the first asks for the dimension
    assert len(server.peers) == 1  # one connection for all


def test_openai_is_asked_as_its_reference_says(server) -> None:
    with asking(server, "openai", model="text-embedding-3-small", api_key=KEY, dimension=8) as embedder:
        assert embedder.fingerprint.dimension == 8
        assert server.seen == []  # known, so nothing is asked
        assert embedder.embed(["one"]).shape == (1, 8)
    ((path, headers, body),) = server.seen
    assert path == "/v1/embeddings"
    assert body == {"model": "text-embedding-3-small", "input": ["one"], "encoding_format": "float", "dimensions": 8}
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["content-type"] == "application/json"


def test_ollama_is_asked_as_its_reference_says(server) -> None:
    with asking(server, "ollama", model="all-minilm", dimension=4) as embedder:
        embedder.embed(["one", "two"])
    ((path, headers, body),) = server.seen
    assert path == "/api/embed"
    assert body == {"model": "all-minilm", "input": ["one", "two"], "truncate": True, "dimensions": 4}
    assert "authorization" not in headers


def test_cohere_is_told_queries_from_texts(server) -> None:
    with asking(server, "cohere", model="embed-v4.0", dimension=4, api_key=KEY) as embedder:
        embedder.embed(["one"])
        embedder.embed_query("two")
    (_, _, text), (path, _, query) = server.seen
    rest = {"model": "embed-v4.0", "embedding_types": ["float"], "truncate": "END", "output_dimension": 4}
    assert path == "/v2/embed"
    assert text == {**rest, "texts": ["one"], "input_type": "search_document"}
    assert query == {**rest, "texts": ["two"], "input_type": "search_query"}


def test_prefixes_mark_queries_and_texts_and_are_part_of_the_fingerprint(server) -> None:
    with asking(server, dimension=4, query_prefix="query: ", text_prefix="passage: ") as embedder:
        embedder.embed(["one"])
        embedder.embed_query("two")
        marked = embedder.fingerprint
    assert [body["input"] for _, _, body in server.seen] == [["passage: one"], ["query: two"]]
    versions = {marked.version}
    for others in ({}, {"query_prefix": "query: "}, {"text_prefix": "passage: "}, {"chars_max": 10}):
        with asking(server, dimension=4, **others) as embedder:
            assert embedder.fingerprint.name == marked.name
            versions.add(embedder.fingerprint.version)
    assert len(versions) == 5


def test_texts_are_cut_and_cleaned_and_empty_ones_are_not_sent(server) -> None:
    with asking(server, dimension=4, chars_max=5) as embedder:
        found = embedder.embed(["", "abcdefgh", " \n", "a\ud800"])
        assert not embedder.embed_query("").any()
    assert [body["input"] for _, _, body in server.seen] == [["abcde", "a?"]]
    assert [bool(vector.any()) for vector in found] == [False, True, False, True]


def test_a_request_is_bounded_in_characters(server, monkeypatch) -> None:
    monkeypatch.setattr(http, "REQUEST_CHARS", 100)
    texts = ["x" * 60, "y" * 50, "z" * 50, "w"]
    with asking(server, dimension=4, chars_max=60) as embedder:
        assert len(embedder.embed(texts)) == 4
    assert [body["input"] for _, _, body in server.seen] == [texts[:1], texts[1:3], texts[3:]]


def test_vectors_in_base64_are_read(server) -> None:
    sent = base64.b64encode(np.array([3, 0, 4], "<f4").tobytes()).decode()
    server.script = [(200, {}, {"data": [{"index": 0, "embedding": sent}]})]
    with asking(server, dimension=3) as embedder:
        assert np.allclose(embedder.embed(["one"]), [[0.6, 0, 0.8]])


# ---- what comes back ----------------------------------------------------------------------------------------------------
def one(vector):
    return {"data": [{"index": 0, "embedding": vector}]}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"not json", "something else than vectors"),
        (b"", "something else than vectors"),
        (b"\xff\xfe", "something else than vectors"),
        ({}, "something else than vectors"),
        ([], "something else than vectors"),
        ({"data": None}, "something else than vectors"),
        ({"data": []}, "0 vectors to 1 texts"),
        ({"data": [{"index": 0, "embedding": [1, 2]}, {"index": 1, "embedding": [1, 2]}]}, "2 vectors to 1 texts"),
        ({"data": [{"index": 7, "embedding": [1, 2]}]}, "index"),
        ({"data": [{"index": 0, "embedding": [1, 2]}, {"index": 0, "embedding": [1, 2]}]}, "index"),
        ({"data": [{"embedding": [1, 2]}]}, "something else than vectors"),
        (one([]), "a vector of 0 numbers"),
        (one([1, 2, 3]), "a vector of 3 numbers, expected 2"),
        (one(["1", "2"]), "something else than vectors"),
        (one([True, False]), "something else than vectors"),
        (one([None, 1]), "something else than vectors"),
        (one([[1], [2]]), "something else than vectors"),
        (one({"a": 1}), "something else than vectors"),
        (b'{"data": [{"index": 0, "embedding": [NaN, 1]}]}', "something else than vectors"),
        (b'{"data": [{"index": 0, "embedding": [1e999, 1]}]}', "something else than vectors"),
        (one([1e300, 1]), "not finite"),
        (one(base64.b64encode(np.array([np.nan, 1], "<f4").tobytes()).decode()), "not finite"),
        (one("!!!"), "something else than vectors"),
        (one("AAAA"), "something else than vectors"),
        (b'{"data":' + b"[" * 100_000, "something else than vectors"),
    ],
)
def test_an_answer_that_is_not_exactly_the_vectors_is_refused(server, body, why) -> None:
    server.script = [(200, {}, body)]
    with asking(server, dimension=2) as embedder, pytest.raises(EmbedderError, match=why) as caught:
        embedder.embed(["one"])
    assert caught.value.code == "embedder"
    assert server.url in str(caught.value)
    assert len(server.seen) == 1  # it would answer the same again


def test_the_dimension_of_the_first_answer_holds_ever_after(server) -> None:
    with asking(server, "ollama") as embedder:
        embedder.embed(["one"])
        server.dimension = 5  # another model behind the same name
        with pytest.raises(EmbedderError, match="a vector of 5 numbers, expected 4"):
            embedder.embed(["one"])
        assert embedder.fingerprint.dimension == 4


def test_vectors_of_different_length_in_one_answer_are_refused(server) -> None:
    server.script = [(200, {}, {"embeddings": [[1.0, 2.0], [1.0]]})]
    with asking(server, "ollama", dimension=2) as embedder, pytest.raises(EmbedderError, match="a vector of 1 numbers"):
        embedder.embed(["one", "two"])


def test_an_answer_is_bounded_in_bytes(server, monkeypatch) -> None:
    monkeypatch.setattr(http, "BODY_MAX", 1_000)
    server.script = [(200, {}, b" " * 1_001)]
    with asking(server, dimension=2) as embedder, pytest.raises(EmbedderError, match="more than 1000 bytes"):
        embedder.embed(["one"])


# ---- what may pass, and what does not -----------------------------------------------------------------------------------
def drop(handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def half(handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"data":')
    handler.wfile.flush()
    drop(handler)


@pytest.mark.parametrize(
    "answer", [(500, {}, {}), (503, {}, b"busy"), (429, {}, {}), drop, half], ids=["500", "503", "429", "dropped", "half"]
)
def test_what_may_pass_is_tried_again_with_growing_pauses(server, answer) -> None:
    server.script = [answer, answer]
    with asking(server, dimension=4) as embedder:
        assert embedder.embed(["one"]).any()
        assert embedder.paused == [0.5, 1.0]
    assert len(server.seen) == 3


def test_what_does_not_pass_is_a_transient_error_after_the_last_try(server) -> None:
    server.script = [(503, {}, {"error": {"message": "overloaded"}})] * 9
    with asking(server, dimension=4, tries=3) as embedder:
        with pytest.raises(TransientError, match="answers 503: overloaded; it was tried 3 times"):
            embedder.embed(["one"])
        assert len(server.seen) == 3
        server.script = []
        assert embedder.embed(["one"]).any()  # and later it works again


def test_a_service_says_how_long_to_wait(server) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    server.script = [(429, {"Retry-After": said}, {}) for said in ("7", "0", "-3", soon, "nan", "soon")]
    with asking(server, dimension=4, tries=9) as embedder:
        embedder.embed(["one"])
        assert embedder.paused[:3] == [7.0, 0.0, 0.0]
        assert 20 < embedder.paused[3] <= 30
        assert embedder.paused[4:] == [8.0, 16.0]  # our own pauses again


def test_a_service_that_asks_to_wait_for_long_is_not_waited_for(server) -> None:
    server.script = [(429, {"Retry-After": "3600"}, {})]
    with asking(server, dimension=4) as embedder:
        with pytest.raises(TransientError, match="asks to wait 3600 s; it was tried once"):
            embedder.embed(["one"])
        assert embedder.paused == []


def test_patience_ends_before_the_tries_do(server) -> None:
    server.script = [(503, {}, {})] * 9
    with asking(server, dimension=4, tries=9, patience_s=0.2) as embedder:
        with pytest.raises(TransientError, match="it was tried once"):
            embedder.embed(["one"])
        assert embedder.paused == []  # half a second would be more than is left


def test_no_connection_is_a_transient_error() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with asking(url, "ollama", tries=2) as embedder, pytest.raises(TransientError, match="cannot be reached"):
            embedder.fingerprint  # noqa: B018


def test_a_service_that_says_nothing_or_drips_is_a_transient_error(server) -> None:
    def silent(handler) -> None:
        server.released.wait(10)

    def drip(handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        for _ in range(250):  # five seconds, if nobody minds
            if not server.released.wait(0.02):
                handler.wfile.write(b" ")

    server.script = [silent, drip]
    started = time.monotonic()
    with asking(server, dimension=4, tries=2, timeout_s=0.2) as embedder:
        with pytest.raises(TransientError, match=r"does not end its answer within 0\.2 s"):
            embedder.embed(["one"])
        assert len(server.seen) == 2
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("status", "hint"), [(400, ""), (401, "check the key"), (404, "check the URL"), (413, "smaller `batch`"), (302, "redirects")]
)
def test_a_refusal_is_an_error_at_once_with_what_to_try(server, status, hint) -> None:
    server.script = [(status, {"Location": f"{server.url}/elsewhere"}, {"error": {"message": "no such\nthing"}})]
    with asking(server, dimension=4) as embedder, pytest.raises(EmbedderError, match=f"answers {status}: no such thing.*{hint}"):
        embedder.embed(["one"])
    assert len(server.seen) == 1


def test_an_empty_account_is_not_waited_for(server) -> None:
    server.script = [(429, {}, {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}})]
    with asking(server, dimension=4) as embedder, pytest.raises(EmbedderError, match="exceeded your quota"):
        embedder.embed(["one"])


def test_texts_that_a_service_calls_too_long_are_halved_until_they_are_not(server) -> None:
    answer = server.answer

    def limited(handler) -> None:
        *_, body = server.seen[-1]
        if any(len(text) > 1_000 for text in body["input"]):
            said = {"error": {"message": "This model's maximum context length is 8192 tokens", "type": "invalid_request_error"}}
            handler.say(400, {}, said)
        else:
            handler.say(200, {}, answer("/v1/embeddings", body))

    server.script = [limited] * 100
    texts = ["a", "b" * 3_000, "c" * 1_000, "d"]
    with asking(server, dimension=4) as embedder:
        found = embedder.embed(texts)
    expected = [vector_of(text) for text in ("a", "b" * 750, "c" * 1_000, "d")]
    assert np.allclose(found, [unit(vector) for vector in expected], atol=1e-6)


def test_a_service_that_calls_every_text_too_long_is_not_asked_without_end(server) -> None:
    server.script = [(413, {}, {"error": "input must have less than 1 tokens"})] * 100
    with asking(server, dimension=4) as embedder, pytest.raises(EmbedderError, match="less than 1 tokens"):
        embedder.embed(["x" * 8_000] * 64)
    assert len(server.seen) == 5 + 6  # 31, 15, 7, 3 and 1 texts of a request; 4000, 2000, … 125 characters of one


@pytest.mark.parametrize("said", [{"error": "x"}, {"error": {"message": "x"}}, {"message": "x"}, {"detail": "x"}, b"x", "x"])
def test_errors_say_what_the_service_said(server, said) -> None:
    server.script = [(400, {}, said)]
    with asking(server, dimension=4) as embedder, pytest.raises(EmbedderError, match=r"answers 400: x$"):
        embedder.embed(["one"])


def test_the_key_is_shown_nowhere(server, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    server.script = [(401, {}, {"error": {"message": f"wrong key {KEY}" + "!" * 10_000}})]
    with asking(server, dimension=4, api_key=KEY) as embedder:
        with pytest.raises(EmbedderError) as caught:
            embedder.embed(["one"])
        shown = [repr(embedder), str(embedder.fingerprint), str(caught.value), repr(caught.value), caplog.text]
        assert not any(KEY in text for text in shown)
    assert "wrong key ***!" in str(caught.value)
    assert len(str(caught.value)) < 500


# ---- the environment, threads, the end ----------------------------------------------------------------------------------
def test_no_proxy_of_the_environment_is_used(server, monkeypatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with asking(server, dimension=4) as embedder:
        assert embedder.embed(["one"]).any()


def test_many_threads_share_one_embedder(server) -> None:
    found = {}
    with asking(server, batch=2) as embedder:

        def work(name: int) -> None:
            found[name] = embedder.embed([f"text {name}", "x" * name, "same"])

        threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name, vectors in found.items():
        assert np.allclose(vectors, [unit(vector_of(text)) for text in (f"text {name}", "x" * name, "same")], atol=1e-6)
    assert len(found) == 8


def test_a_closed_embedder_says_so_and_a_pause_ends_with_it(server) -> None:
    server.script = [(429, {"Retry-After": "50"}, {})]
    embedder = HttpEmbedder("ollama", model="m", url=server.url, dimension=4)
    failures: list[EmbedderError] = []

    def work() -> None:
        try:
            embedder.embed(["one"])
        except EmbedderError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not server.seen:
        thread.join(0.01)
    embedder.close()
    embedder.close()
    thread.join(10)
    assert not thread.is_alive()
    assert "closed" in str(failures[0])
    with pytest.raises(EmbedderError, match="closed"):
        embedder.embed(["one"])


def test_a_package_that_is_missing_is_named(server, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with asking(server) as embedder, pytest.raises(EmbedderError, match=r"needs httpx, .*pip install 'apxm\[models\]'"):
        embedder.embed(["one"])


@pytest.mark.parametrize("scheme", ["https", "HTTPS"])
def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(tmp_path, scheme) -> None:
    server = Server(certificate(tmp_path))
    try:
        with asking(f"{scheme}{server.url.removeprefix('http')}", "ollama", dimension=4) as embedder:
            with pytest.raises(EmbedderError, match="has a certificate that does not hold"):
                embedder.embed(["one"])
            assert (server.seen, embedder.paused) == ([], [])
    finally:
        server.close()


def certificate(folder):
    """What a server shows that is 127.0.0.1 by its own word alone."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False).sign(key, hashes.SHA256())
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "both.pem"
    file.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"kind": "bert"}, "expected openai, ollama, cohere"),
        ({"model": " "}, "needs a `model`"),
        ({"batch": 0}, "`batch` .* is 0, expected 1 to 2048"),
        ({"kind": "cohere", "batch": 97}, "expected 1 to 96"),
        ({"dimension": -1}, "`dimension`"),
        ({"tries": 0}, "`tries`"),
        ({"chars_max": 0}, "`chars_max`"),
        ({"url": "ftp://host"}, "is no URL"),
        ({"url": "http://"}, "is no URL"),
        ({"url": "http://host:99999"}, "is no URL"),
        ({"url": "http://[::1"}, "is no URL"),
        ({"url": "http://ho\nst"}, "is no URL"),
        ({"url": "http://ho st"}, "is no URL"),
        ({"url": f"http://user:{KEY}@host/"}, "more than a host and a path"),
        ({"url": f"http://host/?key={KEY}"}, "more than a host and a path"),
        ({"api_key": "two words"}, "no header may carry"),
        ({"api_key": "a\r\nb: c"}, "no header may carry"),
    ],
)
def test_what_makes_no_embedder_is_refused_without_repeating_secrets(options, why) -> None:
    given = {"kind": "openai", "model": "m", **options}
    with pytest.raises(ConfigError, match=why) as caught:
        HttpEmbedder(given.pop("kind"), **given)
    assert KEY not in str(caught.value)


def test_a_host_that_is_none_is_an_error_of_ours() -> None:
    with asking("http://ä..de", "ollama") as embedder, pytest.raises(EmbedderError, match="no URL that can be asked"):
        embedder.embed(["one"])
