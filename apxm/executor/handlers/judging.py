"""VERIFY: a claim is held against evidence, or a value against a condition, and a verdict comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from apxm.errors import BindError
from apxm.executor.arguments import positions, renderer, where
from apxm.executor.asking import Asker, setting
from apxm.executor.bind import Bound, Kind
from apxm.graph.operation import Effect
from apxm.graph.template import as_text, parse
from apxm.llm.fencing import fence
from apxm.llm.prompts import built_in
from apxm.llm.structured import OutputSchema
from apxm.llm.verdict import VERDICT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apxm.executor.bind import Binder, NodeSpec, Services
    from apxm.executor.context import OpContext

    Material: TypeAlias = Callable[[Sequence[Any]], str]

PARTS = ("claim", "evidence", "condition")
_QUESTIONS = {
    "condition": "Does the subject meet the condition?",
    "evidence": "Does the claim follow from the evidence?",
    "claim": "Is the claim true, as far as you can know? There is no evidence besides what you know.",
}


def bind_verify(spec: NodeSpec, services: Services) -> Bound:
    """Decide which input is the claim and which the evidence, and parse the texts; a firing fills in and asks."""
    asker = Asker(
        spec, services, system=built_in.VERIFY, schema=OutputSchema(VERDICT), repairs=setting(spec, "max_schema_retries")
    )
    render = _prompt(spec)
    as_bool = setting(spec, "as_bool")

    async def verify(context: OpContext, *inputs: Any) -> Any:
        said = await asker.answer(context, asker.messages(render(inputs)), asker.spending())
        if as_bool:
            return said["verdict"] == "confirmed"
        return {"verdict": said["verdict"], "confidence": float(said["confidence"]), "reasoning": said["reasoning"]}

    return Bound(Kind.ASYNC, verify, Effect.PAID, label=asker.label)


def _prompt(spec: NodeSpec) -> Material:
    """The question, the node's own or the built-in one, and below it the material, each part between tags of its own.

    A template with placeholders says itself where its inputs go: then only what attributes give follows it.
    """
    template = spec.attributes.get("template_str", "")
    materials = _materials(spec, taken=bool(parse(template).placeholders))
    if not template.strip():
        question = _QUESTIONS[next(name for name in _QUESTIONS if name in materials)]
        return lambda inputs: "\n\n".join([question, *_fenced(materials, inputs)])
    own = renderer(spec, template)
    return lambda inputs: "\n\n".join([own(inputs), *_fenced(materials, inputs)])


def _fenced(materials: dict[str, Material], inputs: Sequence[Any]) -> list[str]:
    return [fence(name, text(inputs)) for name, text in materials.items()]


def _materials(spec: NodeSpec, *, taken: bool) -> dict[str, Material]:
    """What is judged, by name: what attributes say, and of the inputs that they leave, by port or in order, what they do not.

    Order: claim or subject, evidence, condition.
    """
    found: dict[str, Material] = {part: renderer(spec, spec.attributes[part]) for part in PARTS if part in spec.attributes}
    own = spec.attributes.get("template_str", "").strip()
    if not taken:
        used = {at for part in found for at in positions(spec, parse(spec.attributes[part])).values()}
        free = [at for at in range(len(spec.inputs)) if at not in used]
        for part in ("claim", "evidence"):
            at = next((at for at in free if spec.inputs[at].port == part), None)
            if at is None and (part == "claim" or "condition" not in found):
                at = next((at for at in free if spec.inputs[at].port not in PARTS), None)
            if part not in found and at is not None:
                free.remove(at)
                found[part] = _input(at)
    if "claim" not in found and not own:
        raise BindError(f"{where(spec)} has nothing to judge", hint="give it `claim`, or an input")
    if "condition" in found and "claim" in found:
        found["subject"] = found.pop("claim")
    return {name: found[name] for name in ("claim", "subject", "evidence", "condition") if name in found}


def _input(at: int) -> Material:
    return lambda inputs: as_text(inputs[at])


BINDERS: dict[str, Binder] = {"VERIFY": bind_verify}
