import copy

import pytest

from apxm.errors import GraphError
from apxm.graph.contract import from_json, to_json
from apxm.graph.model import Dependency, Edge, Graph, Node, Parameter
from apxm.graph.validate import validate, warnings


def valid(graph):
    assert validate(graph) == []
    return graph


def test_steps_become_nodes_with_ids_names_and_edges_in_order():
    g = Graph("g")
    topic = g.param("topic")
    a = g.ask("About {topic}", topic, model="m")
    b = g.think("More", a, name="more", budget=5)
    g.merge(a, b)
    assert g.parameters == [Parameter("topic", "str")]
    assert g.nodes == [
        Node(1, "ask_1", "ASK", {"template_str": "About {topic}", "model": "m"}),
        Node(2, "more", "THINK", {"template_str": "More", "budget": 5}),
        Node(3, "merge_3", "MERGE", {}),
    ]
    assert g.edges == [Edge("topic", 1), Edge(1, 2), Edge(1, 3), Edge(2, 3)]
    valid(g)


def test_a_value_in_a_text_becomes_its_placeholder():
    g = Graph("g")
    topic = g.param("topic")
    a = g.ask(f"About {topic}")
    b = g.ask(f"Shorten {a}")
    g.umem("k", value=b)
    g.inv("c", path=topic, other={"x": [b]}, plain=3)
    assert [node.attributes for node in g.nodes] == [
        {"template_str": "About {topic}"},
        {"template_str": "Shorten {{node_1}}"},
        {"key": "k", "value": "{{node_2}}"},
        {"capability": "c", "arg_other": {"x": ["{{node_2}}"]}, "arg_plain": 3},
    ]
    assert g.edges == [Edge("topic", 4, port="path")]
    valid(g)


def test_gates_orders_and_labels_have_their_keywords():
    g = Graph("g")
    a = g.const_str(True)
    b = g.branch_on_value(a)
    c = g.ask("yes", b.on("true"))
    d = g.ask("no", on=(b, "false"), after=a, order_after=[c])
    e = g.ask("mend", c.on("error"))
    assert a >> e is e
    assert g.edges[1:] == [
        Edge(2, 3, label="true"),
        Edge(1, 4, Dependency.CONTROL),
        Edge(3, 4, Dependency.EFFECT),
        Edge(2, 4, Dependency.CONTROL, label="false"),
        Edge(3, 5, label="error"),
        Edge(1, 5, Dependency.CONTROL),
    ]
    assert d.name == "ask_4"
    valid(g)


def test_reserved_words_take_an_underscore_and_null_may_be_a_value():
    g = Graph("g")
    g.err("bad", class_="invalid", code="mine")
    g.const_str(None)
    g.ask("x", fallback=None)
    g.ask("x", model=None)
    assert [node.attributes for node in g.nodes] == [
        {"message": "bad", "code": "mine", "class": "invalid"},
        {"value": None},
        {"template_str": "x", "fallback": None},
        {"template_str": "x"},
    ]


def test_a_misspelt_keyword_is_refused_with_the_nearest():
    with pytest.raises(GraphError, match="ASK has no attribute `modle`; close: `model`"):
        Graph("g").ask("x", modle="m")
    with pytest.raises(GraphError, match="no operation `AKS`; close: `ASK`"):
        Graph("g").add("AKS")
    with pytest.raises(GraphError, match="'text' is no input of node 1"):
        Graph("g").merge("text")


def test_a_value_has_no_truth_and_no_items_while_the_graph_is_written():
    a = Graph("g").const_str(1)
    with pytest.raises(GraphError, match="no truth value"):
        bool(a)
    with pytest.raises(GraphError, match="use map"):
        list(a)


def test_a_map_runs_its_body_on_what_it_needs_from_around():
    g = Graph("g")
    files, question = g.param("files", "json"), g.param("question")
    style = g.const_str("plain")
    summaries = g.map(files, window=4, on_item_error="skip")
    with summaries as item:
        text = g.inv("read", path=item)
        g.ask(f"{question}: {text} as {style}, number {{index}}")
    with summaries.reduce as results:
        g.ask(f"Join {results} for {{question}}")
    g.print(summaries)
    body, reduce = g.nodes[1].regions["body"], g.nodes[1].regions["reduce"]
    assert {p.name for p in body.parameters} == {"item", "question", "const_str_1", "index"}
    assert body.nodes[1].attributes["template_str"] == "{question}: {{node_3}} as {const_str_1}, number {index}"
    assert {"items", "question"} <= {p.name for p in reduce.parameters}
    assert next(p.type_name for p in body.parameters if p.name == "question") == "str"
    assert [(e.source, e.port) for e in g.edges if e.target == 2] == [
        ("files", None),
        ("question", "question"),
        (1, "const_str_1"),
    ]
    assert warnings(valid(g)) == []


def test_ids_are_unique_across_regions_and_a_graph_that_was_read_goes_on():
    g = Graph("g")
    with g.map(g.param("files", "json")) as item:
        g.ask(f"{item}")
    h = from_json(to_json(g))
    h.ask("more")
    assert [node.id for node in h.nodes] == [1, 3]
    valid(h)


def test_regions_nest_and_capture_through_every_level():
    g = Graph("g")
    topic = g.param("topic")
    with g.map(g.param("rows", "json")) as row, g.map(row) as cell:
        g.ask(f"{cell} of {topic}")
    outer = g.nodes[0].regions["body"]
    inner = outer.nodes[0].regions["body"]
    assert {p.name for p in outer.parameters} == {"item", "topic"}
    assert {p.name for p in inner.parameters} == {"item", "topic"}
    assert [(e.source, e.port) for e in outer.edges] == [("item", None), ("topic", "topic")]
    valid(g)


def test_a_loop_gives_its_body_with_named_inputs_as_parameters():
    g = Graph("g")
    draft = g.ask("draft")
    loop = g.loop(text=draft, carry=["text"], max_iterations=3, while_="len > 100", until="contains done")
    with loop as body:
        body.ask(f"Shorten {{text}} ({loop.iteration})")
    assert g.nodes[1].attributes == {"max_iterations": 3, "while": "len > 100", "until": "contains done", "carry": ["text"]}
    assert [p.name for p in body.parameters] == ["text", "iteration"]
    g.print(loop)
    valid(g)


def test_a_loop_needs_no_input():
    g = Graph("g")
    with g.loop(max_iterations=3, while_="< 3") as body:
        body.inv("count")
    valid(g)


def test_a_switch_takes_regions_by_case():
    g = Graph("g")
    s = g.switch(g.param("kind"), case_labels=["a"])
    with s.case("a") as value:
        g.ask(f"A: {value}")
    with s.case("b"):
        g.yield_(g.const_str("B"))
    with s.default():
        g.const_str("else")
    assert list(g.nodes[0].regions) == ["a", "b", "default"]
    assert g.nodes[0].attributes["case_labels"] == ["a", "b"]
    valid(g)


def test_a_try_has_its_three_regions():
    g = Graph("g")
    topic = g.param("topic")
    t = g.try_()
    with t.try_:
        g.ask(f"{topic}")
    with t.catch as error:
        g.err(None, error, recovery_template="failed on {topic}: {0}")
    with t.finally_:
        g.print("over")
    regions = g.nodes[0].regions
    assert list(regions) == ["try", "catch", "finally"]
    assert regions["catch"].edges == [Edge("error", 3)]
    assert [(e.source, e.port) for e in g.edges] == [("topic", "topic")]
    valid(g)


def test_regions_of_one_graph_open_one_at_a_time_and_close_on_errors():
    g = Graph("g")
    s = g.switch(g.param("kind"))
    with s.case("a"), pytest.raises(GraphError, match="another region of `g` is open"), s.case("b"):
        pass
    with pytest.raises(ZeroDivisionError), s.case("b"):
        g.const_str(1 // 0)
    g.const_str(1)
    assert [node.op for node in g.nodes] == ["SWITCH", "CONST_STR"]


def test_values_of_other_graphs_are_refused():
    g, h = Graph("g"), Graph("h")
    a = h.const_str(1)
    with pytest.raises(GraphError, match="`const_str_1` belongs to another graph, `h`"):
        g.merge(a)
    with g.map(g.param("files", "json")):
        inner = g.const_str(2)
    with pytest.raises(GraphError, match="step `const_str_3` is inside of region `body` of MAP `map_2`"):
        g.merge(inner)


def test_a_label_does_not_cross_into_a_region():
    g = Graph("g")
    b = g.branch_on_value(g.param("x", "json"))
    with g.map(g.param("files", "json")), pytest.raises(GraphError, match="cannot cross into a region"):
        g.ask("x", b.on("true"))


def test_captured_names_do_not_collide():
    g = Graph("g")
    item = g.const_str("outer", name="item")
    with g.map(g.param("files", "json")) as inner:
        g.ask(f"{inner} and {item}")
    assert g.nodes[1].regions["body"].nodes[0].attributes["template_str"] == "{item} and {item_2}"
    valid(g)


def test_a_graph_compares_and_copies_by_what_it_says():
    g = Graph("g")
    g.const_str(1)
    assert g == Graph("g", [Node(1, "const_str_1", "CONST_STR", {"value": 1})])
    twin = copy.deepcopy(g)
    twin.const_str(2)
    assert len(g.nodes) == 1


def test_every_operation_can_be_written():
    g = Graph("g")
    x = g.param("x", "json")
    a = g.const_str(1)
    steps = [
        g.print("p", a),
        g.merge(a, mode="sum"),
        g.wait_all(a),
        g.fence(after=a),
        g.guard(a, condition="not_null"),
        g.exc("result = 1"),
        g.inv("c"),
        g.qmem(key="k"),
        g.umem("k", a),
        g.update_goal("g"),
        g.agent(beliefs={"a": 1}),
        g.ask("a"),
        g.think("t"),
        g.reason("r"),
        g.plan("p"),
        g.reflect(),
        g.verify("c", evidence="e"),
        g.communicate("b", message="m"),
        g.flow_call("f", q=1),
        g.claim("q"),
        g.pause("m"),
        g.resume("c"),
        g.err("e"),
        g.branch_on_value(x),
    ]
    start = g.loop_start(a)
    g.loop_end(g.ask("x", start))
    g.jump(a, label="last")
    g.wait_all(name="last")
    g.return_(steps[0])
    valid(g)
    assert len({node.op for node in g.nodes}) == 34 - 5  # without LOOP, MAP, SWITCH, TRY_CATCH, YIELD
