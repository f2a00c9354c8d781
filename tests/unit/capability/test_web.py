"""`http_get` and `search_web` as programs call them: grants, limits, what they give, where keys are and are not."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from apxm import RunOptions, Runtime, flow, step
from apxm.capability.grants import Grants
from apxm.capability.system import CapabilitySystem
from apxm.capability.tools.search import SearchProvider, from_environment
from apxm.cli.main import main
from apxm.errors import ApxmError, CapabilityError, ConfigError, DeniedError, InvalidError, TransientError
from tests.unit.capability.loopback import Loopback, http

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = http("200 OK", "grüß".encode(), "Content-Type: text/html; charset=utf-8", "ETag: x", "Set-Cookie: a=b")


@pytest.fixture
def system() -> Iterator[CapabilitySystem]:
    system = CapabilitySystem()
    yield system
    system.close()


def call(system: CapabilitySystem, name: str, arguments: dict[str, Any], *grants: str) -> Any:
    return asyncio.run(system.invoke(name, arguments, grants=Grants.parse(grants)))


def get(system: CapabilitySystem, server: Loopback, **arguments: Any) -> Any:
    return call(system, "http_get", {"url": server.url, **arguments}, f"http_get={server.peer}")


def test_a_page_comes_as_text_with_a_few_headers(system: CapabilitySystem) -> None:
    with Loopback(PAGE) as server:
        assert get(system, server) == {
            "status": 200,
            "url": server.url,
            "content_type": "text/html; charset=utf-8",
            "headers": {"etag": "x", "content-length": "6"},
            "text": "grüß",
            "base64": None,
        }


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain", b"abc", "abc"),
        ("text/plain; charset=ISO-8859-1", b"\xe4", "ä"),
        ('application/json; charset="UTF-8"', b"{}", "{}"),
        ("application/problem+json", b"{}", "{}"),
        ("", b"abc", "abc"),
        ("text/plain", b"\xe4", None),
        ("text/plain", b"a\0b", None),
        ("image/png", b"abc", None),
        ("application/octet-stream", b"abc", None),
        ("text/plain; charset=punycode", b"abc", None),
        ("text/plain; charset=hex", b"00", None),
        ("text/plain; charset=none-such", b"abc", None),
    ],
)
def test_what_is_no_text_comes_as_base64(system: CapabilitySystem, content_type: str, body: bytes, text: str | None) -> None:
    with Loopback(http("200 OK", body, *([f"Content-Type: {content_type}"] if content_type else []))) as server:
        found = get(system, server)
    assert found["text"] == text
    assert found["base64"] == (None if text is not None else base64.b64encode(body).decode())


def test_a_status_is_an_answer(system: CapabilitySystem) -> None:
    with Loopback(http("404 Not Found", b"no")) as server:
        assert get(system, server)["status"] == 404


def test_a_program_needs_a_host_granted_and_gets_what_is_labelled_web() -> None:
    @flow
    def page(url: str):
        return step.inv("http_get", url, name="page")

    with Loopback(PAGE) as server, Runtime() as runtime:
        for grants, said in (
            ([], r"reaches granted hosts, and none is granted; grant `http_get=HOST`"),
            (["http_get"], r"none is granted"),
            (["http_get=*"], r"is not allowed; allowed: \*; this one is `127\.0\.0\.1:\d+`"),
            (["http_get=example.org"], r"127\.0\.0\.1 at port \d+ is not allowed; allowed: example\.org"),
        ):
            with pytest.raises(DeniedError, match=said):
                runtime.execute(page, url=server.url, run=RunOptions(grants=grants))
        assert server.requests == []
        result = runtime.execute(page, url=server.url, run=RunOptions(grants=[f"http_get={server.peer}"]))
        assert result.value["text"] == "grüß"
        assert result.labels("return") == {"user", "web"}


def test_what_strangers_wrote_reaches_no_guarded_capability_unless_it_is_trusted() -> None:
    @flow
    def forward(url: str):
        page = step.inv("http_get", url, name="page")
        return step.inv("send", page, name="send")

    sent: list[Any] = []
    with Loopback(PAGE) as server, Runtime() as runtime:
        runtime.capability(name="send", description="Send it", effect="guarded")(sent.append)
        grants = [f"http_get={server.peer}"]
        with pytest.raises(DeniedError, match="comes from `web`, which is not trusted") as refused:
            runtime.execute(forward, url=server.url, run=RunOptions(grants=grants))
        assert refused.value.code == "policy"
        assert sent == []
        runtime.execute(forward, url=server.url, run=RunOptions(grants=grants, trust=["web=send"]))
        assert len(sent) == 1


def test_a_grant_that_is_no_host_is_refused_before_the_run(system: CapabilitySystem) -> None:
    with pytest.raises(InvalidError, match="the allowed host 'https:"):
        call(system, "http_get", {"url": "https://example.org/"}, "http_get=https://example.org/")


@pytest.mark.parametrize("arguments", [{"max_bytes": 0}, {"max_bytes": 1 << 30}, {"timeout_s": 0}, {"timeout_s": 61}])
def test_limits_have_limits(system: CapabilitySystem, arguments: dict[str, Any]) -> None:
    with Loopback(PAGE) as server, pytest.raises(InvalidError, match=f"{next(iter(arguments))} is"):
        get(system, server, **arguments)
    assert server.requests == []


def test_a_page_that_is_too_large_is_refused(system: CapabilitySystem) -> None:
    with Loopback(PAGE) as server, pytest.raises(CapabilityError, match="more than 5 bytes; raise max_bytes"):
        get(system, server, max_bytes=5)


# ---- search_web --------------------------------------------------------------------------------------------------------
HITS = [
    {"title": "One", "url": "https://one.example/", "snippet": "first"},
    {"title": "", "url": "http://two.example/", "snippet": ""},
]
# What each service documents for its answer, with things in it that nobody needs.
ANSWERS: dict[str, Any] = {
    "brave": {
        "type": "search",
        "query": {"original": "x"},
        "web": {
            "type": "search",
            "results": [
                {"title": "One", "url": "https://one.example/", "description": "first", "page_age": "2024"},
                {"url": "http://two.example/"},
                {"title": "Bad", "url": "javascript:alert(1)", "description": ""},
            ],
        },
    },
    "tavily": {
        "query": "x",
        "answer": None,
        "response_time": 1.2,
        "results": [
            {"title": "One", "url": "https://one.example/", "content": "first", "score": 0.9},
            {"title": None, "url": "http://two.example/", "content": None},
        ],
    },
    "searxng": {
        "query": "x",
        "number_of_results": 2,
        "results": [
            {"title": "One", "url": "https://one.example/", "content": "first", "engine": "e"},
            {"title": "", "url": "http://two.example/"},
        ],
        "unresponsive_engines": [],
    },
}


def search(system: CapabilitySystem, server: Loopback, form: str, **arguments: Any) -> Any:
    system.web.provider = SearchProvider(form, server.url.rstrip("/") + "/find", "s3cret" if form != "searxng" else "")
    return call(system, "search_web", {"query": "two words & more", **arguments}, "search_web")


@pytest.mark.parametrize("form", ANSWERS)
def test_a_provider_is_asked_in_its_own_way_and_its_answer_read(system: CapabilitySystem, form: str) -> None:
    with Loopback(http("200 OK", json.dumps(ANSWERS[form]).encode())) as server:
        assert search(system, server, form, count=3) == HITS
        assert search(system, server, form, count=1) == HITS[:1]
    request = server.requests[0].decode()
    head, _, body = request.partition("\r\n\r\n")
    asked = {
        "brave": (
            "GET /find?q=two+words+%26+more&count=3&text_decorations=false HTTP/1.1\r\n",
            "\r\nX-Subscription-Token: s3cret",
        ),
        "tavily": ("POST /find HTTP/1.1\r\n", "\r\nAuthorization: Bearer s3cret"),
        "searxng": ("GET /find/search?q=two+words+%26+more&format=json HTTP/1.1\r\n", "\r\nAccept: application/json"),
    }[form]
    assert head.startswith(asked[0])
    assert asked[1] in head
    assert body == ('{"query": "two words & more", "max_results": 3}' if form == "tavily" else "")


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (http("401 Unauthorized", b"{}"), CapabilityError, "status 401; is its key right"),
        (http("422 Unprocessable", b"{}"), CapabilityError, "status 422"),
        (http("429 Too Many Requests", b"{}"), TransientError, "status 429"),
        (http("503 Service Unavailable", b""), TransientError, "status 503"),
        (http("200 OK", b"<html>"), CapabilityError, "no result"),
        (http("200 OK", b"[]"), CapabilityError, "no result"),
        (http("200 OK", b'{"results": [1]}'), CapabilityError, "no result"),
        (http("200 OK", b"[" * 100_000), CapabilityError, "no result"),
        (b"", TransientError, "in the middle of its answer"),
        (http("302 Found", b"", "Location: http://elsewhere.example/"), CapabilityError, "status 302"),
    ],
)
def test_a_provider_that_does_not_answer_is_said_without_its_key(
    system: CapabilitySystem, answer: bytes, kind: type[ApxmError], said: str
) -> None:
    with Loopback(answer) as server, pytest.raises(kind, match=said) as failed:
        search(system, server, "tavily")
    assert "s3cret" not in str(failed.value) + repr(system.web.provider)


def test_a_long_answer_is_cut(system: CapabilitySystem) -> None:
    many = {"results": [{"title": "t" * 999, "url": "http://a.example/", "content": "s" * 9_999}] * 99}
    with Loopback(http("200 OK", json.dumps(many).encode())) as server:
        found = search(system, server, "searxng", count=20)
    assert [(len(hit["title"]), len(hit["snippet"])) for hit in found] == [(300, 2_000)] * 20


@pytest.mark.parametrize("arguments", [{"count": 0}, {"count": 21}, {"query": " "}, {"query": "x" * 401}])
def test_a_query_has_limits(system: CapabilitySystem, arguments: dict[str, Any]) -> None:
    with Loopback(b"") as server, pytest.raises(InvalidError, match="expected 1 to"):
        search(system, server, "searxng", **arguments)
    assert server.requests == []


def test_without_a_provider_it_says_what_to_set(system: CapabilitySystem, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BRAVE_API_KEY", "TAVILY_API_KEY", "SEARXNG_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="no provider; set BRAVE_API_KEY or TAVILY_API_KEY"):
        call(system, "search_web", {"query": "x"}, "search_web")
    with pytest.raises(DeniedError, match="grant it"):
        call_as_program("search_web", "x")


def call_as_program(name: str, argument: str) -> Any:
    @flow
    def asks(text: str):
        return step.inv(name, text, name="out")

    with Runtime() as runtime:
        return runtime.execute(asks, text=argument)


def test_the_command_line_asks_the_provider_of_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "find.py").write_text(
        "from apxm import flow, step\n\n@flow\ndef find(text: str):\n    return step.inv('search_web', text, name='found')\n"
    )
    with Loopback(http("200 OK", json.dumps(ANSWERS["searxng"]).encode())) as server:
        (tmp_path / "apxm.toml").write_text(f'[search]\nprovider = "searxng"\nurl = "{server.url}"\n')
        order = ["run", str(tmp_path / "find.py"), "--param", "text=x", "--config", str(tmp_path / "apxm.toml"), "--no-record"]
        assert main([*order, "--grant", "search_web", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out) == HITS
    assert main([*order, "--quiet"]) != 0
    assert "capability `search_web` is not granted" in capsys.readouterr().err


def test_the_environment_names_the_provider_and_the_key_stays_out_of_sight() -> None:
    assert from_environment({"BRAVE_API_KEY": "k3y"}) == SearchProvider(
        "brave", "https://api.search.brave.com/res/v1/web/search", "k3y"
    )
    assert from_environment({"TAVILY_API_KEY": "k3y"}).format == "tavily"
    assert from_environment({"SEARXNG_URL": "http://localhost:8888"}) == SearchProvider("searxng", "http://localhost:8888")
    assert "k3y" not in repr(from_environment({"BRAVE_API_KEY": "k3y"}))
    for environment, said in (
        ({"BRAVE_API_KEY": "k3y\u00e9"}, "odd characters"),
        ({"SEARXNG_URL": "localhost:8888"}, "is no URL"),
    ):
        with pytest.raises(InvalidError, match=said) as refused:
            from_environment(environment)
        assert "k3y" not in str(refused.value)
