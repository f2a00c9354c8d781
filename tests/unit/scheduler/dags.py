"""Dags and bindings by hand, so that the scheduler is tested without compiler and handlers."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

from apxm.dag import CONTROL, DATA, EFFECT, PARAMETER_CODE, ExecutionDag
from apxm.errors import ApxmError, HandlerError
from apxm.graph.model import Parameter
from apxm.graph.ops import OPERATIONS
from apxm.scheduler.binding import OPENING, PURE, SYNC, Binding, Handlers
from apxm.scheduler.dataflow import DEAD, EMPTY
from apxm.scheduler.invariants import check
from apxm.scheduler.plan import ExecutionPlan
from apxm.scheduler.run import RunState

PARAMETER = "parameter"  # the `op` of a parameter; they stand first


@dataclass
class N:
    """One node: what it is called, what calls it, where its tokens come from (`name`, or (name, kind, label))."""

    name: str
    fn: Any = None
    ins: tuple[Any, ...] = ()
    op: str = "INV"
    kind: int = PURE
    effect: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)
    fallback: Any = None
    rank: int = 0


def dag_of(nodes: list[N], exits: tuple[str, ...] = ()) -> ExecutionDag:
    slot = {node.name: place for place, node in enumerate(nodes)}
    offsets, sources, kinds, labels = array("i", [0]), array("i"), bytearray(), {}
    has_successor = set()
    for node in nodes:
        edges = [(each, DATA, None) if isinstance(each, str) else each for each in node.ins]
        for name, kind, label in sorted(edges, key=lambda edge: edge[1]):
            if label is not None:
                labels[len(sources)] = label
            sources.append(slot[name])
            kinds.append(kind)
            has_successor.add(name)
        offsets.append(len(sources))
    parameters = [Parameter(node.name) for node in nodes if node.op == PARAMETER]
    ends = [node.name for node in nodes[len(parameters) :] if node.name not in has_successor]
    named = [slot[name] for name in exits or ends]
    return ExecutionDag(
        name="by_hand",
        ops=bytes(PARAMETER_CODE if node.op == PARAMETER else OPERATIONS[node.op].code for node in nodes),
        ids=array("q", [-1] * len(parameters) + list(range(1, len(nodes) - len(parameters) + 1))),
        names=[node.name for node in nodes],
        in_offsets=offsets,
        in_sources=sources,
        in_kinds=bytes(kinds),
        exits=named,
        ranks=array("i", [node.rank for node in nodes]),
        attributes={slot[node.name]: node.attributes for node in nodes if node.attributes},
        labels=labels,
        parameters=parameters,
    )


def binding_of(nodes: list[N], exits: tuple[str, ...] = (), region: bool = False) -> Binding:
    binding = Binding(ExecutionPlan(dag_of(nodes, exits), region))
    handlers = Handlers(len(nodes))
    for slot, node in enumerate(nodes):
        handlers.run[slot] = node.fn or (lambda *values, name=node.name: values[0] if values else name)
        handlers.kinds[slot] = node.kind
        handlers.effects[slot] = node.effect
        if node.attributes.get("opens"):
            handlers.lanes[slot] = OPENING
            handlers.scopes.add(slot)
    binding.complete(handlers, {slot: n.fallback for slot, n in enumerate(nodes) if n.fallback is not None}, {})
    return binding


class Steps(RunState):
    """Drives a run one job at a time, checking the invariants between jobs. `order` picks among what a worker has."""

    def __init__(self, binding: Binding, *args: Any, **options: Any) -> None:
        super().__init__(binding, list(args), **options)
        self.replay = False
        self.fired: list[str] = []
        self.interrupted: list[Any] = []
        self.start(self.workers[0], self.root)

    def run(self) -> Steps:
        while not self.over:
            if not self.step():
                raise self.stuck()
        return self

    def step(self) -> bool:
        worker = self.workers[0]
        job = worker.pop()
        if job is None:
            while worker.batches and (not worker.batches[-1][1] or worker.batches[-1][0].closing is not None):
                worker.batches.pop()
            if not worker.batches:
                return False
            frame, ready = worker.batches[-1]
            job = (frame, ready.pop())
        frame, slot = job
        if frame.v[slot] is EMPTY:
            self._fire(frame, slot)
        if not self.over:
            check(self)
        return True

    def _fire(self, frame: Any, slot: int) -> None:
        worker = self.workers[0]
        if frame.running and slot in frame.running:
            self.advance(worker, frame.running[slot])
            return
        if frame.doomed(slot):
            self.complete(worker, frame, slot, DEAD)
            return
        self.fired.append(frame.plan.dag.names[slot])
        run = frame.binding.run[slot]
        try:
            args = frame.arguments(slot)
            result = run(None, *args) if frame.binding.kinds[slot] == SYNC else run(*args)
        except Exception as error:
            self.failed(worker, frame, slot, self.as_error(frame, slot, error))
            return
        self.outcome(worker, frame, slot, result)

    def run_static(self, worker: Any, frame: Any) -> bool:
        raise AssertionError("replay is off")

    def as_error(self, frame: Any, slot: int, error: BaseException) -> ApxmError:
        return error if isinstance(error, ApxmError) else HandlerError(str(error))

    @property
    def value(self) -> Any:
        return self.root.value()

    @property
    def status(self) -> dict[str, str]:
        return {name: self.root.status(slot) for slot, name in enumerate(self.root.plan.dag.names)}


def control(name: str, label: str | None = None) -> tuple[str, int, str | None]:
    return (name, CONTROL, label)


def effect(name: str, label: str | None = None) -> tuple[str, int, str | None]:
    return (name, EFFECT, label)


def on(name: str, label: str) -> tuple[str, int, str | None]:
    return (name, DATA, label)
