"""Which calls of capabilities can untrusted text reach? Provenance as a run would label it, from the graphs alone. Runs nothing.

What may happen counts: a branch that may be taken, an argument that may be passed, an iteration that may follow. What a
program puts into memory and takes out again has the label of the memory: see the label policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from apxm.graph.model import Dependency
from apxm.graph.ops import OPERATIONS, Effect
from apxm.graph.region import bind
from apxm.graph.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from apxm.graph.model import Edge, Graph, Node

FlowKey: TypeAlias = tuple[str, str]  # agent, flow
Labels: TypeAlias = frozenset[str]

NOTHING: Labels = frozenset()
_ENDS = ("RETURN", "YIELD")


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
    model says.
    """
    tracing = _Tracing(flows, labels)
    tracing.called(entry, {name: frozenset(("user",)) for name in (each.name for each in flows[entry].parameters)})
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
        self.given: dict[FlowKey, dict[str, Labels]] = {}  # what the parameters of a flow were called with
        self.gives: dict[FlowKey, Labels] = {}
        self.inside: dict[int, Labels] = {}  # by id of a region's graph: what its nodes gave, as a next iteration may see it
        self.found: dict[tuple[FlowKey, str, str], Labels] = {}
        self.changed = False

    def called(self, key: FlowKey, given: Mapping[str, Labels]) -> None:
        known = self.given.setdefault(key, {})
        for name in given:
            known[name] = self._grown(known.get(name), given[name])

    def flow(self, key: FlowKey) -> None:
        self.gives[key] = self._grown(self.gives.get(key), self._graph(self.flows[key], key, self.given[key]))

    def _grown(self, before: Labels | None, more: Labels) -> Labels:
        if before is None or not more <= before:
            self.changed = True
        return more | (before or NOTHING)

    def _graph(self, graph: Graph, key: FlowKey, given: Mapping[str, Labels]) -> Labels:
        """What a graph gives: the labels of its ends, and of every RETURN and YIELD in it."""
        wiring = Wiring(graph)
        values: dict[Any, Labels] = dict(given)
        ends: Labels = NOTHING
        feeding = {edge.source for edge in graph.edges if edge.dependency is not Dependency.EFFECT}
        exits = set(graph.metadata.get("exits", ()))
        for node in graph.nodes:
            inputs = [values.get(edge.source, NOTHING) for edge in wiring.data(node.id)]
            gates = [values.get(edge.source, NOTHING) for edge in wiring.others(node.id) if edge.dependency is Dependency.CONTROL]
            own, returned = self._node(node, key, inputs, wiring.data(node.id))
            values[node.id] = own.union(*inputs, *gates)
            ends |= returned
            if node.op in _ENDS or node.name in exits or node.id not in feeding:
                ends |= values[node.id]
        self.inside[id(graph)] = self._grown(self.inside.get(id(graph)), NOTHING.union(*values.values()))
        return ends

    def _node(self, node: Node, key: FlowKey, inputs: list[Labels], edges: Sequence[Edge]) -> tuple[Labels, Labels]:
        """What a node adds to what it was given; and what leaves the graph from inside of it."""
        if node.op == "INV":
            capability = node.attributes["capability"]
            self._reach(key, node, capability, NOTHING.union(*inputs))
            label = self.labels.get(capability, f"tool:{capability}")
            return (frozenset((label,)) if label else NOTHING), NOTHING
        if node.op == "FLOW_CALL":
            return self._call(node, key, inputs, edges), NOTHING
        if OPERATIONS[node.op].effect is Effect.PAID:
            return self._asked(node, key, inputs), NOTHING
        gives = NOTHING
        for name, region in node.regions.items():
            gives |= self._graph(region, key, self._parameters(node, name, region, inputs, edges))
        return gives, gives if node.regions else NOTHING

    def _parameters(self, node: Node, name: str, region: Graph, inputs: list[Labels], edges: Sequence[Edge]) -> dict[str, Labels]:
        """What the parameters of a region may hold: an input, or what the node makes of all of them and of its other frames."""
        names = [each.name for each in region.parameters]
        sources = bind(node.op, name, names, [edge.port for edge in edges]).sources
        around = NOTHING.union(*inputs, *(self.inside.get(id(each), NOTHING) for each in node.regions.values()))
        alone = node.op not in ("LOOP", "TRY_CATCH")  # a later iteration, or a catch, sees what was made before
        return {each: inputs[sources[each]] if each in sources and alone else around for each in names}

    def _call(self, node: Node, key: FlowKey, inputs: list[Labels], edges: Sequence[Edge]) -> Labels:
        callee = (node.attributes.get("agent_name", key[0]), node.attributes["flow_name"])
        graph = self.flows.get(callee)
        if graph is None:  # of another artifact: unknown
            return NOTHING
        names = [each.name for each in graph.parameters]
        sources = bind(node.op, "", names, [edge.port for edge in edges]).sources
        everything = NOTHING.union(*inputs)
        self.called(callee, {name: inputs[sources[name]] if name in sources else everything for name in names})
        return self.gives.get(callee, NOTHING)

    def _asked(self, node: Node, key: FlowKey, inputs: list[Labels]) -> Labels:
        """A model, and the tools that it may call with whatever it says."""
        found = frozenset((f"llm:{node.attributes.get('model', '*')}",))
        tools = node.attributes.get("tools") or ()
        if node.attributes.get("tools_enabled", True):
            for tool in tools:
                found |= {self.labels.get(tool, f"tool:{tool}") or ""} - {""}
            for tool in tools:
                self._reach(key, node, tool, found.union(*inputs))
        return found

    def _reach(self, key: FlowKey, node: Node, capability: str, labels: Labels) -> None:
        place = key, node.name, capability
        self.found[place] = self._grown(self.found.get(place), labels)
