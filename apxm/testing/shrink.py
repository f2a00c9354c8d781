"""Makes a failing program small: removes nodes, edges, regions and attributes while it still fails."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from apxm.testing.programs import graphs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apxm.testing.programs import Program

TRIES_MAX = 3_000  # candidates; each is one run


def shrink(program: Program, still_fails: Callable[[Program], bool], tries: int = TRIES_MAX) -> Program:
    """The smallest program found that still fails: no single removal keeps it failing, or `tries` ran out.

    `still_fails` must say False for what is no valid program any more; `valid` says which are.
    """
    left = tries
    while True:
        for candidate in _smaller(program):
            left -= 1
            if left < 0:
                return program
            if valid(candidate) and still_fails(candidate):
                program = candidate
                break
        else:
            return program


def valid(program: Program) -> bool:
    """Whether the program keeps every rule of the contract."""
    from apxm.graph.validate import validate_json

    return not validate_json(program.graph)


def _smaller(program: Program) -> Iterator[Program]:
    """Programs with one thing less, what removes most first."""
    if "agents" in program.graph:
        yield from _without_flows(program)
    count = sum(1 for _ in graphs_of(program.graph))
    for number in range(count):
        yield from _without_halves(program, number)
    for number in range(count):
        size = len(_graph(program.graph, number)["nodes"])
        for place in range(size):
            for change in (_drop_node, _bypass_node, _make_constant):
                yield from _changed(program, number, place, change)
    for number in range(count):
        for place in range(len(_graph(program.graph, number)["edges"])):
            yield from _changed(program, number, place, _drop_edge)
        for place in range(len(_graph(program.graph, number)["nodes"])):
            yield from _less_inside(program, number, place)
        yield from _changed(program, number, 0, _drop_parameters)
        yield from _changed(program, number, 0, _drop_exits)
    for name in program.parameters:
        if not any(edge["from"] == name for edge in _graph(program.graph, 0)["edges"]):
            yield from _without_parameter(program, name)


def _graph(graph: Any, number: int) -> Any:
    return next(one for place, one in enumerate(graphs_of(graph)) if place == number)


def _changed(program: Program, number: int, place: int, change: Callable[[Any, int], bool]) -> Iterator[Program]:
    graph = copy.deepcopy(program.graph)
    if change(_graph(graph, number), place):
        yield replace(program, graph=graph)


def _without_flows(program: Program) -> Iterator[Program]:
    agents = program.graph["agents"]
    first = agents[0]["flows"][0]
    yield replace(program, graph=copy.deepcopy(first))
    for a, agent in enumerate(agents):
        for f in range(len(agent["flows"])):
            graph = copy.deepcopy(program.graph)
            flows = graph["agents"][a]["flows"]
            if (a, f) != (0, 0):
                del flows[f]
                if not flows:
                    del graph["agents"][a]
                yield replace(program, graph=graph)


def _without_halves(program: Program, number: int) -> Iterator[Program]:
    """Leave out runs of nodes, long ones first."""
    size = len(_graph(program.graph, number)["nodes"])
    step = size // 2
    while step >= 2:
        for start in range(0, size, step):
            graph = copy.deepcopy(program.graph)
            one = _graph(graph, number)
            for place in reversed(range(start, min(start + step, size))):
                _drop_node(one, place)
            if one["nodes"]:
                yield replace(program, graph=graph)
        step //= 2


def _drop_node(graph: Any, place: int) -> bool:
    if len(graph["nodes"]) == 1:
        return False
    gone = graph["nodes"].pop(place)
    graph["edges"] = [edge for edge in graph["edges"] if gone["id"] not in (edge["from"], edge["to"])]
    exits = graph.get("metadata", {}).get("exits")
    if exits is not None:
        graph["metadata"]["exits"] = [one for one in exits if one not in (gone["id"], gone["name"])]
        if not graph["metadata"]["exits"]:
            del graph["metadata"]["exits"]
    return True


def _bypass_node(graph: Any, place: int) -> bool:
    """Let what a node consumed feed what it fed."""
    node_id = graph["nodes"][place]["id"]
    before = [edge for edge in graph["edges"] if edge["to"] == node_id and edge.get("dependency", "Data") == "Data"]
    if not before:
        return False
    after = [edge for edge in graph["edges"] if edge["from"] == node_id]
    source = {key: before[0][key] for key in ("from", "label") if key in before[0]}
    moved = [{**{key: edge[key] for key in edge if key != "label"}, **source} for edge in after]
    return _drop_node(graph, place) and not graph["edges"].extend(moved)


def _make_constant(graph: Any, place: int) -> bool:
    """Put a constant in place of a node, with nothing before it."""
    node = graph["nodes"][place]
    if node["op"] in ("CONST_STR", "RETURN", "YIELD", "ERR"):
        return False
    labelled = [edge for edge in graph["edges"] if edge["from"] == node["id"] and "label" in edge]
    graph["edges"] = [edge for edge in graph["edges"] if edge["to"] != node["id"]]
    for edge in labelled:
        del edge["label"]
    graph["nodes"][place] = {"id": node["id"], "name": node["name"], "op": "CONST_STR", "attributes": {"value": 1}}
    return True


def _drop_edge(graph: Any, place: int) -> bool:
    graph["edges"].pop(place)
    return True


def _less_inside(program: Program, number: int, place: int) -> Iterator[Program]:
    node = _graph(program.graph, number)["nodes"][place]
    for name in node["attributes"]:

        def drop(graph: Any, place: int, name: str = name) -> bool:
            del graph["nodes"][place]["attributes"][name]
            return True

        yield from _changed(program, number, place, drop)
    for name in node.get("regions", {}):

        def cut(graph: Any, place: int, name: str = name) -> bool:
            del graph["nodes"][place]["regions"][name]
            return True

        yield from _changed(program, number, place, cut)
    if node["attributes"].get("max_iterations", 0) > 1:

        def once(graph: Any, place: int) -> bool:
            graph["nodes"][place]["attributes"]["max_iterations"] -= 1
            return True

        yield from _changed(program, number, place, once)


def _drop_parameters(graph: Any, place: int) -> bool:
    """Region parameters that no edge uses."""
    used = {edge["from"] for edge in graph["edges"]}
    kept = [one for one in graph.get("parameters", ()) if one["name"] in used]
    if len(kept) == len(graph.get("parameters", ())):
        return False
    graph["parameters"] = kept
    return True


def _drop_exits(graph: Any, place: int) -> bool:
    return graph.get("metadata", {}).pop("exits", None) is not None


def _without_parameter(program: Program, name: str) -> Iterator[Program]:
    graph = copy.deepcopy(program.graph)
    main = _graph(graph, 0)
    main["parameters"] = [one for one in main.get("parameters", ()) if one["name"] != name]
    yield replace(program, graph=graph, parameters={key: value for key, value in program.parameters.items() if key != name})
