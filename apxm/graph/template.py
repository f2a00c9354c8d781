"""What placeholders a text holds and how they are filled. One pass: inserted text is never scanned again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from apxm.errors import InvalidError
from apxm.values import refuse_vast

TEXT_MAX = 256 * 1024 * 1024  # characters of a filled text

Kind: TypeAlias = Literal["name", "position", "node"]

# `{{node_7}}`, `{name}`, `{0}`. Any other brace is text. Four digits are more than the inputs a person can number.
_PLACEHOLDER = re.compile(r"\{\{\s*node_(?P<node>\d{1,18})\s*\}\}|\{(?P<position>\d{1,4})\}|\{(?P<name>[^\W\d]\w*)\}")


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A gap in a text: a named input or parameter, a positional input, or the value of predecessor `key`."""

    kind: Kind
    key: str | int

    def __str__(self) -> str:
        return f"{{{{node_{self.key}}}}}" if self.kind == "node" else f"{{{self.key}}}"


Lookup: TypeAlias = Callable[[Placeholder], Any]  # gives the value of a placeholder


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed text: pieces of text and placeholders in order. `names`, `positions`, `node_ids` are in order of first use."""

    segments: tuple[str | Placeholder, ...]
    names: tuple[str, ...]
    positions: tuple[int, ...]
    node_ids: tuple[int, ...]

    @property
    def placeholders(self) -> bool:
        """Whether there is anything to fill in."""
        return bool(self.names or self.positions or self.node_ids)

    @property
    def sole(self) -> Placeholder | None:
        """The placeholder that is the whole text, if it is one."""
        if len(self.segments) == 1 and isinstance(self.segments[0], Placeholder):
            return self.segments[0]
        return None

    def render(self, lookup: Lookup) -> str:
        """The text with every placeholder replaced by the text of its value."""
        parts = [part if isinstance(part, str) else as_text(lookup(part)) for part in self.segments]
        if sum(map(len, parts)) > TEXT_MAX:
            text = f"a text with its placeholders filled has more than {TEXT_MAX:,} characters"
            raise InvalidError(text, code="limit", hint="does it double itself?")
        return "".join(parts)


@lru_cache(maxsize=2048)
def parse(text: str) -> Template:
    """Split a text at its placeholders. Every text is a template; nothing is refused."""
    segments: list[str | Placeholder] = []
    end = 0
    for match in _PLACEHOLDER.finditer(text):
        if match.start() > end:
            segments.append(text[end : match.start()])
        kind = match.lastgroup
        key = match[kind] if kind is not None else ""
        if kind == "name":
            segments.append(Placeholder("name", key))
        else:
            segments.append(Placeholder("node" if kind == "node" else "position", int(key)))
        end = match.end()
    if end < len(text):
        segments.append(text[end:])
    return _template(tuple(segments))


def _template(segments: tuple[str | Placeholder, ...]) -> Template:
    keys: dict[Kind, dict[Any, None]] = {"name": {}, "position": {}, "node": {}}
    for part in segments:
        if isinstance(part, Placeholder):
            keys[part.kind][part.key] = None
    return Template(segments, tuple(keys["name"]), tuple(keys["position"]), tuple(keys["node"]))


def parse_filled(value: Any) -> Template:
    """All placeholders in the strings inside a JSON value, as one template; for knowing its names, not for rendering."""
    parts: list[Placeholder] = []
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            parts.extend(part for part in parse(item).segments if isinstance(part, Placeholder))
        elif isinstance(item, dict):
            stack.extend(reversed(item.values()))
        elif isinstance(item, (list, tuple)):
            stack.extend(reversed(item))
    return _template(tuple(parts))


def fill(value: Any, lookup: Lookup) -> Any:
    """A JSON value with the templates in its strings filled: a string that is one placeholder becomes the value itself."""
    if isinstance(value, str):
        template = parse(value)
        if not template.placeholders:
            return value
        sole = template.sole
        return template.render(lookup) if sole is None else lookup(sole)
    if isinstance(value, dict):
        return {key: fill(item, lookup) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [fill(item, lookup) for item in value]
    return value


def as_text(value: Any) -> str:
    """A value as it is inserted into a text: a string as it is, bytes as UTF-8, everything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    refuse_vast(value)
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    """What JSON shall say for a value it does not know: bytes inside a list, an array, a tensor."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.tolist() if hasattr(value, "tolist") else str(value)
