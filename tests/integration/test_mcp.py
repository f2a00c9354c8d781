"""The tools of MCP servers as capabilities: real processes, and a server with bad habits."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from apxm import Runtime, compile, flow, step
from apxm.errors import ApxmError, CapabilityError, InvalidError, TransientError, UnknownEffectError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apxm.interop.mcp import Connection

pytest.importorskip("mcp")

from apxm.interop.mcp import connect

PEER = str(Path(__file__).with_name("mcp_peer.py"))
SECONDS_MAX = 20


def until(true: Callable[[], Any]) -> Any:
    """Wait for something that happens elsewhere."""
    end = time.monotonic() + SECONDS_MAX
    while not (found := true()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)
    return found


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"  # dead, and its parent is not ours
    except FileNotFoundError:
        return True


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with Runtime() as runtime:
        yield runtime


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def peer(runtime: Runtime, log: Path, habit: str = "decent", **options: Any) -> Connection:
    command = [sys.executable, "-S", PEER, habit]
    return connect(runtime, "peer", command=command, env={"PEER_LOG": str(log)}, **options)


def pids(log: Path) -> list[int]:
    return [int(pid) for pid in re.findall(r"pid (\d+)", log.read_text())]


def call(runtime: Runtime, tool: str, **arguments: Any) -> Any:
    return asyncio.run(runtime.capability_system().invoke(f"peer.{tool}", arguments))


def test_tools_are_capabilities_and_what_they_give_are_values(runtime: Runtime, log: Path) -> None:
    with peer(runtime, log) as made:
        assert made.names[:3] == ("peer.echo", "peer.again", "peer.parts")
        described = runtime.capability_system().describe("peer.echo")
        assert described["description"] == "Say it again."
        assert described["parameters"]["additionalProperties"] is False
        assert call(runtime, "echo", text="hi").startswith("hi\nfrom ")
        assert call(runtime, "parts") == ["a picture:", {"type": "image", "data": "aGk=", "mime_type": "image/png"}]
        assert call(runtime, "structured") == {"number": 7}
        assert call(runtime, "again") == ""
        for tool, said in (
            ("fails", "`fails` of the MCP server `peer` failed: no such file"),
            ("refuses", "refused the call: no tools/call here"),
            ("odd", "gave something that is no result"),
            ("large", "at most 4194304 are taken"),
        ):
            with pytest.raises(CapabilityError, match=said):
                call(runtime, tool)
        with pytest.raises(InvalidError, match="lacks argument `text`"):
            call(runtime, "echo")
        with pytest.raises(InvalidError, match="do not fit its schema"):
            call(runtime, "echo", text=3)
    assert not runtime.capability_system().has("peer.echo")
    assert all(gone(pid) for pid in pids(log))
    assert len(pids(log)) == 1
    made.close()  # once more


def test_a_program_calls_a_tool_and_gets_what_strangers_wrote(runtime: Runtime, log: Path) -> None:
    @flow
    def ask(text: str):
        return step.inv("peer.echo", text=text, name="said")

    with peer(runtime, log):
        result = runtime.execute(ask, text="hello")
    assert result.value.startswith("hello\n")
    assert result.labels("return") == {"user", "web"}
    with peer(runtime, log, source=None):
        assert runtime.execute(ask, text="hello").labels("return") == {"user", "tool:peer.echo"}


def test_a_tool_is_guarded_unless_the_host_says_otherwise(runtime: Runtime, log: Path) -> None:
    def effects() -> list[str]:
        return [runtime.capability_system().get(f"peer.{name}").effect.value for name in ("echo", "again", "parts")]

    for options, expected in (
        ({}, ["guarded", "guarded", "guarded"]),
        ({"effects": {"echo": "read"}}, ["read", "guarded", "guarded"]),
        ({"believe_hints": True}, ["read", "idempotent", "guarded"]),
    ):
        with peer(runtime, log, only=["echo", "again", "parts"], **options) as made:
            assert effects() == expected
            assert len(made.names) == 3


def test_a_server_that_dies_is_started_again_and_what_it_was_doing_is_unknown(runtime: Runtime, log: Path) -> None:
    with peer(runtime, log):
        with pytest.raises(UnknownEffectError, match="ended before it answered"):
            call(runtime, "dies")
        assert call(runtime, "echo", text="hi").startswith("hi\n")
        assert len(pids(log)) == 2
        os.kill(pids(log)[1], signal.SIGKILL)
        until(lambda: gone(pids(log)[1]))
        with pytest.raises(UnknownEffectError):
            call(runtime, "echo", text="hi")
        assert call(runtime, "echo", text="hi").startswith("hi\n")
    assert all(gone(pid) for pid in pids(log))


def test_a_server_that_floods_us_is_ended(runtime: Runtime, log: Path) -> None:
    with peer(runtime, log):
        with pytest.raises(UnknownEffectError, match="ended before it answered"):
            call(runtime, "floods")
        until(lambda: gone(pids(log)[0]))
        assert call(runtime, "chatters") == "after all that"


def test_a_server_that_dies_of_every_call_is_left_alone(runtime: Runtime, log: Path) -> None:
    @flow
    def ask():
        return step.inv("peer.dies", retries=2, name="said")

    with peer(runtime, log, believe_hints=True):
        with pytest.raises(TransientError, match="ended before it answered"):
            runtime.execute(ask)
        assert len(pids(log)) == 3  # one for each attempt
        for _ in range(3):
            with pytest.raises(ApxmError):
                call(runtime, "dies")
        with pytest.raises(CapabilityError, match="ended 5 times in a row"):
            call(runtime, "dies")
        assert len(pids(log)) == 6


def test_a_tool_that_never_answers_is_told_that_nobody_waits(runtime: Runtime, log: Path) -> None:
    with peer(runtime, log, timeout_ms=50):
        with pytest.raises(UnknownEffectError, match=r"did not answer within 0\.05 s"):
            call(runtime, "silent")
        until(lambda: "cancelled" in log.read_text())
    with peer(runtime, log, only=["silent"]):
        handle = runtime.start(compile(waiting))
        until(lambda: log.read_text().count("silent") == 2)
        handle.cancel()
        with pytest.raises(ApxmError):
            handle.result(SECONDS_MAX)
        until(lambda: log.read_text().count("cancelled") == 2)


@flow
def waiting():
    return step.inv("peer.silent", name="said")


@pytest.mark.parametrize(
    ("habit", "options", "kind", "said"),
    [
        ("exits", {}, CapabilityError, "the MCP server `peer` cannot be reached"),
        ("mute", {"connect_s": 0.2}, CapabilityError, r"no greeting within 0\.2 s"),
        ("endless", {}, InvalidError, "more than 1000 tools, or more than 100 pages"),
        ("schema", {}, InvalidError, r"no valid JSON Schema.*leave it out: only="),
        ("name", {}, InvalidError, "'peer.two words' is no capability name"),
        ("decent", {"only": ["nothing"]}, InvalidError, "has no tool `nothing`; it has `echo`"),
        ("decent", {"effects": {"nothing": "read"}}, InvalidError, "has no tool `nothing`"),
        ("decent", {"effects": {"echo": "great"}}, InvalidError, "has the effect 'great'"),
    ],
    ids=["exits", "mute", "endless", "schema", "name", "only", "effects", "effect"],
)
def test_a_server_of_no_use_is_refused_and_ended(
    runtime: Runtime, log: Path, habit: str, options: dict[str, Any], kind: type[ApxmError], said: str
) -> None:
    before = runtime.capability_system().list_capability_names()
    with pytest.raises(kind, match=said):
        peer(runtime, log, habit, **options)
    assert runtime.capability_system().list_capability_names() == before
    assert all(gone(pid) for pid in pids(log))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "either a `command` or a `url`"),
        ({"command": ["x"], "url": "http://127.0.0.1/"}, "either a `command` or a `url`"),
        ({"command": "x --flag"}, "a list of words"),
        ({"command": []}, "a list of words"),
        ({"command": ["x"], "headers": {"A": "b"}}, "without `headers`"),
        ({"url": "http://127.0.0.1/", "env": {"A": "b"}}, "for a `command`"),
        ({"url": "ftp://127.0.0.1/"}, "is no URL"),
    ],
)
def test_a_connection_that_makes_no_sense_is_refused(runtime: Runtime, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidError, match=said):
        connect(runtime, "x", **options)


def test_a_command_or_an_address_where_nothing_is_is_said(runtime: Runtime) -> None:
    with pytest.raises(CapabilityError, match="cannot be reached: FileNotFoundError"):
        connect(runtime, "x", command=["/nonexistent/server"])
    with pytest.raises(CapabilityError, match="cannot be reached"):
        connect(runtime, "x", url="http://127.0.0.1:1/mcp")


def test_a_server_that_does_not_want_to_end_is_killed_with_what_it_started(
    runtime: Runtime, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apxm.interop.mcp_streams.LEAVE_S", 0.05)
    monkeypatch.setattr("apxm.interop.mcp_streams.TERM_S", 0.05)
    with peer(runtime, log, "stubborn"):
        assert not any(gone(pid) for pid in pids(log))
    assert len(pids(log)) == 2
    until(lambda: all(gone(pid) for pid in pids(log)))
