"""The broker: hostile URLs reach nobody, one look-up decides, and answers stay within their limits. Real sockets."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import json
import socket
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from apxm.capability.http.broker import Broker, Response
from apxm.capability.http.exchange import HttpLimits
from apxm.capability.http.reach import Reach, read_url
from apxm.errors import ApxmError, CapabilityError, DeniedError, InvalidError, TransientError, UnknownEffectError
from apxm.testing.network import NetworkGuard, NetworkRefused
from tests.unit.capability.loopback import Canary, Loopback, http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LINES = (Path(__file__).parent / "hostile_urls.txt").read_text().splitlines()
HOSTILE = [json.loads(line) for line in LINES if line and not line.startswith("#")]
OK = http("200 OK", b"fine", "Content-Type: text/plain")


def ask(
    url: str,
    allowed: Sequence[str] = (),
    private: Sequence[str] = (),
    *,
    names: Callable[[str, int], Sequence[str]] = lambda host, port: ["127.0.0.1"],
    tls: ssl.SSLContext | None = None,
    method: str = "GET",
    **options: Any,
) -> Response:
    """One request with a broker of its own; the names of this world all mean this machine unless a test says otherwise."""
    broker = Broker(resolver=names, tls=tls)
    limits = HttpLimits(**{key: options.pop(key) for key in list(options) if key in HttpLimits.__slots__})
    try:
        return asyncio.run(broker.request(method, url, reach=Reach.parse(allowed, private), limits=limits, **options))
    finally:
        broker.close()


def to(server: Loopback, path: str = "", **options: Any) -> Response:
    return ask(server.url + path, [server.peer], **options)


@pytest.fixture(scope="module")
def canary() -> Iterator[Canary]:
    bird = Canary()
    yield bird
    bird.close()


# ---- hostile URLs --------------------------------------------------------------------------------------------------
def test_the_corpus_is_large_and_says_nothing_twice() -> None:
    assert len(HOSTILE) >= 150
    assert len(set(HOSTILE)) == len(HOSTILE)


@pytest.mark.parametrize("url", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_url_is_refused_before_any_connection(url: str, canary: Canary) -> None:
    for every in ("*", f"*:{canary.port}"):
        with pytest.raises((DeniedError, InvalidError)):
            ask(url.replace("{port}", str(canary.port)), [every])
    assert not canary.heard()


def test_a_redirect_to_a_hostile_url_is_refused_before_any_connection(canary: Canary) -> None:
    # Relative ones are no redirects to elsewhere, and what would end the header is no part of a Location.
    urls = [url.replace("{port}", str(canary.port)) for url in HOSTILE if ":" in url[:9] or url.startswith("//")]
    urls = [url for url in urls if url.isascii() and not {"\r", "\n", "\0"} & set(url)]
    turns = iter(urls)
    with Loopback(lambda _: http("302 Found", b"", f"Location: {next(turns)}")) as server:
        for _ in urls:
            with pytest.raises((DeniedError, InvalidError)):
                ask(server.url, [server.peer, f"*:{canary.port}"])
    assert len(server.requests) == len(urls) >= 150
    assert not canary.heard()


def test_the_canary_hears_what_is_allowed_by_name_and_port(canary: Canary) -> None:
    for url in (f"http://127.0.0.1:{canary.port}/", f"http://[::1]:{canary.port}/"):
        with pytest.raises(TransientError, match="sends nothing"):
            ask(url, [url[7:-1]], idle_s=0.05)
        assert canary.heard()


# ---- names -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        ["::1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["fe80::1%lo"],
        ["::ffff:127.0.0.1"],
        ["93.184.216.34", "127.0.0.1"],
        ["127.0.0.1", "93.184.216.34"],
        ["2606:2800:220:1::1", "fd00::1"],
        ["not an address"],
        ["0x7f.1"],
    ],
    ids=str,
)
def test_one_bad_address_condemns_a_host(answers: list[str], canary: Canary) -> None:
    with pytest.raises(DeniedError, match="must not be reached"):
        ask(f"http://innocent.example:{canary.port}/", [f"innocent.example:{canary.port}"], names=lambda host, port: answers)
    assert not canary.heard()


def test_a_name_that_changes_its_meaning_is_looked_up_once(canary: Canary) -> None:
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["93.184.216.34"] if len(asked) == 1 else ["127.0.0.1"]

    with NetworkGuard("the broker") as guard, pytest.raises(NetworkRefused):
        ask(f"http://rebind.example:{canary.port}/", [f"rebind.example:{canary.port}"], names=rebinding)
    assert [attempt.address for attempt in guard.attempts] == [f"93.184.216.34:{canary.port}"]
    assert asked == ["rebind.example"]
    assert not canary.heard()


def test_the_connection_goes_to_the_address_that_was_judged() -> None:
    with Loopback(OK, "127.0.0.2") as right, Loopback(http("200 OK", b"wrong"), "127.0.0.1", right.port) as wrong:
        peer = f"peer.example:{right.port}"
        turns = iter([["127.0.0.2"], ["127.0.0.1"]])
        assert ask(f"http://{peer}/", private=[peer], names=lambda host, port: next(turns)).body == b"fine"
    assert (len(right.requests), len(wrong.requests)) == (1, 0)
    assert f"Host: {peer}\r\n".encode() in right.requests[0]


def test_a_redirect_is_looked_up_and_judged_again(canary: Canary) -> None:
    with Loopback(http("302 Found", b"", f"Location: http://peer.example:{canary.port}/")) as server:
        peers = [f"peer.example:{server.port}"]
        turns = iter([["127.0.0.1"], ["127.0.0.1"]])
        with pytest.raises(DeniedError, match="must not be reached"):
            ask(f"http://{peers[0]}/", [f"*:{canary.port}"], peers, names=lambda host, port: next(turns))
    assert not canary.heard()


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    with Loopback(OK) as server:
        peer = f"peer.example:{server.port}"
        assert ask(f"http://{peer}/", private=[peer], names=lambda host, port: ["127.9.9.9", "127.0.0.1"]).status == 200


def test_what_is_private_is_private_for_one_port_and_never_a_metadata_service() -> None:
    with Loopback(OK) as server:
        with pytest.raises(DeniedError, match=r"peer\.example at port \d+ is not allowed; allowed: peer\.example:1"):
            ask(f"http://peer.example:{server.port}/", private=["peer.example:1"])
        for names in (["169.254.169.254"], ["fd00:ec2::254"], ["0.0.0.0"], ["224.0.0.1"]):
            with pytest.raises(DeniedError, match="must not be reached"):
                ask("http://peer.example:1/", private=["peer.example:1"], names=lambda host, port, names=names: names)  # type: ignore[misc]
        with pytest.raises(DeniedError, match="metadata service"):
            ask("http://metadata.google.internal/", private=["metadata.google.internal:80"])
    assert server.requests == []


def test_a_name_with_its_port_in_the_allow_list_is_no_licence_for_a_private_address() -> None:
    with Loopback(OK) as server, pytest.raises(DeniedError, match=f"allow exactly `127.0.0.1:{server.port}`"):
        ask(f"http://wiki.example:{server.port}/", [f"wiki.example:{server.port}"])


def test_a_host_without_address_and_a_look_up_that_hangs_are_said() -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    never = threading.Event()
    with pytest.raises(CapabilityError, match=r"gone\.example has no address"):
        ask("http://gone.example/", ["*"], names=unknown)
    with pytest.raises(TransientError, match=r"address of slow\.example"):
        ask("http://slow.example/", ["*"], names=lambda host, port: [str(never.wait(20))], connect_s=0.05)
    never.set()


# ---- the allow-list ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("allowed", "url", "passes"),
    [
        ("example.org", "http://example.org/", True),
        ("Example.ORG", "https://example.org/", True),
        ("example.org", "https://example.org:80/", True),
        ("example.org", "http://example.org:8080/", False),
        ("example.org", "http://www.example.org/", False),
        ("example.org", "http://badexample.org/", False),
        ("example.org", "http://example.org.evil.example/", False),
        ("*.example.org", "http://www.example.org/", True),
        ("*.example.org", "http://a.b.example.org/", True),
        ("*.example.org", "http://example.org/", False),
        ("*.example.org", "http://wwwexample.org/", False),
        ("example.org:8443", "https://example.org:8443/", True),
        ("example.org:8443", "https://example.org/", False),
        ("*", "https://anything.example/", True),
        ("*", "https://anything.example:8443/", False),
        ("*:8443", "https://anything.example:8443/", True),
        ("93.184.216.34", "http://93.184.216.34/", True),
        ("93.184.216.34", "http://93.184.216.35/", False),
        ("[2606:2800:220:1::1]", "http://[2606:2800:0220:1:0:0:0:1]/", True),
    ],
)
def test_an_entry_of_an_allow_list_covers(allowed: str, url: str, passes: bool) -> None:
    if passes:
        assert Reach.parse([allowed]).admit(read_url(url)) is False
    else:
        with pytest.raises(DeniedError, match="is not allowed"):
            Reach.parse([allowed]).admit(read_url(url))


@pytest.mark.parametrize(
    "text", ["", "http://example.org", "example.org/path", "*.", "*.1.2.3.4", "a b", "*example.org", "*:0", "@x"]
)
def test_an_entry_that_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        Reach.parse([text])


@pytest.mark.parametrize("text", ["example.org", "*.example.org:80", "*:80", "127.0.0.1"])
def test_a_private_peer_is_exactly_a_host_and_a_port(text: str) -> None:
    with pytest.raises(InvalidError, match="HOST:PORT"):
        Reach.parse([], private=[text])


# ---- answers -----------------------------------------------------------------------------------------------------------
def test_a_request_carries_nothing_but_what_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    with Loopback(http("200 OK", b"fine", "Set-Cookie: a=b")) as server:
        to(server, "a%20b?q=\xe4#part")
        to(server)
    assert (
        server.requests[0]
        == (
            f"GET /a%20b?q=%C3%A4 HTTP/1.1\r\nHost: {server.peer}\r\nAccept-Encoding: gzip\r\nConnection: close\r\n"
            "User-Agent: apxm\r\nAccept: */*\r\n\r\n"
        ).encode()
    )
    assert b"cookie" not in server.requests[1].lower()


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end"),
        (b"HTTP/1.0 200\r\nContent-Length: 2\r\n\r\nab", b"ab"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3;x=y\r\ncde\r\n0\r\n\r\n", b"abcde"),
        (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", b"ab"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"packed" * 9, mtime=0), b"packed" * 9),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab", b"ab"),
    ],
)
def test_every_framing_of_a_body_is_read(raw: bytes, body: bytes) -> None:
    with Loopback(raw) as server:
        assert to(server).body == body


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/2 200\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\nX: y\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "two headers"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nab", "the length '-1'"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nab", "transfer coding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "transfer coding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nab\r\n0\r\n\r\n", "chunk without a size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n", "does not end where it says"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n folded: c\r\n\r\n", "a header that is none"),
        (b"HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", "a header that is none"),
        (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "a header that is none"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\nx", "not asked for"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nno gzip at all", "gzip that is none"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"packed", mtime=0)[:-4], "lacks its end"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "in the middle of its answer"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 9, "gives none"),
        (b"", "in the middle of its answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000 + b"\r\n", "headers of more than"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000 + b"\r\n\r\n", "headers of more than"),
    ],
)
def test_an_answer_that_is_no_http_is_refused(raw: bytes, said: str) -> None:
    with Loopback(raw) as server, pytest.raises((CapabilityError, TransientError), match=said):
        to(server)


BOMB = gzip.compress(bytes(3_000_000))
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        http("200 OK", bytes(100_001)),
        b"HTTP/1.1 200 OK\r\n\r\n" + bytes(100_001),
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n",
        CHUNKED + b"186A1\r\n",
        CHUNKED + b"FFFFFFFFFFFFFFF\r\n",
        CHUNKED + (b"C350\r\n" + bytes(50_000) + b"\r\n") * 3,
        http("200 OK", BOMB, "Content-Encoding: gzip"),
        CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
        + f"{len(BOMB):x}\r\n".encode()
        + BOMB
        + b"\r\n0\r\n\r\n",
    ],
)
def test_an_answer_beyond_its_limit_is_not_kept(raw: bytes) -> None:
    with Loopback(raw) as server, pytest.raises(CapabilityError, match="more than 100000 bytes"):
        to(server, bytes_max=100_000)


def test_an_answer_of_just_the_limit_is_kept() -> None:
    packed = http("200 OK", gzip.compress(bytes(100_000)), "Content-Encoding: gzip")
    with Loopback(packed) as server:
        assert len(to(server, bytes_max=100_000).body) == 100_000


def test_silence_and_dribbling_end_in_time() -> None:
    def silent(request: bytes) -> Iterator[bytes]:
        server.over.wait(20)
        yield b""

    def dribbling(request: bytes) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
        while not server.over.wait(0.01):
            yield b"x"

    with Loopback(silent) as server:
        with pytest.raises(TransientError, match=r"sends nothing for 0\.05 s"):
            to(server, idle_s=0.05)
        server.over.set()
    with Loopback(dribbling) as server:
        with pytest.raises(TransientError, match=r"did not answer within 0\.1 s"):
            to(server, total_s=0.1, idle_s=5)
        server.over.set()


# ---- redirects, methods, cancelling ------------------------------------------------------------------------------------
def test_redirects_are_followed_so_often_and_relative_ones_too() -> None:
    def hop(request: bytes) -> bytes:
        count = int(request.split()[1].strip(b"/"))
        return OK if count == 0 else http("307 Temporary Redirect", b"", f"Location: /{count - 1}")

    with Loopback(hop) as server:
        assert to(server, "5").url == f"{server.url}0"
        with pytest.raises(CapabilityError, match=r"redirects for the 6\. time"):
            to(server, "6")


def test_what_was_meant_for_one_host_does_not_follow_to_the_next() -> None:
    with Loopback(OK) as other, Loopback(http("302 Found", b"", f"Location: {other.url}")) as server:
        ask(server.url, [server.peer, other.peer], headers={"X-Key": "s3cret"})
    assert b"X-Key: s3cret" in server.requests[0]
    assert b"s3cret" not in other.requests[0]


def test_a_post_is_not_redirected_and_is_not_sent_twice() -> None:
    with Loopback(http("307 Temporary Redirect", b"", "Location: /again")) as server:
        assert to(server, method="POST", body=b"{}").status == 307
    assert len(server.requests) == 1
    assert server.requests[0].endswith(b"Content-Length: 2\r\n\r\n{}")


def test_a_post_whose_answer_is_lost_may_have_happened_and_one_that_was_never_sent_has_not() -> None:
    with Loopback(b"") as server, pytest.raises(UnknownEffectError, match="after a POST was sent"):
        to(server, method="POST", body=b"{}")
    with pytest.raises(TransientError, match="cannot be reached"):
        ask(server.url, [server.peer], method="POST", body=b"{}")


@pytest.mark.parametrize(
    "headers",
    [{"Host": "x"}, {"content-length": "1"}, {"A\r\nB": "x"}, {"A": "x\r\nB: y"}, {"A": "\xe4"}, {"": "x"}, {"A:": "b"}],
)
def test_a_header_that_would_change_the_request_is_refused(headers: dict[str, str]) -> None:
    with Loopback(OK) as server, pytest.raises(InvalidError, match="cannot be sent"):
        to(server, headers=headers)
    assert server.requests == []


def test_cancelling_closes_the_connection() -> None:
    closed = threading.Event()

    def silent(request: bytes) -> Iterator[bytes]:
        while not server.over.wait(0.01):
            yield b"x"  # fails once the other side is gone
        yield b""

    async def cancelled() -> None:
        broker = Broker()
        reach = Reach.parse([server.peer])
        task = asyncio.create_task(broker.request("GET", server.url, reach=reach))
        while not server.requests:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        broker.close()

    class Watching(Loopback):
        def _talk(self, link: socket.socket) -> None:
            try:
                super()._talk(link)
            except OSError:
                closed.set()
                raise

    with Watching(silent) as server:
        asyncio.run(cancelled())
        assert closed.wait(5)


# ---- https -------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(of a server that is secure.example, of a client that trusts it)."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("secure.example")]), critical=False)
    made = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    file.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=str(file))


def test_a_certificate_has_to_be_that_of_the_name(secure: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    with Loopback(OK, tls=secure[0]) as server:
        right, wrong = f"secure.example:{server.port}", f"other.example:{server.port}"
        assert ask(f"https://{right}/", private=[right], tls=secure[1]).body == b"fine"
        with pytest.raises(CapabilityError, match=r"certificate of other\.example does not hold"):
            ask(f"https://{wrong}/", private=[wrong], tls=secure[1])
        with pytest.raises(CapabilityError, match=r"certificate of secure\.example does not hold"):
            ask(f"https://{right}/", private=[right])
    assert len(server.requests) == 1


def test_a_redirect_from_https_to_http_is_not_followed(secure: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    with Loopback(OK) as plain, Loopback(http("301 Moved", b"", f"Location: {plain.url}"), tls=secure[0]) as server:
        peer = f"secure.example:{server.port}"
        with pytest.raises(CapabilityError, match="from https to http"):
            ask(f"https://{peer}/", [plain.peer], [peer], tls=secure[1])
    assert plain.requests == []


def test_plain_http_at_a_secure_port_is_no_secure_connection(secure: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    with Loopback(OK) as server, pytest.raises(ApxmError, match=r"cannot be reached|no secure connection"):
        ask(f"https://{server.peer}/", [server.peer], tls=secure[1], connect_s=0.2)
