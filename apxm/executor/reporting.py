"""How a call to the world is told to whoever listens. Makes an event only when somebody does."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from apxm.graph.template import as_text
from apxm.observability.events import Called

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apxm.executor.context import OpContext
    from apxm.llm.base import Prompt, Reply

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
) -> None:
    """Publish Called for a call that began at `began` (perf_counter) and has ended just now."""
    took_ms = (perf_counter() - began) * 1e3
    said = code = None
    if error is not None:
        said, code = str(error) or type(error).__name__, getattr(error, "code", type(error).__name__)
    ok = error is None
    context.run.publish(Called(context.path, context.node, kind, target, took_ms, ok, usage, said, details, content, code))


def said_to_model(prompt: Prompt, reply: Reply | None) -> dict[str, str]:
    """The content of a model call: every message with its role, and the reply."""
    said = {"prompt": _cut("\n\n".join(f"{message.role}: {message.content}" for message in prompt.messages))}
    return said if reply is None else {**said, "reply": _cut(reply.text)}


def said_to_tool(args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> dict[str, str]:
    """The content of a capability call: its arguments, by name or as a list, and its result."""
    return {"arguments": _cut(as_text(kwargs if kwargs else list(args))), "result": _cut(as_text(result))}


def _cut(text: str) -> str:
    return text if len(text) <= CONTENT_MAX else f"{text[:CONTENT_MAX]}… ({len(text)} characters)"
