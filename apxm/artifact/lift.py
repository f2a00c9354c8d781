"""An artifact as graphs again, for whoever wants to look at it or reason about it: analysis, pictures, words. Runs nothing.

What comes out says what will run, in the vocabulary of graphs; it is not the source. Loops written as two nodes are one LOOP
with a body, what the compiler folded is gone, and node ids are the authored ones, which events name too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apxm.dag import CONTROL, DATA, EFFECT
from apxm.graph.model import Dependency, Edge, Graph, Node
from apxm.graph.ops import BY_CODE

if TYPE_CHECKING:
    from apxm.artifact.format import Artifact, FlowKey
    from apxm.dag import ExecutionDag

_DEPENDENCIES = {DATA: Dependency.DATA, CONTROL: Dependency.CONTROL, EFFECT: Dependency.EFFECT}


def lift(artifact: Artifact) -> dict[FlowKey, Graph]:
    """Every flow of an artifact as a graph, by (agent, flow)."""
    return {key: lift_dag(dag) for key, dag in artifact.flows().items()}


def lift_dag(dag: ExecutionDag) -> Graph:
    """One flow or region as a graph: nodes in topological order, exits by name in `metadata["exits"]`."""
    first = len(dag.parameters)
    nodes, edges = [], []
    for slot in range(first, len(dag)):
        row = BY_CODE[dag.ops[slot]]
        assert row is not None
        regions = {name: lift_dag(region) for name, region in dag.regions.get(slot, {}).items()}
        nodes.append(Node(dag.ids[slot], dag.names[slot], row.name, dict(dag.attributes.get(slot, {})), regions))
        for edge in dag.in_edges(slot):
            source = dag.parameters[edge.source].name if edge.source < first else dag.ids[edge.source]
            edges.append(Edge(source, dag.ids[slot], _DEPENDENCIES[edge.kind], edge.port, edge.label))
    exits = [dag.names[slot] for slot in dag.exits]
    return Graph(dag.name, nodes, edges, list(dag.parameters), {**dag.metadata, "exits": exits})
