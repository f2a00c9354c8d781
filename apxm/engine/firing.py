"""One firing as its handler sees it: the engine's form of OpContext, which looks things up only when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    def path(self) -> Path:
        return self.frame.path()
