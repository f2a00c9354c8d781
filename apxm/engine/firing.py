"""One firing as its handler sees it: the engine's form of OpContext, which looks things up only when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.dag import ExecutionDag
    from apxm.executor.context import RunServices
    from apxm.observability.events import Path
    from apxm.scheduler.dataflow import Frame


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
    def siblings(self) -> Mapping[tuple[str, str], ExecutionDag]:
        """The flows of the program that this node is part of, by (agent, flow)."""
        return self.frame.plan.dag.siblings

    @property
    def path(self) -> Path:
        return self.frame.path()

    def sources(self) -> list[tuple[str, ...]]:
        """For every live input, in order, where it came from: see apxm.labels. Costs a walk through the frame."""
        frame, table = self.frame, self.run.labels
        taint = frame.taint(table)
        dead = frame.dead.get(self.slot, ()) if frame.dead is not None else ()
        inputs = [source for place, source in enumerate(frame.plan.sources(self.slot)) if place not in dead]
        return [table.names(frame.labels(source, table) | taint) for source in inputs]

    def taint(self) -> tuple[str, ...]:
        """Where this node itself came from: the models whose plans it is part of. That is where its constants came from."""
        return self.run.labels.names(self.frame.taint(self.run.labels))
