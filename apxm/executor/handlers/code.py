"""EXC: Python code of the program, in the sandbox."""

from __future__ import annotations

from dataclasses import replace
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, NoReturn

from apxm.capability.isolation.sandbox import Limits
from apxm.errors import BindError, CapabilityError, DeniedError, InvalidError, RaisedError
from apxm.executor.arguments import Render, ports, renderer, unnamed, where
from apxm.executor.bind import Bound, Kind
from apxm.graph.operation import Effect

if TYPE_CHECKING:
    from apxm.executor.bind import Binder, NodeSpec, Services
    from apxm.executor.context import OpContext

GRANT = "python"  # what a plan that a model made needs to run code
TIMEOUT_MS = 30_000  # of a node that does not say
_OURS = ("inputs", "result")
_SETTINGS = ("memory_mb", "cpu_s", "processes", "output_bytes")


class _Code:
    """One EXC with code: its variables come from its inputs, by name, and in order as the list `inputs`."""

    def __init__(self, spec: NodeSpec) -> None:
        self._named, self._order = _variables(spec), unnamed(spec)
        self._code: str = spec.attributes["code"]
        self._limits = _limits(spec)
        self._message: Render | None = renderer(spec, spec.attributes["message"]) if "message" in spec.attributes else None
        self._name = spec.name

    async def fire(self, context: OpContext, *inputs: Any) -> Any:
        names = {name: inputs[at] for name, at in self._named.items()}
        names["inputs"] = [inputs[at] for at in self._order]
        sandbox = context.run.capabilities.sandbox
        try:
            result, _ = await sandbox.evaluate(self._code, names, limits=self._limits, name=self._name)
        except CapabilityError as error:
            if self._message is None:
                raise
            raise CapabilityError(f"{self._message(inputs)}: {error.message}", hint=error.hint) from error
        return result


def bind_exc(spec: NodeSpec, services: Services) -> Bound:
    """The code as it stands in the program, with limits; without code it fails with its message.

    Code that a person wrote into a program needs no grant: it reaches nothing but its inputs. In a plan that a model made it
    does.
    """
    if "code" not in spec.attributes:
        if "sandbox_config" in spec.attributes:
            raise BindError(f"{where(spec)} has limits, but no code", hint="give it `code`, or drop `sandbox_config`")
        return Bound(Kind.SYNC, _failing(renderer(spec, spec.attributes["message"])), Effect.PURE, owns=True)
    if services.explicit and not services.grants.allows(GRANT):
        raise DeniedError(
            f"{where(spec)} is code in a plan that a model made, and `{GRANT}` is not granted",
            hint=f"grant it: RunOptions(grants=['{GRANT}']) or --grant {GRANT}",
        )
    timeout_ms = spec.attributes.get("timeout_ms", TIMEOUT_MS)
    return Bound(Kind.ASYNC, _Code(spec).fire, Effect.GUARDED, timeout_ms=timeout_ms, owns=True)


def _variables(spec: NodeSpec) -> dict[str, int]:
    named = ports(spec)
    for port in named:
        if not port.isidentifier() or iskeyword(port):
            raise BindError(f"{where(spec)}: the input `{port}` is no name of a variable", hint="give its edge another port")
        if port in _OURS:
            hint = "`inputs` are those without a name, and `result` is what the code gives"
            raise BindError(f"{where(spec)}: an input is named `{port}`", hint=hint)
    return named


def _limits(spec: NodeSpec) -> Limits:
    config = spec.attributes.get("sandbox_config", {})
    unknown = sorted(config.keys() - set(_SETTINGS))
    if unknown:
        raise BindError(f"{where(spec)}: `sandbox_config` has `{unknown[0]}`", hint=f"it takes {', '.join(_SETTINGS)}")
    try:
        return replace(Limits(wall_s=None), **config)
    except InvalidError as error:
        raise BindError(f"{where(spec)}: {error.message}") from None


def _failing(text: Render) -> Any:
    def fail(context: OpContext, *inputs: Any) -> NoReturn:
        raise RaisedError(text(inputs))

    return fail


BINDERS: dict[str, Binder] = {"EXC": bind_exc}
