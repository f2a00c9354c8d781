"""Which layer every box of a drawing is in, and in which order it stands there. Knows sizes and edges, no programs.

The layered way of drawing (Sugiyama): ranks by longest path, long edges cut into one point per layer that they cross, then
sweeps that order each layer by where its neighbours stand. Everything is deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SWEEPS_MAX = 12
SWEEPS_IDLE = 4  # sweeps without a better order before it is good enough
SWEEP_WORK = 600_000  # points times sweeps: a drawing of thousands of nodes gets fewer sweeps, and opens in seconds
BENDS_MAX = 12_000  # points of long edges; past it the longest edges are named at their ends and not drawn


@dataclass(slots=True)
class Layered:
    """Boxes 0..n-1 and, from n on, one bend for each layer that a long edge crosses.

    `layer` is by point, `layers` has the points of each layer from left to right. `chains` gives for each edge its points
    from top to bottom (first and last are boxes), an empty one when the edge is `cut` or leads from a box to itself.
    `reversed` are the edges that lead upwards, which only a graph with a cycle has.
    """

    layer: list[int]
    layers: list[list[int]]
    chains: list[list[int]]
    cut: set[int] = field(default_factory=set)
    reversed: set[int] = field(default_factory=set)

    @property
    def segments(self) -> list[tuple[int, int]]:
        """Pairs of points in neighbouring layers, upper one first."""
        return [pair for chain in self.chains for pair in pairwise(chain)]


def layered(widths: Sequence[float], edges: Sequence[tuple[int, int]], *, first: int = 0, width_max: float = 2400) -> Layered:
    """Put the boxes in layers. The `first` boxes are parameters: they stand in a layer of their own, on top."""
    backward = _backward(len(widths), edges)
    downward = [(t, s) if i in backward else (s, t) for i, (s, t) in enumerate(edges)]
    ranks = _ranks(len(widths), downward, first)
    layer = _rows(ranks, widths, first, width_max)
    drawn = Layered(layer, [], [], reversed=backward)
    _chain(drawn, downward)
    _order(drawn, len(widths))
    return drawn


def _backward(count: int, edges: Sequence[tuple[int, int]]) -> set[int]:
    """The edges that close a cycle, by a walk in depth from box 0 on."""
    outs: list[list[int]] = [[] for _ in range(count)]
    for i, (source, target) in enumerate(edges):
        if source != target:
            outs[source].append(i)
    state = bytearray(count)  # 1: on the way, 2: done
    found = set()
    for root in range(count):
        stack = [(root, iter(outs[root]))] if not state[root] else []
        state[root] = state[root] or 1
        while stack:
            at, rest = stack[-1]
            for i in rest:
                target = edges[i][1]
                if state[target] == 1:
                    found.add(i)
                elif not state[target]:
                    state[target] = 1
                    stack.append((target, iter(outs[target])))
                    break
            else:
                state[at] = 2
                stack.pop()
    return found


def _ranks(count: int, edges: Sequence[tuple[int, int]], first: int) -> list[int]:
    """Longest path from above; then what has no more edges above than below moves down to the first that needs it."""
    ins: list[list[int]] = [[] for _ in range(count)]
    outs: list[list[int]] = [[] for _ in range(count)]
    for source, target in edges:
        if source != target:
            ins[target].append(source)
            outs[source].append(target)
    order = _topological(ins, outs)
    ranks = [0 if box < first or not first else 1 for box in range(count)]
    for box in order:
        for target in outs[box]:
            ranks[target] = max(ranks[target], ranks[box] + 1)
    for box in reversed(order):
        above = sum(source >= first for source in ins[box])
        if box >= first and outs[box] and above <= len(outs[box]):
            ranks[box] = min(ranks[target] for target in outs[box]) - 1
    return ranks


def _topological(ins: list[list[int]], outs: list[list[int]]) -> list[int]:
    waits = [len(sources) for sources in ins]
    order = [box for box, missing in enumerate(waits) if not missing]
    for box in order:
        for target in outs[box]:
            waits[target] -= 1
            if not waits[target]:
                order.append(target)
    return order


def _rows(ranks: list[int], widths: Sequence[float], first: int, width_max: float) -> list[int]:
    """The layer of each box: a rank too wide to look at becomes several layers."""
    layer = [0] * len(ranks)
    at = -1
    used, before = 0.0, -1
    for box in sorted(range(len(ranks)), key=lambda box: ranks[box]):
        if ranks[box] != before or (used and used + widths[box] > width_max and box >= first):
            at, used, before = at + 1, 0.0, ranks[box]
        layer[box] = at
        used += widths[box]
    return layer


def _chain(drawn: Layered, edges: Sequence[tuple[int, int]]) -> None:
    """Give every edge a point in each layer that it crosses, the shortest edges first; the rest of them is cut."""
    layer = drawn.layer
    drawn.chains = [[] for _ in edges]
    left = max(BENDS_MAX, 4 * len(layer))
    for i in sorted(range(len(edges)), key=lambda i: layer[edges[i][1]] - layer[edges[i][0]]):
        source, target = edges[i]
        if source == target:
            continue
        bends = layer[target] - layer[source] - 1
        left -= bends
        if left < 0 and bends:
            drawn.cut.add(i)
            continue
        crossed = range(len(layer), len(layer) + bends)
        layer.extend(range(layer[source] + 1, layer[target]))
        drawn.chains[i] = [source, *crossed, target]
    drawn.layers = [[] for _ in range(max(layer, default=-1) + 1)]


# ---- the order within layers -----------------------------------------------------------------------------------------
def _order(drawn: Layered, boxes: int) -> None:
    """Sweep down and up, each layer by the mean place of its neighbours, and keep the order with the fewest crossings."""
    up, down = neighbours(drawn)
    _first_order(drawn, boxes, down)
    place = [0] * len(drawn.layer)
    _place(drawn.layers, place)
    best, kept = _crossings(drawn.layers, down, place), [list(layer) for layer in drawn.layers]
    idle = 0
    for sweep in range(min(SWEEPS_MAX, max(2, SWEEP_WORK // (len(place) + 1)))):
        if not best or idle >= SWEEPS_IDLE:
            break
        downwards = sweep % 2 == 0
        _sweep(drawn.layers, up if downwards else down, place, downwards=downwards)
        found = _crossings(drawn.layers, down, place)
        idle += 1
        if found < best:
            best, kept, idle = found, [list(layer) for layer in drawn.layers], 0
    drawn.layers = kept


def neighbours(drawn: Layered) -> tuple[list[list[int]], list[list[int]]]:
    """For every point its neighbours in the layer above, and those in the layer below."""
    up: list[list[int]] = [[] for _ in drawn.layer]
    down: list[list[int]] = [[] for _ in drawn.layer]
    for source, target in drawn.segments:
        up[target].append(source)
        down[source].append(target)
    return up, down


def _first_order(drawn: Layered, boxes: int, down: list[list[int]]) -> None:
    """By a walk in depth from the top, so that what belongs together starts out together."""
    seen = bytearray(len(drawn.layer))
    for root in sorted(range(boxes), key=lambda box: drawn.layer[box]):
        stack = [root]
        while stack:
            point = stack.pop()
            if not seen[point]:
                seen[point] = 1
                drawn.layers[drawn.layer[point]].append(point)
                stack.extend(reversed(down[point]))


def _place(layers: list[list[int]], place: list[int]) -> None:
    for layer in layers:
        for at, point in enumerate(layer):
            place[point] = at


def _sweep(layers: list[list[int]], near: list[list[int]], place: list[int], *, downwards: bool) -> None:
    """Sort each layer by the mean place of its neighbours in the one before; who has none keeps its place."""
    for layer in layers if downwards else reversed(layers):
        keys = {point: _mean(near[point], place, place[point]) for point in layer}
        layer.sort(key=lambda point: (keys[point], place[point]))
        for at, point in enumerate(layer):
            place[point] = at


def _mean(points: list[int], place: list[int], otherwise: float) -> float:
    return sum(place[point] for point in points) / len(points) if points else otherwise


def _crossings(layers: list[list[int]], down: list[list[int]], place: list[int]) -> int:
    """How many pairs of segments cross, by counting inversions in a binary indexed tree."""
    total = 0
    for upper, lower in pairwise(layers):
        tree = [0] * (len(lower) + 1)
        entered = 0
        for point in upper:
            targets = sorted(place[target] for target in down[point])
            total += sum(entered - _count_up_to(tree, target + 1) for target in targets)
            for target in targets:
                _enter(tree, target + 1)
            entered += len(targets)
    return total


def _count_up_to(tree: list[int], at: int) -> int:
    count = 0
    while at:
        count += tree[at]
        at -= at & -at
    return count


def _enter(tree: list[int], at: int) -> None:
    while at < len(tree):
        tree[at] += 1
        at += at & -at


def spans(layers: Iterable[Sequence[int]], heights: Sequence[float]) -> list[float]:
    """The height of each layer: that of its tallest box."""
    return [max((heights[point] for point in layer if point < len(heights)), default=0.0) for layer in layers]
