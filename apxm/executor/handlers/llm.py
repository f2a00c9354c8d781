"""ASK and THINK: a prompt is made of the inputs, a model is asked within budget, and its answer is the output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.executor.asking import Asker, prompt_renderer, schema_of, setting
from apxm.executor.bind import Bound, Kind
from apxm.executor.toolbox import Toolbox
from apxm.graph.operation import Effect
from apxm.llm.prompts import built_in

if TYPE_CHECKING:
    from apxm.executor.bind import Binder, NodeSpec, Services
    from apxm.executor.context import OpContext


def bind_ask(spec: NodeSpec, services: Services) -> Bound:
    """Resolve the model and its tools, parse the prompt, compile the schema; a firing fills in and asks."""
    names = setting(spec, "tools") if setting(spec, "tools_enabled") else ()
    toolbox = Toolbox(names, spec, services) if names else None
    return _asks(spec, Asker(spec, services, system=built_in.ASK, toolbox=toolbox, **_schema(spec)))


def bind_think(spec: NodeSpec, services: Services) -> Bound:
    """As ASK; the model may think first, for as many tokens as `budget` says."""
    return _asks(spec, Asker(spec, services, system=built_in.THINK, thinks=True, **_schema(spec)))


def _schema(spec: NodeSpec) -> dict[str, Any]:
    return {"schema": schema_of(spec), "repairs": setting(spec, "max_schema_retries")}


def _asks(spec: NodeSpec, asker: Asker) -> Bound:
    render = prompt_renderer(spec, setting(spec, "template_str"))

    async def ask(context: OpContext, *inputs: Any) -> Any:
        return await asker.answer(context, asker.messages(render(inputs)), asker.spending())

    return Bound(Kind.ASYNC, ask, Effect.PAID, label=asker.label)


BINDERS: dict[str, Binder] = {"ASK": bind_ask, "THINK": bind_think}
