from __future__ import annotations

import random
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import pytest

from apxm.graph.model import Dependency, Edge, Graph, Node, Parameter
from apxm.graph.render.layers import layered
from apxm.graph.render.layout import Detail, draw, region_order
from tests.unit.graph.render.programs import diamond, flat, generated, tried

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apxm.graph.render.drawing import Box, Drawing, Line, Point

CLOSE = 0.01  # what rounding may cost


def overlaps(one: Box, other: Box) -> bool:
    across = one.x + one.width > other.x + CLOSE and other.x + other.width > one.x + CLOSE
    return across and one.y + one.height > other.y + CLOSE and other.y + other.height > one.y + CLOSE


def sampled(drawing: Drawing, line: Line) -> Iterator[Point]:
    """Points along a line as it is drawn: straight, or a curve that leaves and arrives upright."""
    for (x, y), (to_x, to_y) in pairwise(drawing.points(line)):
        for t in (i / 12 for i in range(13)):
            bend = 3 * t * t - 2 * t**3  # both control points lie above or below the ends, at half the height
            yield x + (to_x - x) * bend, y + (to_y - y) * (1.5 * t * (1 - t) ** 2 + 1.5 * t * t * (1 - t) + t**3)


def faults(drawing: Drawing) -> Iterator[str]:
    """What a reader would call a mistake, in this drawing and the regions in it."""
    for one, other in combinations(drawing.boxes, 2):
        if overlaps(one, other):
            yield f"{one.key} lies over {other.key}"
    for box in drawing.boxes:
        if min(box.x, box.y) < -CLOSE or box.x + box.width > drawing.width + CLOSE or box.y + box.height > drawing.height + CLOSE:
            yield f"{box.key} is outside"
        for panel in box.panels:
            if (
                panel.x < 0
                or panel.y < box.head - CLOSE
                or panel.x + panel.width > box.width
                or panel.y + panel.height > box.height
            ):
                yield f"panel {panel.name} of {box.key} is outside"
            yield from faults(panel.inside)
    for line in drawing.lines:
        ends = (drawing.boxes[line.source], drawing.boxes[line.target])
        for x, y in sampled(drawing, line) if line.drawn else ():
            for box in drawing.boxes:
                inside = box.x + 1 < x < box.x + box.width - 1 and box.y + 1 < y < box.y + box.height - 1
                if inside and box not in ends:
                    yield f"a line from {ends[0].key} to {ends[1].key} runs through {box.key}"
                    break


@pytest.mark.parametrize("number", range(12))
def test_no_box_lies_over_another_and_no_line_runs_through_one(number: int, seed: int) -> None:
    for graph in generated(seed + number).values():
        assert list(faults(draw(graph))) == [], f"seed {seed + number}"


@pytest.mark.parametrize("count", [40, 150])
def test_large_flat_graphs_are_drawn_without_faults(count: int, seed: int) -> None:
    drawing = draw(flat(count, seed))
    assert list(faults(drawing)) == [], f"seed {seed}"
    assert all(line.drawn for line in drawing.lines)


def test_lines_that_cross_a_layer_have_a_column_of_their_own(seed: int) -> None:
    drawing = draw(flat(80, seed))
    columns: dict[float, list[float]] = {}
    for line in drawing.lines:
        for x, top, _ in line.bends:
            columns.setdefault(top, []).append(x)
    assert columns
    for xs in columns.values():
        assert all(after - before > 5 for before, after in pairwise(sorted(xs))), f"seed {seed}"


def test_the_checks_of_a_drawing_see_a_fault() -> None:
    drawing = draw(diamond())
    left, right = (box for box in drawing.boxes if box.name in ("left", "right"))
    left.x, left.y = right.x + 5, right.y
    assert any("lies over" in fault for fault in faults(drawing))
    drawing = draw(Graph("g", [Node(id, f"n{id}", "PRINT") for id in (1, 2, 3)], [Edge(1, 2), Edge(2, 3), Edge(1, 3)]))
    next(line for line in drawing.lines if line.bends).bends[0] = (drawing.boxes[1].x + 20, *drawing.lines[2].bends[0][1:])
    assert any("runs through" in fault for fault in faults(drawing))


def test_edges_lead_downwards_and_parameters_stand_on_top() -> None:
    drawing = draw(diamond())
    for line in drawing.lines:
        source, target = drawing.boxes[line.source], drawing.boxes[line.target]
        assert source.y + source.height < target.y
    assert min(drawing.boxes, key=lambda box: box.y).parameter is not None


def test_the_same_graph_is_always_drawn_the_same() -> None:
    assert repr(draw(flat(60, 3))) == repr(draw(flat(60, 3)))


def test_ports_and_labels_have_a_place_on_the_border_of_their_box() -> None:
    drawing = draw(diamond())
    boxes = {box.name: box for box in drawing.boxes}
    assert [slot.text for slot in boxes["left"].inputs] == ["path"]
    assert {slot.text for slot in boxes["source"].outputs} == {"true", "false"}
    assert [slot.text for slot in boxes["join"].outputs] == ["exit"]
    for box in drawing.boxes:
        for slot in (*box.inputs, *box.outputs):
            assert 0 < slot.x < box.width


def test_slots_stand_in_the_order_in_which_their_lines_come_in() -> None:
    drawing = draw(diamond())
    join = next(box for box in drawing.boxes if box.name == "join")
    came_from = [drawing.boxes[drawing.lines[slot.edges[0]].source].x for slot in join.inputs]
    assert came_from == sorted(came_from)


def test_regions_stand_in_the_order_in_which_a_reader_expects_them() -> None:
    assert region_order(tried().nodes[0]) == ["try", "catch"]
    cases = {name: Graph(name, [Node(1, "x", "PRINT")]) for name in ("default", "b", "a")}
    assert region_order(Node(1, "s", "SWITCH", {"case_labels": ["a", "b"]}, cases)) == ["a", "b", "default"]


def test_what_lies_deeper_than_asked_is_counted_and_not_drawn() -> None:
    drawing = draw(tried(), Detail(depth=0))
    assert [(panel.name, panel.folded, panel.inside.boxes) for panel in drawing.boxes[0].panels] == [
        ("try", 2, []),
        ("catch", 1, []),
    ]


def test_nodes_past_the_number_asked_for_are_counted_and_not_drawn() -> None:
    drawing = draw(flat(50, 1), Detail(nodes=20))
    assert (len(drawing.boxes), drawing.missing) == (20, 30)
    assert list(faults(drawing)) == []


def test_a_graph_with_a_cycle_and_edges_to_nowhere_is_drawn_nevertheless() -> None:
    nodes = [Node(id, f"n{id}", "NO_SUCH_OP") for id in (1, 2, 3)]
    edges = [Edge(1, 2), Edge(2, 3), Edge(3, 1), Edge(2, 2), Edge("gone", 1), Edge(1, 99)]
    drawing = draw(Graph("g", nodes, edges))
    assert [line.backward for line in drawing.lines] == [False, False, True, False]
    assert [line.drawn for line in drawing.lines] == [True, True, True, False]
    assert list(faults(drawing)) == []


def test_a_graph_without_nodes_has_an_empty_drawing() -> None:
    drawing = draw(Graph("g"))
    assert (drawing.boxes, drawing.width, drawing.height) == ([], 0, 0)


def test_hundreds_of_nodes_side_by_side_are_broken_into_rows() -> None:
    drawing = draw(Graph("g", [Node(id, f"n{id}", "PRINT") for id in range(400)]))
    assert len({box.y for box in drawing.boxes}) > 8
    assert drawing.width < 4 * drawing.height


def test_edges_too_long_to_draw_are_named_where_they_end() -> None:
    count = 400
    nodes = [Node(id, f"n{id}", "WAIT_ALL") for id in range(1, count + 1)]
    edges = [Edge(id, id + 1) for id in range(1, count)] + [Edge("far", id, Dependency.DATA, "x") for id in range(1, count + 1)]
    drawing = draw(Graph("g", nodes, edges, [Parameter("far")]))
    cut = [line for line in drawing.lines if not line.drawn]
    assert 0 < len(cut) < count
    assert all(line.edge.source == "far" for line in cut)
    last = drawing.boxes[-1]
    assert [slot.text for slot in last.inputs if slot.cut] == ["x←far"]
    assert last.height > drawing.boxes[1].height - CLOSE


def test_many_ports_do_not_make_a_box_as_wide_as_a_street() -> None:
    names = [f"a_rather_long_port_{i}" for i in range(60)]
    edges = [Edge(name, 1, port=name) for name in names]
    drawing = draw(Graph("g", [Node(1, "n", "INV", {"capability": "c"})], edges, [Parameter(name) for name in names]))
    box = drawing.boxes[-1]
    assert box.width < 700
    assert all(0 <= slot.x <= box.width for slot in box.inputs)


@pytest.mark.parametrize("number", range(5))
def test_layers_keep_every_edge_pointing_down_and_every_chain_unbroken(number: int, seed: int) -> None:
    rng = random.Random(seed + number)
    count = rng.randint(2, 80)
    edges = [(rng.randrange(target), target) for target in range(1, count) for _ in range(rng.randint(0, 3))]
    drawn = layered([rng.uniform(40, 300) for _ in range(count)], edges, width_max=800)
    assert sorted(point for layer in drawn.layers for point in layer) == list(range(len(drawn.layer)))
    for (source, target), chain in zip(edges, drawn.chains, strict=True):
        assert (chain[0], chain[-1]) == (source, target)
        assert [drawn.layer[point] for point in chain] == list(range(drawn.layer[source], drawn.layer[target] + 1))
