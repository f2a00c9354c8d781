"""The capabilities of one runtime: register, find, describe, invoke. Grants are checked by whoever calls for a program."""

from __future__ import annotations

import re
from difflib import get_close_matches
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from apxm.capability.grants import Grants
from apxm.capability.record import CapabilityRecord, record_of
from apxm.capability.run import Calls
from apxm.capability.tools import files
from apxm.errors import CapabilityError, DeniedError, InvalidError
from apxm.values import check, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CapabilitySystem", "Grants"]

F = TypeVar("F", bound="Callable[..., Any]")

CAPABILITIES_MAX = 10_000  # one registered for each request is a leak, and this names it
_NAME = re.compile(r"[A-Za-z_][\w.:/-]{0,127}")


class CapabilitySystem:
    """A registry with the threads and processes that run what is in it.

    Readers take no lock: a change replaces the whole map. `generation` grows with every change, so that a binding made
    before it can be told apart. The built-in tools are there from the start; they still need a grant.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._records: Mapping[str, CapabilityRecord] = MappingProxyType({})
        self.generation = 0
        self.calls = Calls()
        for name, record in files.records().items():
            self.register(name, record, builtin=True)

    def register(self, name: str, record: CapabilityRecord, *, builtin: bool = False) -> CapabilityRecord:
        """Add a capability; gives the record under its name. A name can be taken once."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidError(f"{name!r:.80} is no capability name", hint="letters, digits, `_ . : / -`, a letter first")
        if not isinstance(record, CapabilityRecord):
            raise InvalidError(f"capability `{name}` is a {type(record).__name__}", hint="give CapabilityRecord(description, fn)")
        with self._lock:
            if name in self._records:
                raise InvalidError(f"capability `{name}` is already registered", hint="unregister it first")
            if len(self._records) >= CAPABILITIES_MAX:
                raise InvalidError(
                    f"capability `{name}` is one more than the {CAPABILITIES_MAX} that a runtime holds",
                    hint="register capabilities once, not per run",
                )
            record = record.registered(name, builtin=builtin)
            self._records = MappingProxyType({**self._records, name: record})
            self.generation += 1
        return record

    def unregister(self, name: str) -> bool:
        """Forget a capability; False when there was none of that name. Runs that are bound keep it to their end."""
        with self._lock:
            if name not in self._records:
                return False
            self._records = MappingProxyType({key: record for key, record in self._records.items() if key != name})
            self.generation += 1
            return True

    def capability(self, name: str | None = None, **options: Any) -> Callable[[F], F]:
        """Register a typed function where it is defined: `@system.capability(effect="read")`. It stays what it is.

        `options` are those of CapabilityRecord; the name is the function's, the description the first paragraph of its
        docstring, unless given.
        """
        if name is not None and not isinstance(name, str):
            raise InvalidError("the decorator `capability` needs parentheses", hint='e.g. @runtime.capability(effect="pure")')

        def register(function: F) -> F:
            self.register(function.__name__ if name is None else name, record_of(function, **options))
            return function

        return register

    def get(self, name: str) -> CapabilityRecord:
        """The record of that name; CapabilityError names the nearest one."""
        record = self._records.get(name)
        if record is None:
            raise CapabilityError(f"capability `{name}` is not registered", hint=self._nearest(name))
        return record

    def has(self, name: str) -> bool:
        return name in self._records

    def list_capability_names(self) -> list[str]:
        """All names, sorted; those of the built-in tools too."""
        return sorted(self._records)

    def describe(self, name: str) -> dict[str, Any]:
        """Description, schemas, effect and limits of a capability, as one JSON map."""
        return self.get(name).describe()

    async def invoke(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout_ms: float | None = None,
        grants: Grants | None = None,
    ) -> Any:
        """Call a capability once with arguments by name, for the host: checked, with timeout, not retried.

        A tool that works beneath directories needs `grants` that name them, as in a program.
        """
        record = granted(self.get(name), grants or Grants())
        whose, signature = f"capability `{name}`", record.signature
        given = settle(dict(arguments or {}), where=f"the arguments of {whose}")
        check(given, f"the arguments of {whose}")
        rest = given.pop(signature.rest, []) if signature.rest is not None else []
        if not isinstance(rest, list):
            raise InvalidError(f"argument `{signature.rest}` of {whose} is no list")
        placed = signature.place((), given, whose, default=lambda value: value, rest=rest)
        signature.verify(placed, whose)
        timeout_s = None if timeout_ms is None else timeout_ms / 1e3
        return await self.calls.call(record, placed.args, placed.kwargs, timeout_s=timeout_s)

    def abandoned(self) -> list[str]:
        """Names of capabilities whose calls were given up and still hold a thread."""
        return self.calls.abandoned()

    def close(self) -> None:
        """End the threads and processes; bounded and idempotent. Nothing can be called afterwards."""
        self.calls.close()

    def _nearest(self, name: str) -> str:
        close = get_close_matches(name, self._records, 1)
        if close:
            return f"close: `{close[0]}`"
        return "registered: " + (", ".join(f"`{each}`" for each in sorted(self._records)[:20]) or "none")


def granted(record: CapabilityRecord, grants: Grants, *, explicit: bool = False) -> CapabilityRecord:
    """The record, working beneath the granted directories if it needs some; DeniedError says what to grant.

    A capability of the host needs no grant, unless `explicit`.
    """
    name = record.name
    if record.rooted:
        roots = grants.roots(name)
        if not roots:
            raise DeniedError(
                f"capability `{name}` works beneath granted directories, and none is granted",
                hint=f"grant `{name}=DIRECTORY`, e.g. RunOptions(grants=['{name}=docs']) or --grant {name}=docs",
            )
        return record.beneath(roots)
    if (record.builtin or explicit) and not grants.allows(name):
        raise DeniedError(
            f"capability `{name}` is not granted", hint=f"grant it: RunOptions(grants=['{name}']) or --grant {name}"
        )
    return record
