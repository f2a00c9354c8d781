"""What a program says about an agent: its memories, what it believes and wants at the start, what it may use, what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apxm.aam.beliefs import PROGRAM, Belief
from apxm.aam.goals import Goal
from apxm.errors import ApxmError, BindError
from apxm.values import check, settle

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY_TIERS = ("stm", "ltm", "episodic")
_MEMORY_KEYS = frozenset(("name", "tier", "value"))
_GOAL_KEYS = frozenset(("id", "description", "priority", "parent"))


@dataclass(frozen=True, slots=True)
class Declaration:
    """What an AGENT node, or the metadata of an agent, says.

    `memories` gives keys of the agent's memory a tier of their own, `values` are what is in short-term memory at the
    start. `capabilities` are the only ones that the agent may use, None when nothing is said about them.
    """

    beliefs: tuple[Belief, ...] = ()
    goals: tuple[Goal, ...] = ()
    memories: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    capabilities: frozenset[str] | None = None
    context: str | None = None

    @classmethod
    def parse(cls, said: Mapping[str, Any], where: str) -> Declaration:
        """From the attributes of an AGENT or the metadata of an agent; other keys are left alone.

        `memory` and `memories` are the same; `tools` count as capabilities. Raises BindError, with `where` at its start.
        """
        memories, values = _memories(said.get("memory", said.get("memories")), where)
        context = said.get("context")
        if context is not None and not isinstance(context, str):
            raise BindError(f"{where}: its context is a {type(context).__name__}, expected a text")
        try:
            beliefs, goals = tuple(_beliefs(said.get("beliefs"), where)), tuple(_goals(said.get("goals"), where))
        except BindError:
            raise
        except ApxmError as error:
            raise BindError(f"{where}: {error.message}", hint=error.hint) from error
        return cls(beliefs, goals, memories, values, _capabilities(said, where), context)


def _beliefs(said: Any, where: str) -> Iterator[Belief]:
    if said is not None and not isinstance(said, Mapping):
        raise BindError(f"{where}: its beliefs are a {type(said).__name__}, expected a map from key to value")
    for key, value in (said or {}).items():
        value = settle(value, where=f"belief `{key}`")
        check(value, f"belief `{key}`")
        yield Belief(key, value, PROGRAM)


def _goals(said: Any, where: str) -> Iterator[Goal]:
    if said is not None and not isinstance(said, (list, tuple)):
        raise BindError(f"{where}: its goals are a {type(said).__name__}, expected a list")
    for one in said or ():
        given = {"id": one} if isinstance(one, str) else one
        if not isinstance(given, Mapping) or given.keys() - _GOAL_KEYS or not given.keys() & {"id", "description"}:
            expected = "a text, or {id, description, priority, parent} with an id or a description"
            raise BindError(f"{where}: the goal {one!r:.80} is none", hint=f"expected {expected}")
        text = given.get("id", given.get("description"))
        yield Goal(**{"id": text, "description": text, **given})


def _memories(said: Any, where: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Key -> tier, and key -> what it holds at the start."""
    if said is None:
        return {}, {}
    rows = [{"name": name, "tier": tier} for name, tier in said.items()] if isinstance(said, Mapping) else said
    if not isinstance(rows, (list, tuple)):
        raise BindError(f"{where}: its memories are a {type(said).__name__}, expected a list or a map")
    tiers: dict[str, str] = {}
    values: dict[str, Any] = {}
    for row in rows:
        name, tier = _memory(row, where)
        tiers[name] = tier
        if "value" in row:
            if tier != "stm":
                raise BindError(
                    f"{where}: memory `{name}` of tier {tier} has a value at the start",
                    hint="only those of tier stm may; write it with UMEM",
                )
            values[name] = settle(row["value"], where=f"memory `{name}`")
            check(values[name], f"memory `{name}`")
    return tiers, values


def _memory(row: Any, where: str) -> tuple[str, str]:
    if not isinstance(row, Mapping) or row.keys() - _MEMORY_KEYS or not isinstance(row.get("name"), str) or not row["name"]:
        raise BindError(f"{where}: the memory {row!r:.80} is none", hint="expected {name, tier, value}; only the name is needed")
    tier = row.get("tier", "stm")
    if not isinstance(tier, str) or tier.lower() not in MEMORY_TIERS:
        raise BindError(
            f"{where}: memory `{row['name']}` has the tier {tier!r:.40}", hint=f"expected one of {', '.join(MEMORY_TIERS)}"
        )
    return row["name"], tier.lower()


def _capabilities(said: Mapping[str, Any], where: str) -> frozenset[str] | None:
    """Names, or maps with a `name`; None when nothing is said."""
    given = [said[key] for key in ("capabilities", "tools") if said.get(key) is not None]
    names = set()
    for several in given:
        if not isinstance(several, (list, tuple)):
            raise BindError(f"{where}: its capabilities are a {type(several).__name__}, expected a list of names")
        for one in several:
            name = one.get("name") if isinstance(one, Mapping) else one
            if not isinstance(name, str) or not name:
                raise BindError(f"{where}: the capability {one!r:.80} is none", hint="expected a name, or a map with a `name`")
            names.add(name)
    return frozenset(names) if given else None
