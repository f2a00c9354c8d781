from __future__ import annotations

import re

import apxm
from apxm.graph.model import Edge, Graph, Node
from apxm.graph.render.notebook import BYTES_MAX, NODES_MAX
from tests.unit.graph.render.programs import HOSTILE, diamond, flat, hostile


def test_a_graph_shows_itself_as_a_still_picture() -> None:
    shown = diamond()._repr_html_()
    assert shown.count("<svg") == 1
    assert "<script" not in shown
    assert not re.search(r"\son\w+=|https?://(?!www\.w3\.org/2000/svg)|url\(", shown)
    assert all(f">{name}<" in shown for name in ("source", "left", "right", "join", "true", "path"))


def test_a_dag_shows_the_same_picture() -> None:
    @apxm.flow
    def small(who: str) -> object:
        return apxm.step.print(message=f"hello {who}", name="greeting")

    shown = apxm.compile(small).into_dag()._repr_html_()
    assert ">greeting<" in shown
    assert ">who: str<" in shown


def test_an_edge_that_only_a_text_mentions_is_drawn() -> None:
    graph = Graph("g", [Node(1, "a", "CONST_STR", {"value": 1}), Node(2, "b", "PRINT", {"message": "{{node_1}}"})])
    assert graph._repr_html_().count('class="wire"') == 1


def test_no_text_of_a_graph_becomes_markup() -> None:
    shown = hostile()._repr_html_()
    assert "<img" not in shown
    assert shown.count("<svg") == 1
    assert "&lt;/script&gt;" in shown
    assert HOSTILE not in shown


def test_a_large_graph_is_cut_and_says_so() -> None:
    shown = flat(3 * NODES_MAX, 1)._repr_html_()
    assert len(shown.encode()) < BYTES_MAX + 2_000
    assert f"the first {NODES_MAX} of its {3 * NODES_MAX} nodes" in shown


def test_a_graph_with_too_many_edges_is_summed_up() -> None:
    count = 150
    nodes = [Node(id, f"n{id}", "WAIT_ALL") for id in range(count)]
    shown = Graph("dense", nodes, [Edge(a, b) for b in range(count) for a in range(b)])._repr_html_()
    assert shown == "<p><b>dense: 150 nodes</b>: too large to draw here (WAIT_ALL 150)</p>"


def test_a_graph_that_breaks_every_rule_is_shown_nevertheless() -> None:
    graph = Graph("", [Node(1, "", "NOPE"), Node(1, "", "NOPE")], [Edge(1, 1), Edge("x", 5)])
    assert "<svg" in graph._repr_html_()
