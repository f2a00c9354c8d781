"""ExecutionDag: one flow, lowered: immutable columns over slots in topological order. What Runtime.execute takes."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from apxm.graph.model import Graph, Parameter

T = TypeVar("T")

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


class Attributes(Mapping[int, Mapping[str, Any]]):
    """Attribute maps by slot, as columns: `table` holds the different maps, `places` for every slot 0 or one more than its index.

    A large dag has few different ones. The table is what is looked at once, where a dict would be looked at for each slot.
    """

    __slots__ = ("places", "table")

    def __init__(self, table: Sequence[Mapping[str, Any]], places: array[int]) -> None:
        self.table, self.places = table, places

    @classmethod
    def of(cls, by_slot: Mapping[int, Mapping[str, Any]], size: int) -> Attributes:
        """The columns of a dict; maps that are one object share their entry."""
        index: dict[int, int] = {}
        table: list[Mapping[str, Any]] = []
        places = array("I", bytes(4 * size))
        for slot, values in by_slot.items():
            place = index.get(id(values))
            if place is None:
                table.append(values)
                place = index[id(values)] = len(table)
            places[slot] = place
        return cls(table, places)

    @overload
    def get(self, slot: int, /) -> Mapping[str, Any] | None: ...
    @overload
    def get(self, slot: int, default: Mapping[str, Any] | T, /) -> Mapping[str, Any] | T: ...
    def get(self, slot: int, default: Any = None, /) -> Any:
        place = self.places[slot]
        return self.table[place - 1] if place else default

    def __getitem__(self, slot: int) -> Mapping[str, Any]:
        place = self.places[slot] if 0 <= slot < len(self.places) else 0
        if not place:
            raise KeyError(slot)
        return self.table[place - 1]

    def __contains__(self, slot: object) -> bool:
        return type(slot) is int and 0 <= slot < len(self.places) and self.places[slot] > 0

    def __iter__(self) -> Iterator[int]:
        return (slot for slot, place in enumerate(self.places) if place)

    def __len__(self) -> int:
        return len(self.places) - self.places.count(0)


class Siblings(dict[tuple[str, str], "ExecutionDag"]):
    """The flows of one program by (agent, flow); `agents` is what the program says about each agent besides them."""

    __slots__ = ("agents",)

    def __init__(
        self, flows: Mapping[tuple[str, str], ExecutionDag] | None = None, agents: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        super().__init__(flows or {})
        self.agents = agents or {}


class ExecutionDag:
    """A lowered flow.

    Slots 0..p-1 are the parameters, slots p..n-1 the nodes in topological order. The in-edges of slot s are the entries
    in_offsets[s]..in_offsets[s+1]-1 of the edge columns: Data edges first, in argument order, then Control, then Effect.
    `ports` and `labels` are sparse (edge index -> text), `regions` too (slot -> region name -> dag).
    `exits` are the slots whose values are the outputs; `ranks` is the upward rank in milliseconds (larger: more urgent).
    `siblings` are the flows of the same program by (agent, flow): FLOW_CALL looks there first. `planned`: a model made it.
    """

    __slots__ = (
        "__weakref__",
        "_sorts",
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
        "planned",
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
        self.attributes = attributes if isinstance(attributes, Attributes) else Attributes.of(attributes or {}, len(ops))
        self.ports, self.labels = ports or {}, labels or {}
        self.regions, self.metadata = regions or {}, metadata or {}
        self._sorts: Sequence[tuple[int, int]] | None = None
        self.siblings = Siblings()
        self.planned = False

    def __len__(self) -> int:
        """Slots: parameters and nodes."""
        return len(self.ops)

    @property
    def sorts(self) -> Sequence[tuple[int, int]]:
        """The different (operation code, place of its attributes), in the order of the slots that have them first."""
        if self._sorts is None:
            self._sorts = list(dict.fromkeys(zip(self.ops, self.attributes.places)))
        return self._sorts

    def first_of(self, sort: tuple[int, int]) -> int:
        """The first slot of a sort."""
        return list(zip(self.ops, self.attributes.places)).index(sort)

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

    def of_agent(self, agent: str) -> ExecutionDag:
        """The same flow as one of another agent; the columns are shared."""
        made: ExecutionDag = object.__new__(type(self))
        for name in self.__slots__:
            if name != "__weakref__":
                setattr(made, name, getattr(self, name))
        made.agent = agent
        made.regions = {
            slot: {name: region.of_agent(agent) for name, region in regions.items()} for slot, regions in self.regions.items()
        }
        return made

    def to_graph(self) -> Graph:
        """This flow or region as a graph: nodes in topological order, exits by name in `metadata["exits"]`.

        What comes out says what will run, in the vocabulary of graphs; it is not the source.
        """
        from apxm.graph.model import Dependency, Edge, Graph, Node
        from apxm.graph.ops import BY_CODE

        kinds = {DATA: Dependency.DATA, CONTROL: Dependency.CONTROL, EFFECT: Dependency.EFFECT}
        first = len(self.parameters)
        nodes, edges = [], []
        for slot in range(first, len(self)):
            row = BY_CODE[self.ops[slot]]
            assert row is not None
            regions = {name: region.to_graph() for name, region in self.regions.get(slot, {}).items()}
            nodes.append(Node(self.ids[slot], self.names[slot], row.name, dict(self.attributes.get(slot, {})), regions))
            for edge in self.in_edges(slot):
                source = self.parameters[edge.source].name if edge.source < first else self.ids[edge.source]
                edges.append(Edge(source, self.ids[slot], kinds[edge.kind], edge.port, edge.label))
        exits = [self.names[slot] for slot in self.exits]
        return Graph(self.name, nodes, edges, list(self.parameters), {**self.metadata, "exits": exits})

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return self.to_graph()._repr_html_()

    def __repr__(self) -> str:
        return f"<ExecutionDag {self.agent}.{self.name}: {self.node_count} nodes, {self.edge_count} edges>"
