"""Envelopes: what is in them, what a flow is called with, who gets one, and how long a row of them may be."""

import json
from types import SimpleNamespace

import pytest

from apxm.aam.agent import Agent, AgentFlow
from apxm.aam.flows import Flows
from apxm.coordination.mailbox import DEPTH_MAX, Envelope, Recipients, depth_of, message_id, refuse_depth, refuse_parameters
from apxm.errors import BindError, InvalidError


def envelope(**more):
    return Envelope(**({"id": "9c", "sender": "ed", "run": "r-7", "node": "tell", "to": "critic", "message": {"n": 1}} | more))


def test_the_json_form_has_a_version_and_says_who_sends_what_to_whom():
    data = envelope(channel="drafts", depth=3, reply=False).to_map()
    assert json.loads(json.dumps(data)) == {
        "version": 1,
        "id": "9c",
        "from": {"agent": "ed", "run": "r-7", "node": "tell"},
        "to": "critic",
        "channel": "drafts",
        "message": {"n": 1},
        "depth": 3,
        "reply": False,
    }


def test_a_receipt_says_which_message_was_taken():
    assert envelope().receipt() == {"id": "9c", "to": "critic", "accepted": True}


@pytest.mark.parametrize(
    ("parameters", "arguments"),
    [
        (("message",), [{"n": 1}]),
        (("text",), [{"n": 1}]),
        (("sender",), [{"n": 1}]),
        (("sender", "message"), ["ed", {"n": 1}]),
        (("message", "channel", "sender"), [{"n": 1}, "drafts", "ed"]),
    ],
)
def test_a_flow_gets_the_message_by_its_parameters(parameters, arguments):
    assert envelope(channel="drafts").arguments(parameters) == arguments
    refuse_parameters(parameters, "critic.main")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ((), "flow `critic.main` has no parameter for the message"),
        (("message", "tone"), "flow `critic.main` has a parameter `tone`, which no message fills"),
        (("sender", "channel"), "flow `critic.main` has no parameter for the message"),
    ],
)
def test_a_flow_that_cannot_take_a_message_is_refused(parameters, message):
    with pytest.raises(InvalidError, match=message):
        refuse_parameters(parameters, "critic.main")


def test_an_id_is_the_same_for_the_same_firing_and_no_other():
    given = ("r-1", ((2, "true"),), 3, "critic")
    others = [("r-2", *given[1:]), ("r-1", (), 3, "critic"), ("r-1", given[1], 4, "critic"), (*given[:3], "editor")]
    assert message_id(*given) == message_id(*given)
    assert len({message_id(*given), *(message_id(*other) for other in others)}) == 5


def test_depth_counts_the_messages_on_the_path_and_before_the_run():
    path = ((1, "message:a.main"), (2, "true"), (3, "b.main"), (4, 7), (5, "message:b.communicate"))
    assert depth_of(path, 0) == 2
    assert depth_of((), 3) == 3
    refuse_depth(DEPTH_MAX, "COMMUNICATE `n`")
    with pytest.raises(InvalidError, match=rf"COMMUNICATE `n` would be the {DEPTH_MAX + 1}\. message in a row") as refused:
        refuse_depth(DEPTH_MAX + 1, "COMMUNICATE `n`")
    assert refused.value.code == "limit"


def flows(**agents):
    dag = SimpleNamespace(parameters=())
    return Flows({name: Agent(name, {flow: AgentFlow(flow, dag) for flow in its}) for name, its in agents.items()})


def test_communicate_answers_before_main_and_an_agent_of_the_program_before_a_registered_one():
    siblings = {("critic", "main"): None, ("critic", "communicate"): None, ("editor", "main"): None, ("mute", "other"): None}
    known = Recipients(siblings, flows(editor=["communicate"], host=["main", "communicate"], silent=["other"]))
    assert [known.flow_of(agent) for agent in ("critic", "editor", "host")] == ["communicate", "main", "communicate"]
    assert known.everyone("critic") == [("editor", "main"), ("host", "communicate")]
    assert known.everyone("nobody") == [("critic", "communicate"), ("editor", "main"), ("host", "communicate")]


@pytest.mark.parametrize(
    ("agent", "message", "hint"),
    [
        ("critik", "there is no agent `critik`", "close: `critic`"),
        ("mute", "agent `mute` takes no messages: it has neither a flow `communicate` nor `main`", None),
    ],
)
def test_who_cannot_be_reached_is_named_with_the_nearest(agent, message, hint):
    known = Recipients({("critic", "main"): None, ("mute", "other"): None}, flows())
    with pytest.raises(BindError, match=message) as refused:
        known.flow_of(agent)
    assert refused.value.hint == hint
