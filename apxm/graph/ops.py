"""THE operation table: one row per instruction. Validation, builder, lowering, binding, docs all derive from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.graph.operation import ATTRIBUTE_TYPES, Attribute, Effect, Latency, Operation, Rule
from apxm.graph.rows import agents, control, errors, llm, sync, tools

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ATTRIBUTE_TYPES",
    "BY_CODE",
    "COMMON_ATTRIBUTES",
    "OPERATIONS",
    "Attribute",
    "Effect",
    "Latency",
    "Operation",
    "Rule",
    "attribute_of",
    "firing_rule",
    "spellings",
]

# Attributes that every operation has. A row may declare one of them again, with a meaning or default of its own.
COMMON_ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("fallback", "json", "the node's value when it fails; its `error` edges are then dead"),
    Attribute("timeout_ms", "int", "limit of one attempt", least=1),
    Attribute("retries", "int", "how often the engine tries again after a transient failure before any call", least=0),
)

_ROWS = sorted((*sync.ROWS, *control.ROWS, *errors.ROWS, *tools.ROWS, *agents.ROWS, *llm.ROWS), key=lambda row: row.code)

OPERATIONS: dict[str, Operation] = {row.name: row for row in _ROWS}

# Row by code. Code 0 is the parameter slot of a dag, which is no operation.
BY_CODE: list[Operation | None] = [None, *_ROWS]


def _spellings(row: Operation) -> dict[str, Attribute]:
    own = {attribute.name: attribute for attribute in row.attributes}
    common = {attribute.name: attribute for attribute in COMMON_ATTRIBUTES}
    aliases = {alias: attribute for attribute in row.attributes for alias in attribute.aliases}
    return {**aliases, **common, **own}


_SPELLINGS = {row.name: _spellings(row) for row in _ROWS}


def attribute_of(row: Operation, spelling: str) -> Attribute | None:
    """The attribute that `spelling` (its name, an alias, or a name under a pattern such as `arg_*`) means for this row."""
    known = _SPELLINGS[row.name].get(spelling)
    if known is not None:
        return known
    for attribute in row.attributes:
        if attribute.name.endswith("*") and len(spelling) >= len(attribute.name) and spelling.startswith(attribute.name[:-1]):
            return attribute
    return None


def spellings(row: Operation) -> tuple[str, ...]:
    """Every spelling of every attribute of this row, for finding the nearest right one."""
    return tuple(_SPELLINGS[row.name])


_MERGE_RULES = {"any": Rule.ANY, "first_success": Rule.ANY, "race": Rule.RACE}


def firing_rule(op: str, attributes: Mapping[str, Any]) -> Rule:
    """The firing rule of one node: its row's, except that the mode of a MERGE decides."""
    if op == "MERGE":
        return _MERGE_RULES.get(attributes.get("mode", "array"), Rule.COLLECT)
    return OPERATIONS[op].rule
