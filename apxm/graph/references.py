"""Placeholders become edges: what a text asks for by name, by position or by node is a Data in-edge of its node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.graph import template
from apxm.graph.model import Dependency, Edge
from apxm.graph.ops import OPERATIONS, attribute_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apxm.graph.model import Graph, Node
    from apxm.graph.ops import Operation
    from apxm.graph.template import Template


def connect(graph: Graph) -> list[Edge]:
    """The edges of a canonical graph with those that its texts imply.

    `{{node_N}}` is an edge from N (port `node_N`) where there is none yet. A node without Data in-edges that needs an
    input, or whose text has positions, gets the parameters in order. `{name}` is an edge from the parameter of that name.
    """
    ids = {node.id for node in graph.nodes}
    parameters = [parameter.name for parameter in graph.parameters]
    fed: dict[int, list[Edge]] = {}
    for edge in graph.edges:
        if edge.dependency is Dependency.DATA:
            fed.setdefault(edge.target, []).append(edge)
    edges = list(graph.edges)
    for node in graph.nodes:
        row = OPERATIONS.get(node.op)
        if row is None:
            continue  # validation names it; a picture shows it
        text = texts_of(row, node.attributes) if node.attributes else None
        if text is not None or (row.inputs_min and parameters):
            edges.extend(_implied(node, row, text, fed.get(node.id, []), ids, parameters))
    return edges


def _implied(
    node: Node, row: Operation, text: Template | None, have: list[Edge], ids: set[int], parameters: list[str]
) -> list[Edge]:
    sources = {edge.source for edge in have}
    wanted = sorted(ids.intersection(text.node_ids) - sources - {node.id}) if text else []
    added = [Edge(id, node.id, port=f"node_{id}") for id in wanted]
    if not have and not added and (row.inputs_min or (text and text.positions)):
        added.extend(Edge(name, node.id) for name in parameters)
    ports = {edge.port for edge in have}
    names = text.names if text else ()
    added.extend(Edge(name, node.id, port=name) for name in names if name in parameters and name not in ports)
    return added


def texts_of(row: Operation, attributes: Mapping[str, Any]) -> Template | None:
    """Every placeholder in the texts of a node as one template, or None when there is none."""
    values = []
    for name, value in attributes.items():
        attribute = attribute_of(row, name)
        if attribute is not None and attribute.type in ("text", "filled"):
            values.append(value)
    found = template.parse_filled(values) if values else None
    return found if found is not None and found.placeholders else None
