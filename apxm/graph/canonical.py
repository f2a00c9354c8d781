"""One spelling for everything: aliases, node references, JSON texts and defaults that depend on the graph.

What a person or an older graph may write in several ways is written in one way here, before validation and lowering:
attributes get their canonical names, references to nodes become edges and labels, JSON text becomes values, MERGE gets
its mode. Canonicalising twice changes nothing more. What cannot be understood stays as it is, for validation to name.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any

from apxm.errors import Problem
from apxm.graph import template
from apxm.graph.merging import merge_modes
from apxm.graph.model import AgentGraph, Dependency, Edge, Graph, Node, Parameter, Program
from apxm.graph.ops import COMMON_ATTRIBUTES, OPERATIONS, Attribute, Operation, attribute_of
from apxm.values import same

if TYPE_CHECKING:
    from collections.abc import Container

    from apxm.graph.model import Source

_DEPTH_MAX = 64  # deeper regions are refused by validation; here they only must not exhaust the stack

# Attributes that name the node behind a labelled out-edge, with that label.
_LABELS = {
    "BRANCH_ON_VALUE": {"label_true": "true", "label_false": "false"},
    "SWITCH": {"default": "default"},
    "TRY_CATCH": {"try_label": "try", "catch_label": "catch", "finally_label": "finally"},
}
# Attributes that name a predecessor, with the port its edge gets.
_FEEDS: dict[str, dict[str, str | None]] = {
    "BRANCH_ON_VALUE": {"token": "token"},
    "SWITCH": {"discriminant": "discriminant"},
    "LOOP_START": {"count_token": "count"},
    "LOOP_END": {"count_token": None},
    "MERGE": {"tokens": None},
    "WAIT_ALL": {"tokens": None},
}
# Other names under which people know the parameter types.
_TYPE_NAMES = {
    **dict.fromkeys(("string", "text"), "str"),
    **dict.fromkeys(("integer", "i64"), "int"),
    **dict.fromkeys(("number", "f64"), "float"),
    "boolean": "bool",
    **dict.fromkeys(("any", "object", "array", "list", "dict", "map"), "json"),
}
_REFERENCE = re.compile(r"(?:node_)?(\d{1,18})\Z", re.ASCII)
_PROMPTED = ("ASK", "THINK", "REASON")
_REFERRING = {*_LABELS, *_FEEDS, "JUMP"}  # operations with attributes that stand for edges, labels or cases
PASSED_OVER = "next"  # label of the out-edges of a JUMP that do not lead to its target; never chosen


def _as_written(attribute: Attribute) -> frozenset[type]:
    """The types of the values of an attribute that are never rewritten."""
    if attribute.choices or attribute.type == "node" or attribute.name.endswith("*"):
        return frozenset()
    if attribute.name in ("params_json", "args") or attribute.type in ("map", "list", "names"):
        return frozenset((dict, list))
    return frozenset((str, int, bool)) if attribute.type == "int" else frozenset((str, int, bool, float, dict, list))


# Operation -> attribute -> those types: nearly every attribute is one of them, and its node stays the same object.
_AS_WRITTEN = {
    name: {attribute.name: _as_written(attribute) for attribute in (*row.attributes, *COMMON_ATTRIBUTES)}
    for name, row in OPERATIONS.items()
}


def canonical(graph: Graph, problems: list[Problem] | None = None, *, path: str = "", depth: int = 0) -> Graph:
    """The same graph in canonical form; `graph` itself stays as it is. Problems met on the way are added to `problems`."""
    return _Rewriter(graph, [] if problems is None else problems, path, depth).run()


def canonical_program(program: Program, problems: list[Problem] | None = None) -> Program:
    """The same program with every flow in canonical form."""
    agents = [
        AgentGraph(
            agent.name,
            [canonical(flow, problems, path=f"agents[{a}].flows[{f}].") for f, flow in enumerate(agent.flows)],
            agent.metadata,
        )
        for a, agent in enumerate(program.agents)
    ]
    return Program(agents, program.name)


class _Rewriter:
    """One pass over one graph."""

    def __init__(self, graph: Graph, problems: list[Problem], path: str, depth: int) -> None:
        self.graph, self.problems, self.path, self.depth = graph, problems, path, depth
        self.edges = list(graph.edges)
        self.parameters = {parameter.name for parameter in graph.parameters}
        self._index: tuple[dict[Source, list[int]], dict[int, list[int]]] | None = None
        self._led: list[int] = []  # indexes of the labelled edges that were missing
        self._jumps: dict[int, tuple[int, str]] = {}  # JUMP -> its target, and the label of the way there

    @cached_property
    def by_id(self) -> dict[int, Node]:
        return {node.id: node for node in reversed(self.graph.nodes)}

    @cached_property
    def names(self) -> dict[str, int]:
        return {node.name: node.id for node in reversed(self.graph.nodes)}

    def run(self) -> Graph:
        nodes = [self._node(index, node) for index, node in enumerate(self.graph.nodes)]
        if self._jumps:
            self._pass_over(nodes)
        if self._led:
            self._gate()
        fed = {edge.target for edge in self.edges if edge.dependency is Dependency.DATA}
        if self.parameters:
            nodes = [self._prompted(node, fed) for node in nodes]
        nodes = merge_modes(nodes, self.edges)
        return Graph(self.graph.name, nodes, self.edges, self._parameters(), dict(self.graph.metadata))

    def _parameters(self) -> list[Parameter]:
        return [
            replace(parameter, type_name=_TYPE_NAMES[parameter.type_name]) if parameter.type_name in _TYPE_NAMES else parameter
            for parameter in self.graph.parameters
        ]

    def _node(self, index: int, node: Node) -> Node:
        row = OPERATIONS.get(node.op)
        attributes, regions = node.attributes, node.regions
        if not attributes and not regions and node.op != "SWITCH":
            return node
        at = f"{self.path}nodes[{index}]"
        if row is not None:
            if attributes:
                attributes = self._spelled(row, node, at)
            if row.name in _REFERRING and (attributes or row.name == "SWITCH"):
                attributes = self._referred(row.name, node, dict(attributes), at)
        if regions and self.depth < _DEPTH_MAX:
            regions = {
                name: canonical(region, self.problems, path=f"{at}.regions.{name}.", depth=self.depth + 1)
                for name, region in regions.items()
            }
        if attributes is node.attributes and regions is node.regions:
            return node
        return Node(node.id, node.name, node.op, attributes, regions)

    # attributes

    def _referred(self, op: str, node: Node, attributes: dict[str, Any], at: str) -> dict[str, Any]:
        """The attributes of an operation of _REFERRING without those that became edges and labels."""
        for name, label in _LABELS.get(op, {}).items():
            if name in attributes:
                self._lead(node, attributes.pop(name), label, f"{at}.attributes.{name}")
        for name, port in _FEEDS.get(op, {}).items():
            if name in attributes:
                self._feed(node, attributes.pop(name), port, f"{at}.attributes.{name}")
        if op == "SWITCH":
            self._cases(node, attributes, f"{at}.attributes.cases")
        elif op == "JUMP":
            self._jump(node, attributes)
        return attributes

    def _spelled(self, row: Operation, node: Node, at: str) -> dict[str, Any]:
        stays = _AS_WRITTEN[row.name]
        for key, value in node.attributes.items():
            if key not in stays or type(value) not in stays[key]:
                break
        else:
            return node.attributes
        spelled: dict[str, Any] = {}
        origin: dict[str, str] = {}
        for key, value in node.attributes.items():
            attribute = attribute_of(row, key) if isinstance(key, str) else None
            if value is None and attribute is not None and attribute.type not in ("json", "filled"):
                continue  # null says that it is not given
            name = key if attribute is None or attribute.name.endswith("*") else attribute.name
            read = value if attribute is None else self._read(attribute, value, node, f"{at}.attributes.{key}")
            if name in spelled:
                if not same(spelled[name], read):
                    self._problem(
                        "graph.attribute_value",
                        f"`{origin[name]}` and `{key}` mean the same attribute and differ",
                        node,
                        f"{at}.attributes.{key}",
                        expected=f"`{name}` once",
                    )
                continue
            spelled[name], origin[name] = read, key
        return spelled

    def _read(self, attribute: Attribute, value: Any, node: Node, at: str) -> Any:
        """A value as its attribute wants it, where that is only another way to write it."""
        if isinstance(value, str):
            if attribute.choices and value.strip().lower() in attribute.choices:
                return value.strip().lower()
            if attribute.name in ("params_json", "args"):
                return self._arguments(value, node, at)
            if attribute.type in ("map", "list", "names") and value.lstrip()[:1] in ("{", "["):
                return _json_or_text(value)
        if attribute.type == "int" and isinstance(value, float) and value.is_integer():
            return int(value)
        return list(value) if isinstance(value, tuple) else value

    def _arguments(self, text: str, node: Node, at: str) -> Any:
        """Arguments given as JSON text, in which placeholders may also stand outside of strings."""
        if template.parse(text.strip()).sole is not None:
            return text.strip()
        if not text.strip():
            return {}
        try:
            return json.loads(_quoted(text))
        except (ValueError, RecursionError) as error:
            where = f"line {error.lineno}, column {error.colno}: " if isinstance(error, json.JSONDecodeError) else ""
            said = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            self._problem("graph.attribute_type", f"not JSON: {where}{said}", node, at, expected="a map, or its JSON text")
            return {}

    def _prompted(self, node: Node, fed: set[int]) -> Node:
        """A prompt that says nothing, at a node that nothing feeds, is about the first parameter."""
        if node.op not in _PROMPTED or node.id in fed or node.attributes.get("template_str", "") != "":
            return node
        return replace(node, attributes={**node.attributes, "template_str": "{0}"})

    # references

    def _resolve(self, value: Any) -> Source | None:
        """The node id or parameter name that a reference means: a name, an id, `node_N`, `{{node_N}}`, `{name}`."""
        if isinstance(value, int) and not isinstance(value, bool):
            return value if value in self.by_id else None
        if not isinstance(value, str):
            return None
        text = value.strip()
        if text in self.names:
            return self.names[text]
        sole = template.parse(text).sole
        if sole is not None:
            known: Container[object] = self.by_id if sole.kind == "node" else self.parameters
            return sole.key if sole.key in known else None
        match = _REFERENCE.match(text)
        if match:
            return int(match[1]) if int(match[1]) in self.by_id else None
        return text if text in self.parameters else None

    def _ends(self) -> tuple[dict[Source, list[int]], dict[int, list[int]]]:
        """Indexes of the edges by source and by target; made only for graphs that refer to nodes in attributes."""
        if self._index is None:
            self._index = ({}, {})
            for i, edge in enumerate(self.edges):
                self._enter(i, edge)
        return self._index

    def _enter(self, i: int, edge: Edge) -> None:
        assert self._index is not None
        self._index[0].setdefault(edge.source, []).append(i)
        self._index[1].setdefault(edge.target, []).append(i)

    def _outs_of(self, node: Node) -> list[int]:
        return self._ends()[0].get(node.id, [])

    def _add(self, edge: Edge) -> None:
        self._ends()
        self._enter(len(self.edges), edge)
        self.edges.append(edge)

    def _feed(self, node: Node, value: Any, port: str | None, at: str) -> None:
        """Make sure that a Data edge comes from every node that `value` refers to."""
        for item in value if isinstance(value, list) else [value]:
            source = self._resolve(item)
            if source is None:
                self._unknown(node, item, at)
                continue
            incoming = [i for i in self._ends()[1].get(node.id, []) if self._carries(i)]
            mine = [i for i in incoming if self.edges[i].source == source]
            if not mine:
                self._add(Edge(source, node.id, port=port))
            elif port is not None and self.edges[mine[0]].port is None and mine[0] != incoming[0]:
                self.edges[mine[0]] = replace(self.edges[mine[0]], port=port)

    def _lead(self, node: Node, value: Any, label: str, at: str) -> None:
        """Give `label` to the edges to the node that `value` refers to, or to the edges labelled `value`."""
        target = self._resolve(value)
        if isinstance(target, int):
            self._label(node, target, label)
        elif isinstance(value, str) and value != label:
            renamed = [i for i in self._outs_of(node) if self.edges[i].label == value]
            for i in renamed:
                self.edges[i] = replace(self.edges[i], label=label)
            if not renamed:
                self._unknown(node, value, at)
        elif value != label and value is not None:
            self._unknown(node, value, at)

    def _label(self, node: Node, target: int, label: str) -> None:
        ways = [
            i for i in self._outs_of(node) if self.edges[i].target == target and self.edges[i].dependency is not Dependency.EFFECT
        ]
        if any(self.edges[i].label == label for i in ways):
            return
        plain = [i for i in ways if self.edges[i].label is None]
        for i in plain:
            self.edges[i] = replace(self.edges[i], label=label)
        if not plain:
            self._led.append(len(self.edges))
            self._add(Edge(node.id, target, label=label))

    def _gate(self) -> None:
        """Make Control edges of the added ones whose target takes no Data, or no more of it: they only say when it may come."""
        count = Counter(edge.target for edge in self.edges if edge.dependency is Dependency.DATA)
        for i in reversed(self._led):
            edge = self.edges[i]
            row = OPERATIONS.get(self.by_id[edge.target].op)
            if row is not None and row.inputs_max is not None and count[edge.target] > row.inputs_max:
                self.edges[i] = replace(edge, dependency=Dependency.CONTROL)
                count[edge.target] -= 1

    def _cases(self, node: Node, attributes: dict[str, Any], at: str) -> None:
        """Label the ways of `cases`, and write the cases out in the order in which they stand."""
        if "cases" in attributes:
            cases = _case_list(attributes["cases"])
            if cases is None:
                expected = "[{label, node_id}], or a map label -> node"
                self._problem("graph.attribute_type", "not a list of cases", node, at, expected=expected)
                return
            del attributes["cases"]
            for label, target in cases:
                if target is not None:
                    self._lead(node, target, label, at)
            attributes.setdefault("case_labels", [label for label, _ in cases if label != "default"])
        elif attributes.get("case_labels", []) == []:
            labels = (self.edges[i].label for i in self._outs_of(node))
            ways = dict.fromkeys([*node.regions, *(label for label in labels if label not in (None, "error"))])
            if found := [label for label in ways if label != "default"]:
                attributes["case_labels"] = found

    def _jump(self, node: Node, attributes: dict[str, Any]) -> None:
        target = self._resolve(attributes.get("label"))
        if not isinstance(target, int):
            return  # validation says so
        if not isinstance(attributes["label"], str):
            attributes["label"] = self.by_id[target].name
        self._label(node, target, attributes["label"])
        self._jumps[node.id] = (target, attributes["label"])

    def _pass_over(self, nodes: list[Node]) -> None:
        """Label every way out of a JUMP, those that a text implies as well: only the one to its target is ever live."""
        for node in nodes:
            for jump in sorted(self._jumps.keys() & _asked_for(node)):
                target, label = self._jumps[jump]
                data = {self.edges[i].target for i in self._outs_of(self.by_id[jump]) if self._carries(i)}
                if jump != node.id and node.id not in data:
                    self._add(Edge(jump, node.id, port=f"node_{jump}", label=label if node.id == target else PASSED_OVER))
        for jump in self._jumps:
            for i in self._outs_of(self.by_id[jump]):
                if self.edges[i].label is None and self.edges[i].dependency is not Dependency.EFFECT:
                    self.edges[i] = replace(self.edges[i], label=PASSED_OVER)

    def _carries(self, i: int) -> bool:
        return self.edges[i].dependency is Dependency.DATA

    # problems

    def _unknown(self, node: Node, value: Any, at: str) -> None:
        near = get_close_matches(str(value), self.names, n=1)
        self._problem(
            "graph.unknown_node",
            f"`{value}` is no node of this graph",
            node,
            at,
            expected="a node id, a node name or {{node_ID}}",
            nearest=near[0] if near else None,
        )

    def _problem(self, code: str, message: str, node: Node, at: str, **more: str | None) -> None:
        self.problems.append(Problem(code, message, node=node.id, path=at, **more))


def _case_list(value: Any) -> list[tuple[str, Any]] | None:
    """(label, node or None) of every case, or None when `value` is no list of cases."""
    if isinstance(value, dict):
        return list(value.items())
    if not isinstance(value, list):
        return None
    cases: list[tuple[str, Any]] = []
    for item in value:
        if isinstance(item, str):
            cases.append((item, None))
        elif isinstance(item, dict) and isinstance(item.get("label"), str) and set(item) <= {"label", "node_id", "node"}:
            cases.append((item["label"], item.get("node_id", item.get("node"))))
        else:
            return None
    return cases


def _asked_for(node: Node) -> set[int]:
    """Ids of the nodes whose values its texts ask for."""
    row = OPERATIONS.get(node.op)
    found: set[int] = set()
    if row is None:
        return found
    for name, value in node.attributes.items():
        attribute = attribute_of(row, name) if isinstance(name, str) else None
        if attribute is not None and attribute.type in ("text", "filled"):
            found.update(template.parse_filled(value).node_ids)
    return found


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\{\{\s*node_\d+\s*\}\}|\{[^\W\d]\w*\}|\{\d{1,4}\}', re.DOTALL)


def _quoted(text: str) -> str:
    """JSON text with quotes put around the placeholders that stand outside of strings."""
    return _TOKEN.sub(lambda match: match[0] if match[0][0] == '"' else f'"{match[0]}"', text)
