from array import array
from threading import Thread

import pytest

from apxm.aam import flows as module
from apxm.aam.agent import Agent, AgentFlow
from apxm.aam.flows import FlowRegistry
from apxm.artifact.format import Artifact
from apxm.dag import ExecutionDag
from apxm.errors import BindError
from apxm.graph.model import Parameter


def dag(name: str, agent: str = "default", **metadata: object) -> ExecutionDag:
    return ExecutionDag(
        name=name,
        ops=b"\x00\x01",
        ids=array("q", [-1, 1]),
        names=("p", "c"),
        in_offsets=array("i", [0, 0, 0]),
        in_sources=array("i"),
        in_kinds=b"",
        exits=(1,),
        ranks=array("i", [0, 0]),
        parameters=(Parameter("p"),),
        attributes={1: {"value": name}},
        agent=agent,
        metadata=metadata,
    )


def agent(name: str, *flows: str) -> Agent:
    return Agent(name, {flow: AgentFlow(flow, dag(flow, name)) for flow in flows})


def artifact(*dags: ExecutionDag, entry: tuple[str, str]) -> Artifact:
    flows = {(one.agent, one.name): one for one in dags}
    about = {"writer": {"style": "dry"}}
    return Artifact("program", flows, entry=entry, level=0, compiler="test", manifest={}, agents=about)


# ---- registry --------------------------------------------------------------------------------------------------------
def test_a_registered_agent_answers_for_all_its_flows():
    registry = FlowRegistry()
    registry.register_agent(agent("writer", "draft", "edit"))
    registry.register_agent(agent("critic", "judge"))
    assert registry.list_flows() == [("critic", "judge"), ("writer", "draft"), ("writer", "edit")]
    assert registry.list_flows("critic") == [("critic", "judge")]
    assert registry.get_flow("writer", "edit").attributes[1] == {"value": "edit"}
    assert registry.get_agent("writer").flow("draft").parameters == (Parameter("p"),)
    assert registry.list_agents() == ["critic", "writer"]


def test_registering_an_agent_again_replaces_it_and_its_old_flows_are_gone():
    registry = FlowRegistry()
    registry.register_agent(agent("writer", "draft"))
    registry.register_agent(agent("writer", "edit"))
    assert not registry.has_flow("writer", "draft")
    assert registry.has_flow("writer", "edit")


@pytest.mark.parametrize(
    ("name", "flow", "message"),
    [
        ("writr", "draft", "no agent `writr`.*close: `writer`"),
        ("writer", "draf", "`writer` has no flow `draf`.*close: `draft`"),
        ("zzz", "draft", "there are: `writer`"),
    ],
)
def test_a_flow_that_is_not_there_is_named_with_the_nearest(name, flow, message):
    registry = FlowRegistry()
    registry.register_agent(agent("writer", "draft"))
    with pytest.raises(BindError, match=message):
        registry.get_flow(name, flow)


def test_an_empty_registry_says_so():
    with pytest.raises(BindError, match=r"none are registered"):
        FlowRegistry().get_agent("anyone")


def test_every_change_shows_in_the_generation_and_a_failed_one_does_not():
    registry = FlowRegistry()
    registry.register_agent(agent("a", "f"))
    assert registry.generation == 1
    assert registry.remove_agent("a")
    assert not registry.remove_agent("a")
    assert registry.generation == 2
    assert not registry.has_flow("a", "f")


def test_the_registry_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "AGENTS_MAX", 2)
    registry = FlowRegistry()
    for name in "ab":
        registry.register_agent(agent(name, "f"))
    registry.register_agent(agent("a", "g"))
    with pytest.raises(BindError, match=r"one more than the 2 agents"):
        registry.register_agent(agent("c", "f"))


def test_registering_from_many_threads_loses_nothing():
    registry = FlowRegistry()

    def register(start: int) -> None:
        for number in range(start, start + 50):
            registry.register_agent(agent(f"agent_{number}", "f"))
            assert registry.has_flow(f"agent_{number}", "f")

    threads = [Thread(target=register, args=(start,)) for start in range(0, 200, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registry.list_agents()) == 200
    assert registry.generation == 200


# ---- agents ----------------------------------------------------------------------------------------------------------
def test_an_artifact_gives_its_agents_with_what_the_program_says_about_them():
    program = artifact(dag("draft", "writer"), dag("edit", "writer"), dag("judge", "critic"), entry=("writer", "edit"))
    writer = Agent.from_artifact(program)
    assert writer.name == "writer"
    assert list(writer.flows) == ["draft", "edit"]
    assert writer.entry_flow().name == "edit"
    assert writer.metadata == {"style": "dry"}
    assert [one.name for one in Agent.all_from_artifact(program)] == ["critic", "writer"]
    assert Agent.from_artifact(program, "critic").entry_flow().name == "judge"
    with pytest.raises(BindError, match=r"close: `critic`"):
        Agent.from_artifact(program, "critik")


def test_an_agent_with_several_flows_and_no_entry_asks_which_one():
    program = artifact(dag("a", "x"), dag("b", "y"), dag("c", "y"), entry=("x", "a"))
    with pytest.raises(BindError, match=r"`b`, `c`"):
        Agent.from_artifact(program, "y").entry_flow()
    program = artifact(dag("a", "x"), dag("b", "y", is_entry=True), dag("c", "y"), entry=("x", "a"))
    assert Agent.from_artifact(program, "y").entry_flow().name == "b"


def test_an_agent_needs_a_name_and_files_its_flows_under_theirs():
    with pytest.raises(BindError, match=r"no name"):
        Agent("", {})
    with pytest.raises(BindError, match=r"files flow `f` under `g`"):
        Agent("a", {"g": AgentFlow("f", dag("f"))})
