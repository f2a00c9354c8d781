"""apxm: agent programs as graphs, compiled to artifacts, run by a work-stealing dataflow scheduler.

Everything a user needs is a name of this package; each is imported from its room when it is first asked for, so that
`import apxm` stays a matter of milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apxm.aam.agent import Agent, AgentFlow
    from apxm.aam.beliefs import Belief
    from apxm.aam.flows import FlowRegistry
    from apxm.aam.goals import Goal
    from apxm.aam.machine import Machine, Transition
    from apxm.artifact.format import Artifact
    from apxm.budget import Limits
    from apxm.capability.grants import Grants
    from apxm.capability.policy import Allow, Deny, Edit
    from apxm.capability.record import CapabilityRecord
    from apxm.capability.system import CapabilitySystem
    from apxm.compiler.compile import compile
    from apxm.config import MemoryConfig, PromptConfig, RunOptions, RuntimeConfig, SchedulerConfig
    from apxm.dag import ExecutionDag
    from apxm.engine.handle import RunHandle
    from apxm.engine.result import ExecutionResult, ExecutionStats
    from apxm.errors import (
        ApxmError,
        ArtifactError,
        BindError,
        BudgetError,
        CapabilityError,
        CompileError,
        ConfigError,
        DeadlineError,
        DeniedError,
        FailureClass,
        GraphError,
        HandlerError,
        InternalError,
        InvalidError,
        ModelError,
        ParameterError,
        Problem,
        RaisedError,
        RunCancelled,
        StuckError,
        TransientError,
        UnknownEffectError,
        ValueRefused,
    )
    from apxm.graph.builder import Ref
    from apxm.graph.contract import from_json, to_json
    from apxm.graph.flow import flow, step
    from apxm.graph.graphx import from_networkx, to_networkx
    from apxm.graph.model import AgentGraph, Dependency, Edge, Graph, Node, Parameter, Program
    from apxm.graph.validate import validate
    from apxm.llm.base import LanguageModel, Message, Prompt, Reply, ToolCall, Usage
    from apxm.llm.extractive import ExtractiveModel
    from apxm.llm.registry import ModelRegistry
    from apxm.llm.scripted import ScriptedModel
    from apxm.memory.system import MemorySystem
    from apxm.runtime import Runtime

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "AgentFlow",
    "AgentGraph",
    "Allow",
    "ApxmError",
    "Artifact",
    "ArtifactError",
    "Belief",
    "BindError",
    "BudgetError",
    "CapabilityError",
    "CapabilityRecord",
    "CapabilitySystem",
    "CompileError",
    "ConfigError",
    "DeadlineError",
    "DeniedError",
    "Deny",
    "Dependency",
    "Edge",
    "Edit",
    "ExecutionDag",
    "ExecutionResult",
    "ExecutionStats",
    "ExtractiveModel",
    "FailureClass",
    "FlowRegistry",
    "Goal",
    "Grants",
    "Graph",
    "GraphError",
    "HandlerError",
    "InternalError",
    "InvalidError",
    "LanguageModel",
    "Limits",
    "Machine",
    "MemoryConfig",
    "MemorySystem",
    "Message",
    "ModelError",
    "ModelRegistry",
    "Node",
    "Parameter",
    "ParameterError",
    "Problem",
    "Program",
    "Prompt",
    "PromptConfig",
    "RaisedError",
    "Ref",
    "Reply",
    "RunCancelled",
    "RunHandle",
    "RunOptions",
    "Runtime",
    "RuntimeConfig",
    "SchedulerConfig",
    "ScriptedModel",
    "StuckError",
    "ToolCall",
    "TransientError",
    "Transition",
    "UnknownEffectError",
    "Usage",
    "ValueRefused",
    "compile",
    "flow",
    "from_json",
    "from_networkx",
    "step",
    "to_json",
    "to_networkx",
    "validate",
]

_ROOMS = {
    "apxm.aam.agent": ("Agent", "AgentFlow"),
    "apxm.aam.beliefs": ("Belief",),
    "apxm.aam.flows": ("FlowRegistry",),
    "apxm.aam.goals": ("Goal",),
    "apxm.aam.machine": ("Machine", "Transition"),
    "apxm.artifact.format": ("Artifact",),
    "apxm.budget": ("Limits",),
    "apxm.capability.grants": ("Grants",),
    "apxm.capability.policy": ("Allow", "Deny", "Edit"),
    "apxm.capability.record": ("CapabilityRecord",),
    "apxm.capability.system": ("CapabilitySystem",),
    "apxm.compiler.compile": ("compile",),
    "apxm.config": ("MemoryConfig", "PromptConfig", "RunOptions", "RuntimeConfig", "SchedulerConfig"),
    "apxm.dag": ("ExecutionDag",),
    "apxm.engine.handle": ("RunHandle",),
    "apxm.engine.result": ("ExecutionResult", "ExecutionStats"),
    "apxm.graph.builder": ("Ref",),
    "apxm.graph.contract": ("from_json", "to_json"),
    "apxm.graph.flow": ("flow", "step"),
    "apxm.graph.graphx": ("from_networkx", "to_networkx"),
    "apxm.graph.model": ("AgentGraph", "Dependency", "Edge", "Graph", "Node", "Parameter", "Program"),
    "apxm.graph.validate": ("validate",),
    "apxm.llm.base": ("LanguageModel", "Message", "Prompt", "Reply", "ToolCall", "Usage"),
    "apxm.llm.extractive": ("ExtractiveModel",),
    "apxm.llm.registry": ("ModelRegistry",),
    "apxm.llm.scripted": ("ScriptedModel",),
    "apxm.memory.system": ("MemorySystem",),
    "apxm.runtime": ("Runtime",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'apxm' has no attribute {name!r}")
    value = getattr(importlib.import_module(_ROOM_OF.get(name, "apxm.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
