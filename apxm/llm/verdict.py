"""What a verdict is: the JSON Schema that VERIFY asks with, and by which a model knows that one is wanted."""

from __future__ import annotations

from typing import Any

VERDICTS = ("confirmed", "refuted", "insufficient")

# `reasoning` comes first: a model that writes it before it decides judges better than one that has decided.
VERDICT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "reasoning": {"type": "string"},
        "verdict": {"enum": list(VERDICTS)},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "required": ["reasoning", "verdict", "confidence"],
    "additionalProperties": False,
}


def asks_for_verdict(schema: dict[str, Any]) -> bool:
    """Whether the answer that a schema wants is a verdict."""
    properties = schema.get("properties")
    wanted = properties.get("verdict") if isinstance(properties, dict) else None
    return isinstance(wanted, dict) and wanted.get("enum") == list(VERDICTS)
