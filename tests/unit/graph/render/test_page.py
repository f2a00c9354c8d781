from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from apxm.graph.model import Graph, Node
from apxm.graph.render.overlay import overlay
from apxm.graph.render.page import as_script_data, limits, page
from tests.unit.graph.render.programs import (
    HOSTILE,
    MAIN,
    diamond,
    fired,
    flat,
    generated,
    hostile,
    print_node,
    referring,
    run_of,
    tried,
)


class Read(HTMLParser):
    """The elements of a page, with the text of those that matter."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": [], "title": []}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in self.inside:
            self.inside[self._open][-1] += data

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.inside["script"][0])  # type: ignore[no-any-return]


def drawn(flows: dict[Any, Graph], **more: Any) -> Read:
    return Read(page(flows, title="t", **more)[0])


def test_the_page_asks_for_nothing_outside_of_itself() -> None:
    text, _ = page({MAIN: diamond()}, title="t", run=overlay(run_of(fired((), 1, 0.0, 1.0)), {MAIN: diamond()}))
    read = Read(text)
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?!data:)[a-z/.]""", re.sub(r"<script.*?</script>", "", text, flags=re.S))
    assert {tag for tag, _ in read.tags} & {
        "img",
        "iframe",
        "object",
        "embed",
        "form",
        "base",
        "image",
        "use",
        "foreignobject",
    } == set()
    assert not re.findall(r"@import|url\(", read.inside["style"][0])
    assert not re.findall(r"fetch\(|XMLHttpRequest|WebSocket|import\(|sendBeacon|EventSource", read.inside["script"][1])
    assert set(re.findall(r"https?://[^\s\"'<)]+", text)) == {"http://www.w3.org/2000/svg"}


def test_the_policy_lets_in_only_the_script_and_the_style_of_the_page() -> None:
    read = drawn({MAIN: hostile()})
    policy = (
        next(a["content"] for tag, a in read.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy") or ""
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))

    def allowed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == allowed(read.inside["script"][1])
    assert rules["style-src"] == allowed(read.inside["style"][0])


def test_no_text_of_a_program_becomes_markup_or_ends_the_script() -> None:
    flows = {("a", HOSTILE): hostile()}
    events = fired((), 1, 0.0, 1.0, "failed", error=HOSTILE)
    history = run_of(events, HOSTILE, f"a.{HOSTILE}")
    text, _ = page(flows, title=HOSTILE, run=overlay(history, flows), effects={HOSTILE: HOSTILE})
    read = Read(text)
    assert "<img" not in text
    assert text.count("<script") == text.count("</script>") == 2
    assert not any(name.startswith("on") for _, attributes in read.tags for name in attributes)
    assert sum(tag == "svg" for tag, _ in read.tags) == 1
    assert read.inside["title"][0] == HOSTILE
    assert HOSTILE in [box["name"] for box in read.data["boxes"]]
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", text)


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "\u2028", "&amp;", "]]>", "\ud800", '"\\'])
def test_data_of_the_script_comes_back_as_it_was_and_holds_no_sign_of_markup(text: str) -> None:
    said = as_script_data({"x": text})
    assert json.loads(said) == {"x": text}
    assert not re.search("[<>&\u2028\ud800]", said)


def test_every_node_has_an_element_and_its_facts() -> None:
    flows = generated(5)
    read = drawn(flows)
    boxes = {attributes["id"]: attributes for tag, attributes in read.tags if str(attributes.get("id", "")).startswith("b")}
    assert set(boxes) == {f"b{box['n']}" for box in read.data["boxes"]}
    nodes = [box for box in read.data["boxes"] if "op" in box]
    assert len(nodes) == sum(count(graph) for graph in flows.values())
    assert all(boxes[f"b{box['n']}"]["role"] == "button" and boxes[f"b{box['n']}"]["tabindex"] == "0" for box in nodes)


def count(graph: Graph) -> int:
    return sum(1 + sum(count(region) for region in node.regions.values()) for node in graph.nodes)


def test_the_details_of_a_node_are_there() -> None:
    data = drawn({MAIN: diamond()}, effects={"read": "read"}).data
    left = next(box for box in data["boxes"] if box["name"] == "left")
    assert (left["id"], left["op"], left["effect"], left["attributes"]) == (2, "INV", "read", [["capability", "read"]])
    assert data["ops"]["INV"] == {"doc": "Calls a capability.", "category": "tools"}
    edges = [data["lines"][number] for number in left["in"]]
    assert [(edge["k"], edge["port"], edge["label"]) for edge in edges] == [("data", "path", "true")]
    assert [box["name"] for box in data["boxes"] if box.get("exit")] == ["join"]
    assert data["kinds"] == ["control", "data", "effect"]


def test_a_long_attribute_is_cut_and_says_so() -> None:
    graph = Graph("main", [Node(1, "n", "PRINT", {"message": "x" * 5000})])
    (box,) = drawn({MAIN: graph}).data["boxes"]
    assert box["attributes"][0][1] == "x" * 2000 + "… (5,000 characters)"


def test_the_entry_flow_comes_first_and_a_call_leads_to_its_flow() -> None:
    caller = Graph("z", [Node(1, "call", "FLOW_CALL", {"flow_name": "a"})])
    data = drawn({("m", "a"): diamond(), ("m", "z"): caller}, entry=("m", "z")).data
    assert [flow["name"] for flow in data["flows"]] == ["m.z", "m.a"]
    assert next(box for box in data["boxes"] if box["name"] == "call")["calls"] == 1


def test_an_overlay_gives_each_node_its_mark_and_the_page_its_summary() -> None:
    events = [*fired((), 1, 0.0, 0.1), *fired((), 2, 0.1, 0.9, "failed"), *fired((), 4, 0.9, 1.0)]
    text, told = page({MAIN: diamond()}, title="t", run=overlay(run_of(events, "fatal"), {MAIN: diamond()}))
    read = Read(text)
    marks = {box["name"]: box["mark"] for box in read.data["boxes"] if "op" in box}
    assert marks["left"]["count"] == {"failed": 1}
    assert marks["right"] is None
    run = read.data["run"]
    assert ["outcome", "fatal", "failed"] in run["facts"]
    assert [read.data["boxes"][box]["name"] for box, _, _ in run["critical"]] == ["source", "left", "join"]
    classes = [attributes["class"] or "" for _, attributes in read.tags if "class" in attributes]
    assert classes.count("line data critical") == 2
    assert "box tools failed" in classes
    assert told == []


def test_a_reader_is_told_of_lost_events_and_of_firings_without_a_node() -> None:
    history = run_of(fired((), 77, 0.0, 0.1))
    from apxm.observability.events import Gap

    history.gaps.append(Gap(3, 7))
    text, told = page({MAIN: diamond()}, title="t", run=overlay(history, {MAIN: diamond()}))
    assert [note.split()[0] for note in told] == ["1", "The"]
    assert "lacks 5 events" in told[1]
    assert Read(text).data["notes"] == told


def nested(levels: int, width: int) -> Graph:
    nodes = [print_node(id, f"n{id}") for id in range(1, width + 1)]
    if levels:
        nodes[0] = print_node(1, "deep", **{"try": nested(levels - 1, width)})
    return Graph("main", nodes)


def test_past_the_bound_the_deepest_regions_are_folded_first() -> None:
    details, told = limits({MAIN: nested(4, 10)}, nodes_max=35)
    assert (details[MAIN].depth, details[MAIN].nodes) == (2, 10)
    assert told == ["Folded: 20 of 50 nodes, more than 2 regions deep. No more than 35 are drawn."]


def test_a_flow_that_is_too_large_by_itself_is_cut() -> None:
    other = ("default", "other")
    details, told = limits({MAIN: flat(60, 1), other: flat(60, 1)}, nodes_max=100)
    assert (details[MAIN].nodes, details[other].nodes) == (60, 40)
    assert told == ["Flow default.other: the first 40 of its 60 nodes are drawn."]


def test_what_fits_is_drawn_whole() -> None:
    assert limits({MAIN: tried()})[1] == []
    assert limits({}) == ({}, [])


def test_the_same_program_always_gives_the_same_page() -> None:
    assert page(generated(3), title="t") == page(generated(3), title="t")


def test_the_page_names_the_node_whose_result_a_text_takes() -> None:
    text, _ = page({MAIN: referring("say {{node_1}}")}, title="t")
    assert "say {a}" in text
    assert "node_1" not in text
