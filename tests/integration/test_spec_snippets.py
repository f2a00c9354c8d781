"""The usage snippets of the apxm-runtime specification, translated literally: the same names, the same steps."""

from __future__ import annotations

import asyncio

import pytest

import apxm
from apxm import Graph, Node


@pytest.fixture
def artifact_bytes() -> bytes:
    graph = Graph("hello")
    word = graph.inv("web_search", query="dataflow", name="search")
    graph.return_(word, name="answer")
    return apxm.compile(graph).to_bytes()


def my_search_fn(query: str) -> list[str]:
    """Pretends to search the web."""
    return [f"about {query}"]


def test_create_a_runtime_load_and_execute_an_artifact(artifact_bytes: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    from apxm import Artifact, CapabilityRecord, Runtime, RuntimeConfig

    # Create runtime with default config
    runtime = Runtime(RuntimeConfig())
    runtime.capability_system().register("web_search", CapabilityRecord("Search the web", my_search_fn))

    # Load and execute artifact
    artifact = Artifact.from_bytes(artifact_bytes)
    dag = artifact.into_dag()

    result = runtime.execute(dag)
    print(f"Execution complete: {result.stats!r}")
    runtime.close()

    assert capsys.readouterr().out.startswith("Execution complete: ExecutionStats(executed=2")
    assert result.value == ["about dataflow"]


def test_the_same_with_await(artifact_bytes: bytes) -> None:
    from apxm import Artifact, CapabilityRecord, Runtime, RuntimeConfig

    async def main() -> None:
        async with Runtime(RuntimeConfig()) as runtime:
            runtime.capability_system().register("web_search", CapabilityRecord("Search the web", my_search_fn))
            artifact = Artifact.from_bytes(artifact_bytes)
            dag = artifact.into_dag()
            result = await runtime.execute_async(dag)
            assert result.value == ["about dataflow"]

    asyncio.run(main())


def test_a_memory_configuration() -> None:
    from apxm import MemoryConfig, Runtime, RuntimeConfig

    config = RuntimeConfig(memory_config=MemoryConfig())
    assert config == RuntimeConfig()
    with Runtime(config) as runtime:
        assert isinstance(runtime.memory, apxm.MemorySystem)


def test_register_and_list_capabilities() -> None:
    from apxm import CapabilityRecord, CapabilitySystem, Runtime

    runtime = Runtime()
    assert isinstance(runtime.capability_system(), CapabilitySystem)
    runtime.capability_system().register(
        "web_search",
        CapabilityRecord("Search the web", my_search_fn),
    )

    # List available capabilities
    names = runtime.capability_system().list_capability_names()
    assert "web_search" in names
    runtime.close()


def test_register_an_agent_with_its_flows() -> None:
    from apxm import Agent, AgentFlow, Runtime

    caller = Graph("main")
    caller.return_(caller.flow_call("greet", agent_name="helper", who="Ada"))
    greet = Graph("greet")
    greet.return_(greet.merge(greet.const_str("hello "), greet.param("who"), mode="concat"))

    dag = apxm.compile(greet).into_dag()
    agent = Agent("helper", {"greet": AgentFlow("greet", dag)})
    with Runtime() as runtime:
        runtime.flow_registry().register_agent(agent)
        assert runtime.flow_registry().get_agent("helper") is agent
        assert runtime.flow_registry().get_flow("helper", "greet") is dag  # the (agent, flow) lookup of flow_call
        assert runtime.execute(caller).value == "hello Ada"


def test_a_scheduler_configuration() -> None:
    from apxm import Runtime, RuntimeConfig, SchedulerConfig

    config = RuntimeConfig(
        scheduler_config=SchedulerConfig(
            max_parallelism=8,
            enable_work_stealing=True,
        ),
    )
    with Runtime(config) as runtime:
        assert runtime.config.scheduler_config.max_parallelism == 8


def test_metrics_of_model_usage_and_timing_come_with_every_result() -> None:
    from apxm import Runtime, ScriptedModel

    graph = Graph("ask")
    graph.ask("Say something.", name="question")
    with Runtime(model=ScriptedModel(default="something")) as runtime:
        stats = runtime.execute(graph).stats
    assert stats.usage["node"]["question"]["llm_calls"] == 1
    assert sum(used["llm_calls"] for used in stats.usage["model"].values()) == 1
    assert stats.duration_ms > 0
    assert stats.node_status == {"question": "done"}


def test_the_key_types_of_the_specification_are_public() -> None:
    for name in ("Runtime", "RuntimeConfig", "Agent", "AgentFlow", "ExecutionDag", "CapabilitySystem", "MemorySystem"):
        assert isinstance(getattr(apxm, name), type)


def test_a_graph_is_a_runnable_thing_too() -> None:
    graph = Graph("plain", nodes=[Node(1, "word", "CONST_STR", {"value": "hi"})])
    with apxm.Runtime() as runtime:
        assert runtime.execute(graph).outputs == {"word": "hi"}
