"""What a program is while a person writes it: Graph, Node, Edge, Parameter, Agent, Program. Plain data, no rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

from apxm.graph.builder import Authoring

PARAMETER_TYPES = ("str", "int", "float", "bool", "json")


class Dependency(Enum):
    """What an edge does: DATA carries a value, CONTROL gates, EFFECT only orders."""

    DATA = "Data"
    CONTROL = "Control"
    EFFECT = "Effect"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A typed flow parameter; `type_name` is one of PARAMETER_TYPES."""

    name: str
    type_name: str = "str"


Source: TypeAlias = int | str  # a node id, or the name of a parameter of the same graph


@dataclass(frozen=True, slots=True)
class Edge:
    """A dependency between two nodes. `source` may also be the name of a parameter.

    `port` names the input it feeds; `label` makes it live only when that label is chosen (or, for `error`, on failure).
    """

    source: Source
    target: int
    dependency: Dependency = Dependency.DATA
    port: str | None = None
    label: str | None = None


@dataclass(slots=True)
class Node:
    """One operation; `regions` are graphs of its own (a case, a loop body, a try block)."""

    id: int
    name: str
    op: str
    attributes: dict[str, Any] = field(default_factory=dict)
    regions: dict[str, Graph] = field(default_factory=dict)


@dataclass(slots=True)
class Graph(Authoring):
    """A flow as it is authored. Mutable while it is written; `compile` makes an immutable dag of it."""

    name: str
    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    parameters: list[Parameter] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from apxm.graph.render.notebook import graph_html

        return graph_html(self)


@dataclass(slots=True)
class AgentGraph:
    """One agent of a program: its name and its flows."""

    name: str
    flows: list[Graph] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Program:
    """Several agents, each with several flows, in one file."""

    agents: list[AgentGraph] = field(default_factory=list)
    name: str = ""
