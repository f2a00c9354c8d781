"""A drawing as SVG: shapes, classes and text, nothing that runs. What they look like stands in picture.css."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from apxm.graph.render.layout import LINE_NAME, LINE_NOTE, LINE_SLOTS, LINE_SUBTITLE, PAD_X, PAD_Y, PANEL_PAD, PANEL_TITLE
from apxm.graph.render.text import category, clip

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from apxm.graph.render.drawing import Box, Drawing, Key, Line, Panel, Point, Slot
    from apxm.graph.render.marks import Mark

TIP = 7.0  # length of an arrow head
MARGIN = 16.0
HEAT_MAX = 0.45  # how much of the colour of heat the hottest box has: the text in it must stay readable
# One shape per outcome, 16 by 16 around the origin, so that nobody has to tell them apart by colour.
BADGES = {
    "done": '<circle r="7.5"/><path d="M-3.5 0.2 L-1 3 L3.8 -2.8"/>',
    "failed": '<path class="plate" d="M0 -9 L9 0 L0 9 L-9 0 Z"/><path d="M0 -4.4 V1 M0 4 V4.2"/>',
    "cancelled": '<rect x="-7" y="-7" width="14" height="14" rx="2"/><path d="M-3.2 0 H3.2"/>',
    "skipped": '<circle r="7"/><path d="M-2.5 -3 L1 0 L-2.5 3 M2.8 -3 V3"/>',
    "unfinished": '<path class="plate" d="M0 -8.5 L8.5 7 H-8.5 Z"/><path d="M0 -3 V1.5 M0 4 V4.4"/>',
}


@cache
def resource(name: str) -> str:
    """A file of this package that becomes part of a page."""
    return files("apxm.graph.render").joinpath(name).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Pen:
    """How a drawing is put down. `marks` are what a run left, `critical` the boxes between which its critical path passes.

    An `interactive` one has names and roles for a script."""

    marks: Mapping[Key, Mark] | None = None
    critical: frozenset[tuple[Key, Key]] = frozenset()
    interactive: bool = False
    style: str = ""

    def svg(self, drawing: Drawing, label: str) -> str:
        """The whole picture."""
        width, height = drawing.width + 2 * MARGIN, drawing.height + 2 * MARGIN
        inner = "".join(self.drawing(drawing))
        role = 'role="group"' if self.interactive else 'role="img"'
        style = f"<style>{self.style}</style>" if self.style else ""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="apxm-picture" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="{-MARGIN:.0f} {-MARGIN:.0f} {width:.0f} {height:.0f}" {role} aria-label="{quoted(label)}">'
            f"{style}<g>{inner}</g></svg>"
        )

    def drawing(self, drawing: Drawing) -> Iterator[str]:
        """Lines first, so that boxes lie over them."""
        for line in drawing.lines:
            if line.drawn:
                yield self.line(drawing, line)
        for box in drawing.boxes:
            yield from self.box(box)

    def line(self, drawing: Drawing, line: Line) -> str:
        kind = line.edge.dependency.name.lower() + (" error" if line.edge.label == "error" else "")
        wire, tip = paths(drawing.points(line), line)
        if (drawing.boxes[line.source].key, drawing.boxes[line.target].key) in self.critical:
            kind += " critical"
        name = f' id="l{line.number}"' if line.number >= 0 else ""
        return f'<g class="line {kind}"{name}><path class="wire" d="{wire}"/><path class="tip" d="{tip}"/></g>'

    def box(self, box: Box) -> Iterator[str]:
        mark = self.marks.get(box.key) if self.marks is not None else None
        yield f'<g class="{self._classes(box, mark)}" transform="translate({box.x:.1f} {box.y:.1f})"{self._handle(box, mark)}>'
        yield f"<title>{quoted(box.node.name if box.node else box.name)}</title>"
        radius = 6 if box.node else box.height / 2
        yield f'<rect class="frame" width="{box.width:.1f}" height="{box.height:.1f}" rx="{radius:g}"/>'
        yield from self._node(box, mark) if box.node else self._parameter(box)
        for panel in box.panels:
            yield from self.panel(panel)
        yield "</g>"

    def _classes(self, box: Box, mark: Mark | None) -> str:
        if box.node is None:
            return "box parameter"
        words = ["box", category(box.node.op)]
        if box.panels:
            words.append("holder")
        if mark is not None and mark.outcome:
            words.append(mark.outcome)
        elif self.marks is not None:
            words.append("unreached")
        return " ".join(words)

    def _handle(self, box: Box, mark: Mark | None) -> str:
        if box.number < 0:
            return ""
        if box.node is None:
            return f' id="b{box.number}"'
        said = f"{box.node.name}, {box.node.op}" + (f", {mark.outcome} {mark.note}" if mark is not None else "")
        expanded = ' aria-expanded="true"' if box.panels else ""
        return f' id="b{box.number}" tabindex="0" role="button" aria-label="{quoted(said)}"{expanded}'

    def _parameter(self, box: Box) -> Iterator[str]:
        yield f'<text class="subtitle" x="{box.width / 2:.1f}" y="16" text-anchor="middle">{quoted(box.name)}</text>'

    def _node(self, box: Box, mark: Mark | None) -> Iterator[str]:
        if mark is not None and mark.critical:
            size = f'width="{box.width + 8:.1f}" height="{box.height + 8:.1f}"'
            yield f'<rect class="ring" x="-4" y="-4" {size} rx="9"/>'
        if mark is not None and mark.heat:
            size = f'width="{box.width:.1f}" height="{box.head:.1f}"'
            yield f'<rect class="heat" {size} rx="6" fill-opacity="{mark.heat * HEAT_MAX:.2f}"/>'
        yield f'<path class="stripe" d="M3 6 V{box.head - 6:.1f}"/>'
        y = PAD_Y
        if box.has_input_names:
            yield from _slots(box.inputs, y + 5)
            y += LINE_SLOTS
        yield f'<text class="name" x="{PAD_X}" y="{y + 14:.1f}">{quoted(box.name)}</text>'
        yield f'<text class="subtitle" x="{PAD_X}" y="{y + LINE_NAME + 11:.1f}">{quoted(box.subtitle)}</text>'
        if mark is not None:
            yield from self._mark(box, mark, y + LINE_NAME + LINE_SUBTITLE)
        if box.panels and self.interactive:
            fold = f"M{box.width - 18:.1f} {y + 22:.1f} l5 5 l5 -5" if mark else f"M{box.width - 18:.1f} {y + 8:.1f} l5 5 l5 -5"
            yield f'<g class="fold"><rect x="{box.width - 26:.1f}" y="{y - 2 + (14 if mark else 0):.1f}" width="24" height="22"/>'
            yield f'<path d="{fold}"/></g>'
        if box.has_output_names:
            yield from _slots(box.outputs, box.height - 5, "output")

    def _mark(self, box: Box, mark: Mark, y: float) -> Iterator[str]:
        if mark.outcome:
            yield f'<g class="badge" transform="translate({box.width - 14:.1f} 14)">{BADGES[mark.outcome]}</g>'
        yield f'<text class="note" x="{PAD_X}" y="{y + 11:.1f}">{quoted(mark.note)}</text>'
        if mark.heat:
            wide = max((box.folded_width - 2 * PAD_X) * mark.heat, 1.5)
            yield f'<rect class="bar" x="{PAD_X}" y="{y + LINE_NOTE:.1f}" width="{wide:.1f}" height="3" rx="1.5"/>'

    def panel(self, panel: Panel) -> Iterator[str]:
        name = f' id="p{panel.number}"' if panel.number >= 0 else ""
        yield f'<g class="panel" transform="translate({panel.x:.1f} {panel.y:.1f})"{name}>'
        yield f'<rect class="field" width="{panel.width:.1f}" height="{panel.height:.1f}" rx="5"/>'
        yield f'<text class="title" x="{PANEL_PAD}" y="15">{quoted(panel.title)}</text>'
        if words := left_out(panel):
            yield f'<text class="subtitle" x="{PANEL_PAD}" y="{panel.height - PANEL_PAD + 4:.1f}">{words}</text>'
        yield f'<g transform="translate({PANEL_PAD} {PANEL_TITLE + PANEL_PAD})">'
        yield from self.drawing(panel.inside)
        yield "</g></g>"


def left_out(panel: Panel) -> str:
    """What a panel does not show."""
    if panel.folded:
        return f"folded: {panel.folded:,} nodes"
    return f"and {panel.inside.missing:,} nodes more" if panel.inside.missing else ""


def _slots(slots: list[Slot], y: float, kind: str = "input") -> Iterator[str]:
    for slot in slots:
        if slot.text:
            tone = f"slot {kind}" + (" cut" if slot.cut else "") + (" leaves" if slot.exit else "")
            text = f"▸ {slot.text}" if slot.exit else slot.text
            yield f'<text class="{tone}" x="{slot.x:.1f}" y="{y:.1f}" text-anchor="middle">{quoted(text)}</text>'


def paths(points: list[Point], line: Line) -> tuple[str, str]:
    """The wire, straight down or in a curve from point to point, and the head that shows its kind."""
    (x, y), (end_x, end_y) = points[0], points[-1]
    parts = [f"M{x:.1f} {y + (TIP if line.backward else 0):.1f}"]
    stop = end_y if line.backward else end_y - TIP
    for at, (to_x, to_y) in enumerate(points[1:], 1):
        down = stop if at == len(points) - 1 else to_y
        if abs(to_x - x) < 0.05:
            parts.append(f"V{down:.1f}")
        else:
            half = (down - y) / 2
            parts.append(f"C{x:.1f} {y + half:.1f} {to_x:.1f} {down - half:.1f} {to_x:.1f} {down:.1f}")
        x, y = to_x, down
    if line.backward:
        return "".join(parts), f"M{points[0][0]:.1f} {points[0][1]:.1f}l-4 {TIP:g}h8z"
    return "".join(parts), f"M{end_x:.1f} {end_y:.1f}l-4 -{TIP:g}h8z"


def quoted(text: str) -> str:
    """Text of a program as text of markup: on one line, without control characters, nothing in it is a tag."""
    return escape(clip(text, 200))
