"""CLAIM, PAUSE, RESUME: what a run takes from others and asks of people. None of them holds a worker while it waits."""

from __future__ import annotations

import json
import os
import socket
from concurrent.futures import Future
from contextlib import suppress
from hashlib import blake2b
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from apxm.coordination.checkpoint import misfit
from apxm.errors import ApxmError, BindError, DeadlineError, DeniedError, InvalidError, StuckError, TransientError
from apxm.executor.arguments import renderer, where
from apxm.executor.asking import setting
from apxm.executor.bind import Bound, Kind
from apxm.graph.operation import Effect
from apxm.observability.events import Paused
from apxm.outcome import Hold, Wait

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from apxm.coordination.checkpoint import Checkpoint, Checkpoints
    from apxm.coordination.queue import Claim, Queues
    from apxm.coordination.remote import RemoteCheckpoints, RemoteQueues
    from apxm.coordination.system import CoordinationSystem
    from apxm.executor.arguments import Render
    from apxm.executor.bind import Binder, NodeSpec, Services
    from apxm.executor.context import OpContext
    from apxm.observability.events import Path
    from apxm.outcome import Outcome

    Dropped: TypeAlias = Callable[[Any], object]  # told what came of a call that nobody waits for any more

LOOK_S, LOOK_S_MAX = 0.01, 0.25  # between looks into a store of this machine: each is twice the one before
REPLY_S = 0.005  # between looks whether a server has answered


# ---- what they share -------------------------------------------------------------------------------------------------
def _system(spec: NodeSpec, services: Services) -> CoordinationSystem:
    if services.coordination is None:
        raise BindError(f"{where(spec)}: this engine has no queues and checkpoints", hint="run it with a Runtime")
    return services.coordination


def _permitted(spec: NodeSpec, services: Services, name: str) -> str | None:
    """A URL attribute, if it is given; DeniedError unless a message to it was granted, as for COMMUNICATE."""
    url = spec.attributes.get(name)
    if url is None:
        return None
    if "://" not in url:
        raise BindError(f"{where(spec)}: its `{name}` is {url!r:.80}, expected a URL", hint="http://HOST or https://HOST")
    try:
        _system(spec, services).peers.find(str(url), services.grants, secure=False, explicit=services.explicit)
    except DeniedError as error:
        raise DeniedError(f"{where(spec)}: its `{name}`: {error.message}", hint=error.hint) from None
    except InvalidError as error:
        raise BindError(f"{where(spec)}: its `{name}`: {error.message}", hint=error.hint) from None
    return str(url)


def _when(given: Any, then: Callable[[Any], Outcome], failed: Callable[[TransientError], Outcome], dropped: Dropped) -> Outcome:
    """Go on with what a store gave: at once, or, where it is one of a server, when that has answered."""
    if not isinstance(given, Future):
        return then(given)
    future: Future[Any] = given

    def look() -> Outcome:
        if not future.done():
            return Wait(REPLY_S, look, give_up)
        try:
            found = future.result()
        except TransientError as error:
            return failed(error)
        return then(found)

    def told(done: Future[Any]) -> None:
        with suppress(RuntimeError):  # the runtime is closed: then the server will find out by itself
            dropped(None if done.cancelled() or done.exception() is not None else done.result())

    def give_up() -> None:
        future.add_done_callback(told)

    return Wait(REPLY_S, look, give_up)


def _ignored(found: Any) -> None:
    """Nobody waits for this any more, and nothing has to be undone."""


class _Pace:
    """How long to wait until the next look: ever longer, never beyond the end."""

    def __init__(self, clock: Callable[[], float], end: float, server_ms: float | None = None) -> None:
        self.clock, self.end = clock, end
        self._next = LOOK_S if server_ms is None else server_ms / 1e3
        self._most = LOOK_S_MAX if server_ms is None else self._next

    def over(self) -> bool:
        return self.clock() >= self.end

    def pause_s(self) -> float:
        seconds, self._next = self._next, min(self._next * 2, self._most)
        return max(0.0, min(seconds, self.end - self.clock()))

    def left_ms(self) -> int:
        """How long there is still to wait, at least 1; 0 when there is no end."""
        return 0 if self.end == inf else max(1, round((self.end - self.clock()) * 1e3))


# ---- CLAIM -----------------------------------------------------------------------------------------------------------
class _Claimer:
    """One CLAIM of a bound dag."""

    def __init__(self, spec: NodeSpec, services: Services) -> None:
        if "timeout_ms" in spec.attributes:
            raise BindError(f"{where(spec)} has a `timeout_ms`", hint="`max_wait_ms` is how long it waits")
        self.system = _system(spec, services)
        self.server = _permitted(spec, services, "server_url")
        self.queue = str(spec.attributes["queue"])
        self.lease_ms, self.wait_ms = setting(spec, "lease_ms"), setting(spec, "max_wait_ms")

    def __call__(self, context: OpContext, *inputs: Any) -> Outcome:
        clock = self.system.clock
        pace = _Pace(clock, clock() + self.wait_ms / 1e3)
        owner = f"{socket.gethostname()}:{os.getpid()}:{context.run.run_id}"
        return self._look(self.system.queues_of(self.server), owner, pace)

    def _look(self, queues: Queues | RemoteQueues, owner: str, pace: _Pace) -> Outcome:
        def again(why: TransientError | None = None) -> Outcome:
            if pace.over():
                raise self._none(why)
            return Wait(pace.pause_s(), lambda: self._look(queues, owner, pace))

        def found(claim: Claim | None) -> Outcome:
            return again() if claim is None else self._hold(queues, claim)

        def undo(claim: Claim | None) -> None:
            if claim is not None:
                queues.give_back(claim.task_id, claim.token)

        try:
            given = queues.claim(self.queue, owner, self.lease_ms)
        except TransientError as busy:
            return again(busy)
        return _when(given, found, again, undo)

    def _hold(self, queues: Queues | RemoteQueues, claim: Claim) -> Hold:
        leases = self.system.leases
        leases.keep(claim.token, self.lease_ms, lambda: queues.renew(claim.task_id, claim.token, self.lease_ms))

        def release(good: bool) -> Future[None] | None:
            leases.let_go(claim.token)
            return (queues.acknowledge if good else queues.give_back)(claim.task_id, claim.token)

        return Hold({"task_id": claim.task_id, "task_data": claim.data, "claim_token": claim.token}, release)

    def _none(self, why: TransientError | None) -> TransientError:
        place = f"queue `{self.queue}`" + (f" of {self.server}" if self.server else "")
        error = TransientError(
            f"no task came to {place} within {self.wait_ms / 1e3:g} s" + (f": {why.message}" if why else ""),
            hint="`apxm queue put` adds one; a longer `max_wait_ms` waits for it",
        )
        error.called = True  # it has waited as long as it may: a retry would wait once more
        return error


def _bind_claim(spec: NodeSpec, services: Services) -> Bound:
    claimer = _Claimer(spec, services)
    return Bound(Kind.SYNC, claimer, Effect.IDEMPOTENT, label="web" if claimer.server else "tool:queue")


# ---- PAUSE -----------------------------------------------------------------------------------------------------------
class _Asked(NamedTuple):
    """One question of one firing."""

    id: str
    message: str
    run_id: str
    path: Path
    node: int
    store: Checkpoints | RemoteCheckpoints
    pace: _Pace


class _Pauser:
    """One PAUSE of a bound dag."""

    def __init__(self, spec: NodeSpec, services: Services) -> None:
        self.spec, self.system = spec, _system(spec, services)
        self.server = _permitted(spec, services, "server_url")
        self.notify = _permitted(spec, services, "notification_url")
        self.message = renderer(spec, spec.attributes["message"])
        self.id: Render | None = renderer(spec, spec.attributes["checkpoint_id"]) if "checkpoint_id" in spec.attributes else None
        self.timeout_ms, self.schema = setting(spec, "timeout_ms"), spec.attributes.get("answer_schema")
        self.server_ms = setting(spec, "poll_interval_ms") if self.server else None
        self.has_default, self.default = "default" in spec.attributes, spec.attributes.get("default")
        self.waits = bool(services.waits or self.timeout_ms)
        self._check()

    def _check(self) -> None:
        if not self.waits and not self.has_default:
            raise InvalidError(
                f"{where(self.spec)} may wait without end: it has neither `timeout_ms` nor `default`, and the run no deadline",
                hint="give it one, or run with RunOptions(wait=True), `apxm run --wait`",
            )
        if self.schema is not None:
            from apxm.capability.schema import JsonSchema

            schema = JsonSchema(self.schema, where(self.spec))
            if self.has_default and (problem := schema.problem(self.default)) is not None:
                raise BindError(f"{where(self.spec)}: its `default` does not fit its `answer_schema`: {problem}")

    def __call__(self, context: OpContext, *inputs: Any) -> Outcome:
        clock = self.system.clock
        end = clock() + self.timeout_ms / 1e3 if self.timeout_ms else inf
        run_id, path, node = context.run.run_id, context.path, context.node
        asked = _Asked(
            self.id(inputs) if self.id is not None else _derived(run_id, path, node),
            self.message(inputs),
            run_id,
            path,
            node,
            self.system.checkpoints_of(self.server),
            _Pace(clock, end, self.server_ms),
        )
        data = inputs[0] if inputs else None
        if not self.waits:
            return _when(asked.store.get(asked.id), lambda found: self._at_once(found), _raise, _ignored)
        return self._open(asked, data, context)

    def _at_once(self, found: Checkpoint | None) -> Any:
        """In a run that does not wait: an answer that is there already, else the default."""
        return self._taken(found) if found is not None and found.state == "answered" else self.default

    def _open(self, asked: _Asked, data: Any, context: OpContext) -> Outcome:
        run = context.run

        def opened(found: Checkpoint) -> Outcome:
            if found.state != "answered":
                if run.heard:
                    run.publish(Paused(asked.path, asked.node, asked.id, asked.message, found.deadline))
                if self.notify is not None:
                    self._notify(asked, data)
            return self._look(asked, data, found)

        return _when(self._ask(asked, data), opened, _raise, lambda found: self._withdraw(asked))

    def _ask(self, asked: _Asked, data: Any) -> Checkpoint | Future[Checkpoint]:
        left_ms = asked.pace.left_ms()
        return asked.store.open(asked.id, asked.message, data, run_id=asked.run_id, schema=self.schema, timeout_ms=left_ms)

    def _look(self, asked: _Asked, data: Any, found: Checkpoint | None) -> Outcome:
        """Take the answer, end, or wait for the next look."""
        if found is not None and found.state == "answered":
            return self._taken(found)
        if asked.pace.over():
            return _when(asked.store.expire(asked.id), lambda last: self._late(last), _raise, _ignored)
        if found is None or found.state != "open":  # another run closed it, or somebody forgot it: this one still asks
            given = self._ask(asked, data)
            return _when(given, lambda again: self._look(asked, data, again), _raise, lambda again: self._withdraw(asked))

        def look() -> Outcome:
            given = asked.store.get(asked.id)
            return _when(
                given,
                lambda now: self._look(asked, data, now),
                lambda unanswered: self._look(asked, data, found),  # a server that is away for a while may come back
                lambda now: self._withdraw(asked),
            )

        return Wait(asked.pace.pause_s(), look, lambda: self._withdraw(asked))

    def _withdraw(self, asked: _Asked) -> None:
        """Nobody waits any more: nobody has to answer."""
        with suppress(ApxmError):
            asked.store.withdraw(asked.id, asked.run_id)

    def _taken(self, found: Checkpoint) -> Any:
        problem = misfit(self.schema, found.answer, where(self.spec))
        if problem is not None:
            raise InvalidError(
                f"{where(self.spec)}: the answer to checkpoint `{found.id}` does not fit its `answer_schema`: {problem}",
                hint=f"`apxm answer {found.id} --forget` lets it be asked again",
            )
        return found.answer

    def _late(self, last: Checkpoint | None) -> Any:
        if last is not None and last.state == "answered":
            return self._taken(last)
        if self.has_default:
            return self.default
        text = f"{where(self.spec)}: nobody answered within {self.timeout_ms / 1e3:g} s"
        raise DeadlineError(text, hint="`apxm pending` lists what waits for an answer; `default` stands in for one")

    def _notify(self, asked: _Asked, data: Any) -> None:
        """Best effort: that nobody heard of it is no reason to fail."""
        assert self.notify is not None
        body = {"checkpoint_id": asked.id, "message": asked.message, "display_data": data}
        with suppress(TypeError, ValueError):
            self.system.servers.post(self.notify, body)


def _raise(error: TransientError) -> Outcome:
    raise error


def _derived(run_id: str, path: Path, node: int) -> str:
    """The id of a checkpoint that has none: the same for the same place in the same run."""
    return blake2b(json.dumps([run_id, path, node]).encode(), digest_size=6).hexdigest()


def _bind_pause(spec: NodeSpec, services: Services) -> Bound:
    pauser = _Pauser(spec, services)
    return Bound(Kind.SYNC, pauser, Effect.IDEMPOTENT, label="web" if pauser.server else "user")


# ---- RESUME ----------------------------------------------------------------------------------------------------------
class _Resumer:
    """One RESUME of a bound dag."""

    def __init__(self, spec: NodeSpec, services: Services) -> None:
        self.spec, self.system = spec, _system(spec, services)
        self.server = _permitted(spec, services, "server_url")
        self.id = renderer(spec, spec.attributes["checkpoint"])
        poll_ms = setting(spec, "poll_interval_ms")
        self.server_ms = poll_ms if self.server else None
        self.wait_ms = spec.attributes.get("timeout_ms", poll_ms * setting(spec, "poll_max_attempts"))

    def __call__(self, context: OpContext, *inputs: Any) -> Outcome:
        clock = self.system.clock
        pace = _Pace(clock, clock() + self.wait_ms / 1e3, self.server_ms)
        return self._ask(self.system.checkpoints_of(self.server), self.id(inputs), pace)

    def _ask(self, store: Checkpoints | RemoteCheckpoints, id: str, pace: _Pace) -> Outcome:
        def wait() -> Outcome:
            if pace.over():
                raise DeadlineError(f"{where(self.spec)}: nobody answered checkpoint `{id}` within {self.wait_ms / 1e3:g} s")
            return Wait(pace.pause_s(), lambda: self._ask(store, id, pace))

        def found(checkpoint: Checkpoint | None) -> Outcome:
            if checkpoint is None:
                raise StuckError(f"{where(self.spec)}: nobody ever asked under the checkpoint `{id}`")
            if checkpoint.state == "answered":
                return checkpoint.answer
            if checkpoint.state != "open":
                raise StuckError(f"{where(self.spec)}: checkpoint `{id}` is {checkpoint.state}, nobody can answer it any more")
            return wait()

        return _when(store.get(id), found, lambda away: wait(), _ignored)


def _bind_resume(spec: NodeSpec, services: Services) -> Bound:
    resumer = _Resumer(spec, services)
    return Bound(Kind.SYNC, resumer, Effect.READ, label="web" if resumer.server else "user")


BINDERS: dict[str, Binder] = {"CLAIM": _bind_claim, "PAUSE": _bind_pause, "RESUME": _bind_resume}
