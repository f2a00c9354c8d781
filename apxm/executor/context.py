"""What a handler may see of the run it works for: memory, models, capabilities, budget, deadline. Never the scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from apxm.dag import Siblings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from apxm.aam.machine import Machine
    from apxm.budget import Ledger
    from apxm.capability.grants import Grants
    from apxm.capability.policy import Trust
    from apxm.capability.system import CapabilitySystem
    from apxm.config import SchedulerConfig
    from apxm.dag import ExecutionDag
    from apxm.executor.bind import Body
    from apxm.labels import LabelTable
    from apxm.llm.registry import ModelRegistry
    from apxm.memory.episodic import Episodes, Place
    from apxm.memory.run import RunMemory
    from apxm.observability.events import Event, Path, Spliced


class RunServices(Protocol):
    """What the engine offers to every handler of one run."""

    run_id: str
    models: ModelRegistry
    capabilities: CapabilitySystem
    ledger: Ledger
    trust: Trust  # what this run lets untrusted values reach
    config: SchedulerConfig
    splices: Sequence[Spliced]  # the plans of models that this run took in so far
    deadline: float  # time.monotonic() at which the run must have ended; inf when there is none
    heard: bool  # somebody takes events of calls; if not, nobody needs to make any
    content: bool  # and wants to know what was said in them
    tells_content: bool  # events may carry it; else only episodes keep of it what they may

    noted: bool  # somebody hears of calls, or episodes of them are kept
    episodes: Episodes | None  # what happened in all runs, when that is kept

    @property
    def labels(self) -> LabelTable:
        """Where values of this run came from."""

    @property
    def message_depth(self) -> int:
        """How many messages of other runs led to this one."""

    @property
    def memory(self) -> RunMemory:
        """The memory of the run."""

    def machine(self, agent: str) -> Machine:
        """The agent machine of one agent in this run."""

    def bind_plan(self, dag: ExecutionDag, grants: Grants) -> Body:
        """Bind a dag that a model made, with these grants of the node that asked the model, and no others.

        Raises BindError and DeniedError: a capability that is not granted by name is denied, even one of the host.
        """

    def splice(self, plan: Spliced) -> None:
        """Note a plan that is about to run, and tell of it. InvalidError when the run took in as many as it may."""

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
    def siblings(self) -> Siblings:
        """The flows of the program that this node is part of, by (agent, flow)."""
        return Siblings()

    @property
    def flow(self) -> ExecutionDag | None:
        """The flow that this node is part of, from whatever depth of regions; of a node in a plan, that plan."""
        return None

    @property
    def depth(self) -> int:
        """How many plans that models made this node is inside of."""
        return 0

    @property
    def path(self) -> Path:
        return self.locate()

    def place(self) -> Place:
        """What an episode says of where it happened."""
        return (self.path, self.node, self.name, self.op, "", self.agent)

    def plan_digest(self) -> bytes:
        """What names the flow, region or plan that this node stands in, by its content: the same in every process."""
        return b""

    def sources(self) -> list[tuple[str, ...]]:
        """For every live input, in order, where it came from."""
        return []

    def origins(self) -> tuple[str, ...]:
        """Where the value of this firing comes from, as far as that is known now: all that led to it, and what it owes."""
        return ()

    def taint(self) -> tuple[str, ...]:
        """Where the node itself came from: the models whose plans it is part of."""
        return ()

    def owe(self, sources: Iterable[str]) -> None:
        """Say where else the value of this firing came from, beyond its inputs and the label of its handler."""
