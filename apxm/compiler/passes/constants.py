"""Constant folding: a list or text made of constants only is a constant."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from apxm.graph.model import Dependency
from apxm.graph.ops import OPERATIONS
from apxm.graph.template import as_text

if TYPE_CHECKING:
    from apxm.compiler.draft import Draft, Step
    from apxm.compiler.passes import Facts
    from apxm.compiler.report import PassLog
    from apxm.graph.model import Edge

NAME = "constants"
SAFE_WHEN = (
    "the node is WAIT_ALL, or MERGE array or concat, and every input is an unlabelled edge from a CONST_STR that nothing "
    "gates or orders"
)
_TEXT_MAX = 4_096  # characters of JSON: what is larger is better stored once per constant than once more per list


def run(draft: Draft, facts: Facts, log: PassLog) -> None:
    """Fold what can be folded, along the order, so that lists of lists fold too."""
    if all(_mode(step) is None for step in draft.steps.values()):
        return
    ins = draft.ins()
    for id in draft.order():
        step = draft.steps[id]
        mode = _mode(step)
        inputs = [edge for edge in ins[id] if edge.dependency is Dependency.DATA]
        if mode is None or not inputs or any(_constant(draft, ins, edge) is None for edge in inputs):
            continue
        reason = _refusal(step, inputs)
        values = [draft.steps[edge.source].attributes["value"] for edge in inputs if isinstance(edge.source, int)]
        folded: Any = values if mode == "array" else "".join(map(as_text, values))
        if reason is None and len(json.dumps(folded, default=repr)) > _TEXT_MAX:
            reason = f"the result has more than {_TEXT_MAX} characters"
        if reason is not None:
            log.decline(draft.name, step.name, reason)
            continue
        step.op, step.attributes = OPERATIONS["CONST_STR"], {"value": folded}
        ins[id] = [edge for edge in ins[id] if edge.dependency is not Dependency.DATA]
        draft.edges = [edge for edge in draft.edges if edge.target != id or edge.dependency is not Dependency.DATA]
        log.do(draft.name, step.name, f"a constant made of {len(values)} constants")


def _mode(step: Step) -> str | None:
    """How a step joins its inputs, if that can be done now."""
    if step.op.name == "WAIT_ALL":
        return "array"
    mode = step.attributes.get("mode") if step.op.name == "MERGE" else None
    return mode if mode in ("array", "concat") else None


def _constant(draft: Draft, ins: dict[int, list[Edge]], edge: Edge) -> Step | None:
    """The free constant that an edge comes from, or None."""
    if not isinstance(edge.source, int) or edge.label is not None or ins[edge.source]:
        return None
    step = draft.steps[edge.source]
    return step if step.op.name == "CONST_STR" else None


def _refusal(step: Step, inputs: list[Edge]) -> str | None:
    extra = sorted(set(step.attributes) - {"mode"})
    return f"it has the attribute `{extra[0]}`" if extra else None
