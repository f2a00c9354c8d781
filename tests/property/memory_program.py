"""Much work and a slow consumer, in a process of its own that says how much its memory grew. Not a test module.

python -m tests.property.memory_program SCENARIO COUNT
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from apxm import CapabilityRecord, Graph, Node, Runtime
from apxm.compiler.compile import compile
from apxm.config import RunOptions
from apxm.graph.model import Edge, Parameter
from apxm.observability.events import Gap, RunEnded

KIB = 1024
FAN_OUT = 10_000
WINDOW = 8

most: Counter[str] = Counter()  # the most of each thing that was there at once
now: Counter[str] = Counter()


def produce(x: int) -> str:
    """A token of 1 KiB that nobody else has."""
    return f"{x:01024}"


async def eat(token: str) -> int:
    """A slow consumer: the producer is always faster."""
    now["eating"] += 1
    most["eating"] = max(most["eating"], now["eating"])
    await asyncio.sleep(0)
    now["eating"] -= 1
    return len(token)


def refuse(token: str) -> int:
    raise ValueError(token)


def made() -> Runtime:
    runtime = Runtime()
    for fn, effect in ((produce, "pure"), (eat, "read"), (refuse, "read")):
        runtime.capability_system().register(fn.__name__, CapabilityRecord("Test.", fn, effect=effect))
    return runtime


def _body(consumer: str, parameter: str) -> Graph:
    nodes = [
        Node(1, "produce", "INV", {"capability": "produce"}),
        Node(2, "consume", "INV", {"capability": consumer}),
    ]
    return Graph("body", nodes, [Edge(parameter, 1), Edge(1, 2)], [Parameter(parameter, "int")])


def looping(count: int) -> Any:
    node = Node(1, "loop", "LOOP", {"max_iterations": count}, {"body": _body("eat", "iteration")})
    return compile(Graph("loops", [node], []))


def mapping(consumer: str = "eat", **attributes: Any) -> Any:
    node = Node(1, "map", "MAP", {"window": WINDOW, **attributes}, {"body": _body(consumer, "item")})
    return compile(Graph("maps", [node], [Edge("items", 1)], [Parameter("items", "json")]))


def fanning() -> Any:
    nodes = [Node(0, "produce", "INV", {"capability": "produce", "arg_x": 1})]
    nodes += [Node(n, f"eat{n}", "INV", {"capability": "eat"}) for n in range(1, FAN_OUT + 1)]
    return compile(Graph("fans", nodes, [Edge(0, n) for n in range(1, FAN_OUT + 1)]))


def memory_kib(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise KeyError(name)


def grown(work: Any) -> tuple[Any, int]:
    """What `work` gives, and by how many KiB the most memory held meanwhile is above what was held before."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    before = memory_kib("VmRSS")
    value = work()
    return value, memory_kib("VmHWM") - before


def loop(count: int) -> dict[str, Any]:
    with made() as runtime:
        program = looping(count)
        runtime.execute(looping(10))
        result, kib = grown(lambda: runtime.execute(program))
        return {"kib": kib, "value": result.value, "executed": result.stats.executed}


def map_window(count: int) -> dict[str, Any]:
    with made() as runtime:
        program, items = mapping(), list(range(count))
        runtime.execute(program, items=[1, 2])
        result, kib = grown(lambda: runtime.execute(program, items=items))
        return {"kib": kib, "value": sum(result.value) // KIB, "executed": result.stats.executed}


def map_failing(count: int) -> dict[str, Any]:
    with made() as runtime:
        program, items = mapping("refuse", on_item_error="skip"), list(range(count))
        runtime.execute(program, items=[1, 2])
        result, kib = grown(lambda: runtime.execute(program, items=items))
        return {"kib": kib, "value": len(result.value), "errors": len(result.errors)}


def fan_out(count: int) -> dict[str, Any]:
    with made() as runtime:
        program = fanning()
        runtime.execute(program)

        def work() -> int:
            return sum(len(runtime.execute(program).outputs) for _ in range(max(1, count // FAN_OUT)))

        value, kib = grown(work)
        return {"kib": kib, "value": value}


def reader(count: int) -> dict[str, Any]:
    """Somebody asked for the events of a run, took one, and does not come back until the run is over."""
    with made() as runtime:
        program, items = mapping(), list(range(count))
        runtime.start(program, items=[1, 2]).result()

        def work() -> Any:
            handle = runtime.start(program, items=items)
            events = handle.events()
            first = next(events)
            value = sum(handle.result().value) // KIB
            most["kept"] = len(handle._stream._events)
            return value, [first, *events]

        (value, events), kib = grown(work)
        return {"kib": kib, "value": value, **_told(events)}


def subscriber(count: int) -> dict[str, Any]:
    """A subscriber that is stuck at its first event until the run is over."""
    free, told = threading.Event(), []

    def stuck(run_id: str, event: Any) -> None:
        free.wait()
        told.append(event)

    with made() as runtime:
        program, items = mapping(), list(range(count))
        runtime.execute(program, items=[1, 2])
        with runtime.subscribe(stuck) as subscription:

            def work() -> int:
                value = sum(runtime.execute(program, items=items).value) // KIB
                most["queued"] = len(subscription._queue)
                return value

            value, kib = grown(work)
            free.set()
            assert subscription.flush(60)
        return {"kib": kib, "value": value, **_told(told)}


def traced(count: int) -> dict[str, Any]:
    """A run that keeps its events, as many as it may."""
    with made() as runtime:
        program, items = mapping(), list(range(count))
        runtime.execute(program, items=[1, 2])
        result, kib = grown(lambda: runtime.execute(program, items=items, run=RunOptions(trace=True)))
        return {"kib": kib, "value": sum(result.value) // KIB, **_told(result.events())}


def _told(events: list[Any]) -> dict[str, Any]:
    """How many events there are, and how many the gaps stand for; together every one that there was."""
    lost = sum(event.last - event.first + 1 for event in events if isinstance(event, Gap))
    told = sum(not isinstance(event, Gap) for event in events)
    assert isinstance(events[-1], RunEnded)
    return {"told": told, "lost": lost, "all": told + lost == events[-1].seq}


SCENARIOS = (loop, map_window, map_failing, fan_out, reader, subscriber, traced)

if __name__ == "__main__":
    scenario = next(one for one in SCENARIOS if one.__name__ == sys.argv[1])
    said = scenario(int(sys.argv[2]))
    print(json.dumps({"scenario": sys.argv[1], "count": int(sys.argv[2]), **said, "most": most}))
