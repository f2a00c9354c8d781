"""One firing as its handler sees it: the engine's form of OpContext, which looks things up only when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from apxm.scheduler.closing import flow_of
from apxm.values import digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apxm.dag import ExecutionDag, Siblings
    from apxm.executor.context import RunServices
    from apxm.memory.episodic import Place
    from apxm.observability.events import Path
    from apxm.scheduler.dataflow import Frame


_DIGESTS: WeakKeyDictionary[ExecutionDag, bytes] = WeakKeyDictionary()


def digest_of(dag: ExecutionDag) -> bytes:
    """32 bytes that name a dag by its nodes, edges and attributes; computed once."""
    found = _DIGESTS.get(dag)
    if found is None:
        columns = [dag.ops, dag.in_kinds, *(each.tolist() for each in (dag.ids, dag.in_offsets, dag.in_sources))]
        attributes = [dict(each) for each in dag.attributes.table], list(dag.attributes.places)
        sparse = [[[edge, text] for edge, text in sorted(each.items())] for each in (dag.ports, dag.labels)]
        regions = [[slot, {n: digest_of(region) for n, region in each.items()}] for slot, each in sorted(dag.regions.items())]
        found = _DIGESTS[dag] = digest([dag.agent, dag.name, columns, attributes, sparse, regions])
    return found


class Firing:
    """Has the attributes of OpContext. The one that SYNC handlers get is reused for the next firing of the run."""

    __slots__ = ("attempt", "deadline", "frame", "run", "slot")

    def __init__(self, run: RunServices, frame: Frame, slot: int, attempt: int = 1) -> None:
        self.run, self.frame, self.slot, self.attempt = run, frame, slot, attempt
        self.deadline = run.deadline

    @property
    def node(self) -> int:
        """The authored node id."""
        return self.frame.plan.dag.ids[self.slot]

    @property
    def name(self) -> str:
        return self.frame.plan.dag.names[self.slot]

    @property
    def op(self) -> str:
        return self.frame.plan.operation(self.slot)

    @property
    def agent(self) -> str:
        return self.frame.plan.dag.agent

    @property
    def siblings(self) -> Siblings:
        """The flows of the program that this node is part of, by (agent, flow)."""
        return self.frame.plan.dag.siblings

    @property
    def flow(self) -> ExecutionDag:
        """The flow that this node is part of, from whatever depth of regions; of a node in a plan, that plan."""
        return flow_of(self.frame).plan.dag

    @property
    def depth(self) -> int:
        """How many plans that models made this node is inside of."""
        found, frame = 0, self.frame
        while frame.up is not None:
            found += frame.plan.dag.planned
            frame = frame.up
        return found

    @property
    def path(self) -> Path:
        return self.frame.path()

    def place(self) -> Place:
        """What an episode says of where it happened."""
        frame, slot = self.frame, self.slot
        plan = frame.plan
        dag = plan.dag
        path = frame.path() if frame.up is not None else ()
        return path, dag.ids[slot], dag.names[slot], plan.operation(slot), dag.name, dag.agent

    def plan_digest(self) -> bytes:
        """What names the flow, region or plan that this node stands in, by its content: the same in every process."""
        return digest_of(self.frame.plan.dag)

    def sources(self) -> list[tuple[str, ...]]:
        """For every live input, in order, where it came from: see apxm.labels."""
        frame, table = self.frame, self.run.labels
        dead = frame.dead.get(self.slot, ()) if frame.dead is not None else ()
        inputs = [source for place, source in enumerate(frame.plan.sources(self.slot)) if place not in dead]
        return [table.names(frame.labels(source, table)) for source in inputs]

    def origins(self) -> tuple[str, ...]:
        """Where the value of this firing comes from, as far as that is known now: all that led to it, and what it owes."""
        table = self.run.labels
        return table.names(self.frame.labels(self.slot, table))

    def taint(self) -> tuple[str, ...]:
        """Where this node itself came from: the models whose plans it is part of. That is where its constants came from."""
        return self.run.labels.names(self.frame.taint(self.run.labels))

    def owe(self, sources: Iterable[str]) -> None:
        """Join the provenance of this firing's value with these sources. For handlers that add a label of their own."""
        found = self.run.labels.bits(sources)
        if found:
            self.frame.bring(self.slot, found)
