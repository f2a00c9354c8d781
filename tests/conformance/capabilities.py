"""The small fixed world that every conformance case runs in. `note`, `fail` and `flaky` tell what was called."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator  # noqa: TC003  (the hints of capabilities are read)
from typing import Any

from apxm.capability.record import CapabilityRecord
from apxm.errors import TransientError


def add(a: int, b: int) -> int:
    return a + b


def upper(text: str) -> str:
    return text.upper()


def length(value: Any) -> int:
    return len(value)


def echo(value: Any) -> Any:
    return value


def join(parts: list[str], by: str = ", ", start: str = "") -> str:
    return start + by.join(parts)


def pair(a: Any, b: Any) -> dict[str, Any]:
    return {"a": a, "b": b}


def record(kind: str, of: Any) -> dict[str, Any]:
    return {"kind": kind, "of": of}


def field(of: dict[str, Any], name: str) -> Any:
    return of[name]


PURE = {
    function.__name__: CapabilityRecord("", function, effect="pure")
    for function in (add, upper, length, echo, join, pair, record, field)
}


class World:
    """The capabilities of one run, and the calls of those that do something."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self._failures = 0
        self._keys: dict[str, int] = {}  # in the order in which `pay` met them

    async def note(self, text: str) -> str:
        self.calls.append(["note", {"text": text}])
        return text

    async def fail(self, message: str) -> None:
        raise ValueError(message)

    async def flaky(self, times: int) -> int:
        self._failures += 1
        if self._failures <= times:
            raise TransientError(f"failure {self._failures} of {times}")
        return self._failures

    async def never(self) -> None:
        await asyncio.Event().wait()

    def spell(self, text: str) -> Iterator[str]:
        for letter in text:
            yield f"{letter}."

    async def lose(self) -> None:
        self.calls.append(["lose", {}])
        raise ConnectionResetError("the answer got lost")

    async def pay(self, amount: int, *, idempotency_key: str) -> int:
        self._keys.setdefault(idempotency_key, len(self._keys) + 1)
        self.calls.append(["pay", {"amount": amount, "key": self._keys[idempotency_key]}])
        if len(self.calls) == 1:
            raise ConnectionResetError("the answer got lost")
        return amount

    def records(self) -> dict[str, CapabilityRecord]:
        records = dict(PURE)
        several = {"guarded": ("note", "fail", "lose", "pay"), "read": ("flaky", "never", "spell")}
        for effect, names in several.items():
            records |= {name: CapabilityRecord("", getattr(self, name), effect=effect) for name in names}
        return records
