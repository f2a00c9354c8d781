"""What a handler may see of the run it works for: memory, models, capabilities, budget, deadline. Never the scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from apxm.budget import Ledger
    from apxm.capability.system import CapabilitySystem
    from apxm.llm.registry import ModelRegistry
    from apxm.memory.system import RunMemory
    from apxm.observability.events import Event, Path


class RunServices(Protocol):
    """What the engine offers to every handler of one run."""

    run_id: str
    models: ModelRegistry
    capabilities: CapabilitySystem
    ledger: Ledger
    deadline: float  # time.monotonic() at which the run must have ended; inf when there is none
    heard: bool  # somebody takes events of calls; if not, nobody needs to make any
    content: bool  # and wants to know what was said in them

    @property
    def memory(self) -> RunMemory:
        """The short-term memory of the run."""

    def publish(self, event: Event) -> None:
        """Give an event to every subscriber of the run."""

    def record_usage(self, model: str, agent: str, node: str, usage: dict[str, float]) -> None:
        """Book what a model call used: llm_calls, input_tokens, output_tokens, cost_usd."""

    def retry_permit(self) -> bool:
        """Draw one retry from the retry budget of the run; False when it is empty."""


class OpContext:
    """One firing, as its handler sees it."""

    __slots__ = ("agent", "attempt", "deadline", "locate", "name", "node", "op", "run")

    def __init__(
        self,
        run: RunServices,
        *,
        node: int,
        name: str,
        op: str,
        agent: str,
        attempt: int,
        deadline: float,
        locate: Callable[[], Path],
    ) -> None:
        self.run = run
        self.node = node  # the authored node id
        self.name = name
        self.op = op
        self.agent = agent
        self.attempt = attempt  # 1 for the first try
        self.deadline = deadline  # of this firing, monotonic; the minimum of the run's and the node's
        self.locate = locate  # the frame path, computed only when somebody asks

    @property
    def path(self) -> Path:
        return self.locate()
