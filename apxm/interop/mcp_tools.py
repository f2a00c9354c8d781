"""Tools of MCP as capabilities, and what they give as values. Talks to nobody."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from apxm.capability.record import CapabilityRecord
from apxm.errors import CapabilityError, InvalidError
from apxm.graph.operation import Effect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mcp.types import CallToolResult, Tool, ToolAnnotations

EFFECT, BOUNDS = "apxm/effect", "apxm/bounds"  # what `_meta` of a tool of ours says
DESCRIPTION_MAX = 4_000  # characters; more would be a prompt, not a description
RESULT_MAX = 4 * 1024 * 1024  # bytes of what one call gives


def record_of_tool(
    tool: Tool,
    call: Callable[[str, dict[str, Any]], Awaitable[Any]],
    *,
    effect: str | Effect,
    timeout_ms: float | None,
    source: str | None,
) -> CapabilityRecord:
    """A capability that calls the tool with its arguments by name; InvalidError when its schema is of no use."""

    async def called(**arguments: Any) -> Any:
        return await call(tool.name, arguments)

    called.__qualname__ = tool.name
    about = tool.description or tool.title or tool.name
    try:
        return CapabilityRecord(
            about[:DESCRIPTION_MAX],
            called,
            parameters=tool.input_schema,
            effect=effect,
            timeout_ms=timeout_ms,
            gives=True,
            source=source,
        )
    except InvalidError as error:
        raise InvalidError(error.message, hint=f"leave it out: only=[…] without {tool.name!r:.80}") from error


def declared_effect(tool: Tool) -> Effect:
    """The effect class that a tool claims to have, by the name that our own servers give it or by hints. It may be a lie."""
    named = (tool.meta or {}).get(EFFECT)
    if named in [effect.value for effect in Effect]:
        return Effect(named)
    hints = tool.annotations
    if hints is not None and hints.read_only_hint:
        return Effect.READ
    if hints is not None and hints.idempotent_hint:
        return Effect.IDEMPOTENT
    return Effect.GUARDED


def hints_of(effect: Effect) -> ToolAnnotations:
    """What a tool with this effect says of itself."""
    from mcp.types import ToolAnnotations

    reads = effect in (Effect.PURE, Effect.READ, Effect.PAID)
    guarded = effect is Effect.GUARDED
    return ToolAnnotations(read_only_hint=reads, destructive_hint=guarded, idempotent_hint=not guarded)


def value_of(result: CallToolResult, whose: str) -> Any:
    """What a call gave: the structured content if there is some, else its text, else a list of its parts as maps.

    CapabilityError when the tool says that it failed, or gives more than RESULT_MAX.
    """
    size = sum(len(part.model_dump_json()) for part in result.content)
    if result.structured_content is not None:
        size = max(size, len(json.dumps(result.structured_content)))
    if size > RESULT_MAX:
        raise CapabilityError(f"{whose} gives {size} bytes, at most {RESULT_MAX} are taken")
    parts = [_part(content.model_dump(mode="json", by_alias=False, exclude_none=True)) for content in result.content]
    if result.is_error:
        said = "; ".join(part if isinstance(part, str) else json.dumps(part) for part in parts)
        raise CapabilityError(f"{whose} failed: {said[:2_000] or 'it does not say why'}")
    if result.structured_content is not None:
        return result.structured_content
    if all(isinstance(part, str) for part in parts):
        return "\n".join(parts)
    return parts


def _part(content: Mapping[str, Any]) -> Any:
    """One part of a result: a text as it is, an image, a sound, a resource as a map of what it says."""
    if content["type"] == "text":
        return content["text"]
    return {name: value for name, value in content.items() if name not in ("annotations", "meta")}
