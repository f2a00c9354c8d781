"""The small fixed world that every conformance case runs in. `note`, `fail` and `flaky` tell what was called."""

from __future__ import annotations

import asyncio
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


PURE = (add, upper, length, echo, join, pair, record, field)


class World:
    """The capabilities of one run, and the calls of those that do something."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self._failures = 0

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

    def records(self) -> dict[str, CapabilityRecord]:
        records = {function.__name__: CapabilityRecord("", function, effect="pure") for function in PURE}
        for name, effect in (("note", "guarded"), ("fail", "guarded"), ("flaky", "read"), ("never", "read")):
            records[name] = CapabilityRecord("", getattr(self, name), effect=effect)
        return records
