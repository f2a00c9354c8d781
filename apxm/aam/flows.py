"""Which agents there are, and the flow behind (agent, flow). Thread-safe; it never runs anything."""

from __future__ import annotations

from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING

from apxm.aam.agent import Agent, nearest
from apxm.errors import BindError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.dag import ExecutionDag

AGENTS_MAX = 10_000  # far beyond any program; an agent registered per request is a leak, and this names it


class Flows:
    """Agents as they were at one moment: what a run is bound with, and keeps whatever is registered meanwhile."""

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        self._agents = agents

    def find_agent(self, name: str) -> Agent | None:
        """The agent of that name, if there is one."""
        return self._agents.get(name)

    def get_agent(self, name: str) -> Agent:
        """The agent of that name; BindError names the nearest one."""
        agent = self._agents.get(name)
        if agent is None:
            raise BindError(f"no agent `{name}` is registered", hint=nearest(name, self._agents))
        return agent

    def get_flow(self, agent: str, flow: str) -> ExecutionDag:
        """The dag of (agent, flow); BindError names the nearest agent or flow."""
        return self.get_agent(agent).flow(flow).dag

    def has_flow(self, agent: str, flow: str) -> bool:
        found = self._agents.get(agent)
        return found is not None and flow in found.flows

    def list_agents(self) -> list[str]:
        return sorted(self._agents)

    def list_flows(self, agent: str | None = None) -> list[tuple[str, str]]:
        """Every (agent, flow), sorted; those of one agent when it is named."""
        agents = self._agents.values() if agent is None else (self.get_agent(agent),)
        return sorted((one.name, flow) for one in agents for flow in one.flows)


class FlowRegistry(Flows):
    """The agents of one runtime.

    Readers take no lock: a change replaces the whole map. `generation` grows with every change; `snapshot` gives the
    agents as they are now.
    """

    def __init__(self) -> None:
        super().__init__(MappingProxyType({}))
        self._lock = Lock()
        self._now = Flows(self._agents)
        self.generation = 0

    def snapshot(self) -> Flows:
        """The agents as they are now; the same object until something changes."""
        return self._now

    def register_agent(self, agent: Agent) -> None:
        """Add an agent with all its flows. An agent of the same name is replaced, and its flows go with it."""
        with self._lock:
            if agent.name not in self._agents and len(self._agents) >= AGENTS_MAX:
                raise BindError(
                    f"agent `{agent.name}` is one more than the {AGENTS_MAX} agents that a runtime holds",
                    hint="register agents once, not per run, or remove those no longer needed",
                )
            self._become({**self._agents, agent.name: agent})

    def remove_agent(self, name: str) -> bool:
        """Forget an agent; False when there was none of that name."""
        with self._lock:
            if name not in self._agents:
                return False
            self._become({key: agent for key, agent in self._agents.items() if key != name})
            return True

    def _become(self, agents: Mapping[str, Agent]) -> None:
        self._agents = MappingProxyType(agents)
        self._now = Flows(self._agents)
        self.generation += 1
