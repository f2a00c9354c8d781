"""The JSON Schema of the contract, from the operation table: for editors, and for prompts that ask a model for a graph."""

from __future__ import annotations

from typing import Any

from apxm.graph.model import PARAMETER_TYPES, Dependency
from apxm.graph.ops import COMMON_ATTRIBUTES, OPERATIONS, Attribute, Operation

_NAME = {"type": "string", "minLength": 1}
_TYPES: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "filled": {},
    "str": {"type": "string"},
    "name": {"type": ["string", "integer"], "minLength": 1},
    "names": {"type": "array", "items": _NAME},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "json": {},
    "list": {"type": "array"},
    "map": {"type": "object"},
    "condition": {"type": "string"},
    "node": {},
}


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a graph or program."""
    from apxm.graph.contract import VERSION

    definitions: dict[str, Any] = {
        "graph": _graph(required=("name", "nodes", "edges")),
        "region": _graph(required=("nodes", "edges")),
        "node": _node(),
        "edge": _edge(),
        "parameter": _map({"name": _NAME, "type_name": {"type": "string", "examples": list(PARAMETER_TYPES)}}, ("name",)),
        "program": _map(
            {"name": {"type": "string"}, "agents": {"type": "array", "minItems": 1, "items": _ref("agent")}}, ("agents",)
        ),
        "agent": {
            "type": "object",
            "properties": {
                "name": _NAME,
                "flows": {"type": "array", "minItems": 1, "items": _ref("graph")},
                "metadata": {"type": "object"},
            },
            "required": ["name", "flows"],
        },
    }
    definitions.update({f"{row.name}.attributes": _attributes(row) for row in OPERATIONS.values()})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "apxm graph",
        "description": f"The JSON contract of apxm graphs, version {VERSION}.",
        "if": {"type": "object", "required": ["agents"]},
        "then": _ref("program"),
        "else": _ref("graph"),
        "$defs": definitions,
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


def _map(properties: dict[str, Any], required: tuple[str, ...]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _graph(required: tuple[str, ...]) -> dict[str, Any]:
    properties = {
        "name": _NAME,
        "nodes": {"type": "array", "minItems": 1, "items": _ref("node")},
        "edges": {"type": "array", "items": _ref("edge")},
        "parameters": {"type": "array", "items": _ref("parameter")},
        "metadata": {
            "type": "object",
            "properties": {"is_entry": {"type": "boolean", "default": True}, "exits": {"type": "array", "items": _NAME}},
        },
    }
    return _map(properties, required)


def _node() -> dict[str, Any]:
    properties = {
        "id": {"type": "integer", "minimum": 0},
        "name": _NAME,
        "op": {"enum": list(OPERATIONS)},
        "attributes": {"type": "object"},
        "regions": {"type": "object", "additionalProperties": _ref("region")},
    }
    schema = _map(properties, ("id", "name", "op"))
    schema["allOf"] = [
        {
            "if": {"properties": {"op": {"const": row.name}}, "required": ["op"]},
            "then": {"properties": {"attributes": _ref(f"{row.name}.attributes")}, **_needs_attributes(row)},
        }
        for row in OPERATIONS.values()
    ]
    return schema


def _needs_attributes(row: Operation) -> dict[str, Any]:
    return {"required": ["attributes"]} if any(attribute.required for attribute in row.attributes) else {}


def _edge() -> dict[str, Any]:
    properties = {
        "from": {"type": ["integer", "string"], "description": "a node id, or the name of a parameter of the graph"},
        "to": {"type": "integer"},
        "dependency": {"enum": [dependency.value for dependency in Dependency], "default": Dependency.DATA.value},
        "port": {"type": ["string", "integer"], "description": "the input it feeds: a name or a position"},
        "label": {"type": ["string", "boolean"], "description": "live only when this label is chosen; `error`: on failure"},
    }
    return _map(properties, ("from", "to"))


def _attributes(row: Operation) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    patterns: dict[str, Any] = {}
    for attribute in (*COMMON_ATTRIBUTES, *row.attributes):
        if attribute.name.endswith("*"):
            patterns[f"^{attribute.name[:-1]}."] = _attribute(attribute)
            continue
        for name in (attribute.name, *attribute.aliases):
            properties[name] = _attribute(attribute)
    schema: dict[str, Any] = {"type": "object", "description": row.doc, "properties": properties, "additionalProperties": False}
    if patterns:
        schema["patternProperties"] = patterns
    required = [attribute for attribute in row.attributes if attribute.required]
    if required:
        schema["allOf"] = [{"anyOf": [{"required": [name]} for name in (a.name, *a.aliases)]} for a in required]
    return schema


def _attribute(attribute: Attribute) -> dict[str, Any]:
    schema: dict[str, Any] = {**_TYPES[attribute.type], "description": attribute.doc}
    if attribute.choices:
        schema["examples" if attribute.aliases else "enum"] = list(attribute.choices)
    if attribute.least is not None:
        schema["minimum"] = attribute.least
    if attribute.default is not None:
        schema["default"] = list(attribute.default) if isinstance(attribute.default, tuple) else attribute.default
    return schema
