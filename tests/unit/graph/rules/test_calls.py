import pytest

from apxm.graph.contract import from_json
from apxm.graph.validate import validate_json, warnings


def call(attributes, edges=(), nodes=(), parameters=(), takes=("topic", "depth"), at=9):
    """A program of one agent: `main` calls its sibling `sub`, which takes `takes`."""
    main = {
        "name": "main",
        "nodes": [*nodes, {"id": at, "name": "call", "op": "FLOW_CALL", "attributes": {"flow_name": "sub", **attributes}}],
        "edges": list(edges),
        "parameters": [{"name": name, "type_name": "json"} for name in parameters],
    }
    sub = {
        "name": "sub",
        "nodes": [{"id": 1, "name": "all", "op": "WAIT_ALL"}],
        "edges": [{"from": name, "to": 1} for name in takes],
        "parameters": [{"name": name, "type_name": "json"} for name in takes],
    }
    return {"agents": [{"name": "me", "flows": [main, sub]}]}


def const(id, value=1):
    return {"id": id, "name": f"c{id}", "op": "CONST_STR", "attributes": {"value": value}}


def data(source, **more):
    return {"from": source, "to": 9, **more}


BOTH = {"topic": "t", "depth": 1}
TWO = (const(1), const(2))

FITS = {
    "a map": call({"args": BOTH}),
    "a list": call({"args": ["t", 1]}),
    "its json text": call({"args": '{"topic": "t", "depth": 1}'}),
    "ports": call({}, [data(1, port="depth"), data(2, port="topic")], TWO),
    "inputs in order": call({}, [data(1), data(2)], TWO),
    "a port over args": call({"args": BOTH}, [data(1, port="depth")], TWO[:1]),
    "what args leave free": call({"args": {"topic": "t"}}, [data(1)], TWO[:1]),
    "one placeholder for all of them": call({"args": "{0}"}, [data(1)], TWO[:1]),
    "an input that only a text uses": call({"args": {"topic": "{0}", "depth": 1}}, [data(1)], TWO[:1]),
    "a port that only a text uses": call({"args": {"topic": "{x}", "depth": 1}}, [data(1, port="x")], TWO[:1]),
    "a node that only a text uses": call({"args": {"topic": "{{node_1}}", "depth": 1}}, [data(1)], TWO[:1]),
    "a node and a free input": call({"args": {"topic": "{{node_1}}"}}, [data(1), data(2)], TWO),
    "a node by its port": call({"args": {"topic": "{{node_1}}", "depth": 1}}, [data(1, port="x")], TWO[:1]),
    "a node and its position": call({"args": {"topic": "{{node_1}} {0}"}}, [data(1), data(2)], TWO),
    "a parameter of the caller": call({"args": {"topic": "{topic}", "depth": 1}}, parameters=["topic"]),
    "a parameter of the caller that a text names": call({"args": {"depth": "{topic}"}}, parameters=["topic"]),
    "parameters of the caller by position": call({"args": {"topic": "{0}", "depth": "{1}"}}, parameters=["a", "b"]),
    "nothing for nothing": call({}, takes=()),
}

BROKEN = {
    "unknown flow": (call({"flow_name": "sup"}), "graph.unknown_flow", ".attributes.flow_name", "close: `sub`"),
    "unknown argument": (call({"args": {**BOTH, "dept": 2}}), "graph.argument", ".attributes.args.dept", "close: `depth`"),
    "too many arguments": (call({"args": [1, 2, 3]}), "graph.argument", ".attributes.args", "takes `topic`, `depth`"),
    "missing argument": (call({"args": {"topic": 1}}), "graph.argument", "", "nothing gives `depth`"),
    "an argument for nothing": (call({"args": {"x": 1}}, takes=()), "graph.argument", ".attributes.args.x", "no parameters"),
    "an input used by a text is no argument": (
        call({"args": {"topic": "{0}"}}, [data(1)], TWO[:1]),
        "graph.argument",
        "",
        "nothing gives `depth`",
    ),
    "a node used by a text is no argument": (
        call({"args": {"topic": "{{node_1}}"}}, [data(1)], TWO[:1]),
        "graph.argument",
        "",
        "nothing gives `depth`",
    ),
    "too many inputs": (
        call({"args": {"topic": 1}}, [data(1), data(2)], TWO),
        "graph.argument",
        "",
        "2 inputs without a port for 1 free parameters",
    ),
}


@pytest.mark.parametrize("name", FITS)
def test_arguments_that_fit_are_accepted(name):
    assert validate_json(FITS[name]) == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_call_that_does_not_fit_is_reported_once_with_place_and_expectation(name):
    program, code, below, said = BROKEN[name]
    place = len(program["agents"][0]["flows"][0]["nodes"]) - 1
    problems = validate_json(program)
    assert [(p.code, p.path) for p in problems] == [(code, f"agents[0].flows[0].nodes[{place}]{below}")], problems
    assert said in str(problems[0])


def test_a_port_that_is_no_parameter_is_reported_at_its_edge():
    (problem,) = validate_json(call({"args": BOTH}, [data(1, port="topc")], TWO[:1]))
    assert (problem.code, problem.path, problem.nearest) == ("graph.argument", "agents[0].flows[0].edges[0].port", "topic")


def test_args_of_the_wrong_type_are_reported_only_as_that():
    assert {problem.code for problem in validate_json(call({"args": 5}))} == {"graph.attribute_type"}


def test_a_call_within_a_region_is_checked_too():
    program = call({"args": {"topic": 1}})
    inner = program["agents"][0]["flows"][0]["nodes"][0]
    loop = {"id": 1, "name": "l", "op": "LOOP", "attributes": {"max_iterations": 1}}
    loop["regions"] = {"body": {"nodes": [inner], "edges": []}}
    program["agents"][0]["flows"][0]["nodes"] = [loop]
    (problem,) = validate_json(program)
    assert (problem.code, problem.path) == ("graph.argument", "agents[0].flows[0].nodes[0].regions.body.nodes[0]")


def test_a_flow_of_another_agent_of_the_program_is_checked_by_that_agent():
    program = call({"agent_name": "you", "args": BOTH})
    program["agents"].append({"name": "you", "flows": [{**program["agents"][0]["flows"][1], "name": "sab"}]})
    (problem,) = validate_json(program)
    assert (problem.code, problem.nearest) == ("graph.unknown_flow", "sab")
    program["agents"][1]["flows"][0]["name"] = "sub"
    assert validate_json(program) == []


def test_an_agent_that_is_not_in_the_program_is_allowed_with_a_warning():
    program = call({"agent_name": "meh", "flow_name": "whatever", "args": {"x": 1}})
    assert validate_json(program) == []
    (warning,) = warnings(from_json(program))
    assert (warning.code, warning.nearest) == ("graph.unknown_flow", "me")
    assert warning.path == "agents[0].flows[0].nodes[0].attributes.agent_name"


def test_a_graph_that_is_no_program_may_call_what_will_be_registered():
    graph = call({"flow_name": "elsewhere"})["agents"][0]["flows"][0]
    assert validate_json(graph) == []
    assert warnings(from_json(graph)) == []
