"""Which calls to the world go wrong in a test, and how: at the edge of a runtime, never inside it.

    plan = FaultPlan(seed=7)
    plan.capability("fetch").fail("transient", calls=(1, 3)).delay(5, calls=2)
    plan.capability("store").fail(calls=1, after=True)           # it happened, and the answer got lost
    plan.model().hang(calls=2)                                   # the default model; until it is cancelled
    plan.capability("price").lie(-1, probability=0.1)
    plan.install(runtime)                                        # after the capabilities and models are registered
    ...
    plan.check()                                                 # every planned fault happened, else FaultsMissed

A fault has `calls` (one number or several, from 1), or a `probability`, or is for every call. With `where`, a function of the
arguments (of the Prompt, for a model), only the calls that it accepts are counted. Of several faults on one call all delays
happen, then the first of the others. What happened is in `log`. The chances come from `seed`, target and call number alone.

A faulty capability is awaited on the event loop, and calls the real one as before: in its thread, its process, or there.
"""

from __future__ import annotations

import asyncio
import copy
import random
from dataclasses import dataclass, field
from functools import wraps
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakSet

from apxm.errors import (
    ApxmError,
    CapabilityError,
    DeniedError,
    InvalidError,
    ModelError,
    TransientError,
    UnknownEffectError,
)
from apxm.llm.base import Reply, Usage, prompt_tokens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from apxm.capability.record import CapabilityRecord
    from apxm.capability.system import CapabilitySystem
    from apxm.llm.base import LanguageModel, Prompt
    from apxm.runtime import Runtime

HANG_MAX_S = 600.0  # of the event loop's time: a hang that nothing ends shall not hold a test for ever
CLASSES: dict[str, type[ApxmError] | None] = {  # None: the error of a capability or of a model, whichever it is
    "transient": TransientError,
    "fatal": None,
    "invalid": InvalidError,
    "denied": DeniedError,
    "unknown": UnknownEffectError,
}

How: TypeAlias = "str | BaseException | type[BaseException]"
Calls: TypeAlias = "int | Iterable[int] | None"


class FaultsMissed(AssertionError):
    """A planned fault did not happen: the test did not test what it says."""


@dataclass(frozen=True, slots=True)
class Injected:
    """One fault that happened: on which call of what (`call` counts all of them), and what was done."""

    target: str
    call: int
    fault: str


@dataclass(slots=True, eq=False)
class _Fault:
    """One planned fault. `kind` is delay, fail, hang or lie; `value` is what it takes."""

    kind: str
    shown: str
    value: Any
    calls: frozenset[int] | None
    probability: float | None
    where: Callable[..., Any] | None
    after: bool = False
    counted: int = 0
    happened: set[int] = field(default_factory=set)

    def is_due(self, arguments: tuple[tuple[Any, ...], dict[str, Any]], draw: Callable[[], float]) -> bool:
        """Whether this call is one of its calls; to be asked once for each call."""
        if self.where is not None and not self.where(*arguments[0], **arguments[1]):
            return False
        self.counted += 1
        if self.calls is not None and self.counted not in self.calls:
            return False
        return self.probability is None or draw() < self.probability

    def missed(self) -> str | None:
        """What it lacks to have happened as planned."""
        if self.calls is not None:
            missing = sorted(self.calls - self.happened)
            if missing:
                return f"{self.shown} on call {', '.join(map(str, missing))}"
        elif not self.counted or (self.probability is None and not self.happened):
            return self.shown
        return None


class Target:
    """One capability or model of a plan. Every method adds a fault and gives the target back."""

    def __init__(self, kind: str, name: str | None, seed: int) -> None:
        self.kind, self.name, self.seed = kind, name, seed
        self.calls = 0
        self.log: list[Injected] = []
        self._faults: list[_Fault] = []
        self._lock = Lock()

    def fail(
        self,
        how: How = "transient",
        *,
        calls: Calls = None,
        probability: float | None = None,
        where: Callable[..., Any] | None = None,
        after: bool = False,
    ) -> Target:
        """Raise: a class of failure (transient, fatal, invalid, denied, unknown) or an exception of your own.

        With `after`, the real call is made first: it happened, and whoever called does not know.
        """
        if isinstance(how, str) and how not in CLASSES:
            raise InvalidError(f"a fault fails with {how!r}, expected one of {', '.join(CLASSES)}, or an exception")
        shown = how if isinstance(how, str) else how.__name__ if isinstance(how, type) else type(how).__name__
        return self._add("fail", f"fail {shown}{' after the call' if after else ''}", how, calls, probability, where, after)

    def hang(self, *, calls: Calls = None, probability: float | None = None, where: Callable[..., Any] | None = None) -> Target:
        """Give no answer until the call is cancelled: by its timeout, a deadline, the end of the run."""
        return self._add("hang", "hang", None, calls, probability, where)

    def delay(
        self,
        seconds: float,
        *,
        calls: Calls = None,
        probability: float | None = None,
        where: Callable[..., Any] | None = None,
    ) -> Target:
        """Wait first, by the time of the event loop: with a virtual clock it costs nothing."""
        if not seconds > 0:
            raise InvalidError(f"a fault delays by {seconds!r}, expected seconds above 0")
        return self._add("delay", f"delay {seconds:g} s", seconds, calls, probability, where)

    def lie(
        self,
        value: Any,
        *,
        calls: Calls = None,
        probability: float | None = None,
        where: Callable[..., Any] | None = None,
    ) -> Target:
        """Answer with a wrong value, without the real call; a function is given the real answer and makes it wrong.

        The answer of a model is a text or a Reply.
        """
        return self._add("lie", "lie", value, calls, probability, where)

    def _add(
        self,
        kind: str,
        shown: str,
        value: Any,
        calls: Calls,
        probability: float | None,
        where: Callable[..., Any] | None,
        after: bool = False,
    ) -> Target:
        numbers = None if calls is None else frozenset([calls] if isinstance(calls, int) else calls)
        if numbers is not None and (probability is not None or not numbers or min(numbers) < 1):
            raise InvalidError(f"{shown}: calls={calls!r} is not a number from 1 on, or several, without a probability")
        if probability is not None and not 0 < probability <= 1:
            raise InvalidError(f"{shown}: probability={probability!r}, expected more than 0 and at most 1")
        self._faults.append(_Fault(kind, shown, value, numbers, probability, where, after))
        return self

    def meet(self, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> tuple[int, list[_Fault]]:
        """The number of this call, and what goes wrong with it: delays, then at most one other fault."""
        with self._lock:
            self.calls += 1
            due: list[_Fault] = []
            for position, fault in enumerate(self._faults):
                draw = random.Random(f"{self.seed}/{self.kind}/{self.name}/{position}/{self.calls}").random
                if fault.is_due(arguments, draw) and (fault.kind == "delay" or all(one.kind == "delay" for one in due)):
                    fault.happened.add(fault.counted)
                    due.append(fault)
                    self.log.append(Injected(str(self), self.calls, fault.shown))
            return self.calls, sorted(due, key=lambda one: one.kind != "delay")

    async def through(self, arguments: tuple[tuple[Any, ...], dict[str, Any]], real: Callable[[], Awaitable[Any]]) -> Any:
        """One call: what is planned for it, else the real one."""
        call, due = self.meet(arguments)
        for fault in due:
            match fault.kind:
                case "delay":
                    await asyncio.sleep(fault.value)
                case "hang":
                    await asyncio.sleep(HANG_MAX_S)
                    raise FaultsMissed(f"nothing cancelled the hang of {self}, call {call}, within {HANG_MAX_S:g} s")
                case "fail":
                    if fault.after:
                        await real()
                    raise self._error(fault.value, call)
                case _:
                    return fault.value(await real()) if callable(fault.value) else fault.value
        return await real()

    def _error(self, how: How, call: int) -> BaseException:
        if isinstance(how, BaseException):
            return copy.copy(how)
        kind = CLASSES[how] if isinstance(how, str) else how
        if kind is None:
            kind = ModelError if self.kind == "model" else CapabilityError
        return kind(f"planned fault of {self}, call {call}")

    def missed(self) -> list[str]:
        """The faults that did not happen as planned, each as text."""
        missed = [what for fault in self._faults if (what := fault.missed()) is not None]
        return [f"{self}: {what}; it was called {_times(self.calls)}" for what in missed]

    def __str__(self) -> str:
        return "the default model" if self.name is None else f"{self.kind} `{self.name}`"


class FaultPlan:
    """The faults of one test. `seed` decides those with a probability; without one it is drawn, and `repr` shows it."""

    def __init__(self, seed: int | None = None) -> None:
        self.seed = random.SystemRandom().randrange(2**32) if seed is None else seed
        self._targets: dict[tuple[str, str | None], Target] = {}
        self._installed: WeakSet[Runtime] = WeakSet()
        self._is_installed = False

    def capability(self, name: str) -> Target:
        """The faults of a capability."""
        return self._target("capability", name)

    def model(self, name: str | None = None) -> Target:
        """The faults of a model; None is the one that is the default when the plan is installed."""
        return self._target("model", name)

    @property
    def log(self) -> list[Injected]:
        """Every fault that happened, target by target, in the order of the calls."""
        return [one for target in self._targets.values() for one in target.log]

    def install(self, runtime: Runtime) -> None:
        """Put the faults between a runtime and its capabilities and models. Runs that have begun are not touched."""
        if runtime in self._installed:
            raise InvalidError("this fault plan is installed in this runtime already")
        system = runtime.capability_system()
        for kind, name in self._targets:  # all of them, before the first is changed
            _ = system.get(str(name)) if kind == "capability" else runtime.models.resolve(name)
        for (kind, name), target in self._targets.items():
            if kind == "capability":
                _replace_capability(system, str(name), target)
            else:
                _replace_model(runtime, name, target)
        self._installed.add(runtime)
        self._is_installed = True

    def check(self) -> None:
        """FaultsMissed names every planned fault that did not happen. One with a probability needs a call only."""
        missed = [one for target in self._targets.values() for one in target.missed()]
        if missed:
            reason = "" if self._is_installed else "; the plan was never installed: plan.install(runtime)"
            lines = "\n".join(f"  - {one}" for one in missed)
            raise FaultsMissed(f"{len(missed)} planned faults did not happen (seed {self.seed}){reason}\n{lines}")

    def _target(self, kind: str, name: str | None) -> Target:
        target = self._targets.get((kind, name))
        if target is None:
            if self._is_installed:
                raise InvalidError(
                    f"the plan is installed and has nothing for {Target(kind, name, 0)}", hint="plan before installing"
                )
            target = self._targets[kind, name] = Target(kind, name, self.seed)
        return target

    def __repr__(self) -> str:
        return f"FaultPlan(seed={self.seed})"


def _replace_capability(system: CapabilitySystem, name: str, target: Target) -> None:
    record = system.get(name)
    system.unregister(name)
    system.register(name, _faulty(record, system, target), builtin=record.builtin)


def _faulty(record: CapabilityRecord, system: CapabilitySystem, target: Target) -> CapabilityRecord:
    """The same capability for whoever looks at it; a call goes through the plan."""

    @wraps(record.fn)
    async def faulty(*args: Any, **named: Any) -> Any:
        real = record.beneath(named.pop("roots")) if record.rooted else record
        return await target.through((args, named), lambda: system.calls.call(real, args, named))

    twin = copy.copy(record)
    twin.fn, twin.is_async, twin.run, twin.target, twin.streams = faulty, True, "inline", None, False
    twin.borrows = twin.gives = False  # so that a lie is copied: the plan keeps it for the next call
    return twin


def _replace_model(runtime: Runtime, name: str | None, target: Target) -> None:
    models = runtime.models
    name, model = models.resolve(name)
    is_default = models.names()[0] == name
    try:
        models.unregister(name)
    except ApxmError:  # the extractive one, which is there without having been registered
        assert name == "extractive"
    models.register(name, _FaultyModel(model, target), default=is_default)


class _FaultyModel:
    """A model whose calls go through the plan; everything else is the model's own."""

    def __init__(self, model: LanguageModel, target: Target) -> None:
        self.name = model.name
        self._model, self._target = model, target

    async def complete(self, prompt: Prompt) -> Reply:
        answer = await self._target.through(((prompt,), {}), lambda: self._model.complete(prompt))
        if isinstance(answer, Reply):
            return answer
        usage = Usage(prompt_tokens(self._model, prompt), self.count_tokens(str(answer)))
        return Reply(str(answer), usage, self.name)

    def count_tokens(self, text: str) -> int:
        return self._model.count_tokens(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def _times(count: int) -> str:
    return "never" if count == 0 else "once" if count == 1 else f"{count} times"
