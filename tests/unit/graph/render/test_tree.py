from __future__ import annotations

import pytest

from apxm.graph.model import Edge, Graph, Node
from apxm.graph.render.overlay import overlay
from apxm.graph.render.tree import tree
from tests.unit.graph.render.programs import MAIN, diamond, fired, hostile, referring, run_of, skipped, tried


def test_a_flow_is_a_title_and_a_line_for_each_node_with_what_goes_in() -> None:
    assert tree({MAIN: diamond()}).splitlines() == [
        "flow default.main(who: str)",
        "├─ source  BRANCH_ON_VALUE not_empty  ← who",
        "├─ left    INV read  ← path=source [true]",
        "├─ right   CONST_STR 1  ← (control source [false]), (effect left)",
        "└─ join    MERGE any  ← left, right  → exit",
    ]


def test_regions_stand_beneath_their_node() -> None:
    assert tree({MAIN: tried()}).splitlines() == [
        "flow default.main()",
        "├─ risky  TRY_CATCH",
        "│  ├─ try():",
        "│  │  ├─ first   PRINT",
        "│  │  └─ second  PRINT  ← first",
        "│  └─ catch(error):",
        "│     └─ rescue  PRINT  ← error",
        "└─ after  PRINT  ← risky",
    ]


def test_the_entry_flow_comes_first_and_says_so() -> None:
    text = tree({("a", "x"): Graph("x"), ("b", "y"): Graph("y")}, ("b", "y"))
    assert text.splitlines() == ["flow b.y() [entry]", "", "flow a.x()"]


def test_with_a_run_each_line_ends_with_what_happened() -> None:
    events = [*fired((), 1, 0.0, 0.1), *fired((), 2, 0.1, 0.9, "failed"), *skipped((), 3, 0.1)]
    lines = tree({MAIN: diamond()}, run=overlay(run_of(events), {MAIN: diamond()})).splitlines()
    assert lines[0].startswith("run run-1; outcome done; duration 1.00 s")
    ends = [line.rpartition("  [")[2] for line in lines[3:7]]
    assert ends == ["done 100 ms] *", "failed 800 ms] *", "skipped]", lines[6]]
    assert lines[-1] == "* is on the critical path"


def test_no_name_moves_the_cursor_or_turns_the_direction_of_the_text() -> None:
    graph = hostile()
    graph.nodes[0].name = "a\x1b[2Jb\nc"
    text = tree({MAIN: graph})
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "a\\u001b[2Jb c" in text


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("a", "say {{node_1}} twice: {{ node_1 }}", "say {a} twice: {a}"),
        ("two words", "{{node_1}}", "{two words}"),
        ("a", "{a} and {{node_1}}", "{a} and {{node_1}}"),  # `{a}` is another input
        ("a} {b", "{{node_1}}", "{{node_1}}"),
        ("0", "{{node_1}}", "{{node_1}}"),
        ("a\x1b[2J", "{{node_1}}", "{a\\u001b[2J}"),
        ("a", "{{node_7}} {b} {{x}}", "{{node_7}} {b} {{x}}"),
    ],
)
def test_a_text_names_the_node_whose_result_it_takes_where_that_is_clear(name: str, text: str, shown: str) -> None:
    line = tree({MAIN: referring(text, name)}).splitlines()[2]
    assert f"PRINT {shown}  ← " in line
    assert "node_1=" not in line


def test_a_port_that_a_region_may_take_is_shown() -> None:
    graph = tried()
    graph.nodes.append(Node(3, "one", "CONST_STR", {"value": 1}))
    graph.edges.append(Edge(3, 1, port="node_3"))
    assert "node_3=one" in tree({MAIN: graph})
