"""Check mode finds the capability that changes what it was given."""

from __future__ import annotations

import pytest

from apxm import CapabilityRecord, Graph, RunOptions, Runtime
from apxm.errors import ApxmError


async def spoil_later(items):
    items.append("later")
    return len(items)


def spoil(items):
    items.append("now")
    return len(items)


def keep(items):
    return len(items)


RECORDS = {
    "pure": CapabilityRecord("Spoil.", spoil, effect="pure"),
    "inline": CapabilityRecord("Spoil.", spoil, effect="read", run="inline"),
    "thread": CapabilityRecord("Spoil.", spoil, effect="read", run="thread"),
    "async": CapabilityRecord("Spoil.", spoil_later, effect="read"),
    "honest": CapabilityRecord("Keep.", keep, effect="pure"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_capability_that_changes_its_input_is_named(name):
    graph = Graph("g")
    graph.inv(name, graph.const_str([1, 2]), name="call")
    with Runtime() as runtime:
        runtime.capability_system().register(name, RECORDS[name])
        options = RunOptions(check=True)
        if name == "honest":
            assert runtime.execute(graph, run=options).value == 2
            return
        with pytest.raises(ApxmError) as caught:
            runtime.execute(graph, run=options)
        assert (caught.value.code, caught.value.node) == ("changed_input", "call")
        assert runtime.execute(graph).value == 3  # nobody looks outside check mode
