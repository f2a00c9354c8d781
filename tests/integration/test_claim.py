"""CLAIM: tasks of the embedded queue, through whole runs and real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from apxm import CapabilityRecord, RunOptions, Runtime, compile
from apxm.config import RuntimeConfig, SchedulerConfig
from apxm.coordination.store import FILE
from apxm.errors import BindError, RunCancelled, TransientError, UnknownEffectError
from apxm.graph.contract import from_json
from apxm.testing.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apxm.dag import ExecutionDag

SOON_S = 10.0  # for what comes in a moment


def dag_of(*nodes: dict[str, Any], edges: tuple[Any, ...] = (), **more: Any) -> ExecutionDag:
    numbered = [{"id": place, **node} for place, node in enumerate(nodes, 1)]
    names = ("from", "to", "label", "dependency")
    drawn = [{name: value for name, value in zip(names, edge) if value is not None} for edge in edges]
    return compile(from_json(json.dumps({"name": "main", "nodes": numbered, "edges": drawn, **more}))).into_dag()


def claim(**attributes: Any) -> dict[str, Any]:
    return {"name": "take", "op": "CLAIM", "attributes": {"queue": "q", "max_wait_ms": 0, **attributes}}


def inv(name: str, **attributes: Any) -> dict[str, Any]:
    return {"name": name, "op": "INV", "attributes": {"capability": name, **attributes}}


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with Runtime(RuntimeConfig(state_dir=str(tmp_path / "state"))) as made:
        yield made
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("apxm")] == []


def offer(runtime: Runtime, name: str, fn: Any, **record: Any) -> None:
    runtime.capability_system().register(name, CapabilityRecord(name, fn, **{"effect": "read", **record}))


def state(runtime: Runtime) -> list[tuple[Any, str, int]]:
    return [(task.data, task.state, task.attempts) for task in runtime.coordination.queues.list("q")]


# ---- one run ---------------------------------------------------------------------------------------------------------
def test_a_task_is_held_while_the_run_works_on_it_and_gone_when_it_is_done(runtime: Runtime) -> None:
    seen: list[Any] = []

    def work(task: dict[str, Any]) -> str:
        seen.append((task["task_data"], state(runtime)))
        return "done"

    offer(runtime, "work", work)
    task_id = runtime.coordination.queues.put("q", {"a": [1]})
    result = runtime.execute(dag_of(claim(), inv("work"), edges=((1, 2),)))
    assert (result.value, seen, state(runtime)) == ("done", [({"a": [1]}, [({"a": [1]}, "leased", 1)])], [])
    assert result.labels("work") >= {"tool:queue"}
    assert len(task_id) == 16
    for thread in threading.enumerate():  # the lease that was let go is renewed no more
        if thread.name == "apxm-leases":
            thread.join(SOON_S)
            assert not thread.is_alive()


def fail(task: Any) -> str:
    raise ValueError("boom")


@pytest.mark.parametrize("policy", ["fail_fast", "continue"])
def test_a_task_goes_back_when_the_run_fails_and_dies_when_it_did_too_often(runtime: Runtime, policy: Any) -> None:
    offer(runtime, "fail", fail)
    runtime.coordination.queues.put("q", 1, attempts_max=2)
    dag = dag_of(claim(), inv("fail"), edges=((1, 2),))
    for expected in ("ready", "dead"):
        if policy == "fail_fast":
            with pytest.raises(Exception, match="boom"):
                runtime.execute(dag)
        else:
            assert len(runtime.execute(dag, run=RunOptions(on_failure="continue")).unhandled) == 1
        assert [one[1] for one in state(runtime)] == [expected]


def test_a_failure_that_the_program_handles_leaves_the_task_done(runtime: Runtime) -> None:
    offer(runtime, "fail", fail)
    runtime.coordination.queues.put("q", 1)
    assert runtime.execute(dag_of(claim(), inv("fail", fallback="sorry"), edges=((1, 2),))).value == "sorry"
    assert state(runtime) == []


def test_a_cancelled_run_gives_its_task_back(runtime: Runtime) -> None:
    began = threading.Event()

    async def hang(task: Any) -> str:
        began.set()
        await asyncio.sleep(3600)
        return ""

    offer(runtime, "hang", hang, timeout_ms=None)
    runtime.coordination.queues.put("q", 1)
    handle = runtime.start(dag_of(claim(), inv("hang"), edges=((1, 2),)))
    assert began.wait(SOON_S)
    handle.cancel()
    with pytest.raises(RunCancelled):
        handle.result(SOON_S)
    assert state(runtime) == [(1, "ready", 1)]


def test_every_item_of_a_map_has_a_task_of_its_own(runtime: Runtime) -> None:
    def odd(task: dict[str, Any]) -> int:
        if task["task_data"] % 2 == 0:
            raise ValueError("even")
        return int(task["task_data"])

    offer(runtime, "odd", odd)
    for number in range(6):
        runtime.coordination.queues.put("q", number)
    body = {"nodes": [{"id": 10, **claim()}, {"id": 11, **inv("odd")}], "edges": [{"from": 10, "to": 11}]}
    each = {"name": "each", "op": "MAP", "attributes": {"window": 1, "on_item_error": "null"}, "regions": {"body": body}}
    items = {"name": "items", "op": "CONST_STR", "attributes": {"value": [0, 1, 2]}}
    result = runtime.execute(dag_of(items, each, edges=((1, 2),)))
    # a task that fails goes back to the front, so that the next item meets it again
    assert (result.value, state(runtime)[0]) == ([None, None, None], (0, "ready", 3))
    runtime.coordination.queues.drop(runtime.coordination.queues.list("q")[0].task_id)
    assert runtime.execute(dag_of(items, each, edges=((1, 2),))).value == [1, None, None]
    assert state(runtime) == [(2, "ready", 2), (3, "ready", 0), (4, "ready", 0), (5, "ready", 0)]


def test_a_called_flow_that_is_done_has_done_its_task_whatever_its_caller_does(runtime: Runtime) -> None:
    offer(runtime, "fail", fail)
    runtime.coordination.queues.put("q", 1)
    called = {"name": "fetch", "nodes": [{"id": 1, **claim()}], "edges": [], "metadata": {"is_entry": False}}
    call = {"id": 1, "name": "call", "op": "FLOW_CALL", "attributes": {"flow_name": "fetch"}}
    main = {"name": "main", "nodes": [call, {"id": 2, **inv("fail")}], "edges": [{"from": 1, "to": 2}]}
    dag = compile(from_json(json.dumps({"agents": [{"name": "me", "flows": [main, called]}]}))).into_dag()
    with pytest.raises(Exception, match="boom"):
        runtime.execute(dag)
    assert state(runtime) == []


# ---- leases ----------------------------------------------------------------------------------------------------------
def test_a_lease_is_renewed_while_the_work_takes_longer(runtime: Runtime) -> None:
    async def work(task: Any) -> list[Any]:
        before = runtime.coordination.queues.get(task["task_id"]).free_at
        while runtime.coordination.queues.get(task["task_id"]).free_at < before + 0.1:  # two renewals later
            assert runtime.coordination.queues.claim("q", "thief", 1_000) is None
            await asyncio.sleep(0.01)
        return state(runtime)

    offer(runtime, "work", work)
    runtime.coordination.queues.put("q", 1)
    result = runtime.execute(dag_of(claim(lease_ms=600), inv("work"), edges=((1, 2),)))
    assert (result.value, state(runtime)) == ([[1, "leased", 1]], [])


def test_who_lost_its_lease_fails_though_the_work_went_well(runtime: Runtime) -> None:
    def steal(task: Any) -> str:
        runtime.coordination.queues.requeue(task["task_id"])
        return "done"

    offer(runtime, "steal", steal)
    runtime.coordination.queues.put("q", 1)
    with pytest.raises(UnknownEffectError, match="lease of task") as lost:
        runtime.execute(dag_of(claim(), inv("steal"), edges=((1, 2),)))
    assert (lost.value.code, lost.value.node, lost.value.result.outputs) == ("lease_lost", "take", {"steal": "done"})
    assert state(runtime) == [(1, "ready", 0)]


# ---- waiting ---------------------------------------------------------------------------------------------------------
def virtual(tmp_path: Path, **config: Any) -> tuple[Runtime, VirtualClock]:
    clock = VirtualClock()
    settings = RuntimeConfig(state_dir=str(tmp_path), scheduler_config=SchedulerConfig(**config))
    tmp_path.chmod(0o700)
    return Runtime(settings, clock=clock, wall_clock=clock, loop_factory=clock.new_event_loop), clock


def test_without_a_task_it_fails_after_its_time_and_is_not_tried_again(tmp_path: Path) -> None:
    runtime, clock = virtual(tmp_path)
    with runtime, pytest.raises(TransientError, match="no task came to queue `q` within 60 s") as none:
        runtime.execute(dag_of(claim(max_wait_ms=60_000, retries=5)))
    assert (clock.now, none.value.attempt) == (pytest.approx(60, abs=0.001), 1)


def test_a_claim_that_waits_holds_no_worker(tmp_path: Path) -> None:
    runtime, clock = virtual(tmp_path, max_parallelism=1)

    async def put() -> str:
        await asyncio.sleep(30)
        runtime.coordination.queues.put("q", "late")
        return "put"

    with runtime:
        offer(runtime, "put", put, timeout_ms=None)
        nap = {"name": "nap", "op": "PAUSE", "attributes": {"message": "?", "timeout_ms": 10, "default": None}}
        dag = dag_of(claim(max_wait_ms=60_000), nap, inv("put"), edges=((2, 3, None, "Control"),))
        task = runtime.execute(dag).outputs["take"]
    assert task["task_data"] == "late"
    assert 30 <= clock.now <= 30.3


def test_a_delayed_task_is_waited_for(tmp_path: Path) -> None:
    runtime, clock = virtual(tmp_path)
    with runtime:
        runtime.coordination.queues.put("q", 1, delay_ms=5_000)
        assert runtime.execute(dag_of(claim(max_wait_ms=10_000))).value["task_data"] == 1
    assert 5 <= clock.now <= 5.3


def test_a_time_limit_is_refused_with_the_attribute_to_take(runtime: Runtime) -> None:
    with pytest.raises(BindError, match="`max_wait_ms` is how long it waits"):
        runtime.execute(dag_of(claim(timeout_ms=5)))


# ---- processes -------------------------------------------------------------------------------------------------------
WORKER = """
import sys, time
from pathlib import Path
from apxm.coordination.queue import Queues
from apxm.coordination.store import Store

queues = Queues(Store(lambda: Path(sys.argv[1]), time.time))
done, empty = [], 0
print("up", flush=True)
sys.stdin.readline()
while empty < 3:
    claim = queues.claim("q", sys.argv[2], 60_000)
    if claim is None:
        empty += 1
        continue
    done.append(str(claim.data))
    queues.acknowledge(claim.task_id, claim.token)
print(" ".join(done))
"""

HOLDER = """
import sys, time
from apxm import CapabilityRecord, Runtime, compile
from apxm.config import RuntimeConfig
from apxm.graph.contract import from_json

def work(task: dict[str, object]) -> str:
    print(task["task_id"], flush=True)
    time.sleep(600)
    return ""

with Runtime(RuntimeConfig(state_dir=sys.argv[1])) as runtime:
    runtime.capability_system().register("work", CapabilityRecord("work", work, effect="read", timeout_ms=None))
    runtime.execute(compile(from_json(sys.argv[2])).into_dag())
"""


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )


def test_of_many_processes_one_has_each_task(runtime: Runtime, tmp_path: Path, long_run: bool) -> None:
    processes, tasks = (8, 2_000) if long_run else (4, 200)
    for number in range(tasks):
        runtime.coordination.queues.put("q", number)
    workers = [child(WORKER, str(tmp_path / "state"), str(number)) for number in range(processes)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "up\n"
    done = [worker.communicate("go\n", timeout=120)[0].split() for worker in workers]
    assert sorted(int(number) for one in done for number in one) == list(range(tasks))
    assert [worker.returncode for worker in workers] == [0] * processes
    assert runtime.coordination.queues.stats() == []


def test_a_task_of_a_killed_process_comes_back_after_its_lease(runtime: Runtime, tmp_path: Path) -> None:
    task_id = runtime.coordination.queues.put("q", "precious")
    graph = {
        "name": "main",
        "nodes": [{"id": 1, **claim(lease_ms=600)}, {"id": 2, **inv("work")}],
        "edges": [{"from": 1, "to": 2}],
    }
    holder = child(HOLDER, str(tmp_path / "state"), json.dumps(graph))
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == task_id
        held = runtime.coordination.queues.get(task_id)
        assert (held.state, runtime.coordination.queues.claim("q", "me", 1_000)) == ("leased", None)
        holder.send_signal(signal.SIGKILL)
        holder.wait(SOON_S)
    finally:
        holder.kill()
        holder.communicate()
    result = runtime.execute(dag_of(claim(max_wait_ms=SOON_S * 1_000)))
    assert result.value["task_data"] == "precious"
    assert time.time() >= held.free_at
    assert result.value["claim_token"].startswith("2-")


def test_without_a_claim_no_file_is_made(tmp_path: Path) -> None:
    with Runtime(RuntimeConfig(state_dir=str(tmp_path / "state"))) as runtime:
        runtime.execute(dag_of({"name": "x", "op": "CONST_STR", "attributes": {"value": 1}}))
    assert not (tmp_path / "state" / FILE).exists()
