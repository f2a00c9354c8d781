"""What runs next: BRANCH_ON_VALUE, SWITCH, GUARD, JUMP choose a way; RETURN and YIELD give a value (LOOP, MAP: loops.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.errors import BindError, RaisedError
from apxm.executor.arguments import (
    Arguments,
    Render,
    Test,
    condition,
    ports,
    refuse_unused,
    region_arguments,
    renderer,
    shown,
    strongest,
    subject,
    where,
)
from apxm.executor.bind import Bound, Kind
from apxm.executor.handlers import loops
from apxm.graph.condition import ConditionError, pattern
from apxm.graph.operation import Effect
from apxm.graph.template import as_text
from apxm.outcome import Child, ChildResult, Fail, Outcome, Route, Spawn
from apxm.values import same

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apxm.executor.bind import Binder, NodeSpec, Services
    from apxm.executor.context import OpContext


# ---- BRANCH_ON_VALUE -------------------------------------------------------------------------------------------------
def _branch_test(spec: NodeSpec) -> Test:
    text = spec.attributes.get("condition")
    if text is not None:
        return condition(spec, text)
    wanted = spec.attributes.get("value", True)
    if wanted is None or wanted is True or wanted is False:
        return lambda value: value is wanted
    return lambda value: same(value, wanted)


def _bind_branch(spec: NodeSpec, services: Services) -> Bound:
    test = _branch_test(spec)
    tested = subject(spec)
    carried = ports(spec).get("pass", tested)

    def branch(context: OpContext, *inputs: Any) -> Outcome:
        return Route("true" if test(inputs[tested]) else "false", inputs[carried])

    return Bound(Kind.SYNC, branch, Effect.PURE, owns=True)


# ---- SWITCH ----------------------------------------------------------------------------------------------------------
def _case_labels(spec: NodeSpec) -> list[str]:
    """The cases in the order in which they are tried; canonical graphs list them all."""
    listed = [label for label in spec.attributes.get("case_labels", ()) if label != "default"]
    silent = {*spec.regions, *spec.labels}.difference(listed, ("default", "error"))
    if silent:
        raise BindError(f"{where(spec)} has a way for `{min(silent)}`, which is not among its `case_labels`")
    return listed


def _chooser(spec: NodeSpec) -> Callable[[str], str | None]:
    """From the text of the discriminant to the first case that matches."""
    labels = _case_labels(spec)
    match spec.attributes.get("match", "exact"):
        case "exact":
            return {label: label for label in labels}.get
        case "casefold":
            folded = {label.casefold(): label for label in reversed(labels)}
            return lambda text: folded.get(text.casefold())
        case "contains":
            return lambda text: next((label for label in labels if label in text), None)
        case "regex":
            patterns = [(_pattern(spec, label), label) for label in labels]
            return lambda text: next((label for found, label in patterns if found.search(text)), None)
        case match:
            raise BindError(f"{where(spec)} has match `{match}`; expected exact, casefold, contains or regex")


def _pattern(spec: NodeSpec, text: str) -> Any:
    try:
        return pattern(text)
    except ConditionError as error:
        raise BindError(f"{where(spec)}: {error}") from error


def _case_value(results: Sequence[ChildResult]) -> Any:
    return results[0].value


def _bind_switch(spec: NodeSpec, services: Services) -> Bound:
    tested = subject(spec)
    carried = ports(spec).get("pass", tested)
    regions = {label: region_arguments(spec, label) for label in spec.regions}
    used = {tested, carried}.union(*(one.used for one in regions.values()))
    refuse_unused(spec, used)
    choose = _chooser(spec)
    has_default = "default" in regions or "default" in spec.labels
    routed = bool(spec.labels - {"error"})

    def switch(context: OpContext, *inputs: Any) -> Outcome:
        value = inputs[tested]
        label = choose(value if type(value) is str else as_text(value))
        if label is None and not has_default:
            return Route("default", None if regions else inputs[carried])
        label = label or "default"
        region = regions.get(label)
        if region is None:
            return Route(label, inputs[carried])
        return _case_frame(region, inputs, value, label, routed)

    effect = strongest(body.effect for body in spec.regions.values())
    return Bound(Kind.SYNC, switch, effect, owns=True)


def _case_frame(region: Arguments, inputs: Sequence[Any], value: Any, label: str, routed: bool) -> Spawn:
    child = Child(region.body, region.fill(inputs, "input", value), label)
    return Spawn((child,), (lambda results: Route(label, results[0].value)) if routed else _case_value)


# ---- GUARD -----------------------------------------------------------------------------------------------------------
def _bind_guard(spec: NodeSpec, services: Services) -> Bound:
    test = condition(spec, spec.attributes["condition"])
    text = spec.attributes.get("error_message")
    message = renderer(spec, text) if text is not None else _default_message(spec)
    skips = spec.attributes.get("on_fail", "halt") == "skip"

    def guard(context: OpContext, *inputs: Any) -> Outcome:
        value = inputs[0]
        if test(value):
            return value
        error = RaisedError(message(inputs))
        if not skips:
            return Fail(error)
        error.node, error.op, error.attempt = context.name, context.op, context.attempt
        return Route("error", error.to_map())

    return Bound(Kind.SYNC, guard, Effect.PURE, owns=True)


def _default_message(spec: NodeSpec) -> Render:
    place, text = where(spec), spec.attributes["condition"]
    return lambda inputs: f"{place}: `{text}` does not hold for {shown(inputs[0])}"


# ---- JUMP, RETURN, YIELD ---------------------------------------------------------------------------------------------
def _bind_jump(spec: NodeSpec, services: Services) -> Bound:
    label = spec.attributes["label"]

    def jump(context: OpContext, *inputs: Any) -> Outcome:
        return Route(label, inputs[0] if inputs else None)

    return Bound(Kind.SYNC, jump, Effect.PURE, owns=True)


def _given(value: Any = None, *_: Any) -> Any:
    return value


def _bind_result(spec: NodeSpec, services: Services) -> Bound:
    """RETURN and YIELD only pass their value on: the engine knows from the operation whose value it is."""
    return Bound(Kind.PURE, _given, Effect.PURE, owns=True)


BINDERS: dict[str, Binder] = {
    "BRANCH_ON_VALUE": _bind_branch,
    "SWITCH": _bind_switch,
    "GUARD": _bind_guard,
    "JUMP": _bind_jump,
    "RETURN": _bind_result,
    "YIELD": _bind_result,
    **loops.BINDERS,
}
