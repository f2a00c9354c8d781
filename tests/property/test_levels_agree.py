"""O0 and O1 give the same: outputs, failure, and calls with an effect, over random graphs."""

from __future__ import annotations

import random
from typing import Any

import pytest

from apxm.artifact.format import CapabilityFacts
from apxm.compiler.compile import compile, compile_report
from apxm.errors import ApxmError, GraphError
from apxm.runtime import Runtime

FACTS = {"mix": CapabilityFacts("pure"), "look": CapabilityFacts("read"), "note": CapabilityFacts("guarded")}


def _random_graph(rng: random.Random) -> dict[str, Any]:
    """A graph of pure, reading and effectful nodes in which nothing races: what it gives does not depend on order."""
    nodes: list[dict[str, Any]] = []
    edges: list[dict[str, Any]] = []
    routers: list[tuple[int, list[str]]] = []
    for id in range(1, rng.randint(4, 25)):
        op, attributes, inputs = _random_node(rng, id)
        nodes.append({"id": id, "name": f"n{id}", "op": op, "attributes": attributes})
        gates = [rng.choice(("Control", "Effect")) for _ in range(rng.choice((0, 0, 0, 1, 2)))]
        kinds = ["Data"] * inputs + gates if id > 1 else []
        edges += [{"from": rng.randrange(1, id), "to": id, "dependency": kind} for kind in kinds]
        if routers and rng.random() < 0.5:
            router, labels = rng.choice(routers)
            kind = "Data" if inputs and rng.random() < 0.5 else "Control"
            edges.append({"from": router, "to": id, "dependency": kind, "label": rng.choice(labels)})
        if op == "BRANCH_ON_VALUE":
            routers.append((id, ["true", "false"]))
        elif op == "GUARD" or rng.random() < 0.05:
            routers.append((id, ["error"]))
    # Not RETURN: what it cancels depends on what came first.
    metadata = {"exits": [node["name"] for node in rng.sample(nodes, min(len(nodes), 2))]} if rng.random() < 0.6 else {}
    return {"name": "g", "nodes": nodes, "edges": edges, "metadata": metadata}


def _random_node(rng: random.Random, id: int) -> tuple[str, dict[str, Any], int]:
    """Operation, attributes, number of Data inputs."""
    small = rng.randrange(3)
    match rng.randrange(10) if id > 1 else 0:
        case 0 | 1:
            return "CONST_STR", {"value": rng.choice([1, 1.0, True, False, "a", "b", [1], {"x": 1}])}, 0
        case 2:
            return "WAIT_ALL", {}, small
        case 3 | 4:
            return "MERGE", {"mode": rng.choice(("array", "array", "concat", "sum"))}, small + 1
        case 5:
            return "BRANCH_ON_VALUE", {"value": rng.choice([True, 1, "a"])}, 1
        case 6:
            return "GUARD", {"condition": rng.choice(["not_empty", "true", "len > 1"]), "on_fail": "skip"}, 1
        case 7:
            return "INV", {"capability": "note", "arg_where": f"n{rng.randrange(4)}"}, small
        case 8:
            return "INV", {"capability": "look"}, small
        case _:
            return "INV", {"capability": "mix"}, small


@pytest.fixture(scope="module")
def calls():
    return []


@pytest.fixture(scope="module")
def runtime(calls):
    with Runtime() as one:

        @one.capability(effect="pure")
        def mix(a: Any = None, b: Any = None, c: Any = None) -> Any:
            return [a, b, c]

        @one.capability(effect="read", run="inline")
        def look(a: Any = None, b: Any = None, c: Any = None) -> Any:
            return {"a": a, "b": b, "c": c}

        @one.capability(effect="guarded", run="inline")
        def note(a: Any = None, b: Any = None, c: Any = None, where: str = "") -> Any:
            calls.append(repr((where, a, b, c)))
            return where

        yield one


def _outcome(runtime: Runtime, calls: list[str], artifact: Any) -> Any:
    calls.clear()
    try:
        result = runtime.execute(artifact)
    except ApxmError as error:
        return "failed", error.failure
    return repr(result.outputs), repr(result.value), sorted(calls)


GRAPHS, GRAPHS_LONG = 1_000, 10_000


def test_both_levels_give_the_same(runtime, calls, seed, long_run):
    changed = ran = 0
    for number in range(seed, seed + (GRAPHS_LONG if long_run else GRAPHS)):
        graph = _random_graph(random.Random(f"levels {number}"))
        try:
            plain = compile(graph, level=0, capabilities=FACTS)
        except GraphError:
            continue  # the same edge of two kinds into one port, and the like
        optimised, report = compile_report(graph, level=1, capabilities=FACTS)
        changed += any(log.counts["did"] for log in report.passes)
        first = _outcome(runtime, calls, plain)
        second = _outcome(runtime, calls, optimised)
        ran += first[0] != "failed"
        again = f"replay with `python -m pytest tests/property/test_levels_agree.py --seed {number}`, whose first graph it is"
        assert first == second, f"{again}\n{graph}\n" + "\n".join(report.lines())
    assert ran > 50
    assert changed > 50
