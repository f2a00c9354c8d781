"""W11: child frames. 10,000 frames of 5 nodes: flow calls, items of a MAP, iterations of a LOOP.

Per node of a body; the 10,000 calls and the parent's own nodes are overhead. The floor runs the bodies written out as one
dag of 50,002 nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from apxm import AgentGraph, Graph, Program, Runtime, compile
from benches import workloads
from benches.dags import register
from benches.floor import floor

if TYPE_CHECKING:
    from collections.abc import Callable

    from apxm.dag import ExecutionDag
    from benches.conftest import Contest

FRAMES, BODY = 10_000, 5
BODIES = {"fast bodies": ("work", 2.0), "one slow node in each": ("look", 3.5)}


def _steps(graph: Graph, first: Any, slow: str) -> Any:
    """Five nodes in a row, the third of which may be slow."""
    value = graph.inv("work", *first)
    for step in range(1, BODY):
        value = graph.inv(slow if step == 2 else "work", value)
    return value


def _calls(slow: str) -> ExecutionDag:
    callee = Graph("callee")
    callee.return_(_steps(callee, (), slow))
    caller = Graph("caller")
    start = caller.inv("work")
    called = [caller.flow_call("callee", agent_name="bench", after=start) for _ in range(FRAMES)]
    caller.return_(caller.inv("work", *called))
    callee.metadata["is_entry"] = False
    return compile(Program([AgentGraph("bench", [caller, callee])], name="calls"), level=0).into_dag()


def _items(slow: str) -> ExecutionDag:
    graph = Graph("items")
    mapped = graph.map(graph.const_str([1] * FRAMES))
    with mapped as item:
        graph.yield_(_steps(graph, (item,), slow))
    graph.return_(graph.inv("first_of", mapped))
    return compile(graph, level=0).into_dag()


def _iterations(slow: str) -> ExecutionDag:
    graph = Graph("iterations")
    loop = graph.loop(value=graph.const_str(1), carry=["value"], max_iterations=FRAMES)
    with loop as body:
        body.yield_(_steps(graph, (body.param("value", "json"),), slow))
    graph.return_(loop)
    return compile(graph, level=0).into_dag()


@pytest.mark.parametrize("bodies", BODIES)
@pytest.mark.parametrize(("form", "make"), [("flow calls", _calls), ("MAP items", _items), ("LOOP iterations", _iterations)])
def test_child_frames(contest: Contest, runtime: Runtime, form: str, make: Callable[[str], ExecutionDag], bodies: str) -> None:
    slow, limit = BODIES[bodies]
    work = workloads.flat_bodies(FRAMES, BODY)
    register(runtime, work)
    runtime.capability("first_of", effect="pure")(_first_of)
    dag = make(slow)
    run: Callable[[], Any] = lambda: runtime.execute(dag).value  # noqa: E731
    contest("W11", f"{form}, {bodies}", run, floor(work), expected=1, nodes=FRAMES * BODY, limit=limit, rounds=9)


def _first_of(values: Any) -> Any:
    """The first of many."""
    assert len(values) == FRAMES
    return values[0]
