"""LOOP_START and LOOP_END become one LOOP whose body is what lies between them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from apxm.compiler.cutting import Inlets, cut, neighbours, reached
from apxm.compiler.draft import Draft, Step
from apxm.errors import CompileError
from apxm.graph.model import Dependency, Edge, Parameter
from apxm.graph.ops import OPERATIONS, attribute_of

_CARRIED = "carried"  # the region parameter that LOOP_START stands for
_OWN_NAMES = ("count", "iteration", _CARRIED)  # names that mean something to LOOP


def fold_loop(draft: Draft, start: Step) -> None:
    """Replace a LOOP_START, its LOOP_END and what lies between by a LOOP with the id and name of the LOOP_END.

    Edges into the body from outside are inputs of the LOOP and keep their value; Control and Effect edges into it hold
    for the LOOP as a whole. Validation has seen to it that the pair exists and nothing else leads out.
    """
    end = _end_of(draft, start)
    before = reached([end.id], neighbours(draft, back=True))
    body = (reached([start.id], neighbours(draft)) & before) - {start.id, end.id}
    _check_edges(draft, start, end, body)
    inlets = Inlets(end.id, _OWN_NAMES)
    region = cut(draft, body, f"{draft.name}/{end.name}/body", inlets, lambda edge: _CARRIED, (start.id,))
    _give_result(draft, region, start, end, body)
    _declare_carried(region)
    removed = {start.id, *body}
    kept = [edge for edge in draft.edges if edge.source not in removed and edge.target not in removed]
    kept = [edge for edge in kept if edge.target != end.id or edge.dependency is not Dependency.DATA]
    draft.edges = [*_inputs(draft, start, end), *inlets.edges, *kept]
    draft.steps[end.id] = Step(end.id, end.name, OPERATIONS["LOOP"], _attributes(start, end), {"body": region})
    for id in removed:
        del draft.steps[id]


def _end_of(draft: Draft, start: Step) -> Step:
    loop = start.attributes.get("loop", "loop")
    ends = (step for step in draft.steps.values() if step.op.name == "LOOP_END")
    return next(end for end in ends if end.attributes.get("loop", "loop") == loop)


def _check_edges(draft: Draft, start: Step, end: Step, body: set[int]) -> None:
    """Refuse what validation cannot see: edges that only a text implies, and labels that nothing chooses."""
    inside = {start.id, *body}
    for edge in draft.edges:
        if edge.source == start.id and edge.label is not None:
            raise CompileError(f"`{draft.name}`: LOOP_START `{start.name}` chooses no `{edge.label}`", hint="remove the label")
        if edge.source in inside and edge.target not in inside and edge.target != end.id:
            assert isinstance(edge.source, int)
            names = f"`{draft.steps[edge.source].name}` -> `{draft.steps[edge.target].name}`"
            hint = f"the only way out of a loop is its LOOP_END `{end.name}`"
            raise CompileError(f"`{draft.name}`: {names} leaves the body of the loop", hint=hint)


def _give_result(draft: Draft, region: Draft, start: Step, end: Step, body: set[int]) -> None:
    """Make what LOOP_END receives the value of the body: by its exit, or by a YIELD where more than that decides."""
    into = [edge for edge in draft.edges if edge.target == end.id and (edge.source in body or edge.source == start.id)]
    results = [edge.source for edge in into if edge.dependency is Dependency.DATA and edge.source in body and edge.label is None]
    if len(results) == len(into) == 1:
        region.exits = [id for id in results if isinstance(id, int)]
        return
    if not any(edge.dependency is Dependency.DATA for edge in into):
        raise CompileError(
            f"`{draft.name}`: LOOP_END `{end.name}` takes its value from outside of the loop",
            hint="feed it from a node of the body",
        )
    last = Step(start.id, start.name, OPERATIONS["YIELD"])
    region.steps[last.id] = last
    for edge in into:
        if edge.source == start.id:
            region.edges.append(Edge(_CARRIED, last.id))
        else:
            region.edges.append(replace(edge, target=last.id, port=None))
    region.exits = [last.id]


def _declare_carried(region: Draft) -> None:
    if all(parameter.name != _CARRIED for parameter in region.parameters):
        region.parameters.append(Parameter(_CARRIED, "json"))


def _inputs(draft: Draft, start: Step, end: Step) -> list[Edge]:
    """The in-edges of the LOOP_START as those of the LOOP: its value is what is carried first."""
    inputs = [edge for edge in draft.ins()[start.id] if edge.dependency is Dependency.DATA and edge.port != "count"]
    found = []
    for edge in draft.edges:
        if edge.target == start.id:
            port = edge.port if edge.port == "count" else _CARRIED if edge in inputs[:1] else None
            found.append(replace(edge, target=end.id, port=port))
    return found


def _attributes(start: Step, end: Step) -> dict[str, Any]:
    row = OPERATIONS["LOOP"]
    joined = {**start.attributes, **end.attributes}
    attributes = {name: value for name, value in joined.items() if attribute_of(row, name) is not None}
    return {"max_iterations": 100, **attributes, "carry": [_CARRIED]}
