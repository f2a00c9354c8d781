"""The work that is measured: dags as plain lists, the functions their nodes run, and the result they must give.

Node ids are 0..n-1 in topological order; node i runs `fn(*const[i], *values of preds[i])`. The property tests and the
peers beside us use the same definitions.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence


def first(*values: Any) -> Any:
    """Nothing to do: the first input, or 1 without any."""
    return values[0] if values else 1


def mix(*values: Any) -> Any:
    """Depends on every input, stays small."""
    return (sum(values) + 1) & 0xFFFF


def add(*values: Any) -> Any:
    """The sum of the inputs."""
    return sum(values)


async def nap(seconds: float, *values: Any) -> Any:
    """Waits, as a call to a model does, then `mix`."""
    if seconds:
        await asyncio.sleep(seconds)
    return (sum(values) + 1) & 0xFFFF


@dataclass
class Workload:
    """One dag of work. `critical_path_s` is the least possible makespan where nodes wait."""

    name: str
    preds: Sequence[tuple[int, ...]]
    const: Sequence[tuple[Any, ...]]
    fn: Callable[..., Any]
    afn: Callable[..., Awaitable[Any]] | None = None
    critical_path_s: float = 0.0

    @property
    def n(self) -> int:
        return len(self.preds)

    @property
    def sink(self) -> int:
        return self.n - 1

    @cached_property
    def succs(self) -> list[list[int]]:
        succs: list[list[int]] = [[] for _ in range(self.n)]
        for i, preds in enumerate(self.preds):
            for p in preds:
                succs[p].append(i)
        return succs

    @cached_property
    def indegree(self) -> list[int]:
        return [len(preds) for preds in self.preds]

    @cached_property
    def expected(self) -> Any:
        """The value of the sink, evaluated one node after the other without any waiting."""
        values: list[Any] = []
        skip = 1 if self.afn is not None else 0  # the waiting time is no input
        for const, preds in zip(self.const, self.preds):
            values.append(self.fn(*const[skip:], *[values[p] for p in preds]))
        return values[self.sink]


def chain(n: int = 10_000) -> Workload:
    """W1."""
    return Workload("W1", [()] + [(i - 1,) for i in range(1, n)], [()] * n, first)


def fan(n: int = 10_000) -> Workload:
    """W2: one node, n - 2 that read it, one that reads those."""
    return Workload("W2", [()] + [(0,)] * (n - 2) + [tuple(range(1, n - 1))], [()] * n, first)


def layered(n: int = 10_000) -> Workload:
    """W3: random layers of up to 100, three in-edges from the two layers before, one node that reads the last layer."""
    width = max(10, min(100, n // 10))
    preds = _layers(n - 1, width, edges=3, back=2, seed=3)
    return Workload("W3", [*preds, tuple(range(max(0, n - 1 - width), n - 1))], [()] * n, mix)


def tree(leaves: int = 8_192) -> Workload:
    """W4: a binary sum."""
    preds: list[tuple[int, ...]] = [()] * leaves
    level = list(range(leaves))
    while len(level) > 1:
        pairs = list(zip(level[::2], level[1::2]))
        level = list(range(len(preds), len(preds) + len(pairs)))
        preds.extend(pairs)
    return Workload("W4", preds, [(i,) for i in range(leaves)] + [()] * (len(preds) - leaves), add)


def agents(n: int = 300, width: int = 30, seconds: float = 0.020) -> Workload:
    """W5: layers of agents, each of which waits as long as every other."""
    preds = [*_layers(n, width, edges=2, back=1, seed=5), tuple(range(n - width, n))]
    return Workload("W5", preds, [(seconds,)] * n + [(0,)], mix, nap, critical_path_s=n // width * seconds)


def diamonds(rungs: int = 10, long: float = 0.040, short: float = 0.010) -> Workload:
    """W5b: two chains that cross nowhere, in each of which every second step is long, the other chain's turn being short.

    An engine with supersteps waits for the long one at every step: 1.6 times the critical path.
    """
    preds: list[tuple[int, ...]] = [()]
    const: list[tuple[Any, ...]] = [(0,)]
    ends = [0, 0]
    for step in range(rungs):
        for side in (0, 1):
            preds.append((ends[side],))
            const.append((long if step % 2 == side else short,))
            ends[side] = len(preds) - 1
    preds.append((ends[0], ends[1]))
    const.append((0,))
    path = (rungs + 1) // 2 * long + rungs // 2 * short
    return Workload("W5b", preds, const, mix, nap, critical_path_s=path)


def flat_bodies(frames: int = 10_000, nodes: int = 5) -> Workload:
    """W11 without frames: the bodies of all child frames written out, between one node and another."""
    preds: list[tuple[int, ...]] = [()]
    for _ in range(frames):
        begin = len(preds)
        preds.append((0,))
        preds.extend((begin + k,) for k in range(nodes - 1))
    last = tuple(range(nodes, len(preds), nodes))
    return Workload("W11", [*preds, last], [()] * (len(preds) + 1), first)


def small() -> Workload:
    """W14: five nodes, one of which joins two."""
    return Workload("W14", [(), (0,), (0,), (1, 2), (3,)], [()] * 5, first)


def _layers(n: int, width: int, *, edges: int, back: int, seed: int) -> list[tuple[int, ...]]:
    """Nodes in layers; each reads `edges` different nodes of the `back` layers before it, one at least of the last."""
    draw = random.Random(seed)
    preds: list[tuple[int, ...]] = [()] * min(width, n)
    for i in range(width, n):
        layer = i // width
        chosen = {(layer - 1) * width + draw.randrange(width)}
        lowest = max(0, (layer - back) * width)
        while len(chosen) < edges:
            chosen.add(draw.randrange(lowest, layer * width))
        preds.append(tuple(chosen))
    return preds
