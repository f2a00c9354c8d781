"""PAUSE and RESUME: questions to people, through whole runs and real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from apxm import CapabilityRecord, RunOptions, Runtime
from apxm.config import RuntimeConfig, SchedulerConfig
from apxm.errors import BindError, DeadlineError, DeniedError, InvalidError, RunCancelled, StuckError
from apxm.observability.events import Paused
from apxm.testing.clock import VirtualClock
from tests.integration.loopback import Loopback
from tests.integration.test_claim import SOON_S, child, dag_of, inv, virtual

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apxm.coordination.checkpoint import Checkpoint
    from apxm.engine.handle import RunHandle

LONG_MS = 120_000
WAIT = RunOptions(wait=True)


def pause(name: str = "ask", **attributes: Any) -> dict[str, Any]:
    return {"name": name, "op": "PAUSE", "attributes": {"message": "May I?", "checkpoint_id": "c1", **attributes}}


def resume(**attributes: Any) -> dict[str, Any]:
    return {"name": "answer", "op": "RESUME", "attributes": {"checkpoint": "c1", **attributes}}


def const(value: Any) -> dict[str, Any]:
    return {"name": "given", "op": "CONST_STR", "attributes": {"value": value}}


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with Runtime(RuntimeConfig(state_dir=str(tmp_path / "state"))) as made:
        yield made


def until_pending(runtime: Runtime) -> None:
    """Wait until a question is open."""
    give_up = time.monotonic() + SOON_S
    while not runtime.coordination.checkpoints.pending():
        assert time.monotonic() < give_up, "nobody asks"
        time.sleep(0.01)


def asked(handle: RunHandle, count: int = 1) -> list[Paused]:
    """The first questions of a run, once it has asked them."""
    found: list[Paused] = []
    for event in handle.events():
        if isinstance(event, Paused):
            found.append(event)
            if len(found) == count:
                break
    return found


def only(runtime: Runtime) -> Checkpoint | None:
    return runtime.coordination.checkpoints.get("c1")


# ---- asking and answering --------------------------------------------------------------------------------------------
def test_the_answer_is_the_value_and_comes_from_the_user(runtime: Runtime) -> None:
    handle = runtime.start(dag_of(const({"sum": 3}), pause(message="Pay {0}?"), edges=((1, 2),)), run=WAIT)
    (event,) = asked(handle)
    assert (event.checkpoint, event.message, event.node, event.deadline) == ("c1", 'Pay {"sum": 3}?', 2, None)
    (waiting,) = runtime.coordination.checkpoints.pending()
    assert (waiting.message, waiting.data, waiting.run_id) == (event.message, {"sum": 3}, handle.run_id)
    runtime.coordination.checkpoints.answer("c1", {"ok": [True]})
    result = handle.result(SOON_S)
    assert (result.value, result.labels("ask")) == ({"ok": [True]}, {"user"})


def test_only_its_branch_waits_and_it_holds_no_worker(tmp_path: Path) -> None:
    runtime, clock = virtual(tmp_path, max_parallelism=1)

    async def other() -> str:
        await asyncio.sleep(100)
        runtime.coordination.checkpoints.answer("c1", "yes")
        return "meanwhile"

    nap = pause("nap", checkpoint_id="c2", timeout_ms=10, default=None)
    with runtime:
        runtime.capability_system().register("other", CapabilityRecord("other", other, effect="read", timeout_ms=None))
        dag = dag_of(pause(timeout_ms=LONG_MS), nap, inv("other"), edges=((2, 3, None, "Control"),))
        result = runtime.execute(dag)
    assert result.outputs == {"ask": "yes", "other": "meanwhile"}
    assert 100 <= clock.now <= 100.3


def test_an_answer_that_is_there_is_taken_at_once_and_nobody_is_asked(runtime: Runtime) -> None:
    checkpoints = runtime.coordination.checkpoints
    checkpoints.open("c1", "?", run_id="an earlier run")
    checkpoints.answer("c1", "yes")
    result = runtime.execute(dag_of(pause()), run=RunOptions(wait=True, trace=True, deadline_s=SOON_S))
    assert result.value == "yes"
    assert not [event for event in result.events() if isinstance(event, Paused)]


def test_a_question_without_an_id_has_one_for_every_place_in_the_run(runtime: Runtime) -> None:
    ask = {"id": 5, "name": "ask", "op": "PAUSE", "attributes": {"message": "May I?"}}
    body = {"nodes": [ask], "edges": []}
    each = {"name": "each", "op": "MAP", "attributes": {}, "regions": {"body": body}}
    handle = runtime.start(dag_of(const([1, 2, 3]), each, edges=((1, 2),)), run=WAIT)
    ids = {event.path[-1][1]: event.checkpoint for event in asked(handle, 3)}
    assert len(set(ids.values())) == 3
    for index, id in ids.items():
        runtime.coordination.checkpoints.answer(id, index)
    assert handle.result(SOON_S).value == [0, 1, 2]


def test_an_answer_under_the_same_id_must_fit_the_schema_of_who_takes_it(runtime: Runtime) -> None:
    runtime.coordination.checkpoints.open("c1", "?")
    runtime.coordination.checkpoints.answer("c1", "perhaps")
    with pytest.raises(InvalidError, match="the answer to checkpoint `c1` does not fit its `answer_schema`") as refused:
        runtime.execute(dag_of(pause(answer_schema={"type": "boolean"})), run=WAIT)
    assert (refused.value.node, refused.value.hint) == ("ask", "`apxm answer c1 --forget` lets it be asked again")


def test_two_runs_that_ask_the_same_get_the_same_answer(runtime: Runtime) -> None:
    dag = dag_of(pause())
    handles = [runtime.start(dag, run=WAIT) for _ in range(2)]
    for handle in handles:
        asked(handle)
    handles[1].cancel()
    with pytest.raises(RunCancelled):
        handles[1].result(SOON_S)
    until_pending(runtime)  # the one that is left asks anew
    runtime.coordination.checkpoints.answer("c1", "yes")
    assert handles[0].result(SOON_S).value == "yes"


def test_a_question_that_somebody_forgot_is_asked_anew(runtime: Runtime) -> None:
    handle = runtime.start(dag_of(pause()), run=WAIT)
    asked(handle)
    runtime.coordination.checkpoints.forget("c1")
    until_pending(runtime)
    runtime.coordination.checkpoints.answer("c1", 1)
    assert handle.result(SOON_S).value == 1


# ---- how long --------------------------------------------------------------------------------------------------------
def test_when_nobody_answers_in_time_the_default_is_taken_and_nobody_can_answer(tmp_path: Path) -> None:
    runtime, clock = virtual(tmp_path)
    with runtime:
        assert runtime.execute(dag_of(pause(timeout_ms=LONG_MS, default=None))).outputs == {"ask": None}
        assert clock.now == pytest.approx(120, abs=0.001)
        assert only(runtime).state == "expired"
        with pytest.raises(InvalidError, match="its deadline passed"):
            runtime.coordination.checkpoints.answer("c1", 1)


def test_without_a_default_it_fails_with_class_deadline(tmp_path: Path) -> None:
    with virtual(tmp_path)[0] as runtime, pytest.raises(DeadlineError, match=r"nobody answered within 120 s") as late:
        runtime.execute(dag_of(pause(timeout_ms=LONG_MS)))
    assert (late.value.node, late.value.code) == ("ask", "deadline")


def test_an_answer_at_the_last_moment_goes_before_the_default(tmp_path: Path) -> None:
    clock = VirtualClock()
    tmp_path.chmod(0o700)
    config = RuntimeConfig(state_dir=str(tmp_path))
    # wall time stands still: for the store the deadline never passes, so that it is the run that looks once more
    with Runtime(config, clock=clock, wall_clock=lambda: 0.0, loop_factory=clock.new_event_loop) as runtime:
        store = runtime.coordination.checkpoints
        expire = store.expire

        def late(id: str) -> Any:
            store.answer(id, "just in time")
            return expire(id)

        store.expire = late  # type: ignore[method-assign]
        assert runtime.execute(dag_of(pause(timeout_ms=LONG_MS, default="late"))).value == "just in time"


def test_a_run_that_might_wait_without_end_is_refused_before_it_begins(runtime: Runtime) -> None:
    region = {"nodes": [{"id": 7, **pause()}], "edges": []}
    inner = {"name": "again", "op": "LOOP", "attributes": {"max_iterations": 1}, "regions": {"body": region}}
    said = {"name": "said", "op": "PRINT", "attributes": {"message": "began"}}
    for dag in (dag_of(said, pause()), dag_of(said, inner)):
        with pytest.raises(InvalidError, match=r"PAUSE `ask` .* may wait without end") as refused:
            runtime.start(dag, run=RunOptions(trace=True))
        assert "RunOptions(wait=True)" in str(refused.value.hint)
        with pytest.raises(InvalidError):
            runtime.execute(dag)
    assert runtime.coordination.checkpoints.pending() == []


def test_a_deadline_or_the_word_to_wait_counts_for_its_own_run(runtime: Runtime) -> None:
    dag = dag_of(pause(default="later"))
    assert runtime.execute(dag).value == "later"
    for options in (WAIT, RunOptions(deadline_s=60)):
        handle = runtime.start(dag, run=options)
        asked(handle)
        runtime.coordination.checkpoints.answer("c1", "now")
        assert handle.result(SOON_S).value == "now"
        runtime.coordination.checkpoints.forget("c1")
    assert runtime.execute(dag).value == "later"


def test_with_a_deadline_it_waits_until_that_and_the_question_is_withdrawn(tmp_path: Path) -> None:
    runtime, clock = virtual(tmp_path)
    with runtime:
        with pytest.raises(DeadlineError, match="the deadline of the run passed"):
            runtime.execute(dag_of(pause()), run=RunOptions(deadline_s=50))
        assert (clock.now, only(runtime).state) == (50, "withdrawn")


def test_a_run_that_does_not_wait_takes_the_default_or_an_answer_that_is_there(runtime: Runtime) -> None:
    dag = dag_of(pause(default="later"))
    assert runtime.execute(dag).value == "later"
    assert runtime.coordination.checkpoints.pending() == []
    runtime.coordination.checkpoints.open("c1", "?")
    runtime.coordination.checkpoints.answer("c1", "now")
    assert runtime.execute(dag).value == "now"


@pytest.mark.parametrize("wrong", [{"answer_schema": {"type": "nonsense"}}, {"answer_schema": {"type": "string"}, "default": 1}])
def test_a_schema_that_cannot_be_met_is_refused_before_anybody_is_asked(runtime: Runtime, wrong: dict[str, Any]) -> None:
    with pytest.raises((InvalidError, BindError), match=r"no valid JSON Schema|does not fit its `answer_schema`"):
        runtime.execute(dag_of(pause(**wrong)), run=WAIT)


# ---- ends ------------------------------------------------------------------------------------------------------------
def test_a_cancelled_run_withdraws_its_question(runtime: Runtime) -> None:
    handle = runtime.start(dag_of(pause()), run=WAIT)
    asked(handle)
    handle.cancel()
    with pytest.raises(RunCancelled):
        handle.result(SOON_S)
    assert only(runtime).state == "withdrawn"
    with pytest.raises(InvalidError, match="the run that asked was cancelled"):
        runtime.coordination.checkpoints.answer("c1", 1)


def test_who_loses_a_race_against_somebody_faster_withdraws_its_question(runtime: Runtime) -> None:
    async def other() -> str:
        while not runtime.coordination.checkpoints.pending():
            await asyncio.sleep(0.01)
        return "faster"

    runtime.capability_system().register("other", CapabilityRecord("other", other, effect="read"))
    race = {"name": "first", "op": "MERGE", "attributes": {"mode": "race"}}
    result = runtime.execute(dag_of(pause(), inv("other"), race, edges=((1, 3), (2, 3))), run=WAIT)
    assert (result.value, only(runtime).state) == ("faster", "withdrawn")


# ---- RESUME ----------------------------------------------------------------------------------------------------------
def test_resume_gives_the_answer_that_another_run_waits_for(tmp_path: Path) -> None:
    runtime, clock = virtual(tmp_path)

    async def other() -> str:
        await asyncio.sleep(100)
        runtime.coordination.checkpoints.answer("c1", [1, 2])
        return ""

    with runtime:
        runtime.capability_system().register("other", CapabilityRecord("other", other, effect="read", timeout_ms=None))
        runtime.coordination.checkpoints.open("c1", "?")
        result = runtime.execute(dag_of(resume(), inv("other")))
    assert (result.outputs["answer"], result.labels("answer")) == ([1, 2], {"user"})
    assert 100 <= clock.now <= 100.3


@pytest.mark.parametrize(
    ("how", "limit_s"), [({}, 300), ({"poll_max_attempts": 3, "poll_interval_ms": 2_000}, 6), ({"timeout_ms": 1_500}, 1.5)]
)
def test_resume_waits_so_long_and_no_longer(tmp_path: Path, how: dict[str, Any], limit_s: float) -> None:
    runtime, clock = virtual(tmp_path)
    with runtime:
        runtime.coordination.checkpoints.open("c1", "?")
        with pytest.raises(DeadlineError, match=f"nobody answered checkpoint `c1` within {limit_s:g} s"):
            runtime.execute(dag_of(resume(**how)))
        assert (clock.now, only(runtime).state) == (pytest.approx(limit_s, abs=0.001), "open")


def test_resume_of_what_nobody_asked_or_can_answer_is_stuck(runtime: Runtime) -> None:
    with pytest.raises(StuckError, match="nobody ever asked under the checkpoint `c1`") as stuck:
        runtime.execute(dag_of(resume()))
    assert (stuck.value.node, stuck.value.code) == ("answer", "stuck")
    for end in ("expired", "withdrawn"):
        runtime.coordination.checkpoints.open("c1", "?", run_id="r")
        (
            runtime.coordination.checkpoints.expire("c1")
            if end == "expired"
            else runtime.coordination.checkpoints.withdraw("c1", "r")
        )
        with pytest.raises(StuckError, match=f"checkpoint `c1` is {end}"):
            runtime.execute(dag_of(resume()))


# ---- processes -------------------------------------------------------------------------------------------------------
ASKER = """
import sys
from apxm import RunOptions, Runtime, compile
from apxm.config import RuntimeConfig
from apxm.graph.contract import from_json
from apxm.observability.events import Paused

with Runtime(RuntimeConfig(state_dir=sys.argv[1])) as runtime:
    handle = runtime.start(compile(from_json(sys.argv[2])).into_dag(), run=RunOptions(wait=True))
    for event in handle.events():
        if isinstance(event, Paused):
            print(event.checkpoint, flush=True)
"""


def test_a_killed_run_leaves_its_question_and_the_next_one_takes_the_answer(tmp_path: Path) -> None:
    graph = {"name": "main", "nodes": [{"id": 1, **pause(answer_schema={"enum": ["yes", "no"]})}], "edges": []}
    home = tmp_path / "home"
    asker = child(ASKER, str(home / "apxm"), json.dumps(graph))
    try:
        assert asker.stdout is not None
        assert asker.stdout.readline() == "c1\n"
        asker.send_signal(signal.SIGKILL)
        asker.wait(SOON_S)
    finally:
        asker.kill()
        asker.communicate()
    assert "c1" in apxm(home, "pending").stdout
    refused = apxm(home, "answer", "c1", "maybe")
    assert (refused.returncode, '"maybe" is not one of' in refused.stderr) == (2, True)
    assert apxm(home, "answer", "c1", "yes").returncode == 0
    with Runtime(RuntimeConfig(state_dir=str(home / "apxm"))) as runtime:
        assert runtime.execute(dag_of(pause()), run=WAIT).value == "yes"


def apxm(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "XDG_STATE_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-m", "apxm", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


# ---- telling somebody ------------------------------------------------------------------------------------------------
def test_somebody_is_told_once_by_a_post_where_the_host_allows_it(runtime: Runtime) -> None:
    with Loopback(lambda method, path, body: (200, {})) as server:
        dag = dag_of(const(5), pause(notification_url=f"{server.url}/ring?who=me"), edges=((1, 2),))
        with pytest.raises(DeniedError, match="was not granted") as denied:
            runtime.start(dag, run=WAIT)
        assert denied.value.hint == f"grant `communicate={server.url}`"
        handle = runtime.start(dag, run=RunOptions(wait=True, grants=[f"communicate={server.url}"]))
        assert server.wait_for(1)
        runtime.coordination.checkpoints.answer("c1", "yes")
        assert handle.result(SOON_S).value == "yes"
    assert server.seen == [("POST", "/ring?who=me", {"checkpoint_id": "c1", "message": "May I?", "display_data": 5})]


def test_that_nobody_could_be_told_is_no_failure(runtime: Runtime) -> None:
    gone = Loopback(lambda *_: (200, {}))
    gone.close()
    dag = dag_of(pause(notification_url=gone.url))
    handle = runtime.start(dag, run=RunOptions(wait=True, grants=[f"communicate={gone.url}"]))
    asked(handle)
    runtime.coordination.checkpoints.answer("c1", "yes")
    assert handle.result(SOON_S).value == "yes"


def test_a_url_that_is_none_is_refused(runtime: Runtime) -> None:
    for url in ("file:///etc/passwd", "nowhere", "http://", "http://me:secret@127.0.0.1"):
        with pytest.raises(BindError, match="its `notification_url`"):
            runtime.start(dag_of(pause(notification_url=url)), run=WAIT)


def test_config_takes_the_folder_of_the_command_line_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with Runtime(RuntimeConfig(scheduler_config=SchedulerConfig())) as runtime:
        runtime.coordination.checkpoints.open("c1", "?")
    assert (tmp_path / "apxm" / "coordination.db").exists()
