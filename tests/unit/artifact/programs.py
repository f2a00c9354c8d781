"""Programs that together use every column of an artifact, and the smallest one."""

from __future__ import annotations

from typing import Any

SMALL: dict[str, Any] = {
    "name": "small",
    "nodes": [{"id": 1, "name": "hello", "op": "CONST_STR", "attributes": {"value": "hi"}}],
    "edges": [],
}

_BODY: dict[str, Any] = {
    "parameters": [{"name": "item", "type_name": "json"}, {"name": "question", "type_name": "str"}],
    "nodes": [
        {"id": 1, "name": "read", "op": "INV", "attributes": {"capability": "read", "params_json": {"path": "{item}"}}},
        {"id": 2, "name": "short", "op": "ASK", "attributes": {"prompt": "Say what {0} says about {question}"}},
    ],
    "edges": [{"from": 1, "to": 2}],
}

_LOOP: dict[str, Any] = {
    "parameters": [{"name": "text", "type_name": "str"}, {"name": "iteration", "type_name": "int"}],
    "nodes": [
        {
            "id": 1,
            "name": "try it",
            "op": "TRY_CATCH",
            "regions": {
                "try": _BODY | {"parameters": [{"name": "item", "type_name": "json"}, {"name": "question", "type_name": "str"}]}
            },
        },
    ],
    "edges": [{"from": "text", "to": 1, "port": "item"}, {"from": "iteration", "to": 1, "port": "question"}],
}

# Two agents, three flows; regions within regions, labels, ports, every kind of edge, every JSON type.
RICH: dict[str, Any] = {
    "name": "rich",
    "agents": [
        {
            "name": "writer",
            "metadata": {"model": "small", "rate": 0.5},
            "flows": [
                {
                    "name": "main",
                    "parameters": [
                        {"name": "question", "type_name": "str"},
                        {"name": "files", "type_name": "json"},
                        {"name": "limit", "type_name": "int"},
                    ],
                    "metadata": {"is_entry": True, "author": "ä ö ü", "exits": ["brief", "log"]},
                    "nodes": [
                        {
                            "id": 1,
                            "name": "facts",
                            "op": "CONST_STR",
                            "attributes": {"value": {"z": [1, 2.5, None, True], "a": {"deep": ["ü", -7, 2**60]}}},
                        },
                        {
                            "id": 2,
                            "name": "each",
                            "op": "MAP",
                            "attributes": {"window": 4, "on_item_error": "null"},
                            "regions": {"body": _BODY},
                        },
                        {"id": 3, "name": "good", "op": "BRANCH_ON_VALUE", "attributes": {"condition": "len > 0"}},
                        {
                            "id": 4,
                            "name": "brief",
                            "op": "ASK",
                            "attributes": {
                                "prompt": "{question}: {0} {{node_1}}",
                                "temperature": 0.0,
                                "output_schema": {"type": "object"},
                            },
                        },
                        {"id": 5, "name": "none", "op": "ERR", "attributes": {"message": "no files", "class": "invalid"}},
                        {"id": 6, "name": "log", "op": "PRINT", "attributes": {"message": "done {limit}"}},
                        {
                            "id": 7,
                            "name": "again",
                            "op": "LOOP",
                            "attributes": {"max_iterations": 3, "carry": ["text"]},
                            "regions": {"body": _LOOP},
                        },
                        {
                            "id": 8,
                            "name": "call",
                            "op": "FLOW_CALL",
                            "attributes": {"flow_name": "finder", "args": {"text": "{0}"}, "fallback": None, "timeout_ms": 500},
                        },
                    ],
                    "edges": [
                        {"from": "files", "to": 2, "port": "items"},
                        {"from": "question", "to": 2, "port": "question"},
                        {"from": 2, "to": 3},
                        {"from": 3, "to": 4, "label": "true"},
                        {"from": 3, "to": 5, "dependency": "Control", "label": "false"},
                        {"from": 4, "to": 6, "dependency": "Effect"},
                        {"from": 4, "to": 7, "port": "text"},
                        {"from": 7, "to": 8, "port": "1"},
                        {"from": 4, "to": 8, "port": "0"},
                        {"from": 4, "to": 8, "dependency": "Control"},
                    ],
                },
                {
                    "name": "finder",
                    "parameters": [{"name": "text", "type_name": "str"}],
                    "nodes": [
                        {"id": 9, "name": "find", "op": "INV", "attributes": {"capability": "search", "arg_text": "{text}"}},
                        {"id": 10, "name": "out", "op": "RETURN"},
                    ],
                    "edges": [{"from": 9, "to": 10}],
                },
            ],
        },
        {"name": "critic", "flows": [SMALL | {"name": "main", "metadata": {"is_entry": False}}]},
    ],
}
