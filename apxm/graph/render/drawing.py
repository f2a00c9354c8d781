"""What a drawing is made of: boxes, panels in them, lines between them, all with their places. Decides none of it.

A box is a node or a parameter. Its place is relative to the drawing that it is in, that of a panel to its box, that of a
drawing to its panel. `key` tells a box from every other of its flow: authored node ids and region names from the flow down
to it, `(3, "body", 1)`; a parameter ends in its name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from apxm.graph.model import Edge, Node, Parameter

Key: TypeAlias = tuple[int | str, ...]
Point: TypeAlias = tuple[float, float]


@dataclass(slots=True)
class Slot:
    """Where lines begin or end on a box: `x` from its left border. `edges` are indices of the drawing's lines."""

    text: str
    edges: list[int] = field(default_factory=list)
    x: float = 0.0
    cut: bool = False  # the line is not drawn, and `text` says where it comes from
    exit: bool = False  # no line: the value leaves the flow or region here


@dataclass(slots=True)
class Panel:
    """A region: a titled frame inside the box of its node. `folded` counts nodes that are left out of `inside`."""

    name: str
    title: str
    inside: Drawing
    folded: int = 0
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0
    number: int = -1


@dataclass(slots=True)
class Box:
    """One node, or one parameter: exactly one of the two is set. `takes` are the names of nodes whose results come in, by id."""

    key: Key
    node: Node | None = None
    parameter: Parameter | None = None
    takes: Mapping[int, str] = field(default_factory=dict)
    name: str = ""
    subtitle: str = ""
    inputs: list[Slot] = field(default_factory=list)
    outputs: list[Slot] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0
    head: float = 0.0  # height of what is above the panels
    folded_width: float = 0.0  # without its panels
    folded_height: float = 0.0
    number: int = -1  # within a page, which names elements by it

    @property
    def is_exit(self) -> bool:
        return any(slot.exit for slot in self.outputs)

    @property
    def has_input_names(self) -> bool:
        return any(slot.text for slot in self.inputs)

    @property
    def has_output_names(self) -> bool:
        return any(slot.text for slot in self.outputs)


@dataclass(slots=True)
class Line:
    """One edge, from box to box by index. It is `drawn`, or named at its target (see Slot.cut).

    It leaves the lower border of the upper box at `out_x` from the left, runs straight to `bottom`, where the layer of that
    box ends, through the bends (x, top, bottom) of the layers that it crosses, and meets the upper border of the lower box
    at `in_x`. Only a graph with a cycle has lines that go backward: the upper box is then the target.
    """

    source: int
    target: int
    edge: Edge
    drawn: bool = False
    backward: bool = False
    out_x: float = 0.0
    in_x: float = 0.0
    bottom: float = 0.0
    bends: list[tuple[float, float, float]] = field(default_factory=list)
    number: int = -1

    @property
    def upper(self) -> int:
        return self.target if self.backward else self.source

    @property
    def lower(self) -> int:
        return self.source if self.backward else self.target


@dataclass(slots=True)
class Drawing:
    """One flow or region. `missing` counts nodes of it that are left out."""

    boxes: list[Box] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0
    missing: int = 0

    def walk(self) -> Iterator[Box]:
        """Every box, those of regions right after the one that holds them."""
        for box in self.boxes:
            yield box
            for panel in box.panels:
                yield from panel.inside.walk()

    def drawings(self) -> Iterator[Drawing]:
        """This one and those of all regions in it."""
        yield self
        for box in self.boxes:
            for panel in box.panels:
                yield from panel.inside.drawings()

    def points(self, line: Line) -> list[Point]:
        """Where a line goes, from its upper to its lower end."""
        upper, lower = self.boxes[line.upper], self.boxes[line.lower]
        x, y = upper.x + line.out_x, upper.y + upper.height
        found = [(x, y), (x, max(y, line.bottom))]
        for x, top, bottom in line.bends:
            found += [(x, top), (x, bottom)]
        return [*found, (lower.x + line.in_x, lower.y)]
