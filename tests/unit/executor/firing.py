"""Fires one bound node outside any engine: regions are Python functions, child frames run one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from apxm.errors import ApxmError
from apxm.executor.bind import Binder, Bound, Input, Kind, NodeSpec, Services
from apxm.executor.context import OpContext
from apxm.graph.operation import Effect
from apxm.graph.ops import OPERATIONS
from apxm.outcome import Child, ChildResult, Fail, Route, Spawn

if TYPE_CHECKING:
    from collections.abc import Callable


class FakeBody:
    """A region: its parameters, and what it does with them; `opened` has (step, arguments) of every frame."""

    def __init__(self, *parameters: str, does: Callable[..., Any] | None = None, effect: Effect = Effect.PURE) -> None:
        self.parameters = parameters
        self.effect = effect
        self.does = does or (lambda *args: list(args))
        self.opened: list[tuple[Any, list[Any]]] = []


def spec(
    op: str,
    attributes: dict[str, Any] | None = None,
    inputs: tuple[str | None, ...] = (),
    regions: dict[str, FakeBody] | None = None,
    labels: tuple[str, ...] = (),
) -> NodeSpec:
    """A node named `n`; `inputs` are the ports of its Data in-edges, which come from nodes 1, 2, ..."""
    edges = tuple(Input(port, f"source_{at + 1}", at + 1) for at, port in enumerate(inputs))
    return NodeSpec(OPERATIONS[op], 7, "n", "main", "me", attributes or {}, edges, cast("Any", regions or {}), frozenset(labels))


def services(flows: dict[tuple[str, str], FakeBody] | None = None, window: int = 64) -> Services:
    nothing = cast("Any", None)
    known = flows or {}
    return Services(nothing, nothing, nothing, nothing, cast("Any", lambda agent, flow: known[agent, flow]), window)


def context() -> OpContext:
    run = cast("Any", None)
    return OpContext(run, node=7, name="n", op="OP", agent="me", attempt=1, deadline=float("inf"), locate=lambda: ())


def fire(bound: Bound, *inputs: Any) -> Any:
    """The first outcome of a firing; for a call the Spawn that it is short for."""
    if bound.kind is Kind.CALL:
        return Spawn((Child(bound.body, bound.fn(*inputs), "call"),), lambda results: results[0].value)
    return bound.fn(*inputs) if bound.kind is Kind.PURE else bound.fn(context(), *inputs)


def run(binder: Binder, node: NodeSpec, *inputs: Any, **more: Any) -> Any:
    """The last outcome of a firing: a value, Route or Fail. Child frames run in order; their failures come back as Fail."""
    return play(fire(binder(node, services(**more)), *inputs))


def failure(binder: Binder, node: NodeSpec, *inputs: Any) -> ApxmError:
    """What a firing raises."""
    bound = binder(node, services())
    try:
        outcome = fire(bound, *inputs)
    except ApxmError as error:
        return error
    raise AssertionError(f"gave {outcome!r} instead of failing")


def play(outcome: Any) -> Any:
    """Drive an outcome until it is no Spawn any more."""
    while isinstance(outcome, Spawn):
        results = []
        for child in outcome.children:
            child.body.opened.append((child.step, list(child.args)))
            try:
                results.append(ChildResult(child.body.does(*child.args)))
            except ApxmError as error:
                if not outcome.isolate:
                    return Fail(error)
                results.append(ChildResult(error=error))
        outcome = outcome.then(results)
    return outcome


__all__ = ["Fail", "FakeBody", "Route", "Spawn", "context", "fire", "play", "run", "services", "spec"]
