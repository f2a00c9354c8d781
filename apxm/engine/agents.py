"""What binding knows of agents: what their programs declare, and what they may use. Resolved once for each binding."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apxm.aam.declaration import Declaration
from apxm.capability.grants import Grants
from apxm.graph.ops import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from apxm.aam.flows import Flows
    from apxm.dag import ExecutionDag, Siblings

_AGENT = OPERATIONS["AGENT"].code
NO_GRANTS = Grants()


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for the nodes of one agent. `said` is its metadata; `memories` have those of its AGENT nodes too."""

    said: Declaration = field(default_factory=Declaration)
    grants: Grants = NO_GRANTS
    memories: Mapping[str, str] = field(default_factory=dict)


class Agents:
    """The terms of every agent that a binding reaches.

    An agent may use what the run or its own grants allow, and of that only what its program declares: the metadata of
    the agent, and the AGENT nodes of all its flows together; what a plan of a model declares counts for nothing.
    """

    def __init__(self, flows: Flows, run: Grants, granted: Mapping[str, Grants]) -> None:
        self.flows = flows
        self._run, self._granted = run, granted
        self._terms: dict[tuple[str, int], Terms] = {}  # by agent and program
        self._by_name: dict[str, Terms] = {}
        self._programs: dict[int, Siblings] = {}
        self._values: list[tuple[str, Mapping[str, Any]]] | None = None

    def planned(self, grants: Grants) -> Agents:
        """What a plan of a model is bound with: grants of the node that it is spliced at, and no others.

        That goes for the flows it calls too, and for what their models plan: their agents bring no grants of their own.
        """
        return Agents(self.flows, grants, {})

    def terms(self, dag: ExecutionDag) -> Terms:
        """What holds for the nodes of a flow. BindError when its agent declares what makes no sense."""
        key = (dag.agent, id(dag.siblings))
        found = self._terms.get(key)
        if found is None:
            found = self._terms[key] = self._made(dag)
            self._by_name.setdefault(dag.agent, found)
            self._programs.setdefault(id(dag.siblings), dag.siblings)
        return found

    def named(self, agent: str) -> Terms:
        """The terms of an agent by its name alone: of the first of its flows that was bound, else as it is registered."""
        found = self._by_name.get(agent)
        if found is None:
            registered = self.flows.find_agent(agent)
            said = Declaration() if registered is None else registered.declaration()
            found = self._by_name[agent] = self._of(agent, said, [said])
        return found

    def seen(self) -> list[str]:
        """The agents whose flows were bound."""
        return list(self._by_name)

    def values(self) -> list[tuple[str, Mapping[str, Any]]]:
        """What is in the memory of agents at the start: of all that a run may reach, as a message finds them only then."""
        if self._values is None:
            found = {name: terms.said.values for name, terms in self._by_name.items()}
            for program in list(self._programs.values()):
                for name, metadata in program.agents.items():
                    found.setdefault(name, Declaration.parse(metadata, f"agent `{name}`").values)
            for name in self.flows.list_agents():
                found.setdefault(name, self.flows.get_agent(name).declaration().values)
            self._values = [(name, values) for name, values in found.items() if values]
        return self._values

    def _made(self, dag: ExecutionDag) -> Terms:
        metadata, flows = self._program(dag)
        said = Declaration.parse(metadata, f"agent `{dag.agent}`")
        nodes = [Declaration.parse(given, f"AGENT of flow `{flow.name}`") for flow in flows for given in _agent_nodes(flow)]
        return self._of(dag.agent, said, [said, *nodes])

    def _program(self, dag: ExecutionDag) -> tuple[Mapping[str, Any], list[ExecutionDag]]:
        """The metadata and the flows of the agent of a flow: as registered, if its program was, else as the program has them."""
        registered = self.flows.find_agent(dag.agent)
        if registered is not None and any(flow.dag.siblings is dag.siblings for flow in registered.flows.values()):
            return registered.metadata, [flow.dag for flow in registered.flows.values()]
        flows = [flow for (agent, _), flow in dag.siblings.items() if agent == dag.agent]
        return dag.siblings.agents.get(dag.agent, {}), flows or ([] if dag.planned else [dag])

    def _of(self, agent: str, said: Declaration, declared: list[Declaration]) -> Terms:
        grants = self._run
        if agent in self._granted:
            grants = grants.joined(self._granted[agent])
        by_nodes = [one.capabilities for one in declared[1:] if one.capabilities is not None]
        if by_nodes:
            grants = grants.within(frozenset[str]().union(*by_nodes))
        if said.capabilities is not None:
            grants = grants.within(said.capabilities)
        return Terms(said, grants, {key: tier for one in reversed(declared) for key, tier in one.memories.items()})


def _agent_nodes(flow: ExecutionDag) -> Iterator[Mapping[str, Any]]:
    """The attributes of the AGENT nodes of a flow."""
    for slot, op in enumerate(flow.ops) if _AGENT in flow.ops else ():
        if op == _AGENT:
            yield flow.attributes.get(slot, {})
