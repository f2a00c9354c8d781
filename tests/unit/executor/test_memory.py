"""QMEM, UMEM and FENCE on the memory of one run."""

import asyncio
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from apxm.config import MemoryConfig
from apxm.errors import BindError, InvalidError, LockedError, StorageError
from apxm.executor.bind import Kind
from apxm.executor.context import OpContext
from apxm.executor.handlers.memory import BINDERS
from apxm.graph.operation import Effect
from apxm.memory.ltm.owner import Owner
from apxm.memory.system import MemorySystem
from apxm.outcome import Wait
from tests.unit.executor.firing import services, spec


@pytest.fixture
def system(tmp_path):
    made = MemorySystem(MemoryConfig(batch_ms=0, lock_timeout_ms=0), folder=lambda: tmp_path)
    yield made
    made.close()


@pytest.fixture
def memory(system):
    return system.run("run-1", "me", session="chat")


class Context(OpContext):
    """A firing of a flow, with provenance of its own."""

    __slots__ = ("flow_name", "labels", "owed")

    @property
    def flow(self):
        return SimpleNamespace(name=self.flow_name)

    def origins(self):
        return self.labels

    def owe(self, sources):
        self.owed = (*self.owed, *sources)


def context_of(memory, op="OP", agent="me", labels=(), flow="main"):
    run = SimpleNamespace(memory=memory)
    made = Context(run, node=7, name="n", op=op, agent=agent, attempt=1, deadline=float("inf"), locate=lambda: ())
    made.flow_name, made.labels, made.owed = flow, labels, ()
    return made


def fire(memory, op, attributes, *inputs, ports=None, context=None, waits=False, **more):
    bound = BINDERS[op](spec(op, attributes, ports or (None,) * len(inputs)), replace(services(), episodes_wait=waits))
    done = bound.fn(context or context_of(memory, op, **more), *inputs)
    return asyncio.run(done) if bound.kind is Kind.ASYNC else done


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


def test_a_record_says_which_node_made_it_and_is_read_by_type_and_by_search(memory, system):
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
    last = next(iter(system.episodes))
    assert (last.run, last.node, last.name, last.op, last.agent, last.kind) == ("run-1", 7, "n", "UMEM", "me", "record")


def test_what_memory_gives_is_labelled_by_its_tier():
    for tier in ("stm", "ltm", "episodic", "all"):
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
        ("QMEM", {"query": "k", "memory_tier": "disk"}, r"no memory tier `disk`"),
        ("UMEM", {"key": "k", "value": 1, "memory_tier": "episodic", "ttl_ms": 5}, r"UMEM `n`.*an episode has no end"),
        ("UMEM", {"key": "k", "value": 1, "memory_tier": "all"}, r"UMEM `n`.*tier `all` is for reading"),
        ("UMEM", {"key": "k", "value": 1, "memory_tier": "ltm", "scope": "run"}, r"UMEM `n`.*tier `ltm` has none"),
        ("UMEM", {"key": "k"}, r"has nothing to store"),
        ("QMEM", {"key": "k", "memory_tier": "ltm", "where": {"a": {"b": 1}}}, r"QMEM `n`.*there is no `b`"),
        ("QMEM", {"query": "k", "memory_tier": "all", "where": {"$near": 1}}, r"QMEM `n`.*there is no `\$near`"),
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


# ---- what lasts ------------------------------------------------------------------------------------------------------
def test_what_waits_for_a_disk_never_does_so_on_the_loop():
    kinds = {
        (op, tier, waits): BINDERS[op](
            spec(op, {"key": "k", "value": 1, "memory_tier": tier} if op == "UMEM" else {"key": "k", "memory_tier": tier}),
            replace(services(), episodes_wait=waits),
        ).kind
        for op, tiers in (("QMEM", ("stm", "ltm", "episodic", "all")), ("UMEM", ("stm", "ltm", "episodic")))
        for tier in tiers
        for waits in (False, True)
    }
    assert {key for key, kind in kinds.items() if kind is Kind.SYNC} == {
        *(("QMEM", "stm", waits) for waits in (False, True)),
        *(("UMEM", "stm", waits) for waits in (False, True)),
        ("QMEM", "episodic", False),
        ("UMEM", "episodic", False),
    }
    assert BINDERS["UMEM"](spec("UMEM", {"key": "k", "value": 1, "durable": True}), services()).kind is Kind.ASYNC


def test_what_is_stored_for_good_has_the_labels_of_its_firing_and_gives_them_to_its_readers(memory, system):
    assert fire(memory, "UMEM", {"key": "k_{0}", "memory_tier": "ltm"}, "a", {"n": 1}, labels=("web",)) == {"n": 1}
    assert fire(memory, "QMEM", {"key": "k_a"}) is None
    entry = system.ltm.get("k_a", namespace="me")
    assert (entry.value, entry.labels) == ({"n": 1}, ("web",))
    for tier, owed in (("ltm", ("web",)), ("all", ("web", "memory:ltm"))):
        context = context_of(memory)
        assert fire(memory, "QMEM", {"key": "k_a", "memory_tier": tier}, context=context) == {"n": 1}
        assert context.owed == owed
    assert fire(memory, "QMEM", {"key": "k_a", "memory_tier": "ltm"}, agent="other") is None


def test_a_search_of_what_lasts_owes_the_labels_of_what_it_found(memory):
    fire(memory, "UMEM", {"key": "sky", "memory_tier": "ltm"}, "the sky is blue", labels=("web",))
    for tier in ("ltm", "all"):
        context = context_of(memory)
        (hit,) = fire(memory, "QMEM", {"query": "{0} sky", "memory_tier": tier}, "blue", context=context)
        assert hit["value"] == "the sky is blue"
        assert "web" in context.owed


def test_a_durable_write_is_in_both_tiers_and_a_record_may_be_one(memory, system):
    assert fire(memory, "UMEM", {"key": "k", "durable": True, "scope": "run"}, 1) == 1
    assert (memory.view("other").get("k"), system.ltm.get("k", namespace="me").value) == (1, 1)
    fire(memory, "UMEM", {"key": "r", "durable": True, "memory_tier": "episodic"}, 2)
    assert (memory.get("r", tier="episodic"), memory.get("r", tier="ltm"), memory.get("r")) == (2, 2, None)


def test_a_durable_write_that_fails_is_in_neither_tier(memory, system):
    with pytest.raises(InvalidError, match="UMEM `n`"):
        fire(memory, "UMEM", {"key": "{0}", "durable": True}, "x" * 1_001, 1)
    with pytest.raises(InvalidError, match=r"UMEM `n`.*nan"):
        fire(memory, "UMEM", {"key": "k", "durable": True}, float("nan"))
    with pytest.raises(InvalidError, match=r"UMEM `n`.*no memory scope `session` here"):
        fire(system.run("alone", "me"), "UMEM", {"key": "k", "durable": True, "scope": "session"}, 1)
    assert system.ltm.list() == []
    assert memory.get("k", "nothing") == "nothing"


def test_scopes_of_short_term_memory_are_shared_as_they_say(memory, system):
    for scope in ("flow", "agent", "run", "session"):
        fire(memory, "UMEM", {"key": scope, "scope": scope}, scope)

    def seen(**who):
        return [fire(memory, "QMEM", {"key": scope}, **who) for scope in ("flow", "agent", "run", "session")]

    assert seen() == ["flow", "agent", "run", "session"]
    assert seen(flow="second") == [None, "agent", "run", "session"]
    assert seen(agent="other") == [None, None, "run", "session"]
    assert system.session("chat").get("session") == "session"
    alone = system.run("run-2", "me")
    with pytest.raises(InvalidError, match=r"UMEM `n`: there is no memory scope `session` here; give the run one"):
        fire(alone, "UMEM", {"key": "k", "scope": "session"}, 1)


def test_episodes_on_disk_are_written_and_read_on_another_thread(memory, system):
    threads = []
    add, last = system.episodes.record, system.episodes.last
    system.episodes.record = lambda *given: (threads.append(threading.current_thread()), add(*given))
    system.episodes.last = lambda *given: (threads.append(threading.current_thread()), last(*given))[1]
    assert fire(memory, "UMEM", {"key": "k", "memory_tier": "episodic"}, 1, waits=True) == 1
    assert fire(memory, "QMEM", {"key": "k", "memory_tier": "episodic"}, waits=True) == 1
    assert len(threads) == 2
    assert threading.main_thread() not in threads


def test_who_is_locked_out_waited_already_and_is_not_tried_again(memory, tmp_path):
    owner = Owner(tmp_path)
    owner.acquire(0)
    try:
        with pytest.raises(LockedError) as locked:
            fire(memory, "UMEM", {"key": "k", "memory_tier": "ltm"}, 1)
    finally:
        owner.release()
    assert locked.value.called


def test_writes_that_fail_together_fail_with_errors_of_their_own(memory, system):
    failure = StorageError("the disk is full", hint="make room")

    def full(writes):
        raise failure

    system.ltm._writer._commit = full
    bound = BINDERS["UMEM"](spec("UMEM", {"key": "k", "memory_tier": "ltm"}, (None,)), services())

    async def both():
        return await asyncio.gather(*(bound.fn(context_of(memory), at) for at in range(2)), return_exceptions=True)

    one, other = asyncio.run(both())
    assert one is not other
    assert {(error.code, str(error), error.called) for error in (one, other)} == {
        ("storage", "the disk is full; make room", False)
    }


class Slow:
    """Commits of a long-term memory that wait until they are let go."""

    def __init__(self, system):
        self.reached, self.go = threading.Event(), threading.Event()
        writer = system.ltm._writer
        self.commit, writer._commit = writer._commit, self.held

    def held(self, writes):
        self.reached.set()
        self.go.wait(10)
        return self.commit(writes)


def test_the_write_of_a_node_that_is_cancelled_is_done_and_counts_when_it_is(memory, system):
    memory.put("k", "old", tier="ltm")
    slow = Slow(system)
    memory.submit("before", 1)
    slow.reached.wait(10)
    bound = BINDERS["UMEM"](spec("UMEM", {"key": "k", "memory_tier": "ltm"}, (None,)), services())

    async def cancelled():
        task = asyncio.ensure_future(bound.fn(context_of(memory), "new"))
        await asyncio.sleep(0)  # it is accepted, and waits for its turn
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert fire(memory, "QMEM", {"key": "k", "memory_tier": "all"}) == "old"  # and a copy of it
    slow.go.set()
    system.ltm.flush()
    assert fire(memory, "QMEM", {"key": "k", "memory_tier": "all"}) == "new"
    fire(memory, "UMEM", {"key": "next", "memory_tier": "ltm"}, 2)  # and the writer goes on


def test_a_fence_waits_for_what_is_not_written_yet_and_for_nothing_else(memory, system):
    assert fire(memory, "FENCE", {}, "a") == "a"
    slow = Slow(system)
    memory.submit("k", 1)
    slow.reached.wait(10)
    outcome = fire(memory, "FENCE", {}, "a")
    assert type(outcome) is Wait
    assert type(outcome.then()) is Wait
    slow.go.set()
    for _ in range(10_000):
        if type(outcome) is not Wait:
            break
        threading.Event().wait(outcome.seconds)
        outcome = outcome.then()
    assert (outcome, memory.get("k", tier="ltm")) == ("a", 1)
