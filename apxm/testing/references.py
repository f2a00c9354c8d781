"""Attributes that name other nodes, read for the oracle as the edges and labels they stand for. Never looks at values."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from apxm.testing.readgraph import ReadEdge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from apxm.testing.readgraph import ReadNode

# By operation: the attribute, and the label of the way to the node it names.
_WAYS: Mapping[str, Mapping[str, str]] = {
    "BRANCH_ON_VALUE": {"label_true": "true", "true_label": "true", "label_false": "false", "false_label": "false"},
    "SWITCH": {"default": "default"},
    "TRY_CATCH": {
        "try_label": "try",
        "try_subgraph": "try",
        "catch_label": "catch",
        "catch_subgraph": "catch",
        "finally_label": "finally",
        "finally_subgraph": "finally",
    },
}
# By operation: the attribute, and the port of the edge from the node it names.
_FEEDS: Mapping[str, Mapping[str, str | None]] = {
    "BRANCH_ON_VALUE": {"token": "token"},
    "SWITCH": {"discriminant": "discriminant", "token": "discriminant"},
    "LOOP_START": {"count_token": "count"},
    "LOOP_END": {"count_token": None, "token": None},
    "MERGE": {"tokens": None},
    "WAIT_ALL": {"tokens": None},
}
_ROOM: Mapping[str, int] = {"CONST_STR": 0, "RETURN": 1, "YIELD": 1, "LOOP_END": 1, "LOOP_START": 2}  # Data inputs at most
AIM, PASSED_OVER = "(aim)", "(passed over)"  # labels of the ways out of a JUMP; no author could have written them
_NUMBER = re.compile(r"(?:node_|\{\{\s*node_)?(\d+)(?:\s*\}\})?")
_PARAMETER = re.compile(r"\{?([A-Za-z_]\w*)\}?")


@dataclass(slots=True)
class _Graph:
    nodes: Mapping[int, ReadNode]
    edges: list[ReadEdge]
    parameters: list[str]

    def meant(self, text: Any) -> int | str | None:
        """The node id or parameter that a reference means."""
        by_name = {node.name: node.id for node in self.nodes.values()}
        if text in by_name:
            return by_name[text]
        number = _NUMBER.fullmatch(str(text))
        if number is not None:
            return int(number[1]) if int(number[1]) in self.nodes else None
        name = _PARAMETER.fullmatch(str(text))
        return name[1] if name is not None and name[1] in self.parameters else None

    def places(self, source: int | str, target: int) -> Iterator[int]:
        return (i for i, edge in enumerate(self.edges) if (edge.source, edge.target) == (source, target))


def resolve(nodes: Mapping[int, ReadNode], edges: list[ReadEdge], parameters: list[str]) -> list[ReadEdge]:
    """The edges of a graph with those that its attributes stand for; such attributes are taken away.

    A way that was not drawn carries Data to its node, unless that takes no more of it: then it only says when.
    """
    graph = _Graph(nodes, list(edges), parameters)
    added: list[int] = []
    for node in nodes.values():
        for name, label in _WAYS.get(node.op, {}).items():
            if name in node.attributes:
                added += _label_way(graph, node, node.attributes.pop(name), label)
        for name, port in _FEEDS.get(node.op, {}).items():
            if name in node.attributes:
                _feed(graph, node, node.attributes.pop(name), port)
        if node.op == "SWITCH" and "cases" in node.attributes:
            added += _label_cases(graph, node, node.attributes.pop("cases"))
        if node.op == "JUMP":
            target = graph.meant(node.attributes.get("label", node.attributes.get("target")))
            assert isinstance(target, int)
            node.attributes["label"] = target
            if all(graph.edges[place].kind == "Effect" for place in graph.places(node.id, target)):
                added.append(len(graph.edges))
                graph.edges.append(ReadEdge(node.id, target))
    for place in reversed(added):
        target = graph.edges[place].target
        fed = sum(edge.target == target and edge.kind == "Data" for edge in graph.edges)
        if fed > _ROOM.get(nodes[target].op, fed):
            graph.edges[place] = replace(graph.edges[place], kind="Control")
    return graph.edges


def take_aim(nodes: Mapping[int, ReadNode], edges: list[ReadEdge]) -> list[ReadEdge]:
    """The edges of a graph, those that texts imply as well, where each way out of a JUMP leads to its aim or is dead."""
    aims = {node.id: node.attributes["label"] for node in nodes.values() if node.op == "JUMP"}
    return [
        replace(edge, label=AIM if edge.target == aims[edge.source] else PASSED_OVER)
        if edge.source in aims and edge.kind != "Effect" and edge.label != "error"
        else edge
        for edge in edges
    ]


def _label_way(graph: _Graph, node: ReadNode, reference: Any, label: str) -> list[int]:
    """Give a label to the way to the node that is meant. Gives the place of the edge if it had to be drawn."""
    target = graph.meant(reference)
    if not isinstance(target, int):
        for place, edge in enumerate(graph.edges):
            if edge.source == node.id and edge.label == reference:
                graph.edges[place] = replace(edge, label=label)
        return []
    ways = [place for place in graph.places(node.id, target) if graph.edges[place].kind != "Effect"]
    if any(graph.edges[place].label == label for place in ways):
        return []
    bare = [place for place in ways if graph.edges[place].label is None]
    for place in bare:
        graph.edges[place] = replace(graph.edges[place], label=label)
    if bare:
        return []
    graph.edges.append(ReadEdge(node.id, target, label=label))
    return [len(graph.edges) - 1]


def _label_cases(graph: _Graph, node: ReadNode, cases: Any) -> list[int]:
    pairs: list[tuple[str, Any]] = []
    for item in cases.items() if isinstance(cases, dict) else cases:
        if isinstance(item, str):
            pairs.append((item, None))
        else:
            pairs.append((item["label"], item.get("node_id", item.get("node"))) if isinstance(item, dict) else item)
    added = [place for label, way in pairs if way is not None for place in _label_way(graph, node, way, label)]
    node.attributes.setdefault("case_labels", [label for label, _ in pairs if label != "default"])
    return added


def _feed(graph: _Graph, node: ReadNode, references: Any, port: str | None) -> None:
    """Draw the edges from the nodes that are meant, where they are missing; say on the others what they are for."""
    for reference in references if isinstance(references, list) else [references]:
        source = graph.meant(reference)
        assert source is not None, f"`{reference}` is no node"
        fed = [place for place, edge in enumerate(graph.edges) if edge.target == node.id and edge.kind == "Data"]
        mine = [place for place in fed if graph.edges[place].source == source]
        if not mine:
            graph.edges.append(ReadEdge(source, node.id, port=port))
        elif port is not None and graph.edges[mine[0]].port is None and mine[0] != fed[0]:
            graph.edges[mine[0]] = replace(graph.edges[mine[0]], port=port)
