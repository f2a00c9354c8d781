"""Where everything of a drawing goes: sizes from the texts, places from the layers, lines that keep clear of boxes.

Regions are laid out first, from the inside out, and then stand as panels in the box of their node. Between two layers
lines are curves, across a layer they are straight and have a column of their own, so that none runs through a box.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from apxm.graph.ops import OPERATIONS
from apxm.graph.render.columns import columns
from apxm.graph.render.drawing import Box, Drawing, Key, Line, Panel, Slot
from apxm.graph.render.layers import layered, spans
from apxm.graph.render.text import cells, clip, inputs_of, port_of, said

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from apxm.graph.model import Graph, Node
    from apxm.graph.render.layers import Layered

# Widths of one column of the fixed-width font, which the style sheet sets in these sizes.
NAME_CELL, SUBTITLE_CELL, SLOT_CELL = 7.83, 6.63, 6.03  # 13, 11 and 10 px
NAME_CELLS, SUBTITLE_CELLS, SLOT_CELLS = 30, 36, 16
LINE_NAME, LINE_SUBTITLE, LINE_NOTE, LINE_SLOTS = 18.0, 15.0, 15.0, 15.0
PAD_X, PAD_Y, BADGE = 12.0, 6.0, 20.0
BOX_MIN, SLOTS_MAX = 96.0, 620.0  # slots that need more than that have no names
PARAMETER_HEIGHT = 24.0
PANEL_PAD, PANEL_TITLE, PANEL_GAP = 14.0, 20.0, 12.0
LAYER_GAP, LAYER_GAP_MAX = 34.0, 110.0
ASPECT = 1.7  # the width of a drawing over its height, where a rank is so wide that it must be broken
WIDTH_LEAST = 1_500.0  # no rank narrower than that is broken


@dataclass(frozen=True, slots=True)
class Detail:
    """How much is drawn. `notes` are what a run did, a line in each box; `depth` is how many levels of regions."""

    notes: Mapping[Key, str] | None = None
    depth: int = 64
    nodes: int = 1 << 30  # of one flow or region

    def inside(self) -> Detail:
        """For the regions of this drawing."""
        return Detail(self.notes, self.depth - 1)


def draw(graph: Graph, detail: Detail | None = None, at: Key = ()) -> Drawing:
    """Lay a flow or region out. Draws what it can of a graph that breaks rules: an edge to nowhere is left out."""
    detail = detail or Detail()
    drawing = Drawing(missing=max(len(graph.nodes) - detail.nodes, 0))
    nodes = graph.nodes[: detail.nodes]
    for parameter in graph.parameters:
        text = clip(f"{parameter.name}: {parameter.type_name}", NAME_CELLS)
        box = Box((*at, parameter.name), parameter=parameter, name=text, height=PARAMETER_HEIGHT)
        box.width = cells(text) * SUBTITLE_CELL + 2 * PAD_X
        drawing.boxes.append(box)
    inputs = inputs_of(graph)
    drawing.boxes += [_box(node, detail, (*at, node.id), inputs.get(node.id, {})) for node in nodes]
    _connect(drawing, graph, nodes)
    _mark_exits(drawing, graph)
    _size(drawing, detail)
    _arrange(drawing, len(graph.parameters), detail)
    return drawing


def _box(node: Node, detail: Detail, key: Key, takes: Mapping[int, str]) -> Box:
    box = Box(key, node=node, takes=takes, name=clip(node.name, NAME_CELLS))
    text = said(node, takes)
    box.subtitle = clip(f"{node.op} · {text}" if text else node.op, SUBTITLE_CELLS)
    for name in region_order(node):
        region = node.regions[name]
        parameters = ", ".join(parameter.name for parameter in region.parameters)
        title = clip(f"{name}({parameters})", SUBTITLE_CELLS)
        if detail.depth > 0:
            box.panels.append(Panel(name, title, draw(region, detail.inside(), (*key, name))))
        else:
            box.panels.append(Panel(name, title, Drawing(), folded=count_nodes(region)))
    return box


def region_order(node: Node) -> list[str]:
    """The order in which a reader expects them: as the operation names them, cases as they are tried, `default` last."""
    row = OPERATIONS.get(node.op)
    wanted = [*(row.regions if row else ()), *node.attributes.get("case_labels", ())]
    known = {name: at for at, name in enumerate(wanted)}
    return sorted(node.regions, key=lambda name: (name == "default", known.get(name, len(known))))


def count_nodes(graph: Graph) -> int:
    """Nodes, those of regions included."""
    return sum(1 + sum(map(count_nodes, node.regions.values())) for node in graph.nodes)


def _connect(drawing: Drawing, graph: Graph, nodes: Sequence[Node]) -> None:
    """A line for every edge, a slot in the target for each, a slot in the source for each label."""
    index: dict[int | str, int] = {parameter.name: i for i, parameter in enumerate(graph.parameters)}
    index.update((node.id, i) for i, node in enumerate(nodes, len(graph.parameters)))
    outputs: dict[tuple[int, str], Slot] = {}
    for edge in graph.edges:
        source, target = index.get(edge.source), index.get(edge.target)
        if source is None or target is None:
            continue
        at = len(drawing.lines)
        drawing.lines.append(Line(source, target, edge))
        drawing.boxes[target].inputs.append(Slot(clip(port_of(edge, drawing.boxes[target].node), SLOT_CELLS), [at]))
        label = edge.label or ""
        if (source, label) not in outputs:
            outputs[source, label] = Slot(clip(label, SLOT_CELLS))
            drawing.boxes[source].outputs.append(outputs[source, label])
        outputs[source, label].edges.append(at)


def _mark_exits(drawing: Drawing, graph: Graph) -> None:
    """A slot without a line where a value leaves: at the exits that are named, else every RETURN, else every end."""
    boxes = [box for box in drawing.boxes if box.node]
    if "exits" in graph.metadata:
        found = [box for box in boxes if box.node and {box.node.id, box.node.name} & set(graph.metadata["exits"])]
    else:
        found = [box for box in boxes if box.node and box.node.op == "RETURN"]
        ends = [box for box in boxes if not any(slot.edges for slot in box.outputs)]
        found = found or [box for box in ends if box.node and box.node.op != "AGENT"] or ends
    for box in found:
        box.outputs.append(Slot("exit", exit=True))


# ---- sizes -----------------------------------------------------------------------------------------------------------
def _size(drawing: Drawing, detail: Detail) -> None:
    for box in drawing.boxes:
        if box.node:
            _size_box(box, detail)


def _size_box(box: Box, detail: Detail) -> None:
    for slots in (box.inputs, box.outputs):
        if _slots_width(slots) > SLOTS_MAX:
            for slot in slots:
                slot.text = ""
    width = max(
        BOX_MIN,
        cells(box.name) * NAME_CELL + 2 * PAD_X + BADGE,
        cells(box.subtitle) * SUBTITLE_CELL + 2 * PAD_X,
        cells((detail.notes or {}).get(box.key, "")) * SUBTITLE_CELL + 2 * PAD_X,
        min(_slots_width(box.inputs), SLOTS_MAX),
        min(_slots_width(box.outputs), SLOTS_MAX),
    )
    head = PAD_Y + LINE_NAME + LINE_SUBTITLE + (LINE_NOTE if detail.notes is not None else 0) + PAD_Y
    box.head = head + (LINE_SLOTS if box.has_input_names else 0)
    foot = LINE_SLOTS if box.has_output_names else 0
    box.folded_width, box.folded_height = width, box.head + foot + (LINE_SUBTITLE if box.panels else 0)
    box.width, box.height = width, box.head + foot
    if box.panels:
        inner_width, inner_height = _shelve(box.panels, box.head)
        box.width = max(width, inner_width + 2 * PANEL_GAP)
        box.height = box.head + inner_height + foot


def _slots_width(slots: Sequence[Slot]) -> float:
    return sum(cells(slot.text) * SLOT_CELL + 14 if slot.text else 10 for slot in slots) + PAD_X


def _shelve(panels: Sequence[Panel], top: float) -> tuple[float, float]:
    """Put panels in rows from left to right, about as wide as high; the width and height of all of them."""
    for panel in panels:
        inside = panel.inside
        note = 150.0 if panel.folded or inside.missing else 0.0
        least = cells(panel.title) * SUBTITLE_CELL + 2 * PANEL_PAD
        panel.width = max(inside.width + 2 * PANEL_PAD, least, note)
        panel.height = inside.height + PANEL_TITLE + 2 * PANEL_PAD + (LINE_SUBTITLE if note else 0)
    area = sum(panel.width * panel.height for panel in panels)
    wide = max(sqrt(area * ASPECT), *(panel.width for panel in panels), 700.0)
    x, y, row_height, total = PANEL_GAP, top, 0.0, 0.0
    for panel in panels:
        if x > PANEL_GAP and x + panel.width > wide:
            x, y, row_height = PANEL_GAP, y + row_height + PANEL_GAP, 0.0
        panel.x, panel.y = x, y
        row_height = max(row_height, panel.height)
        x += panel.width + PANEL_GAP
        total = max(total, x - PANEL_GAP)
    return total - PANEL_GAP, y + row_height + PANEL_GAP - top


# ---- places ----------------------------------------------------------------------------------------------------------
def _arrange(drawing: Drawing, first: int, detail: Detail) -> None:
    """Layers, columns, then the lines."""
    boxes = drawing.boxes
    if not boxes:
        return
    widths = [box.width for box in boxes]
    area = sum((box.width + 30) * (box.height + 60) for box in boxes)
    edges = [(line.source, line.target) for line in drawing.lines]
    drawn = layered(widths, edges, first=first, width_max=max(sqrt(area * ASPECT), WIDTH_LEAST))
    _name_cut_lines(drawing, drawn, detail)
    widths = [box.width for box in boxes]
    middle = columns(drawn, widths)
    for box, x in zip(boxes, middle):
        box.x = x - box.width / 2
    _place_slots(drawing, drawn, middle)
    tops, bottoms = _rows(drawn, boxes, middle)
    for i, box in enumerate(boxes):
        box.y = tops[drawn.layer[i]]
    for i in range(len(drawing.lines)):
        if drawn.chains[i]:
            _route(drawing, i, drawn, middle, (tops, bottoms))
    drawing.width = max(max(box.x + box.width for box in boxes), max(middle[len(boxes) :], default=0.0) + 4)
    drawing.height = max(box.y + box.height for box in boxes)


def _name_cut_lines(drawing: Drawing, drawn: Layered, detail: Detail) -> None:
    """Say at the target of a line that is not drawn where it comes from."""
    for i in sorted(drawn.cut):
        line = drawing.lines[i]
        box, source = drawing.boxes[line.target], drawing.boxes[line.source]
        slot = next(slot for slot in box.inputs if slot.edges == [i])
        name = source.parameter.name if source.parameter else source.name
        slot.text, slot.cut = clip(f"{slot.text}←{name}", SLOT_CELLS), True
    for target in {drawing.lines[i].target for i in drawn.cut}:
        _size_box(drawing.boxes[target], detail)


def _place_slots(drawing: Drawing, drawn: Layered, middle: Sequence[float]) -> None:
    """Order the slots of each box as their lines come in and go out, so that these do not cross in front of it."""
    for box in drawing.boxes:
        center = box.x + box.width / 2

        def toward(slot: Slot, end: int, center: float = center) -> float:
            chains = [drawn.chains[i] for i in slot.edges if drawn.chains[i]]
            xs = [middle[chain[-2 if (end < 0) != (i in drawn.reversed) else 1]] for i, chain in zip(slot.edges, chains)]
            return sum(xs) / len(xs) if xs else center

        box.inputs.sort(key=lambda slot: toward(slot, -1))
        box.outputs.sort(key=lambda slot: (slot.exit, toward(slot, 1)))
        for slots in (box.inputs, box.outputs):
            _spread(slots, box.width)


def _spread(slots: Sequence[Slot], width: float) -> None:
    """Give each slot its share of the width of the box."""
    shares = [cells(slot.text) * SLOT_CELL + 14 if slot.text else 10.0 for slot in slots]
    if not slots:
        return
    stretch = min((width - PAD_X) / sum(shares), 2.2 if len(slots) > 1 else 1.0)
    x = (width - sum(shares) * stretch) / 2
    for slot, share in zip(slots, shares):
        slot.x = x + share * stretch / 2
        x += share * stretch


def _rows(drawn: Layered, boxes: Sequence[Box], middle: Sequence[float]) -> tuple[list[float], list[float]]:
    """Top and bottom of each layer. The farther lines travel sideways between two layers, the more room they get."""
    heights = spans(drawn.layers, [box.height for box in boxes])
    travel = [0.0] * len(heights)
    for source, target in drawn.segments:
        above = drawn.layer[source]
        travel[above] = max(travel[above], abs(middle[source] - middle[target]))
    tops, bottoms, y = [], [], 0.0
    for height, far in zip(heights, travel):
        tops.append(y)
        bottoms.append(y + height)
        y += height + min(LAYER_GAP + far * 0.09, LAYER_GAP_MAX)
    return tops, bottoms


def _route(drawing: Drawing, at: int, drawn: Layered, middle: Sequence[float], rows: tuple[list[float], list[float]]) -> None:
    """Where a line leaves, which columns it goes down in, and where it ends."""
    tops, bottoms = rows
    line, chain = drawing.lines[at], drawn.chains[at]
    out = next(slot for slot in drawing.boxes[line.source].outputs if at in slot.edges)
    into = next(slot for slot in drawing.boxes[line.target].inputs if at in slot.edges)
    line.drawn, line.backward = True, at in drawn.reversed
    line.out_x, line.in_x = (into.x, out.x) if line.backward else (out.x, into.x)
    line.bottom = bottoms[drawn.layer[chain[0]]]
    line.bends = [(middle[bend], tops[drawn.layer[bend]], bottoms[drawn.layer[bend]]) for bend in chain[1:-1]]
