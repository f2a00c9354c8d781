"""dag -> Binding: plans it, binds every node and its regions, once per set of grants."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from functools import partial
from itertools import count, pairwise
from operator import sub
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from apxm.aam.agent import nearest
from apxm.coordination.mailbox import Recipients
from apxm.dag import DATA
from apxm.engine.checking import checked
from apxm.errors import ApxmError, BindError
from apxm.executor.bind import Input, NodeSpec, Services
from apxm.executor.dispatch import binder_of
from apxm.graph.ops import BY_CODE, OPERATIONS, Latency
from apxm.scheduler.binding import ASYNC, CALL, CHEAP, EFFECTS, OPENING, PURE, SHORT, SYNC, WAITING, Binding, Handlers, never
from apxm.scheduler.plan import ExecutionPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from apxm.capability.system import CapabilitySystem
    from apxm.coordination.system import CoordinationSystem
    from apxm.dag import ExecutionDag
    from apxm.engine.agents import Agents
    from apxm.executor.bind import Body, Bound
    from apxm.graph.ops import Operation
    from apxm.llm.registry import ModelRegistry

_FLOW_CALL, _COMMUNICATE = OPERATIONS["FLOW_CALL"].code, OPERATIONS["COMMUNICATE"].code
_NONE: Mapping[str, Any] = {}  # one object, so that nodes without attributes can share a handler


class Binder:
    """Binds one dag and everything it calls; flows that call each other are bound once, recursion included."""

    def __init__(
        self,
        capabilities: CapabilitySystem,
        models: ModelRegistry,
        agents: Agents,
        window: int,
        check: bool = False,
        explicit: bool = False,
        coordination: CoordinationSystem | None = None,
        waits: bool = False,
        episodes_wait: bool = False,
    ) -> None:
        self._episodes_wait = episodes_wait
        self._check, self._explicit = check, explicit
        self._coordination, self._waits = coordination, waits
        self.agents = agents
        self._shared = (capabilities, models, window)
        self._adopted: dict[tuple[str, ExecutionDag], ExecutionDag] = {}
        self._flows: dict[ExecutionDag, Binding] = {}
        self._filled: set[ExecutionDag] = set()
        self._lock = Lock()  # of what runs add

    def bind(self, dag: ExecutionDag) -> Binding:
        """Raises BindError for what this runtime does not have, DeniedError for what was not granted."""
        self.agents.terms(dag)  # before those of its callees: an agent of that name is the one of this program
        # Callees first, and no call within a call: a program may have as long a chain of flows as it likes.
        waiting = [dag]
        while waiting:
            one = waiting[-1]
            if one not in self._flows:
                self._flows[one] = Binding(ExecutionPlan(one))
                waiting += (callee for callee in self._callees(one) if callee not in self._flows)
            else:
                waiting.pop()
                if one not in self._filled:
                    self._filled.add(one)
                    self._fill(self._flows[one], one)
        return self._flows[dag]

    def _callees(self, dag: ExecutionDag) -> Iterator[ExecutionDag]:
        """The flows that a dag and its regions call. One that is not there is left to the binding of the call."""
        stack = [dag]
        while stack:
            one = stack.pop()
            calling = _FLOW_CALL in one.ops or _COMMUNICATE in one.ops
            for op, place in set(zip(one.ops, one.attributes.places)) if calling else ():
                if op in (_FLOW_CALL, _COMMUNICATE) and place:
                    attributes = one.attributes.table[place - 1]
                    with suppress(ApxmError):
                        yield self._called(dag, one, attributes) if op == _FLOW_CALL else self._addressed(dag, attributes)
            for regions in one.regions.values():
                stack += regions.values()

    def _called(self, dag: ExecutionDag, region: ExecutionDag, attributes: Mapping[str, Any]) -> ExecutionDag:
        return self._callee(dag, attributes.get("agent_name", region.agent), attributes["flow_name"])

    def _addressed(self, dag: ExecutionDag, attributes: Mapping[str, Any]) -> ExecutionDag:
        """The flow that answers the message of a COMMUNICATE; BindError when none of this process does, or not always."""
        if attributes.get("protocol", "local") != "local":
            raise BindError("the message leaves the process, or goes to all")
        agent = attributes.get("recipient", "")
        return self._callee(dag, agent, Recipients(dag.siblings, self.agents.flows).flow_of(agent))

    def late(self, dag: ExecutionDag, agent: str, flow: str) -> Binding:
        """A flow that a run asks for only now, bound like those that `dag` calls. Thread-safe; a failure leaves nothing."""
        callee = self._callee(dag, agent, flow)
        with self._lock:
            if callee in self._filled:
                return self._flows[callee]
            known, filled = dict(self._flows), set(self._filled)
            try:
                return self.bind(callee)
            except BaseException:
                self._flows, self._filled = known, filled
                raise

    def _callee(self, dag: ExecutionDag, agent: str, flow: str) -> ExecutionDag:
        callee = dag.siblings.get((agent, flow))
        if callee is not None:
            return callee
        own = {name for owner, name in dag.siblings if owner == agent}
        registered = self.agents.flows.find_agent(agent)
        if registered is None and own:
            raise BindError(f"agent `{agent}` has no flow `{flow}`", hint=nearest(flow, own))
        if registered is None:
            known = {owner for owner, _ in dag.siblings}.union(self.agents.flows.list_agents())
            raise BindError(f"no agent `{agent}` is registered", hint=nearest(agent, known))
        return self._registered(agent, flow)

    def _registered(self, agent: str, flow: str) -> ExecutionDag:
        """A flow that a host filed under an agent other than the one it was compiled for is a flow of that agent."""
        found = self.agents.flows.get_flow(agent, flow)
        if found.agent == agent:
            return found
        key = (agent, found)
        if key not in self._adopted:
            self._adopted[key] = found.of_agent(agent)
        return self._adopted[key]

    def _region(self, region: ExecutionDag, owner: ExecutionDag) -> Binding:
        region.siblings = owner.siblings
        binding = Binding(ExecutionPlan(region, True))
        self._fill(binding, region)
        return binding

    def _fill(self, binding: Binding, dag: ExecutionDag) -> None:
        """Bind what differs, and lay it out in columns: nodes that differ in nothing a binder sees share a handler."""
        capabilities, models, window = self._shared
        terms = self.agents.terms(dag)

        def call(agent: str, flow: str) -> Body:
            return self._flows[self._callee(dag, agent, flow)]

        flows = self.agents.flows
        services = Services(
            *(capabilities, models, flows, terms.grants, call, window, self._explicit, terms.memories),
            coordination=self._coordination,
            waits=self._waits,
            siblings=dag.siblings,
            late=partial(self.late, dag),
            episodes_wait=self._episodes_wait,
        )
        first, size, table = len(dag.parameters), len(dag), dag.attributes.table
        labels: dict[int, set[str]] = {}
        for edge, label in dag.labels.items():
            labels.setdefault(dag.in_sources[edge], set()).add(label)

        def row(slot: int) -> tuple[_Row, bool]:
            operation, place = BY_CODE[dag.ops[slot]], dag.attributes.places[slot]
            assert operation is not None
            attributes = table[place - 1] if place else _NONE
            bound = self._bind_node(dag, slot, operation, attributes, frozenset(labels.get(slot, ())), services)
            return self._row(slot, operation, bound, attributes, dag), bound.anonymous

        rows: list[_Row] = [_PARAMETER]
        which = [0] * first
        if dag.ports or self._check:
            rows += (row(slot)[0] for slot in range(first, size))
            which += range(1, size - first + 1)
        else:
            alone = {slot for slot in (*dag.regions, *labels) if slot >= first}
            which += _shared_rows(dag, alone, row, rows)
        binding.complete(*_columns(rows, which))

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

    def _row(self, slot: int, operation: Operation, bound: Bound, attributes: Mapping[str, Any], dag: ExecutionDag) -> _Row:
        kind = int(bound.kind)
        opens = slot in dag.regions or operation.name == "FLOW_CALL" or (operation.name == "COMMUNICATE" and kind == SYNC)
        call = None
        if kind == CALL:
            assert bound.body is not None
            call = (bound.body, f"{attributes.get('agent_name', dag.agent)}.{attributes['flow_name']}")
        if kind == CALL or opens:
            lane = OPENING
        elif kind == ASYNC:
            lane = WAITING if operation.latency in (Latency.MEDIUM, Latency.HIGH) else SHORT
        else:
            lane = CHEAP
        own = any(declared.name == "timeout_ms" for declared in operation.attributes)
        if "timeout_ms" in attributes and (kind in (PURE, CALL) or (kind == SYNC and not opens and not own)):
            text = f"node `{dag.names[slot]}` ({operation.name}) has a timeout, but it cannot wait"
            raise BindError(text, hint="give the timeout to a node that can wait, or a deadline to the run")
        timeout_ms = bound.timeout_ms
        if timeout_ms is None and not own:  # a row that declares its own leaves the time to its handler
            timeout_ms = attributes.get("timeout_ms")
        return _Row(
            run=checked(bound.fn, kind, dag.names[slot]) if self._check and kind != CALL else bound.fn,
            kind=kind,
            lane=lane,
            effect=EFFECTS.index(bound.effect),
            owns=bound.owns,
            label=bound.label,
            timeout_s=None if timeout_ms is None else timeout_ms / 1e3,
            scope=kind == CALL or opens,
            call=call,
            attributes=attributes,
        )


class _Row(NamedTuple):
    """Everything that binding decides about a node, and that nodes may share."""

    run: Callable[..., Any]
    kind: int = PURE
    lane: int = CHEAP
    effect: int = 0
    owns: bool = False
    label: str | None = None
    timeout_s: float | None = None
    scope: bool = False
    call: tuple[Any, str] | None = None
    attributes: Mapping[str, Any] = _NONE


_PARAMETER = _Row(never)


def _shared_rows(dag: ExecutionDag, alone: set[int], row: Callable[[int], tuple[_Row, bool]], rows: list[_Row]) -> list[int]:
    """For every node the number of its row in `rows`, to which they are added; those in `alone` share theirs with nobody.

    Nodes with the same operation, attributes and number of inputs share a row, unless their handler knows its node.
    """
    first = len(dag.parameters)
    bounds, kinds = dag.in_offsets.tolist()[first:], dag.in_kinds
    if kinds.count(DATA) == len(kinds):
        inputs: Iterable[int] = map(sub, bounds[1:], bounds)
    else:
        inputs = (kinds.count(DATA, start, end) for start, end in pairwise(bounds))
    keys: Iterable[Any] = zip(dag.ops[first:], dag.attributes.places[first:], inputs)
    if alone:
        keys = list(keys)
        for slot in alone:
            keys[slot - first] = slot
    numbers: defaultdict[Any, int] = defaultdict(count(len(rows)).__next__)
    which = [numbers[key] for key in keys]
    private: set[int] = set()
    place = 0
    for number in numbers.values():  # in the order of the nodes that come first
        place = which.index(number, place)
        made, anonymous = row(first + place)
        rows.append(made)
        if not anonymous:
            private.add(number)
    taken: set[int] = set()
    for place, number in enumerate(which) if private else ():
        if number in private:
            if number in taken:
                which[place] = len(rows)
                rows.append(row(first + place)[0])
            taken.add(number)
    return which


def _columns(rows: list[_Row], which: list[int]) -> tuple[Handlers, dict[int, Any], dict[int, int]]:
    """The columns over all slots, and what few of them have: fallbacks and retries by slot."""
    handlers = Handlers(0)
    handlers.run = list(map([row.run for row in rows].__getitem__, which))
    handlers.kinds, handlers.lanes, handlers.effects, handlers.owns = _bytes_of(rows, which)
    fallbacks: dict[int, Any] = {}
    retries: dict[int, int] = {}
    rare = {number for number, row in enumerate(rows) if row[5:9] != (None, None, False, None) or row.attributes.keys() & _RARE}
    for slot, number in enumerate(which) if rare else ():
        if number in rare:
            row = rows[number]
            _take_rare(handlers, slot, row)
            if "fallback" in row.attributes:
                fallbacks[slot] = row.attributes["fallback"]
            if "retries" in row.attributes:
                retries[slot] = row.attributes["retries"]
    return handlers, fallbacks, retries


def _bytes_of(rows: list[_Row], which: list[int]) -> Iterator[bytearray]:
    """The columns kind, lane, effect and owns."""
    few = bytes(which) if len(rows) <= 256 else None
    for values in zip(*((row.kind, row.lane, row.effect, row.owns) for row in rows)):
        yield bytearray(few.translate(bytes(values).ljust(256)) if few is not None else map(values.__getitem__, which))


def _take_rare(handlers: Handlers, slot: int, row: _Row) -> None:
    if row.label is not None:
        handlers.labels[slot] = row.label
    if row.timeout_s is not None:
        handlers.timeouts[slot] = row.timeout_s
    if row.scope:
        handlers.scopes.add(slot)
    if row.call is not None:
        handlers.calls[slot] = row.call


_RARE = {"fallback", "retries"}
