"""What operations took where it was measured: medians of single times, from the node itself to any node that does the same.

Coarser than a recorded run, which knows the places of one program: these times hold for another version of it too, and for
another program that calls the same models and capabilities.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apxm.graph.model import Node

SAMPLES_MAX = 200_000  # times that are looked at, the newest first


@dataclass(frozen=True, slots=True)
class Sample:
    """One time: of a firing of a node, or of a call that it made, then with the model or capability it called."""

    op: str
    name: str
    ms: float
    kind: str = "firing"
    target: str = ""


_Key: TypeAlias = tuple[str, ...]


class Latencies:
    """Medians by what they are of. `source` says whose times they are, in words."""

    def __init__(self, samples: Iterable[Sample], source: str) -> None:
        self.source = source
        times: defaultdict[_Key, list[float]] = defaultdict(list)
        for _, one in zip(range(SAMPLES_MAX), samples):
            for key in _keys(one):
                times[key].append(one.ms)
        self._medians = {key: median(several) for key, several in times.items()}

    def __bool__(self) -> bool:
        return bool(self._medians)

    def ms(self, node: Node) -> float | None:
        """The median for a node: of its own firings, of its own calls, of calls of what it calls, of its operation; else None."""
        target = node.attributes.get("capability", node.attributes.get("model", ""))
        for key in (
            ("firing", node.op, node.name),
            ("call", node.op, node.name),
            *((("target", node.op, target),) if target else ()),
            *((("op", node.op),) if node.op != "INV" else ()),  # two capabilities have nothing in common
        ):
            found = self._medians.get(key)
            if found is not None:
                return found
        return None


def _keys(one: Sample) -> list[_Key]:
    if one.kind == "firing":
        return [("firing", one.op, one.name), ("op", one.op)]
    return [("call", one.op, one.name), ("target", one.op, one.target), ("op", one.op)]
