"""The Agent Abstract Machine: beliefs, goals and grants of one agent in one run, and every change of them.

A change is a transition: its label, what was there before, what is there now. It costs what it changes, whatever the
machine holds. The log keeps the last `LOG_MAX` of them and counts the rest. What holds already is no change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from apxm.aam.beliefs import Belief
from apxm.aam.goals import Goal
from apxm.aam.view import VIEW_CHARS, View
from apxm.errors import ApxmError, InvalidError
from apxm.values import check, same, settle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apxm.aam.declaration import Declaration

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
    """The state of one agent. Thread-safe: a change and its transition are one step.

    `capabilities` are the names that the agent was granted, narrowed by what its program declares. They and the context
    come from the program and its host: no checkpoint has them.
    """

    def __init__(self, agent: str, *, capabilities: Iterable[str] = ()) -> None:
        self.agent = agent
        self.capabilities = tuple(sorted(capabilities))
        self.changes = 0  # transitions so far
        self._beliefs: dict[str, Belief] = {}
        self._goals: dict[str, Goal] = {}
        self._contexts: dict[str, str | None] = {}  # by who declared
        self._log: deque[Transition] = deque(maxlen=LOG_MAX)
        self._lock = Lock()

    # ---- declarations ----------------------------------------------------------------------------------------------
    def declare(self, said: Declaration, *, by: str, label: str = "declare") -> bool:
        """Take what a program says about the agent: once for each `by` that says it, False from the second time on.

        It says how things are at the start: beliefs and goals that are there already stay as they are.
        """
        with self._lock:
            if by in self._contexts:
                return False
            beliefs = [belief for belief in said.beliefs if belief.key not in self._beliefs]
            goals = [goal for goal in said.goals if goal.id not in self._goals]
            self._room("belief", beliefs[0].key if beliefs else "", len(self._beliefs) + len(beliefs), BELIEFS_MAX)
            self._room("goal", goals[0].id if goals else "", len(self._goals) + len(goals), GOALS_MAX)
            self._contexts[by] = said.context
            for belief in beliefs:
                self._hold(belief, label)
            for goal in goals:
                self._want(goal, label)
        return True

    @property
    def context(self) -> str | None:
        """What the agent is, in the words of its program: its metadata first, then its flows by name, as far as they ran."""
        with self._lock:
            said = [text for _, text in sorted(self._contexts.items()) if text]
        return "\n\n".join(dict.fromkeys(said)) or None

    # ---- beliefs ---------------------------------------------------------------------------------------------------
    def believe(self, key: str, value: Any, *, source: str = "user", confidence: float = 1.0, label: str = "believe") -> Belief:
        """Hold a belief; one of the same key is replaced. The value must be one that a token may carry."""
        value = settle(value, where=f"belief `{key}`")
        check(value, f"belief `{key}`")
        belief = Belief(key, value, source, confidence)
        with self._lock:
            self._room("belief", key, len(self._beliefs) + (key not in self._beliefs), BELIEFS_MAX)
            self._hold(belief, label)
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
            self._room("goal", goal.id, len(self._goals) + (goal.id not in self._goals), GOALS_MAX)
            self._want(goal, label)
        return goal

    def complete_goal(self, id: str, *, label: str = "complete_goal") -> bool:
        """Mark a goal completed; False when there is none of that id."""
        with self._lock:
            before = self._goals.get(id)
            if before is None:
                return False
            self._want(Goal(before.id, before.description, before.priority, "completed", before.parent), label)
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
        """All goals as they are now: active ones first, the most important first; equals in the order they came."""
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
        """Make the machine what a checkpoint of the same agent says. Each difference is one transition `restore`.

        InvalidError, and nothing changed, when it is no checkpoint, or another agent's.
        """
        beliefs, goals = _held(checkpoint, self.agent)
        with self._lock:
            self._change("belief", self._beliefs, beliefs)
            self._change("goal", self._goals, goals)
            self._beliefs, self._goals = beliefs, goals

    def snapshot(self) -> View:
        """What the machine holds now."""
        return View(self.agent, self.context, self.capabilities, self.beliefs(), tuple(self.goals()))

    def view(self, limit: int = VIEW_CHARS) -> str:
        """Goals and beliefs as a text for a prompt, at most `limit` characters: see View.text."""
        return self.snapshot().text(limit)

    # ---- one change, under the lock --------------------------------------------------------------------------------
    def _hold(self, belief: Belief, label: str) -> None:
        before = self._beliefs.get(belief.key)
        if not _alike(before, belief):
            self._beliefs[belief.key] = belief
            self._note(label, "belief", belief.key, before, belief)

    def _want(self, goal: Goal, label: str) -> None:
        before = self._goals.get(goal.id)
        if before != goal:
            self._goals[goal.id] = goal
            self._note(label, "goal", goal.id, before, goal)

    def _room(self, kind: str, key: str, wanted: int, most: int) -> None:
        if wanted > most:
            raise InvalidError(
                f"{kind} `{key}` is one more than the {most} that an agent holds",
                hint="drop what is no longer needed, or keep it in memory",
            )

    def _change(self, kind: str, old: Mapping[str, Belief | Goal], new: Mapping[str, Belief | Goal]) -> None:
        for key in dict.fromkeys((*old, *new)):
            if not _alike(old.get(key), new.get(key)):
                self._note("restore", kind, key, old.get(key), new.get(key))

    def _note(self, label: str, kind: str, key: str, before: Belief | Goal | None, after: Belief | Goal | None) -> None:
        self.changes += 1
        self._log.append(Transition(self.changes, label, kind, key, before, after))

    def __repr__(self) -> str:
        return f"<Machine of {self.agent}: {len(self._beliefs)} beliefs, {len(self._goals)} goals, {self.changes} changes>"


def _alike(one: Belief | Goal | None, other: Belief | Goal | None) -> bool:
    """Whether nothing changed; values are compared as JSON."""
    if not isinstance(one, Belief) or not isinstance(other, Belief):
        return one == other
    return (one.source, one.confidence) == (other.source, other.confidence) and same(one.value, other.value)


def _held(checkpoint: Any, agent: str) -> tuple[dict[str, Belief], dict[str, Goal]]:
    """The beliefs and goals of a checkpoint; InvalidError when it is none."""
    wrong = f"this is no checkpoint of the machine of agent `{agent}`"
    hint = "pass on what Machine.checkpoint() or ExecutionResult.machines gave"
    if not isinstance(checkpoint, Mapping) or checkpoint.keys() != {"agent", "beliefs", "goals"}:
        raise InvalidError(f"{wrong}: expected a map with agent, beliefs and goals", hint=hint)
    if checkpoint["agent"] != agent:
        raise InvalidError(f"{wrong}: it is of {checkpoint['agent']!r:.60}", hint=hint)
    for kind, shapes, most in (("beliefs", _BELIEF, BELIEFS_MAX), ("goals", _GOAL, GOALS_MAX)):
        several = checkpoint[kind]
        if not isinstance(several, Mapping) or len(several) > most:
            raise InvalidError(f"{wrong}: its {kind} are no map of at most {most}", hint=hint)
        for key, each in several.items():
            if not isinstance(each, Mapping) or set(each) not in shapes:
                raise InvalidError(f"{wrong}: `{key!s:.60}` of its {kind} is {each!r:.60}", hint=hint)
    try:
        beliefs = {key: _belief(key, each) for key, each in checkpoint["beliefs"].items()}
        return beliefs, {id: Goal(id=id, **each) for id, each in checkpoint["goals"].items()}
    except ApxmError as error:
        raise InvalidError(f"{wrong}: {error.message}", hint=hint) from error


def _belief(key: str, said: Mapping[str, Any]) -> Belief:
    value = settle(said["value"], where=f"belief `{key}`")
    check(value, f"belief `{key}`")
    return Belief(key, value, said["source"], said["confidence"])


_BELIEF = ({"value", "source", "confidence"},)
_GOAL = ({"description", "priority", "status"}, {"description", "priority", "status", "parent"})
