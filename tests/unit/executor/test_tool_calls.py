"""Calls to the world: what they cost, when they are tried again, how they end."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from apxm.budget import Ledger, Limits
from apxm.errors import (
    ApxmError,
    BudgetError,
    CapabilityError,
    DeniedError,
    InvalidError,
    TransientError,
    UnknownEffectError,
    ValueRefused,
)
from apxm.executor.bind import Bound, Kind
from apxm.graph.ops import Effect
from apxm.observability.events import Called, NodeRetried
from tests.unit.executor.tool_world import World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.capabilities.close()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apxm.capability.calling.run.RETRY_BASE_S", 0.0001)


def search(query: str) -> list[str]:
    return [query]


def test_a_call_is_counted_told_and_labelled(world: World) -> None:
    world.add(search)
    bound = world.bind(None)
    assert (bound.kind, bound.effect, bound.label, bound.owns) == (Kind.ASYNC, Effect.GUARDED, "tool:tool", True)
    world.fire(bound, "cats")
    assert world.ledger.spent()["tool_calls"] == 1
    assert world.ledger.reserved()["tool_calls"] == 0
    (event,) = world.events
    assert isinstance(event, Called)
    assert (event.path, event.node, event.kind, event.target, event.ok) == (((3, 1),), 7, "capability", "tool", True)


def test_no_call_goes_out_beyond_the_budget(world: World) -> None:
    calls = []
    world.add(lambda: calls.append(1))
    world.ledger = Ledger(Limits(tool_calls=1))
    bound = world.bind()
    world.fire(bound)
    with pytest.raises(BudgetError) as refused:
        world.fire(bound)
    assert calls == [1]
    assert not refused.value.called


@pytest.mark.parametrize("watched", [True, False])
def test_a_call_that_the_run_loop_makes_itself_is_counted_like_any_other(world: World, watched: bool) -> None:
    calls = []
    world.add(lambda: calls.append(1), run="inline")
    world.heard = watched
    world.ledger = Ledger(Limits(tool_calls=1))
    bound = world.bind()
    assert bound.kind is Kind.SYNC
    world.fire(bound)
    with pytest.raises(BudgetError):
        world.fire(bound)
    assert (calls, world.ledger.spent()["tool_calls"]) == ([1], 1)


def test_arguments_that_do_not_fit_cost_nothing(world: World) -> None:
    world.add(search)
    with pytest.raises(InvalidError, match="expected str"):
        world.fire(world.bind(None), 3)
    assert world.ledger.spent()["tool_calls"] == 0
    assert world.events == []


def test_results_are_settled(world: World) -> None:
    world.add(lambda: (1, {"a": np.float32(2)}))
    world.add(lambda: {1}, "bad")
    assert world.fire(world.bind()) == [1, {"a": 2.0}]
    with pytest.raises(ValueRefused, match="the result of capability `bad`"):
        world.fire(world.bind(capability="bad"))


class Flaky:
    """Fails so many times, then works."""

    def __init__(self, failures: int) -> None:
        self.left, self.calls = failures, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.left:
            raise ConnectionResetError("gone")
        return "done"


@pytest.mark.parametrize("effect", ["read", "idempotent"])
def test_a_call_that_may_be_repeated_is_tried_again(world: World, effect: str) -> None:
    tool = Flaky(2)
    world.add(tool, effect=effect)
    assert world.fire(world.bind()) == "done"
    assert tool.calls == world.ledger.spent()["tool_calls"] == 3
    assert [type(event) for event in world.events] == [Called, NodeRetried, Called, NodeRetried, Called]
    assert [event.ok for event in world.events if isinstance(event, Called)] == [False, False, True]
    assert world.permits == 98


@pytest.mark.parametrize(
    ("attributes", "permits", "calls"), [({"retries": 0}, 9, 1), ({"retries": 5}, 9, 6), ({}, 9, 3), ({}, 1, 2)], ids=str
)
def test_retries_end_with_what_the_node_says_and_the_run_allows(
    world: World, attributes: dict[str, Any], permits: int, calls: int
) -> None:
    tool = Flaky(100)
    world.add(tool, effect="read")
    world.permits = permits
    with pytest.raises(TransientError) as failed:
        world.fire(world.bind(**attributes))
    assert tool.calls == calls
    assert failed.value.called  # so that nobody tries the node again on top


def test_every_try_needs_budget(world: World) -> None:
    tool = Flaky(100)
    world.add(tool, effect="read")
    world.ledger = Ledger(Limits(tool_calls=2))
    with pytest.raises(BudgetError):
        world.fire(world.bind(retries=9))
    assert tool.calls == 2


@pytest.mark.parametrize("effect", ["guarded", "paid"])
def test_an_effect_is_never_tried_again(world: World, effect: str) -> None:
    tool = Flaky(1)
    world.add(tool, effect=effect)
    with pytest.raises(UnknownEffectError) as failed:
        world.fire(world.bind(retries=9))
    assert tool.calls == 1
    assert failed.value.called


@pytest.mark.parametrize("run", ["inline", "thread"])
@pytest.mark.parametrize("watched", [True, False])
def test_an_effect_that_calls_its_failure_transient_is_not_tried_again_either(world: World, run: str, watched: bool) -> None:
    def tool() -> None:
        calls.append(1)
        raise TransientError("later")

    calls: list[int] = []
    world.add(tool, run=run)
    world.heard = watched
    with pytest.raises(TransientError) as failed:
        world.fire(world.bind(retries=9))
    assert calls == [1]
    assert failed.value.called
    assert failed.value.__cause__ is None


def test_firings_at_the_same_time_have_arguments_of_their_own(world: World) -> None:
    async def later(a: int, b: str) -> list[Any]:
        await asyncio.sleep(0)
        return [a, b]

    world.add(later, effect="read")
    world.add(lambda a, b: [a, b], "threaded", effect="read")
    for name in ("tool", "threaded"):
        bound = world.bind(None, None, capability=name)

        async def both(bound: Bound = bound) -> list[Any]:
            return await asyncio.gather(*(bound.fn(world.context(), number, str(number)) for number in range(20)))

        assert asyncio.run(both()) == [[number, str(number)] for number in range(20)]


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(("own", "node"), [(10, None), (10_000, 10), (10, 10_000), (None, 10)])
def test_the_shorter_timeout_counts(world: World, own: int | None, node: int | None) -> None:
    world.add(forever, timeout_ms=own)
    bound = world.bind(**({} if node is None else {"timeout_ms": node}))
    with pytest.raises(UnknownEffectError, match=r"did not answer within 0\.01 s"):
        world.fire(bound)


def test_a_deadline_of_the_node_that_somebody_else_keeps_means_the_same(world: World) -> None:
    world.add(forever, timeout_ms=None)
    bound = world.bind()

    async def limited() -> None:
        async with asyncio.timeout(0.01):
            await bound.fn(world.context(deadline=monotonic()))

    with pytest.raises(UnknownEffectError):
        asyncio.run(limited())
    assert world.ledger.reserved()["tool_calls"] == 0


def test_a_cancelled_call_leaves_no_reservation_and_is_told(world: World) -> None:
    world.add(forever)
    bound = world.bind()

    async def cancelled() -> None:
        task = asyncio.create_task(bound.fn(world.context()))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    assert world.ledger.reserved()["tool_calls"] == 0
    assert world.ledger.spent()["tool_calls"] == 1  # it went out
    assert [event.ok for event in world.events if isinstance(event, Called)] == [False]


def test_an_exception_of_a_tool_is_a_capability_error(world: World) -> None:
    def broken() -> None:
        raise KeyError("k")

    world.add(broken)
    with pytest.raises(CapabilityError, match="capability `tool` raised KeyError: 'k'") as failed:
        world.fire(world.bind())
    assert isinstance(failed.value.__cause__, KeyError)


def test_an_error_of_a_tool_passes_as_it_is(world: World) -> None:
    def strict() -> None:
        raise DeniedError("not yours")

    world.add(strict)
    with pytest.raises(ApxmError) as failed:
        world.fire(world.bind())
    assert type(failed.value) is DeniedError
