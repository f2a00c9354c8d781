"""Capabilities and a model for random programs: cheap, deterministic, and so that a wrong wire gives a wrong result."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apxm.errors import TransientError
from apxm.testing.firing import MODEL, Capability, canonical

if TYPE_CHECKING:
    from collections.abc import Callable


def number_of(value: Any) -> int:
    """A small number that depends on every part of a value."""
    if type(value) is int and 0 <= value < 1000:
        return value
    return zlib.crc32(json.dumps(canonical(value), sort_keys=True).encode()) % 1000


def mix(a: Any, b: Any) -> int:
    """A number that depends on both and on their order."""
    return (number_of(a) * 31 + number_of(b) * 7 + 1) % 1000


def add(a: Any, b: Any) -> int:
    """The sum, kept small."""
    return (number_of(a) + number_of(b)) % 1000


def concat(a: Any, b: Any) -> str:
    """A text of both."""
    return f"{number_of(a)}.{number_of(b)}"


def pick(x: Any) -> str:
    """One of three cases."""
    return "abc"[number_of(x) % 3]


def span(x: Any) -> list[int]:
    """A list of up to three numbers."""
    start = number_of(x)
    return [start + step for step in range(start % 4)]


def fields(a: Any, b: Any) -> dict[str, int]:
    """A map that a LOOP with two carried names takes."""
    return {"acc": mix(a, b), "other": add(a, b)}


def blame(error: Any) -> str:
    """What is promised about an error, without its wording."""
    return f"{error['class']}/{error['code']}/{error['node']}" if isinstance(error, dict) and "class" in error else "none"


def fail_if_odd(x: Any) -> int:
    """Fails for half of all values."""
    number = number_of(x)
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


def fail_if_third(x: Any) -> int:
    """Fails for a third of all values."""
    number = number_of(x)
    if number % 3 == 0:
        raise ValueError(f"{number} is a third")
    return number


async def _wait(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def later(x: Any) -> int:
    """Suspends up to three times."""
    number = number_of(x)
    await _wait(number % 4)
    return (number * 3 + 1) % 1000


async def fail_later(x: Any) -> int:
    """Suspends, then fails for half of all values."""
    number = number_of(x)
    await _wait(number % 3)
    return fail_if_odd(number)


async def look(a: Any, b: Any) -> int:
    """A read that may suspend."""
    await _wait(number_of(b) % 2)
    return mix(b, a)


async def note(x: Any) -> int:
    """An idempotent effect that suspends twice."""
    await _wait(2)
    return add(x, 5)


async def act(x: Any) -> int:
    """A guarded effect that suspends up to three times."""
    await _wait(number_of(x) % 4)
    return mix(x, 9)


async def act_or_fail(x: Any) -> int:
    """A guarded effect that suspends, and fails for a third of all values."""
    await _wait(1)
    return fail_if_third(x)


@dataclass(frozen=True, slots=True)
class Listed:
    """One capability of the set: `gives` is what kind of value comes out, `fails` whether it may fail."""

    fn: Capability
    effect: str
    gives: str = "int"
    fails: bool = False


CAPABILITIES: dict[str, Listed] = {
    "mix": Listed(mix, "pure"),
    "add": Listed(add, "pure"),
    "concat": Listed(concat, "pure", "str"),
    "pick": Listed(pick, "pure", "case"),
    "span": Listed(span, "pure", "list"),
    "fields": Listed(fields, "pure", "fields"),
    "blame": Listed(blame, "pure", "str"),
    "fail_if_odd": Listed(fail_if_odd, "pure", fails=True),
    "fail_if_third": Listed(fail_if_third, "pure", fails=True),
    "later": Listed(later, "pure"),
    "fail_later": Listed(fail_later, "pure", fails=True),
    "look": Listed(look, "read"),
    "note": Listed(note, "idempotent"),
    "act": Listed(act, "guarded"),
    "act_or_fail": Listed(act_or_fail, "guarded", fails=True),
}


class Faults:
    """How often each key was asked for in one run: what fails a few times before it works counts here."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def meet(self, key: str, fails: int) -> None:
        """Raises TransientError the first `fails` times."""
        self.asked[key] += 1
        if self.asked[key] <= fails:
            raise TransientError(f"{key} fails {self.asked[key]} of {fails} times")


def flaky(faults: Faults) -> dict[str, Listed]:
    """Capabilities that fail `fails` times under their key before they work."""

    def wobble(x: Any, key: str, fails: int) -> int:
        """Pure: the engine tries it again."""
        faults.meet(key, fails)
        return mix(x, 3)

    async def falter(x: Any, key: str, fails: int) -> int:
        """An idempotent effect: whoever calls it tries again."""
        await _wait(1)
        faults.meet(key, fails)
        return mix(x, 4)

    async def falter_once(x: Any, key: str, fails: int) -> int:
        """A guarded effect: nobody tries it again."""
        await _wait(1)
        faults.meet(key, fails)
        return mix(x, 6)

    return {
        "wobble": Listed(wobble, "pure", fails=True),
        "falter": Listed(falter, "idempotent", fails=True),
        "falter_once": Listed(falter_once, "guarded", fails=True),
    }


_MARK = re.compile(r"\[(\w+) fails (\d+)\]")


def answering(faults: Faults) -> Capability:
    """A model as a function of its prompt, which may begin with `[key fails 2]`."""

    async def answer(prompt: str) -> str:
        await _wait(number_of(prompt) % 3)
        if mark := _MARK.match(prompt):
            faults.meet(mark[1], int(mark[2]))
        return f"{pick(prompt)}{number_of(prompt)}"

    return answer


def functions() -> dict[str, Capability]:
    """The set as the oracle takes it, for one run: what fails at first has not been asked for yet."""
    faults = Faults()
    listed = {**CAPABILITIES, **flaky(faults)}
    return {**{name: one.fn for name, one in listed.items()}, MODEL: answering(faults)}


def guarded() -> frozenset[str]:
    """Those of the set that nobody may call a second time."""
    return frozenset(name for name, one in {**CAPABILITIES, **flaky(Faults())}.items() if one.effect == "guarded")


def blocking(fn: Capability) -> Capability:
    """An async capability of the set as a plain function, for a thread: what it waits for, it waits for here."""

    @functools.wraps(fn)
    def run(*args: Any, **named: Any) -> Any:
        coroutine = fn(*args, **named)
        while True:
            try:
                coroutine.send(None)
            except StopIteration as stop:
                return stop.value

    return run


def recorded(name: str, fn: Capability, calls: list[tuple[str, str]]) -> Capability:
    """The same capability, which also writes down each call as `(name, arguments as JSON)`."""
    signature = inspect.signature(fn)

    def write(args: tuple[Any, ...], named: dict[str, Any]) -> None:
        given = signature.bind(*args, **named).arguments
        calls.append((name, json.dumps(canonical(given), sort_keys=True)))

    if inspect.iscoroutinefunction(fn):
        waiting: Callable[..., Any] = fn

        @functools.wraps(fn)
        async def call_later(*args: Any, **named: Any) -> Any:
            write(args, named)
            return await waiting(*args, **named)

        return call_later

    @functools.wraps(fn)
    def call(*args: Any, **named: Any) -> Any:
        write(args, named)
        return fn(*args, **named)

    return call
