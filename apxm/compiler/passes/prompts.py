"""Prompt building: an empty prompt is its first input; written out, nothing has to be decided when the node is bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.graph.model import Dependency
from apxm.graph.region import is_position

if TYPE_CHECKING:
    from apxm.compiler.draft import Draft
    from apxm.compiler.passes import Facts
    from apxm.compiler.report import PassLog
    from apxm.graph.model import Edge

NAME = "prompts"
SAFE_WHEN = "the prompt is empty and the first input can be written as a placeholder"
_OPERATIONS = ("ASK", "THINK", "REASON")


def run(draft: Draft, facts: Facts, log: PassLog) -> None:
    """Give every empty prompt its text."""
    if all(step.op.name not in _OPERATIONS for step in draft.steps.values()):
        return
    ins = draft.ins()
    for step in draft.steps.values():
        if step.op.name not in _OPERATIONS or step.attributes.get("template_str", "") != "":
            continue
        first = next((edge for edge in ins[step.id] if edge.dependency is Dependency.DATA), None)
        text = _placeholder(first)
        if text is None:
            log.decline(draft.name, step.name, "no input whose name can be a placeholder")
        else:
            step.attributes["template_str"] = text
            log.do(draft.name, step.name, f"the prompt is its first input, {text}")


def _placeholder(edge: Edge | None) -> str | None:
    if edge is None:
        return None
    if edge.port is None or is_position(edge.port):
        return "{0}"
    text = f"{{{edge.port}}}"
    from apxm.graph.template import parse

    return text if parse(text).names == (edge.port,) else None
