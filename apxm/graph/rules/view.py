"""A graph with the indexes that rules need, and the list they report to."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeAlias

from apxm.errors import Problem
from apxm.graph import template
from apxm.graph.model import Dependency
from apxm.graph.ops import OPERATIONS, attribute_of
from apxm.graph.region import is_position

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from apxm.graph.model import Edge, Graph, Node
    from apxm.graph.template import Template

Placed: TypeAlias = tuple[int, "Edge"]  # an edge and its place in the list of edges


def nearest(word: object, known: Iterable[object]) -> str | None:
    """The known spelling that is closest to `word`, if one is close."""
    close = get_close_matches(str(word), [str(item) for item in known], n=1)
    return close[0] if close else None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The program around a flow: the agent whose flow it is, and the flows of every agent by name."""

    agent: str
    flows: Mapping[str, Mapping[str, Graph]]


class View:
    """One graph in canonical form. `ins` and `outs` hold only edges whose ends exist; where ids repeat, the first wins.

    `texts` has the templates of each node by attribute, `implied` the pairs (node, predecessor) that `{{node_N}}` in them
    adds to the Data edges. `program` is None for a graph that is no part of one.
    """

    def __init__(
        self, graph: Graph, problems: list[Problem], path: str = "", depth: int = 0, program: Surroundings | None = None
    ) -> None:
        self.graph, self.problems, self.path, self.depth, self.program = graph, problems, path, depth, program
        self.place: dict[int, int] = {}
        for index, node in enumerate(graph.nodes):
            self.place.setdefault(node.id, index)
        self.parameters = {parameter.name for parameter in graph.parameters}
        self.ins: dict[int, list[Placed]] = defaultdict(list)
        self.outs: dict[int, list[Placed]] = defaultdict(list)
        self.fed: dict[int, list[Edge]] = defaultdict(list)  # Data in-edges
        for placed in enumerate(graph.edges):
            edge = placed[1]
            if edge.target not in self.place or (edge.source not in self.place and edge.source not in self.parameters):
                continue
            self.ins[edge.target].append(placed)
            if edge.dependency is Dependency.DATA:
                self.fed[edge.target].append(edge)
            if isinstance(edge.source, int):
                self.outs[edge.source].append(placed)
        self.texts: dict[int, dict[str, Template]] = {}
        self.implied: dict[int, list[int]] = {}
        for node in graph.nodes:
            if node.attributes:
                self._read_texts(node)

    @property
    def in_region(self) -> bool:
        return self.depth > 0

    def _read_texts(self, node: Node) -> None:
        row = OPERATIONS.get(node.op)
        if row is None:
            return
        texts = {}
        for name, value in node.attributes.items():
            if "{" not in value if isinstance(value, str) else not isinstance(value, (dict, list)):
                continue  # what nearly every attribute is: nothing to fill in
            attribute = attribute_of(row, name) if isinstance(name, str) else None
            if attribute is not None and attribute.type == "filled":
                text = template.parse_filled(value)
            elif attribute is not None and attribute.type == "text" and isinstance(value, str):
                text = template.parse(value)
            else:
                continue
            if text.placeholders:
                texts[name] = text
        if not texts:
            return
        self.texts[node.id] = texts
        have = {edge.source for edge in self.data(node.id)}
        wanted = {id for text in texts.values() for id in text.node_ids if id in self.place and id != node.id}
        if wanted - have:
            self.implied[node.id] = sorted(wanted - have)

    def node(self, id: int) -> Node:
        return self.graph.nodes[self.place[id]]

    def data(self, id: int) -> list[Edge]:
        """Data in-edges in the order of the edges."""
        return self.fed.get(id, [])

    def is_root(self, id: int) -> bool:
        """Whether no Data comes in: such a node may be given the parameters of the graph."""
        return id not in self.implied and id not in self.fed

    def ports(self, node: Node) -> list[str | None]:
        """The ports of what comes in, with what a root is given."""
        ports = [edge.port for edge in self.fed.get(node.id, ())]
        if node.id in self.implied:
            ports += [f"node_{id}" for id in self.implied[node.id]]
        elif not ports and self.graph.parameters:
            texts = self.texts.get(node.id, {}).values()
            if OPERATIONS[node.op].inputs_min > 0 or any(text.positions for text in texts):
                return [None] * len(self.graph.parameters)
        return ports

    def position_count(self, node: Node) -> int:
        """How many positional inputs the node has."""
        return sum(is_position(port) for port in self.ports(node))

    def successors(self, id: int) -> list[int]:
        """Nodes behind the out-edges; for the edges that templates imply, see `implied`."""
        return [edge.target for _, edge in self.outs.get(id, ())]

    def problem(self, code: str, message: str, at: str, *, node: int | None = None, **more: str | None) -> None:
        """Report a broken rule at a place below this graph."""
        self.problems.append(Problem(code, message, node=node, path=self.path + at, **more))

    def at_node(self, node: Node, below: str = "") -> str:
        """The path of a node, or of something below it."""
        return f"nodes[{self.place.get(node.id, 0)}]{below}"
