"""Graphs and runs that the tests of pictures draw."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from apxm.compiler.compile import compile_report
from apxm.graph.contract import from_json
from apxm.graph.model import Dependency, Edge, Graph, Node, Parameter
from apxm.observability.events import Called, Event, FrameOpened, NodeEnded, NodeStarted, RunEnded, RunStarted
from apxm.observability.history import History
from apxm.testing.programs import generate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apxm.graph.critical import FlowKey
    from apxm.observability.events import Path

HOSTILE = "</script><img src=x onerror=window.pwned=1>"
MAIN: FlowKey = ("default", "main")


def print_node(id: int, name: str, **regions: Graph) -> Node:
    return Node(id, name, "PRINT" if not regions else "TRY_CATCH", {}, regions)


def diamond() -> Graph:
    """source -> left and right -> join, with a labelled, a control and an effect edge."""
    nodes = [
        Node(1, "source", "BRANCH_ON_VALUE", {"condition": "not_empty"}),
        Node(2, "left", "INV", {"capability": "read"}),
        Node(3, "right", "CONST_STR", {"value": 1}),
        Node(4, "join", "MERGE", {"mode": "any"}),
    ]
    edges = [
        Edge("who", 1),
        Edge(1, 2, port="path", label="true"),
        Edge(1, 3, Dependency.CONTROL, label="false"),
        Edge(2, 4),
        Edge(3, 4),
        Edge(2, 3, Dependency.EFFECT),
    ]
    return Graph("main", nodes, edges, [Parameter("who")], {"exits": ["join"]})


def tried() -> Graph:
    """A TRY_CATCH whose two regions have nodes of the same id, then one more node."""
    regions = {
        "catch": Graph("catch", [print_node(1, "rescue")], [Edge("error", 1)], [Parameter("error", "json")]),
        "try": Graph("try", [print_node(1, "first"), print_node(2, "second")], [Edge(1, 2)]),
    }
    return Graph("main", [Node(1, "risky", "TRY_CATCH", {}, regions), print_node(2, "after")], [Edge(1, 2)])


def referring(text: str, name: str = "a") -> Graph:
    """Node 2 has a text, and takes the result of node 1, called `name`, by id."""
    nodes = [Node(1, name, "CONST_STR", {"value": 1}), Node(2, "say", "PRINT", {"message": text})]
    return Graph("main", nodes, [Edge(1, 2, port="node_1")])


def hostile() -> Graph:
    """Markup, quotes and signs that turn the direction of text, wherever a program has text."""
    inner = Graph(HOSTILE, [Node(1, "]]><!--", "PRINT", {"message": "\u202eabc"})], [], [])
    nodes = [
        Node(1, HOSTILE, "PRINT", {"message": HOSTILE, HOSTILE: HOSTILE}),
        Node(2, '"><svg onload=window.pwned=1>', "SWITCH", {"case_labels": [HOSTILE]}, {HOSTILE: inner}),
    ]
    edges = [Edge(HOSTILE, 1, port="<b>x</b>"), Edge(1, 2, label=HOSTILE)]
    return Graph("main", nodes, edges, [Parameter(HOSTILE)], {"exits": []})


def flat(count: int, seed: int, reach: float = 12.0) -> Graph:
    """`count` nodes, each fed by up to three of those some way before it."""
    rng = random.Random(seed)
    edges = [
        Edge(source, node)
        for node in range(2, count + 1)
        for source in sorted({max(1, node - 1 - int(abs(rng.gauss(0, reach)))) for _ in range(rng.randint(1, 3))})
    ]
    return Graph("main", [Node(id, f"node {id}", "WAIT_ALL") for id in range(1, count + 1)], edges)


def generated(seed: int) -> dict[FlowKey, Graph]:
    """The flows of a random program with every kind of region and edge."""
    artifact = compile_report(from_json(generate(seed).graph), level=0)[0]
    return {key: dag.to_graph() for key, dag in artifact.flows().items()}


def fired(
    path: Path, node: int, start: float, end: float, outcome: str = "done", worker: int = 0, error: str | None = None
) -> list[Event]:
    ms = (end - start) * 1e3
    return [
        NodeStarted(path, node, f"n{node}", "PRINT", worker, at=start),
        NodeEnded(path, node, f"n{node}", "PRINT", outcome, ms, error, at=end),
    ]


def skipped(path: Path, node: int, at: float) -> list[Event]:
    return [NodeEnded(path, node, f"n{node}", "PRINT", "skipped", at=at)]


def called(path: Path, node: int, at: float, **usage: float) -> list[Event]:
    return [Called(path, node, "model", "m", 1.0, True, usage, at=at)]


def opened(path: Path, at: float) -> list[Event]:
    return [FrameOpened(path, "body", 1, 1, at=at)]


def run_of(events: Iterable[Event], outcome: str = "done", flow: str = "default.main", seconds: float = 1.0) -> History:
    """A run with these events, in the order of their times."""
    middle = sorted(events, key=lambda event: event.at)
    first = RunStarted("run-1", flow, 1, 0.0, {})
    return History.of([first, *middle, RunEnded("run-1", outcome, seconds * 1e3, None, {}, at=seconds)])
