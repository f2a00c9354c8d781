"""Which calls of capabilities can untrusted text reach? Provenance as a run would label it, from the graphs alone. Runs nothing.

What may happen counts: a branch that may be taken, an argument that may be passed, an iteration that may follow, a plan that
may call any flow. Whatever an agent may have stored under a key by then or later is what is read under it. What other programs
left for the same agent, in long-term memory, in a session or on record, is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from apxm.graph.bounds import answering_flow, setting
from apxm.graph.model import Dependency
from apxm.graph.ops import OPERATIONS, Effect
from apxm.graph.template import parse
from apxm.graph.touches import every_node
from apxm.graph.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.graph.model import Graph, Node

FlowKey: TypeAlias = tuple[str, str]  # agent, flow
Labels: TypeAlias = frozenset[str]

NOTHING: Labels = frozenset()
_ENDS = ("RETURN", "YIELD")
_ALL_AGENTS = ""  # owner of what all of them share: no agent has this name
_FROM_LTM: Labels = frozenset(("memory:ltm",))
ANY, BELIEFS, EPISODES = "any key", "beliefs", "episodes"  # places of what an agent keeps; a certain key has `=` before it
_RECORDED = ("INV", "EXC", "COMMUNICATE")  # and whatever asks a model


@dataclass(frozen=True, slots=True)
class Reach:
    """A call that values of some origin can get to: the flow, the node, the capability, the labels."""

    flow: str
    node: str
    capability: str
    labels: tuple[str, ...]


def reached(flows: Mapping[FlowKey, Graph], entry: FlowKey, labels: Mapping[str, str | None]) -> list[Reach]:
    """Every call that a run of `entry` may make with arguments that came from somewhere, in the order of the program.

    `labels` says for each capability what its results are labelled with, as `CapabilityRecord.label`; one that is not there
    counts as `tool:<name>`. A model gives `llm:<name>`, `llm:*` when its node names none; a tool of a model gets what that
    model says. As in a run, every parameter of a flow or region has the labels of all that its node was given.
    """
    tracing = _Tracing(flows, labels)
    tracing.called(entry, frozenset(("user",)) if flows[entry].parameters else NOTHING)
    while tracing.changed:
        tracing.changed = False
        for key in list(tracing.given):
            tracing.flow(key)
    return [
        Reach(".".join(flow), node, capability, tuple(sorted(found)))
        for (flow, node, capability), found in tracing.found.items()
        if found
    ]


class _Tracing:
    """Labels only grow, and there are few: the rounds end when one adds nothing."""

    def __init__(self, flows: Mapping[FlowKey, Graph], labels: Mapping[str, str | None]) -> None:
        self.flows, self.labels = flows, labels
        self.given: dict[FlowKey, Labels] = {}  # what the parameters of a flow were called with
        self.gives: dict[FlowKey, Labels] = {}
        self.inside: dict[int, Labels] = {}  # by id of a graph: all that is in it, and in what it opens
        self.kept: dict[tuple[str, str], Labels] = {}  # what an agent has in memory, by place
        self.found: dict[tuple[FlowKey, str, str], Labels] = {}
        self.changed = False

    def called(self, key: FlowKey, given: Labels) -> None:
        self.given[key] = self._grown(self.given.get(key), given)

    def flow(self, key: FlowKey) -> None:
        self.gives[key] = self._grown(self.gives.get(key), self._graph(self.flows[key], key, self.given[key]))

    def _grown(self, before: Labels | None, more: Labels) -> Labels:
        if before is None or not more <= before:
            self.changed = True
        return more | (before or NOTHING)

    def _graph(self, graph: Graph, key: FlowKey, given: Labels) -> Labels:
        """What a graph gives: the labels of its ends, and of every RETURN and YIELD in it."""
        wiring, ends, around = Wiring(graph), NOTHING, given
        values: dict[int | str, Labels] = {each.name: given for each in graph.parameters}
        feeding = {edge.source for edge in graph.edges if edge.dependency is not Dependency.EFFECT}
        failing = {edge.source for edge in graph.edges if edge.label == "error"}
        exits = set(graph.metadata.get("exits", ()))
        for node in graph.nodes:
            inputs = NOTHING.union(*(values.get(edge.source, NOTHING) for edge in wiring.data(node.id)))
            gates = (one for one in wiring.others(node.id) if one.dependency is Dependency.CONTROL)
            led = inputs.union(*(values.get(edge.source, NOTHING) for edge in gates))
            opened = [*node.regions.values(), *(self.flows[callee] for callee in self._callees(node, key))]
            own, returned = self._node(node, key, inputs, led)
            deep = NOTHING.union(*(self.inside.get(id(each), NOTHING) for each in opened))
            if node.id in failing or "fallback" in node.attributes or node.op == "TRY_CATCH":
                own |= deep  # an error that was made there
            values[node.id] = own | led
            around = around.union(values[node.id], deep)
            if node.op in _RECORDED or OPERATIONS[node.op].effect is Effect.PAID:
                self._keep(key[0], EPISODES, values[node.id])
            ends |= returned
            if node.op in _ENDS or node.name in exits or node.id not in feeding:
                ends |= values[node.id]
        self.inside[id(graph)] = self._grown(self.inside.get(id(graph)), around)
        return ends

    def _node(self, node: Node, key: FlowKey, inputs: Labels, led: Labels) -> tuple[Labels, Labels]:
        """What a node adds to what it was given; and what leaves the graph from inside of it."""
        match node.op:
            case "INV":
                capability = node.attributes["capability"]
                self._reach(key, node, capability, inputs)
                label = self.labels.get(capability, f"tool:{capability}")
                return (frozenset((label,)) if label else NOTHING), NOTHING
            case "QMEM":
                read = self._remembered(node, key[0])
                if "staging_id" in node.attributes:
                    self._keep(key[0], BELIEFS, read | led)
                return read, NOTHING
            case "UMEM":
                shared = setting(node, "scope") in ("run", "session")
                self._keep(_ALL_AGENTS if shared else key[0], _place(node), led)
                if "belief_key" in node.attributes:
                    self._keep(key[0], BELIEFS, led)
                return NOTHING, NOTHING
            case "CLAIM":
                return frozenset(("web" if node.attributes.get("server_url") else "tool:queue",)), NOTHING
            case "COMMUNICATE" if setting(node, "protocol") in ("http", "https"):
                return frozenset(("web",)), NOTHING
            case "FLOW_CALL" | "COMMUNICATE":
                gives = NOTHING
                for callee in self._callees(node, key):
                    self.called(callee, led)
                    gives |= self.gives.get(callee, NOTHING)
                return gives, NOTHING
        if OPERATIONS[node.op].effect is Effect.PAID:
            return self._asked(node, key, inputs, led), NOTHING
        gives = NOTHING
        for name, region in node.regions.items():
            before = (self.inside.get(id(each), NOTHING) for each in node.regions.values())
            apart = node.op == "SWITCH" or (node.op == "MAP" and name == "body")  # knows nothing of the other frames
            gives |= self._graph(region, key, led if apart else led.union(*before))
        return gives, gives

    def _callees(self, node: Node, key: FlowKey) -> list[FlowKey]:
        """The flows of this program that a node calls, or may send its message to; of others nothing is known."""
        if node.op == "FLOW_CALL":
            callee = (node.attributes.get("agent_name", key[0]), node.attributes["flow_name"])
            return [callee] if callee in self.flows else []
        if node.op != "COMMUNICATE" or setting(node, "protocol") in ("http", "https"):
            return []
        known = answering_flow(node, self.flows) if setting(node, "protocol") == "local" else None
        return [known] if known is not None else [one for one in self.flows if one[1] in ("communicate", "main")]

    def _asked(self, node: Node, key: FlowKey, inputs: Labels, led: Labels) -> Labels:
        """A model with what it is shown, and the tools that it may call with whatever it says."""
        found, plans = self._shown(node, key) | {f"llm:{node.attributes.get('model', '*')}"}, _plans(node)
        tools = self._offered(node, key)
        for tool in tools:
            found |= {self.labels.get(tool, f"tool:{tool}") or ""} - {""}
        if plans:
            found |= self._read(key[0], ANY) | self._read(key[0], EPISODES)
            for callee in self.flows:
                self.called(callee, found | led)
                found |= self.gives.get(callee, NOTHING)
        for tool in tools:
            self._reach(key, node, tool, found | inputs)
        if plans:  # and a plan may store for all agents
            self._keep(_ALL_AGENTS, ANY, found | led)
        elif node.op == "REFLECT":  # which is on record under its own name
            self._keep(key[0], f"=reflection:{node.name}", found | led)
        if plans or node.op == "REASON":
            self._keep(key[0], BELIEFS, found | led)
            if setting(node, "durable"):  # under keys that the model thinks of
                self._keep(key[0], ANY, found | led)
        return found

    def _shown(self, node: Node, key: FlowKey) -> Labels:
        """What a model gets to see beside what its node is given."""
        found = NOTHING
        if setting(node, "context") == "aam":
            found |= self._read(key[0], BELIEFS)
        if "context_key" in node.attributes:
            found |= self._remembered(node, key[0])
        if node.op == "REFLECT":  # episodes of all agents
            found = found.union(("memory:episodic",), *self.kept.values())
        return found

    def _keep(self, agent: str, place: str, labels: Labels) -> None:
        self.kept[agent, place] = self._grown(self.kept.get((agent, place)), labels)

    def _remembered(self, node: Node, agent: str) -> Labels:
        """What a node may read from memory: episodes of calls have keys like `model:<name>`."""
        place, tier = _place(node), node.attributes.get("memory_tier", "all" if "context_key" in node.attributes else "*")
        if tier == "all":  # a copy of what it finds in long-term memory is found in short-term memory from then on
            self._keep(agent, place, _FROM_LTM)
        found = self._read(agent, place) | {f"memory:{tier}"}
        if (place == ANY and tier in ("episodic", "all")) or (":" in place and tier != "stm"):
            found |= self._read(agent, EPISODES)
        return found

    def _read(self, agent: str, place: str) -> Labels:
        """What may be in a place; for ANY, what may be anywhere that a key names."""
        places: dict[str, Labels] = {}
        for (owner, where), labels in self.kept.items():
            if owner in (agent, _ALL_AGENTS):
                places[where] = places.get(where, NOTHING) | labels
        apart = {each: places.pop(each, NOTHING) for each in (BELIEFS, EPISODES)}
        if place in apart:
            return apart[place]
        return NOTHING.union(*(labels for where, labels in places.items() if place == ANY or where in (ANY, place)))

    def _offered(self, node: Node, key: FlowKey) -> list[str]:
        """What a model may call: the tools of its node; in a plan of its own those, else what the flow around it names."""
        if node.op in ("PLAN", "REASON"):
            if not _plans(node):
                return []
            if "tools" not in node.attributes:
                inside = every_node(self.flows[key])
                return list(dict.fromkeys(each.attributes["capability"] for each in inside if each.op == "INV"))
        return list(node.attributes.get("tools") or ()) if node.attributes.get("tools_enabled", True) else []

    def _reach(self, key: FlowKey, node: Node, capability: str, labels: Labels) -> None:
        place = key, node.name, capability
        self.found[place] = self._grown(self.found.get(place), labels)


def _plans(node: Node) -> bool:
    """Whether a model may write a plan there, which then runs."""
    plans = node.op in ("PLAN", "REASON")
    return plans and bool(node.attributes.get("enable_inner_plan", setting(node, "inner_plan_supported")))


def _place(node: Node) -> str:
    """Where a node reads or writes: the key, when it is a constant, else ANY."""
    text = node.attributes.get("key", node.attributes.get("context_key"))
    if text is None or (key := parse(text)).placeholders:
        return ANY
    return f"={key.render(str)}"
