"""A plan with the handlers of one set of grants: what a frame runs. Says which tier and which lane a node belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.graph.ops import Effect
from apxm.scheduler.plan import ALL, COLLECT, RACE
from apxm.values import settle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apxm.scheduler.plan import ExecutionPlan, Getter

PURE, SYNC, ASYNC, CALL = range(4)  # how a handler is called: fn(*inputs), fn(context, *inputs), await fn(context, *inputs);
# CALL: fn(*inputs) gives the arguments of the one child frame that `calls` names
WAITING, SHORT, CHEAP, OPENING = range(4)  # lanes, most urgent first; OPENING nodes open child frames and rank last
LANES = 4

_IS_PURE = bytes(kind == PURE for kind in range(256))
_WAITS_FOR_ALL = bytes(rule in (ALL, COLLECT) for rule in range(256))

EFFECTS = (Effect.PURE, Effect.READ, Effect.IDEMPOTENT, Effect.PAID, Effect.GUARDED)


class Handlers:
    """The columns that binding fills, one entry for each slot (parameters have None)."""

    __slots__ = ("calls", "effects", "kinds", "labels", "lanes", "owns", "run", "scopes", "timeouts")

    def __init__(self, size: int) -> None:
        self.run: list[Callable[..., Any]] = [never] * size
        self.kinds = bytearray(size)
        self.lanes = bytearray(b"\x02" * size)
        self.effects = bytearray(size)  # index into EFFECTS
        self.owns = bytearray(size)  # 1: its results are made of settled values and need no settling
        self.labels: dict[int, str] = {}  # the provenance a slot adds
        self.timeouts: dict[int, float] = {}  # seconds for one attempt
        self.scopes: set[int] = set()  # slots that open child frames
        self.calls: dict[int, tuple[Any, str]] = {}  # slot of kind CALL -> the bound flow, the step of its frame


def never(*_: Any) -> None:
    """In place of a handler for parameters."""
    raise AssertionError("a parameter slot was fired")


class Binding:
    """Once `complete` ran, only `settle_results` changes it. Before, in a flow that calls itself, only `parameters` and
    `effect` may be read.

    A slot is *fast* when it is pure, called inline, waits for everything and has only plain out-edges. A binding is
    *static* when all its slots are fast: then its topological order can be replayed without any counters.
    """

    __slots__ = (
        "calls",
        "effect",
        "effects",
        "errors",
        "fallbacks",
        "fast",
        "forgiven",
        "has_labels",
        "kinds",
        "labels",
        "lanes",
        "order",
        "owns",
        "parameters",
        "plan",
        "retries",
        "run",
        "scopes",
        "static",
        "timeouts",
        "trusted",
        "waits",
    )

    def __init__(self, plan: ExecutionPlan) -> None:
        self.plan = plan
        self.parameters = tuple(parameter.name for parameter in plan.dag.parameters)
        self.effect = Effect.GUARDED  # until it is known
        self.static = False

    def complete(self, handlers: Handlers, fallbacks: dict[int, Any], retries: dict[int, int]) -> None:
        """Take the handlers, and decide once what the run loop would otherwise ask at every node."""
        plan = self.plan
        self.run, self.kinds, self.lanes = handlers.run, bytes(handlers.kinds), bytes(handlers.lanes)
        self.effects, self.owns, self.labels = bytes(handlers.effects), handlers.owns, handlers.labels
        self.calls = handlers.calls
        self.timeouts, self.scopes = handlers.timeouts, frozenset(handlers.scopes)
        self.fallbacks, self.retries = fallbacks, retries
        self.errors = frozenset(  # slots with an `error` out-edge
            plan.dag.in_sources[edge] for edge, label in plan.dag.labels.items() if label == "error"
        )
        first = plan.parameters
        if RACE in plan.rules:  # a decided RACE cancels ready nodes, which the fast tiers do not look for
            self.fast = bytes(plan.size)
        else:
            marks = (self.kinds.translate(_IS_PURE), plan.rules.translate(_WAITS_FOR_ALL), plan.plain)
            inline, waits_for_all, plain = (int.from_bytes(column[first:], "little") for column in marks)
            self.fast = bytes(first) + (inline & waits_for_all & plain).to_bytes(plan.size - first, "little")
        self.static = all(self.fast[first:])
        self.trusted = all(self.owns[first:])
        self.order: tuple[list[Callable[..., Any]], Sequence[Getter]] = (
            (self.run[first:], plan.getters[first:]) if first else (self.run, plan.getters)
        )
        self.forgiven = plan.forgiven
        self.waits = bool(self.timeouts) or ASYNC in self.kinds  # some slot needs a loop
        self.has_labels = bool(self.labels or self.scopes)
        self.effect = EFFECTS[max(self.effects[first:], default=0)]

    def settle_results(self, slot: int) -> None:
        """A pure slot gave something that is no scalar: let it settle its results itself from now on, in every run."""
        if not self.owns[slot]:
            run = self.run[slot]
            settling = self.run[slot] = lambda *inputs: settle(run(*inputs))
            first = self.plan.parameters
            if first:
                self.order[0][slot - first] = settling
            self.owns[slot] = 1

    def __repr__(self) -> str:
        return f"<Binding of {self.plan.dag!r}{' static' if self.static else ''}>"
