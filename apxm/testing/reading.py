"""What an authored graph says, read for the oracle: a JSON map or a Graph object becomes a ReadGraph, regions and all.

Shares nothing with the compiler. References in attributes and loops or TRYs written as several nodes are read by
references.py and folding.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apxm.testing.folding import fold
from apxm.testing.readgraph import PLACEHOLDER, ReadEdge, ReadGraph, ReadNode, assemble, wire
from apxm.testing.references import resolve, take_aim

_NEEDS_INPUT = frozenset({"MERGE", "BRANCH_ON_VALUE", "SWITCH", "GUARD", "MAP", "RETURN", "YIELD", "LOOP_END"})


def read_graph(graph: Any) -> ReadGraph:
    """Read a JSON-contract map or a Graph object. Only what validation would accept has a meaning."""
    source = graph if isinstance(graph, Mapping) else _as_map(graph)
    nodes = {
        item["id"]: ReadNode(
            item["id"],
            item["name"],
            item["op"],
            dict(item.get("attributes") or {}),
            {name: read_graph(region) for name, region in (item.get("regions") or {}).items()},
        )
        for item in source["nodes"]
    }
    parameters = [item["name"] for item in source.get("parameters") or ()]
    edges = [
        ReadEdge(item["from"], item["to"], item.get("dependency", "Data"), item.get("port"), item.get("label"))
        for item in source["edges"]
    ]
    edges = resolve(nodes, edges, parameters)
    edges = take_aim(nodes, edges + _implied(nodes, edges, parameters))
    _say_modes(nodes, edges)
    edges = fold(nodes, edges)
    declared = (source.get("metadata") or {}).get("exits") or ()
    exits = [n.id for n in nodes.values() if n.op == "RETURN" or n.name in declared or n.id in declared] if declared else None
    return assemble(source["name"], parameters, nodes, edges, exits)


def _say_modes(nodes: dict[int, ReadNode], edges: list[ReadEdge]) -> None:
    """Write out the mode of every MERGE: what it joins is decided by the graph as it was written."""
    wire(nodes, edges)
    whole = ReadGraph("", [], nodes, [], [])
    for node in nodes.values():
        if node.op == "MERGE":
            node.attributes["mode"] = whole.mode(node)


def read_program(program: Any) -> tuple[str, dict[tuple[str, str], ReadGraph]]:
    """Read a graph or a program of several agents: the agent of the entry flow, and every flow, the entry first."""
    source = program if isinstance(program, Mapping) else _as_map(program)
    if "agents" not in source:
        graph = read_graph(source)
        return "default", {("default", graph.name): graph}
    flows = [(agent["name"], flow) for agent in source["agents"] for flow in agent["flows"]]
    flows.sort(key=lambda pair: not (pair[1].get("metadata") or {}).get("is_entry", True))
    return flows[0][0], {(agent, flow["name"]): read_graph(flow) for agent, flow in flows}


def _as_map(graph: Any) -> Mapping[str, Any]:
    """A Graph or Program object as a JSON-contract map."""
    if hasattr(graph, "agents"):
        agents = [{"name": one.name, "flows": [_as_map(flow) for flow in one.flows]} for one in graph.agents]
        return {"agents": agents}
    return {
        "name": graph.name,
        "nodes": [
            {
                "id": node.id,
                "name": node.name,
                "op": node.op,
                "attributes": node.attributes,
                "regions": {name: _as_map(region) for name, region in node.regions.items()},
            }
            for node in graph.nodes
        ],
        "edges": [
            {"from": e.source, "to": e.target, "dependency": e.dependency.value, "port": e.port, "label": e.label}
            for e in graph.edges
        ],
        "parameters": [{"name": one.name, "type_name": one.type_name} for one in graph.parameters],
        "metadata": graph.metadata,
    }


def _implied(nodes: Mapping[int, ReadNode], edges: list[ReadEdge], parameters: list[str]) -> list[ReadEdge]:
    """Data edges that nobody wrote: placeholders that name a parameter or a predecessor, and parameters of root nodes."""
    found: list[ReadEdge] = []
    for node in nodes.values():
        mine = [edge for edge in edges if edge.target == node.id and edge.kind == "Data"]
        marks = [match for text in node.texts() for match in PLACEHOLDER.finditer(text)]
        wanted = list(dict.fromkeys(m["name"] for m in marks if m["name"] is not None))
        if not mine and parameters and (node.op in _NEEDS_INPUT or any(m["position"] is not None for m in marks)):
            found += [ReadEdge(name, node.id, "Data", None, None) for name in parameters]
        ports = {edge.port for edge in mine}
        found += [ReadEdge(name, node.id, "Data", name, None) for name in wanted if name in parameters and name not in ports]
        sources = {edge.source for edge in mine}
        numbers = dict.fromkeys(int(m["node"]) for m in marks if m["node"] is not None)
        found += [ReadEdge(n, node.id, "Data", f"node_{n}", None) for n in numbers if n not in sources]
    return found
