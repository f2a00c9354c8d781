"""What a machine held at one moment, and its text for a prompt. Nothing that happens later touches it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apxm.graph.template import as_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from apxm.aam.beliefs import Belief
    from apxm.aam.goals import Goal

VIEW_CHARS = 4_000  # about a thousand tokens: what a prompt can spare
VALUE_CHARS = 500  # of one value or description
CUT_CHARS = 60  # kept free for the line that says what is left out


@dataclass(frozen=True, slots=True)
class View:
    """Beliefs by key and goals, the most important goal first; `context` is what the agent is."""

    agent: str
    context: str | None
    capabilities: tuple[str, ...]
    beliefs: Mapping[str, Belief]
    goals: tuple[Goal, ...]

    def text(self, limit: int = VIEW_CHARS) -> str:
        """Goals and beliefs as lines, at most `limit` characters (100 at least); "" when there are none.

        Active goals come first, by priority; then what is believed most firmly; then goals that are reached. Values
        are JSON. The last line says how many are left out for want of room.
        """
        lines = list(self._lines())
        kept, used = 0, 0
        room = max(limit, 100)
        whole = sum(map(len, lines)) + len(lines) - 1 <= room
        while kept < len(lines) and (whole or used + len(lines[kept]) + CUT_CHARS < room):
            used += len(lines[kept]) + 1
            kept += 1
        if kept == len(lines):
            return "\n".join(lines)
        return "\n".join([*lines[:kept], f"({len(lines) - kept} more of {len(lines)} left out)"])

    def _lines(self) -> Iterator[str]:
        for goal in self.goals:
            if goal.status == "active":
                yield f"goal {_quoted(goal.id)} (priority {goal.priority}){_said(goal)}"
        for belief in sorted(self.beliefs.values(), key=_firmest):
            source = " ".join(_short(belief.source).split())
            sure = "" if belief.confidence == 1 else f", confidence {belief.confidence:g}"
            yield f"belief {_quoted(belief.key)} = {_json(belief.value)} (from {source}{sure})"
        for goal in self.goals:
            if goal.status != "active":
                yield f"goal {_quoted(goal.id)} ({goal.status}){_said(goal)}"


def _firmest(belief: Belief) -> tuple[bool, float, str]:
    """What is kept for the program itself (`_stage:x`) comes after what is believed."""
    return belief.key.startswith("_"), -belief.confidence, belief.key


def _said(goal: Goal) -> str:
    return "" if goal.description == goal.id else f": {_quoted(goal.description)}"


def _quoted(text: str) -> str:
    """As JSON: a text can neither end its line nor pass for another one."""
    return json.dumps(_short(text), ensure_ascii=False)


def _json(value: Any) -> str:
    text = as_text(value)
    return _quoted(text) if isinstance(value, (str, bytes)) else _short(text)


def _short(text: str) -> str:
    return text if len(text) <= VALUE_CHARS else text[: VALUE_CHARS - 1] + "…"
