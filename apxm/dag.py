"""ExecutionDag: one flow, lowered: immutable columns over slots in topological order. What Runtime.execute takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator, Mapping, Sequence

    from apxm.graph.model import Parameter

DATA, CONTROL, EFFECT = range(3)
PARAMETER_CODE = 0  # the operation code of a parameter slot: bound when a frame opens, never fired


@dataclass(frozen=True, slots=True)
class InEdge:
    """One in-edge of a slot. `position` counts the Data in-edges of the slot in argument order; it is -1 for the others."""

    source: int
    kind: int
    port: str | None
    label: str | None
    position: int


class ExecutionDag:
    """A lowered flow.

    Slots 0..p-1 are the parameters, slots p..n-1 the nodes in topological order. The in-edges of slot s are the entries
    in_offsets[s]..in_offsets[s+1]-1 of the edge columns: Data edges first, in argument order, then Control, then Effect.
    `ports` and `labels` are sparse (edge index -> text), `attributes` and `regions` too (slot -> ...).
    `exits` are the slots whose values are the outputs; `ranks` is the upward rank in milliseconds (larger: more urgent).
    `siblings` are the flows of the same program by (agent, flow): FLOW_CALL looks there first.
    """

    __slots__ = (
        "__weakref__",
        "agent",
        "attributes",
        "exits",
        "ids",
        "in_kinds",
        "in_offsets",
        "in_sources",
        "labels",
        "metadata",
        "name",
        "names",
        "ops",
        "parameters",
        "ports",
        "ranks",
        "regions",
        "siblings",
    )

    def __init__(
        self,
        *,
        name: str,
        ops: bytes,
        ids: array[int],
        names: Sequence[str],
        in_offsets: array[int],
        in_sources: array[int],
        in_kinds: bytes,
        exits: Sequence[int],
        ranks: array[int],
        parameters: Sequence[Parameter] = (),
        attributes: Mapping[int, Mapping[str, Any]] | None = None,
        ports: Mapping[int, str] | None = None,
        labels: Mapping[int, str] | None = None,
        regions: Mapping[int, Mapping[str, ExecutionDag]] | None = None,
        metadata: Mapping[str, Any] | None = None,
        agent: str = "default",
    ) -> None:
        self.name, self.agent, self.ops, self.ids, self.names = name, agent, ops, ids, names
        self.in_offsets, self.in_sources, self.in_kinds = in_offsets, in_sources, in_kinds
        self.exits, self.ranks, self.parameters = tuple(exits), ranks, tuple(parameters)
        self.attributes, self.ports, self.labels = attributes or {}, ports or {}, labels or {}
        self.regions, self.metadata = regions or {}, metadata or {}
        self.siblings: Mapping[tuple[str, str], ExecutionDag] = {}

    def __len__(self) -> int:
        """Slots: parameters and nodes."""
        return len(self.ops)

    @property
    def node_count(self) -> int:
        return len(self.ops) - len(self.parameters)

    @property
    def edge_count(self) -> int:
        return len(self.in_sources)

    def in_edges(self, slot: int) -> Iterator[InEdge]:
        """The in-edges of a slot, in column order."""
        for e in range(self.in_offsets[slot], self.in_offsets[slot + 1]):
            kind = self.in_kinds[e]
            position = e - self.in_offsets[slot] if kind == DATA else -1
            yield InEdge(self.in_sources[e], kind, self.ports.get(e), self.labels.get(e), position)

    def __repr__(self) -> str:
        return f"<ExecutionDag {self.agent}.{self.name}: {self.node_count} nodes, {self.edge_count} edges>"
