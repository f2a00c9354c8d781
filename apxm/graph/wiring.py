"""The nodes of one graph by id and their Data inputs in order, looked up once. Decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.graph.model import Dependency
from apxm.graph.region import own_input

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apxm.graph.model import Edge, Graph, Node


class Wiring:
    """One graph, ready for questions about its nodes."""

    def __init__(self, graph: Graph) -> None:
        self.nodes = {node.id: node for node in graph.nodes}
        self._data: dict[int, list[Edge]] = {}
        self._others: dict[int, list[Edge]] = {}
        for edge in graph.edges:
            kind = self._data if edge.dependency is Dependency.DATA else self._others
            kind.setdefault(edge.target, []).append(edge)

    def data(self, node: int) -> Sequence[Edge]:
        """The Data in-edges of a node, in the order of its inputs."""
        return self._data.get(node, ())

    def others(self, node: int) -> Sequence[Edge]:
        """Its Control and Effect in-edges."""
        return self._others.get(node, ())

    def before(self, node: int) -> list[int]:
        """The nodes that an edge of any kind into it comes from."""
        return [edge.source for edge in (*self.data(node), *self.others(node)) if isinstance(edge.source, int)]

    def list_of(self, node: Node) -> Edge | None:
        """The edge that brings the list of a MAP."""
        edges = self.data(node.id)
        own = own_input(node.op, [edge.port for edge in edges])
        return edges[own] if own is not None else None

    def constant_length(self, edge: Edge | None) -> int | None:
        """The length of the list on an edge, when it is a constant."""
        source = self.nodes.get(edge.source) if edge is not None and isinstance(edge.source, int) else None
        if source is None or source.op != "CONST_STR":
            return None
        value = source.attributes["value"]
        return len(value) if isinstance(value, list) else 0  # anything but a list fails before the first item

    def name_of(self, edge: Edge | None) -> str:
        """The name of the node or parameter that an edge comes from."""
        if edge is None:
            return ""
        return self.nodes[edge.source].name if isinstance(edge.source, int) else edge.source
