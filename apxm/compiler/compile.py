"""compile: a graph or program, checked and lowered, becomes an Artifact. The same source gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from apxm.artifact.format import Artifact, CapabilityFacts, FlowKey
from apxm.artifact.manifest import capabilities_of
from apxm.collector import collector_paused
from apxm.compiler.emit import emit
from apxm.compiler.lower import lower, put_agent_first
from apxm.compiler.passes import optimise
from apxm.compiler.report import PassLog, Report
from apxm.errors import CompileError
from apxm.graph.contract import from_json
from apxm.graph.model import AgentGraph, Graph, Program
from apxm.graph.validate import require_valid

if TYPE_CHECKING:
    from apxm.dag import ExecutionDag

Source: TypeAlias = Graph | Program | str | bytes | Mapping[str, Any]
DEFAULT_AGENT = "default"
LEVELS = (0, 1)


def compile(source: Source, *, level: int = 1, capabilities: Mapping[str, CapabilityFacts] | None = None) -> Artifact:
    """Compile a graph, a program, or the JSON of one (text or map; not a path).

    Level 0 only lowers, level 1 also runs the passes that are always safe. `capabilities` is what is known about the
    capabilities that INV nodes name: without it, none of them is taken for pure. Raises GraphError with every broken
    rule, CompileError for what cannot be lowered.
    """
    return compile_report(source, level=level, capabilities=capabilities)[0]


def compile_report(
    source: Source, *, level: int = 1, capabilities: Mapping[str, CapabilityFacts] | None = None
) -> tuple[Artifact, Report]:
    """What `compile` gives, and what every pass did and declined."""
    if level not in LEVELS:
        raise CompileError(f"level {level!r}; expected 0 (lower only) or 1 (what is always safe)")
    with collector_paused():
        return _compiled(*_program(source), level, capabilities or {})


def _compiled(program: Program, name: str, level: int, facts: Mapping[str, CapabilityFacts]) -> tuple[Artifact, Report]:
    logs: dict[str, PassLog] = {}
    flows: dict[FlowKey, ExecutionDag] = {}
    before = after = 0
    entries = {agent.name: _entry_of(agent) for agent in program.agents}
    for agent in program.agents:
        for graph in agent.flows:
            draft = lower(graph)
            before += sum(len(inner.steps) for inner in draft.walk())
            if level:
                optimise(draft, facts, logs)
            put_agent_first(draft)
            after += sum(len(inner.steps) for inner in draft.walk())
            draft.metadata["is_entry"] = graph is entries[agent.name]
            flows[agent.name, graph.name] = emit(draft, agent.name)
    artifact = Artifact(
        name,
        flows,
        entry=_program_entry(program, entries),
        level=level,
        compiler=_version(),
        manifest={key: {one: facts.get(one, CapabilityFacts()) for one in capabilities_of(dag)} for key, dag in flows.items()},
        agents={agent.name: agent.metadata for agent in program.agents},
    )
    return artifact, Report(name, level, tuple(logs.values()), before, after)


def _program(source: Source) -> tuple[Program, str]:
    """The valid program in canonical form, and its name."""
    authored = source if isinstance(source, (Graph, Program)) else from_json(source)
    if isinstance(authored, Graph):
        graph = require_valid(authored)
        return Program([AgentGraph(DEFAULT_AGENT, [graph])], graph.name), graph.name
    program = require_valid(authored)
    return program, program.name or program.agents[0].name


def _entry_of(agent: AgentGraph) -> Graph | None:
    """The flow of an agent that says it is the entry, else the first that does not say otherwise."""
    marked = [flow for flow in agent.flows if flow.metadata.get("is_entry") is True]
    silent = [flow for flow in agent.flows if "is_entry" not in flow.metadata]
    return next(iter([*marked, *silent]), None)


def _program_entry(program: Program, entries: Mapping[str, Graph | None]) -> FlowKey:
    """Of the agents' entries the first that says so itself, else the first."""
    found = [(agent.name, entry) for agent in program.agents if (entry := entries[agent.name]) is not None]
    marked = [(name, entry) for name, entry in found if entry.metadata.get("is_entry") is True]
    for name, entry in [*marked, *found]:
        return name, entry.name
    raise CompileError(f"`{program.name}` has no entry flow: `is_entry` is false everywhere", hint="set it for the flow to run")


def _version() -> str:
    from apxm import __version__

    return __version__
