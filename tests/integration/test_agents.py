"""Agents in whole runs: what is declared, whose machine it is, and how agents work side by side."""

import asyncio
import threading

import pytest

from apxm import Agent, RunOptions, Runtime, RuntimeConfig, compile
from apxm.errors import ApxmError, BindError, InvalidError
from apxm.graph.contract import from_json
from apxm.llm.scripted import ScriptedModel
from apxm.observability.events import NodeEnded, NodeStarted
from tests.integration.agent_programs import call, dag_of, graph, node, program


@pytest.fixture
def runtime():
    with Runtime(model=ScriptedModel(default="yes")) as made:
        yield made


# ---- AGENT comes first -----------------------------------------------------------------------------------------------
BODY = graph(node(1, "QMEM", key="style"), name="body")
ROOTS = graph(
    node(1, "CONST_STR", value="in a word"),
    node(2, "ASK", prompt="Say yes {0}"),
    node(3, "QMEM", "root", key="style"),
    node(4, "UMEM", key="a", value=1),
    node(5, "MAP", "each", regions={"body": BODY}),
    node(6, "CONST_STR", value=[1, 2]),
    node(7, "WAIT_ALL"),
    node(8, "UPDATE_GOAL", goal_id="publish", action="complete"),
    node(9, "MERGE", strategy="any"),
    node(10, "FENCE"),
    node(11, "TRY_CATCH", regions={"try": graph(node(1, "QMEM", key="style"), name="try")}),
    node(99, "AGENT", "self", memory=[{"name": "style", "value": "dry"}], goals=["publish"]),
    edges=[(1, 2), (6, 5), ("x", 7), (3, 9), (4, 9)],
    parameters=["x"],
)


@pytest.mark.parametrize("level", [0, 1])
def test_an_agent_node_takes_effect_before_anything_else_of_its_flow(runtime, level):
    result = runtime.execute(dag_of(ROOTS, level), x=1, run=RunOptions(trace=True))
    seen = [(type(event), event.name) for event in result.events() if isinstance(event, (NodeStarted, NodeEnded))]
    assert seen[:2] == [(NodeStarted, "self"), (NodeEnded, "self")]
    assert len(seen) > 15
    assert "self" not in result.outputs
    assert result.outputs["each"] == ["dry", "dry"]
    assert (result.outputs["n8"], result.outputs["n11"]) == ("completed", "dry")


def test_a_return_of_a_parameter_does_not_end_the_flow_before_its_agent_node(runtime):
    flow = graph(node(1, "RETURN"), node(2, "AGENT", goals=["publish"]), edges=[("x", 1)], parameters=["x"])
    result = runtime.execute(dag_of(flow), x=3)
    assert result.value == 3
    assert result.machine("default").goal("publish") is not None
    again = dag_of(flow).into_dag().to_graph()
    assert runtime.execute(again, x=4).value == 4


def test_an_agent_node_comes_before_a_loop_that_is_written_as_two_nodes(runtime):
    flow = graph(
        node(1, "LOOP_START", max_iterations=2),
        node(2, "QMEM", key="style"),
        node(3, "LOOP_END"),
        node(4, "AGENT", memory=[{"name": "style", "value": "dry"}]),
        edges=[("x", 1), (1, 2, "Control"), (2, 3)],
        parameters=["x"],
    )
    assert runtime.execute(dag_of(flow), x=3).value == "dry"


@pytest.mark.parametrize("level", [0, 1])
def test_a_path_leads_from_the_agent_node_to_every_other_node_but_a_return(level):
    dag = dag_of(ROOTS, level).into_dag()
    reached = {dag.names.index("self")}
    for slot in range(len(dag.parameters), len(dag)):
        if any(edge.source in reached for edge in dag.in_edges(slot)):
            reached.add(slot)
    assert reached == set(range(len(dag.parameters), len(dag)))


def test_an_agent_node_alone_in_its_flow_gives_null(runtime):
    assert runtime.execute(dag_of(graph(node(1, "AGENT")))).outputs == {"n1": None}


def test_an_edge_into_an_agent_node_is_refused():
    with pytest.raises(ApxmError, match=r"graph.placement.*an edge into AGENT `n2`.*before anything else"):
        compile(from_json(graph(node(1, "UMEM", key="k", value=1), node(2, "AGENT"), edges=[(1, 2, "Effect")])))


def test_what_is_declared_takes_effect_once_however_often_the_flow_is_called(runtime):
    flow = graph(
        node(1, "AGENT", goals=["publish"], memory=[{"name": "k", "value": 1}], beliefs={"tone": "plain"}),
        node(2, "QMEM", "read", key="k"),
        node(3, "UMEM", key="k", value=2, belief_key="tone"),
        node(4, "UPDATE_GOAL", "drop", goal_id="publish", action="remove"),
        edges=[(2, 3, "Control"), (2, 4, "Control")],
        name="once",
    )
    main = graph(call(1, "a", "once"), call(2, "a", "once"), edges=[(1, 2, "Control")])
    result = runtime.execute(dag_of(program(a=[main, flow])))
    assert result.outputs["n2"] == {"n3": 2, "drop": "not_found"}
    assert result.machine("a").belief("tone").value == 2
    assert [one.label for one in result.machine("a").transitions()] == [
        "AGENT `n1`",
        "AGENT `n1`",
        "UMEM `n3`",
        "UPDATE_GOAL `drop`",
    ]


SAID = {
    "beliefs": {"tone": "plain"},
    "goals": [{"id": "g", "description": "Go", "priority": 2}],
    "memories": [{"name": "style", "value": "dry"}],
    "context": "You edit.",
}


def test_the_metadata_of_an_agent_means_what_an_agent_node_means(runtime):
    reading = [node(2, "QMEM", key="style")]
    by_node = runtime.execute(dag_of(program(a=[graph(node(1, "AGENT", **SAID), *reading)])))
    by_metadata = runtime.execute(dag_of(program(a={"flows": [graph(*reading)], **SAID})))
    for result in (by_node, by_metadata):
        machine = result.machine("a")
        assert result.value == "dry"
        assert machine.context == "You edit."
        assert machine.view() == 'goal "g" (priority 2): "Go"\nbelief "tone" = "plain" (from program)'


def test_a_declaration_that_makes_no_sense_is_refused_before_anything_runs(runtime):
    broken = graph(node(1, "AGENT", goals=[{"priority": 1}]))
    with pytest.raises(BindError, match=r"AGENT `n1` \(node 1\) of flow `main`|AGENT of flow `main`: the goal"):
        runtime.execute(dag_of(broken))
    with pytest.raises(BindError, match=r"agent `a`: its goals are a str"):
        runtime.execute(dag_of(program(a={"flows": [graph(node(1, "FENCE"))], "goals": "publish"})))
    with pytest.raises(BindError, match=r"agent `a`: its goals are a str"):
        Agent("a", {}, {"goals": "publish"})


def test_a_memory_that_is_declared_with_a_tier_is_kept_there(tmp_path):
    flow = [node(1, "AGENT", memory={"facts": "ltm"}), node(2, "UMEM", key="facts", value=1)]
    named = node(3, "UMEM", key="facts", value=2, memory_tier="stm")
    other = node(4, "UMEM", key="fact", value=3)
    with Runtime(RuntimeConfig(state_dir=str(tmp_path / "state"))) as runtime:
        assert runtime.execute(dag_of(graph(*flow, named, other))).outputs == {"n2": 1, "n3": 2, "n4": 3}
        assert [(one.namespace, one.key, one.value) for one in runtime.memory.ltm.list()] == [("default", "facts", 1)]


# ---- beliefs of operations -------------------------------------------------------------------------------------------
def test_a_belief_says_where_its_value_came_from(runtime):
    @runtime.capability(effect="read")
    def look() -> str:
        return "seen"

    flow = graph(
        node(1, "INV", capability="look"),
        node(2, "UMEM", key="a", belief_key="tool"),
        node(3, "UMEM", key="b", value=7, belief_key="own"),
        node(4, "UMEM", key="c", value="{x}!", belief_key="filled"),
        node(5, "ASK", prompt="Hi"),
        node(6, "UMEM", key="d", value={"a": "{0}", "b": "{1}"}, belief_key="both"),
        node(7, "CONST_STR", "text", value="t"),
        node(8, "UMEM", key="e", belief_key="constant"),
        node(9, "QMEM", key="a", staging_id="query"),
        edges=[(1, 2), (1, 6), (5, 6), (7, 8), (2, 9, "Control")],
        parameters=["x"],
    )
    beliefs = runtime.execute(dag_of(flow, 0), x="so").machine("default").beliefs()
    assert {key: (one.value, one.source) for key, one in beliefs.items()} == {
        "tool": ("seen", "tool:look"),
        "own": (7, "program"),
        "filled": ("so!", "user"),
        "both": ({"a": "seen", "b": "yes"}, "tool:look, llm:scripted"),
        "constant": ("t", "node `text`"),
        "_stage:query": ("seen", "memory:stm, tool:look"),
    }


def test_what_a_model_was_told_of_beliefs_shows_in_the_labels_of_its_answer(runtime):
    @runtime.capability(effect="read")
    def look() -> str:
        return "seen"

    flow = graph(
        node(1, "INV", capability="look"),
        node(2, "UMEM", key="k", value="{x}{0}", belief_key="heard"),
        node(3, "AGENT", beliefs={"tone": "plain"}),
        node(4, "ASK", "answer", prompt="Hi", context="aam"),
        edges=[(1, 2), (2, 4, "Control")],
        parameters=["x"],
    )
    flow["edges"].append({"from": "x", "to": 2, "port": "x"})
    result = runtime.execute(dag_of(flow), x="so ")
    assert result.machine("default").belief("heard").source == "tool:look, user"
    assert result.labels("answer") >= {"user", "tool:look", "llm:scripted"}
    assert not any("program" in label or "," in label for label in result.labels("answer"))


def test_a_conclusion_comes_from_the_model_from_what_it_was_given_and_from_what_it_was_told(runtime):
    @runtime.capability(effect="read")
    def look() -> str:
        return "seen"

    runtime.models.register("wise", ScriptedModel(default='{"result": 1, "belief_updates": {"k": 2}}'))
    flow = graph(
        node(1, "INV", capability="look"),
        node(2, "UMEM", key="k", belief_key="heard"),
        node(3, "REASON", "told", model="wise", prompt="Why?", context="aam"),
        node(4, "REASON", "given", model="wise", prompt="Why {x}?"),
        edges=[(1, 2), (2, 3, "Control"), (3, 4, "Control")],
        parameters=["x"],
    )
    machine = runtime.execute(dag_of(flow), x="so").machine("default")
    assert machine.belief("k").source == "llm:wise, user"
    set_by = [(one.label, one.after.source) for one in machine.transitions() if one.key == "k"]
    assert set_by == [("REASON `told`", "llm:wise, tool:look"), ("REASON `given`", "llm:wise, user")]


# ---- whose machine ---------------------------------------------------------------------------------------------------
def test_the_flows_of_an_agent_share_its_machine_and_no_other_agent_sees_it(runtime):
    one = graph(
        node(1, "UPDATE_GOAL", goal_id="mine", priority=3),
        call(2, "a", "more"),
        call(3, "b"),
        edges=[(1, 2, "Control"), (1, 3, "Control")],
    )
    more = graph(node(1, "UPDATE_GOAL", goal_id="mine", action="complete"), name="more")
    other = graph(node(1, "UPDATE_GOAL", goal_id="mine", action="complete"))
    result = runtime.execute(dag_of(program(a=[one, more], b=[other])))
    assert result.outputs == {"n2": "completed", "n3": "not_found"}
    assert result.machine("a").goal("mine").status == "completed"
    assert result.machine("b").goals() == []


def test_an_agent_of_the_program_goes_before_one_that_is_registered_under_its_name(runtime):
    register(runtime, program(a=[graph(node(1, "UPDATE_GOAL", goal_id="own"), name="more")]), goals=["theirs"])
    register(runtime, program(b=[graph(call(1, "a", "more"))]))
    result = runtime.execute(dag_of(program(a={"flows": [graph(call(1, "b"))], "goals": ["ours"]})))
    assert [goal.id for goal in result.machine("a").goals()] == ["ours", "own"]


def test_two_runs_at_once_have_machines_of_their_own(runtime):
    meet = threading.Barrier(2)

    @runtime.capability(effect="read", run="thread")
    def together() -> bool:
        meet.wait(10)
        return True

    flow = graph(
        node(1, "UMEM", key="k", belief_key="mine"),
        node(2, "INV", capability="together"),
        edges=[("x", 1), (1, 2, "Control")],
        parameters=["x"],
    )
    runs = [runtime.start(dag_of(flow), x=x) for x in (1, 2)]
    assert [run.result().machine("default").belief("mine").value for run in runs] == [1, 2]


COUNTING = graph(
    node(1, "AGENT", goals=["count"], beliefs={"mood": "new"}),
    node(2, "UMEM", key="k", belief_key="last"),
    edges=[("x", 2)],
    parameters=["x"],
)


def test_a_machine_is_carried_from_run_to_run(runtime):
    first = runtime.execute(dag_of(COUNTING), x=1)
    held = first.machines
    held["default"]["beliefs"]["mood"]["value"] = "old"
    held["default"]["goals"]["count"]["status"] = "completed"
    held["elsewhere"] = {"agent": "elsewhere", "beliefs": {}, "goals": {}}
    second = runtime.execute(dag_of(COUNTING), x=2, run=RunOptions(machines=held))
    machine = second.machine("default")
    assert {key: one.value for key, one in machine.beliefs().items()} == {"mood": "old", "last": 2}
    assert machine.goal("count").status == "completed"
    assert second.machines.keys() == {"default", "elsewhere"}
    assert runtime.execute(dag_of(COUNTING), x=3).machine("default").belief("mood").value == "new"


def test_a_checkpoint_that_is_none_is_refused_before_anything_runs(runtime):
    ran = []

    @runtime.capability(effect="read")
    def look() -> int:
        return len(ran)

    flow = dag_of(graph(node(1, "INV", capability="look")))
    with pytest.raises(InvalidError, match=r"no checkpoint of the machine of agent `a`"):
        runtime.execute(flow, run=RunOptions(machines={"a": {"beliefs": {}}}))
    assert ran == []
    assert runtime.execute(flow).value == 0


def test_a_run_that_uses_no_machine_makes_none(runtime):
    result = runtime.execute(dag_of(graph(node(1, "CONST_STR", value=1))))
    assert result.machines == {}
    assert result.machine("default").checkpoint() == {"agent": "default", "beliefs": {}, "goals": {}}
    with pytest.raises(InvalidError, match=r"agent `defualt` had no part in this run; close: `default`"):
        result.machine("defualt")


# ---- agents side by side ---------------------------------------------------------------------------------------------
def test_waiting_calls_of_two_agents_are_in_flight_at_once(runtime):
    meeting = asyncio.Barrier(2)

    @runtime.capability(effect="read")
    async def meet() -> bool:
        async with asyncio.timeout(10):
            await meeting.wait()
        return True

    waiting = graph(node(1, "INV", capability="meet"), node(2, "INV", capability="meet"), edges=[(1, 2, "Control")])
    both = program(lead=[graph(call(1, "a"), call(2, "b"))], a=[waiting], b=[waiting])
    result = runtime.execute(dag_of(both))
    assert result.outputs == {"n1": True, "n2": True}
    assert result.stats.parallelism_max == 2


def register(runtime, source, **metadata):
    agent = Agent.from_artifact(compile(source))
    runtime.flow_registry().register_agent(Agent(agent.name, agent.flows, {**agent.metadata, **metadata}))


def test_a_program_of_several_agents_is_registered_whole_and_called_from_elsewhere(runtime):
    made = program(
        editor=[graph(call(1, "critic"), call(2, "editor", "own")), graph(node(1, "CONST_STR", value="own"), name="own")],
        critic=[graph(node(1, "CONST_STR", value="fine"))],
    )
    for agent in Agent.all_from_artifact(compile(made)):
        runtime.flow_registry().register_agent(agent)
    assert runtime.flow_registry().list_flows() == [("critic", "main"), ("editor", "main"), ("editor", "own")]
    result = runtime.execute(dag_of(graph(call(1, "editor"))))
    assert result.value == {"n1": "fine", "n2": "own"}


def test_agents_of_two_programs_that_call_each_other_without_end_meet_the_bound(runtime):
    register(runtime, program(ping=[graph(call(1, "pong"))]))
    register(runtime, program(pong=[graph(call(1, "ping"))]))
    with pytest.raises(ApxmError, match="100") as raised:
        runtime.execute(dag_of(graph(call(1, "ping"))))
    assert raised.value.code == "limit"


def test_an_agent_that_is_replaced_while_a_run_goes_on_stays_what_it_was_for_that_run(runtime):
    entered, go_on = threading.Event(), threading.Event()

    @runtime.capability(effect="read", run="thread")
    def pause() -> bool:
        entered.set()
        return go_on.wait(10)

    def version(number):
        return program(worker=[graph(node(1, "UPDATE_GOAL", goal_id=f"goal {number}", action="complete"))])

    register(runtime, version(1), goals=["goal 1"])
    main = dag_of(graph(node(1, "INV", capability="pause"), call(2, "worker"), edges=[(1, 2, "Control")]))
    run = runtime.start(main)
    assert entered.wait(10)
    register(runtime, version(2), goals=["goal 2"])
    go_on.set()
    assert run.result().value == "completed"
    assert [goal.id for goal in run.result().machine("worker").goals()] == ["goal 1"]
    later = runtime.execute(main)
    assert [goal.id for goal in later.machine("worker").goals()] == ["goal 2"]


def test_an_agent_that_is_removed_while_a_run_goes_on_is_gone_for_the_next_one_only(runtime):
    entered, go_on = threading.Event(), threading.Event()

    @runtime.capability(effect="read", run="thread")
    def pause() -> bool:
        entered.set()
        return go_on.wait(10)

    register(runtime, program(worker=[graph(node(1, "CONST_STR", value="done"))]))
    main = dag_of(graph(node(1, "INV", capability="pause"), call(2, "worker"), edges=[(1, 2, "Control")]))
    run = runtime.start(main)
    assert entered.wait(10)
    runtime.flow_registry().remove_agent("worker")
    go_on.set()
    assert run.result().value == "done"
    with pytest.raises(BindError, match="no agent `worker` is registered"):
        runtime.execute(main)


def test_a_message_finds_who_was_registered_when_its_run_began(runtime):
    entered, go_on = threading.Event(), threading.Event()

    @runtime.capability(effect="read", run="thread")
    def recipient() -> str:
        entered.set()
        go_on.wait(10)
        return "worker"

    def version(number):
        flow = graph(node(1, "QMEM", key="style"), node(2, "RETURN"), edges=[(1, 2)], parameters=["message"])
        return {"source": program(worker=[flow]), "memories": [{"name": "style", "value": number}], "goals": [f"goal {number}"]}

    register(runtime, **version(1))
    tell = node(2, "COMMUNICATE", recipient="{0}", message="hello")
    main = dag_of(graph(node(1, "INV", capability="recipient"), tell, edges=[(1, 2)]))
    run = runtime.start(main)
    assert entered.wait(10)
    register(runtime, **version(2))
    go_on.set()
    assert run.result().value == 1
    assert [goal.id for goal in run.result().machine("worker").goals()] == ["goal 1"]
    assert runtime.execute(main).value == 2


@pytest.mark.parametrize(
    ("agent", "flow", "message"),
    [
        ("workr", "main", r"no agent `workr` is registered; close: `worker`"),
        ("worker", "mian", r"agent `worker` has no flow `mian`; close: `main`"),
    ],
)
def test_a_call_of_what_is_not_there_names_the_nearest(runtime, agent, flow, message):
    register(runtime, program(worker=[graph(node(1, "FENCE"))]))
    with pytest.raises(BindError, match=message):
        runtime.execute(dag_of(graph(call(1, agent, flow))))


def test_a_call_of_what_is_not_there_names_the_node_and_what_the_program_has(runtime):
    for agent, flow, message, hint in (
        ("nobody", "main", "no agent `nobody` is registered", "there are: `default`"),
        ("default", "mian", "agent `default` has no flow `mian`", "close: `main`"),
    ):
        with pytest.raises(BindError) as refused:
            runtime.execute(dag_of(graph(call(1, agent, flow))))
        assert refused.value.message == f"FLOW_CALL `n1` (node 1) of flow `main`: {message}"
        assert refused.value.hint == hint
