"""EXC: what is decided before anything runs, and code that runs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from apxm.capability.grants import Grants
from apxm.capability.isolation.sandbox import Sandbox, absence
from apxm.errors import BindError, CapabilityError, DeniedError, RaisedError
from apxm.executor.bind import Kind
from apxm.executor.handlers.code import bind_exc
from apxm.graph.operation import Effect
from tests.unit.executor.firing import context, fire, services, spec

ABSENT = absence()
isolated = pytest.mark.skipif(ABSENT is not None, reason=f"no sandbox on this machine: {ABSENT}")


def run(attributes: dict[str, Any], ports: tuple[str | None, ...] = (), *inputs: Any) -> Any:
    """Fire a node with code, in a sandbox of its own."""
    bound, sandbox = bind_exc(spec("EXC", attributes, ports), services()), Sandbox()
    there = context()
    there.run = cast("Any", SimpleNamespace(capabilities=SimpleNamespace(sandbox=sandbox)))
    try:
        return asyncio.run(bound.fn(there, *inputs))
    finally:
        sandbox.close()


@isolated
def test_inputs_are_variables_by_name_and_a_list_in_order():
    code = "result = [inputs, named, sorted(name for name in globals() if not name.startswith('__'))]"
    assert run({"code": code}, (None, "named", None), 1, "two", [3]) == [[1, [3]], "two", ["inputs", "named"]]


@isolated
def test_the_message_comes_before_what_went_wrong():
    with pytest.raises(CapabilityError, match=r"^row 7: the code of `n` raised ValueError in line 1: bad"):
        run({"code": "raise ValueError('bad')", "message": "row {0}"}, (None,), 7)


@isolated
@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"memory_mb": 64}, "bytearray(256 << 20)"),
        ({"processes": 4}, "import os, signal\nfor _ in range(6): os.fork() or signal.pause()"),
    ],
)
def test_the_limits_of_the_node_hold(config, code):
    with pytest.raises(CapabilityError, match=r"MemoryError|BlockingIOError"):
        run({"code": code, "sandbox_config": config})


def test_with_a_message_only_it_fails_with_it_and_has_no_effect():
    bound = bind_exc(spec("EXC", {"message": "no {0}"}, (None,)), services())
    assert (bound.kind, bound.effect) == (Kind.SYNC, Effect.PURE)
    with pytest.raises(RaisedError, match=r"^no way$"):
        fire(bound, "way")


def test_code_is_guarded_and_limited_in_time():
    bound = bind_exc(spec("EXC", {"code": "result = 1"}), services())
    assert (bound.kind, bound.effect, bound.timeout_ms) == (Kind.ASYNC, Effect.GUARDED, 30_000)
    assert bind_exc(spec("EXC", {"code": "result = 1", "timeout_ms": 5}), services()).timeout_ms == 5


@pytest.mark.parametrize(
    ("attributes", "ports", "words"),
    [
        ({"code": "x", "sandbox_config": {"memory": 1}}, (), "memory_mb"),
        ({"code": "x", "sandbox_config": {"wall_s": 1}}, (), "memory_mb"),
        ({"code": "x", "sandbox_config": {"memory_mb": "64"}}, (), "whole number from 32"),
        ({"code": "x", "sandbox_config": {"processes": 10**9}}, (), "4 to 4096"),
        ({"code": "x", "sandbox_config": {"cpu_s": True}}, (), "whole number"),
        ({"message": "x", "sandbox_config": {"cpu_s": 1}}, (), "no code"),
        ({"code": "x"}, ("two words",), "name of a variable"),
        ({"code": "x"}, ("class",), "name of a variable"),
        ({"code": "x"}, ("inputs",), "named `inputs`"),
        ({"code": "x"}, ("result",), "named `result`"),
    ],
)
def test_what_cannot_run_is_refused_before_it_does(attributes, ports, words):
    with pytest.raises(BindError) as failure:
        bind_exc(spec("EXC", attributes, ports), services())
    assert words in str(failure.value)


def test_in_a_plan_of_a_model_code_must_be_granted():
    node = spec("EXC", {"code": "result = 1"})
    planned = replace(services(), explicit=True, grants=Grants.parse(["read=docs"]))
    with pytest.raises(DeniedError, match="`python` is not granted"):
        bind_exc(node, planned)
    assert bind_exc(node, replace(planned, grants=Grants.parse(["python"]))).kind is Kind.ASYNC
