"""What a step does besides giving a value: the question that every pass must ask before it removes or merges anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.graph.ops import Effect

if TYPE_CHECKING:
    from apxm.compiler.draft import Step
    from apxm.compiler.passes import Facts

# Without an effect, and yet there for more than their value.
_PURPOSE = {
    "ERR": "it fails on purpose",
    "GUARD": "it may fail on purpose",
    "JUMP": "it is there to go somewhere",
    "RETURN": "it gives the value of the flow",
    "YIELD": "it gives the value of its region",
    "RESUME": "it waits for an answer",
}


def effect_of(step: Step, facts: Facts) -> Effect | None:
    """The effect class of a step without regions; None when it is not known."""
    if step.op.name == "INV":
        known = facts.get(str(step.attributes.get("capability")))
        return Effect(known.effect) if known is not None and known.effect is not None else None
    return step.op.effect


def keeps(step: Step, facts: Facts) -> str | None:
    """Why a step must stay although nobody needs its value; None when it may go."""
    if step.regions:
        return "it has regions"
    if step.op.name in _PURPOSE:
        return _PURPOSE[step.op.name]
    effect = effect_of(step, facts)
    if effect is None:
        return "its effect is not known at compile time"
    if effect not in (Effect.PURE, Effect.READ):
        return f"its effect class is {effect.value}"
    if step.op.name == "QMEM" and "staging_id" in step.attributes:
        return "it also sets a belief"
    if step.op.name == "QMEM" and step.attributes.get("memory_tier") == "all":
        return "it also copies what it finds into STM"
    if step.op.name == "MERGE" and step.attributes.get("mode") == "sum":
        return "it fails on what is no number"
    return None
