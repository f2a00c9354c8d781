"""Whatever a graph says, it says the same after JSON, networkx and a second canonicalisation; junk is reported, never raised."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apxm.errors import GraphError
from apxm.graph import condition, template
from apxm.graph.canonical import canonical
from apxm.graph.contract import from_json, read, to_json, to_map
from apxm.graph.graphx import from_networkx, to_networkx
from apxm.graph.model import Dependency, Edge, Graph, Node, Parameter
from apxm.graph.ops import OPERATIONS, spellings
from apxm.graph.validate import validate, validate_json, warnings

TEXTS = st.sampled_from(
    ["", "x", "{0}", "{p}", "{{node_1}}", "node_2", "n1", "error", "true", "default", ">= 3", '{"a": {0}}', "body", "\ud800"]
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 2**64), st.floats(), TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["label", "node_id", "a"]), inner, max_size=2)
    ),
    max_leaves=3,
)
NAMES = st.sampled_from(["n1", "n2", "n3", "end", "p"])


# Made once: to make a strategy takes longer than to draw from it.
OPS = st.sampled_from([*OPERATIONS, "NOPE"])
ATTRIBUTES = {op: st.dictionaries(st.sampled_from(spellings(OPERATIONS[op])), VALUES, max_size=2) for op in OPERATIONS}
ATTRIBUTES["NOPE"] = st.dictionaries(st.just("value"), VALUES, max_size=2)
IDS = st.lists(st.integers(0, 6), min_size=1, max_size=4)
ENDS = st.integers(0, 7)
EDGES = st.lists(
    st.builds(
        Edge,
        st.one_of(ENDS, st.sampled_from(["p", "q"])),
        ENDS,
        st.sampled_from(Dependency),
        st.one_of(st.none(), st.sampled_from(["0", "1", "p", "pass", "item", "node_1"])),
        st.one_of(st.none(), st.sampled_from(["true", "error", "a", "default", "try"])),
    ),
    max_size=6,
)
PARAMETERS = st.lists(st.builds(Parameter, NAMES, st.sampled_from(["str", "json", "string", "x"])), max_size=2)
METADATA = st.sampled_from([{}, {"exits": ["n1"]}, {"exits": 3}, {"exits": [None, 1]}])


@st.composite
def graphs(draw: st.DrawFn, depth: int = 0) -> Graph:
    """Any graph: most of them break many rules."""
    nodes = []
    for id in draw(IDS):
        op = draw(OPS)
        attributes = draw(ATTRIBUTES[op])
        regions = draw(REGIONS) if depth < 1 else {}
        nodes.append(Node(id, draw(NAMES), op, attributes, regions))
    return Graph(draw(NAMES), nodes, draw(EDGES), draw(PARAMETERS), draw(METADATA))


REGIONS = st.dictionaries(st.sampled_from(["body", "try", "catch", "a", "default", "reduce"]), graphs(1), max_size=2)


@settings(max_examples=60)
@given(graphs())
def test_any_graph_is_checked_without_an_exception(graph: Graph) -> None:
    problems = validate(graph)
    assert all(problem.path for problem in problems)
    if not problems:
        warnings(graph)


@settings(max_examples=60)
@given(graphs())
def test_canonicalising_twice_changes_nothing_more(graph: Graph) -> None:
    once = canonical(graph)
    if not validate(graph):
        assert canonical(once) == once
        assert validate(once) == []


@settings(max_examples=60)
@given(graphs())
def test_a_graph_that_json_can_hold_comes_back_in_canonical_form(graph: Graph) -> None:
    try:
        text = to_json(graph)
        text.encode()
    except (GraphError, UnicodeEncodeError):
        return
    again, problems = read(text)
    assert again is not None
    if not [p for p in problems if p.code in ("graph.json", "graph.shape")]:
        assert to_map(again) == to_map(canonical(graph))


@settings(max_examples=60)
@given(graphs())
def test_networkx_keeps_every_graph_whose_ends_exist(graph: Graph) -> None:
    ids = [node.id for node in graph.nodes]
    known = {parameter.name for parameter in graph.parameters} | set(ids)
    graph.edges = [edge for edge in graph.edges if edge.source in known and edge.target in ids]
    if len(set(ids)) == len(ids):
        assert to_map(from_networkx(to_networkx(graph))) == to_map(graph)


JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(["ASK", "Data", "g"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "nodes",
                    "edges",
                    "parameters",
                    "metadata",
                    "agents",
                    "flows",
                    "id",
                    "op",
                    "attributes",
                    "regions",
                    "from",
                    "to",
                ]
            ),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=25,
)


@given(JUNK)
def test_any_json_is_a_graph_or_a_list_of_problems(data: object) -> None:
    authored, problems = read(data)  # type: ignore[arg-type]
    assert authored is not None or problems
    validate_json(data)  # type: ignore[arg-type]


@given(st.text(max_size=60))
def test_any_text_is_a_template_that_writes_itself(text: str) -> None:
    parsed = template.parse(text)
    assert parsed.render(lambda part: "") == "".join(part for part in parsed.segments if isinstance(part, str))
    again = "".join(str(part) for part in parsed.segments)
    assert template.parse(again) == parsed


@given(st.text(max_size=40), VALUES)
def test_any_text_is_a_condition_or_refused_and_a_condition_never_fails(text: str, value: object) -> None:
    for candidate in (text, f"== {text}", f"contains {text}", f"len > {len(text)}", f">= {len(text)}"):
        try:
            test = condition.parse(candidate).test
        except condition.ConditionError:
            continue
        assert test(value) in (True, False)


SEEDS = sorted((Path(__file__).resolve().parents[2] / "artifacts" / "reference").glob("*.json"))


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.stem)
@settings(max_examples=25)
@given(data=st.data())
def test_a_damaged_graph_gives_a_graph_error_or_a_graph(path: Path, data: st.DataObject) -> None:
    text = path.read_text()
    start = data.draw(st.integers(0, len(text) - 1))
    cut = data.draw(st.integers(0, 5))
    put = data.draw(st.sampled_from(["", '"', "{", "}", "[", ",", ":", "1", "null", '"id"', "{0}", "-"]))
    damaged = text[:start] + put + text[start + cut :]
    try:
        json.loads(to_json(from_json(damaged)))
    except GraphError:
        assert validate_json(damaged)
    else:
        validate_json(damaged)
