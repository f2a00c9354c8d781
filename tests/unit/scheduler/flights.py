"""A driver in which the test decides when a handler that waits comes back."""

from __future__ import annotations

from typing import Any

from apxm.scheduler.binding import ASYNC, CALL, OPENING, WAITING, Binding, Handlers
from apxm.scheduler.plan import ExecutionPlan
from apxm.scheduler.splicing import Activation
from tests.unit.scheduler.dags import N, Steps, dag_of


class Flights(Steps):
    """Steps whose ASYNC nodes stay in flight until `land`; `go` runs all that is ready."""

    def __init__(self, binding: Binding, **options: Any) -> None:
        self.flying: dict[str, Activation] = {}
        self.waiting: dict[str, Activation] = {}
        self.told: list[str] = []  # whose handler was told to stop
        super().__init__(binding, **options)
        self.go()

    def go(self) -> Flights:
        while not self.over and self.step():
            pass
        return self

    def land(self, name: str, value: Any = "landed") -> Flights:
        """The handler comes back, with a value or an exception."""
        activation, worker = self.flying.pop(name), self.workers[0]
        frame, slot = activation.frame, activation.slot
        if activation.cancelled:
            self.stopped(worker, activation)
        elif isinstance(value, Exception):
            self.failed(worker, frame, slot, self.as_error(frame, slot, value))
        else:
            assert frame.running is not None
            frame.running.pop(slot)
            self.outcome(worker, frame, slot, value)
        return self.go()

    def _fire(self, frame: Any, slot: int) -> None:
        kind, name = frame.binding.kinds[slot], frame.plan.dag.names[slot]
        if kind == ASYNC and not frame.doomed(slot):
            self.fired.append(name)
            frame.running = frame.running if frame.running is not None else {}
            frame.running[slot] = self.flying[name] = Activation(frame, slot)
        elif kind == CALL and not frame.doomed(slot):
            self.fired.append(name)
            body, step = frame.binding.calls[slot]
            self.open_call(self.workers[0], frame, slot, body, [], step)
        else:
            super()._fire(frame, slot)

    def interrupt(self, activation: Activation) -> None:
        self.told.append(activation.frame.plan.dag.names[activation.slot])

    def park(self, activation: Activation, seconds: float) -> None:
        self.waiting[activation.frame.plan.dag.names[activation.slot]] = activation

    def unpark(self, activation: Activation) -> None:
        del self.waiting[activation.frame.plan.dag.names[activation.slot]]


def flies(name: str, *ins: Any, effect: int = 0, **rest: Any) -> N:
    """A node that waits."""
    return N(name, None, ins, kind=ASYNC, effect=effect, **rest)


def calls(name: str, body: Binding, *ins: Any, **rest: Any) -> N:
    """A node that calls a flow."""
    return N(name, body, ins, kind=CALL, **rest)


def bind(*nodes: N, exits: tuple[str, ...] = (), region: bool = False) -> Binding:
    """As `binding_of`, with calls, and with the attributes `retries` and `timeout_s`."""
    binding = Binding(ExecutionPlan(dag_of(list(nodes), exits), region))
    handlers = Handlers(len(nodes))
    for slot, node in enumerate(nodes):
        handlers.run[slot] = node.fn or (lambda *values, name=node.name: values[0] if values else name)
        handlers.kinds[slot], handlers.effects[slot] = node.kind, node.effect
        if node.kind == CALL:
            handlers.run[slot], handlers.calls[slot] = lambda *_: [], (node.fn, "call")
        if node.kind == ASYNC:
            handlers.lanes[slot] = WAITING
        elif node.kind == CALL or node.attributes.get("opens"):
            handlers.lanes[slot] = OPENING
            handlers.scopes.add(slot)
        if "timeout_s" in node.attributes:
            handlers.timeouts[slot] = node.attributes["timeout_s"]
    fallbacks = {slot: node.fallback for slot, node in enumerate(nodes) if node.fallback is not None}
    retries = {slot: node.attributes["retries"] for slot, node in enumerate(nodes) if "retries" in node.attributes}
    binding.complete(handlers, fallbacks, retries)
    return binding
