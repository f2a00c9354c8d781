from __future__ import annotations

import re

import pytest

from apxm.graph.model import Edge, Graph, Node
from apxm.graph.render.mermaid import escaped, limits, mermaid
from apxm.graph.render.overlay import overlay
from tests.unit.graph.render.programs import MAIN, diamond, fired, flat, generated, hostile, referring, run_of, tried

# What a line of ours may be: nothing else is needed, and nothing else may come in through a name.
LABEL = r'"[^"`<>\[\]{}|]*(?:<br>[^"`<>\[\]{}|]*)*"'
LINE = re.compile(
    rf"flowchart TD|end|subgraph n\d+\[{LABEL}\]|n\d+(\[{LABEL}\]|\(\[{LABEL}\]\))"
    rf"|n\d+ (-->|-\.->|-\.-o)(\|{LABEL}\|)? n\d+|classDef \w+ [\w:#,. -]+|class [n\d,]+ \w+"
)


def test_a_flow_is_a_subgraph_with_its_nodes_and_edges_of_each_kind() -> None:
    assert [line.strip() for line in mermaid({MAIN: diamond()}).splitlines()] == [
        "flowchart TD",
        'subgraph n0["default.main"]',
        'n1(["who: str"])',
        'n2["source<br>BRANCH_ON_VALUE · not_empty"]',
        'n3["left<br>INV · read"]',
        'n4["right<br>CONST_STR · 1"]',
        'n5["join<br>MERGE · any"]',
        "n1 --> n2",
        'n2 -->|"true as path"| n3',
        'n2 -.->|"false"| n4',
        "n3 --> n5",
        "n4 --> n5",
        "n3 -.-o n4",
        "end",
        "classDef leaves font-weight:bold",
        "class n5 leaves",
    ]


def test_regions_are_subgraphs_in_the_subgraph_of_their_node() -> None:
    lines = mermaid({MAIN: tried()}).splitlines()
    depth, seen = 0, []
    for line in lines[1:-2] if "classDef" in lines[-2] else lines[1:]:
        depth -= line.strip() == "end"
        if "subgraph" in line:
            seen.append((depth, line.split('"')[1]))
            depth += 1
    assert depth == 0
    assert seen == [(0, "default.main"), (1, "risky<br>TRY_CATCH"), (2, "try"), (2, "catch")]


@pytest.mark.parametrize("number", range(5))
def test_every_line_is_one_that_mermaid_knows(number: int, seed: int) -> None:
    for flows in ({("a", "b"): hostile()}, generated(seed + number)):
        for line in mermaid(flows).splitlines():
            assert LINE.fullmatch(line.strip()), f"seed {seed + number}: {line}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain_name (1.5)", "plain_name (1#46;5#41;"),
        ('a"b', "a#34;b"),
        ("#quot;", "#35;quot#59;"),
        ("`code` **bold**", "#96;code#96; #42;#42;bold#42;#42;"),
        ("- item", "#45; item"),
        ("1. first", "1#46; first"),
        ("$$x$$", "#36;\u2060#36;x#36;\u2060#36;"),
        ("fa:fa-car", "fa#58;\u2060fa#45;car"),
        ("日本 <b>", "日本 #60;b#62;"),
        ("a\nb\x07", "a b#92;u0007"),
    ],
)
def test_signs_that_mean_something_become_numbers(text: str, expected: str) -> None:
    assert escaped(text) == expected


def test_a_run_colours_the_nodes_and_says_what_happened() -> None:
    events = [*fired((), 1, 0.0, 0.1), *fired((), 2, 0.1, 0.9, "failed")]
    text = mermaid({MAIN: diamond()}, run=overlay(run_of(events), {MAIN: diamond()}))
    assert 'n3["left<br>INV · read<br>800 ms"]' in text
    assert "class n2 done" in text
    assert "class n3 failed" in text


def test_a_reader_is_told_when_mermaid_needs_leave_to_draw_so_much() -> None:
    assert limits({MAIN: diamond()}, "short") == []
    large = {MAIN: flat(600, 1)}
    (note,) = limits(large, mermaid(large))
    assert f"maxEdges {len(large[MAIN].edges):,}" in note


def test_an_edge_from_nowhere_is_left_out() -> None:
    assert "-->" not in mermaid({MAIN: Graph("main", [Node(1, "n", "PRINT")], [Edge("gone", 1)])})


def test_a_text_names_the_node_whose_result_it_takes() -> None:
    text = mermaid({MAIN: referring("say {{node_1}}")})
    assert f"PRINT · {escaped('say {a}')}" in text
    assert "node_1" not in text
