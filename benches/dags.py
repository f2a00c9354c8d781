"""Workloads as dags of ours: one INV node per node, its capability registered on the runtime that will run it."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from apxm import CapabilityRecord, Dependency, Edge, Graph, Node, compile
from apxm.dag import DATA, ExecutionDag
from apxm.graph.ops import OPERATIONS

if TYPE_CHECKING:
    from apxm import Runtime
    from benches.workloads import Workload

Names = Callable[[int], str]  # the capability of node i

_COMPILED_MAX = 100_000  # above, columns are written directly: a Graph of 1e6 Node objects takes minutes and gigabytes


def plain(_: int) -> str:
    """Every node calls the same pure capability."""
    return "work"


def every_hundredth(i: int) -> str:
    """One node in a hundred suspends."""
    return "later" if i % 100 == 50 else "work"


def reading(_: int) -> str:
    """Every node is slow: it reads, so that it is fired with everything that a call to the world needs."""
    return "look"


def waiting(_: int) -> str:
    """Every node suspends."""
    return "later"


def register(runtime: Runtime, work: Workload) -> None:
    """The forms of the workload's function: `work` pure, `look` a read, `later` one that waits."""
    fn, waits = work.fn, work.afn

    async def later(*values: Any) -> Any:
        await asyncio.sleep(0)
        return fn(*values)

    system = runtime.capability_system()
    system.register("work", CapabilityRecord("Does nothing to speak of.", fn, effect="pure"))
    system.register("look", CapabilityRecord("The same as a read.", fn, effect="read", run="inline"))
    system.register("later", CapabilityRecord("The same, later.", waits or later, effect="pure"))


def dag_of(work: Workload, names: Names = plain) -> ExecutionDag:
    """Through graph and compiler, up to 100,000 nodes; larger ones as columns."""
    if work.n > _COMPILED_MAX:
        return columns_of(work, names)
    return compile(graph_of(work, names), level=0).into_dag()


def graph_of(work: Workload, names: Names = plain) -> Graph:
    """The workload as a person could have written it. Ids begin at 1."""
    nodes = [Node(i + 1, f"n{i}", "INV", _attributes(names(i), const)) for i, const in enumerate(work.const)]
    edges = [Edge(p + 1, i + 1, Dependency.DATA) for i, preds in enumerate(work.preds) for p in preds]
    return Graph(work.name, nodes, edges, metadata={"exits": [f"n{work.sink}"]})


def columns_of(work: Workload, names: Names = plain) -> ExecutionDag:
    """What the compiler would give, written directly: the sink is the only exit, equal attributes are one object."""
    n = work.n
    offsets, sources = array("q", [0]), array("q")
    for preds in work.preds:
        sources.extend(preds)
        offsets.append(len(sources))
    shared: dict[Any, Mapping[str, Any]] = {}
    attributes = {i: shared.setdefault((names(i), const), _attributes(names(i), const)) for i, const in enumerate(work.const)}
    return ExecutionDag(
        name=work.name,
        ops=bytes([OPERATIONS["INV"].code]) * n,
        ids=array("q", range(1, n + 1)),
        names=_Names(n),
        in_offsets=offsets,
        in_sources=sources,
        in_kinds=bytes([DATA]) * len(sources),
        exits=[work.sink],
        ranks=array("q", bytes(8 * n)),
        attributes=attributes,
    )


def _attributes(capability: str, const: tuple[Any, ...]) -> dict[str, Any]:
    return {"capability": capability, "args": list(const)} if const else {"capability": capability}


class _Names(Sequence[str]):
    """`n0`, `n1`, … without holding a million strings."""

    def __init__(self, n: int) -> None:
        self._n = n

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, i: Any) -> Any:
        return f"n{i}"
