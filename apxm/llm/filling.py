"""JSON from a model that only quotes: fills the gaps of a schema with quotes, and gives up at the first that they cannot fill.

A text is the answer that the model gives without a schema, `summary` the most central sentences. The first list of texts gets
the quotes, further ones stay empty. A number is the only one in the best quote, a choice the only one that the best quote
names. A list of steps (maps with `description` and `dependencies`) is one step, which quotes the goal. Lists that may be empty
are. Yes or no cannot be quoted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from apxm.llm.fencing import fenced
from apxm.llm.structured import OutputSchema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DEPTH_MAX = 12
ALTERNATIVES_MAX = 8
TEXTS_MAX = 5  # quotes in a list
_NUMBER = re.compile(r"(?<![\w.,])-?\d+(?:\.\d+)?(?![\w]|[.,]\d)")
_WORD = re.compile(r"\w+")
_GOAL = re.compile(r"^Goal:[ \t]*(\S.*(?:\n\S.*)*)", re.MULTILINE)
ONE_STEP = "The goal is the only step: a model that only quotes cannot split it."
_KINDS = ("string", "array", "object", "integer", "number", "null")  # of several types, the first of these


class Unfit(Exception):
    """Something that no quote can fill."""


@dataclass
class Material:
    """What a prompt gives to fill in. The functions are called when they are first needed, once."""

    prompt: str
    answer: Callable[[], str]
    relevant: Callable[[], Sequence[str]]  # what answers the question, best first
    central: Callable[[], Sequence[str]]
    summary: Callable[[], str]
    question: str

    @cached_property
    def text(self) -> str:
        return self.answer()

    @cached_property
    def quoted(self) -> Sequence[str]:
        return self.relevant()

    @property
    def goal(self) -> str:
        """What a plan is for: what stands between tags, after `Goal:`, else the question."""
        found = _GOAL.search(self.prompt)
        return fenced(self.prompt).get("goal") or (found[1] if found else self.question)


def fill(schema: dict[str, Any], material: Material) -> Any:
    """A value that fits the schema, made of quotes; Unfit when that cannot be."""
    value = _Filling(schema, material).value(schema, "", 0)
    if value in ({}, []):
        raise Unfit("nothing of it can be filled with a quote")
    violations = OutputSchema(schema).violations(value)
    if violations:
        raise Unfit(violations[0])
    return value


class _Filling:
    """One schema while it is filled."""

    def __init__(self, root: dict[str, Any], material: Material) -> None:
        self.root, self.material = root, material
        self.listed = False  # the quotes are in a list already
        self.planned = False  # the goal is a step already

    def value(self, schema: Any, name: str, depth: int) -> Any:
        """What stands for a part of the schema; `name` is that of its property."""
        if depth > DEPTH_MAX:
            raise Unfit("the schema is nested too deeply")
        if schema is True or schema == {} or not isinstance(schema, dict):
            return self._text(name)
        if "$ref" in schema:
            return self.value(self._referred(schema["$ref"]), name, depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._choice(schema["enum"])
        for several in ("anyOf", "oneOf"):
            if several in schema:
                return self._first(schema[several], name, depth)
        return self._typed(schema, name, depth)

    def _typed(self, schema: Mapping[str, Any], name: str, depth: int) -> Any:
        said = schema.get("type", "object" if "properties" in schema else "array" if "items" in schema else "string")
        types = said if isinstance(said, list) else [said]
        match next((kind for kind in _KINDS if kind in types), None):
            case "string":
                most = schema.get("maxLength")
                text = self._text(name)
                return text[:most] if isinstance(most, int) else text
            case "array":
                return self._list(schema, depth)
            case "object":
                return self._map(schema, depth)
            case "integer" | "number":
                return self._number()
            case "null":
                return None
        raise Unfit(f"`{name}` is neither a text nor a list of texts, which is all that can be quoted")

    def _text(self, name: str) -> str:
        if self.planned:
            return ONE_STEP
        return self.material.summary() if name == "summary" else self.material.text

    def _list(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        items, least = schema.get("items", {}), schema.get("minItems", 0)
        properties = items.get("properties", {}) if isinstance(items, dict) else {}
        if "description" in properties and "dependencies" in properties:
            self.planned = bool(self.material.goal)
            return [{"description": self.material.goal}] if self.planned else []
        if isinstance(items, dict) and items.get("type") == "string" and not self.listed:
            self.listed = True
            quotes = self.material.quoted or self.material.central()
            return list(quotes[: min(TEXTS_MAX, schema.get("maxItems", TEXTS_MAX))])
        return [self.value(items, "", depth + 1) for _ in range(min(least, TEXTS_MAX))]

    def _map(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = schema.get("required", ())
        found = {}
        for name, inner in properties.items():
            try:
                if not required or name in required:
                    found[name] = self.value(inner, name, depth + 1)
            except Unfit:
                if required:
                    raise
        return found

    def _first(self, schemas: Sequence[Any], name: str, depth: int) -> Any:
        for schema in schemas[:ALTERNATIVES_MAX]:
            try:
                return self.value(schema, name, depth + 1)
            except Unfit:
                continue
        raise Unfit(f"none of the alternatives for `{name}` can be quoted")

    def _choice(self, members: Sequence[Any]) -> Any:
        """The only member that the best quote names."""
        best = _words(self._best())
        named = [one for one in members if isinstance(one, str) and _words(one) in best]
        if len(named) != 1:
            raise Unfit(f"the best quote names {len(named)} of the choices")
        return named[0]

    def _number(self) -> int | float:
        """The only number in the best quote."""
        found = _NUMBER.findall(self._best())
        if len(found) != 1:
            raise Unfit(f"the best quote has {len(found)} numbers")
        return float(found[0]) if "." in found[0] else int(found[0])

    def _best(self) -> str:
        """The best quote, without its source."""
        if not self.material.quoted:
            raise Unfit("nothing answers the question")
        return self.material.quoted[0].rpartition(" [")[0]

    def _referred(self, reference: Any) -> Any:
        """What `#/…` points to in the schema."""
        found: Any = self.root
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise Unfit(f"the reference {reference!r} leads out of the schema")
        for step in reference[1:].split("/")[1:]:
            found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        if found is None:
            raise Unfit(f"the reference {reference!r} leads nowhere")
        return found


def _words(text: str) -> str:
    """The words of a text with a space around each, so that one text can be looked for in another."""
    return f" {' '.join(_WORD.findall(text.lower()))} "
