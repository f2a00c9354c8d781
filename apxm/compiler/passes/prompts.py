"""Prompt building: what a prompt says without saying so is written out, so that binding has nothing to decide.

An empty prompt is its first input; a prompt without placeholders is followed by its inputs, as `Context 1: ...`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.graph import template
from apxm.graph.model import Dependency
from apxm.graph.region import is_position

if TYPE_CHECKING:
    from apxm.compiler.draft import Draft
    from apxm.compiler.passes import Facts
    from apxm.compiler.report import PassLog
    from apxm.graph.model import Edge

NAME = "prompts"
SAFE_WHEN = "the prompt has inputs and no placeholders, and every input can be written as a placeholder"
_OPERATIONS = ("ASK", "THINK", "REASON")
_POSITIONS_MAX = 10_000  # a placeholder has four digits at most


def run(draft: Draft, facts: Facts, log: PassLog) -> None:
    """Write out every prompt that leaves something to be understood."""
    if all(step.op.name not in _OPERATIONS for step in draft.steps.values()):
        return
    ins = draft.ins()
    for step in draft.steps.values():
        text = step.attributes.get("template_str", "")
        inputs = [edge for edge in ins[step.id] if edge.dependency is Dependency.DATA]
        if step.op.name not in _OPERATIONS or not inputs or template.parse(text).placeholders:
            continue
        empty = not text.strip()
        places = _placeholders(inputs[:1] if empty else inputs)
        if places is None:
            log.decline(draft.name, step.name, "an input whose port cannot be a placeholder")
            continue
        context = [f"Context {number}: {place}" for number, place in enumerate(places, 1)]
        step.attributes["template_str"] = places[0] if empty else "\n\n".join([text, *context])
        log.do(draft.name, step.name, f"the prompt is its first input, {places[0]}" if empty else "its inputs follow the prompt")


def _placeholders(inputs: list[Edge]) -> list[str] | None:
    """How each input is written in a text, or None when one of them cannot be. The inputs without a name come first."""
    places = []
    for position, edge in enumerate(inputs):
        if edge.port is None or is_position(edge.port):
            places.append(f"{{{position}}}")
        elif template.parse(f"{{{edge.port}}}").names == (edge.port,):
            places.append(f"{{{edge.port}}}")
        else:
            return None
    return places if len(places) < _POSITIONS_MAX else None
