"""The public names and their signatures. A change here is a change for every user: it needs a line in the changelog."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import apxm

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = """
    Agent AgentFlow AgentGraph Allow ApxmError Artifact ArtifactError Belief BindError BudgetError CapabilityError
    CapabilityRecord CapabilitySystem CompileError ConfigError DeadlineError DeniedError Deny Dependency Edge Edit
    ExecutionDag ExecutionResult ExecutionStats ExtractiveModel FailureClass FlowRegistry Grants Goal Graph GraphError
    HandlerError InternalError InvalidError LanguageModel Limits Machine MemoryConfig MemorySystem Message ModelError
    ModelRegistry Node Parameter ParameterError Problem Program Prompt PromptConfig RaisedError Ref Reply RunCancelled
    RunHandle RunOptions Runtime RuntimeConfig SchedulerConfig ScriptedModel StuckError ToolCall TransientError Transition
    UnknownEffectError Usage ValueRefused compile flow from_json from_networkx step to_json to_networkx validate
"""
NAMES = sorted(TEXT.split())

SIGNATURES = {
    "Runtime": "(config: RuntimeConfig | None = None, *, model: LanguageModel | None = None, clock: Callable[[], float] = ..., "
    "wall_clock: Callable[[], float] = ..., loop_factory: Callable[[], asyncio.AbstractEventLoop] = ...) -> None",
    "Runtime.subscribe": "(self, subscriber: Subscriber, *, nodes: bool = True, content: bool = False) -> Subscription",
    "Runtime.execute": "(self, dag: Executable, parameters: Mapping[str, Any] | None = None, /, *, "
    "run: RunOptions | None = None, **named: Any) -> ExecutionResult",
    "Runtime.execute_async": "(self, dag: Executable, parameters: Mapping[str, Any] | None = None, /, *, "
    "run: RunOptions | None = None, **named: Any) -> ExecutionResult",
    "Runtime.start": "(self, dag: Executable, parameters: Mapping[str, Any] | None = None, /, *, "
    "run: RunOptions | None = None, **named: Any) -> RunHandle",
    "Runtime.capability_system": "(self) -> CapabilitySystem",
    "Runtime.grant": "(self, agent: str, grants: Sequence[str]) -> Grants",
    "Runtime.revoke": "(self, agent: str) -> bool",
    "Runtime.flow_registry": "(self) -> FlowRegistry",
    "Runtime.capability": "(self, name: str | None = None, **record: Any) -> Callable[[F], F]",
    "Runtime.close": "(self) -> None",
    "RuntimeConfig": "(memory_config: MemoryConfig = ..., scheduler_config: SchedulerConfig = ..., "
    "prompt_config: PromptConfig = ..., state_dir: str | None = None) -> None",
    "RunOptions": "(deadline_s: float | None = None, budget: Limits = ..., grants: Sequence[str] = (), "
    "trust: Sequence[str] = (), run_id: str | None = None, on_failure: FailurePolicy = 'fail_fast', wait: bool = False, "
    "trace: bool = False, "
    "check: bool = False, message_depth: int = 0, metadata: Mapping[str, str] = ..., "
    "machines: Mapping[str, Mapping[str, Any]] = ..., "
    "session: str | None = None) -> None",
    "RunHandle.events": "(self, after: int = 0) -> Iterator[Event]",
    "RunHandle.cancel": "(self, reason: str = 'cancelled by its handle') -> None",
    "RunHandle.result": "(self, timeout_s: float | None = None) -> ExecutionResult",
    "Limits": "(llm_calls: int | None = None, input_tokens: int | None = None, output_tokens: int | None = None, "
    "cost_usd: float | None = None, tool_calls: int | None = None, nodes: int | None = None, splices: int | None = None) -> None",
    "Artifact.from_bytes": "(data: bytes, *, max_bytes: int = 16777216) -> Artifact",
    "Artifact.to_bytes": "(self) -> bytes",
    "Artifact.load": "(path: str | os.PathLike[str], *, max_bytes: int = 16777216) -> Artifact",
    "Artifact.save": "(self, path: str | os.PathLike[str]) -> None",
    "Artifact.into_dag": "(self, flow: str | None = None) -> ExecutionDag",
    "Artifact.flows": "(self) -> Mapping[FlowKey, ExecutionDag]",
    "CapabilitySystem.register": "(self, name: str, record: CapabilityRecord, *, builtin: bool = False) -> CapabilityRecord",
    "CapabilitySystem.list_capability_names": "(self) -> list[str]",
    "CapabilitySystem.describe": "(self, name: str) -> dict[str, Any]",
    "FlowRegistry.register_agent": "(self, agent: Agent) -> None",
    "FlowRegistry.get_flow": "(self, agent: str, flow: str) -> ExecutionDag",
    "compile": "(source: Source, *, level: int = 1, capabilities: Mapping[str, CapabilityFacts] | None = None) -> Artifact",
    "validate": "(authored: Graph | Program) -> list[Problem]",
    "from_json": "(source: str | bytes | Json) -> Graph | Program",
    "to_json": "(authored: Graph | Program, *, indent: int | None = None) -> str",
    "Edge": "(source: Source, target: int, dependency: Dependency = ..., port: str | None = None, "
    "label: str | None = None) -> None",
    "Parameter": "(name: str, type_name: str = 'str') -> None",
    "Node": "(id: int, name: str, op: str, attributes: dict[str, Any] = ..., regions: dict[str, Graph] = ...) -> None",
    "Graph": "(name: str, nodes: list[Node] = ..., edges: list[Edge] = ..., parameters: list[Parameter] = ..., "
    "metadata: dict[str, Any] = ...) -> None",
}


def test_the_public_names_are_these() -> None:
    assert sorted(apxm.__all__) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_can_be_had(name: str) -> None:
    value = getattr(apxm, name)
    assert value is getattr(apxm, name)
    assert name in dir(apxm)


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_public_signature_is_this(name: str) -> None:
    first, _, attribute = name.partition(".")
    found = getattr(apxm, first)
    if attribute:
        found = getattr(found, attribute)
    assert shape(found) == SIGNATURES[name]


def shape(function: Callable[..., object]) -> str:
    """The signature with annotations as they are written, and `...` for defaults that are objects."""
    signature = inspect.signature(function)
    plain = (type(None), bool, int, float, str, tuple)
    parameters = [
        parameter
        if isinstance(parameter.default, plain) or parameter.default is parameter.empty
        else parameter.replace(default=...)
        for parameter in signature.parameters.values()
    ]
    text = str(signature.replace(parameters=parameters)).replace("Ellipsis", "...")
    return re.sub(r"((?:: |-> ))'([^']*)'", r"\1\2", text)


def test_what_type_checkers_see_is_what_is_there() -> None:
    """The imports under TYPE_CHECKING name the same objects that the lazy ones give."""
    tree = ast.parse(Path(apxm.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen: dict[str, str] = {}
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom)
        assert statement.module is not None
        seen |= {alias.name: statement.module for alias in statement.names}
    assert set(seen) == set(apxm.__all__)
    for name, module in seen.items():
        assert getattr(__import__(module, fromlist=[name]), name) is getattr(apxm, name)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Runtme'"):
        apxm.Runtme  # noqa: B018
    assert not hasattr(apxm, "_ROOM")


def test_every_public_class_and_function_says_what_it_is() -> None:
    silent = [name for name in NAMES if not inspect.getdoc(getattr(apxm, name))]
    assert silent == []
