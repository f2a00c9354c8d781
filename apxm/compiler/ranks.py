"""How urgent a node is: its upward rank, the longest expected time from its start to the end of its dag."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from apxm.dag import ExecutionDag
    from apxm.graph.ops import Operation


def upward_ranks(
    ops: Sequence[Operation],
    first: int,
    offsets: Sequence[int],
    sources: Sequence[int],
    regions: Mapping[int, Mapping[str, ExecutionDag]],
) -> array[int]:
    """Milliseconds by latency class, for every slot; `ops` are those of the nodes, which begin at slot `first`.

    A node with regions takes its own time and that of the slowest of them, once. A parameter takes none.
    """
    ranks = [0] * first + [op.latency.value for op in ops]
    for slot, inner in regions.items():
        ranks[slot] += max((max(dag.ranks) for dag in inner.values()), default=0)
    longest = [0] * len(ranks)
    for slot in range(len(ranks) - 1, first - 1, -1):
        rank = ranks[slot] = ranks[slot] + longest[slot]
        for source in sources[offsets[slot] : offsets[slot + 1]]:
            if longest[source] < rank:
                longest[source] = rank
    ranks[:first] = longest[:first]
    return array("q", ranks)
