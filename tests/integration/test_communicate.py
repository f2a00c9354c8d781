"""COMMUNICATE in whole runs: local, broadcast, http; with a reply and without; what goes wrong, and what is left of it."""

import asyncio
import json
import threading

import pytest

from apxm import Agent, RunOptions, Runtime, ScriptedModel, compile
from apxm.cli.exits import Exit
from apxm.cli.main import main
from apxm.errors import BindError, DeadlineError, DeniedError, InvalidError, TransientError
from apxm.graph.contract import from_json
from apxm.observability.events import Called, NodeRetried
from apxm.testing import VirtualClock
from tests.unit.coordination.peer import Peer, free_port


def node(id, name, op, regions=None, **attributes):
    return {"id": id, "name": name, "op": op, "attributes": attributes} | ({"regions": regions} if regions else {})


def flow(name, *nodes, parameters=(), edges=(), entry=False):
    made = [{"from": source, "to": target} | more for source, target, more in edges]
    known = [{"name": one, "type_name": "json"} for one in parameters]
    return {"name": name, "nodes": list(nodes), "edges": made, "parameters": known, "metadata": {"is_entry": entry}}


def program(**agents):
    """The first flow of the first agent is the entry."""
    flows = next(iter(agents.values()))
    flows[0]["metadata"] = {"is_entry": True}
    return from_json(json.dumps({"agents": [{"name": name, "flows": flows} for name, flows in agents.items()]}))


def tool(name, parameters=("message",), flow_name="communicate", **arguments):
    """A flow that gives all its parameters to a capability."""
    edges = [(one, 1, {"port": one}) for one in parameters]
    return flow(flow_name, node(1, name, "INV", capability=name, **arguments), parameters=parameters, edges=edges)


def sends(*nodes, edges=(), parameters=()):
    return flow("main", *nodes, edges=edges, parameters=parameters)


def tell(id=1, name="tell", **attributes):
    return node(id, name, "COMMUNICATE", **({"message": "hi"} | attributes))


class World:
    """A runtime with capabilities that tell, and one that waits for the test."""

    def __init__(self, **more):
        self.runtime = Runtime(model=ScriptedModel(default="yes"), **more)
        self.said = []
        self.gate = threading.Event()
        capability = self.runtime.capability

        @capability(effect="pure")
        def shout(message: str) -> str:
            return message.upper()

        @capability(effect="pure")
        def all_of(message: object, sender: object, channel: object) -> list:
            return [message, sender, channel]

        @capability(effect="guarded", run="inline")
        def note(message: str) -> str:
            self.said.append(message)
            return message

        @capability(effect="guarded")
        async def slowly(message: str) -> str:
            while not self.gate.is_set():
                await asyncio.sleep(0.001)
            self.said.append(f"slowly {message}")
            return message

        @capability(effect="guarded", run="inline")
        def fail(message: str) -> str:
            raise ValueError(f"cannot {message}")

        @capability(effect="read")
        async def never(message: str) -> str:
            await asyncio.Event().wait()
            return message

        @capability(effect="guarded", run="inline")
        def open_gate(message: str) -> str:
            self.said.append("gate")
            self.gate.set()
            return message

    def __enter__(self):
        self.runtime.__enter__()
        return self

    def __exit__(self, *what):
        self.runtime.__exit__(*what)

    def run(self, given, parameters=None, **options):
        return self.runtime.execute(given, parameters, run=RunOptions(**options))


# ---- local -----------------------------------------------------------------------------------------------------------
def test_the_reply_is_the_value_of_the_recipients_flow():
    with World() as world:
        given = program(boss=[sends(tell(recipient="critic"))], critic=[tool("shout")])
        assert world.run(given).value == "HI"


def test_the_flow_gets_message_sender_and_channel_by_name():
    with World() as world:
        critic = [tool("all_of", ("channel", "message", "sender"))]
        message = tell(recipient="critic", channel="drafts", message={"text": "{0}", "n": 1})
        boss = sends(node(2, "c", "CONST_STR", value="Ada"), message, edges=[(2, 1, {})])
        assert world.run(program(boss=[boss], critic=critic)).value == [{"text": "Ada", "n": 1}, "boss", "drafts"]
        silent = program(boss=[sends(tell(recipient="critic"))], critic=critic)
        assert world.run(silent).value == ["hi", "boss", None]


def test_without_a_message_the_first_input_that_no_text_uses_is_sent():
    with World() as world:
        names = [node(2, "who", "CONST_STR", value="critic"), node(3, "what", "CONST_STR", value="draft")]
        given = {"id": 1, "name": "tell", "op": "COMMUNICATE", "attributes": {"recipient": "{0}"}}
        boss = sends(*names, given, edges=[(2, 1, {}), (3, 1, {})])
        assert world.run(program(boss=[boss], critic=[tool("shout")])).value == "DRAFT"


def test_a_recipient_may_be_known_only_when_the_message_is_sent():
    given = program(
        boss=[sends(tell(recipient="{who}"), parameters=("who",), edges=[("who", 1, {"port": "who"})])],
        critic=[tool("shout", flow_name="main")],
        mute=[flow("other", node(1, "c", "CONST_STR", value=1))],
    )
    with World() as world:
        dag = compile(given).into_dag()
        for _ in range(2):
            assert world.run(dag, {"who": "critic"}).value == "HI"
        with pytest.raises(BindError, match=r"COMMUNICATE `tell` \(node 1\) of flow `main`: there is no agent `critik`") as no:
            world.run(dag, {"who": "critik"})
        assert (no.value.hint, no.value.node) == ("close: `critic`", "tell")
        with pytest.raises(BindError, match="agent `mute` takes no messages"):
            world.run(dag, {"who": "mute"})
        assert world.run(dag, {"who": "critic"}).value == "HI"


def test_a_recipient_that_is_written_down_is_looked_up_before_the_run():
    with World() as world:
        given = program(boss=[sends(node(2, "say", "INV", capability="note", arg_message="x"), tell(recipient="critik"))])
        with pytest.raises(BindError, match="there is no agent `critik`"):
            world.run(given)
        assert world.said == []
        odd = flow("main", node(1, "c", "CONST_STR", value=1), parameters=("message", "tone"))
        with pytest.raises(BindError, match=r"COMMUNICATE `tell`.*flow `critic.main` has a parameter `tone`, which no message"):
            world.run(program(boss=[sends(tell(recipient="critic"))], critic=[odd]))


def test_a_late_flow_that_cannot_be_bound_fails_every_time_and_spoils_nothing():
    broken = tool("nothing_like_it")
    boss = sends(tell(recipient="{who}"), parameters=("who",), edges=[("who", 1, {"port": "who"})])
    with World() as world:
        dag = compile(program(boss=[boss], critic=[tool("shout")], broken=[broken])).into_dag()
        for _ in range(2):
            with pytest.raises(BindError, match="`nothing_like_it`, which is not registered"):
                world.run(dag, {"who": "broken"})
        assert world.run(dag, {"who": "critic"}).value == "HI"


def test_a_registered_agent_of_another_program_gets_messages():
    artifact = compile(program(critic=[tool("shout")]))
    with World() as world:
        for agent in Agent.all_from_artifact(artifact):
            world.runtime.flow_registry().register_agent(agent)
        assert world.run(program(boss=[sends(tell(recipient="critic"))])).value == "HI"
        assert world.run(program(boss=[sends(tell(protocol="broadcast"))])).value == {"critic": "HI"}


def test_messages_that_cause_each_other_end_at_their_bound():
    ping = flow(
        "communicate", node(1, "on", "COMMUNICATE", recipient="pong"), parameters=("message",), edges=[("message", 1, {})]
    )
    pong = flow(
        "communicate", node(1, "back", "COMMUNICATE", recipient="ping"), parameters=("message",), edges=[("message", 1, {})]
    )
    with World() as world:
        given = program(boss=[sends(tell(recipient="ping"))], ping=[ping], pong=[pong])
        with pytest.raises(InvalidError, match=r"would be the 17\. message in a row") as raised:
            world.run(given)
        assert raised.value.code == "limit"
        with pytest.raises(InvalidError, match=r"would be the 17\. message in a row") as raised:
            world.run(program(boss=[sends(tell(recipient="critic"))], critic=[tool("shout")]), message_depth=16)
        assert raised.value.path == ()


def test_a_failing_recipient_fails_the_message_and_its_error_edge_takes_it():
    with World() as world:
        given = program(boss=[sends(tell(recipient="critic"))], critic=[tool("fail")])
        with pytest.raises(Exception, match="cannot hi") as raised:
            world.run(given)
        assert (raised.value.node, raised.value.flow) == ("fail", "critic.communicate")
        rescue = node(2, "rescue", "INV", capability="note", arg_message="rescued")
        boss = sends(tell(recipient="critic"), rescue, edges=[(1, 2, {"dependency": "Control", "label": "error"})])
        assert world.run(program(boss=[boss], critic=[tool("fail")])).outputs == {"rescue": "rescued"}


def test_a_recipient_that_never_answers_is_named_and_nothing_is_left():
    with World() as world:
        given = program(boss=[sends(tell(recipient="critic", timeout_ms=20))], critic=[tool("never")])
        with pytest.raises(
            DeadlineError, match=r"`tell` took longer than its timeout of 0.02 s, waiting for `critic.communicate`"
        ):
            world.run(given)
        assert world.runtime.capability_system().calls.abandoned() == []
        with pytest.raises(DeadlineError, match="the deadline of the run"):
            world.run(program(boss=[sends(tell(recipient="critic"))], critic=[tool("never")]), deadline_s=0.02)


def test_a_reply_comes_from_where_the_recipient_had_it():
    with World() as world:
        result = world.run(program(boss=[sends(tell(recipient="critic"))], critic=[tool("note")]))
        assert "tool:note" in result.labels("tell")


# ---- without a reply -------------------------------------------------------------------------------------------------
def test_the_sender_goes_on_at_once_and_the_run_waits_for_the_recipient():
    with World() as world:
        after = node(2, "after", "INV", capability="open_gate", arg_message="x")
        boss = sends(tell(recipient="critic", reply=False), after, edges=[(1, 2, {"dependency": "Control"})])
        result = world.run(program(boss=[boss], critic=[tool("slowly")]))
        assert world.said == ["gate", "slowly hi"]
        assert result.outputs == {"after": "x"}


def test_the_receipt_names_the_message():
    with World() as world:
        given = compile(program(boss=[sends(tell(recipient="critic", reply=False))], critic=[tool("note")])).into_dag()
        one, other = (world.run(given, run_id=name).value for name in ("r-1", "r-2"))
        assert (one["to"], one["accepted"], world.said) == ("critic", True, ["hi", "hi"])
        assert one["id"] != other["id"]
        assert one["id"] == world.run(given, run_id="r-1").value["id"]


def test_a_recipient_that_nobody_waits_for_still_fails_the_flow_of_the_sender():
    with World() as world:
        given = program(boss=[sends(tell(recipient="critic", reply=False))], critic=[tool("fail")])
        with pytest.raises(Exception, match="cannot hi") as raised:
            world.run(given)
        assert raised.value.result.outputs == {"tell": raised.value.result.outputs["tell"]}
        gone_on = world.run(given, on_failure="continue")
        assert gone_on.outputs["tell"]["accepted"] is True
        assert ["cannot hi" in str(error) for error in gone_on.unhandled] == [True]


def test_a_try_around_the_sender_catches_what_the_recipient_failed_with():
    body = {"nodes": [tell(recipient="critic", reply=False)], "edges": []}
    catch = {
        "nodes": [node(1, "caught", "INV", capability="note", arg_message="caught")],
        "edges": [],
    }
    with World() as world:
        boss = sends(node(1, "try", "TRY_CATCH", regions={"try": body, "catch": catch}))
        assert world.run(program(boss=[boss], critic=[tool("fail")])).value == "caught"


def test_a_cancelled_run_stops_recipients_that_nobody_waits_for():
    with World() as world:
        after = node(2, "after", "INV", capability="fail", arg_message="x")
        boss = sends(tell(recipient="critic", reply=False), after, edges=[(1, 2, {"dependency": "Control"})])
        with pytest.raises(Exception, match="cannot x"):
            world.run(program(boss=[boss], critic=[tool("never")]))
        with pytest.raises(DeadlineError):
            world.run(program(boss=[sends(tell(recipient="critic", reply=False))], critic=[tool("never")]), deadline_s=0.02)


def test_a_time_limit_needs_a_reply_to_wait_for():
    with World() as world, pytest.raises(BindError, match="has a timeout, but it waits for no reply"):
        world.run(program(boss=[sends(tell(recipient="critic", reply=False, timeout_ms=5))], critic=[tool("note")]))


# ---- broadcast -------------------------------------------------------------------------------------------------------
def test_a_broadcast_reaches_all_but_the_sender_and_gives_replies_by_agent():
    with World() as world:
        boss = [sends(tell(protocol="broadcast")), tool("shout")]
        given = program(boss=boss, b=[tool("shout", flow_name="main")], a=[tool("note")], mute=[tool("shout", flow_name="x")])
        result = world.run(given)
        assert list(result.value.items()) == [("a", "hi"), ("b", "HI")]


def test_those_that_fail_or_take_no_message_are_told_beside_the_replies():
    with World() as world:
        odd = flow("main", node(1, "c", "CONST_STR", value=1))
        value = world.run(program(boss=[sends(tell(protocol="broadcast"))], a=[tool("fail")], b=[tool("note")], c=[odd])).value
        assert (value["b"], value["a"]["error"]["node"]) == ("hi", "fail")
        assert "flow `c.main` has no parameter for the message" in value["c"]["error"]["message"]


def test_a_broadcast_runs_its_recipients_at_the_same_time():
    with World() as world:
        given = program(boss=[sends(tell(protocol="broadcast"))], a=[tool("slowly")], b=[tool("open_gate")])
        assert world.run(given).value == {"a": "hi", "b": "hi"}


def test_a_broadcast_to_nobody_is_an_empty_map():
    with World() as world:
        assert world.run(program(boss=[sends(tell(protocol="broadcast"))])).value == {}
        assert world.run(program(boss=[sends(tell(protocol="broadcast", reply=False))])).value == []


def test_a_broadcast_without_a_reply_gives_receipts_and_loses_nobody():
    with World() as world:
        after = node(2, "after", "INV", capability="open_gate", arg_message="x")
        boss = sends(tell(protocol="broadcast", reply=False), after, edges=[(1, 2, {"dependency": "Control"})])
        world.run(program(boss=[boss], a=[tool("slowly")], b=[tool("note")]))
        assert sorted(world.said) == ["gate", "hi", "slowly hi"]
        given = program(boss=[sends(tell(protocol="broadcast", reply=False))], a=[tool("note")], b=[tool("note")])
        assert [receipt["to"] for receipt in world.run(given).value] == ["a", "b"]
        odd = flow("main", node(1, "c", "CONST_STR", value=1))
        with pytest.raises(InvalidError, match="has no parameter for the message"):
            world.run(program(boss=[sends(tell(protocol="broadcast", reply=False))], a=[odd]))


# ---- http ------------------------------------------------------------------------------------------------------------
def remote(**attributes):
    return program(boss=[sends(tell(**({"protocol": "http", "recipient": "reviewer"} | attributes)))])


def test_a_registered_peer_gets_the_message_and_its_answer_is_the_reply():
    with Peer(lambda envelope: {"got": envelope["message"]}) as peer, World() as world:
        world.runtime.peers.register("reviewer", peer.url)
        result = world.run(remote(channel="drafts"), run_id="r-9")
        assert (result.value, result.labels("tell")) == ({"got": "hi"}, {"web"})
        ((path, _, envelope),) = peer.got
        assert (path, envelope["from"]) == ("/v1/receive", {"agent": "boss", "run": "r-9", "node": "tell"})
        assert (envelope["to"], envelope["channel"], envelope["depth"]) == ("reviewer", "drafts", 1)


def test_a_peer_may_be_a_run_that_counts_the_messages_on():
    """A host that answers messages by running a flow passes the depth on: a row of messages over HTTP ends too."""
    with World() as world:

        def answer(envelope):
            options = RunOptions(message_depth=envelope["depth"])
            try:
                return world.runtime.execute(dag, {}, run=options).value
            except InvalidError as error:
                return error.code

        dag = compile(remote()).into_dag()
        with Peer(answer) as peer:
            world.runtime.peers.register("reviewer", peer.url)
            assert world.run(dag).value == "limit"
            assert [envelope["depth"] for _, _, envelope in peer.got] == list(range(1, 17))


def test_a_url_is_refused_before_the_run_unless_it_was_granted():
    with Peer() as peer, World() as world:
        with pytest.raises(DeniedError, match="was not granted") as refused:
            world.run(remote(recipient=f"{peer.url}/in"))
        assert refused.value.hint == f"grant `communicate={peer.url}`"
        assert world.run(remote(recipient=f"{peer.url}/in"), grants=[f"communicate={peer.url}"]).value == "hi"
        with pytest.raises(DeniedError, match="without TLS"):
            world.run(remote(recipient=f"{peer.url}/in", protocol="https"), grants=[f"communicate={peer.url}"])
        assert [path for path, _, _ in peer.got] == ["/in"]


def test_the_command_line_grants_a_url(tmp_path, capsys):
    file = tmp_path / "tell.json"
    with Peer() as peer:
        nodes = [tell(protocol="http", recipient=f"{peer.url}/in", message="far away")]
        file.write_text(json.dumps(flow("main", *nodes, entry=True)))
        assert main(["run", str(file), "--no-record", "--quiet"]) == Exit.DENIED
        assert peer.got == []
        assert main(["run", str(file), "--no-record", "--quiet", "--grant", f"communicate={peer.url}"]) == Exit.OK
        assert "far away" in capsys.readouterr().out


def test_the_configuration_names_peers(tmp_path, capsys, monkeypatch):
    file = tmp_path / "tell.json"
    file.write_text(json.dumps(flow("main", tell(protocol="http", recipient="reviewer", message="far away"), entry=True)))
    with Peer() as peer:
        monkeypatch.setenv("APXM_PEERS", f"other=http://127.0.0.1:1, reviewer={peer.url}")
        assert main(["run", str(file), "--no-record", "--quiet"]) == Exit.OK
        assert "far away" in capsys.readouterr().out
    monkeypatch.setenv("APXM_PEERS", "reviewer")
    assert main(["run", str(file), "--no-record", "--quiet"]) == Exit.INVALID
    assert "expected a list of `NAME=URL`" in capsys.readouterr().err


def test_a_url_that_text_of_a_run_made_is_refused_too():
    with Peer() as peer, World() as world:
        tells = tell(protocol="http", recipient="{url}")
        given = program(boss=[sends(tells, parameters=("url",), edges=[("url", 1, {"port": "url"})])])
        with pytest.raises(DeniedError, match="was not granted"):
            world.run(given, {"url": f"{peer.url}/in"})
        assert peer.got == []


def test_a_peer_that_does_not_answer_in_time_is_named_and_is_asked_once():
    with Peer() as peer, World() as world:
        world.runtime.peers.register("reviewer", f"{peer.url}/slow")
        with pytest.raises(DeadlineError, match=r"`reviewer` at .* gave no answer within 0.03 s"):
            world.run(remote(timeout_ms=30, retries=5))
        assert len(peer.got) == 1


def test_a_peer_that_cannot_be_reached_is_tried_again_and_one_that_was_reached_is_not():
    with Peer() as peer, World(clock=VirtualClock()) as world:
        world.runtime.peers.register("reviewer", f"http://127.0.0.1:{free_port()}")
        with pytest.raises(TransientError, match=r"`reviewer` at .* was not reached") as raised:
            world.run(remote(retries=1), trace=True)
        assert len([event for event in raised.value.result.events() if isinstance(event, NodeRetried)]) == 1
        world.runtime.peers.register("reviewer", f"{peer.url}/gone")
        with pytest.raises(Exception, match="the answer of `reviewer`") as raised:
            world.run(remote(retries=1))
        assert (raised.value.code, len(peer.got)) == ("unknown_effect", 1)


def test_a_cancelled_run_lets_go_of_the_peer():
    with Peer() as peer, World() as world:
        world.runtime.peers.register("reviewer", f"{peer.url}/slow")
        with pytest.raises(DeadlineError, match="the deadline of the run"):
            world.run(remote(), deadline_s=0.05)
        assert len(peer.got) == 1


def test_without_a_reply_a_peer_only_has_to_take_it():
    with Peer() as peer, World() as world:
        world.runtime.peers.register("reviewer", f"{peer.url}/raw")
        receipt = world.run(remote(reply=False, message={"status": 202, "body": ""})).value
        assert (receipt["to"], receipt["accepted"]) == ("reviewer", True)


# ---- what others hear ------------------------------------------------------------------------------------------------
def test_messages_are_told_as_events_and_kept_as_episodes():
    with Peer() as peer, World() as world:
        world.runtime.peers.register("reviewer", peer.url)
        nodes = [tell(1, "one", recipient="critic"), tell(2, "two", recipient="reviewer", protocol="http")]
        nodes += [tell(3, "three", protocol="broadcast"), tell(4, "four", recipient="critic", reply=False)]
        result = world.run(program(boss=[sends(*nodes)], critic=[tool("shout")]), trace=True)
        heard = [event for event in result.events() if isinstance(event, Called)]
        assert sorted((event.node, event.kind, event.target, event.ok) for event in heard) == [
            (1, "message", "critic", True),
            (2, "message", "reviewer", True),
            (3, "message", "critic", True),
            (4, "message", "critic", True),
        ]
        kept = world.runtime.memory.episodes.find(kind="message")
        assert sorted((one.name, one.target) for one in kept) == [
            ("four", "critic"),
            ("one", "critic"),
            ("three", "critic"),
            ("two", "reviewer"),
        ]


def test_a_message_that_failed_is_told_so():
    with World() as world:
        with pytest.raises(Exception, match="cannot hi"):
            world.run(program(boss=[sends(tell(recipient="critic"))], critic=[tool("fail")]))
        (one,) = world.runtime.memory.episodes.find(kind="message")
        assert (one.target, one.outcome) == ("critic", "failed")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"protocol": "broadcast", "recipient": "critic"}, "is a broadcast, and names a recipient"),
        ({"protocol": "local"}, "names no recipient"),
        ({"protocol": "http"}, "names no recipient"),
        ({"protocol": "http", "recipient": "revewer"}, "there is no peer `revewer`"),
    ],
)
def test_a_message_that_makes_no_sense_is_refused_before_the_run(attributes, message):
    with World() as world:
        world.runtime.peers.register("reviewer", "http://127.0.0.1:1")
        with pytest.raises(BindError, match=message):
            world.run(program(boss=[sends(tell(**attributes))], critic=[tool("shout")]))
