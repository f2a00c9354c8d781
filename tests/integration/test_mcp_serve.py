"""Flows as tools of an MCP server: the official client in this process, over standard streams and over HTTP."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from apxm import CapabilityRecord, RunOptions, Runtime, compile, flow, step
from apxm.errors import ApxmError, CapabilityError, DeniedError, InvalidError
from apxm.graph.model import AgentGraph, Graph, Node, Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest.importorskip("mcp")

from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError

from apxm.interop.mcp import connect, make_server
from tests.integration.test_mcp import SECONDS_MAX, until

ROOT = Path(__file__).resolve().parents[2]


# ---- flows as tools of a server ----------------------------------------------------------------------------------------
@pytest.fixture
def runtime() -> Iterator[Runtime]:
    with Runtime() as runtime:
        yield runtime


@flow
def shout(text: str, times: int):
    """Say it louder.

    And more often.
    """
    return step.inv("loud", text, times, name="loud")


def loud(text: str, times: int) -> str:
    print("stray output")
    return text.upper() * times


def serving(runtime: Runtime, work: Callable[..., Any], *programs: Any, mode: str = "auto", **options: Any) -> Any:
    """What `await work(client)` gives, for the official client of a server in this process. `legacy`: the older protocol."""
    server = make_server(runtime, programs, run=RunOptions(**options))

    async def session() -> Any:
        async with Client(server, mode=mode) as client:
            return await work(client)

    return asyncio.run(session())


def test_a_flow_says_what_it_is(runtime: Runtime) -> None:
    runtime.capability_system().register("loud", CapabilityRecord("Loud", loud, effect="read"))

    @flow
    def send(text: str, rate: float, on: bool, more: object):
        """Send it."""
        return step.inv("post", text, name="post")

    runtime.capability_system().register("post", CapabilityRecord("Post", lambda text: text))

    async def listed(client: Client) -> Any:
        return (await client.list_tools()).tools

    shouts, sends = serving(runtime, listed, shout, send)
    assert (shouts.name, shouts.description) == ("shout", "Say it louder.\n\nAnd more often.")
    assert shouts.input_schema == {
        "type": "object",
        "properties": {"text": {"type": "string"}, "times": {"type": "integer"}},
        "required": ["text", "times"],
        "additionalProperties": False,
    }
    assert sends.input_schema["properties"] == {
        "text": {"type": "string"},
        "rate": {"type": "number"},
        "on": {"type": "boolean"},
        "more": {},
    }
    assert (shouts.annotations.read_only_hint, shouts.annotations.destructive_hint) == (True, False)
    assert (sends.annotations.read_only_hint, sends.annotations.destructive_hint) == (False, True)
    assert (shouts.meta["apxm/effect"], sends.meta["apxm/effect"]) == ("read", "guarded")
    assert shouts.meta["apxm/bounds"]["guarded_effects"]["at_most"] == 0
    assert sends.meta["apxm/bounds"]["guarded_effects"] == {"at_most": 1, "text": "1"}


@flow
def give(value: object):
    return step.inv("same", value, name="same")


@pytest.mark.parametrize(
    ("value", "structured", "text"),
    [
        ("plain", None, "plain"),
        ({"a": [1, None]}, {"a": [1, None]}, '{"a": [1, null]}'),
        ([1, "ü"], [1, "ü"], '[1, "ü"]'),
        (7, 7, "7"),
        (None, None, "null"),
    ],
)
def test_a_value_is_given_as_text_and_structured(runtime: Runtime, value: Any, structured: Any, text: str) -> None:
    runtime.capability_system().register("same", CapabilityRecord("Same", lambda value: value, effect="pure"))

    async def given(client: Client) -> Any:
        return await client.call_tool("give", {"value": value})

    older = serving(runtime, given, give, mode="legacy")
    assert (older.structured_content, older.content[0].text) == (structured if isinstance(value, dict) else None, text)
    result = serving(runtime, given, give)
    assert (result.structured_content, result.content[0].text, result.is_error) == (structured, text, False)


def test_what_goes_wrong_is_said_with_its_hint(runtime: Runtime) -> None:
    @flow
    def fails(text: str):
        return step.guard(text, condition="== 'right'", error_message="that is wrong", name="check")

    @flow
    def slow():
        return step.inv("hang", name="hang")

    async def hang() -> None:
        await asyncio.sleep(5)

    runtime.capability_system().register("hang", CapabilityRecord("Hang", hang, effect="read"))

    async def asked(client: Client) -> list[Any]:
        found = [
            await client.call_tool("fails", {"text": "wrong"}),
            await client.call_tool("fails", {"txt": "wrong"}),
            await client.call_tool("slow", {}),
        ]
        with pytest.raises(MCPError, match="there is no tool 'other'; there are: fails, slow"):
            await client.call_tool("other", {})
        return found

    raised, misspelt, late = serving(runtime, asked, fails, slow, deadline_s=0.1)
    assert raised.is_error
    assert "that is wrong" in raised.content[0].text
    assert raised.structured_content["code"] == "raised"
    assert misspelt.is_error
    assert "`txt` is not a parameter; close: `text`; it takes (text: str)" in misspelt.content[0].text
    assert late.is_error
    assert late.structured_content["class"] == "deadline"


def test_what_is_not_granted_is_said_before_anybody_calls(runtime: Runtime) -> None:
    @flow
    def page(path: str):
        return step.inv("read", path, name="page")

    with pytest.raises(DeniedError, match="grant `read=DIRECTORY`"):
        make_server(runtime, [page])
    make_server(runtime, [page], run=RunOptions(grants=["read=."]))


def test_flows_of_one_name_are_told_apart_by_agent_or_refused(runtime: Runtime) -> None:
    runtime.capability_system().register("loud", CapabilityRecord("Loud", loud, effect="read"))
    with pytest.raises(InvalidError, match=r"two programs have a flow `default\.shout`"):
        make_server(runtime, [shout, shout])

    async def names(client: Client) -> list[str]:
        return [tool.name for tool in (await client.list_tools()).tools]

    node = Node(1, "loud", "INV", {"capability": "loud", "arg_text": "a", "arg_times": 1})
    agents = [AgentGraph(agent, [Graph("say it", [node])]) for agent in ("one", "two")]
    assert sorted(serving(runtime, names, Program(agents), shout)) == ["one.say_it", "shout", "two.say_it"]


def test_calls_run_at_the_same_time_and_are_cancelled_with_their_request(runtime: Runtime) -> None:
    met, stopped, begun = threading.Barrier(2, timeout=SECONDS_MAX), threading.Event(), threading.Event()

    def meet() -> int:
        return met.wait()

    async def hang() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    runtime.capability_system().register("meet", CapabilityRecord("Meet", meet, effect="read"))
    runtime.capability_system().register("hang", CapabilityRecord("Hang", hang, effect="read"))

    @flow
    def together():
        return step.inv("meet", name="meet")

    @flow
    def forever():
        return step.inv("hang", name="hang")

    async def both(client: Client) -> Any:
        results = await asyncio.gather(*(client.call_tool("together", {}) for _ in range(2)))
        task = asyncio.create_task(client.call_tool("forever", {}))
        while not begun.is_set():
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.wait([task])
        async with asyncio.timeout(5):
            while not stopped.is_set():
                await asyncio.sleep(0.005)
        return sorted(result.structured_content for result in results)

    assert serving(runtime, both, together, forever) == [0, 1]


def test_a_client_that_wants_to_know_is_told_how_far_it_is(runtime: Runtime) -> None:
    async def wait_for_news() -> str:
        return await asyncio.get_running_loop().run_in_executor(None, lambda: str(told.wait(SECONDS_MAX)))

    told = threading.Event()
    runtime.capability_system().register("same", CapabilityRecord("Same", lambda value: value, effect="read"))
    runtime.capability_system().register("news", CapabilityRecord("News", wait_for_news, effect="read"))

    @flow
    def steps(value: str):
        first = step.inv("same", value, name="first")
        return step.inv("news", name="news", after=[first])

    seen: list[tuple[float, str | None]] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        seen.append((done, message))
        if done >= 1:
            told.set()

    async def watched(client: Client) -> Any:
        return await client.call_tool("steps", {"value": "x"}, progress_callback=progress)

    assert serving(runtime, watched, steps, mode="legacy").content[0].text == "True"
    assert (1, "1 nodes have ended") in seen
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


# ---- `apxm mcp serve` ----------------------------------------------------------------------------------------------------
SOURCE = '''
import time
from apxm import CapabilityRecord, flow, step

print("stray output at import")

@flow
def shout(text: str, times: int):
    """Say it louder."""
    return step.inv("loud", text, times, name="loud")

def loud(text: str, times: int) -> str:
    print("stray output")
    return text.upper() * times

CAPABILITIES = {"loud": CapabilityRecord("Loud", loud, effect="read")}
'''


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "shout.py"
    file.write_text(SOURCE)
    return file


def served(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "apxm", "mcp", "serve", "--config", "none", *arguments]


def test_the_official_client_calls_a_flow_over_real_standard_streams(source: Path, tmp_path: Path) -> None:
    @flow
    def twice(text: str):
        return step.merge(text, text, name="both")

    compile(twice).save(tmp_path / "twice.apxm")
    command, *rest = served(str(source), str(tmp_path / "twice.apxm"))
    log = (tmp_path / "stderr").open("w")

    async def session() -> Any:
        from mcp.client.stdio import stdio_client

        parameters = StdioServerParameters(command=command, args=rest, env={"PYTHONPATH": str(ROOT)})
        async with Client(stdio_client(parameters, errlog=log)) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            results = await asyncio.gather(*(client.call_tool("shout", {"text": "a", "times": n}) for n in range(1, 6)))
            wrong = await client.call_tool("shout", {"text": "a"})
            return names, [result.content[0].text for result in results], wrong

    with log:
        names, texts, wrong = asyncio.run(asyncio.wait_for(session(), SECONDS_MAX))
    assert names == ["shout", "twice"]
    assert texts == ["A", "AA", "AAA", "AAAA", "AAAAA"]
    assert wrong.is_error
    assert "`times` (int) is missing" in wrong.content[0].text
    said = (tmp_path / "stderr").read_text()
    assert said.count("stray output") == 6
    assert "Traceback" not in said


@contextmanager
def http_server(app: Any) -> Iterator[str]:
    """An application on a port of this machine, in this process; gives its address."""
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=asyncio.run, args=(server.serve(sockets=[listening]),))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        finally:
            server.should_exit = True
            thread.join()


@flow
def remote(text: str):
    return step.inv("there.shout", text=text, times=2, name="there")


def test_our_client_calls_a_flow_of_our_server_by_http(runtime: Runtime) -> None:
    runtime.capability_system().register("loud", CapabilityRecord("Loud", loud, effect="read"))
    with http_server(make_server(runtime, [shout]).streamable_http_app()) as url:
        with connect(runtime, "there", url=url, believe_hints=True) as made:
            assert made.names == ("there.shout",)
            assert runtime.capability_system().get("there.shout").effect.value == "read"
            assert runtime.execute(remote, text="ab").value == "ABAB"
        with pytest.raises(CapabilityError, match="cannot be reached"):
            connect(runtime, "there", url=f"{url}/nothing")


def test_an_answer_by_http_that_is_too_long_is_given_up(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apxm.interop.mcp_streams.LINE_MAX", 2_000)
    runtime.capability_system().register("loud", CapabilityRecord("Loud", loud, effect="read"))
    app = make_server(runtime, [shout]).streamable_http_app(json_response=True)
    with http_server(app) as url, connect(runtime, "there", url=url, timeout_ms=2_000) as made:
        assert made.names == ("there.shout",)
        invoke = runtime.capability_system().invoke
        assert asyncio.run(invoke("there.shout", {"text": "a", "times": 10})) == "A" * 10
        with pytest.raises(ApxmError):
            asyncio.run(invoke("there.shout", {"text": "a", "times": 10_000}))


def test_a_signal_ends_a_server_of_either_kind(source: Path, long_run: bool) -> None:
    if not long_run:
        pytest.skip("two processes of a second each; --long")
    for more, stream in ((["--http", "0"], "stderr"), ([], "stdout")):
        with subprocess.Popen(
            served(str(source), *more), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
        ) as process:
            assert process.stdin is not None
            hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
            process.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}).encode() + b"\n")
            process.stdin.flush()
            while b"listening on" not in (line := getattr(process, stream).readline()) and b'"id":1' not in line:
                assert line
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS_MAX) == 128 + signal.SIGTERM


def test_a_client_that_goes_away_ends_what_it_asked_for(tmp_path: Path, long_run: bool) -> None:
    if not long_run:
        pytest.skip("a process of a second; --long")
    (tmp_path / "hang.py").write_text(HANG)

    async def session() -> None:
        command, *rest = served(str(tmp_path / "hang.py"))
        env = {"PYTHONPATH": str(ROOT), "MARK": str(tmp_path / "mark")}
        async with Client(StdioServerParameters(command=command, args=rest, env=env)) as client:
            task = asyncio.create_task(client.call_tool("hang", {}))
            while not (tmp_path / "mark").exists():
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])
            asyncio.create_task(client.call_tool("hang", {}))  # noqa: RUF006
            while (tmp_path / "mark").read_text().count("begun") < 2:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(session(), SECONDS_MAX))
    until(lambda: (tmp_path / "mark").read_text().count("ended") == 2)


HANG = """
import asyncio, os
from apxm import CapabilityRecord, flow, step

@flow
def hang():
    return step.inv("wait", name="wait")

def note(word):
    with open(os.environ["MARK"], "a") as file:
        print(word, file=file)

async def wait():
    note("begun")
    try:
        await asyncio.sleep(600)
    finally:
        note("ended")

CAPABILITIES = {"wait": CapabilityRecord("Wait", wait)}
"""


@pytest.mark.parametrize("address", ["0.0.0.0:80", "example.org:80", "x", ":", "127.0.0.1:99999", "-1"])
def test_only_this_machine_is_served(address: str, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from apxm.cli.main import main

    assert main(["mcp", "serve", str(source), f"--http={address}", "--config", "none"]) != 0
    assert "is no address of this machine" in capsys.readouterr().err
