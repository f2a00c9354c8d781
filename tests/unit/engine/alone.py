"""One run of the local engine on a virtual clock, made by hand: no compiler, no capabilities, no thread."""

from __future__ import annotations

import asyncio
from typing import Any

from apxm.aam.flows import Flows
from apxm.budget import Ledger, Limits
from apxm.capability.system import CapabilitySystem
from apxm.config import MemoryConfig, RunOptions, SchedulerConfig
from apxm.engine.agents import NO_GRANTS, Agents
from apxm.engine.local import LocalRun
from apxm.llm.registry import ModelRegistry
from apxm.memory.system import MemorySystem
from apxm.scheduler.binding import ASYNC, SYNC, Binding
from apxm.scheduler.invariants import check
from apxm.testing.clock import VirtualClock
from tests.unit.scheduler.dags import N

FOREVER_S = 1e6  # of virtual time


class Alone(LocalRun):
    """A run, its clock, and what it left on its loop."""

    def __init__(
        self,
        binding: Binding,
        *,
        nodes: int | None = None,
        static: bool = True,
        watched: bool = False,
        deadline_s: float | None = None,
        on_failure: Any = "fail_fast",
        **config: Any,
    ) -> None:
        self.events: list[Any] = []
        self.left: list[Any] = []  # timers that are still set
        self.ticks = VirtualClock()
        super().__init__(
            binding,
            [],
            run_id="alone",
            config=SchedulerConfig(**config),
            options=RunOptions(deadline_s=deadline_s, on_failure=on_failure),
            ledger=Ledger(Limits(nodes=nodes)),
            models=ModelRegistry(),
            capabilities=CapabilitySystem(),
            memories=MemorySystem(MemoryConfig()),
            static=static,
            agents=Agents(Flows({}), NO_GRANTS, {}),
            clock=self.ticks,
        )
        if watched:
            self.watch(self.events.append)

    def go(self, *others: Any) -> Alone:
        """Run to the end; `others` are coroutines that share the loop meanwhile."""
        if others or not self.drive_inline():
            loop = self.ticks.new_event_loop()
            try:
                loop.run_until_complete(self._among(others))
                self.left = [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
            finally:
                loop.close()
        check(self)
        self.release()
        return self

    async def _among(self, others: tuple[Any, ...]) -> None:
        tasks = [asyncio.create_task(other) for other in others]
        async with asyncio.timeout(FOREVER_S):  # nothing else is left to happen: a wake-up was lost
            await self.drive()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def status(self) -> dict[str, str]:
        return {name: self.root.status(slot) for slot, name in enumerate(self.root.plan.dag.names)}

    def seen(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def waits(name: str, *ins: Any, seconds: float = 1.0, value: Any = "woke", effect: int = 1, **rest: Any) -> N:
    """An ASYNC node that sleeps."""

    async def nap(context: Any, *inputs: Any) -> Any:
        await asyncio.sleep(seconds)
        return value

    return N(name, nap, ins, kind=ASYNC, effect=effect, **rest)


def awaits(name: str, fn: Any, *ins: Any, effect: int = 1, **rest: Any) -> N:
    """An ASYNC node."""
    return N(name, fn, ins, kind=ASYNC, effect=effect, **rest)


def does(name: str, fn: Any, *ins: Any, effect: int = 0, **rest: Any) -> N:
    """A SYNC node, called with its context and its inputs."""
    return N(name, fn, ins, kind=SYNC, effect=effect, **rest)
