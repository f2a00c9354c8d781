import pytest

from apxm import Runtime, compile
from apxm.aam.agent import Agent
from apxm.errors import BindError
from apxm.graph.contract import from_json


def flow(name: str, op: str, attributes: dict[str, object], parameter: str | None = None) -> dict[str, object]:
    graph: dict[str, object] = {
        "name": name,
        "nodes": [{"id": 1, "name": "only", "op": op, "attributes": attributes}],
        "edges": [{"from": parameter, "to": 1}] if parameter else [],
    }
    return graph | ({"parameters": [{"name": parameter, "type_name": "str"}]} if parameter else {})


WORKER = compile(from_json({"agents": [{"name": "worker", "flows": [flow("work", "WAIT_ALL", {}, "x")]}]}))
CALLER = compile(
    from_json(flow("main", "FLOW_CALL", {"agent_name": "worker", "flow_name": "work", "args": {"x": "done"}})),
)


def test_a_registered_agent_can_be_called_from_another_artifact():
    with Runtime() as runtime:
        runtime.flow_registry().register_agent(Agent.from_artifact(WORKER))
        assert runtime.execute(CALLER).value == ["done"]


def test_a_call_of_an_agent_that_is_not_registered_is_refused_until_it_is():
    with Runtime() as runtime:
        with pytest.raises(BindError, match=r"no agent `worker`"):
            runtime.execute(CALLER)
        runtime.flow_registry().register_agent(Agent.from_artifact(WORKER))
        assert runtime.execute(CALLER).value == ["done"]


def test_an_agent_registered_again_is_the_one_that_is_called():
    other = compile(from_json({"agents": [{"name": "worker", "flows": [flow("work", "PRINT", {"message": "new"}, "x")]}]}))
    with Runtime() as runtime:
        runtime.flow_registry().register_agent(Agent.from_artifact(WORKER))
        assert runtime.execute(CALLER).value == ["done"]
        runtime.flow_registry().register_agent(Agent.from_artifact(other))
        assert runtime.execute(CALLER).value == "done"
