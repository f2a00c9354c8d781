"""Where in its layer every point of a drawing stands, from left to right: long edges straight, boxes over their neighbours.

After U. Brandes and B. Köpf, Fast and Simple Horizontal Coordinate Assignment (2001): four extreme placements, each with
points aligned to the median of their neighbours, and for every point the mean of the two in the middle.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from apxm.graph.render.layers import neighbours

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apxm.graph.render.layers import Layered

GAP = 30.0  # between two boxes
GAP_BENDS = 12.0  # between two long edges, or one and a box


def columns(drawn: Layered, widths: Sequence[float]) -> list[float]:
    """The middle of every point; the leftmost border is 0."""
    count = len(drawn.layer)
    if not count:
        return []
    wide = [*widths, *[0.0] * (count - len(widths))]
    up, down = neighbours(drawn)
    crossing = _crossing(drawn, up, len(widths))
    placements = [
        _extreme(layers, near, crossing, wide, len(widths), mirrored=mirrored)
        for near, layers in ((up, drawn.layers), (down, drawn.layers[::-1]))
        for mirrored in (False, True)
    ]
    return _balanced(placements, wide)


def _crossing(drawn: Layered, up: list[list[int]], boxes: int) -> set[tuple[int, int]]:
    """Segments that cross one between two bends of a long edge: these give way, so that long edges are straight."""
    found = set()
    place = {point: at for layer in drawn.layers for at, point in enumerate(layer)}
    for upper, lower in pairwise(drawn.layers):
        left, scanned = 0, 0
        for at, point in enumerate(lower):
            inner = next((above for above in up[point] if above >= boxes), None) if point >= boxes else None
            if inner is None and at != len(lower) - 1:
                continue
            right = place[inner] if inner is not None else len(upper)
            for other in lower[scanned : at + 1]:
                for above in up[other]:
                    if not left <= place[above] <= right and not (above >= boxes and other >= boxes):
                        found.add((above, other))
            scanned, left = at + 1, right
    return found


def _extreme(
    layers: Sequence[list[int]],
    near: list[list[int]],
    crossing: set[tuple[int, int]],
    wide: list[float],
    boxes: int,
    *,
    mirrored: bool,
) -> list[float]:
    """One placement as far to the left as it goes; `mirrored` as far to the right."""
    rows = [layer[::-1] for layer in layers] if mirrored else list(layers)
    place = [0] * len(wide)
    for row in rows:
        for at, point in enumerate(row):
            place[point] = at
    root = _align(rows, near, crossing, place)
    xs = _compact(rows, root, wide, boxes)
    return [-x for x in xs] if mirrored else xs


def _align(rows: list[list[int]], near: list[list[int]], crossing: set[tuple[int, int]], place: list[int]) -> list[int]:
    """Blocks of points that stand above each other: for each point the first one of its block."""
    root = list(range(len(place)))
    taken = [False] * len(place)  # something below stands under it
    for row in rows:
        last = -1
        for point in row:
            above = sorted(near[point], key=place.__getitem__)
            middle = len(above) - 1
            for at in (middle // 2, (middle + 1) // 2) if above else ():
                other = above[at]
                free = root[point] == point and not taken[other] and last < place[other]
                if free and (other, point) not in crossing and (point, other) not in crossing:
                    taken[other], root[point], last = True, root[other], place[other]
    return root


def _compact(rows: list[list[int]], root: list[int], wide: list[float], boxes: int) -> list[float]:
    """Blocks as close together as they may stand, then each as far to the right as its neighbours leave it."""
    after: dict[int, dict[int, float]] = {}
    waits = [0] * len(root)
    for row in rows:
        for left, right in pairwise(row):
            gap = GAP if left < boxes and right < boxes else GAP_BENDS
            apart = (wide[left] + wide[right]) / 2 + gap
            here = after.setdefault(root[left], {})
            if root[right] not in here:
                waits[root[right]] += 1
            here[root[right]] = max(here.get(root[right], 0.0), apart)
    xs = [0.0] * len(root)
    order = [block for block in range(len(root)) if root[block] == block and not waits[block]]
    for block in order:
        for other, apart in after.get(block, {}).items():
            xs[other] = max(xs[other], xs[block] + apart)
            waits[other] -= 1
            if not waits[other]:
                order.append(other)
    for block in reversed(order):
        if block in after:
            xs[block] = max(xs[block], min(xs[other] - apart for other, apart in after[block].items()))
    return [xs[block] for block in root]


def _balanced(placements: list[list[float]], wide: list[float]) -> list[float]:
    """All four brought to the borders of the narrowest; the mean of the middle two for each point."""
    borders = [(min(x - w / 2 for x, w in zip(xs, wide)), max(x + w / 2 for x, w in zip(xs, wide))) for xs in placements]
    narrowest = min(range(4), key=lambda i: borders[i][1] - borders[i][0])
    moved = []
    for i, xs in enumerate(placements):
        side = i % 2  # mirrored ones are brought to the right border
        shift = borders[narrowest][side] - borders[i][side]
        moved.append([x + shift for x in xs])
    middle = [sum(sorted(four)[1:3]) / 2 for four in zip(*moved)]
    left = min(x - w / 2 for x, w in zip(middle, wide))
    return [x - left for x in middle]
