"""Programs that remember: real runtimes on real folders, one after the other and beside each other."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Any

import pytest

from apxm import (
    AgentGraph,
    CapabilityRecord,
    DeniedError,
    MemoryConfig,
    Program,
    RunOptions,
    Runtime,
    RuntimeConfig,
    ScriptedModel,
    compile,
    flow,
    step,
)
from apxm.errors import DeadlineError, LockedError, TransientError
from apxm.fault import at_faults
from apxm.memory.ltm.owner import Owner
from apxm.observability.events import NodeRetried
from apxm.testing.sketch import sketch
from tests.unit.executor.planners import answer

if TYPE_CHECKING:
    from pathlib import Path


def opened(tmp_path: Path, *, model: Any = None, **memory: Any) -> Runtime:
    return Runtime(RuntimeConfig(state_dir=str(tmp_path / "state"), memory_config=MemoryConfig(**memory)), model=model)


def kept(runtime: Runtime, agent: str = "default") -> dict[str, Any]:
    return {one.key: one.value for one in runtime.memory.ltm.list(namespace=agent)}


@flow
def learn(key: str, value: Any):  # type: ignore[no-untyped-def]
    return step.umem("{key}", value, memory_tier="ltm")


@flow
def recall(key: str):  # type: ignore[no-untyped-def]
    return step.qmem(key="{key}", memory_tier="ltm")


@flow
def looked_up(q: str):  # type: ignore[no-untyped-def]
    return step.qmem(query=f"{q}", memory_tier="all")


# ---- between runs and processes --------------------------------------------------------------------------------------
def test_what_one_run_learned_a_run_of_another_program_knows_in_the_next_process(tmp_path: Path) -> None:
    with opened(tmp_path) as runtime:
        runtime.execute(learn, key="sky", value={"colour": "blue", "since": 1})
        runtime.execute(learn, key="sky", value={"colour": "grey"})
        assert kept(runtime) == {"sky": {"colour": "grey"}}
    with opened(tmp_path) as runtime:
        assert runtime.execute(recall, key="sky").value == {"colour": "grey"}
        assert runtime.execute(recall, key="sea").value is None
        (hit,) = runtime.execute(looked_up, q="grey").value
        assert (hit["key"], hit["value"]) == ("sky", {"colour": "grey"})


def test_what_came_from_the_web_still_does_in_another_program_of_another_process(tmp_path: Path) -> None:
    sent: list[str] = []

    def with_tools() -> Runtime:
        runtime = opened(tmp_path)
        system = runtime.capability_system()
        system.register("page", CapabilityRecord("Fetch.", lambda: "from a page", effect="read", source="web"))
        system.register("send", CapabilityRecord("Send.", lambda text: sent.append(text) or "sent"))
        return runtime

    with with_tools() as runtime:
        runtime.execute(flow(lambda: step.umem("page", step.inv("page"), memory_tier="ltm"), name="reader"))
        runtime.execute(flow(lambda: step.umem("own", value="my own", memory_tier="ltm"), name="reader"))

    def mails(key: str, tier: str) -> Any:
        return flow(lambda: step.inv("send", text=step.qmem(key=key, memory_tier=tier), name="mail"), name=f"{key}_{tier}")

    with with_tools() as runtime:
        for tier in ("ltm", "all"):
            with pytest.raises(DeniedError, match="comes from `web`"):
                runtime.execute(mails("page", tier))
        assert sent == []
        runtime.execute(mails("own", "ltm"))
        runtime.execute(mails("page", "ltm"), run=RunOptions(trust=["web=send"]))
    assert sent == ["my own", "from a page"]


def test_agents_of_one_program_have_memories_of_their_own(tmp_path: Path) -> None:
    @flow
    def main():  # type: ignore[no-untyped-def]
        mine = step.umem("k", value="boss", memory_tier="ltm")
        theirs = step.flow_call("work", agent_name="clerk", order_after=mine)
        return step.merge(theirs, step.qmem(key="k", memory_tier="all", order_after=theirs), mode="array")

    @flow(is_entry=False)
    def work():  # type: ignore[no-untyped-def]
        before = step.qmem(key="k", memory_tier="all")
        found = step.qmem(query="boss", memory_tier="all")
        after = step.umem("k", value="clerk", memory_tier="ltm", order_after=[before, found])
        return step.merge(before, found, after, mode="array")

    with opened(tmp_path) as runtime:
        value = runtime.execute(Program([AgentGraph("boss", [main]), AgentGraph("clerk", [work])])).value
        assert value == [[None, [], "clerk"], "boss"]
        assert (kept(runtime, "boss"), kept(runtime, "clerk")) == ({"k": "boss"}, {"k": "clerk"})


def test_what_an_agent_declares_of_its_memory_holds_for_its_keys(tmp_path: Path) -> None:
    @flow
    def notes():  # type: ignore[no-untyped-def]
        step.agent(memory=[{"name": "notes", "tier": "ltm"}])
        return step.umem("notes", value="kept")

    with opened(tmp_path) as runtime:
        runtime.execute(notes)
        assert kept(runtime) == {"notes": "kept"}


def test_what_was_done_before_a_fence_survives_the_death_of_the_process_at_once(tmp_path: Path) -> None:
    code = f"""
        import os
        from apxm import *

        @flow
        def main():
            ltm = step.umem("k", value="for good", memory_tier="ltm")
            record = step.umem("r", value="on record", memory_tier="episodic")
            return step.inv("die", order_after=step.fence(order_after=[ltm, record]))

        state = RuntimeConfig(state_dir={str(tmp_path / "state")!r}, memory_config=MemoryConfig(episodic="sqlite"))
        with Runtime(state) as runtime:
            runtime.capability_system().register("die", CapabilityRecord("Die.", lambda: os._exit(9), run="inline"))
            runtime.execute(main)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 9, done.stderr
    with opened(tmp_path, episodic="sqlite") as runtime:
        assert kept(runtime) == {"k": "for good"}
        assert [one.value for one in runtime.memory.episodes.find(kind="record")] == ["on record"]


# ---- sessions --------------------------------------------------------------------------------------------------------
@flow
def turn(said: str):  # type: ignore[no-untyped-def]
    before = step.qmem(key="last")
    step.umem("last", said, scope="session", order_after=before)
    return before


def test_runs_of_a_session_know_what_was_said_before(tmp_path: Path) -> None:
    with opened(tmp_path) as runtime:
        first = RunOptions(session="ann")
        assert [runtime.execute(turn, said=said, run=first).value for said in ("a", "b", "c")] == [None, "a", "b"]
        assert runtime.execute(turn, said="x", run=RunOptions(session="bob")).value is None
        assert runtime.memory.session("ann").get("last") == "c"
        runtime.memory.session("ann").clear()
        assert runtime.execute(turn, said="d", run=first).value is None


def test_a_host_hears_what_runs_and_sessions_store(tmp_path: Path) -> None:
    heard: list[tuple[str, str, str]] = []
    with opened(tmp_path) as runtime:
        end = runtime.memory.subscribe(lambda whose, change: heard.append((whose, change.scope, change.key)))
        runtime.execute(turn, said="a", run=RunOptions(session="ann", run_id="r1"))
        runtime.execute(flow(lambda: step.umem("k", value=1), name="main"), run=RunOptions(run_id="r2"))
        end()
        runtime.execute(turn, said="b", run=RunOptions(session="ann"))
    assert heard == [("ann", "session", "last"), ("r2", "agent:default", "k")]


# ---- models ----------------------------------------------------------------------------------------------------------
def test_a_plan_is_told_what_was_learned_in_an_earlier_process(tmp_path: Path) -> None:
    with opened(tmp_path) as runtime:
        runtime.execute(learn, key="style", value="short sentences")
    model = ScriptedModel(rules=[(".", answer())])
    with opened(tmp_path, model=model) as runtime:
        result = runtime.execute(flow(lambda: step.plan("Write.", context_key="style", name="plan"), name="main"))
    assert "short sentences" in model.calls[0].prompt.messages[-1].content
    assert {"memory:all", "memory:ltm", "user"} <= result.labels("return")


def test_what_a_plan_of_a_model_stores_for_good_is_from_that_model(tmp_path: Path) -> None:
    inner = answer(sketch({1: ("UMEM", {"key": "k", "value": "a constant of the plan", "memory_tier": "ltm"})}))
    with opened(tmp_path, model=ScriptedModel(rules=[(".", inner)])) as runtime:
        runtime.execute(flow(lambda: step.plan("Do.", enable_inner_plan=True, name="plan"), name="main"))
        (entry,) = runtime.memory.ltm.list(namespace="default")
    assert (entry.value, entry.labels) == ("a constant of the plan", ("llm:scripted",))


def reasons(**more: Any) -> ScriptedModel:
    return ScriptedModel(rules=[(".", {"result": "a coat", **more})])


weigh = flow(lambda q: step.reason(f"{q}?", durable=True, name="weigh"), name="main")


def test_what_a_model_believed_is_stored_for_good_with_all_that_it_came_from(tmp_path: Path) -> None:
    @flow
    def main(q: str):  # type: ignore[no-untyped-def]
        return step.reason(f"{q}?", durable=True, context_key="style")

    sure = {"rain": {"value": [True], "confidence": 0.75}, "sky": "grey"}
    with opened(tmp_path, model=reasons(belief_updates=sure, new_goals=[{"description": "dry"}])) as runtime:
        runtime.execute(learn, key="style", value="short")
        assert runtime.execute(main, q="rain").value == "a coat"
        found = {one.key: one for one in runtime.memory.ltm.list(namespace="default", where={"confidence": {"$gt": 0.0}})}
    assert {key: (one.value, one.metadata) for key, one in found.items()} == {
        "rain": ([True], {"confidence": 0.75}),
        "sky": ("grey", {"confidence": 1.0}),
    }
    assert {frozenset(one.labels) for one in found.values()} == {frozenset({"llm:scripted", "memory:all", "memory:ltm", "user"})}


def test_what_a_model_believed_for_good_is_told_to_the_next_process(tmp_path: Path) -> None:
    with opened(tmp_path, model=reasons(belief_updates={"style": "short sentences"})) as runtime:
        runtime.execute(weigh, q="how")
    model = reasons()
    with opened(tmp_path, model=model) as runtime:
        runtime.execute(flow(lambda: step.reason("Write.", context_key="style"), name="main"))
    assert "short sentences" in model.calls[0].prompt.messages[-1].content


def test_beliefs_that_cannot_be_stored_are_not_held_and_the_model_is_not_asked_again(tmp_path: Path) -> None:
    def busy(site: str) -> None:
        if site == "ltm.record.before_commit":
            raise TransientError("others write")

    model = reasons(belief_updates={"sky": "grey"})
    with opened(tmp_path, model=model) as runtime, at_faults(busy), pytest.raises(TransientError) as failed:
        runtime.execute(weigh, q="rain")
    assert failed.value.node == "weigh"
    assert (failed.value.result.machine("default").beliefs(), len(model.calls)) == ({}, 1)


def test_a_reason_is_done_when_its_beliefs_are_written_and_keeps_no_other_run_waiting(tmp_path: Path) -> None:
    with opened(tmp_path, model=reasons(belief_updates={"sky": "grey"})) as runtime:
        stuck = Stuck(runtime)
        handle = runtime.start(weigh, q="rain")
        assert stuck.reached.wait(10)
        assert runtime.execute(flow(lambda: step.reason("Quick."), name="main")).value == "a coat"  # on the same loop
        assert not handle.done()
        stuck.go.set()
        assert handle.result(10).value == "a coat"
        assert kept(runtime) == {"sky": "grey"}


# ---- nothing else waits ----------------------------------------------------------------------------------------------
class Stuck:
    """Writes of a runtime that reach no disk before they are let go."""

    def __init__(self, runtime: Runtime) -> None:
        self.reached, self.go = threading.Event(), threading.Event()
        writer = runtime.memory.ltm._writer
        commit = writer._commit

        def slow(writes: Any) -> Any:
            self.reached.set()
            self.go.wait(30)
            return commit(writes)

        writer._commit = slow  # type: ignore[method-assign]


def test_a_disk_that_takes_its_time_keeps_no_other_run_waiting(tmp_path: Path) -> None:
    with opened(tmp_path) as runtime:
        stuck = Stuck(runtime)
        handle = runtime.start(learn, key="k", value=1)
        assert stuck.reached.wait(10)
        runtime.capability_system().register("tick", CapabilityRecord("Tick.", _tick, effect="read"))
        assert runtime.execute(flow(lambda: step.inv("tick"), name="main")).value == "tock"  # on the same loop
        assert runtime.execute(recall, key="k").value is None
        stuck.go.set()
        assert handle.result(10).value == 1


async def _tick() -> str:
    return "tock"


def test_the_deadline_of_a_run_and_the_timeout_of_a_node_hold_while_a_write_hangs(tmp_path: Path) -> None:
    with opened(tmp_path) as runtime:
        stuck = Stuck(runtime)
        with pytest.raises(DeadlineError):
            runtime.execute(learn, key="k", value=1, run=RunOptions(deadline_s=0.05))
        limited = flow(lambda: step.umem("j", value=2, memory_tier="ltm", timeout_ms=20), name="main")
        with pytest.raises(DeadlineError, match="took longer than its timeout"):
            runtime.execute(limited)
        stuck.go.set()
        runtime.memory.ltm.flush()
        assert kept(runtime) == {"k": 1, "j": 2}  # accepted is accepted


def test_who_finds_the_folder_taken_fails_once_and_reads_all_the_same(tmp_path: Path) -> None:
    with opened(tmp_path) as runtime:
        runtime.execute(learn, key="k", value=1)
    owner = Owner(tmp_path / "state" / "memory")
    owner.acquire(0)
    try:
        with opened(tmp_path, lock_timeout_ms=0) as runtime:
            assert runtime.execute(recall, key="k").value == 1
            with pytest.raises(LockedError, match="is owned by another") as locked:
                runtime.execute(learn, key="k", value=2, run=RunOptions(trace=True))
            assert not [event for event in locked.value.result.events() if isinstance(event, NodeRetried)]
    finally:
        owner.release()


def test_many_writes_of_one_run_are_committed_together_and_none_is_lost(tmp_path: Path) -> None:
    @flow
    def main(keys: Any):  # type: ignore[no-untyped-def]
        each = step.map(keys)
        with each as key:
            stored = step.umem(f"{key}", key, memory_tier="ltm")
            step.yield_(step.qmem(key=f"{key}", memory_tier="ltm", order_after=stored))
        return each

    keys = [f"k{number}" for number in range(200)]
    with opened(tmp_path) as runtime:
        assert runtime.execute(compile(main), keys=keys).value == keys
        assert len(kept(runtime)) == 100  # of one page
        assert runtime.memory.ltm.namespaces()[0].entries == 200


def test_the_runtime_closes_with_writes_and_sessions_open(tmp_path: Path) -> None:
    runtime = opened(tmp_path)
    runtime.memory.session("s").put("k", 1)
    for number in range(20):
        runtime.memory.run("r").submit(f"k{number}", number)
    runtime.close()
    runtime.close()
    with opened(tmp_path) as runtime:
        assert len(kept(runtime)) == 20


def test_a_program_that_stores_nothing_for_good_waits_for_nothing(tmp_path: Path) -> None:
    @flow
    def main(q: str):  # type: ignore[no-untyped-def]
        noted = step.umem("noted", q, memory_tier="episodic")
        kept = step.umem("k", q, scope="session", order_after=noted)
        return step.qmem(key="k", order_after=step.fence(order_after=kept))

    with opened(tmp_path) as runtime:
        before = threading.enumerate()
        assert runtime.execute(main, q="x", run=RunOptions(session="s")).value == "x"
        assert threading.enumerate() == before  # neither a loop nor a thread for what blocks
    assert not (tmp_path / "state").exists()


def test_a_program_may_handle_that_another_process_owns_the_folder(tmp_path: Path) -> None:
    @flow
    def main():  # type: ignore[no-untyped-def]
        attempt = step.try_()
        with attempt.try_:
            step.yield_(step.umem("k", value=1, memory_tier="ltm"))
        with attempt.catch as error:
            step.yield_(step.umem("k", error, scope="run"))
        return attempt

    code = f"""
        from pathlib import Path
        from apxm.memory.ltm.owner import Owner

        Owner(Path({str(tmp_path / "state" / "memory")!r})).acquire(0)
        print("owned", flush=True)
        input()
    """
    with opened(tmp_path) as runtime:
        runtime.execute(learn, key="k", value=0)
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "owned\n"
        with opened(tmp_path, lock_timeout_ms=0) as runtime:
            error = runtime.execute(main).value
            assert (error["code"], error["class"], error["attempts"]) == ("locked", "transient", 1)
            assert str(other.pid) in error["message"]
            other.communicate("\n")  # it ends, and its lock with it
            assert runtime.execute(main).value == 1
            assert kept(runtime) == {"k": 1}
    finally:
        other.kill()
        other.wait()
