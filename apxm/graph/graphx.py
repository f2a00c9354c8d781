"""Graphs to and from networkx. A MultiDiGraph of the nodes with everything they say; nothing is lost on the way and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.errors import GraphError
from apxm.graph.model import Dependency, Edge, Graph, Node, Parameter

if TYPE_CHECKING:
    import networkx as nx

_DEPENDENCIES = {dependency.value: dependency for dependency in Dependency}


def to_networkx(graph: Graph) -> nx.MultiDiGraph:
    """A networkx graph: nodes keyed by id, parameters that edges start at keyed by name.

    Node attributes are `name`, `op`, `attributes`, `regions` (name -> Graph), and `kind`: "node" or "parameter". Edge
    attributes are `dependency` (a text), `port`, `label` and `index`, the place in the list of edges. The graph itself has
    `name`, `parameters` [(name, type_name)] and `metadata`.
    """
    import networkx as nx

    out = nx.MultiDiGraph(
        name=graph.name,
        parameters=[(parameter.name, parameter.type_name) for parameter in graph.parameters],
        metadata=dict(graph.metadata),
    )
    for node in graph.nodes:
        if node.id in out:
            raise GraphError(f"two nodes of `{graph.name}` have the id {node.id}", code="graph.node_id")
        out.add_node(
            node.id, kind="node", name=node.name, op=node.op, attributes=dict(node.attributes), regions=dict(node.regions)
        )
    for index, edge in enumerate(graph.edges):
        if isinstance(edge.source, str):
            out.add_node(edge.source, kind="parameter")
        for end in (edge.source, edge.target):
            if end not in out:
                raise GraphError(
                    f"edge {index} of `{graph.name}` names node {end}, which is not there", code="graph.unknown_node"
                )
        out.add_edge(edge.source, edge.target, dependency=edge.dependency.value, port=edge.port, label=edge.label, index=index)
    return out


def from_networkx(source: nx.DiGraph, *, name: str | None = None) -> Graph:
    """A graph from a networkx one, of our own making or anybody's.

    Every node needs `op` (or kind "parameter"); `name`, `attributes` and `regions` are optional. Nodes whose key is no
    int get ids of their own, and their key as a name. Edges may have `dependency`, `port`, `label`; without an `index`
    they come in networkx's order. GraphError for what is no graph of operations.
    """
    if not source.is_directed():
        raise GraphError("an undirected networkx graph, expected a DiGraph or MultiDiGraph", code="graph.shape")
    ids = _ids(source)
    parameters = [Parameter(*pair) for pair in source.graph.get("parameters", [])]
    nodes = [_node(key, ids[key], data) for key, data in source.nodes(data=True) if key in ids]
    edges = [(data.get("index"), _edge(u, v, data, ids)) for u, v, data in source.edges(data=True)]
    if all(isinstance(index, int) for index, _ in edges):
        edges.sort(key=lambda pair: pair[0] or 0)
    return Graph(
        name or str(source.graph.get("name") or "graph"),
        nodes,
        [edge for _, edge in edges],
        parameters,
        dict(source.graph.get("metadata", {})),
    )


def _ids(source: nx.DiGraph) -> dict[Any, int]:
    """The node id for every key that is no parameter."""
    keys = [key for key, data in source.nodes(data=True) if data.get("kind") != "parameter"]
    numbered = {key: key for key in keys if isinstance(key, int) and not isinstance(key, bool)}
    free = max(numbered.values(), default=0) + 1
    return {key: numbered[key] if key in numbered else free + place for place, key in enumerate(keys)}


def _node(key: Any, id: int, data: dict[str, Any]) -> Node:
    op = data.get("op")
    if not isinstance(op, str):
        raise GraphError(f"node {key!r} says no `op`, expected the name of an operation", code="graph.unknown_op")
    return Node(id, str(data.get("name", key)), op, dict(data.get("attributes", {})), dict(data.get("regions", {})))


def _edge(source: Any, target: Any, data: dict[str, Any], ids: dict[Any, int]) -> Edge:
    if target not in ids:
        raise GraphError(f"an edge leads to the parameter {target!r}", code="graph.unknown_node")
    dependency = data.get("dependency", Dependency.DATA)
    known = dependency if isinstance(dependency, Dependency) else _DEPENDENCIES.get(dependency)
    if known is None:
        raise GraphError(f"edge {source!r} -> {target!r} has the dependency {dependency!r}, expected Data, Control or Effect")
    return Edge(ids.get(source, source), ids[target], known, data.get("port"), data.get("label"))
