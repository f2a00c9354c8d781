"""What one firing gives, operation by operation, for the oracle. Region operations are in oracle.py."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apxm.errors import ApxmError
from apxm.testing.meaning import Inputs, Trouble, holds, plain, same, text_of
from apxm.testing.readgraph import PLACEHOLDER
from apxm.testing.references import AIM

if TYPE_CHECKING:
    from apxm.testing.readgraph import ReadGraph, ReadNode

Capability = Callable[..., Any]
ERROR = "error"
MODEL = "(model)"  # the name of the model among the capabilities
RETRIES, MODEL_RETRIES = 2, 3  # when a node does not say


@dataclass(frozen=True, slots=True)
class Given:
    """A value and the label that was chosen."""

    value: Any
    label: str | None = None


class World:
    """What firings of one run share: capabilities, the calls they got, short-term memory.

    `guarded` are the capabilities that are never called again. No run is expected to use up its retry budget.
    """

    def __init__(self, capabilities: Mapping[str, Capability], guarded: Collection[str] = ()) -> None:
        self.capabilities, self.guarded = capabilities, guarded
        self.calls: list[tuple[str, str]] = []  # (capability, its arguments as JSON)
        self.memory: dict[str, Any] = {}
        self.retried = 0

    def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Call a capability, and write it down."""
        self.calls.append((name, json.dumps(canonical(arguments), sort_keys=True)))
        return _call(self.capabilities[name], arguments)


def fire(node: ReadNode, graph: ReadGraph, inputs: Inputs, world: World) -> Given:
    """Fire a node without regions, as often as it may be; raises Trouble when it fails."""
    more, counted = _retries(node, world)
    attempt = 1
    while True:
        try:
            return _FIRE[node.op](node, graph, inputs, world)
        except Trouble as trouble:
            if trouble.failure != "transient" or attempt > more:
                if node.op == "ASK":
                    raise Trouble("fatal", "model") from trouble
                trouble.attempts = attempt if counted else 1
                raise
        attempt += 1
        world.retried += 1


def _retries(node: ReadNode, world: World) -> tuple[int, bool]:
    """How often a node is tried again when it fails for the moment, and whether these count as attempts of the node."""
    allowed = node.attributes.get("retries", RETRIES)
    if node.op == "ASK":
        return node.attributes.get("max_retries", MODEL_RETRIES), False
    if node.op != "INV":
        return allowed, True
    name = node.attributes["capability"]
    return (0 if name in world.guarded else allowed), not inspect.iscoroutinefunction(world.capabilities[name])


def _constant(node: ReadNode, graph: ReadGraph, inputs: Inputs, world: World) -> Given:
    return Given(plain(node.attributes["value"]))


def _print(node: ReadNode, graph: ReadGraph, inputs: Inputs, world: World) -> Given:
    return Given(inputs.values[0] if inputs.values else inputs.render(node.attributes.get("message", "")))


def _merge(node: ReadNode, graph: ReadGraph, inputs: Inputs, world: World) -> Given:
    mode = graph.mode(node)
    if mode == "array":
        return Given(list(inputs.values))
    if mode == "concat":
        return Given("".join([text_of(value) for value in inputs.values]))
    if mode == "sum":
        if any(type(value) not in (int, float) for value in inputs.values):
            raise Trouble("invalid", "invalid")
        return Given(plain(sum(inputs.values)))
    return Given(inputs.values[0])


def _wait_all(node: ReadNode, graph: ReadGraph, inputs: Inputs, world: World) -> Given:
    return Given(list(inputs.values))


def _first(node: ReadNode, graph: ReadGraph, inputs: Inputs, world: World) -> Given:
    return Given(inputs.values[0] if inputs.values else None)


def _branch(node: ReadNode, graph: ReadGraph, inputs: Inputs, world: World) -> Given:
    tested = inputs.subject("token", aside="pass")
    condition = node.attributes.get("condition")
    taken = holds(condition, tested) if condition is not None else same(tested, node.attributes.get("value", True))
    return Given(inputs.optional("pass", tested), "true" if taken else "false")


def case_of(node: ReadNode, value: Any) -> str | None:
    """The case of a SWITCH that a value matches; None when there is none and no default."""
    text = text_of(value)
    labels = [edge.label for edge in node.out if edge.label is not None]
    cases = node.attributes.get("case_labels") or [*node.regions, *labels]
    match = node.attributes.get("match", "exact")
    for case in cases:
        if case in ("default", ERROR):
            continue
        if match == "regex":
            hit = re.search(case, text) is not None
        elif match == "contains":
            hit = case in text
        else:
            hit = case == text if match == "exact" else case.casefold() == text.casefold()
        if hit:
            return str(case)
    return "default" if "default" in node.regions or "default" in labels else None


def _switch(node: ReadNode, graph: ReadGraph, inputs: Inputs, world: World) -> Given:
    tested = inputs.subject("discriminant", aside="pass")
    case = case_of(node, tested)
    if case is None and node.regions:
        return Given(None, "")
    return Given(inputs.optional("pass", tested), case or "")


def _guard(node: ReadNode, graph: ReadGraph, inputs: Inputs, world: World) -> Given:
    value = inputs.values[0]
    if holds(node.attributes["condition"], value):
        return Given(value)
    message = node.attributes.get("error_message")
    trouble = Trouble("fatal", "raised", None if message is None else inputs.render(message))
    if node.attributes.get("on_fail", "halt") == "halt":
        raise trouble
    return Given(error_map(trouble, node), ERROR)


def error_map(trouble: Trouble, node: ReadNode) -> dict[str, Any]:
    """What an `error` edge carries."""
    return {
        "code": trouble.code,
        "class": trouble.failure,
        "message": trouble.message,
        "node": node.name,
        "op": node.op,
        "attempts": 1,
    }


def _jump(node: ReadNode, graph: ReadGraph, inputs: Inputs, world: World) -> Given:
    return Given(inputs.values[0] if inputs.values else None, AIM)


def _err(node: ReadNode, graph: ReadGraph, inputs: Inputs, world: World) -> Given:
    message = node.attributes.get("message")
    if message is not None:
        failure = node.attributes.get("class", "fatal")
        raise Trouble(failure, node.attributes.get("code", "raised"), inputs.render(message))
    template = node.attributes.get("recovery_template")
    if template is not None:
        return Given(inputs.render(template))
    error = inputs.values[0]
    return Given("Error: " + text_of(error.get("message", error) if isinstance(error, dict) else error))


def _inv(node: ReadNode, graph: ReadGraph, inputs: Inputs, world: World) -> Given:
    name = node.attributes["capability"]
    function = world.capabilities[name]
    params = node.attributes.get("params_json") or {}
    arguments = {key: inputs.fill(value) for key, value in (json.loads(params) if isinstance(params, str) else params).items()}
    arguments |= {key[4:]: inputs.fill(value) for key, value in node.attributes.items() if key[:4] == "arg_"}
    known = list(inspect.signature(function).parameters)
    arguments |= {key: value for key, value in inputs.named.items() if key in known}
    free = [key for key in known if key not in arguments]
    arguments |= dict(zip(free, inputs.unused(list(node.texts()))))
    return Given(world.call(name, arguments))


def _ask(node: ReadNode, graph: ReadGraph, inputs: Inputs, world: World) -> Given:
    template = node.attributes.get("template_str", "")
    if PLACEHOLDER.search(template):
        prompt = inputs.render(template)
    elif template.strip():
        more = [f"Context {number}: {text_of(value)}" for number, value in enumerate(inputs.values, 1)]
        prompt = "\n\n".join([template, *more])
    else:
        prompt = text_of(inputs.values[0])
    return Given(world.call(MODEL, {"prompt": prompt}))


def canonical(value: Any) -> Any:
    """A value without the messages of error maps, whose wording may change."""
    if isinstance(value, Mapping):
        keys = value.keys() - {"message"} if {"code", "class", "attempts"} <= value.keys() else value.keys()
        return {key: canonical(value[key]) for key in value if key in keys}
    return [canonical(item) for item in value] if isinstance(value, (list, tuple)) else value


def _call(function: Capability, arguments: Mapping[str, Any]) -> Any:
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise Trouble("invalid", "invalid") from error
    try:
        result = function(**arguments)
        return plain(_driven(result) if inspect.iscoroutine(result) else result)
    except ApxmError as error:
        raise Trouble(error.failure.value, error.code, str(error)) from error
    except Exception as error:
        raise Trouble("fatal", "capability") from error


def _driven(coroutine: Any) -> Any:
    """Run a coroutine that only ever waits for `asyncio.sleep(0)`."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value


def _qmem(node: ReadNode, graph: ReadGraph, inputs: Inputs, world: World) -> Given:
    return Given(world.memory.get(inputs.render(node.attributes["key"])))


def _umem(node: ReadNode, graph: ReadGraph, inputs: Inputs, world: World) -> Given:
    rest = inputs.unused(list(node.texts()))
    value = rest[0] if rest else inputs.fill(node.attributes.get("value"))
    world.memory[inputs.render(node.attributes["key"])] = value
    return Given(value)


_FIRE: Mapping[str, Callable[[ReadNode, ReadGraph, Inputs, World], Given]] = {
    "CONST_STR": _constant,
    "PRINT": _print,
    "MERGE": _merge,
    "WAIT_ALL": _wait_all,
    "FENCE": _first,
    "BRANCH_ON_VALUE": _branch,
    "SWITCH": _switch,
    "GUARD": _guard,
    "JUMP": _jump,
    "RETURN": _first,
    "YIELD": _first,
    "ERR": _err,
    "INV": _inv,
    "ASK": _ask,
    "QMEM": _qmem,
    "UMEM": _umem,
}
