"""The JSON contract: text or map -> Graph or Program, and back. Structure only; `validate` knows the rules.

`{name, nodes: [{id, name, op, attributes?, regions?}], edges: [{from, to, dependency?, port?, label?}], parameters?:
[{name, type_name}], metadata?}`, or `{agents: [{name, flows: [graph], metadata?}], name?}`. Keys are case-sensitive and an
unknown one is an error. A region is a graph whose `name` may be left out. `from` is a node id, or the name of a parameter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias, TypeVar

from apxm.collector import collector_paused
from apxm.errors import GraphError, Problem
from apxm.graph.model import AgentGraph, Dependency, Edge, Graph, Node, Parameter, Program

VERSION = "1.0"  # of the contract: the minor number grows when a key is added, the major one when a meaning changes
TEXT_BYTES_MAX = 256 * 1024 * 1024
DEPTH_MAX = 32  # regions within regions

# Keys in the order in which messages name them.
_GRAPH_KEYS = dict.fromkeys(("name", "nodes", "edges", "parameters", "metadata"))
_NODE_KEYS = dict.fromkeys(("id", "name", "op", "attributes", "regions"))
_EDGE_KEYS = dict.fromkeys(("from", "to", "dependency", "port", "label"))
_PARAMETER_KEYS = dict.fromkeys(("name", "type_name"))
_PROGRAM_KEYS = dict.fromkeys(("agents", "name"))
_AGENT_KEYS = dict.fromkeys(("name", "flows", "metadata"))
# What older graphs say about an agent beside its flows; it is kept in the metadata.
_AGENT_FACTS = ("memories", "beliefs", "goals", "capabilities", "tools", "discoverable", "context")

_LABEL = {True: "true", False: "false"}
_DEPENDENCIES = {dependency.value: dependency for dependency in Dependency}

Json: TypeAlias = Mapping[str, Any]
T = TypeVar("T")


def from_json(source: str | bytes | Json) -> Graph | Program:
    """The graph or program that a JSON text, or the map it stands for, describes, in canonical form.

    Raises GraphError with every place where the structure is wrong. What it gives back may still break rules: see
    `apxm.graph.validate`.
    """
    authored, problems = read(source)
    if problems or authored is None:
        raise GraphError(f"{len(problems)} mistakes in the JSON of a graph" if len(problems) > 1 else "not a graph", problems)
    return authored


@collector_paused()
def read(source: str | bytes | Json) -> tuple[Graph | Program | None, list[Problem]]:
    """What can be read of a JSON text, in canonical form, and every mistake in its structure."""
    from apxm.graph.canonical import canonical, canonical_program

    reader = _Reader()
    document = reader.parse(source) if isinstance(source, (str, bytes)) else source
    if reader.problems and document is None:
        return None, reader.problems
    if not isinstance(document, Mapping):
        reader.problem("graph.shape", f"{_kind(document)} where a graph was expected", "", expected="a map")
        return None, reader.problems
    if "agents" in document:
        return canonical_program(reader.program(document), reader.problems), reader.problems
    return canonical(reader.graph(document, "", None, 0), reader.problems), reader.problems


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the contract."""
    from apxm.graph import schema

    return schema.json_schema()


def to_map(authored: Graph | Program) -> dict[str, Any]:
    """The map that the JSON text of a graph or program stands for; keys at their defaults are left out."""
    if isinstance(authored, Program):
        agents = [_agent_map(agent) for agent in authored.agents]
        return {"name": authored.name, "agents": agents} if authored.name else {"agents": agents}
    return _graph_map(authored)


def to_json(authored: Graph | Program, *, indent: int | None = None) -> str:
    """The JSON text of a graph or program. Raises GraphError when an attribute holds what JSON has no word for."""
    try:
        return json.dumps(to_map(authored), ensure_ascii=False, allow_nan=False, indent=indent)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"`{authored.name}` cannot be written as JSON: {error}"
        raise GraphError(message, code="graph.attribute_type") from error


def _graph_map(graph: Graph) -> dict[str, Any]:
    out: dict[str, Any] = {"name": graph.name, "nodes": [_node_map(node) for node in graph.nodes]}
    out["edges"] = [_edge_map(edge) for edge in graph.edges]
    if graph.parameters:
        out["parameters"] = [{"name": parameter.name, "type_name": parameter.type_name} for parameter in graph.parameters]
    if graph.metadata:
        out["metadata"] = graph.metadata
    return out


def _node_map(node: Node) -> dict[str, Any]:
    out: dict[str, Any] = {"id": node.id, "name": node.name, "op": node.op}
    if node.attributes:
        out["attributes"] = node.attributes
    if node.regions:
        out["regions"] = {name: _graph_map(region) for name, region in node.regions.items()}
    return out


def _edge_map(edge: Edge) -> dict[str, Any]:
    out: dict[str, Any] = {"from": edge.source, "to": edge.target, "dependency": edge.dependency.value}
    if edge.port is not None:
        out["port"] = edge.port
    if edge.label is not None:
        out["label"] = edge.label
    return out


def _agent_map(agent: AgentGraph) -> dict[str, Any]:
    out: dict[str, Any] = {"name": agent.name, "flows": [_graph_map(flow) for flow in agent.flows]}
    if agent.metadata:
        out["metadata"] = agent.metadata
    return out


class _Reader:
    """Reads maps, collecting every mistake; gives what could be read."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def problem(self, code: str, message: str, path: str, *, node: int | None = None, **more: str | None) -> None:
        self.problems.append(Problem(code, message, path=path, node=node, **more))

    def parse(self, text: str | bytes) -> Any:
        if len(text) > TEXT_BYTES_MAX:
            self.problem("graph.json", f"{len(text):,} bytes", "", expected=f"at most {TEXT_BYTES_MAX:,}")
            return None
        try:
            return json.loads(text, object_pairs_hook=self._pairs, parse_constant=self._constant)
        except json.JSONDecodeError as error:
            place = f"line {error.lineno}, column {error.colno}"
            self.problem("graph.json", f"not JSON: {place}: {error.msg}", "", expected="a JSON object")
        except UnicodeDecodeError as error:
            self.problem("graph.json", f"not UTF-8 text (byte {error.start})", "", expected="a JSON object in UTF-8")
        except RecursionError:
            self.problem("graph.json", "nested too deeply to be read", "", expected="a JSON object")
        except ValueError as error:  # a number of thousands of digits
            self.problem("graph.json", f"not JSON we can hold: {error}", "", expected="a JSON object")
        return None

    def _pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    self.problem("graph.json", f"the key `{key}` stands twice in one map", "", expected="every key once")
                seen.add(key)
        return found

    def _constant(self, text: str) -> None:
        self.problem("graph.json", f"{text} is no JSON number", "", expected="a finite number or null")

    # maps

    def keys(self, data: Json, known: Collection[str], required: tuple[str, ...], path: str, node: int | None = None) -> None:
        for key in data:
            if key not in known:
                near = get_close_matches(str(key), known, n=1)
                self.problem(
                    "graph.unknown_key",
                    f"unknown key `{key}`",
                    _join(path, str(key)),
                    node=node,
                    expected="one of " + ", ".join(known),
                    nearest=near[0] if near else None,
                )
        for key in required:
            if key not in data:
                self.problem("graph.shape", f"`{key}` is missing", path, node=node, expected=f"the key `{key}`")

    def take(self, data: Json, key: str, kind: type[T], default: T, path: str, node: int | None = None) -> T:
        """data[key] if it is of that type, else the default; a boolean is no int."""
        value = data.get(key, default)
        if type(value) is kind:
            return value
        if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
            return value
        self.problem(
            "graph.shape", f"`{key}` is {_kind(value)}", _join(path, key), node=node, expected=_KINDS.get(kind, kind.__name__)
        )
        return default

    def items(self, data: Json, key: str, read: Callable[[Json, str], T], path: str) -> list[T]:
        found = []
        place = _join(path, key)
        for index, item in enumerate(self.take(data, key, list, [], path)):
            at = f"{place}[{index}]"
            if isinstance(item, (dict, Mapping)):  # the first is quick to tell
                found.append(read(item, at))
            else:
                self.problem("graph.shape", f"{_kind(item)} where a map was expected", at, expected="a map")
        return found

    # the contract

    def program(self, data: Json) -> Program:
        self.keys(data, _PROGRAM_KEYS, ("agents",), "")
        return Program(self.items(data, "agents", self.agent, ""), self.take(data, "name", str, "", ""))

    def agent(self, data: Json, path: str) -> AgentGraph:
        self.keys(data, (*_AGENT_KEYS, *_AGENT_FACTS), ("name", "flows"), path)
        flows = self.items(data, "flows", lambda flow, at: self.graph(flow, at, None, 0), path)
        facts = {key: data[key] for key in _AGENT_FACTS if key in data}
        metadata = {**facts, **self.take(data, "metadata", dict, {}, path)}
        return AgentGraph(self.take(data, "name", str, "", path), flows, metadata)

    def graph(self, data: Json, path: str, region: str | None, depth: int) -> Graph:
        """One graph; `region` is the name it gets if it has none."""
        required = ("nodes", "edges") if region is not None else ("name", "nodes", "edges")
        self.keys(data, _GRAPH_KEYS, required, path)
        return Graph(
            self.take(data, "name", str, region or "", path),
            self.items(data, "nodes", lambda node, at: self.node(node, at, depth), path),
            self.items(data, "edges", self.edge, path),
            self.items(data, "parameters", self.parameter, path),
            dict(self.take(data, "metadata", dict, {}, path)),
        )

    def node(self, data: Json, path: str, depth: int) -> Node:
        id = self.take(data, "id", int, -1, path)
        self.keys(data, _NODE_KEYS, ("id", "name", "op"), path, id)
        name, op = self.take(data, "name", str, "", path, id), self.take(data, "op", str, "", path, id)
        attributes = self.take(data, "attributes", dict, {}, path, id) if "attributes" in data else {}
        return Node(id, name, op, attributes, self.regions(data, path, id, depth) if "regions" in data else {})

    def regions(self, data: Json, path: str, id: int, depth: int) -> dict[str, Graph]:
        found = {}
        for name, region in self.take(data, "regions", dict, {}, path, id).items():
            at = f"{path}.regions.{name}"
            if not isinstance(region, Mapping):
                self.problem("graph.shape", f"{_kind(region)} where a graph was expected", at, node=id, expected="a map")
            elif depth >= DEPTH_MAX:
                self.problem("graph.depth", f"more than {DEPTH_MAX} regions within each other", at, node=id)
            else:
                found[name] = self.graph(region, at, name, depth + 1)
        return found

    def edge(self, data: Json, path: str) -> Edge:
        self.keys(data, _EDGE_KEYS, ("from", "to"), path)
        source = data.get("from", -1)
        if type(source) is not int and not isinstance(source, str):
            self.problem("graph.shape", f"`from` is {_kind(source)}", f"{path}.from", expected="a node id or a parameter name")
            source = -1
        target = self.take(data, "to", int, -1, path)
        dependency = self.dependency(data["dependency"], path) if "dependency" in data else Dependency.DATA
        port, label = data.get("port"), data.get("label")
        if port is not None and type(port) is not str:
            port = str(port) if type(port) is int else self.text(port, "port", path)  # a number is a position
        if label is not None and type(label) is not str:
            label = _LABEL[label] if isinstance(label, bool) else self.text(label, "label", path)
        return Edge(source, target, dependency, port, label)

    def dependency(self, value: Any, path: str) -> Dependency:
        known = _DEPENDENCIES.get(value) if isinstance(value, str) else None
        if known is not None:
            return known
        near = get_close_matches(str(value).capitalize(), _DEPENDENCIES, n=1)
        self.problem(
            "graph.shape",
            f"`{value}` is no kind of dependency",
            f"{path}.dependency",
            expected="Data, Control or Effect",
            nearest=near[0] if near else None,
        )
        return Dependency.DATA

    def text(self, value: Any, key: str, path: str) -> str | None:
        if isinstance(value, str):
            return value
        self.problem("graph.shape", f"`{key}` is {_kind(value)}", f"{path}.{key}", expected="a text")
        return None

    def parameter(self, data: Json, path: str) -> Parameter:
        self.keys(data, _PARAMETER_KEYS, ("name",), path)
        return Parameter(self.take(data, "name", str, "", path), self.take(data, "type_name", str, "str", path))


_KINDS: dict[type, str] = {str: "a text", int: "an int", list: "a list", dict: "a map"}


def _kind(value: Any) -> str:
    """How an error names the kind of a JSON value."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return {str: "a text", int: "an int", float: "a float", list: "a list", dict: "a map"}.get(type(value), type(value).__name__)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
