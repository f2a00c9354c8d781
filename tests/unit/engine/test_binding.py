"""Binding a program: every flow once, callees before their callers, however they call each other."""

from __future__ import annotations

from apxm import CapabilityRecord, Runtime
from apxm.compiler.compile import compile
from apxm.config import RunOptions
from apxm.graph.ops import Effect


def program(count, last):
    """Flows f0 … in a chain, each calling the next one; the last one is given."""
    call = {"id": 1, "name": "call", "op": "FLOW_CALL"}
    flows = [
        {"name": f"f{n}", "nodes": [{**call, "attributes": {"agent_name": "a", "flow_name": f"f{n + 1}"}}], "edges": []}
        for n in range(count - 1)
    ]
    flows.append({"name": f"f{count - 1}", "nodes": [last], "edges": []})
    flows[0]["metadata"] = {"is_entry": True}
    return compile({"name": "chain", "agents": [{"name": "a", "flows": flows}]})


def bound(runtime, artifact):
    return runtime._binding_of(artifact.into_dag(), RunOptions())[0]


def test_a_chain_of_a_thousand_flows_is_bound_and_knows_the_effect_of_its_end():
    last = {"id": 1, "name": "send", "op": "INV", "attributes": {"capability": "send"}}
    with Runtime() as runtime:
        runtime.capability_system().register("send", CapabilityRecord("Sends.", lambda: 1, effect="idempotent"))
        binding = bound(runtime, program(1_000, last))
    depth, effects = 0, set()
    while binding.calls:
        effects.add(binding.effect)
        ((binding, _),) = binding.calls.values()
        depth += 1
    assert (depth, effects) == (999, {Effect.IDEMPOTENT})


def test_a_circle_of_a_thousand_flows_is_bound():
    back = {"id": 1, "name": "back", "op": "FLOW_CALL", "attributes": {"agent_name": "a", "flow_name": "f0"}}
    with Runtime() as runtime:
        binding = first = bound(runtime, program(1_000, back))
    for _ in range(1_000):
        ((binding, _),) = binding.calls.values()
    assert binding is first


def test_a_flow_that_two_others_call_is_bound_once():
    def call(id, flow):
        return {"id": id, "name": flow, "op": "FLOW_CALL", "attributes": {"agent_name": "a", "flow_name": flow}}

    one = {"name": "one", "nodes": [{"id": 1, "name": "x", "op": "CONST_STR", "attributes": {"value": 1}}], "edges": []}
    flows = [
        {"name": "main", "nodes": [call(1, "left"), call(2, "right")], "edges": [], "metadata": {"is_entry": True}},
        {"name": "left", "nodes": [call(1, "one")], "edges": []},
        {"name": "right", "nodes": [call(1, "one")], "edges": []},
        one,
    ]
    with Runtime() as runtime:
        binding = bound(runtime, compile({"name": "p", "agents": [{"name": "a", "flows": flows}]}, level=0))
    left, right = (called for called, _ in binding.calls.values())
    assert next(iter(left.calls.values()))[0] is next(iter(right.calls.values()))[0]
