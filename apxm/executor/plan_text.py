"""The words in which a model plans: what it is told about inner plans, and the forms in which it writes one. Checks no rule."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from apxm.errors import PlanError, Problem
from apxm.graph.operation import Effect
from apxm.graph.ops import OPERATIONS
from apxm.graph.region import is_position
from apxm.llm.structured import candidates

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from apxm.capability.record import CapabilityRecord
    from apxm.dag import ExecutionDag
    from apxm.executor.bind import Input
    from apxm.graph.operation import Attribute, Operation
BYTES_MAX = 256 * 1024  # of a plan as JSON: a thousand nodes with long prompts
PROBLEMS_SHOWN = 20  # in one repair
PROBLEM_CHARS_MAX = 400
DOC_CHARS_MAX = 200

# Besides what runs code or sends messages, a plan must not declare an agent, nor touch what outlives the run and is shared.
_NEVER = ("AGENT", "CLAIM", "PAUSE", "RESUME")
ALLOWED = tuple(row.name for row in OPERATIONS.values() if row.effect is not Effect.GUARDED and row.name not in _NEVER)
_TOLD = tuple(name for name in ALLOWED if name not in ("LOOP_START", "LOOP_END", "JUMP"))  # LOOP and labels do it better
_MODEL = tuple(  # attributes that all operations have which ask a model: told once
    one
    for one in OPERATIONS["ASK"].attributes
    if all(one in row.attributes for row in OPERATIONS.values() if row.effect is Effect.PAID)
)
_STEP_KEYS = ("name", "op", "prompt", "attributes", "after")


# ---- what a model is told ------------------------------------------------------------------------------------------------
def guide(inputs: Iterable[Input], capabilities: Iterable[CapabilityRecord], flows: Iterable[ExecutionDag], most: int) -> str:
    """What a model must know to write an inner plan: its forms, operations, capabilities, flows, parameters, size."""
    parts = [_FORMS.format(most=most), _parameters(inputs), _operations()]
    offered = [_capability(record) for record in capabilities]
    parts += ["Capabilities that INV may call:", *offered] if offered else ["There is no capability that INV may call."]
    called = [_flow(dag) for dag in flows]
    if called:
        parts += ["Flows that FLOW_CALL may call (agent_name.flow_name and parameters):", *called]
    return "\n".join(parts)


_FORMS = """\
`inner_plan` may be a graph that is run in place of this step, or null when none is needed. It is
{{"name": text, "parameters": [{{"name": text, "type_name": "str|int|float|bool|json"}}],
"nodes": [{{"id": number, "name": text, "op": text, "attributes": {{}}, "regions": {{name: graph}}}}],
"edges": [{{"from": node id or parameter name, "to": node id, "dependency": "Data|Control|Effect", "port": text, \
"label": text}}]}}
where parameters, attributes, regions, dependency, port and label may be left out; or, shorter,
{{"steps": [{{"name": text, "op": text, "prompt": text, "attributes": {{}}, "after": [names of steps or parameters]}}]}}
where a step without `op` is an ASK. At most {most} nodes. Names and ids differ, no edge leads back, the nodes without an
out-edge give the result. In texts, {{0}}, {{1}} … are the inputs of the node in order, {{port}} the one with that port."""


def _parameters(inputs: Iterable[Input]) -> str:
    names = [f"the value of `{one.source}`" if is_position(one.port) else f"`{one.port}`" for one in inputs]
    if not names:
        return "There is nothing to give to parameters of the graph: declare none."
    return f"Parameters of the graph are given by name, else in this order: {', '.join(names)}."


@cache
def _operations() -> str:
    lines = ["Operations:", *(_operation(OPERATIONS[name]) for name in _TOLD)]
    return "\n".join([*lines, f"Every operation that asks a model also takes {_attributes(_MODEL)}."])


def _operation(row: Operation) -> str:
    """`- LOOP(max_iterations!: int, while: condition); regions body: Runs its region …`."""
    own = [one for one in row.attributes if one.type != "node" and one not in _MODEL]
    regions = f"; regions {', '.join(row.regions)}" if row.regions else ""
    labels = f"; edge labels {', '.join(row.labels)}" if row.labels else ""
    return f"- {row.name}({_attributes(own)}){regions}{labels}: {_first(row.doc)}"


def _attributes(several: Iterable[Attribute]) -> str:
    """`name: type`, with a mark behind the name of those that must be there."""
    return ", ".join(f"{one.name}{'!' if one.required else ''}: {'|'.join(one.choices) or one.type}" for one in several)


def _capability(record: CapabilityRecord) -> str:
    schema: Mapping[str, Any] = record.parameters
    required = schema.get("required", ())
    properties: Mapping[str, Any] = schema.get("properties", {})
    known = ", ".join(f"{name}{'!' if name in required else ''}: {_type(of)}" for name, of in properties.items())
    return f"- {record.name}({known}): {_first(record.description)}"


def _type(schema: Any) -> str:
    kind = schema.get("type") if isinstance(schema, dict) else None
    return "|".join(map(str, kind)) if isinstance(kind, list) else str(kind or "json")


def _flow(dag: ExecutionDag) -> str:
    known = ", ".join(f"{parameter.name}!: {parameter.type_name}" for parameter in dag.parameters)
    return f"- {dag.agent}.{dag.name}({known})"


def _first(doc: str) -> str:
    sentence = doc.partition(". ")[0].rstrip(".")
    return sentence if len(sentence) <= DOC_CHARS_MAX else f"{sentence[: DOC_CHARS_MAX - 1]}…"


def refusal(problems: Iterable[Problem]) -> str:
    """What a model is told about a plan that is refused."""
    lines = [f"- {problem}"[:PROBLEM_CHARS_MAX] for problem in problems]
    more = [f"- and {len(lines) - PROBLEMS_SHOWN} more"] if len(lines) > PROBLEMS_SHOWN else []
    broken = "\n".join([*lines[:PROBLEMS_SHOWN], *more])
    return f"The inner plan is refused:\n{broken}\nAnswer again with all of the corrected JSON."


# ---- what it says --------------------------------------------------------------------------------------------------------
def graph_of(given: Any) -> Mapping[str, Any]:
    """The graph, as a map in the JSON contract, that a model wrote: a map, its text, `{"graph": …}`, or a list of steps.

    PlanError says what it is instead. Whether the graph keeps any rule is not looked at.
    """
    value = _parsed(given)
    while isinstance(value, dict) and value.keys() == {"graph"}:
        value = _parsed(value["graph"])
    if isinstance(value, dict) and "steps" in value and "nodes" not in value:
        _refuse_keys(value, ("name", "steps"), "")
        value = _of_steps(value["steps"], value.get("name", "plan"))
    if not isinstance(value, dict) or "agents" in value:
        raise _refused("it is no graph", expected="a map with `nodes` and `edges`, or with `steps`")
    return {"name": "plan", "edges": [], **value}


def _parsed(given: Any) -> Any:
    """The value that a text holds, or the value itself, unless it is too large."""
    try:
        size = len(given if isinstance(given, str) else json.dumps(given))
    except (TypeError, ValueError, RecursionError):
        raise _refused("it is no JSON value") from None
    if size > BYTES_MAX:
        raise _refused(f"it has {size:,} characters", expected=f"{BYTES_MAX:,} at most")
    return next(candidates(given), None) if isinstance(given, str) else given


def _of_steps(steps: Any, name: Any) -> dict[str, Any]:
    """The graph of a list of steps: those that come after nothing start it, what is no step is a parameter."""
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise _refused("`steps` is no list of maps", "steps")
    ids: dict[str, int] = {}
    for number, step in enumerate(steps, 1):
        _refuse_keys(step, _STEP_KEYS, f"steps[{number - 1}]")
        ids.setdefault(str(step.get("name")), number)
    nodes, edges = [], []
    parameters: dict[str, None] = {}
    for number, step in enumerate(steps, 1):
        attributes = step.get("attributes", {})
        if "prompt" in step and isinstance(attributes, dict):
            attributes = {"prompt": step["prompt"], **attributes}
        nodes.append({"id": number, "name": step.get("name"), "op": step.get("op", "ASK"), "attributes": attributes})
        after = step.get("after", [])
        for before in after if isinstance(after, list) else [after]:
            source = ids.get(str(before), str(before))
            if isinstance(source, str):
                parameters[source] = None
            edges.append({"from": source, "to": number})
    declared = [{"name": parameter, "type_name": "json"} for parameter in parameters]
    return {"name": name, "nodes": nodes, "edges": edges, "parameters": declared}


def _refuse_keys(given: Mapping[str, Any], known: tuple[str, ...], path: str) -> None:
    for key in given:
        if key not in known:
            raise _refused(f"unknown key `{key}`", path, expected=f"one of {', '.join(known)}")


def _refused(what: str, path: str = "", expected: str | None = None) -> PlanError:
    return PlanError("an inner plan cannot be read", [Problem("plan", what, path=path, expected=expected)])
