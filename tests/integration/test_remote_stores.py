"""CLAIM, PAUSE and RESUME with `server_url`: a real server on this machine that offers a store of its own over HTTP."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from apxm import CapabilityRecord, RunOptions, Runtime
from apxm.config import RuntimeConfig
from apxm.coordination.checkpoint import Checkpoints
from apxm.coordination.queue import Queues
from apxm.coordination.remote import REPLY_BYTES_MAX, RemoteQueues, Servers
from apxm.coordination.store import Store
from apxm.errors import (
    ApxmError,
    DeadlineError,
    DeniedError,
    HandlerError,
    InvalidError,
    RunCancelled,
    StuckError,
    TransientError,
    UnknownEffectError,
)
from tests.integration.loopback import Loopback
from tests.integration.test_claim import SOON_S, claim, dag_of, fail, inv, offer
from tests.integration.test_pause import asked, pause, resume

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from apxm.coordination.checkpoint import Checkpoint

STATUS = {"open": "pending", "answered": "resumed", "expired": "expired", "withdrawn": "withdrawn"}


class Service:
    """The endpoints that apxm/coordination/remote.py describes, on a store of this process."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(lambda: folder, time.time)
        self.queues, self.checkpoints = Queues(self.store), Checkpoints(self.store)
        self.broken: tuple[int, Any] | None = None  # what every request is answered with instead

    def __call__(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.broken is not None:
            return self.broken
        kind, *rest = path.removeprefix("/v1/").split("/")
        try:
            return (self.task if kind == "tasks" else self.question)(method, [unquote(part) for part in rest], body)
        except (UnknownEffectError, InvalidError) as error:
            return 409, {"error": error.message}

    def task(self, method: str, rest: list[str], body: Any) -> tuple[int, Any]:
        name, verb = rest
        match verb:
            case "claim":
                found = self.queues.claim(name, body["agent_id"], body["lease_ms"])
                if found is None:
                    return 404, {"error": "no task"}
                return 200, {"task_id": found.task_id, "queue": name, "data": found.data, "claim_token": found.token}
            case "renew":
                return (200 if self.queues.renew(name, body["claim_token"], body["lease_ms"]) else 409), {}
            case "complete":
                self.queues.acknowledge(name, body["claim_token"])
            case "return":
                self.queues.give_back(name, body["claim_token"])
        return 200, {}

    def question(self, method: str, rest: list[str], body: Any) -> tuple[int, Any]:
        if not rest:
            how = {"schema": body.get("answer_schema"), "timeout_ms": body.get("timeout_ms", 0)}
            return 200, self.said(self.checkpoints.open(body["checkpoint_id"], body["message"], body["display_data"], **how))
        found = self.checkpoints.withdraw(rest[0], "") if rest[1:] == ["withdraw"] else self.checkpoints.get(rest[0])
        return (404, {}) if found is None else (200, self.said(found))

    @staticmethod
    def said(found: Checkpoint) -> dict[str, Any]:
        return {"checkpoint_id": found.id, "status": STATUS[found.state], "human_input": found.answer}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def server(service: Service) -> Iterator[Loopback]:
    with Loopback(service) as made:
        yield made


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with Runtime(RuntimeConfig(state_dir=str(tmp_path / "own"))) as made:
        yield made
    assert not (tmp_path / "own").exists()  # nothing here used the stores of this machine


def allowed(server: Loopback, **options: Any) -> RunOptions:
    return RunOptions(grants=[f"communicate={server.url}"], wait=True, **options)


# ---- CLAIM -----------------------------------------------------------------------------------------------------------
def test_a_task_of_a_server_is_claimed_and_acknowledged_before_the_run_is_over(runtime, server, service):
    service.queues.put("a b/c", {"n": 1})
    result = runtime.execute(dag_of(claim(queue="a b/c", server_url=server.url)), run=allowed(server))
    assert (result.value["task_data"], result.labels("take"), service.queues.stats()) == ({"n": 1}, {"web"}, [])
    assert [path for _, path, _ in server.seen] == [
        "/v1/tasks/a%20b%2Fc/claim",
        f"/v1/tasks/{result.value['task_id']}/complete",
    ]


def test_it_goes_back_when_the_run_fails(runtime, server, service):
    offer(runtime, "fail", fail)
    service.queues.put("q", 1)
    with pytest.raises(ApxmError, match="boom"):
        runtime.execute(dag_of(claim(server_url=server.url), inv("fail"), edges=((1, 2),)), run=allowed(server))
    assert [(task.state, task.attempts) for task in service.queues.list("q")] == [("ready", 1)]


def test_a_lease_that_the_server_took_away_fails_the_run(runtime, server, service):
    def steal(task: Any) -> str:
        service.queues.requeue(task["task_id"])
        return "done"

    offer(runtime, "steal", steal)
    service.queues.put("q", 1)
    with pytest.raises(UnknownEffectError) as lost:
        runtime.execute(dag_of(claim(server_url=server.url), inv("steal"), edges=((1, 2),)), run=allowed(server))
    assert (lost.value.code, lost.value.node, lost.value.result.value) == ("lease_lost", "take", "done")


def test_an_acknowledgement_that_does_not_arrive_fails_the_run(runtime, server, service):
    def breaks(task: Any) -> str:
        service.broken = 503, {}
        return "done"

    offer(runtime, "breaks", breaks)
    service.queues.put("q", 1)
    with pytest.raises(TransientError, match="was answered with status 503") as failed:
        runtime.execute(dag_of(claim(server_url=server.url), inv("breaks"), edges=((1, 2),)), run=allowed(server))
    assert failed.value.node == "take"


def test_a_lease_of_a_server_is_renewed(runtime, server, service):
    async def work(task: dict[str, Any]) -> str:
        before = service.queues.get(task["task_id"]).free_at
        for _ in range(500):
            if service.queues.get(task["task_id"]).free_at >= before + 0.1:
                return "done"
            await asyncio.sleep(0.01)
        return "never renewed"

    offer(runtime, "work", work)
    service.queues.put("q", 1)
    dag = dag_of(claim(server_url=server.url, lease_ms=600), inv("work"), edges=((1, 2),))
    assert runtime.execute(dag, run=allowed(server)).value == "done"
    assert any(path.endswith("/renew") for _, path, _ in server.seen)


def test_without_a_task_or_without_a_server_it_fails_after_its_time(runtime, server, service):
    with pytest.raises(TransientError, match=f"no task came to queue `q` of {server.url} within 0.05 s"):
        runtime.execute(dag_of(claim(server_url=server.url, max_wait_ms=50)), run=allowed(server))
    service.broken = 500, {}
    with pytest.raises(TransientError, match=r"no task came .* status 500"):
        runtime.execute(dag_of(claim(server_url=server.url)), run=allowed(server))
    server.close()
    with pytest.raises(TransientError, match=r"no task came .*[Rr]efused"):
        runtime.execute(dag_of(claim(server_url=server.url)), run=allowed(server))


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((200, b"no json"), "its reply has no `task_id`"),
        ((200, []), "its reply has no `task_id`"),
        ((403, {"error": "go away"}), "status 403 go away"),
        ((302, {}), "status 302"),
        ((200, b'"' + b"x" * REPLY_BYTES_MAX + b'"'), "more than 4,194,304 bytes"),
    ],
)
def test_a_server_that_talks_nonsense_is_an_error_that_says_so(runtime, server, service, reply, said):
    service.broken = reply
    with pytest.raises(HandlerError, match=said):
        runtime.execute(dag_of(claim(server_url=server.url)), run=allowed(server))


def test_a_server_that_nobody_granted_is_not_asked(runtime, server):
    for grants in ((), ("communicate=http://127.0.0.1:1",), ("communicate",)):
        for node in (claim(server_url=server.url), pause(server_url=server.url), resume(server_url=server.url)):
            with pytest.raises(DeniedError, match=r"its `server_url`: a message to `http://127.* was not granted"):
                runtime.execute(dag_of(node), run=RunOptions(grants=grants, wait=True))
    assert server.seen == []


def test_a_task_that_comes_when_the_run_is_over_goes_back(runtime, service):
    came, go_on = threading.Event(), threading.Event()

    def slow(method: str, path: str, body: Any) -> tuple[int, Any]:
        if path.endswith("/claim"):
            came.set()
            go_on.wait(SOON_S)
        return service(method, path, body)

    service.queues.put("q", 1)
    with Loopback(slow) as server:
        handle = runtime.start(dag_of(claim(server_url=server.url)), run=allowed(server))
        assert came.wait(SOON_S)
        handle.cancel()
        with pytest.raises(RunCancelled):
            handle.result(SOON_S)
        go_on.set()
        assert server.wait_for(2)
    assert [(task.state, task.attempts) for task in service.queues.list("q")] == [("ready", 1)]


def test_a_server_that_says_nothing_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        servers = Servers(timeout_s=0.05)
        queues = RemoteQueues(servers, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        with pytest.raises(TransientError, match="timed out"):
            queues.claim("q", "me", 1_000).result(SOON_S)
        servers.close()


# ---- PAUSE and RESUME ------------------------------------------------------------------------------------------------
def test_a_question_on_a_server_is_answered_there(runtime, server, service):
    schema = {"type": "boolean"}
    handle = runtime.start(
        dag_of(pause(server_url=server.url, poll_interval_ms=10, answer_schema=schema, timeout_ms=60_000)), run=allowed(server)
    )
    asked(handle)
    (open_one,) = service.checkpoints.pending()
    assert (open_one.message, open_one.answer_schema, open_one.deadline is None) == ("May I?", schema, False)
    service.checkpoints.answer("c1", True)
    result = handle.result(SOON_S)
    assert (result.value, result.labels("ask")) == (True, {"web"})
    again = runtime.execute(dag_of(resume(server_url=server.url)), run=allowed(server))
    assert (again.value, again.labels("answer")) == (True, {"web"})


def test_a_server_that_is_away_for_a_while_is_asked_again(runtime, server, service):
    handle = runtime.start(dag_of(pause(server_url=server.url, poll_interval_ms=5)), run=allowed(server))
    asked(handle)
    service.broken = 503, {}
    assert server.wait_for(len(server.seen) + 2)
    service.broken = None
    service.checkpoints.answer("c1", "yes")
    assert handle.result(SOON_S).value == "yes"


def test_a_question_on_a_server_ends_by_default_and_is_withdrawn(runtime, server, service):
    dag = dag_of(pause(server_url=server.url, poll_interval_ms=10, timeout_ms=60, default="later"))
    assert runtime.execute(dag, run=allowed(server)).value == "later"
    assert service.checkpoints.get("c1").state in ("withdrawn", "expired")


def test_a_cancelled_run_withdraws_its_question_on_a_server(runtime, server, service):
    handle = runtime.start(dag_of(pause(server_url=server.url, poll_interval_ms=10)), run=allowed(server))
    asked(handle)
    handle.cancel()
    with pytest.raises(RunCancelled):
        handle.result(SOON_S)
    give_up = time.monotonic() + SOON_S  # before the runtime is closed: after that nothing is sent any more
    while service.checkpoints.get("c1").state == "open":
        assert time.monotonic() < give_up, "nobody withdraws it"
        time.sleep(0.005)
    assert service.checkpoints.get("c1").state == "withdrawn"


def test_resume_asks_a_server_as_often_as_it_may(runtime, server, service):
    service.checkpoints.open("c1", "?")
    with pytest.raises(DeadlineError, match=r"nobody answered checkpoint `c1` within 0.06 s"):
        runtime.execute(dag_of(resume(server_url=server.url, poll_max_attempts=3, poll_interval_ms=20)), run=allowed(server))
    assert 1 <= len(server.seen) <= 4
    with pytest.raises(StuckError, match="nobody ever asked"):
        runtime.execute(dag_of(resume(checkpoint="other", server_url=server.url)), run=allowed(server))


def test_a_question_that_is_no_json_is_refused_before_it_is_sent(runtime, server):
    def photo() -> bytes:
        return b"\xff"

    runtime.capability_system().register("photo", CapabilityRecord("photo", photo, effect="read"))
    with pytest.raises(InvalidError, match="what a PAUSE shows is no JSON"):
        runtime.execute(dag_of(inv("photo"), pause(server_url=server.url), edges=((1, 2),)), run=allowed(server))
    assert server.seen == []
