"""QMEM, UMEM and FENCE on the memory of one run."""

from types import SimpleNamespace

import pytest

from apxm.errors import BindError, InvalidError
from apxm.executor.bind import Kind
from apxm.executor.context import OpContext
from apxm.executor.handlers.memory import BINDERS
from apxm.graph.operation import Effect
from apxm.memory.system import MemorySystem
from tests.unit.executor.firing import services, spec


@pytest.fixture
def memory():
    return MemorySystem().run("run-1", "me")


def fire(memory, op, attributes, *inputs, ports=None, agent="me"):
    bound = BINDERS[op](spec(op, attributes, ports or (None,) * len(inputs)), services())
    run = SimpleNamespace(memory=memory)
    context = OpContext(run, node=7, name="n", op=op, agent=agent, attempt=1, deadline=float("inf"), locate=lambda: ())
    return bound.fn(context, *inputs)


def test_what_was_written_is_read_by_its_key(memory):
    assert fire(memory, "UMEM", {"key": "k"}, {"a": [1]}) == {"a": [1]}
    assert fire(memory, "QMEM", {"key": "k"}) == {"a": [1]}
    assert fire(memory, "QMEM", {"key": "other"}) is None


def test_keys_and_values_are_templates(memory):
    assert fire(memory, "UMEM", {"key": "k_{who}", "value": {"x": "{0}", "t": "<{0}>"}}, "ann", [1], ports=("who", None)) == {
        "x": [1],
        "t": "<[1]>",
    }
    assert fire(memory, "QMEM", {"key": "k_{who}"}, "ann", ports=("who",)) == {"x": [1], "t": "<[1]>"}


def test_the_first_input_that_no_placeholder_uses_is_stored_before_the_attribute(memory):
    assert fire(memory, "UMEM", {"key": "k_{0}", "value": "attribute"}, "a", "input") == "input"
    assert fire(memory, "UMEM", {"key": "k_{0}", "value": "attribute"}, "b") == "attribute"
    assert memory.get("k_a") == "input"


def test_null_can_be_stored(memory):
    assert fire(memory, "UMEM", {"key": "k", "value": None}) is None
    assert memory.get("k", "nothing") is None


def test_a_value_with_a_time_to_live_is_forgotten():
    now = [0.0]
    memory = MemorySystem(clock=lambda: now[0]).run("r", "me")
    fire(memory, "UMEM", {"key": "k", "ttl_ms": 1_000}, 1)
    assert fire(memory, "QMEM", {"key": "k"}) == 1
    now[0] = 1.0
    assert fire(memory, "QMEM", {"key": "k"}) is None


def test_a_query_gives_ranked_entries(memory):
    fire(memory, "UMEM", {"key": "apple"}, {"kind": "fruit", "text": "a red apple"})
    fire(memory, "UMEM", {"key": "brick"}, {"kind": "stone", "text": "a red brick"})
    found = fire(memory, "QMEM", {"query": "red {what}"}, "apple", ports=("what",))
    assert [(entry["key"], entry["score"]) for entry in found] == [("apple", 0.725), ("brick", 0.3)]
    assert [e["key"] for e in fire(memory, "QMEM", {"query": "red", "where": {"kind": "stone"}})] == ["brick"]
    assert [e["key"] for e in fire(memory, "QMEM", {"query": "red", "limit": 1})] == ["brick"]
    assert fire(memory, "QMEM", {"query": "red apple", "min_score": 0.9}) == []
    assert [e["key"] for e in fire(memory, "QMEM", {}, "apple")] == ["apple"]


def test_where_holds_for_a_key_too(memory):
    fire(memory, "UMEM", {"key": "k"}, {"kind": "fruit"})
    assert fire(memory, "QMEM", {"key": "k", "where": {"kind": "fruit"}}) == {"kind": "fruit"}
    assert fire(memory, "QMEM", {"key": "k", "where": {"kind": "stone"}}) is None


def test_agents_do_not_read_each_other(memory):
    fire(memory, "UMEM", {"key": "k"}, 1, agent="a")
    assert fire(memory, "QMEM", {"key": "k"}, agent="b") is None
    assert fire(memory, "QMEM", {"query": "k"}, agent="b") == []
    memory.put("k", "shared", scope="run")
    assert fire(memory, "QMEM", {"key": "k"}, agent="b") == "shared"


def test_a_record_says_which_node_made_it_and_is_read_by_type_and_by_search(memory):
    assert fire(memory, "UMEM", {"key": "lesson", "memory_tier": "episodic"}, {"n": 1, "text": "ask twice"}) == {
        "n": 1,
        "text": "ask twice",
    }
    fire(memory, "UMEM", {"key": "lesson", "memory_tier": "episodic"}, {"n": 2, "text": "write less"})
    assert fire(memory, "QMEM", {"key": "lesson", "memory_tier": "episodic"})["n"] == 2
    assert fire(memory, "QMEM", {"key": "lesson", "memory_tier": "episodic", "where": {"n": 1}})["n"] == 1
    (found,) = fire(memory, "QMEM", {"query": "ask", "memory_tier": "episodic"})
    assert (found["key"], found["value"]["n"]) == ("lesson", 1)
    assert fire(memory, "QMEM", {"key": "lesson"}) is None
    assert fire(memory, "QMEM", {"key": "lesson", "memory_tier": "all"})["n"] == 2
    last = next(iter(memory._system.episodes))
    assert (last.run, last.node, last.name, last.op, last.agent, last.kind) == ("run-1", 7, "n", "UMEM", "me", "record")


def test_what_memory_gives_is_labelled_by_its_tier():
    for tier in ("stm", "episodic", "all"):
        assert BINDERS["QMEM"](spec("QMEM", {"key": "k", "memory_tier": tier}), services()).label == f"memory:{tier}"


def test_a_fence_passes_its_first_input(memory):
    assert fire(memory, "FENCE", {}, "a", "b") == "a"
    assert fire(memory, "FENCE", {"ordering": "all"}) is None


def test_a_key_that_is_none_fails_the_node(memory):
    with pytest.raises(InvalidError, match=r"UMEM `n`: memory key '' is not a text"):
        fire(memory, "UMEM", {"key": "{0}"}, "", 1)


@pytest.mark.parametrize(
    ("op", "attributes", "message"),
    [
        ("QMEM", {"key": "k", "memory_tier": "ltm"}, r"QMEM `n`.*`ltm` comes with the long-term memory"),
        ("QMEM", {"query": "k", "memory_tier": "disk"}, r"no memory tier `disk`"),
        ("UMEM", {"key": "k", "value": 1, "memory_tier": "episodic", "ttl_ms": 5}, r"UMEM `n`.*an episode has no end"),
        ("UMEM", {"key": "k", "value": 1, "durable": True}, r"is durable, which comes with"),
        ("UMEM", {"key": "k"}, r"has nothing to store"),
        ("QMEM", {}, r"neither a key nor a query nor an input"),
        ("QMEM", {"key": "{who}"}, r"nothing fills `\{who\}`"),
    ],
)
def test_what_cannot_be_kept_is_refused_when_it_is_bound(op, attributes, message):
    with pytest.raises(BindError, match=message):
        BINDERS[op](spec(op, attributes), services())


def test_effects_and_labels_are_those_of_memory():
    query, update, fence = (
        BINDERS[op](spec(op, attributes, (None,)), services())
        for op, attributes in (("QMEM", {"key": "k"}), ("UMEM", {"key": "k"}), ("FENCE", {}))
    )
    assert (query.kind, query.effect, query.label) == (Kind.SYNC, Effect.READ, "memory:stm")
    assert (update.effect, update.label) == (Effect.IDEMPOTENT, None)
    assert fence.effect is Effect.IDEMPOTENT
    assert all(bound.owns for bound in (query, update, fence))  # stored values are settled: copying them again would be waste
