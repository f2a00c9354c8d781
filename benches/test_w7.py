"""W7: the bytes of an artifact of 100,000 nodes until it could run. Against msgpack alone, and against networkx.

Ready means: every field checked, handlers resolved, a getter of the arguments of every node, lanes and tiers decided. The second
variant also makes the counters and successor lists that dataflow needs and the replay of a static dag does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack
import pytest

from apxm import Artifact, RunOptions, compile
from benches import workloads
from benches.dags import graph_of, register

if TYPE_CHECKING:
    from collections.abc import Callable

    from apxm import Runtime
    from benches.conftest import Contest

N = 100_000
ROUNDS = 9


def plain_maps(work: workloads.Workload) -> bytes:
    """The same content as a map for each node."""
    nodes = [
        {"id": i + 1, "name": f"n{i}", "op": "INV", "attributes": {"capability": "work"}, "inputs": [p + 1 for p in preds]}
        for i, preds in enumerate(work.preds)
    ]
    return bytes(msgpack.packb({"name": work.name, "nodes": nodes, "exits": [f"n{work.sink}"]}))


def to_networkx(data: bytes) -> Any:
    """What a networkx user writes."""
    import networkx as nx

    graph = nx.DiGraph()
    for node in msgpack.unpackb(data)["nodes"]:
        graph.add_node(node["id"], name=node["name"], op=node["op"], attributes=node["attributes"])
        graph.add_edges_from((source, node["id"]) for source in node["inputs"])
    return graph


@pytest.mark.parametrize(
    ("variant", "linked", "against", "limit"),
    [
        ("bytes to ready", False, "msgpack maps", 1.5),
        ("bytes to ready, dataflow", True, "msgpack maps", 1.5),
        ("bytes to ready", False, "networkx", 0.1),
    ],
    ids=["msgpack", "dataflow", "networkx"],
)
def test_loading_is_fast(contest: Contest, runtime: Runtime, variant: str, linked: bool, against: str, limit: float) -> None:
    work = workloads.layered(N)
    register(runtime, work)
    data = compile(graph_of(work), level=0).to_bytes()
    maps = plain_maps(work)

    def ready() -> int:
        binding, _ = runtime._binding_of(Artifact.from_bytes(data).into_dag(), RunOptions())
        runtime._bindings.clear()
        if linked:
            binding.plan.link()
        return len(binding.run)

    readers: dict[str, Callable[[], int]] = {
        "msgpack maps": lambda: len(msgpack.unpackb(maps)["nodes"]),
        "networkx": lambda: len(to_networkx(maps)),
    }
    reference = readers[against]
    race = {"expected": N, "nodes": N, "limit": limit, "rounds": ROUNDS, "against": against, "per": "ms"}
    contest("W7", variant, ready, reference, **race, freeze=False)  # loading is what makes the collector walk
