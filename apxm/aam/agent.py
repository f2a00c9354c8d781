"""One agent of a program: its name and its flows, ready to run. What it believes and wants comes with the machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from apxm.aam.declaration import Declaration
from apxm.errors import BindError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from apxm.artifact.format import Artifact
    from apxm.dag import ExecutionDag
    from apxm.graph.model import Parameter


@dataclass(frozen=True, slots=True)
class AgentFlow:
    """One flow of an agent. `is_entry` marks the flow that runs when the agent is started without naming one."""

    name: str
    dag: ExecutionDag
    is_entry: bool = False

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return self.dag.parameters


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent: flows by name, and what its program says about it.

    Of `metadata`, what a Declaration has counts: memories, beliefs, goals, capabilities, tools, context.
    """

    name: str
    flows: Mapping[str, AgentFlow]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name:
            raise BindError("an agent has no name; expected a non-empty text")
        wrong = [key for key, flow in self.flows.items() if key != flow.name]
        if wrong:
            raise BindError(
                f"agent `{self.name}` files flow `{self.flows[wrong[0]].name}` under `{wrong[0]}`; use the flow's name"
            )
        self.declaration()  # raises what is wrong with the metadata

    def declaration(self) -> Declaration:
        """What the metadata declares."""
        return Declaration.parse(self.metadata, f"agent `{self.name}`")

    @classmethod
    def from_artifact(cls, artifact: Artifact, name: str | None = None) -> Agent:
        """The agent of that name in an artifact; without a name, the one whose flow is the artifact's entry."""
        name, first = artifact.entry[0] if name is None else name, artifact.entry
        flows = {
            flow: AgentFlow(flow, dag, flow == first[1] if name == first[0] else dag.metadata.get("is_entry") is True)
            for (agent, flow), dag in artifact.flows().items()
            if agent == name
        }
        if not flows:
            raise BindError(
                f"artifact `{artifact.name}` has no agent `{name}`", hint=nearest(name, (key[0] for key in artifact.flows()))
            )
        return cls(name, flows, dict(artifact.agents.get(name, {})))

    @classmethod
    def all_from_artifact(cls, artifact: Artifact) -> list[Agent]:
        """Every agent of an artifact, sorted by name."""
        return [cls.from_artifact(artifact, name) for name in sorted({agent for agent, _ in artifact.flows()})]

    def entry_flow(self) -> AgentFlow:
        """The flow to start with: the entry, or the only flow there is."""
        entries = [flow for flow in self.flows.values() if flow.is_entry] or list(self.flows.values())
        if len(entries) == 1:
            return entries[0]
        names = ", ".join(f"`{flow.name}`" for flow in entries) or "none"
        raise BindError(f"agent `{self.name}` has no single entry flow (candidates: {names}); name the flow to run")

    def flow(self, name: str) -> AgentFlow:
        """The flow of that name; BindError names the nearest one."""
        found = self.flows.get(name)
        if found is None:
            raise BindError(f"agent `{self.name}` has no flow `{name}`", hint=nearest(name, self.flows))
        return found


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint for a name that was not found: the closest one there is, else all there are, up to ten."""
    known = sorted(set(names))
    close = get_close_matches(name, known, n=1)
    if close:
        return f"close: `{close[0]}`"
    if not known:
        return "none are registered"
    return "there are: " + ", ".join(f"`{one}`" for one in known[:10]) + (", …" if len(known) > 10 else "")
