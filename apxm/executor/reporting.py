"""How a call to the world is told to whoever listens, and put on record. Makes an event only when somebody does."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from apxm.graph.template import as_text
from apxm.observability.events import Called

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apxm.executor.context import OpContext
    from apxm.llm.base import Prompt, Reply, ToolCall

CONTENT_MAX = 32_768  # characters of a prompt, reply, argument or result that an event carries


def report(
    context: OpContext,
    kind: str,
    target: str,
    began: float,
    error: BaseException | None,
    *,
    usage: dict[str, Any] | None = None,
    details: dict[str, Any] | None = None,
    content: dict[str, str] | None = None,
    recorded: bool = True,
    label: str | None = None,
) -> None:
    """Tell of a call that began at `began` (perf_counter) and has ended just now: as Called, and as an episode.

    `recorded` is False for what is too quick and harmless to be an episode: an inline call that only reads. `label` is that
    of the answer, when the node does not have it anyhow.
    """
    took_ms = (perf_counter() - began) * 1e3
    run = context.run
    said = code = None
    if error is not None:
        said, code = str(error) or type(error).__name__, getattr(error, "code", type(error).__name__)
    episodes = run.episodes
    if episodes is not None and recorded:
        kept = content if said is None or not run.content else {**(content or {}), "error": said}
        labels: tuple[str, ...] = ()
        if kept and episodes.content == "text":
            labels = tuple(dict.fromkeys((*context.origins(), *((label,) if label is not None else ()))))
        episodes.add(run.run_id, context.place(), kind, target, took_ms, code, usage, kept, labels=labels)
    if run.heard:
        if not run.tells_content:
            content = None
        ok = error is None
        run.publish(Called(context.path, context.node, kind, target, took_ms, ok, usage, said, details, content, code))


def said_to_model(prompt: Prompt, reply: Reply | None) -> dict[str, str]:
    """The content of a model call: every message with its role, and the reply; calls of tools as `-> name {arguments}`."""
    turns = (f"{message.role}: {_with_calls(message.content, message.tool_calls)}" for message in prompt.messages)
    said = {"prompt": _cut("\n\n".join(turns))}
    return said if reply is None else {**said, "reply": _cut(_with_calls(reply.text, reply.tool_calls))}


def _with_calls(text: str, calls: Sequence[ToolCall]) -> str:
    return "\n".join([*([text] if text or not calls else ()), *(f"-> {call.name} {as_text(call.arguments)}" for call in calls)])


def said_to_tool(args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> dict[str, str]:
    """The content of a capability call: its arguments, by name or as a list, and its result."""
    return {"arguments": _cut(as_text(kwargs if kwargs else list(args))), "result": _cut(as_text(result))}


def said_chunk(value: Any) -> str:
    """The content of a chunk."""
    return _cut(as_text(value))


def said_in_message(message: Any, reply: Any) -> dict[str, str]:
    """The content of a message: what was sent, and what came back."""
    said = {"arguments": _cut(as_text(message))}
    return said if reply is None else {**said, "result": _cut(as_text(reply))}


def _cut(text: str) -> str:
    return text if len(text) <= CONTENT_MAX else f"{text[:CONTENT_MAX]}… ({len(text)} characters)"
