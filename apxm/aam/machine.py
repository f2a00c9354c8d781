"""The Agent Abstract Machine: beliefs, goals and grants of one agent in one run, and every change of them.

A change is a transition: its label, what was there before, what is there now. It costs what it changes, whatever the
machine holds. The log keeps the last `LOG_MAX` of them and counts the rest.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from apxm.aam.beliefs import Belief
from apxm.aam.goals import Goal
from apxm.errors import InvalidError
from apxm.values import check, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LOG_MAX = 1_000
BELIEFS_MAX = GOALS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Transition:
    """One change. `label` says what did it; `before` and `after` are Belief or Goal, None where there was none."""

    number: int
    label: str
    kind: str  # belief or goal
    key: str
    before: Belief | Goal | None
    after: Belief | Goal | None


class Machine:
    """The state of one agent. Thread-safe: a change and its transition are one step."""

    def __init__(self, agent: str, *, on_change: Callable[[Transition], None] | None = None) -> None:
        self.agent = agent
        self.changes = 0  # transitions so far
        self._beliefs: dict[str, Belief] = {}
        self._goals: dict[str, Goal] = {}
        self._log: deque[Transition] = deque(maxlen=LOG_MAX)
        self._lock = Lock()
        self._on_change = on_change

    # ---- beliefs ---------------------------------------------------------------------------------------------------
    def believe(self, key: str, value: Any, *, source: str = "user", confidence: float = 1.0, label: str = "believe") -> Belief:
        """Hold a belief; one of the same key is replaced. The value must be one that a token may carry."""
        value = settle(value, where=f"belief `{key}`")
        check(value, f"belief `{key}`")
        belief = Belief(key, value, source, confidence)
        with self._lock:
            before = self._beliefs.get(key)
            if before is None and len(self._beliefs) >= BELIEFS_MAX:
                raise InvalidError(f"belief `{key}` is one more than the {BELIEFS_MAX} that an agent holds")
            self._beliefs[key] = belief
            self._note(label, "belief", key, before, belief)
        return belief

    def forget(self, key: str, *, label: str = "forget") -> bool:
        """Give up a belief; False when there was none."""
        with self._lock:
            before = self._beliefs.pop(key, None)
            if before is not None:
                self._note(label, "belief", key, before, None)
        return before is not None

    def belief(self, key: str) -> Belief | None:
        return self._beliefs.get(key)

    def beliefs(self) -> dict[str, Belief]:
        """All beliefs as they are now."""
        with self._lock:
            return dict(self._beliefs)

    # ---- goals -----------------------------------------------------------------------------------------------------
    def set_goal(self, goal: Goal, *, label: str = "set_goal") -> Goal:
        """Add a goal; one of the same id is replaced."""
        with self._lock:
            before = self._goals.get(goal.id)
            if before is None and len(self._goals) >= GOALS_MAX:
                raise InvalidError(f"goal `{goal.id}` is one more than the {GOALS_MAX} that an agent holds")
            self._goals[goal.id] = goal
            self._note(label, "goal", goal.id, before, goal)
        return goal

    def complete_goal(self, id: str, *, label: str = "complete_goal") -> bool:
        """Mark a goal completed; False when there is none of that id."""
        with self._lock:
            before = self._goals.get(id)
            if before is None:
                return False
            after = self._goals[id] = Goal(before.id, before.description, before.priority, "completed", before.parent)
            self._note(label, "goal", id, before, after)
        return True

    def remove_goal(self, id: str, *, label: str = "remove_goal") -> bool:
        """Drop a goal; False when there is none of that id."""
        with self._lock:
            before = self._goals.pop(id, None)
            if before is not None:
                self._note(label, "goal", id, before, None)
        return before is not None

    def clear_goals(self, *, label: str = "clear_goals") -> int:
        """Drop every goal; gives how many there were."""
        with self._lock:
            gone, self._goals = list(self._goals.values()), {}
            for goal in gone:
                self._note(label, "goal", goal.id, goal, None)
        return len(gone)

    def goal(self, id: str) -> Goal | None:
        return self._goals.get(id)

    def goals(self) -> list[Goal]:
        """All goals as they are now: active ones first, then by priority, the most important first."""
        with self._lock:
            found = list(self._goals.values())
        return sorted(found, key=lambda goal: (goal.status != "active", -goal.priority))

    # ---- everything ------------------------------------------------------------------------------------------------
    def transitions(self) -> list[Transition]:
        """The changes that the log still has, oldest first; `changes` counts all of them."""
        with self._lock:
            return list(self._log)

    def checkpoint(self) -> dict[str, Any]:
        """Everything the machine holds, as one JSON value; later changes do not touch it."""
        with self._lock:
            beliefs = {key: settle(belief.to_map()) for key, belief in self._beliefs.items()}
            return {"agent": self.agent, "beliefs": beliefs, "goals": {id: goal.to_map() for id, goal in self._goals.items()}}

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Make the machine what a checkpoint says: all or nothing. Each difference is one transition `restore`."""
        beliefs = {
            key: Belief(key, settle(each["value"]), each["source"], each["confidence"])
            for key, each in checkpoint["beliefs"].items()
        }
        goals = {id: Goal(id=id, **each) for id, each in checkpoint["goals"].items()}
        with self._lock:
            self._change("belief", self._beliefs, beliefs)
            self._change("goal", self._goals, goals)
            self._beliefs, self._goals = beliefs, goals

    def _change(self, kind: str, old: Mapping[str, Belief | Goal], new: Mapping[str, Belief | Goal]) -> None:
        for key in dict.fromkeys((*old, *new)):
            if old.get(key) != new.get(key):
                self._note("restore", kind, key, old.get(key), new.get(key))

    def _note(self, label: str, kind: str, key: str, before: Belief | Goal | None, after: Belief | Goal | None) -> None:
        self.changes += 1
        transition = Transition(self.changes, label, kind, key, before, after)
        self._log.append(transition)
        if self._on_change is not None:
            self._on_change(transition)
