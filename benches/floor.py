"""What no engine can beat: the tightest pure-Python dataflow loop, and a bare coroutine driver. No feature of any kind."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benches.workloads import Workload

Runnable = Callable[[], Any]


def floor(work: Workload) -> Runnable:
    """Counters and tokens in flat lists, one deque, direct calls. The figure behind every ratio."""
    fn, const, preds, succs = work.fn, work.const, work.preds, work.succs
    indegree, sink, n = work.indegree, work.sink, work.n
    roots = [i for i in range(n) if not indegree[i]]

    def run() -> Any:
        left, values, ready = indegree.copy(), [None] * n, deque(roots)
        pop, push = ready.popleft, ready.append
        while ready:
            i = pop()
            values[i] = fn(*const[i], *[values[p] for p in preds[i]])
            for s in succs[i]:
                k = left[s] = left[s] - 1
                if not k:
                    push(s)
        return values[sink]

    return run


def driver(work: Workload) -> Runnable:
    """The same loop in one coroutine; every node is an awaited task. What W5 is compared with."""
    afn, const, preds, succs, sink, n = work.afn, work.const, work.preds, work.succs, work.sink, work.n
    assert afn is not None
    indegree = work.indegree
    roots = [i for i in range(n) if not indegree[i]]

    async def drive() -> Any:
        loop = asyncio.get_running_loop()
        left, values, ready = indegree.copy(), [None] * n, deque(roots)
        live: set[asyncio.Task[None]] = set()
        done = 0
        wake: asyncio.Future[None] | None = None

        async def task(i: int) -> None:
            nonlocal done
            values[i] = await afn(*const[i], *[values[p] for p in preds[i]])
            done += 1
            for s in succs[i]:
                left[s] -= 1
                if not left[s]:
                    ready.append(s)
            if wake is not None and not wake.done():
                wake.set_result(None)

        while done < n:
            while ready:
                started = loop.create_task(task(ready.popleft()))
                live.add(started)
                started.add_done_callback(live.discard)
            if done < n:
                wake = loop.create_future()
                await wake
                wake = None
        return values[sink]

    return lambda: asyncio.run(drive())
