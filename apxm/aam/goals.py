"""What an agent wants to reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apxm.errors import InvalidError

STATUSES = ("active", "completed")
ID_CHARS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal. A larger `priority` is more important; `parent` is the id of the goal that this one serves."""

    id: str
    description: str
    priority: int = 1
    status: str = "active"
    parent: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not 0 < len(self.id) <= ID_CHARS_MAX:
            raise InvalidError(f"goal id {self.id!r:.60} is not a text of 1 to {ID_CHARS_MAX} characters")
        if not isinstance(self.description, str):
            raise InvalidError(f"the description of goal `{self.id}` is a {type(self.description).__name__}, expected a text")
        if type(self.priority) is not int or self.priority < 0:
            raise InvalidError(f"the priority of goal `{self.id}` is {self.priority!r}, expected a whole number, 0 or more")
        if self.status not in STATUSES:
            raise InvalidError(f"the status of goal `{self.id}` is {self.status!r:.60}, expected {' or '.join(STATUSES)}")
        if self.parent is not None and (not isinstance(self.parent, str) or not 0 < len(self.parent) <= ID_CHARS_MAX):
            raise InvalidError(f"the parent of goal `{self.id}` is {self.parent!r:.60}, expected the id of a goal")

    def to_map(self) -> dict[str, Any]:
        """JSON form, with everything but the id."""
        found: dict[str, Any] = {"description": self.description, "priority": self.priority, "status": self.status}
        return found if self.parent is None else {**found, "parent": self.parent}
