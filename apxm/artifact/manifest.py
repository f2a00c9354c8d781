"""Which capabilities a dag names by itself: those of its INV nodes, regions included. Not those a model may choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.graph.ops import OPERATIONS

if TYPE_CHECKING:
    from apxm.dag import ExecutionDag

_INV = OPERATIONS["INV"].code


def capabilities_of(dag: ExecutionDag) -> frozenset[str]:
    """The capabilities that the INV nodes of a dag and of its regions name."""
    found: set[str] = set()
    stack = [dag]
    while stack:
        one = stack.pop()
        table = one.attributes.table
        found.update(table[place - 1]["capability"] for op, place in one.sorts if op == _INV)
        for regions in one.regions.values():
            stack.extend(regions.values())
    return frozenset(found)
