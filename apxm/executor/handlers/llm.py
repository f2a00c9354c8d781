"""ASK: a prompt is made of the inputs, a model is asked within budget, and its answer is the output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.errors import BindError
from apxm.executor.arguments import where
from apxm.executor.asking import Asker, prompt_renderer, schema_of, setting
from apxm.executor.bind import Bound, Kind
from apxm.graph.operation import Effect

if TYPE_CHECKING:
    from apxm.executor.bind import Binder, NodeSpec, Services
    from apxm.executor.context import OpContext


def bind_ask(spec: NodeSpec, services: Services) -> Bound:
    """Resolve the model, parse the prompt, compile the schema; what is left to a firing is to fill in and to ask."""
    _refuse_later(spec)
    asker = Asker(spec, services, schema=schema_of(spec), repairs=setting(spec, "max_schema_retries"))
    render = prompt_renderer(spec, setting(spec, "template_str"))

    async def ask(context: OpContext, *inputs: Any) -> Any:
        return await asker.answer(context, asker.messages(render(inputs)), asker.spending())

    return Bound(Kind.ASYNC, ask, Effect.PAID, label=asker.label)


def _refuse_later(spec: NodeSpec) -> None:
    """What this version would have to ignore, it refuses."""
    if setting(spec, "tools") and setting(spec, "tools_enabled"):
        raise BindError(
            f"{where(spec)} lists tools, and tool calls by a model come with the model layer",
            hint="call the capability with INV and give its result to ASK",
        )
    provider = setting(spec, "provider")
    if provider is not None:
        raise BindError(
            f"{where(spec)} names the provider `{provider}`, and providers come with the model layer",
            hint="register the model under a name and give that name as `model`",
        )
    if setting(spec, "context") != "none":
        raise BindError(f"{where(spec)} asks for context `{setting(spec, 'context')}`, which comes with the agent machine")


BINDERS: dict[str, Binder] = {"ASK": bind_ask}
