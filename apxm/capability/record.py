"""One capability: a function, what it accepts and gives, and how it may be run. Immutable; it calls nothing itself."""

from __future__ import annotations

import copy
import importlib
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from apxm.capability.limits import Limits, Rate
from apxm.capability.schema import JsonSchema, Schema, shown
from apxm.capability.signature import Signature, is_async, read_signature, takes
from apxm.capability.tally import Tally
from apxm.errors import CapabilityError, InvalidError
from apxm.graph.ops import Effect
from apxm.values import settle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

RunMode: TypeAlias = Literal["inline", "thread", "process"]

RUN_MODES: tuple[str, ...] = get_args(RunMode)
TIMEOUT_MS = 30_000
REPEATABLE = frozenset((Effect.PURE, Effect.READ, Effect.IDEMPOTENT))  # may run again after a failure nobody can explain
KEY = "idempotency_key"  # the parameter of that name is filled by us, and hidden from the schema


class CapabilityRecord:
    """What `CapabilitySystem.register` takes.

    `fn` is a function (def or async def), or for `run="process"` a module-level function or its name `module:function`.
    `parameters` and `result` are JSON Schemas that replace what the type hints say. `effect` is the effect class by name.
    `run` None means: async def and pure def inline, any other def on a thread. `timeout_ms` limits one call (None: no
    limit); a def that runs inline cannot be interrupted. `borrows`: the result is made of the arguments; `gives`: nobody
    else keeps the result. Either spares the copy at emission. `rooted` functions get the granted directories as `roots`
    ("optional": perhaps none), `hosted` ones the granted hosts as `hosts`. `source` says where results come from, for the
    label policy: `web` is what strangers wrote; else they are labelled `tool:<name>`, or not at all when the effect is pure.

    A generator, sync or async, streams: its chunks are told while they come; its value is their text, bytes or list.

    `approval`: a person is asked before each call. `trusts`: patterns of labels (`llm:*`, `web`) that may reach the arguments
    of this guarded capability; `guards`: the only arguments they have to be kept from (None: all). `keyed`: it gets an
    `idempotency_key`, as every function with a parameter of that name does, so that even a guarded call may be repeated.
    `reconcile(key, arguments)` is asked what became of a guarded call whose answer got lost: {"happened": True, "value": …},
    {"happened": False}, or None when nobody knows.

    `concurrency`: calls at once. `rate`: `5/s`, `100/min burst 20`. `resources`: names of what one call at a time may hold;
    `CapabilitySystem.resources` gives them more room.
    """

    __slots__ = (
        "approval",
        "borrows",
        "builtin",
        "concurrency",
        "description",
        "effect",
        "fn",
        "gives",
        "guards",
        "hosted",
        "is_async",
        "keyed",
        "limits",
        "name",
        "rate",
        "reconcile",
        "resources",
        "result",
        "rooted",
        "run",
        "signature",
        "source",
        "streams",
        "tally",
        "target",
        "timeout_ms",
        "trusts",
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
        rooted: bool | Literal["optional"] = False,
        hosted: bool = False,
        source: str | None = None,
        approval: bool = False,
        trusts: Sequence[str] = (),
        guards: Sequence[str] | None = None,
        keyed: bool = False,
        reconcile: Callable[..., Any] | None = None,
        concurrency: int | None = None,
        rate: str | None = None,
        resources: Sequence[str] = (),
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
        self.streams = inspect.isgeneratorfunction(self.fn) or inspect.isasyncgenfunction(self.fn)
        self.is_async = is_async(self.fn) or inspect.isasyncgenfunction(self.fn)
        self.run = self._run_mode(run or ("process" if self.target else None), bool(rooted or hosted), whose)
        self.timeout_ms = _timeout(timeout_ms, whose)
        self.borrows, self.gives, self.rooted, self.hosted = borrows, gives, rooted, hosted
        self.source = _source(source, self.effect, whose)
        self.keyed = _keyed(self.fn, keyed, whose)
        hidden = tuple(name for name, is_so in (("roots", rooted), ("hosts", hosted), (KEY, self.keyed)) if is_so)
        self.signature: Signature = read_signature(self.fn, whose, schema=parameters, hidden=hidden, streams=self.streams)
        self.result = JsonSchema(result, f"the result of {whose}") if result is not None else None
        self.approval = approval
        self.trusts = _names(trusts, f"trusts of {whose}")
        self.guards = None if guards is None else self._known(_names(guards, f"guards of {whose}"), whose)
        self.concurrency = _concurrency(concurrency, whose)
        self.rate = None if rate is None else Rate.parse(rate, whose)
        self.resources = _names(resources, f"resources of {whose}")
        self.reconcile = None if reconcile is None else _reconciling(reconcile, timeout_ms)
        self.tally, self.limits = Tally(), self._limits()

    def _run_mode(self, run: str | None, scoped: bool, whose: str) -> RunMode:
        if run is None:
            return "inline" if self.is_async or (self.effect is Effect.PURE and not self.streams) else "thread"
        if run not in RUN_MODES:
            raise InvalidError(f"{whose} has run={run!r}, expected {', '.join(RUN_MODES)}")
        if self.is_async and run != "inline":
            raise InvalidError(f"{whose} is async and has run={run!r}", hint="an async def runs inline; make it a def")
        if run == "process" and self.streams:
            raise InvalidError(f"{whose} is a generator", hint="one that streams runs inline or on a thread; or return a list")
        if run == "process" and scoped:
            text = f"{whose} works beneath granted directories, or reaches granted hosts"
            raise InvalidError(text, hint="such a function runs inline or on a thread")
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
    def label(self) -> str | None:
        """The provenance of its results."""
        return self.source or (None if self.effect is Effect.PURE else f"tool:{self.name}")

    @property
    def plain(self) -> bool:
        """A function that runs inline, of which nothing is asked but its value: no waiting, no key, nobody's approval."""
        extra = self.is_async or self.streams or self.approval or self.keyed or self.limits is not None
        return self.run == "inline" and not extra

    @property
    def inline_pure(self) -> bool:
        """A plain pure function: may be called by the run loop itself, as often as it likes."""
        return self.effect is Effect.PURE and self.plain

    @property
    def harmless(self) -> bool:
        """By its effect class, calling it once more than intended does no harm."""
        return self.effect in REPEATABLE

    @property
    def repeatable(self) -> bool:
        """Calling it again after a failure does no harm: by its effect, or because it knows the call by its key."""
        return self.keyed or self.harmless

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
        twin.tally, twin.limits = Tally(), self._limits()
        if self.reconcile is not None:
            twin.reconcile = self.reconcile.registered(f"{name} (reconcile)", builtin=builtin)
        return twin

    def _limits(self) -> Limits | None:
        limited = self.concurrency is not None or self.rate is not None or self.resources
        return Limits(self.concurrency, self.rate, self.resources) if limited else None

    def _known(self, names: tuple[str, ...], whose: str) -> tuple[str, ...]:
        """The names, if all of them are parameters."""
        known = self.parameters.get("properties", {})
        unknown = [name for name in names if name not in known and self.signature.extra is None]
        if unknown:
            raise InvalidError(
                f"{whose} guards `{unknown[0]}`, which is no parameter", hint=f"it has {', '.join(known) or 'none'}"
            )
        return names

    def beneath(self, roots: Sequence[str]) -> CapabilityRecord:
        """A copy that works beneath these directories only."""
        twin = copy.copy(self)
        twin.fn = partial(self.fn, roots=tuple(roots))
        return twin

    def within(self, hosts: Sequence[str]) -> CapabilityRecord:
        """A copy that reaches these hosts only."""
        twin = copy.copy(self)
        twin.fn = partial(self.fn, hosts=tuple(hosts))
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
            "streams": self.streams,
            "approval": self.approval,
            "keyed": self.keyed,
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
    return fn  # type: ignore[no-any-return]


def _keyed(fn: Callable[..., Any], wanted: bool, whose: str) -> bool:
    """Whether the function gets a key; InvalidError when it should and cannot."""
    found = takes(fn, KEY)
    if wanted and found is False:
        raise InvalidError(f"{whose} is keyed and has no parameter `{KEY}`", hint=f"add `*, {KEY}: str`")
    return wanted or found is True


def _reconciling(fn: Callable[..., Any], timeout_ms: float | None) -> CapabilityRecord:
    """How to find out what became of a call: a capability of its own, that nobody else can call."""
    if not callable(fn):
        raise InvalidError(f"reconcile is {shown(fn)}, expected a function of the key and the arguments")
    return CapabilityRecord("What became of a call.", fn, effect=Effect.READ, timeout_ms=timeout_ms)


def _names(names: Sequence[str], what: str) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise InvalidError(f"the {what} are {names!r:.80}, expected a list of names")
    return tuple(dict.fromkeys(names))


def _concurrency(limit: int | None, whose: str) -> int | None:
    if limit is not None and (type(limit) is not int or limit < 1):
        raise InvalidError(f"{whose} has concurrency={limit!r}, expected a whole number of 1 or more, or None for no limit")
    return limit


def _effect(effect: str | Effect, whose: str) -> Effect:
    try:
        return Effect(effect)
    except ValueError:
        expected = ", ".join(each.value for each in Effect)
        raise InvalidError(f"{whose} has the effect {effect!r}, expected one of {expected}") from None


def _source(source: str | None, effect: Effect, whose: str) -> str | None:
    if source is not None and (not isinstance(source, str) or not source or effect is Effect.PURE):
        raise InvalidError(
            f"{whose} is {effect.value} and has source={source!r}", hint="a label such as `web`; pure ones have none"
        )
    return source


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
