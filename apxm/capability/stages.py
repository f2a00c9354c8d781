"""One call from beginning to end, whoever makes it: a node, a model with tools, another program, the host.

Interceptors → schema → labels → budget → approval if asked → turn and rate → run with timeout → schema of the result. That
the capability is granted was decided when it was looked up (`granted`). What is refused before the capability was reached
had no effect.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from apxm.capability import policy
from apxm.capability.calling.run import called, with_retries
from apxm.capability.record import KEY
from apxm.errors import ApxmError, DeniedError, InvalidError, TransientError, UnknownEffectError
from apxm.graph.operation import Effect
from apxm.values import check, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from apxm.budget import Reservation
    from apxm.capability.record import CapabilityRecord
    from apxm.capability.signature import Placed
    from apxm.capability.system import CapabilitySystem

Prepared = tuple["Sequence[Any]", "Mapping[str, Any]"]  # what the function is called with


class Client(Protocol):
    """Who makes a call: what it brings along, and what the call costs it. Most of it is asked for only when it matters."""

    @property
    def where(self) -> str:
        """How an error names the call."""

    @property
    def run(self) -> str | None: ...
    @property
    def agent(self) -> str | None: ...
    @property
    def node(self) -> str | None: ...
    @property
    def timeout_s(self) -> float | None:
        """Of one attempt; None: the record's."""

    @property
    def retries(self) -> int:
        """At most, of a call that may be repeated."""

    @property
    def until(self) -> float:
        """On the loop's clock; when cancelled after this, a limit that the client keeps himself was reached."""

    @property
    def deadline(self) -> float:
        """On the loop's clock."""

    def prepared(self) -> Prepared:
        """The arguments, in their places and checked."""

    def placed(self) -> Placed[Any]:
        """The arguments, in their places."""

    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """For every argument where it came from."""

    def trusts(self, label: str, capability: str) -> bool:
        """Whether the run lets values from there reach this capability."""

    def key(self, arguments: Mapping[str, Any]) -> str:
        """What names this call, the same at every attempt and in every process."""

    def reserve(self) -> Reservation | None:
        """Set a call aside while somebody is asked; BudgetError when there is none left."""

    def spend(self) -> None:
        """Take one call from the budget."""

    def permit(self) -> bool:
        """Draw one retry."""

    def announce(self, attempt: int, seconds: float, error: ApxmError) -> None:
        """Another attempt follows."""

    def tell(self, began: float, error: BaseException | None, said: Prepared, value: Any, details: dict[str, Any] | None) -> None:
        """A call ended, or was refused."""

    def chunk(self) -> Callable[[int, Any], None] | None:
        """Who wants to hear of chunks, if anybody."""


async def perform(system: CapabilitySystem, record: CapabilityRecord, client: Client) -> Any:
    """Make a call; the ApxmError of whatever refused or failed."""
    details: dict[str, Any] | None = None
    try:
        hooks = system.hooks(record.name)
        said = await _intercepted(record, client, hooks) if hooks else (*client.prepared(), None)
        args, kwargs, labels = said
        if record.effect is Effect.GUARDED or record.approval:
            details = await _permitted(system, record, client, args, kwargs, labels)
        if record.keyed:
            kwargs = {**kwargs, KEY: client.key(arguments_of(record, args, kwargs))}
    except BaseException as error:
        record.tally.refused(error)
        if isinstance(error, DeniedError):
            client.tell(perf_counter(), error, ((), {}), None, None)
        raise
    call = _Call(system, record, client, args, kwargs, details)
    if not (record.repeatable or record.reconcile is not None):
        return await call.attempt()
    if record.keyed or record.limits is not None or record.reconcile is not None:
        return await call.repeated()
    try:  # what most calls are: as `repeated`, with fewer coroutines around it
        return await call.run()
    except TransientError as first:
        return await call.again(first)


def place_by_name(record: CapabilityRecord, arguments: Mapping[str, Any], whose: str) -> Placed[Any]:
    """Arguments by name in their places, as values of ours; InvalidError for what no value is, unknown or missing ones."""
    given = settle(dict(arguments), where=f"the arguments of {whose}")
    check(given, f"the arguments of {whose}")
    signature = record.signature
    rest = given.pop(signature.rest, []) if signature.rest is not None else []
    if not isinstance(rest, list):
        raise InvalidError(f"argument `{signature.rest}` of {whose} is no list")
    return signature.place((), given, whose, default=lambda value: value, rest=rest)


def arguments_of(record: CapabilityRecord, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, those that only fill a gap too."""
    return record.signature.named_of(args, kwargs)


# ---- before the call -------------------------------------------------------------------------------------------------
async def _intercepted(
    record: CapabilityRecord, client: Client, hooks: Sequence[policy.Interceptor]
) -> tuple[Sequence[Any], Mapping[str, Any], Mapping[str, tuple[str, ...]] | None]:
    """What the interceptors left of the call, placed and checked; the labels of its arguments when they changed any."""
    placed, signature = client.placed(), record.signature
    given = signature.as_map(placed)

    def request(arguments: Mapping[str, Any]) -> policy.Request:
        def look() -> Mapping[str, tuple[str, ...]]:
            return _inherited(given, arguments, client.labels())

        return policy.Request(record.name, arguments, record.effect.value, client.run, client.agent, client.node, (), look)

    edited = await policy.intercepted(hooks, request, given, client.where)
    if edited is given:
        signature.verify(placed, client.where)
        return placed.args, placed.kwargs, None
    changed = place_by_name(record, edited, client.where)
    signature.verify(changed, client.where)
    return changed.args, changed.kwargs, _inherited(given, edited, client.labels())


def _inherited(
    given: Mapping[str, Any], edited: Mapping[str, Any], labels: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """Labels after an edit: an argument that is the same object keeps its own, a new one is made of all that came in."""
    everything = policy.joined(labels.values())
    found = {
        name: labels.get(name, ()) if name in given and given[name] is value else everything for name, value in edited.items()
    }
    if policy.CALL in labels or not found:
        found[policy.CALL] = everything
    return found


async def _permitted(
    system: CapabilitySystem,
    record: CapabilityRecord,
    client: Client,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    labels: Mapping[str, tuple[str, ...]] | None,
) -> dict[str, Any] | None:
    """Labels, then a person where one has to be asked. Gives what the event of the call says about that."""
    reasons, approver = ["the capability asks for it"] if record.approval else [], system.approver
    if record.effect is Effect.GUARDED:
        found = policy.breaches(record, client.labels() if labels is None else labels, system.untrusted, client.trusts)
        if found and approver is None:
            raise policy.breach_error(record, client.where, found[0])
        reasons += [policy.breach_text(record, client.where, each) for each in found]
    if not reasons:
        return None
    if approver is None:
        hint = "set capability_system().approver, a function that asks somebody"
        raise DeniedError(f"{client.where} has to be approved, and nobody can be asked", code="policy", hint=hint)
    arguments = arguments_of(record, args, kwargs)
    look = client.labels if labels is None else lambda: labels
    run, agent, node = client.run, client.agent, client.node
    request = policy.Request(record.name, arguments, record.effect.value, run, agent, node, tuple(reasons), look)
    began, reservation = perf_counter(), client.reserve()
    try:
        verdict = await system.calls.aside("approver", approver, request)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise DeniedError(f"{client.where} was not approved: the approver failed: {what}", code="policy") from error
    finally:
        if reservation is not None:
            reservation.settle()  # the attempt takes its own
    policy.approved(verdict, client.where)
    return {"approved": reasons, "asked_ms": round((perf_counter() - began) * 1e3, 3)}


# ---- the call --------------------------------------------------------------------------------------------------------
class _Call:
    """A call that may be made."""

    __slots__ = ("args", "cleared", "client", "details", "kwargs", "record", "system")

    def __init__(
        self,
        system: CapabilitySystem,
        record: CapabilityRecord,
        client: Client,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        details: dict[str, Any] | None,
    ) -> None:
        self.system, self.record, self.client = system, record, client
        self.args, self.kwargs, self.details = args, kwargs, details
        self.cleared = False  # the last attempt is known not to have happened

    async def repeated(self) -> Any:
        """Try until it worked, as often as that does no harm."""
        try:
            return await self._attempt()
        except TransientError as first:
            return await self.again(first)

    async def again(self, first: TransientError) -> Any:
        """The first attempt failed: go on from there."""
        client, failures = self.client, [first]

        async def attempt() -> Any:
            if failures:
                raise failures.pop()
            return await self._attempt()

        def announce(number: int, seconds: float, error: ApxmError) -> None:
            self.record.tally.retried()
            client.announce(number, seconds, error)

        try:
            return await with_retries(
                attempt,
                retries=client.retries,
                permit=client.permit,
                announce=announce,
                until=client.deadline,
                may=lambda error: self.record.repeatable or self.cleared or not error.called,
            )
        except TransientError as error:
            lost = error.__cause__
            if isinstance(lost, UnknownEffectError) and not self.cleared:
                raise lost from lost.__cause__  # nobody tries again, and nobody knows what became of it
            raise

    async def _attempt(self) -> Any:
        """As `attempt`; a call that got lost may be repeated when the capability knows it by its key."""
        self.cleared = False
        try:
            return await self.attempt()
        except UnknownEffectError as error:
            if not self.record.keyed or _is_cancelled():
                raise
            raise called(TransientError(error.message, hint=error.hint)) from error

    async def attempt(self) -> Any:
        """Once: wait for a turn, spend, run, tell."""
        if self.record.limits is None:
            return await self.run()
        async with self.record.limits.hold(self.system.turnstile):
            return await self.run()

    async def run(self) -> Any:
        """Spend, run, tell."""
        record, client = self.record, self.client
        if record.effect is not Effect.PURE:
            client.spend()
        tally, began = record.tally, perf_counter()
        tally.began()
        error: BaseException | None = None
        value = None
        try:
            value = await self.system.calls.call(
                record,
                self.args,
                self.kwargs,
                timeout_s=client.timeout_s,
                until=client.until,
                chunk=client.chunk() if record.streams else None,
            )
        except UnknownEffectError as raised:
            error = raised
            if record.reconcile is None or _is_cancelled():
                raise
            value = await self._reconciled(raised)
            error = None
        except BaseException as raised:
            error = raised
            raise
        finally:
            tally.ended((perf_counter() - began) * 1e3, error)
            client.tell(began, error, (self.args, self.kwargs), value, self.details)
        return value

    async def _reconciled(self, unknown: UnknownEffectError) -> Any:
        """Find out what became of a call whose answer got lost; TransientError when it is known not to have happened."""
        record = self.record
        assert record.reconcile is not None
        arguments = arguments_of(record, self.args, self.kwargs)
        key = arguments.pop(KEY, None) or self.client.key(arguments)
        try:
            told = await self.system.calls.call(record.reconcile, (key, arguments), {})
        except ApxmError as error:
            unknown.add_note(f"reconcile failed: {error}")
            raise unknown from error
        match told:
            case {"happened": True, "value": value}:
                return record.confirm(value)
            case {"happened": False}:
                self.cleared = True
                raise called(TransientError(f"{unknown.message}; it did not happen")) from unknown
        raise unknown


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
