"""The capabilities of one runtime: register, find, describe, invoke. Grants are checked by whoever calls for a program."""

from __future__ import annotations

import re
from difflib import get_close_matches
from fnmatch import fnmatchcase
from math import inf
from secrets import token_hex
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from apxm.capability.calling.run import Calls
from apxm.capability.grants import Grants
from apxm.capability.http.broker import Broker
from apxm.capability.http.reach import Reach
from apxm.capability.isolation.sandbox import Sandbox
from apxm.capability.limits import Turnstile
from apxm.capability.policy import UNTRUSTED, Approver, Interceptor
from apxm.capability.record import CapabilityRecord, record_of
from apxm.capability.stages import perform, place_by_name
from apxm.capability.tools import files, interpreter, shell
from apxm.capability.tools.web import Web
from apxm.errors import ApxmError, CapabilityError, DeniedError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from apxm.capability.signature import Placed

__all__ = ["CapabilitySystem", "Grants"]

F = TypeVar("F", bound="Callable[..., Any]")
I = TypeVar("I", bound=Interceptor)  # noqa: E741

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
        self.turnstile = Turnstile()
        self._hooks: tuple[tuple[Interceptor, tuple[str, ...] | None], ...] = ()
        self._approver: Approver | None = None
        self._untrusted = UNTRUSTED
        self.broker = Broker()
        self.web = Web(self.broker)
        self.sandbox = Sandbox()
        tools = (files.records(), self.web.records(), shell.records(self.sandbox), interpreter.records(self.sandbox))
        for name, record in (pair for records in tools for pair in records.items()):
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
        key: str | None = None,
    ) -> Any:
        """Call a capability once with arguments by name, for the host: all stages, with timeout, not retried.

        A tool that works beneath directories needs `grants` that name them, as in a program. The host's arguments have no
        labels: it knows where they come from. `key` is the idempotency key, one of its own for each call unless given.
        """
        record = granted(self.get(name), grants or Grants())
        return await perform(self, record, _Host(record, arguments or {}, timeout_ms, key))

    # ---- policy ----------------------------------------------------------------------------------------------------
    def intercept(self, fn: I, names: Iterable[str] | None = None) -> I:
        """Let `fn(request)` see every call, or those of some capabilities (patterns: `files/*`), before anything is checked.

        It gives Allow(), Deny(reason) or Edit(arguments), or awaits something and then gives it. Interceptors are asked in
        the order in which they were added. One that raises denies. It runs on the loop: a sync one must not block.
        """
        if not callable(fn):
            raise InvalidError(f"the interceptor is a {type(fn).__name__}, expected a function of the request")
        patterns = None if names is None else tuple(names)
        with self._lock:
            self._hooks = (*self._hooks, (fn, patterns))
            self.generation += 1
        return fn

    def remove_interceptor(self, fn: Interceptor) -> bool:
        """Forget an interceptor; False when there was none of it."""
        with self._lock:
            left = tuple(hook for hook in self._hooks if hook[0] is not fn)
            found = len(left) < len(self._hooks)
            self._hooks = left
            self.generation += found
        return found

    def hooks(self, name: str) -> tuple[Interceptor, ...]:
        """The interceptors of one capability, in order."""
        if not self._hooks:
            return ()
        return tuple(fn for fn, patterns in self._hooks if patterns is None or any(fnmatchcase(name, one) for one in patterns))

    @property
    def approver(self) -> Approver | None:
        """Who is asked where a person has to decide: `fn(request)` gives True, False, Allow() or Deny(reason), or awaits it.

        A def runs on a thread, so it may block. None: nobody; such calls are denied.
        """
        return self._approver

    @approver.setter
    def approver(self, fn: Approver | None) -> None:
        if fn is not None and not callable(fn):
            raise InvalidError(f"the approver is a {type(fn).__name__}, expected a function of the request, or None")
        with self._lock:
            self._approver = fn
            self.generation += 1

    @property
    def untrusted(self) -> tuple[str, ...]:
        """Patterns of the labels that must not reach arguments of guarded capabilities; () switches the policy off."""
        return self._untrusted

    @untrusted.setter
    def untrusted(self, patterns: Iterable[str]) -> None:
        self._untrusted = tuple(patterns)

    # ---- limits ----------------------------------------------------------------------------------------------------
    def resources(self, sizes: Mapping[str, int] | None = None) -> dict[str, tuple[int, int]]:
        """Say how many calls may hold a resource at once (1 for those nobody mentions); gives (now, at most) of each."""
        self.turnstile.resize(sizes or {})
        return self.turnstile.sizes()

    def stats(self) -> dict[str, dict[str, Any]]:
        """What became of the calls of each capability since it was registered: see Tally.to_map."""
        return {name: record.tally.to_map() for name, record in sorted(self._records.items())}

    def abandoned(self) -> list[str]:
        """Names of capabilities whose calls were given up and still hold a thread."""
        return self.calls.abandoned()

    def close(self) -> None:
        """End the threads and processes; bounded and idempotent. Nothing can be called afterwards."""
        self.calls.close()
        self.sandbox.close()
        self.broker.close()

    def _nearest(self, name: str) -> str:
        close = get_close_matches(name, self._records, 1)
        if close:
            return f"close: `{close[0]}`"
        return "registered: " + (", ".join(f"`{each}`" for each in sorted(self._records)[:20]) or "none")


class _Host:
    """The host as a client: no budget, no retries, no labels; it is trusted."""

    run = agent = node = None
    retries = 0
    until = deadline = inf

    def __init__(self, record: CapabilityRecord, arguments: Mapping[str, Any], timeout_ms: float | None, key: str | None) -> None:
        self.record, self.arguments = record, arguments
        self.timeout_s = None if timeout_ms is None else timeout_ms / 1e3
        self.where = f"capability `{record.name}`"
        self._key = key

    def placed(self) -> Placed[Any]:
        return place_by_name(self.record, self.arguments, self.where)

    def prepared(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        placed = self.placed()
        self.record.signature.verify(placed, self.where)
        return placed.args, placed.kwargs

    def labels(self) -> dict[str, tuple[str, ...]]:
        return {}

    def trusts(self, label: str, capability: str) -> bool:
        return True

    def key(self, arguments: Mapping[str, Any]) -> str:
        if self._key is None:
            self._key = token_hex(16)
        return self._key

    def reserve(self) -> None:
        return None

    def spend(self) -> None:
        return None

    def permit(self) -> bool:
        return False

    def announce(self, attempt: int, seconds: float, error: ApxmError) -> None:
        return None

    def tell(self, *said: Any) -> None:
        return None

    def chunk(self) -> None:
        return None


def granted(record: CapabilityRecord, grants: Grants, *, explicit: bool = False) -> CapabilityRecord:
    """The record, working beneath the granted directories if it needs some; DeniedError says what to grant.

    A capability of the host needs no grant, unless `explicit`.
    """
    name = record.name
    if not grants.admits(name):
        said = ", ".join(f"`{each}`" for each in sorted(grants.bounds or ())) or "none"
        raise DeniedError(
            f"capability `{name}` is none of those that the agent declares: {said}",
            hint=f"add `{name}` to the `capabilities` of the agent, or let another agent call it",
        )
    if record.rooted:
        roots = grants.roots(name)
        if not roots and not (record.rooted == "optional" and grants.allows(name)):
            if record.rooted == "optional":
                raise DeniedError(
                    f"capability `{name}` is not granted",
                    hint=f"grant it: RunOptions(grants=['{name}']) or --grant {name}; `{name}=DIRECTORY` shows it a directory",
                )
            raise DeniedError(
                f"capability `{name}` works beneath granted directories, and none is granted",
                hint=f"grant `{name}=DIRECTORY`, e.g. RunOptions(grants=['{name}=docs']) or --grant {name}=docs",
            )
        return record.beneath(roots)
    if record.hosted:
        hosts = grants.scopes(name)
        if not hosts:
            raise DeniedError(
                f"capability `{name}` reaches granted hosts, and none is granted",
                hint=f"grant `{name}=HOST`, e.g. RunOptions(grants=['{name}=example.org']) or --grant {name}=example.org; "
                f"`{name}=*` grants every public host",
            )
        Reach.parse(hosts)
        return record.within(hosts)
    if (record.builtin or explicit) and not grants.allows(name):
        raise DeniedError(
            f"capability `{name}` is not granted", hint=f"grant it: RunOptions(grants=['{name}']) or --grant {name}"
        )
    return record
