"""What a run offers to one firing of an INV or PRINT, outside any engine. Not a test module."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from apxm.aam.flows import FlowRegistry
from apxm.budget import Ledger, Limits
from apxm.capability.policy import Trust
from apxm.capability.record import CapabilityRecord
from apxm.capability.system import CapabilitySystem, Grants
from apxm.errors import BindError
from apxm.executor.bind import Body, Bound, Input, Kind, NodeSpec, Services
from apxm.executor.context import OpContext
from apxm.executor.handlers.tools import BINDERS
from apxm.graph.ops import OPERATIONS
from apxm.llm.registry import ModelRegistry

if TYPE_CHECKING:
    from apxm.observability.events import Event


class Fired(OpContext):
    """A firing whose inputs come from nowhere in particular."""

    def sources(self) -> list[tuple[str, ...]]:
        return [()] * 10


class World:
    """A capability system and, for one firing, what a run offers."""

    def __init__(self) -> None:
        self.run_id = "r"
        self.capabilities = CapabilitySystem()
        self.models = ModelRegistry()
        self.ledger = Ledger(Limits())
        self.deadline = float("inf")
        self.events: list[Event] = []
        self.permits = 100
        self.noted = self.heard = True
        self.content = self.tells_content = False
        self.episodes = None
        self.trust = Trust()

    def add(self, fn: Any, name: str = "tool", **options: Any) -> None:
        self.capabilities.register(name, CapabilityRecord("x", fn, **options))

    def publish(self, event: Event) -> None:
        self.events.append(event)

    def record_usage(self, model: str, agent: str, node: str, usage: dict[str, float]) -> None:
        raise AssertionError("capabilities use no models")

    def retry_permit(self) -> bool:
        self.permits -= 1
        return self.permits >= 0

    def bind(self, *inputs: Any, grants: tuple[str, ...] = (), op: str = "INV", **attributes: Any) -> Bound:
        """An input is a port or None, or (port, id of the node it comes from)."""
        ports = [each if isinstance(each, tuple) else (each, 10 + place) for place, each in enumerate(inputs)]
        spec = NodeSpec(
            op=OPERATIONS[op],
            id=7,
            name="n",
            flow="f",
            agent="default",
            attributes={"capability": "tool", **attributes} if op == "INV" else attributes,
            inputs=tuple(Input(port, f"source{source}", source) for port, source in ports),
        )
        services = Services(self.capabilities, self.models, FlowRegistry(), Grants.parse(grants), self._no_flow)
        return BINDERS[op](spec, services)

    def _no_flow(self, agent: str, flow: str) -> Body:
        raise BindError("there are no flows here")

    def context(self, deadline: float = float("inf")) -> OpContext:
        return Fired(
            self,  # type: ignore[arg-type]
            node=7,
            name="n",
            op="INV",
            agent="default",
            attempt=1,
            deadline=deadline,
            locate=lambda: ((3, 1),),
        )

    def fire(self, bound: Bound, *values: Any) -> Any:
        if bound.kind is Kind.PURE:
            return bound.fn(*values)
        result = bound.fn(self.context(), *values)
        return asyncio.run(result) if bound.kind is Kind.ASYNC else result
