"""dag -> Binding: plans it, binds every node and its regions, once per set of grants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.dag import DATA
from apxm.engine.checking import checked
from apxm.errors import BindError
from apxm.executor.bind import Input, NodeSpec, Services
from apxm.executor.dispatch import binder_of
from apxm.graph.ops import BY_CODE, Latency
from apxm.scheduler.binding import ASYNC, CALL, CHEAP, EFFECTS, OPENING, PURE, SHORT, SYNC, WAITING, Binding, Handlers
from apxm.scheduler.plan import ExecutionPlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.aam.flows import FlowRegistry
    from apxm.capability.system import CapabilitySystem, Grants
    from apxm.dag import ExecutionDag
    from apxm.executor.bind import Body, Bound
    from apxm.graph.ops import Operation
    from apxm.llm.registry import ModelRegistry

_NONE: Mapping[str, Any] = {}  # one object, so that nodes without attributes can share a handler


class Binder:
    """Binds one dag and everything it calls; flows that call each other are bound once, recursion included."""

    def __init__(
        self,
        capabilities: CapabilitySystem,
        models: ModelRegistry,
        flows: FlowRegistry,
        grants: Grants,
        window: int,
        check: bool = False,
    ) -> None:
        self._check = check
        self._shared = (capabilities, models, flows, grants, window)
        self._flows: dict[ExecutionDag, Binding] = {}

    def bind(self, dag: ExecutionDag, region: bool = False) -> Binding:
        """Raises BindError for what this runtime does not have, DeniedError for what was not granted."""
        if not region and dag in self._flows:
            return self._flows[dag]
        binding = Binding(ExecutionPlan(dag, region))
        if not region:
            self._flows[dag] = binding
        capabilities, models, flows, grants, window = self._shared

        def call(agent: str, flow: str) -> Body:
            callee = dag.siblings.get((agent, flow))
            return self.bind(callee if callee is not None else flows.get_flow(agent, flow))

        services = Services(capabilities, models, flows, grants, call, window)
        self._fill(binding, dag, services)
        return binding

    def _fill(self, binding: Binding, dag: ExecutionDag, services: Services) -> None:
        handlers = Handlers(len(dag))
        fallbacks: dict[int, Any] = {}
        retries: dict[int, int] = {}
        plain: dict[tuple[int, int, int], Bound] = {}  # nodes that differ in nothing a binder sees share a handler
        labels: dict[int, set[str]] = {}
        for edge, label in dag.labels.items():
            labels.setdefault(dag.in_sources[edge], set()).add(label)
        for slot in range(len(dag.parameters), len(dag)):
            operation = BY_CODE[dag.ops[slot]]
            assert operation is not None
            attributes = dag.attributes.get(slot, _NONE)
            data = dag.in_kinds.count(DATA, dag.in_offsets[slot], dag.in_offsets[slot + 1])
            key = (dag.ops[slot], id(attributes), data)
            shared = slot not in dag.regions and slot not in labels and not dag.ports
            bound = plain.get(key) if shared else None
            if bound is None:
                bound = self._bind_node(dag, slot, operation, attributes, frozenset(labels.get(slot, ())), services)
                if shared and bound.anonymous:
                    plain[key] = bound
            self._take(handlers, slot, operation, bound, attributes, dag)
            if "fallback" in attributes:
                fallbacks[slot] = attributes["fallback"]
            if "retries" in attributes:
                retries[slot] = attributes["retries"]
        binding.complete(handlers, fallbacks, retries)

    def _bind_node(
        self,
        dag: ExecutionDag,
        slot: int,
        operation: Operation,
        attributes: Mapping[str, Any],
        labels: frozenset[str],
        services: Services,
    ) -> Bound:
        first = len(dag.parameters)
        spec = NodeSpec(
            op=operation,
            id=dag.ids[slot],
            name=dag.names[slot],
            flow=dag.name,
            agent=dag.agent,
            attributes=attributes,
            inputs=tuple(
                Input(edge.port, dag.names[edge.source], dag.ids[edge.source] if edge.source >= first else None)
                for edge in dag.in_edges(slot)
                if edge.kind == DATA
            ),
            regions={name: self._region(region, dag) for name, region in dag.regions.get(slot, {}).items()},
            labels=labels,
        )
        return binder_of(spec)(spec, services)

    def _region(self, region: ExecutionDag, owner: ExecutionDag) -> Binding:
        region.siblings = owner.siblings
        return self.bind(region, region=True)

    def _take(
        self,
        handlers: Handlers,
        slot: int,
        operation: Operation,
        bound: Bound,
        attributes: Mapping[str, Any],
        dag: ExecutionDag,
    ) -> None:
        kind = int(bound.kind)
        wrap = self._check and kind != CALL
        handlers.run[slot] = checked(bound.fn, kind, dag.names[slot]) if wrap else bound.fn
        handlers.kinds[slot] = kind
        handlers.effects[slot] = EFFECTS.index(bound.effect)
        handlers.owns[slot] = bound.owns
        if bound.label is not None:
            handlers.labels[slot] = bound.label
        if kind == CALL:
            assert bound.body is not None
            step = f"{attributes.get('agent_name', dag.agent)}.{attributes['flow_name']}"
            handlers.calls[slot] = (bound.body, step)
        if kind == CALL or slot in dag.regions or operation.name == "FLOW_CALL":
            handlers.scopes.add(slot)
            handlers.lanes[slot] = OPENING
        elif kind == ASYNC:
            handlers.lanes[slot] = WAITING if operation.latency in (Latency.MEDIUM, Latency.HIGH) else SHORT
        else:
            handlers.lanes[slot] = CHEAP
        own = any(declared.name == "timeout_ms" for declared in operation.attributes)
        opens = slot in dag.regions or operation.name == "FLOW_CALL"
        if "timeout_ms" in attributes and (kind in (PURE, CALL) or (kind == SYNC and not opens and not own)):
            text = f"node `{dag.names[slot]}` ({operation.name}) has a timeout, but it cannot wait"
            raise BindError(text, hint="give the timeout to a node that can wait, or a deadline to the run")
        timeout_ms = bound.timeout_ms
        if timeout_ms is None and not own:  # a row that declares its own leaves the time to its handler
            timeout_ms = attributes.get("timeout_ms")
        if timeout_ms is not None:
            handlers.timeouts[slot] = timeout_ms / 1e3
