"""Turns, rates and resources: who waits for what, in which order, and that nothing is lost when somebody gives up."""

from __future__ import annotations

import asyncio
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest

from apxm.capability.limits import Bucket, Rate, Turnstile
from apxm.capability.record import CapabilityRecord
from apxm.capability.system import CapabilitySystem
from apxm.errors import InvalidError, UnknownEffectError
from apxm.testing.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def system() -> Iterator[CapabilitySystem]:
    system = CapabilitySystem()
    yield system
    system.close()


class Door:
    """A capability that waits until it is let go; `inside` are those that are at it."""

    def __init__(self) -> None:
        self.inside: list[Any] = []
        self.most = 0
        self.order: list[Any] = []
        self.open = asyncio.Event()

    async def __call__(self, who: int) -> int:
        self.inside.append(who)
        self.order.append(who)
        self.most = max(self.most, len(self.inside))
        await self.open.wait()
        self.inside.remove(who)
        return who


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_no_more_calls_than_its_concurrency_are_in_flight_and_the_first_come_first(system: CapabilitySystem) -> None:
    async def drive() -> None:
        door = Door()
        system.register("door", CapabilityRecord("x", door, concurrency=2))
        calls = [asyncio.create_task(system.invoke("door", {"who": who})) for who in range(6)]
        await settle()
        assert door.inside == [0, 1]
        assert system.turnstile.waiting == 4
        door.open.set()
        assert await asyncio.gather(*calls) == list(range(6))
        assert (door.most, door.order) == (2, list(range(6)))

    asyncio.run(drive())
    assert system.turnstile.waiting == 0
    assert system.resources() == {}


def test_a_resource_is_for_one_call_at_a_time_until_it_is_said_otherwise(system: CapabilitySystem) -> None:
    async def drive() -> None:
        door = Door()
        system.register("one", CapabilityRecord("x", door, resources=["db"]))
        system.register("two", CapabilityRecord("x", door, resources=["db"]))
        calls = [asyncio.create_task(system.invoke(name, {"who": who})) for who, name in enumerate(["one", "two", "one"])]
        await settle()
        assert door.inside == [0]
        assert system.resources() == {"db": (1, 1)}
        assert system.resources({"db": 2}) == {"db": (2, 2)}
        await settle()
        assert door.inside == [0, 1]
        door.open.set()
        await asyncio.gather(*calls)

    asyncio.run(drive())
    assert system.resources() == {"db": (0, 2)}


def test_a_call_that_needs_two_things_holds_neither_while_it_waits_and_is_not_passed() -> None:
    async def drive() -> list[str]:
        turnstile, order = Turnstile(), []
        gates = {name: asyncio.Event() for name in ("a", "ab", "b")}

        async def hold(name: str, *needs: str) -> None:
            async with turnstile.turn(needs):
                order.append(name)
                await gates[name].wait()

        tasks = [asyncio.create_task(hold("a", "a"))]
        await settle()
        tasks.append(asyncio.create_task(hold("ab", "a", "b")))
        await settle()
        assert turnstile.sizes() == {"a": (1, 1)}  # `b` is free, though somebody waits who needs it
        tasks.append(asyncio.create_task(hold("b", "b")))  # who comes later does not get it before him
        await settle()
        assert order == ["a"]
        for name in ("a", "ab", "b"):
            gates[name].set()
        await asyncio.gather(*tasks)
        assert turnstile.sizes() == {}
        return order

    assert asyncio.run(drive()) == ["a", "ab", "b"]


@pytest.mark.parametrize("granted", [False, True], ids=["still waiting", "granted a moment before"])
def test_a_waiter_that_is_cancelled_leaves_nothing_behind(granted: bool) -> None:
    async def drive() -> None:
        turnstile, gate = Turnstile(), asyncio.Event()

        async def hold() -> None:
            async with turnstile.turn(("a",)):
                await gate.wait()

        first, second = asyncio.create_task(hold()), asyncio.create_task(hold())
        await settle()
        if granted:  # the turn is given in the same breath in which the waiter is cancelled
            first.cancel()
            await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        gate.set()
        await asyncio.gather(first, return_exceptions=True)
        assert turnstile.waiting == 0
        assert turnstile.sizes() == {}
        async with turnstile.turn(("a",)):
            pass

    asyncio.run(drive())


def test_calls_on_different_loops_share_one_limit(system: CapabilitySystem) -> None:
    inside, go, most = [], Event(), []

    def work(who: int) -> int:
        inside.append(who)
        most.append(len(inside))
        go.wait(10)
        inside.remove(who)
        return who

    system.register("work", CapabilityRecord("x", work, concurrency=1))
    threads = [Thread(target=lambda who=who: asyncio.run(system.invoke("work", {"who": who}))) for who in range(4)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(10)
    assert max(most) == 1
    assert len(most) == 4


def test_a_loop_that_was_closed_while_it_waited_gives_its_turn_back() -> None:
    turnstile = Turnstile()

    async def hold(gate: asyncio.Event) -> None:
        async with turnstile.turn(("a",)):
            await gate.wait()

    async def begin() -> None:
        await asyncio.sleep(0)

    dead, alive = asyncio.new_event_loop(), asyncio.new_event_loop()
    first = alive.create_task(hold(gate := asyncio.Event()))
    alive.run_until_complete(begin())
    waiting = dead.create_task(hold(asyncio.Event()))
    dead.run_until_complete(begin())
    assert turnstile.waiting == 1
    dead.close()
    gate.set()
    alive.run_until_complete(first)
    assert turnstile.sizes() == {}
    assert turnstile.waiting == 0
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]
    alive.close()


def test_a_call_that_hangs_does_not_keep_its_turn(system: CapabilitySystem) -> None:
    go = Event()

    def work(hang: bool) -> str:
        if hang:
            go.wait(20)
        return "done"

    system.register("work", CapabilityRecord("x", work, concurrency=1))

    async def drive() -> str:
        with pytest.raises(UnknownEffectError, match="did not answer within"):
            await system.invoke("work", {"hang": True}, timeout_ms=20)
        done: str = await system.invoke("work", {"hang": False})
        return done

    assert asyncio.run(drive()) == "done"
    assert system.abandoned() == ["work"]
    assert system.stats()["work"]["in_flight"] == 0
    go.set()


# --- rates --------------------------------------------------------------------------------------------------------------


def test_a_rate_spaces_calls_evenly_and_a_burst_is_saved_up() -> None:
    bucket = Bucket(Rate(calls=2, seconds=1, burst=2))
    assert [bucket.wait_s(10.0), bucket.wait_s(10.0), bucket.wait_s(10.0)] == [0, 0, 0.5]
    assert bucket.wait_s(10.25) == pytest.approx(0.25)
    assert bucket.wait_s(10.5) == 0
    assert bucket.wait_s(10.5) > 0
    assert [bucket.wait_s(100.0), bucket.wait_s(100.0)] == [0, 0]  # no more than the burst
    assert bucket.wait_s(100.0) > 0


@pytest.mark.parametrize(
    ("text", "rate"),
    [("5/s", Rate(5, 1)), ("100/min burst 20", Rate(100, 60, 20)), ("0.5/second", Rate(0.5, 1)), (" 3 / h ", Rate(3, 3600))],
)
def test_a_rate_is_read_from_a_text(text: str, rate: Rate) -> None:
    assert Rate.parse(text, "x") == rate


@pytest.mark.parametrize("text", ["", "5", "5/", "/s", "0/s", "-1/s", "5/day", "5/s burst 0", "5/s burst x", "nan/s", "inf/s"])
def test_a_rate_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="has the rate"):
        Rate.parse(text, "capability `x`")


def test_calls_wait_for_their_rate_in_order_and_a_cancelled_one_takes_none(system: CapabilitySystem) -> None:
    clock, at = VirtualClock(), []

    async def note(who: int) -> int:
        at.append((who, round(asyncio.get_running_loop().time() - began, 3)))
        return who

    system.register("note", CapabilityRecord("x", note, rate="1/s"))

    async def drive() -> None:
        calls = [asyncio.create_task(system.invoke("note", {"who": who})) for who in range(4)]
        await settle()
        calls[1].cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    loop = clock.new_event_loop()
    began = loop.time()
    try:
        loop.run_until_complete(drive())
    finally:
        loop.close()
    assert at == [(0, 0.0), (2, 1.0), (3, 2.0)]
    assert system.turnstile.waiting == 0


# --- what makes no sense ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency=0"),
        ({"concurrency": True}, "concurrency=True"),
        ({"rate": "often"}, "rate 'often'"),
        ({"resources": "db"}, "expected a list of names"),
        ({"resources": [""]}, "expected a list of names"),
        ({"trusts": "web"}, "trusts of"),
        ({"guards": ["nope"]}, "guards `nope`"),
        ({"keyed": True}, "has no parameter `idempotency_key`"),
        ({"reconcile": 3}, "reconcile is 3"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    def plain(a: int) -> int:
        return a

    with pytest.raises(InvalidError, match=message):
        CapabilityRecord("x", plain, **options)


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_a_resource_has_room_for_one_at_least(system: CapabilitySystem, size: Any) -> None:
    with pytest.raises(InvalidError, match="resource `db` has the size"):
        system.resources({"db": size})
