"""An artifact as graphs again, for whoever wants to look at it or reason about it: analysis, pictures, words. Runs nothing.

What comes out says what will run, in the vocabulary of graphs; it is not the source. Loops written as two nodes are one LOOP
with a body, what the compiler folded is gone, and node ids are the authored ones, which events name too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apxm.artifact.format import Artifact, FlowKey
    from apxm.graph.model import Graph


def lift(artifact: Artifact) -> dict[FlowKey, Graph]:
    """Every flow of an artifact as a graph, by (agent, flow)."""
    return {key: dag.to_graph() for key, dag in artifact.flows().items()}
