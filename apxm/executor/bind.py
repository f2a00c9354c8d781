"""node + services -> a callable, once per plan and grants. What can be decided before a run is decided here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from apxm.errors import BindError

if TYPE_CHECKING:
    from apxm.aam.flows import Flows
    from apxm.capability.system import CapabilitySystem, Grants
    from apxm.coordination.system import CoordinationSystem
    from apxm.dag import ExecutionDag
    from apxm.graph.ops import Effect, Operation
    from apxm.llm.registry import ModelRegistry


class Kind(IntEnum):
    """How a bound handler is called. Inputs always come as positional arguments, in the order of `NodeSpec.inputs`."""

    PURE = 0  # fn(*inputs): no context, does not block, gives a plain value; may run in the fast tiers
    SYNC = 1  # fn(context, *inputs): gives a value or an outcome, does not block
    ASYNC = 2  # await fn(context, *inputs): may wait
    CALL = 3  # fn(*inputs): gives the list of arguments of `Bound.body`; the one child frame's result is the node's


@dataclass(frozen=True, slots=True)
class Bound:
    """A handler, ready to be called. `timeout_ms` limits one attempt; `label` is the provenance it adds, if any."""

    kind: Kind
    fn: Callable[..., Any]
    effect: Effect
    label: str | None = None
    timeout_ms: float | None = None
    owns: bool = False  # its results are made of settled values only (inputs, constants): no need to settle them again
    body: Body | None = None  # of a CALL
    anonymous: bool = False  # knows nothing of its node: every node with the same attributes and inputs may share it


@dataclass(frozen=True, slots=True)
class Input:
    """One Data in-edge in argument order; `port` is the input's name if the edge has one, `source` what it comes from."""

    port: str | None
    source: str  # name of the node or parameter it comes from
    source_id: int | None  # authored id of that node, None for a parameter


class Body(Protocol):
    """A bound dag, as a handler sees it: something to put into a `Child`."""

    parameters: tuple[str, ...]  # names in slot order: `Child.args` has one value for each
    effect: Effect


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What a binder sees of one node."""

    op: Operation
    id: int
    name: str
    flow: str
    agent: str
    attributes: Mapping[str, Any]
    inputs: tuple[Input, ...] = ()
    regions: Mapping[str, Body] = field(default_factory=dict)
    labels: frozenset[str] = frozenset()  # labels on its out-edges


def _nothing_late(agent: str, flow: str) -> Body:
    """Of services outside of any run."""
    raise BindError(f"flow `{agent}.{flow}` cannot be bound here")


@dataclass(frozen=True, slots=True)
class Services:
    """What binders may use: everything that outlives a run, and what holds for the agent of the node in this one."""

    capabilities: CapabilitySystem
    models: ModelRegistry
    flows: Flows
    grants: Grants
    call: Callable[[str, str], Body]  # (agent, flow) -> the bound flow; BindError when there is none
    window: int = 64  # max_parallelism: how many child frames a MAP keeps open by default
    explicit: bool = False  # a capability must be granted by name, even one of the host: what a model's plan is bound with
    memories: Mapping[str, str] = field(default_factory=dict)  # keys of the agent's memory that have a tier of their own
    coordination: CoordinationSystem | None = None  # queues and checkpoints; an engine for tests may have none
    waits: bool = False  # the run may wait for a person without end: it was told to, or it has a deadline
    siblings: Mapping[tuple[str, str], ExecutionDag] = field(default_factory=dict)  # the flows of the program of the node
    late: Callable[[str, str], Body] = _nothing_late  # `call` for what only a run asks for: binds it where it is not bound
    episodes_wait: bool = False  # they are on disk

    def memory_waits(self, tier: str) -> bool:
        """Whether who uses this tier of memory may have to wait."""
        return tier in ("ltm", "all") or (tier == "episodic" and self.episodes_wait)


Binder: TypeAlias = Callable[[NodeSpec, Services], Bound]
