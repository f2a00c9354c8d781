"""TRY_CATCH with labelled edges becomes TRY_CATCH with regions: the nodes reachable only through such an edge."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from apxm.compiler.cutting import Inlets, cut, neighbours, reached
from apxm.compiler.draft import Draft, Step
from apxm.errors import CompileError
from apxm.graph.model import Dependency, Edge, Parameter
from apxm.graph.ops import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

_PARTS = ("try", "catch", "finally")
_Parts = dict[str, set[int]]


def fold_try(draft: Draft, head: Step) -> None:
    """Move the parts of a TRY_CATCH into its regions.

    A part is what is reached from its label and from nothing else that leaves the node. Edges into a part from outside
    are inputs of the node; an edge out of a part is one out of the node, whose value is that of the part. An edge from
    the node into its parts carries its first input, into `catch` the error.
    """
    labels = {edge.label for edge in draft.edges if edge.source == head.id}.intersection(_PARTS)
    if not labels:
        return
    parts = _parts(draft, head)
    inlets = Inlets(head.id, ("error",))
    given = _first_input(draft, head, inlets)
    for part in _PARTS:
        if part in labels:
            entry = (lambda edge: "error") if part == "catch" else (lambda edge: given)
            region = cut(draft, parts[part], f"{draft.name}/{head.name}/{part}", inlets, entry, (head.id,))
            if part != "catch" and given is None:
                _check_fed(draft, head, part, region)
            _give_result(draft, head, part, region, parts[part], entry)
            head.regions[part] = region
    asked = {parameter.name for region in head.regions.values() for parameter in region.parameters}
    draft.edges = [*inlets.edges, *_edges_left(draft, head, parts, asked)]
    for id in set().union(*parts.values()):
        del draft.steps[id]


def _parts(draft: Draft, head: Step) -> _Parts:
    """The steps of each part. The ends of loops that were opened before the node are in none of them."""
    stops = [step.id for step in draft.steps.values() if step.op.name == "LOOP_END"]
    ways: dict[str, list[int]] = {part: [] for part in (*_PARTS, "")}
    for edge in draft.edges:
        if edge.source == head.id:
            ways[edge.label if edge.label in _PARTS else ""].append(edge.target)
    after = neighbours(draft)
    reach = {way: reached(starts, after, stops) for way, starts in ways.items()}
    return {part: reach[part].difference(*(reach[way] for way in reach if way != part)) for part in _PARTS}


def _first_input(draft: Draft, head: Step, inlets: Inlets) -> str | None:
    """The port of the first Data input of the node, which it gets if it has none of its own; None without inputs."""
    inputs = [edge for edge in draft.ins()[head.id] if edge.dependency is Dependency.DATA]
    if not inputs:
        return None
    port = inlets.fresh("input")
    first = inputs[0]
    draft.edges = [replace(edge, port=port) if edge is first else edge for edge in draft.edges]
    return port


def _check_fed(draft: Draft, head: Step, part: str, region: Draft) -> None:
    """Refuse a step that lives on the value of the node, when the node has no input whose value it could pass on."""
    after = {edge.target for edge in draft.edges if edge.source == head.id and edge.dependency is Dependency.DATA}
    fed = Counter(edge.target for edge in region.edges if edge.dependency is Dependency.DATA)
    for step in region.steps.values() if after else ():
        given = {name for name, value in step.attributes.items() if value != ""}
        given.update(f"<{name}>" for name in step.regions)
        lacks = any("input" in group and given.isdisjoint(group) for group in step.op.needs)
        if step.id in after and (fed[step.id] < step.op.inputs_min or (lacks and not fed[step.id])):
            what = f"feeds `{step.name}`, which needs an input, and there is none to pass on"
            _refuse(draft, head, part, what, f"give TRY_CATCH `{head.name}` an input")


def _give_result(
    draft: Draft, head: Step, part: str, region: Draft, members: set[int], entry: Callable[[Edge], str | None]
) -> None:
    """Make what leaves a part the value of its region."""
    out = [edge for edge in draft.edges if edge.source in members and edge.target not in members]
    direct = [e for e in draft.edges if e.source == head.id and e.label == part and e.target not in members]
    results = {edge.source for edge in [*out, *direct] if edge.dependency is Dependency.DATA}
    labelled = [edge for edge in out if edge.label is not None]
    if part == "finally" and (results or direct):
        _refuse(draft, head, part, "gives a value, and nothing takes it", "end it with nodes that nothing follows")
    if labelled or len(results) > 1:
        names = ", ".join(sorted({f"`{draft.steps[edge.source].name}`" for edge in out if isinstance(edge.source, int)}))
        _refuse(draft, head, part, f"is left on several ways ({names})", "join them by a MERGE within the part")
    if not members:
        given = entry(direct[0]) if direct else None
        _give_only(region, head, part, given)
    elif results:
        region.exits = [source for source in results if isinstance(source, int)]


def _give_only(region: Draft, head: Step, part: str, given: str | None) -> None:
    """A part without steps gives what came into it."""
    if given is None:
        region.steps[head.id] = Step(head.id, part, OPERATIONS["CONST_STR"], {"value": None})
        return
    region.steps[head.id] = Step(head.id, part, OPERATIONS["YIELD"])
    region.parameters.append(Parameter(given, "json"))
    region.edges.append(Edge(given, head.id))


def _edges_left(draft: Draft, head: Step, parts: _Parts, asked: set[str]) -> list[Edge]:
    """The edges of the draft without its parts: what left a part leaves the node; `asked` are the inputs regions take."""
    inside = set().union(*parts.values())
    moved: set[Edge] = set()
    kept = []
    for edge in draft.edges:
        if edge.target in inside:
            continue
        if edge.source in inside or (edge.source == head.id and edge.label in _PARTS):
            edge = replace(edge, source=head.id, label=None)
            if edge in moved:
                continue  # the ways out of `try` and `catch` meet: they are one way now
            moved.add(edge)
        elif edge.target == head.id and edge.port not in asked:
            edge = replace(edge, port=None)
        kept.append(edge)
    return kept


def _refuse(draft: Draft, head: Step, part: str, what: str, hint: str) -> NoReturn:
    raise CompileError(f"`{draft.name}`: the `{part}` part of TRY_CATCH `{head.name}` {what}", hint=hint)
