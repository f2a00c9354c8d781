"""Programs that the tests of the command line run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

GREET = {
    "name": "greet",
    "parameters": [{"name": "who", "type_name": "str"}, {"name": "times", "type_name": "int"}],
    "nodes": [
        {"id": 1, "name": "say", "op": "PRINT", "attributes": {"message": "hello {who}"}},
        {"id": 2, "name": "both", "op": "WAIT_ALL"},
    ],
    "edges": [{"from": "who", "to": 1, "port": "who"}, {"from": 1, "to": 2}, {"from": "times", "to": 2}],
}

TOOLS = '''
import asyncio
import threading
from apxm import CapabilityRecord, TransientError, flow, step

async def hang() -> str:
    """Never comes back, and says so."""
    await asyncio.Event().wait()
    return ""

def deaf() -> str:
    """Waits where nobody can stop it."""
    threading.Event().wait(60)
    return ""

def broken(x: int) -> int:
    """Divides by zero."""
    return x // 0

def half(x: int) -> int:
    """Half of a number."""
    return x // 2

CAPABILITIES = {
    "hang": CapabilityRecord("Never comes back", hang, effect="read", timeout_ms=None),
    "deaf": CapabilityRecord("Waits where nobody can stop it", deaf, effect="read"),
    "broken": CapabilityRecord("Divides by zero", broken, effect="pure"),
    "half": CapabilityRecord("Half of a number", half, effect="pure"),
}

@flow
def waits():
    first = step.print(message="ready", name="first")
    return step.inv("hang", after=first, name="forever")

@flow
def hears_nothing():
    first = step.print(message="ready", name="first")
    return step.inv("deaf", after=first, name="forever")

@flow
def fails():
    before = step.const_str(3, name="before")
    return step.inv("broken", x=before, name="division")

@flow
def writes(path: str):
    return step.inv("write", path=path, content="x", name="write")

@flow
def counts(items: object):
    halves = step.map(items, name="halves")
    with halves as item:
        step.yield_(step.inv("half", x=item, name="half"), name="result")
    return halves

@flow
def asks(question: str):
    text = "Context 1: The sky is blue in the morning. Fresh grass is green.\\n\\nQuestion: {question}"
    return step.ask(text, question=question, name="answer")
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "greet.json").write_text(json.dumps(GREET))
    (folder / "tools_here.py").write_text(TOOLS)
    (folder / "broken.json").write_text("{nodes: []}")
    bad = {**GREET, "nodes": [{"id": 1, "name": "say", "op": "PRNT"}, *GREET["nodes"][1:]]}
    (folder / "unknown.json").write_text(json.dumps(bad))
    (folder / "damaged.apxm").write_bytes(b"APXM" + bytes(200))
    return folder
