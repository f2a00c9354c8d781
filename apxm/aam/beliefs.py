"""What an agent holds to be true: a value with where it came from and how sure the agent is."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

from apxm.errors import InvalidError

KEY_CHARS_MAX = 1_000
PROGRAM, NODE = "program", "node `"  # sources that are no labels


@dataclass(frozen=True, slots=True)
class Belief:
    """One belief. `confidence` is from 0 to 1.

    `source` says where the value came from: provenance labels (`user`, `llm:<model>`, `tool:<name>`, `web`) with a comma
    between several; `program` or "node `name`" for a value of which nothing untrusted is known.
    """

    key: str
    value: Any
    source: str = "user"
    confidence: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.key, str) or not 0 < len(self.key) <= KEY_CHARS_MAX:
            raise InvalidError(f"belief key {self.key!r:.60} is not a text of 1 to {KEY_CHARS_MAX} characters")
        if not isinstance(self.source, str) or not self.source:
            raise InvalidError(f"the source of belief `{self.key}` is {self.source!r:.60}, expected a text")
        if type(self.confidence) not in (int, float) or not isfinite(self.confidence) or not 0 <= self.confidence <= 1:
            raise InvalidError(f"the confidence of belief `{self.key}` is {self.confidence!r}, expected a number from 0 to 1")

    @property
    def labels(self) -> tuple[str, ...]:
        """The provenance labels in `source`: what whatever is made of this belief has to carry."""
        return tuple(part for part in self.source.split(", ") if part != PROGRAM and not part.startswith(NODE))

    def to_map(self) -> dict[str, Any]:
        """JSON form: {value, source, confidence}."""
        return {"value": self.value, "source": self.source, "confidence": self.confidence}
