"""The same graph written otherwise: edges and labels as attributes that name nodes. Draws only from its own random numbers.

Where an edge goes and a reference takes its place, the edge comes back last: arguments may change places, which is
another program then, and as good a one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

_WAYS: dict[str, dict[str, tuple[str, ...]]] = {
    "BRANCH_ON_VALUE": {"true": ("label_true", "true_label"), "false": ("label_false", "false_label")},
    "SWITCH": {"default": ("default",)},
    "TRY_CATCH": {
        "try": ("try_label", "try_subgraph"),
        "catch": ("catch_label", "catch_subgraph"),
        "finally": ("finally_label", "finally_subgraph"),
    },
}
_PORTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "BRANCH_ON_VALUE": ("token", ("token",)),
    "SWITCH": ("discriminant", ("discriminant", "token")),
    "LOOP_START": ("count", ("count_token",)),
}
_JOINS = ("MERGE", "WAIT_ALL")
_OFTEN, _SELDOM = 0.3, 0.3
REFERRING = frozenset(  # attributes that name nodes
    ("tokens", *(name for ways in _WAYS.values() for names in ways.values() for name in names))
).union(*(names for _, names in _PORTS.values()))


def respell(graph: dict[str, Any], rng: Random) -> None:
    """Rewrite some edges of one graph, not of its regions, as references."""
    names = {node["id"]: node["name"] for node in graph["nodes"]}
    full = {node["id"] for node in graph["nodes"] if node["op"] in ("RETURN", "YIELD", "LOOP_START", "LOOP_END", "CONST_STR")}
    for node in graph["nodes"]:
        _ways(graph, node, names, full, rng)
        _ports(graph, node, names, rng)
        if node["op"] in _JOINS:
            _tokens(graph, node, names, rng)


def _reference(source: int | str, names: dict[int, str], rng: Random) -> Any:
    if isinstance(source, str):
        return rng.choice([source, f"{{{source}}}"])
    return rng.choice([source, names[source], names[source], f"node_{source}", f"{{{{node_{source}}}}}", str(source)])


def _between(graph: dict[str, Any], source: int | str, target: int) -> list[dict[str, Any]]:
    return [edge for edge in graph["edges"] if (edge["from"], edge["to"]) == (source, target) and edge["dependency"] != "Effect"]


def _ways(graph: dict[str, Any], node: dict[str, Any], names: dict[int, str], full: set[int], rng: Random) -> None:
    """The label of the way to one node goes into an attribute; sometimes the edge itself goes as well."""
    for label, spellings in _WAYS.get(node["op"], {}).items():
        targets = sorted({edge["to"] for edge in graph["edges"] if edge["from"] == node["id"] and edge.get("label") == label})
        if not targets or rng.random() > _OFTEN:
            continue
        target = rng.choice(targets)
        ways = _between(graph, node["id"], target)
        if any(edge.get("label") != label for edge in ways):
            continue
        node["attributes"][rng.choice(spellings)] = _reference(target, names, rng)
        sole = len(ways) == 1 and ways[0]["dependency"] == "Data" and "port" not in ways[0] and target not in full
        if sole and rng.random() < _SELDOM:
            graph["edges"].remove(ways[0])
        elif rng.random() > _SELDOM:  # else it is said twice
            for edge in ways:
                del edge["label"]


def _ports(graph: dict[str, Any], node: dict[str, Any], names: dict[int, str], rng: Random) -> None:
    """The port of what is tested or counted goes into an attribute."""
    port, spellings = _PORTS.get(node["op"], ("", ()))
    fed = [edge for edge in graph["edges"] if edge["to"] == node["id"] and edge["dependency"] == "Data"]
    for edge in fed:
        alone = sum(other["from"] == edge["from"] for other in fed) == 1 and "label" not in edge
        if edge.get("port") != port or not alone or rng.random() > _OFTEN or (node["op"] == "LOOP_START" and edge is fed[0]):
            continue
        node["attributes"][rng.choice(spellings)] = _reference(edge["from"], names, rng)
        if rng.random() < _SELDOM:
            graph["edges"].remove(edge)
        else:
            del edge["port"]


def _tokens(graph: dict[str, Any], node: dict[str, Any], names: dict[int, str], rng: Random) -> None:
    """What is joined is listed in `tokens`; the edge of one of them may go."""
    fed = [edge for edge in graph["edges"] if edge["to"] == node["id"] and edge["dependency"] == "Data"]
    if not fed or rng.random() > _OFTEN or any("port" in edge for edge in fed):
        return
    sources = list(dict.fromkeys(edge["from"] for edge in fed))
    node["attributes"]["tokens"] = [_reference(source, names, rng) for source in sources]
    last = fed[-1]
    if "label" not in last and sources.count(last["from"]) == 1 and rng.random() < _SELDOM:
        graph["edges"].remove(last)
