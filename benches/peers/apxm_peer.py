"""apxm in the harness that runs the same work on other systems: `build(workload)` gives a runnable, see the interface there.

Lay it beside that harness, in place of its file of the same name. Needs nothing but apxm and the workload it is handed.
`apxm` is the default: everything pure, static replay. `apxm-dataflow` has the static tier off, `apxm-slow` runs every node
as a read, fired one by one, `apxm-async` awaits every node.
"""

from __future__ import annotations

from typing import Any

IMPORTS = ("apxm.runtime", "apxm.compiler.compile")
_NOOP = dict.fromkeys(("W1", "W2", "W3", "W4"))
LIMITS = {
    "apxm": {**_NOOP, "W5": None, "W5H": None, "W6": None},
    "apxm-dataflow": _NOOP,
    "apxm-slow": _NOOP,
    "apxm-async": _NOOP,
}


class Apxm:
    """One INV node per node of the workload; its leading constants are the attribute `args`."""

    effect = "pure"
    static = True
    is_async = False

    def build(self, workload: Any) -> Any:
        """Compile the workload and give what runs it once."""
        from apxm import CapabilityRecord, Edge, Graph, Node, Runtime, compile

        fn = workload.fn
        run: Any = None
        if workload.afn is not None:
            fn = workload.afn
        elif workload.kind == "cpu":
            run = "process"
        elif self.is_async:
            fn = _awaitable(fn)
        elif self.effect != "pure":
            run = "inline"
        self.runtime = Runtime()
        self.runtime.static_tier = self.static
        record = CapabilityRecord("One node.", fn, effect=self.effect, run=run)
        self.runtime.capability_system().register("work", record)
        nodes = [
            Node(i + 1, f"n{i}", "INV", {"capability": "work", "args": list(const)} if const else {"capability": "work"})
            for i, const in enumerate(workload.const)
        ]
        edges = [Edge(p + 1, i + 1) for i, preds in enumerate(workload.preds) for p in preds]
        graph = Graph(workload.name, nodes, edges, metadata={"exits": [f"n{workload.sink}"]})
        dag = compile(graph, level=0).into_dag()
        execute = self.runtime.execute
        if workload.kind == "cpu":
            return lambda: execute(dag).value and None
        return lambda: execute(dag).value

    def close(self) -> None:
        """End the runtime's thread and processes."""
        self.runtime.close()


def _awaitable(fn: Any) -> Any:
    async def awaited(*values: Any) -> Any:
        return fn(*values)

    return awaited


class Dataflow(Apxm):
    """Counts tokens at every node, as any dag with one slow node does."""

    static = False


class Slow(Apxm):
    """Fires every node with everything that a call to the world needs."""

    effect = "read"


class Async(Apxm):
    """Awaits every node."""

    is_async = True


PEERS = {"apxm": Apxm, "apxm-dataflow": Dataflow, "apxm-slow": Slow, "apxm-async": Async}
