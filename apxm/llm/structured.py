"""Answers that must fit a JSON Schema: finds the JSON in a text, checks it, says what is wrong. Calls no model."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from apxm.errors import InvalidError, ValueRefused
from apxm.values import check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VIOLATIONS_MAX = 10  # told to the model at once
VIOLATION_CHARS_MAX = 400
STARTS_MAX = 50  # places in a text at which JSON is looked for

_START = re.compile(r"[{\[]")


class OutputSchema:
    """A JSON Schema, compiled. It must stand alone: remote references are refused, patterns run in linear time."""

    __slots__ = ("_validator", "schema", "text")

    def __init__(self, schema: Mapping[str, Any]) -> None:
        import jsonschema_rs

        self.schema: dict[str, Any] = dict(schema)
        try:
            self.text = json.dumps(self.schema, ensure_ascii=False)
            self._validator = jsonschema_rs.validator_for(self.schema, offline=True, pattern_options=jsonschema_rs.RegexOptions())
        except (ValueError, TypeError) as error:  # also what jsonschema_rs raises of its own
            raise InvalidError(f"output_schema is no valid JSON Schema: {getattr(error, 'message', error)}") from error

    def read(self, text: str) -> tuple[Any, list[str]]:
        """The value in an answer and what is wrong with it; no violations means that the value fits.

        The answer may be JSON, hold it in a fenced block or have it amid other text: the first that fits counts, else the
        first that is JSON.
        """
        first: tuple[Any, list[str]] | None = None
        for value in candidates(text):
            violations = self.violations(value)
            if not violations:
                return value, []
            first = first or (value, violations)
        return first or (None, ["the answer holds no JSON"])

    def violations(self, value: Any) -> list[str]:
        """Everything a value breaks, with the place in it; at most VIOLATIONS_MAX."""
        try:
            check(value, "the answer")
            errors = islice(self._validator.iter_errors(value), VIOLATIONS_MAX)
            return [_violation(error.message, error.instance_path) for error in errors]
        except ValueRefused as refused:
            return [str(refused)]


def _violation(message: str, path: list[str | int]) -> str:
    place = "".join(f"[{json.dumps(step, ensure_ascii=False)}]" for step in path)
    text = f"at {place}: {message}" if place else message
    return text if len(text) <= VIOLATION_CHARS_MAX else f"{text[: VIOLATION_CHARS_MAX - 1]}…"


def candidates(text: str) -> Iterator[Any]:
    """Everything in a text that may be meant as its JSON, most likely first."""
    bare = text.strip()
    whole, found = _parsed(bare)
    if found:
        yield whole
        return
    for block in islice(_fenced(text), STARTS_MAX):
        value, found = _parsed(block)
        if found:
            yield value
    decoder = json.JSONDecoder()
    end = 0
    for start in islice(_START.finditer(text), STARTS_MAX):
        if start.start() < end:
            continue  # inside what was found already
        try:
            value, end = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            continue
        yield value


def _fenced(text: str) -> Iterator[str]:
    """The contents of the fenced blocks of a Markdown text."""
    block: list[str] | None = None
    for line in text.splitlines():
        if not line.lstrip().startswith(("```", "~~~")):
            if block is not None:
                block.append(line)
        elif block is None:
            block = []
        else:
            yield "\n".join(block).strip()
            block = None


def _parsed(text: str) -> tuple[Any, bool]:
    try:
        return json.loads(text), True
    except (ValueError, RecursionError):
        return None, False
