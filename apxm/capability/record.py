"""One capability: a function, what it accepts and gives, and how it may be run. Immutable; it calls nothing itself."""

from __future__ import annotations

import copy
import importlib
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from apxm.capability.schema import JsonSchema, Schema, shown
from apxm.capability.signature import Signature, read_signature
from apxm.errors import CapabilityError, InvalidError
from apxm.graph.ops import Effect
from apxm.values import settle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

RunMode: TypeAlias = Literal["inline", "thread", "process"]

RUN_MODES: tuple[str, ...] = get_args(RunMode)
TIMEOUT_MS = 30_000
REPEATABLE = frozenset((Effect.PURE, Effect.READ, Effect.IDEMPOTENT))  # may run again after a failure nobody can explain


class CapabilityRecord:
    """What `CapabilitySystem.register` takes.

    `fn` is a function (def or async def), or for `run="process"` a module-level function or its name `module:function`.
    `parameters` and `result` are JSON Schemas that replace what the type hints say. `effect` is the effect class by name.
    `run` None means: async def and pure def inline, any other def on a thread. `timeout_ms` limits one call (None: no
    limit); a def that runs inline cannot be interrupted. `borrows`: the result is made of the arguments; `gives`: nobody
    else keeps the result. Either spares the copy at emission. `rooted` functions get the granted directories as `roots`.
    """

    __slots__ = (
        "borrows",
        "builtin",
        "description",
        "effect",
        "fn",
        "gives",
        "is_async",
        "name",
        "result",
        "rooted",
        "run",
        "signature",
        "target",
        "timeout_ms",
    )

    def __init__(
        self,
        description: str,
        fn: Callable[..., Any] | str,
        *,
        parameters: Mapping[str, Any] | None = None,
        result: Mapping[str, Any] | None = None,
        effect: str | Effect = Effect.GUARDED,
        run: RunMode | None = None,
        timeout_ms: float | None = TIMEOUT_MS,
        borrows: bool = False,
        gives: bool = False,
        rooted: bool = False,
    ) -> None:
        whose = f"capability {shown_name(fn)}"
        if not isinstance(description, str):
            raise InvalidError(f"{whose} has the description {shown(description)}", hint="CapabilityRecord(description, fn)")
        self.name = ""  # until it is registered
        self.builtin = False
        self.description = description
        self.target = fn if isinstance(fn, str) else None
        self.fn = _imported(fn) if isinstance(fn, str) else _callable(fn, whose)
        self.effect = _effect(effect, whose)
        self.is_async = _is_async(self.fn)
        self.run = self._run_mode(run or ("process" if self.target else None), rooted, whose)
        self.timeout_ms = _timeout(timeout_ms, whose)
        self.borrows, self.gives, self.rooted = borrows, gives, rooted
        self.signature: Signature = read_signature(self.fn, whose, schema=parameters, hidden=("roots",) if rooted else ())
        self.result = JsonSchema(result, f"the result of {whose}") if result is not None else None

    def _run_mode(self, run: str | None, rooted: bool, whose: str) -> RunMode:
        if run is None:
            return "inline" if self.is_async or self.effect is Effect.PURE else "thread"
        if run not in RUN_MODES:
            raise InvalidError(f"{whose} has run={run!r}, expected {', '.join(RUN_MODES)}")
        if self.is_async and run != "inline":
            raise InvalidError(f"{whose} is async and has run={run!r}", hint="an async def runs inline; make it a def")
        if run == "process" and rooted:
            raise InvalidError(f"{whose} works beneath granted directories", hint="such a function runs inline or on a thread")
        if run == "process" and self.target is None:
            self.target = _address(self.fn, whose)
        return run  # type: ignore[return-value]

    @property
    def parameters(self) -> Schema:
        """The closed JSON Schema of the arguments."""
        return self.signature.schema

    @property
    def result_schema(self) -> Schema:
        """The JSON Schema of the result; {} when nothing is promised."""
        return self.result.schema if self.result is not None else self.signature.result.schema

    @property
    def inline_pure(self) -> bool:
        """A plain pure function: may be called by the run loop itself, as often as it likes."""
        return self.effect is Effect.PURE and self.run == "inline" and not self.is_async

    @property
    def repeatable(self) -> bool:
        """Calling it again after a failure does no harm."""
        return self.effect in REPEATABLE

    @property
    def owns(self) -> bool:
        """Its results need no copy: they are made of the arguments, or nobody else keeps them."""
        return self.borrows or self.gives or self.run == "process"

    def confirm(self, value: Any) -> Any:
        """The result, safe to emit, if it is what the capability promises; else CapabilityError."""
        if not self.owns:
            value = settle(value, where=f"the result of capability `{self.name}`")
        if self.result is not None:
            problem = self.result.problem(value)
            if problem is not None:
                raise CapabilityError(f"the result of capability `{self.name}` does not fit its schema: {problem}")
        elif not self.signature.result.accepts(value):
            expected = self.signature.result.text
            raise CapabilityError(f"capability `{self.name}` returned {shown(value)}, expected {expected}")
        return value

    def registered(self, name: str, *, builtin: bool) -> CapabilityRecord:
        """A copy under this name."""
        twin = copy.copy(self)
        twin.name, twin.builtin = name, builtin
        return twin

    def beneath(self, roots: Sequence[str]) -> CapabilityRecord:
        """A copy that works beneath these directories only."""
        twin = copy.copy(self)
        twin.fn = partial(self.fn, roots=tuple(roots))
        return twin

    def describe(self) -> dict[str, Any]:
        """Everything a person or a model has to know to call it."""
        return {
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
            "result": self.result_schema,
            "effect": self.effect.value,
            "run": self.run,
            "timeout_ms": self.timeout_ms,
            "builtin": self.builtin,
        }

    def __repr__(self) -> str:
        return f"<CapabilityRecord {self.name or shown_name(self.fn)}: {self.effect.value}, {self.run}>"


def record_of(fn: Callable[..., Any], description: str | None = None, **options: Any) -> CapabilityRecord:
    """A record of a documented function: its description is the first paragraph of its docstring."""
    if description is None:
        description = " ".join((inspect.getdoc(fn) or "").split("\n\n")[0].split())
    return CapabilityRecord(description, fn, **options)


def shown_name(fn: Any) -> str:
    """How an error names a function that has no name as a capability yet."""
    return f"`{fn if isinstance(fn, str) else getattr(fn, '__qualname__', None) or type(fn).__qualname__}`"


def _callable(fn: Any, whose: str) -> Callable[..., Any]:
    if not callable(fn):
        raise InvalidError(f"{whose} is {shown(fn)}, expected a function", hint="CapabilityRecord(description, fn)")
    if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
        raise InvalidError(f"{whose} is a generator", hint="return a list; streaming capabilities are not supported yet")
    return fn  # type: ignore[no-any-return]


def _is_async(fn: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004


def _effect(effect: str | Effect, whose: str) -> Effect:
    try:
        return Effect(effect)
    except ValueError:
        expected = ", ".join(each.value for each in Effect)
        raise InvalidError(f"{whose} has the effect {effect!r}, expected one of {expected}") from None


def _timeout(timeout_ms: float | None, whose: str) -> float | None:
    if timeout_ms is not None and (type(timeout_ms) not in (int, float) or not timeout_ms > 0):
        raise InvalidError(f"{whose} has timeout_ms={timeout_ms!r}, expected a number above 0, or None for no limit")
    return timeout_ms


def _address(fn: Any, whose: str) -> str:
    """`module:function`, as a fresh process can import it."""
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", "<object>")
    if not module or module == "__main__" or "<" in name or isinstance(fn, partial):
        raise InvalidError(
            f'{whose} has run="process", and another process cannot import it',
            hint="use a function at the top of an importable module, or give its name `module:function`",
        )
    return f"{module}:{name}"


def _imported(target: str) -> Callable[..., Any]:
    module, _, path = target.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidError(f"capability `{target}` cannot be imported: {error}", hint="write `module:function`") from error
    return _callable(found, f"capability `{target}`")
