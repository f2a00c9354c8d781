"""Peers by name, who may send to which, and what an answer over HTTP means: against a real server on loopback."""

from __future__ import annotations

import asyncio
import json

import pytest

from apxm.capability.grants import Grants
from apxm.capability.http.broker import Broker
from apxm.coordination import peers as module
from apxm.coordination.mailbox import Envelope
from apxm.coordination.peers import Peers, post
from apxm.errors import (
    ApxmError,
    BindError,
    CapabilityError,
    DeadlineError,
    DeniedError,
    FailureClass,
    HandlerError,
    InvalidError,
    TransientError,
    UnknownEffectError,
)
from tests.unit.coordination.peer import Peer, free_port

NONE = Grants()


@pytest.fixture(scope="module")
def peer():
    with Peer() as made:
        yield made


def find(peers, recipient, grants=NONE, secure=False, explicit=False):
    return peers.find(recipient, grants, secure=secure, explicit=explicit)


def send(peer, path="/echo", message="hi", reply=True, timeout_s=5.0):
    peers = Peers()
    peers.register("them", peer.url + path)
    envelope = Envelope("id-1", "ed", "r-1", "tell", "them", message, 2, "drafts", reply)
    broker = Broker()

    async def whole():
        value = await asyncio.wait_for(post(broker, find(peers, "them"), envelope, timeout_s), 20)
        assert len(asyncio.all_tasks()) == 1
        return value

    try:
        return asyncio.run(whole())
    finally:
        broker.close()


def refusal(peer, path, message="hi", **more) -> ApxmError:
    with pytest.raises(ApxmError) as raised:
        send(peer, path, message, **more)
    return raised.value


# ---- names and grants ------------------------------------------------------------------------------------------------
def test_a_peer_is_found_by_its_name_until_it_is_removed():
    peers = Peers()
    peers.register("reviewer", "http://127.0.0.1:9000")
    peers.register("reviewer", "https://review.example.org/in?box=1")
    assert peers.list() == {"reviewer": "https://review.example.org/in?box=1"}
    assert peers.remove("reviewer") is True
    assert peers.remove("reviewer") is False
    assert peers.list() == {}


def test_a_url_without_a_path_means_where_peers_take_messages():
    peers = Peers()
    for name, url in (("a", "http://h:1"), ("b", "http://h:1/"), ("c", "http://h:1/in")):
        peers.register(name, url)
    assert peers.list() == {"a": "http://h:1/v1/receive", "b": "http://h:1/v1/receive", "c": "http://h:1/in"}


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("", "http://h:1"),
        ("http://x", "http://h:1"),
        ("x", "ftp://h"),
        ("x", "h:1"),
        ("x", "http://user:pw@h:1"),
        ("x", "http://"),
    ],
)
def test_what_is_no_peer_is_not_registered(name, url):
    peers = Peers()
    with pytest.raises(InvalidError):
        peers.register(name, url)
    assert peers.list() == {}


def test_an_unknown_peer_names_the_nearest():
    peers = Peers()
    peers.register("reviewer", "http://127.0.0.1:9000")
    with pytest.raises(BindError, match="there is no peer `revewer`") as refused:
        find(peers, "revewer")
    assert refused.value.hint == "close: `reviewer`"


def test_where_there_are_no_peers_the_hint_says_how_to_have_one():
    with pytest.raises(BindError) as refused:
        find(Peers(), "reviewer")
    assert "Runtime.peers.register(name, url)" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("grants", "allowed"),
    [
        ([], False),
        (["communicate"], False),
        (["http_get=127.0.0.1:9000"], False),
        (["communicate=http://127.0.0.1:9001"], False),
        (["communicate=https://127.0.0.1:9000"], False),
        (["communicate=http://127.0.0.1.evil.example:9000"], False),
        (["communicate=http://127.0.0.1:9000"], True),
        (["communicate=http://127.0.0.1:9000/other"], True),
        (["communicate=reviewer", "communicate=http://127.0.0.1:9000"], True),
    ],
)
def test_a_url_needs_a_grant_of_its_scheme_host_and_port(grants, allowed):
    url = "http://127.0.0.1:9000/in"
    if allowed:
        assert str(find(Peers(), url, Grants.parse(grants)).target) == url
    else:
        with pytest.raises(DeniedError, match=f"a message to `{url}` was not granted") as refused:
            find(Peers(), url, Grants.parse(grants))
        assert refused.value.hint == "grant `communicate=http://127.0.0.1:9000`"


def test_a_registered_peer_needs_no_grant_except_for_what_a_model_planned():
    peers = Peers()
    peers.register("reviewer", "http://127.0.0.1:9000")
    assert find(peers, "reviewer").name == "reviewer"
    with pytest.raises(DeniedError) as refused:
        find(peers, "reviewer", explicit=True)
    assert refused.value.hint == "grant `communicate=reviewer`"
    assert find(peers, "reviewer", Grants.parse(["communicate=reviewer"]), explicit=True).name == "reviewer"
    assert find(peers, "reviewer", Grants.parse(["communicate=http://127.0.0.1:9000"]), explicit=True)


def test_https_is_to_nobody_without_tls():
    peers = Peers()
    peers.register("plain", "http://127.0.0.1:9000")
    peers.register("safe", "https://127.0.0.1:9000")
    assert find(peers, "safe", secure=True).name == "safe"
    with pytest.raises(DeniedError, match=r"`plain` at .* would go without TLS"):
        find(peers, "plain", secure=True)


# ---- over the wire ---------------------------------------------------------------------------------------------------
def test_the_envelope_arrives_as_json_and_the_answer_is_the_reply(peer):
    assert send(peer, message={"text": "schön", "n": [1, None, 2.5]}) == {"text": "schön", "n": [1, None, 2.5]}
    path, headers, envelope = peer.got[-1]
    assert (path, headers["Content-Type"], headers["Idempotency-Key"]) == ("/echo", "application/json", "id-1")
    assert envelope["from"] == {"agent": "ed", "run": "r-1", "node": "tell"}
    assert (envelope["version"], envelope["depth"], envelope["channel"], envelope["reply"]) == (1, 2, "drafts", True)


def test_without_a_reply_the_receipt_is_given_whatever_the_answer_says(peer):
    message = {"status": 202, "body": "taken"}
    assert send(peer, "/raw", message, reply=False) == {"id": "id-1", "to": "them", "accepted": True}


@pytest.mark.parametrize(
    ("status", "kind", "failure"),
    [
        (400, InvalidError, FailureClass.INVALID),
        (401, DeniedError, FailureClass.DENIED),
        (403, DeniedError, FailureClass.DENIED),
        (404, InvalidError, FailureClass.INVALID),
        (429, TransientError, FailureClass.TRANSIENT),
        (503, TransientError, FailureClass.TRANSIENT),
        (500, HandlerError, FailureClass.FATAL),
        (502, UnknownEffectError, FailureClass.UNKNOWN),
        (504, UnknownEffectError, FailureClass.UNKNOWN),
    ],
)
def test_a_status_that_is_no_success_has_its_class_and_is_never_repeated(peer, status, kind, failure):
    error = refusal(peer, "/raw", {"status": status, "body": "went\n wrong"})
    assert (type(error), error.failure, error.called) == (kind, failure, True)
    assert f"`them` at {peer.url}/raw answered with the status {status}: went wrong" in error.message


def test_a_redirect_is_not_followed(peer):
    before = len(peer.got)
    error = refusal(peer, "/raw", {"status": 307, "body": "", "headers": {"Location": f"{peer.url}/echo"}})
    assert (type(error), error.called, len(peer.got)) == (DeniedError, True, before + 1)
    assert "redirects to" in error.message


@pytest.mark.parametrize(
    "body", ["", "no json", "{", '{"n": NaN}', "[" * 100_000, '"\\ud800"', str(2**70)], ids=lambda body: repr(body[:8])
)
def test_what_is_no_json_value_is_no_reply_and_is_not_asked_for_again(peer, body):
    error = refusal(peer, "/raw", {"status": 200, "body": body})
    assert (error.called, "`them` at" in error.message or "the reply of `them`" in error.message) == (True, True)


def test_a_reply_that_is_too_large_is_refused_before_it_is_read(peer):
    error = refusal(peer, "/huge")
    assert isinstance(error, CapabilityError)
    assert "bytes" in error.message


@pytest.mark.parametrize("path", ["/half", "/gone"])
def test_an_answer_that_is_lost_leaves_the_effect_unknown(peer, path):
    error = refusal(peer, path)
    assert (type(error), error.called) == (UnknownEffectError, True)
    assert "the answer of `them` at" in error.message


def test_a_peer_that_never_answers_is_named_when_the_time_is_over(peer):
    error = refusal(peer, "/slow", timeout_s=0.05)
    assert (type(error), error.called) == (DeadlineError, True)
    assert f"`them` at {peer.url}/slow gave no answer within 0.05 s" in error.message


def test_where_nobody_listens_nothing_was_sent_and_the_node_may_be_fired_again():
    class Nobody:
        url = f"http://127.0.0.1:{free_port()}"

    error = refusal(Nobody, "/echo")
    assert (type(error), error.called) == (TransientError, False)


def test_what_json_cannot_carry_and_what_is_too_large_is_not_sent(peer, monkeypatch):
    before = len(peer.got)
    assert "holds what JSON cannot carry" in refusal(peer, "/echo", {"data": b"x"}).message
    monkeypatch.setattr(module, "REQUEST_BYTES_MAX", 1_000)
    error = refusal(peer, "/echo", "x" * 1_000)
    assert (error.code, len(peer.got)) == ("limit", before)
    assert json.dumps("x" * 100)


def test_a_cancellation_closes_the_connection(peer):
    async def whole():
        peers = Peers()
        peers.register("them", peer.url + "/slow")
        task = asyncio.create_task(post(Broker(), find(peers, "them"), Envelope("i", "a", "r", "n", "them", 1), 10))
        peer.arrived.clear()
        while not peer.arrived.is_set():
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(whole())
