"""What the flows of an agent may use: what it declares, what it is granted, and what plans get of that."""

import os

import pytest

from apxm import Agent, AgentFlow, RunOptions, Runtime, compile
from apxm.capability.grants import Grants
from apxm.engine.agents import Agents
from apxm.errors import DeniedError, InvalidError
from apxm.graph.contract import from_json
from apxm.llm.scripted import ScriptedModel
from tests.integration.agent_programs import call, dag_of, graph, node, program, use


@pytest.fixture
def runtime():
    with Runtime(model=ScriptedModel(default="yes")) as made:
        yield made


@pytest.fixture
def tools(runtime):
    @runtime.capability(effect="read")
    def search() -> str:
        return "found"

    @runtime.capability(effect="read")
    def fetch() -> str:
        return "fetched"

    return runtime


def test_what_an_agent_declares_is_all_that_any_of_its_flows_may_use(tools):
    declared = node(2, "AGENT", capabilities=["search"])
    assert tools.execute(dag_of(graph(use("search"), declared))).value == "found"
    with pytest.raises(DeniedError, match=r"`fetch` is none of those that the agent declares: `search`; add `fetch`"):
        tools.execute(dag_of(graph(use("fetch"), declared)))
    inside = graph(
        node(1, "MAP", regions={"body": graph(use("fetch"), name="body")}), declared, edges=[("x", 1)], parameters=["x"]
    )
    with pytest.raises(DeniedError, match="`fetch`"):
        tools.execute(dag_of(inside), x=[])
    two = [graph(call(1, "a", "more"), declared), graph(use("fetch"), name="more")]
    with pytest.raises(DeniedError, match="`fetch`"):
        tools.execute(dag_of(program(a=two)))
    elsewhere = [graph(use("fetch")), graph(declared, name="more")]
    with pytest.raises(DeniedError, match="`fetch`"):
        tools.execute(dag_of(program(a=elsewhere)))
    with pytest.raises(DeniedError, match=r"declares: none"):
        tools.execute(dag_of(graph(use("search"), node(2, "AGENT", capabilities=[]))))


def test_what_one_agent_declares_does_not_bind_another(tools):
    both = program(a=[graph(call(1, "b"), node(2, "AGENT", capabilities=["search"]))], b=[graph(use("fetch"))])
    assert tools.execute(dag_of(both)).value == "fetched"


def test_nodes_add_up_and_the_metadata_bounds_them(tools):
    flows = [
        graph(use("search"), call(3, "a", "more"), node(2, "AGENT", capabilities=["search"])),
        graph(use("fetch"), node(2, "AGENT", capabilities=["fetch"]), name="more"),
    ]
    assert tools.execute(dag_of(program(a=flows))).outputs == {"n1": "found", "n3": "fetched"}
    with pytest.raises(DeniedError, match=r"`fetch` is none of those .*: `search`"):
        tools.execute(dag_of(program(a={"flows": flows, "capabilities": ["search", "read"]})))


def test_a_declaration_grants_nothing(runtime, tmp_path):
    flow = dag_of(graph(use("list", patterns=["*"]), node(2, "AGENT", capabilities=["list"])))
    with pytest.raises(DeniedError, match="none is granted"):
        runtime.execute(flow)
    assert runtime.execute(flow, run=RunOptions(grants=[f"list={tmp_path}"])).value == []


def listing(**flow):
    return graph(node(1, "INV", capability="list", params_json={"patterns": ["*.txt"]}), **flow)


def test_a_grant_to_one_agent_is_no_grant_to_another(runtime, tmp_path):
    (tmp_path / "a.txt").write_text("x", encoding="utf-8")
    mine, theirs = dag_of(program(a=[listing()])), dag_of(program(b=[listing()]))
    with pytest.raises(DeniedError, match="none is granted"):
        runtime.execute(mine)
    assert runtime.grant("a", [f"list={tmp_path}"]).names == {"list"}
    result = runtime.execute(mine)
    assert [entry for entry in result.value if "a.txt" in str(entry)]
    assert result.machine("a").capabilities == ("list",)
    with pytest.raises(DeniedError, match="none is granted"):
        runtime.execute(theirs)
    assert runtime.revoke("a")
    assert not runtime.revoke("a")
    with pytest.raises(DeniedError, match="none is granted"):
        runtime.execute(mine)


def test_two_agents_of_one_program_have_their_own_grants(runtime, tmp_path):
    runtime.grant("b", [f"list={tmp_path}"])
    with pytest.raises(DeniedError, match="none is granted"):
        runtime.execute(dag_of(program(a=[listing(), graph(call(1, "b"), name="more")], b=[listing()])))
    result = runtime.execute(dag_of(program(a=[graph(call(1, "b"))], b=[listing()])))
    assert (result.machine("a").capabilities, result.machine("b").capabilities) == ((), ("list",))
    assert runtime.granted().keys() == {"b"}


def test_grants_of_the_run_and_of_the_agent_add_up_and_are_bounded_by_what_it_declares(runtime, tmp_path):
    first, second = tmp_path / "one", tmp_path / "two"
    for folder in (first, second):
        folder.mkdir()
        (folder / f"{folder.name}.txt").write_text("x", encoding="utf-8")
    runtime.grant("a", [f"list={first}"])
    runtime.grant("a", ["read"])
    options = RunOptions(grants=[f"list={second}", "write"])
    result = runtime.execute(dag_of(program(a=[listing()])), run=options)
    assert "one.txt" in str(result.value)
    assert "two.txt" in str(result.value)
    assert result.machine("a").capabilities == ("list", "read", "write")
    bounded = runtime.execute(dag_of(program(a={"flows": [listing()], "capabilities": ["list", "search"]})), run=options)
    assert bounded.machine("a").capabilities == ("list",)


def test_a_grant_that_is_none_is_refused(runtime):
    with pytest.raises(InvalidError, match=r"the grants of agent `a` are 'read', expected a list"):
        runtime.grant("a", "read")
    with pytest.raises(InvalidError, match="is no grant"):
        runtime.grant("a", ["=docs"])


def test_a_plan_gets_what_its_agent_may_use_and_is_allowed_and_what_it_declares_itself_counts_for_nothing(runtime):
    artifact = compile(program(a={"flows": [graph(node(1, "FENCE"))], "capabilities": ["search", "read"]}))
    plan = compile(from_json(graph(node(1, "AGENT", capabilities=["write"]), name="plan"))).into_dag().of_agent("a")
    plan.planned, plan.siblings = True, artifact.into_dag().siblings
    agents = Agents(runtime.flow_registry().snapshot(), Grants.parse(["read", "write"]), {"a": Grants.parse(["search"])})
    assert agents.terms(plan).grants.names == {"search", "read"}
    bound = agents.planned(agents.terms(plan).grants.only(["search", "write"]))
    assert bound.terms(plan).grants.names == {"search"}
    assert not bound.terms(plan).grants.admits("write")


def test_a_flow_that_a_plan_calls_brings_no_grants_of_its_agent(runtime):
    artifact = compile(program(a=[graph(call(1, "b"))], b={"flows": [graph(node(1, "FENCE"))], "capabilities": ["read"]}))
    plan = compile(from_json(graph(call(1, "b"), name="plan"))).into_dag().of_agent("a")
    plan.planned, plan.siblings = True, artifact.into_dag().siblings
    granted = {"b": Grants.parse(["read=/", "write"])}
    agents = Agents(runtime.flow_registry().snapshot(), Grants.parse(["read=docs", "search"]), granted)
    theirs = artifact.flows()["b", "main"]
    assert agents.terms(theirs).grants.roots("read") == (os.path.abspath("docs"), "/")
    called = agents.planned(agents.terms(plan).grants.only(["read", "search", "write"])).terms(theirs).grants
    assert (called.names, called.roots("read")) == ({"read"}, (os.path.abspath("docs"),))


def test_a_flow_that_is_filed_under_another_agent_runs_as_that_agent(tools):
    body = graph(node(1, "UPDATE_GOAL", goal_id="g"), name="body")
    dag = compile(from_json(graph(node(1, "MAP", regions={"body": body}), edges=[("x", 1)], parameters=["x"], name="work")))
    flow = AgentFlow("work", dag.into_dag())
    for name in ("one", "two"):
        tools.flow_registry().register_agent(Agent(name, {"work": flow}, {"context": f"You are {name}."}))
    result = tools.execute(dag_of(graph(call(1, "one", "work", x=[1]), call(2, "two", "work", x=[]))))
    assert [goal.id for goal in result.machine("one").goals()] == ["g"]
    assert result.machine("two").goals() == []
    assert result.machine("two").context == "You are two."
    denied = Agent(
        "one", {"fetch": AgentFlow("fetch", compile(from_json(graph(use("fetch"), name="fetch"))).into_dag())}, {"tools": []}
    )
    tools.flow_registry().register_agent(denied)
    with pytest.raises(DeniedError, match="`fetch` is none of those"):
        tools.execute(dag_of(graph(call(1, "one", "fetch"))))
