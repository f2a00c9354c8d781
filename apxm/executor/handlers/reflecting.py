"""REFLECT: what happened is shown to a model, which says what is to be learned from it; that becomes an episode too."""

from __future__ import annotations

from functools import partial
from heapq import merge
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any

from apxm.errors import InvalidError
from apxm.executor.arguments import positions, renderer, where
from apxm.executor.asking import Asker, setting
from apxm.executor.bind import Bound, Kind
from apxm.graph.operation import Effect
from apxm.graph.template import as_text, parse
from apxm.llm.fencing import fence
from apxm.llm.prompts.built_in import REFLECT as SYSTEM_PROMPT
from apxm.llm.structured import OutputSchema
from apxm.memory.episodic.episode import FIRING
from apxm.memory.episodic.episodes import Wanted
from apxm.values import settle

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from apxm.executor.arguments import Render
    from apxm.executor.bind import Binder, NodeSpec, Services
    from apxm.executor.context import OpContext
    from apxm.memory.episodic import Episode, Episodes

TASK = "Look back at what happened, and say what is to be learned from it."
LINE_CHARS_MAX = 300  # of one episode, as the model sees it
PAST_MAX = 10_000  # earlier episodes that are looked at for those of a trace

_TEXTS = {"type": "array", "items": {"type": "string"}}
SCHEMA = {
    "type": "object",
    "properties": {"insights": _TEXTS, "patterns": _TEXTS, "recommendations": _TEXTS, "summary": {"type": "string"}},
    "required": ["insights", "patterns", "recommendations", "summary"],
    "additionalProperties": False,
}


class _Reflection:
    """What one REFLECT shows to its model: its task, the inputs that no text uses, and episodes."""

    def __init__(self, spec: NodeSpec, waits: bool) -> None:
        self.where, self.waits = where(spec), waits
        task, trace = setting(spec, "template_str"), spec.attributes.get("trace_id")
        self.task: Render = renderer(spec, task if task.strip() else TASK)
        self.trace: Render | None = None if trace is None else renderer(spec, trace)
        self.limit: int = setting(spec, "history_limit")
        used = {at for text in (task, trace or "") for at in positions(spec, parse(text)).values()}
        self.free = [at for at in range(len(spec.inputs)) if at not in used]

    async def prompt(self, context: OpContext, inputs: Sequence[Any]) -> str:
        """The user turn. InvalidError when there is nothing to look back at: no input, and no episodes are kept."""
        parts = [self.task(inputs), *(fence("input", as_text(inputs[at])) for at in self.free)]
        episodes = context.run.episodes
        if episodes is None:
            if not self.free:
                hint = 'set MemoryConfig(episodic="memory"), or give it an input to look back at'
                raise InvalidError(f"{self.where} has nothing to look back at: no episodes are kept here", hint=hint)
            return "\n\n".join(parts)
        look = partial(self._episodes, context.run.run_id, context.agent, self.trace(inputs) if self.trace else None, episodes)
        now, past = await context.run.memory.later(look) if self.waits else look()
        if now or past:
            context.owe(("memory:episodic", *(label for one in (*now, *past) for label in one.labels)))
        parts.append(_shown("episodes", "Episodes of this run, oldest first:", now) if now else "This run has no episodes of it.")
        if past:
            parts.append(_shown("past", "Earlier episodes of this agent, oldest first:", past))
        return "\n\n".join(parts)

    def _episodes(self, run: str, agent: str, trace: str | None, episodes: Episodes) -> tuple[list[Episode], list[Episode]]:
        """The newest episodes of this run, and with what is left of the limit those of earlier runs; each oldest first.

        Without a trace those of this run are of all its agents. Earlier ones are of this agent, except that a trace which
        is the id of a run means that run, whoever worked in it. That a node fired is shown to who asks for it alone.
        """
        firings = trace is not None and trace.partition(":")[0] == FIRING
        now = (one for one in episodes.select(Wanted(run=run, firings=firings)) if _is_of(one, trace))
        shown = list(islice(now, self.limit))
        of_agent: Iterator[Episode] = episodes.select(Wanted(agent=agent, firings=firings))
        if trace is None:
            earlier = (one for one in of_agent if one.run != run)
        else:
            of_others = (one for one in episodes.select(Wanted(run=trace, firings=firings)) if one.agent != agent)
            both = merge(islice(of_agent, PAST_MAX), of_others, key=lambda one: -one.number)
            earlier = (one for one in both if one.run != run and _is_of(one, trace))
        return shown[::-1], list(islice(earlier, self.limit - len(shown)))[::-1]


def _is_of(one: Episode, trace: str | None) -> bool:
    """Whether an episode is of a trace: the id of its run, its kind, its type, its operation or its node."""
    return trace is None or trace in (one.run, one.kind, one.target, one.key, one.op, one.name)


def _shown(name: str, title: str, episodes: Sequence[Episode]) -> str:
    return f"{title}\n{fence(name, chr(10).join(map(line_of, episodes)))}"


def line_of(one: Episode) -> str:
    """An episode on one line of at most LINE_CHARS_MAX characters."""
    who = f"{one.agent}.{one.flow} `{one.name}`" if one.name else one.agent
    if one.kind == "record":
        text = f"{who} put on record {one.target}: {as_text(one.value)}"
    elif one.kind == "reflection":
        text = f"{who} reflected: {one.value['summary']}"
    else:
        ended = one.outcome if one.code is None else f"{one.outcome} ({one.code})"
        tokens = sum((one.usage or {}).get(name, 0) for name in ("input_tokens", "output_tokens"))
        spent = f", {tokens:g} tokens" if tokens else ""
        said = "".join(f"; {name}: {text}" for name, text in (one.content or {}).items())
        text = f"{who} {one.op} {one.key}: {ended} in {one.duration_ms:.0f} ms{spent}{said}"
    text = " ".join(text.split())
    return text if len(text) <= LINE_CHARS_MAX else f"{text[:LINE_CHARS_MAX]}…"


def bind_reflect(spec: NodeSpec, services: Services) -> Bound:
    """Resolve the model and parse the texts; which episodes there are is known when it fires."""
    reflection = _Reflection(spec, services.memory_waits("episodic"))
    asker = Asker(spec, services, system=SYSTEM_PROMPT, schema=OutputSchema(SCHEMA), repairs=setting(spec, "max_schema_retries"))

    async def reflect(context: OpContext, *inputs: Any) -> Any:
        prompt = await reflection.prompt(context, inputs)
        began = perf_counter()
        answer = await asker.answer(context, asker.messages(prompt), asker.spending())
        run = context.run
        if run.episodes is not None:
            took_ms = (perf_counter() - began) * 1e3
            place, labels = context.place(), tuple(dict.fromkeys((asker.label, *context.origins())))
            run.episodes.add(run.run_id, place, "reflection", context.name, took_ms, value=settle(answer), labels=labels)
        return answer

    return Bound(Kind.ASYNC, reflect, Effect.PAID, label=asker.label)


BINDERS: dict[str, Binder] = {"REFLECT": bind_reflect}
