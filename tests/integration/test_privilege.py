"""Attacks on the label policy, whole runs: what a model or the web said reaches no guarded call without trust."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from apxm import ApxmError, CapabilityRecord, DeniedError, InvalidError, RunOptions, Runtime, ScriptedModel, ToolCall, compile
from apxm.capability.grants import Grants
from apxm.capability.policy import Allow, Edit, Request
from apxm.testing.sketch import sketch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = ("INV", {"capability": "page"})
POST = ("INV", {"capability": "post", "arg_text": "because {0}"})


class World:
    """A runtime with a page of the web, and guarded capabilities that write down what they were called with."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.calls: list[tuple[str, ...]] = []
        for name, fn, more in (
            ("page", lambda: "what strangers wrote", {"effect": "read", "source": "web"}),
            ("pair", lambda text: [text, text], {"effect": "pure"}),
            ("fails", self.fails, {"effect": "read"}),
            ("post", self.post, {}),
            ("push", self.push, {}),
        ):
            runtime.capability_system().register(name, CapabilityRecord("x", fn, **more))

    async def fails(self, text: str) -> None:
        raise ValueError(text)

    def post(self, text: str, more: str = "", again: str = "") -> str:
        self.calls.append(("post", text))
        return "posted"

    def push(self, how: str = "hard") -> str:
        self.calls.append(("push", how))
        return "pushed"

    def run(self, graph: dict[str, Any], parameters: dict[str, Any] | None = None, **options: Any) -> Any:
        program = compile(graph)
        flows = program.flows()
        return self.runtime.execute(flows["default", "main"], parameters, run=RunOptions(**options)).value


@pytest.fixture
def world() -> Iterator[World]:
    with Runtime(model=ScriptedModel([(".", [ToolCall("1", "push", {}), "done"])])) as runtime:
        yield World(runtime)


@pytest.mark.parametrize("page", [PAGE, ("ASK", {"prompt": "hi"})], ids=["web", "model"])
def test_the_error_of_a_map_says_what_its_items_said(page: Any) -> None:
    body = sketch({8: page, 9: ("INV", {"capability": "fails"})}, "8->9:text")
    graph = sketch(
        {1: ("INV", {"capability": "pair", "arg_text": "c"}), 5: ("MAP", {}, {"body": body}), 3: POST}, "1->5 5@error->3"
    )
    with Runtime(model=ScriptedModel(default="what a model wrote")) as runtime:
        made = World(runtime)
        with pytest.raises(DeniedError, match=r"its argument `text` comes from `(web|llm:scripted)`"):
            made.run(graph)
        assert made.calls == []


def test_a_model_needs_no_argument_to_do_harm(world: World) -> None:
    graph = sketch({1: ("ASK", {"prompt": "hi", "tools": ["push"]})})
    assert world.run(graph, grants=["push"]) == "done"
    assert world.calls == []
    assert world.runtime.capability_system().stats()["push"]["denied"] == 1


def test_trust_in_the_model_lets_it_call_without_arguments(world: World) -> None:
    graph = sketch({1: ("ASK", {"prompt": "hi", "tools": ["push"]})})
    assert world.run(graph, grants=["push"], trust=["llm:scripted=push"]) == "done"
    assert world.calls == [("push", "hard")]


@pytest.mark.parametrize("edited", [{}, {"how": "hard"}, {"how": "softly"}])
def test_an_interceptor_that_fills_in_arguments_does_not_make_the_call_its_own(world: World, edited: dict[str, str]) -> None:
    seen: list[Any] = []

    def fill(request: Request) -> Edit:
        return Edit(edited)

    def look(request: Request) -> Allow:
        seen.append(request.labels)
        return Allow()

    for hook in (fill, look):
        world.runtime.capability_system().intercept(hook, ["push"])
    world.run(sketch({1: ("ASK", {"prompt": "hi", "tools": ["push"]})}), grants=["push"])
    assert world.calls == []
    assert "llm:scripted" in {label for labels in seen[0].values() for label in labels}


def test_a_program_that_calls_without_arguments_is_trusted(world: World) -> None:
    assert world.run(sketch({1: ("INV", {"capability": "push"})})) == "pushed"


@pytest.mark.parametrize("how", ["together", "to the agent", "to two agents"])
def test_a_directory_in_one_that_code_may_change_cannot_be_granted(world: World, tmp_path: Path, how: str) -> None:
    """A shell would make a link of it, and `read` would follow what the host granted."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "inner")
    grants = [f"bash={tmp_path}:rw", f"read={tmp_path / 'alias'}"]
    if how == "to the agent":
        world.runtime.grant("default", [grants.pop()])
    refused = pytest.raises(InvalidError, match="where code may put a link in its place")
    if how == "to two agents":
        world.runtime.grant("other", [grants.pop()])
        with refused:
            world.runtime.grant("default", grants)
        assert "default" not in world.runtime.granted()
        return
    with refused:
        world.run(sketch({1: ("INV", {"capability": "read", "arg_path": "x"})}), grants=grants)
    beside = Grants.parse([f"bash={tmp_path}", f"read={tmp_path / 'inner'}", f"write={tmp_path}", f"bash={tmp_path}x:rw"])
    assert len(beside.roots("bash")) == 2


def test_a_long_chain_of_calls_is_asked_once_where_its_values_come_from(world: World) -> None:
    """With three parameters on each of sixty steps there are 3 ** 60 ways up."""
    names = ["a", "b", "c"]
    edges = "a->1:a b->1:b c->1:c"
    flows = [sketch({1: ("FLOW_CALL", {"flow_name": f"f{n + 1}"})}, edges, parameters=names, name=f"f{n}") for n in range(60)]
    last = sketch({1: ("INV", {"capability": "post"})}, "a->1:text b->1:more c->1:again", parameters=names, name="f60")
    first = sketch({1: PAGE, 2: ("FLOW_CALL", {"flow_name": "f0"})}, "1->2:a 1->2:b 1->2:c")
    with pytest.raises(ApxmError, match="comes from `web`"):
        world.run({"agents": [{"name": "default", "flows": [first, *flows, last]}]})
    assert world.calls == []
