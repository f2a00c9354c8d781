"""Inner plans: which ones run, what they may do, where they end."""

from __future__ import annotations

import asyncio
import json

import pytest

from apxm.aam.agent import Agent
from apxm.budget import Limits
from apxm.compiler.compile import compile
from apxm.config import SchedulerConfig
from apxm.errors import FailureClass, InvalidError, PlanError
from apxm.executor.plan_text import ALLOWED, BYTES_MAX
from apxm.graph.ops import OPERATIONS
from apxm.llm.scripted import Rule
from apxm.testing.sketch import sketch
from tests.unit.executor.planners import VALUE, answer, planning, run

SAY = sketch({1: ("CONST_STR", {"value": "hello"})})
LOOK = sketch({1: ("INV", {"capability": "look", "arg_text": "there"})})


TRUST = ("llm:*",)


def constant(value):
    return sketch({1: ("CONST_STR", {"value": value})})


def refused(inner, graph=None, **more):
    """The problems of a plan that is refused twice; nothing of it ran."""
    ran = run(answer(inner), graph, **more)
    assert isinstance(ran.error, PlanError), ran.error
    assert (ran.error.code, ran.error.node, ran.asked) == ("plan", "n9", ["n9", "n9"])
    assert (ran.result.splices, ran.calls, ran.ledger.spent()["splices"]) == ((), [], 0)
    return " / ".join(str(problem) for problem in ran.error.problems)


# ---- a plan runs -----------------------------------------------------------------------------------------------------
def test_the_outputs_of_a_plan_are_those_of_its_node():
    assert run(answer(SAY)).value == "hello"
    assert run(answer(sketch({1: ("CONST_STR", {"value": 1}), 2: ("CONST_STR", {"value": 2})}))).value == {"n1": 1, "n2": 2}
    assert run(answer(sketch({1: ("CONST_STR", {"value": 1}), 2: "RETURN", 3: ("CONST_STR", {"value": 3})}, "1->2"))).value == 1


def test_without_bound_outputs_the_plan_runs_and_the_value_is_the_answer():
    ran = run(answer(LOOK), planning({"bind_inner_plan_outputs": False}))
    assert (ran.value, ran.calls) == (VALUE, [("look", "there")])


@pytest.mark.parametrize(
    "inner",
    [
        json.dumps(SAY),
        f"Here it is:\n```json\n{json.dumps(SAY)}\n```",
        {"graph": json.dumps(SAY)},
        {"graph": SAY},
        {"nodes": SAY["nodes"]},
        {"steps": [{"name": "n1", "op": "CONST_STR", "attributes": {"value": "hello"}}]},
    ],
)
def test_a_plan_may_be_written_in_several_forms(inner):
    assert run(answer(inner)).value == "hello"


def test_steps_follow_each_other_and_take_what_they_name_no_step_by_as_parameters():
    steps = [
        {"name": "ask", "prompt": "About {0}", "after": ["topic"]},
        {"name": "send", "op": "INV", "attributes": {"capability": "post"}, "after": "ask"},
    ]
    graph = planning({}, "topic->9:topic", parameters=["topic"])
    ran = run(answer({"steps": steps}), graph, rules=(Rule("nice", node="ask"),), parameters={"topic": "tea"}, trust=TRUST)
    assert (ran.error, ran.value, ran.model.calls[-1].text) == (None, "posted nice", "About tea")


def test_no_plan_is_no_splice():
    for none in (None, ""):
        ran = run(answer(none))
        assert (ran.value, ran.result.splices) == (VALUE, ())


def test_a_node_without_inner_plans_is_offered_none_and_takes_none():
    ran = run([answer(SAY), answer()], planning({"enable_inner_plan": False}))
    assert (ran.value, ran.asked) == (VALUE, ["n9", "n9"])
    assert "inner_plan" not in ran.model.calls[0].prompt.messages[0].content
    assert run(answer(SAY), planning({"enable_inner_plan": False, "inner_plan_supported": True})).error.code == "model"


def test_inner_plan_supported_enables_when_nothing_else_is_said():
    graph = planning({"inner_plan_supported": True})
    del graph["nodes"][-1]["attributes"]["enable_inner_plan"]
    assert run(answer(SAY), graph).value == "hello"


def test_parameters_are_bound_by_port_and_else_in_order():
    inner = sketch({1: "WAIT_ALL"}, "b->1 size->1 a->1", parameters=["a", "size:int", "b"])
    graph = planning({}, "5->9 6->9:size 7->9", nodes={n: ("CONST_STR", {"value": n}) for n in (5, 6, 7)})
    assert run(answer(inner), graph).value == [7, 6, 5]


# ---- what is told ----------------------------------------------------------------------------------------------------
def test_a_model_is_told_what_its_plan_may_hold():
    graph = planning({}, "5->9 6->9:size", nodes={5: ("CONST_STR", {"value": 1}), 6: ("CONST_STR", {"value": 1})})
    system, user = run(answer(SAY), graph, grants=("look",)).model.calls[0].prompt.messages
    assert user.content.startswith("Goal: do it")
    assert "- look(text!: string)" in system.content
    assert "post" not in system.content
    assert "the value of `n5`, `size`" in system.content
    assert "At most 1000 nodes" in system.content
    for name in ("EXC", "COMMUNICATE", "AGENT", "CLAIM"):
        assert f"- {name}(" not in system.content
    for name in ("ASK", "INV", "MAP", "PLAN"):
        assert f"- {name}(" in system.content


def test_the_operations_of_a_plan_do_nothing_that_no_grant_governs():
    assert {"CONST_STR", "ASK", "INV", "LOOP", "PLAN", "UMEM", "FLOW_CALL"} <= set(ALLOWED)
    assert set(OPERATIONS) - set(ALLOWED) == {"AGENT", "EXC", "COMMUNICATE", "CLAIM", "PAUSE", "RESUME"}


def test_a_splice_is_told_by_the_result_and_the_events():
    ran = run(answer(LOOK))
    (plan,) = ran.result.splices
    assert (plan.path, plan.node, plan.nodes, plan.edges, plan.depth) == ((), 9, 1, 0, 1)
    assert (plan.capabilities, plan.operations) == (["look"], {"INV": 1})
    assert plan.step == f"plan:{plan.digest[:8]}"
    assert compile(plan.graph, level=0).into_dag().node_count == 1
    events = ran.result.events()
    assert plan in events
    opened = [event.path for event in events if type(event).__name__ == "FrameOpened"]
    assert opened == [((9, plan.step),)]


def test_the_same_replies_give_the_same_paths_and_outputs():
    told = []
    for _ in range(2):
        ran = run(answer(LOOK))
        told.append((ran.value, ran.result.splices[0].digest, [getattr(event, "path", None) for event in ran.result.events()]))
    assert told[0] == told[1]
    assert told[0][1].startswith("bb3ff8ba")  # whatever apxm it is: a plan is named by what it holds


# ---- what is refused -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("inner", "problem"),
    [
        ("no graph at all", "it is no graph"),
        ({"agents": []}, "it is no graph"),
        ({"nodes": 1}, "`nodes` is an int"),
        ({"steps": 1}, "`steps` is no list of maps"),
        ({"steps": [{"name": "a", "does": "x"}]}, "unknown key `does`"),
        ({"steps": [{}]}, "`name` is null"),
        (sketch({1: "ASK", 2: "MERGE"}, "1->2 2->1"), "a cycle: `n1` -> `n2` -> `n1`"),
        (sketch({1: "SING"}), "there is no operation `SING`"),
        (sketch({1: ("CONST_STR", {"value": 1, "colour": 2})}), "has no attribute `colour`"),
        ({"nodes": [SAY["nodes"][0], SAY["nodes"][0]]}, "id 1 of `n1` is that of `n1`"),
        (sketch({1: "MERGE"}, "who->1", parameters=["who"]), "nothing gives the parameter `who`: there are 0 inputs"),
        (sketch({1: "TRY_CATCH", 2: "MERGE"}, "1@try->2"), "needs an input"),
        (sketch({1: ("ASK", {"prompt": "x", "model": "huge"})}), "model `huge` is not registered"),
        (constant("x" * (BYTES_MAX + 1)), "characters; expected 262,144 at most"),
        (constant(json.loads("[" * 90 + "]" * 90)), "nested deeper"),
        (sketch({1: ("INV", {"capability": "look", "arg_colour": "x"})}), "colour"),
        (sketch({1: ("UMEM", {"key": "k", "value": 1, "memory_tier": "ltm", "scope": "run"})}), "ltm"),
        *((sketch({1: (op, {})}), f"cannot hold {op}") for op in ("EXC", "AGENT", "COMMUNICATE", "CLAIM", "PAUSE", "RESUME")),
    ],
)
def test_a_plan_that_breaks_a_rule_is_refused_and_the_rule_is_named(inner, problem):
    assert problem in refused(inner)


def test_all_problems_of_a_plan_are_named_at_once():
    nodes = {1: ("EXC", {"code": "1"}), 2: "SING", 3: ("INV", {"capability": "wipe"}), 4: ("FLOW_CALL", {"flow_name": "no"})}
    problems = refused(sketch(nodes))
    for each in ("cannot hold EXC", "`SING`", "`wipe`, which this plan may not call", "`default.no`, which is not there"):
        assert each in problems


def test_an_error_does_not_grow_with_what_a_model_writes():
    long = {"name": "x", "nodes": [{"id": n, "name": f"n{n}", "op": "a" * 2_000, "b" * 2_000: 1} for n in range(60)], "edges": []}
    ran = run(answer(long))
    assert len(ran.error.problems) == 50
    assert len(str(ran.error)) < 200_000
    assert len(ran.model.calls[1].prompt.messages[-1].content) < 20_000


def test_an_operation_in_a_region_is_looked_at_too():
    inner = sketch({1: ("TRY_CATCH", {}, {"try": sketch({2: ("EXC", {"code": "1"})})})})
    assert "nodes[0].regions.try.nodes[0].op: a plan of a model cannot hold EXC" in refused(inner)


def test_a_parameter_that_does_not_fit_its_input_is_refused():
    inner = sketch({1: "MERGE"}, "size->1", parameters=["size:int"])
    graph = planning({}, "5->9", nodes={5: ("CONST_STR", {"value": "many"})})
    assert "the input for the parameter `size` is str; expected int" in refused(inner, graph)
    graph = planning({}, "5->9", nodes={5: ("CONST_STR", {"value": True})})
    assert "the input for the parameter `size` is bool; expected int" in refused(inner, graph)


def test_a_bad_plan_gets_one_repair_round_with_its_problems():
    ran = run([answer(sketch({1: "SING"})), answer(SAY)])
    assert (ran.value, ran.asked) == ("hello", ["n9", "n9"])
    turns = ran.model.calls[1].prompt.messages
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "user"]
    assert "SING" in turns[2].content
    assert "there is no operation `SING`" in turns[3].content
    assert ran.ledger.spent()["llm_calls"] == 2


def test_a_repair_may_give_up_the_plan():
    assert run([answer(sketch({1: "SING"})), answer()]).value == VALUE


# ---- what a plan may call --------------------------------------------------------------------------------------------
def test_a_capability_must_be_granted_by_name_even_one_of_the_host():
    assert "`look`, which this plan may not call; expected none" in refused(LOOK, grants=())


def test_a_capability_must_be_named_by_the_flow_around_the_plan():
    wipe = sketch({1: ("INV", {"capability": "wipe", "arg_text": "x"})})
    assert "`wipe`, which this plan may not call; expected one of `look`, `post`" in refused(
        wipe, grants=("look", "post", "wipe")
    )


def test_an_agent_names_capabilities_for_its_flows_too_but_not_for_their_plans():
    call = sketch({1: ("INV", {"capability": "wipe", "arg_text": "x"})})
    flow = sketch({9: ("PLAN", {"goal": "do it", "enable_inner_plan": True})})
    agent = {"agents": [{"name": "default", "flows": [flow], "capabilities": ["wipe"]}]}
    assert run(answer(call), agent, grants=("wipe",), trust=TRUST).calls == [("wipe", "x")]
    nested = sketch({5: ("PLAN", {"goal": "deeper", "enable_inner_plan": True})})
    ran = run(answer(nested), agent, grants=("wipe",), trust=TRUST, rules=(Rule(answer(call), node="n5"),))
    assert "`wipe`, which this plan may not call; expected none" in str(ran.error)


def test_a_plan_gets_what_was_granted_to_its_agent_alone():
    def grant(runtime):
        runtime.grant("default", ["look"])

    assert run(answer(LOOK), grants=(), prepare=grant).calls == [("look", "there")]


def test_tools_say_which_capabilities_a_plan_may_call():
    wipe = sketch({1: ("INV", {"capability": "wipe", "arg_text": "x"})})
    graph = planning({"tools": ["wipe"]})
    assert run(answer(wipe), graph, grants=("wipe",), trust=TRUST).calls == [("wipe", "x")]
    assert "which this plan may not call; expected one of `wipe`" in refused(LOOK, graph, grants=("look", "post", "wipe"))


def test_tools_that_are_not_granted_or_not_there_are_refused_before_the_run():
    for tool, code in (("wipe", "denied"), ("wype", "bind")):
        assert run(answer(SAY), planning({"tools": [tool]})).error.code == code


def test_a_guarded_capability_in_a_plan_needs_a_grant_and_trust_in_the_model_that_made_the_plan():
    inner = answer(sketch({1: ("INV", {"capability": "post", "arg_text": "a constant of the plan"})}))
    ran = run(inner)
    assert (ran.error.failure, ran.error.code, ran.error.node, ran.calls) == (FailureClass.DENIED, "policy", "n1", [])
    assert "comes from `llm:scripted`, which is not trusted" in str(ran.error)
    assert run(inner, trust=("llm:scripted=post",)).calls == [("post", "a constant of the plan")]


def test_what_a_planner_has_read_may_be_in_its_plan():
    def page(runtime):
        runtime.capability("page", effect="read", source="web", run="inline")(lambda: "what strangers wrote")

    inner = answer(sketch({1: ("INV", {"capability": "post", "arg_text": "what strangers wrote"})}))
    graph = planning({"goal": "do it: {0}"}, "5->9", nodes={5: ("INV", {"capability": "page"})})
    ran = run(inner, graph, grants=("page", "post"), trust=TRUST, prepare=page)
    assert (ran.error.code, ran.calls) == ("policy", [])
    assert "comes from `web`, which is not trusted" in str(ran.error)
    assert run(inner, graph, grants=("page", "post"), trust=(*TRUST, "web"), prepare=page).calls == [
        ("post", "what strangers wrote")
    ]


def test_a_guarded_call_without_arguments_needs_trust_in_the_model_that_makes_it_too():
    fired = []

    def button(runtime):
        @runtime.capability("push", run="inline")
        def push(how: str = "hard") -> str:
            fired.append(how)
            return "pushed"

    inner = answer(sketch({1: ("INV", {"capability": "push"})}))
    ran = run(inner, planning({"tools": ["push"]}), grants=("look", "post", "push"), prepare=button)
    assert (ran.error.code, fired) == ("policy", [])
    assert "`push` is guarded, and that it is called comes from `llm:scripted`" in str(ran.error)
    trust = ("llm:scripted=push",)
    assert run(inner, planning({"tools": ["push"]}), grants=("push",), prepare=button, trust=trust).value == "pushed"
    assert fired == ["hard"]


def test_a_plan_in_a_plan_may_call_what_both_name():
    def nested(**attributes):
        return sketch({5: ("PLAN", {"goal": "deeper", "enable_inner_plan": True, **attributes})})

    inside = Rule(answer(LOOK), node="n5")
    ran = run(answer(nested()), rules=(inside,))
    assert ran.error.code == "plan"
    assert "`look`, which this plan may not call; expected none" in str(ran.error)
    assert run(answer(nested(tools=["look"])), rules=(inside,)).calls == [("look", "there")]
    assert "PLAN `n5` asks for the capability `wipe`" in refused(nested(tools=["wipe"]), rules=(inside,))


def test_an_ask_in_a_plan_is_offered_only_what_the_plan_may_call():
    inner = sketch({5: ("ASK", {"prompt": "x", "tools": ["wipe"]})})
    assert "ASK `n5` asks for the capability `wipe`" in refused(inner)


# ---- flows -----------------------------------------------------------------------------------------------------------
def program(inner_flow, agent="default", **attributes):
    """The planning flow beside another one."""
    flows = [planning(attributes), inner_flow] if agent == "default" else [planning(attributes)]
    agents = [{"name": "default", "flows": flows}]
    return {"agents": agents if agent == "default" else [*agents, {"name": agent, "flows": [inner_flow]}]}


CALL = sketch({1: ("FLOW_CALL", {"flow_name": "helper"})})


def test_a_plan_calls_the_flows_of_the_program_around_it_and_registered_ones():
    helper = sketch({1: ("CONST_STR", {"value": "helped"})}, name="helper")
    assert run(answer(CALL), program(helper)).value == "helped"

    def register(runtime):
        other = {"agents": [{"name": "other", "flows": [helper]}]}
        runtime.flow_registry().register_agent(Agent.from_artifact(compile(other)))

    call = sketch({1: ("FLOW_CALL", {"flow_name": "helper", "agent_name": "other"})})
    assert run(answer(call), prepare=register).value == "helped"


def test_a_flow_that_a_plan_calls_may_do_no_more_than_the_plan():
    helper = sketch({1: ("INV", {"capability": "wipe", "arg_text": "x"})}, name="helper")
    assert "capability `wipe` is not granted" in refused(CALL, program(helper), grants=("look",))
    assert "capability `wipe` is not granted" in refused(CALL, program(helper), grants=("look", "wipe"))
    assert run(answer(CALL), program(helper, tools=["wipe"]), grants=("wipe",), trust=TRUST).calls == [("wipe", "x")]


def test_a_flow_that_sends_messages_is_not_for_plans_however_far_away_it_is():
    tell = ("COMMUNICATE", {"recipient": "them", "message": "x"})
    far = sketch({1: ("TRY_CATCH", {}, {"try": sketch({2: tell})})}, name="far")
    helper = sketch({1: ("FLOW_CALL", {"flow_name": "far"})}, name="helper")
    them = {"name": "them", "flows": [sketch({1: ("CONST_STR", {"value": 1})}, parameters=["message"])]}
    graph = {"agents": [{"name": "default", "flows": [planning(), helper, far]}, them]}
    assert "calls `default.helper`, which reaches COMMUNICATE, and a plan must not" in refused(CALL, graph)
    assert "them.main(" in run(answer(), graph).model.calls[0].prompt.messages[0].content
    assert "default.helper(" not in run(answer(), graph).model.calls[0].prompt.messages[0].content


def test_what_others_plan_for_a_plan_has_no_scope_that_the_plan_has_not(tmp_path):
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "note.txt").write_text(name, encoding="utf-8")

    def grant(runtime):
        runtime.grant("default", [f"read={tmp_path / 'mine'}"])
        runtime.grant("other", [f"read={tmp_path / 'theirs'}"])

    read = sketch({1: ("INV", {"capability": "read", "arg_path": "note.txt"})})
    helper = sketch({7: ("PLAN", {"goal": "help", "enable_inner_plan": True, "tools": ["read"]})}, name="helper")
    call = sketch({1: ("FLOW_CALL", {"flow_name": "helper", "agent_name": "other"})})
    ran = run(
        answer(call), program(helper, "other", tools=["read"]), grants=(), prepare=grant, rules=(Rule(answer(read), node="n7"),)
    )
    assert (ran.value, len(ran.result.splices)) == ("mine", 2)


@pytest.mark.parametrize(
    "shared", [("CLAIM", {"queue": "jobs"}), ("PAUSE", {"message": "?", "default": 1}), ("RESUME", {"checkpoint": "c"})]
)
def test_a_flow_that_touches_what_others_share_is_not_for_plans(shared):
    helper = sketch({1: shared}, name="helper")
    assert f"which reaches {shared[0]}, and a plan must not" in refused(CALL, program(helper))


# ---- bounds ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("then", ["a text", "the result"])
def test_a_plan_that_doubles_a_list_ends_at_the_bound_of_its_parts(monkeypatch, then):
    monkeypatch.setattr("apxm.values.PARTS_MAX", 1_000)
    twice = sketch({3: "FENCE", 4: "FENCE", 5: "WAIT_ALL"}, "t->3 t->4 3->5 4->5", parameters=["t"])
    nodes = {2: ("CONST_STR", {"value": "x"}), 1: ("LOOP", {"max_iterations": 14, "carry": ["t"]}, {"body": twice})}
    more = {6: ("PRINT", {"message": "all: {0}"})} if then == "a text" else {}
    ran = run(answer(sketch({**nodes, **more}, "2->1:t 1->6" if more else "2->1:t")))
    assert (ran.error.code, "the value has more than 1,000 parts" in str(ran.error)) == ("limit", True)


def test_a_plan_that_doubles_a_text_ends_at_the_bound_of_its_length(monkeypatch):
    monkeypatch.setattr("apxm.graph.template.TEXT_MAX", 1_000)
    twice = sketch({3: ("ERR", {"recovery_template": "{0}{0}"})}, "t->3", parameters=["t"])
    nodes = {2: ("CONST_STR", {"value": "x"}), 1: ("LOOP", {"max_iterations": 14, "carry": ["t"]}, {"body": twice})}
    ran = run(answer(sketch(nodes, "2->1:t")))
    assert (ran.error.code, "more than 1,000 characters" in str(ran.error)) == ("limit", True)


def endless(width=1):
    """A plan of planners, each of which is answered with this plan again."""
    again = ("PLAN", {"goal": "go on", "enable_inner_plan": True})
    return sketch({10 + n: again for n in range(width)})


def forever(width=1):
    return Rule(lambda prompt: answer(endless(width)), test=lambda prompt: prompt.metadata["op"] == "PLAN")


def test_a_planner_that_plans_planners_ends_at_the_bound_of_depth():
    ran = run(answer(), rules=(forever(),))
    assert isinstance(ran.error, InvalidError)
    assert (ran.error.code, ran.error.failure) == ("limit", FailureClass.INVALID)
    assert "nested 8 deep, the bound is SchedulerConfig.max_splice_depth" in str(ran.error)
    assert len(ran.result.splices) == len(ran.asked) == 8  # the ninth was not even asked
    assert [plan.depth for plan in ran.result.splices] == list(range(1, 9))


def test_planners_that_spread_end_at_the_bound_of_splices():
    ran = run(answer(), rules=(forever(3),), scheduler=SchedulerConfig(max_splices=5, max_splice_depth=50))
    assert ran.error.code == "limit"
    assert "took in 5 plans of models, the bound is SchedulerConfig.max_splices" in str(ran.error)
    assert len(ran.result.splices) == 5


def test_a_plan_counts_its_regions_and_every_iteration_of_its_loops():
    scheduler = SchedulerConfig(max_splice_nodes=10)
    body = sketch({2: ("CONST_STR", {"value": 1})})
    assert run(answer(sketch({1: ("LOOP", {"max_iterations": 9}, {"body": body})})), scheduler=scheduler).value == 1
    assert "11 nodes, counted" in refused(sketch({1: ("LOOP", {"max_iterations": 10}, {"body": body})}), scheduler=scheduler)
    many = sketch({n: ("CONST_STR", {"value": 1}) for n in range(11)})
    assert "11 nodes, counted" in refused(many, scheduler=scheduler)


def lists_within_lists(levels):
    """A plan without any bound of its own: how many items there are is known only when it runs."""
    items = ("CONST_STR", {"value": list(range(40))})
    made = sketch({1: ("PRINT", {"message": "{item}"})}, "item->1:item", parameters=["item"])
    for _ in range(levels - 1):
        made = sketch({1: items, 2: ("MAP", {}, {"body": made}), 3: "MERGE"}, "1->2 2->3 item->3", parameters=["item"])
    return sketch({1: items, 2: ("MAP", {}, {"body": made})}, "1->2")


def test_a_plan_over_lists_within_lists_ends_at_the_bound_of_firings():
    ran = run(answer(lists_within_lists(5)), scheduler=SchedulerConfig(max_spliced_firings=500))
    assert ran.error.code == "limit"
    assert "more than 500 nodes fired since the first plan of a model" in str(ran.error)
    assert 500 < ran.result.stats.executed < 2_600  # it is looked at once in a lease


def test_what_fired_before_the_first_plan_does_not_count():
    first, second = lists_within_lists(2)["nodes"]
    nodes = {21: (first["op"], first["attributes"]), 22: (second["op"], {}, second["regions"])}
    graph = planning({}, "21->22 22~>9", nodes=nodes)
    bound = SchedulerConfig(max_spliced_firings=2_500)
    assert run(answer(lists_within_lists(2)), graph, scheduler=bound).result.stats.executed > 3_000


def test_a_splice_is_charged_to_the_budget_and_one_too_many_is_not_made():
    ran = run(answer(SAY), budget=Limits(splices=1))
    assert (ran.value, ran.ledger.spent()["splices"], ran.ledger.reserved()["splices"]) == ("hello", 1, 0)
    ran = run(answer(SAY), budget=Limits(splices=0))
    assert (ran.error.code, ran.error.node, ran.result.splices) == ("budget", "n9", ())
    assert not any(ran.ledger.reserved().values())


def test_the_nodes_of_a_plan_are_charged_like_any_others():
    nodes = {n: ("CONST_STR", {"value": n}) for n in range(1, 9)}
    assert run(answer(sketch(nodes)), budget=Limits(nodes=6)).error.code == "budget"


# ---- failures and labels ---------------------------------------------------------------------------------------------
ERR = sketch({5: ("ERR", {"message": "no luck"})})


def test_a_failure_in_a_plan_goes_where_that_of_a_child_frame_goes():
    ran = run(answer(ERR))
    step = ran.result.splices[0].step
    assert (ran.error.code, ran.error.node, ran.error.path) == ("raised", "n5", ((9, step),))
    assert run(answer(ERR), planning({"fallback": "plan B"})).value == "plan B"
    graph = sketch({8: ("TRY_CATCH", {}, {"try": planning(), "catch": sketch({1: "MERGE"}, "error->1", parameters=["error"])})})
    graph["nodes"][0]["regions"]["try"]["metadata"] = {"exits": ["n9"]}
    (caught,) = run(answer(ERR), graph).value
    assert caught["message"] == "no luck"


def test_a_node_that_spliced_is_never_fired_again():
    def flaky(runtime):
        from apxm.errors import TransientError

        @runtime.capability("flaky", effect="guarded")
        async def fails() -> None:
            raise TransientError("try again")

    graph = planning({"retries": 5, "tools": ["flaky"]})
    ran = run(answer(sketch({1: ("INV", {"capability": "flaky"})})), graph, grants=("flaky",), prepare=flaky, trust=TRUST)
    assert (ran.error.failure, ran.asked, len(ran.result.splices)) == (FailureClass.TRANSIENT, ["n9"], 1)


def test_a_deadline_ends_a_plan_and_leaves_nothing():
    def endless(runtime):
        @runtime.capability("never", effect="read")
        async def never() -> None:
            await asyncio.Event().wait()

    inner = sketch({1: ("INV", {"capability": "never"}), 2: ("INV", {"capability": "look", "arg_text": "x"})}, "1=>2")
    graph = planning({"tools": ["never", "look"]})
    ran = run(answer(inner), graph, grants=("never", "look"), prepare=endless, deadline_s=0.05)
    assert (ran.error.code, len(ran.result.splices), ran.calls) == ("deadline", 1, [])
    assert not any(ran.ledger.reserved().values())


def test_check_mode_holds_for_plans_too():
    inner = sketch({1: ("CONST_STR", {"value": [1]}), 2: ("INV", {"capability": "change"})}, "1->2")

    def changing(runtime):
        @runtime.capability("change", effect="pure")
        def change(of: list) -> int:
            of.append(2)
            return 1

    graph = planning({"tools": ["change"]})
    assert run(answer(inner), graph, grants=("change",), prepare=changing, check=True).error.code == "changed_input"


def test_everything_in_a_plan_owes_its_model(monkeypatch):
    from apxm.executor import dispatch
    from apxm.executor.bind import Bound, Kind
    from apxm.graph.operation import Effect

    seen = {}

    def bind_spy(spec, services):
        def spy(context, *inputs):
            seen[context.name] = (context.taint(), context.sources(), context.depth, context.flow.name)
            return inputs[0] if inputs else "constant"

        return Bound(Kind.SYNC, spy, Effect.IDEMPOTENT)

    monkeypatch.setitem(dispatch.binders(), "PRINT", bind_spy)
    inner = sketch(
        {5: ("PRINT", {"message": "x"}), 6: ("LOOP", {"max_iterations": 1}, {"body": sketch({7: ("PRINT", {"message": "y"})})})},
        "topic->5",
        parameters=["topic"],
        name="made",
    )
    graph = planning({}, "topic->9 topic->8", parameters=["topic"], nodes={8: ("PRINT", {"message": "z"})})
    ran = run(answer(inner), graph, parameters={"topic": "t"})
    assert ran.error is None
    llm = ("llm:scripted",)
    assert seen["n8"] == ((), [("user",)], 0, "main")
    assert set(seen["n5"][0]) == set(seen["n7"][0]) == {*llm, "user"}  # the model was given the topic
    assert set(seen["n5"][1][0]) == {"user", "llm:scripted"}
    assert (seen["n5"][2:], seen["n7"][2:]) == ((1, "made"), (1, "made"))
    assert ran.result.labels("n9") == {"user", "llm:scripted"}
