"""COMMUNICATE: a message for another agent becomes a child frame of its flow, or an HTTP request to another process."""

from __future__ import annotations

from copy import copy
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from apxm.coordination.mailbox import STEP, Envelope, Recipients, depth_of, message_id, refuse_depth, refuse_parameters
from apxm.coordination.peers import TIMEOUT_S, Peers, post
from apxm.errors import ApxmError, BindError, InvalidError
from apxm.executor.arguments import positions, renderer, where
from apxm.executor.asking import setting
from apxm.executor.bind import Bound, Kind
from apxm.executor.reporting import report, said_in_message
from apxm.graph.operation import Effect
from apxm.graph.template import fill, parse, parse_filled
from apxm.outcome import Child, ChildResult, Fail, Outcome, Post, Spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apxm.executor.arguments import Render
    from apxm.executor.bind import Binder, Body, NodeSpec, Services
    from apxm.executor.context import OpContext


class _Letter:
    """How one COMMUNICATE makes envelopes: whom it names, what it sends, on which channel."""

    def __init__(self, spec: NodeSpec) -> None:
        self.where, self.reply = where(spec), setting(spec, "reply")
        recipient, channel = spec.attributes.get("recipient"), spec.attributes.get("channel")
        self.constant = recipient if recipient is not None and not parse(recipient).placeholders else None
        self._recipient: Render | None = None if recipient is None else renderer(spec, recipient)
        self._channel: Render | None = None if channel is None else renderer(spec, channel)
        used = {at for text in (recipient, channel) if text is not None for at in positions(spec, parse(text)).values()}
        self._message = _message(spec, used)

    def recipient(self, inputs: Sequence[Any]) -> str:
        assert self._recipient is not None
        return self._recipient(inputs)

    def envelopes(self, context: OpContext, inputs: Sequence[Any]) -> Callable[[str], Envelope]:
        """A function from a recipient to its envelope; InvalidError when too many messages led to this one."""
        path, run = context.path, context.run
        depth = depth_of(path, run.message_depth) + 1
        refuse_depth(depth, self.where)
        message = self._message(inputs)
        channel = None if self._channel is None else self._channel(inputs)

        def envelope(to: str) -> Envelope:
            id = message_id(run.run_id, path, context.node, to)
            return Envelope(id, context.agent, run.run_id, context.name, to, message, depth, channel, self.reply)

        return envelope


def _message(spec: NodeSpec, used: set[int]) -> Callable[[Sequence[Any]], Any]:
    """What is sent: the attribute `message`, filled, else the first input that no text uses."""
    if "message" in spec.attributes:
        given = spec.attributes["message"]
        gaps = positions(spec, parse_filled(given))
        return lambda inputs: fill(given, lambda part: inputs[gaps[part]])
    free = next((at for at in range(len(spec.inputs)) if at not in used), None)
    if free is None:
        raise BindError(f"{where(spec)} has nothing to send", hint="give it `message`, or add a Data edge into it")
    return lambda inputs: inputs[free]


def bind_communicate(spec: NodeSpec, services: Services) -> Bound:
    """By protocol; a recipient that is a constant is looked up now, any other when the message is sent."""
    protocol = setting(spec, "protocol")
    if protocol == "broadcast":
        if "recipient" in spec.attributes:
            raise BindError(f"{where(spec)} is a broadcast, and names a recipient", hint="leave out `recipient`")
        return _within(spec, _Broadcast(spec, services).fire)
    if "recipient" not in spec.attributes:
        raise BindError(f"{where(spec)} names no recipient", hint="give it `recipient`, or the protocol `broadcast`")
    if protocol == "local":
        return _within(spec, _Local(spec, services).fire)
    return Bound(Kind.ASYNC, _Remote(spec, services, secure=protocol == "https").fire, Effect.GUARDED, label="web")


def _within(spec: NodeSpec, fire: Callable[..., Any]) -> Bound:
    """A message to agents of this run: what they reply has the provenance of what they did."""
    timeout_ms = spec.attributes.get("timeout_ms")
    if timeout_ms is not None and not setting(spec, "reply"):
        raise BindError(f"{where(spec)} has a timeout, but it waits for no reply", hint="leave out `timeout_ms`, or wait")
    return Bound(Kind.SYNC, fire, Effect.GUARDED, owns=True, timeout_ms=timeout_ms)


class _Local:
    """A message to one agent of this run."""

    def __init__(self, spec: NodeSpec, services: Services) -> None:
        self.letter, self.services = _Letter(spec), services
        self.agents = Recipients(services.siblings, services.flows)
        self.known: tuple[str, Body] | None = None
        if self.letter.constant is not None:
            self.known = self._find(self.letter.constant, services.call)

    def _find(self, agent: str, bound: Callable[[str, str], Body]) -> tuple[str, Body]:
        """The flow that answers, by name and bound; BindError names the node when there is none that takes messages."""
        try:
            flow = self.agents.flow_of(agent)
            name, body = f"{agent}.{flow}", bound(agent, flow)
            refuse_parameters(body.parameters, name)
        except InvalidError as error:
            raise BindError(f"{self.letter.where}: {error.message}", hint=error.hint) from error
        return name, body

    def fire(self, context: OpContext, *inputs: Any) -> Outcome:
        agent = self.letter.recipient(inputs)
        flow, body = self.known or self._find(agent, self.services.late)
        envelope = self.letter.envelopes(context, inputs)(agent)
        child = Child(body, envelope.arguments(body.parameters), f"{STEP}{flow}")
        told = _Told(context)
        if not envelope.reply:
            told.of(envelope, None, None)
            return Post(envelope.receipt(), (child,))
        return Spawn((child,), partial(self._replied, told, envelope), isolate=True, hands_on=True)

    def _replied(self, told: _Told, envelope: Envelope, results: list[ChildResult]) -> Outcome:
        (result,) = results
        told.of(envelope, result.value, result.error)
        return result.value if result.error is None else Fail(result.error)


class _Broadcast:
    """A message to every agent of this run that takes messages, except the sender."""

    def __init__(self, spec: NodeSpec, services: Services) -> None:
        self.letter, self.services = _Letter(spec), services
        self.agents = Recipients(services.siblings, services.flows)

    def fire(self, context: OpContext, *inputs: Any) -> Outcome:
        envelope_to = self.letter.envelopes(context, inputs)
        envelopes, children, refused = [], [], {}
        told = _Told(context)
        for agent, flow in self.agents.everyone(context.agent):
            envelope, name = envelope_to(agent), f"{agent}.{flow}"
            try:
                body = self.services.late(agent, flow)
                refuse_parameters(body.parameters, name)
                children.append(Child(body, envelope.arguments(body.parameters), f"{STEP}{name}"))
            except ApxmError as error:
                if not self.letter.reply:  # nobody would ever hear of it
                    raise
                told.of(envelope, None, error)
                refused[agent] = {"error": error.to_map()}
            else:
                envelopes.append(envelope)
        if not self.letter.reply:
            for envelope in envelopes:
                told.of(envelope, None, None)
            return Post([envelope.receipt() for envelope in envelopes], children, window=self.services.window)
        then = partial(self._replied, told, envelopes, refused)
        return Spawn(children, then, window=self.services.window, isolate=True)

    def _replied(
        self, told: _Told, envelopes: Sequence[Envelope], refused: dict[str, Any], results: list[ChildResult]
    ) -> dict[str, Any]:
        """What each of them replied, by agent; in place of a reply {error} of one that failed."""
        found = dict(refused)
        for envelope, result in zip(envelopes, results):
            told.of(envelope, result.value, result.error)
            found[envelope.to] = result.value if result.error is None else {"error": result.error.to_map()}
        return dict(sorted(found.items()))


class _Remote:
    """A message to another process."""

    def __init__(self, spec: NodeSpec, services: Services, *, secure: bool) -> None:
        self.letter = _Letter(spec)
        self.timeout_s: float = spec.attributes.get("timeout_ms", TIMEOUT_S * 1e3) / 1e3
        self.broker = services.capabilities.broker
        peers = services.coordination.peers if services.coordination is not None else Peers()
        self.find = partial(peers.find, grants=services.grants, secure=secure, explicit=services.explicit)
        if self.letter.constant is not None:
            try:
                self.find(self.letter.constant)
            except ApxmError as error:
                raise type(error)(f"{self.letter.where}: {error.message}", hint=error.hint) from error

    async def fire(self, context: OpContext, *inputs: Any) -> Any:
        recipient = self.letter.recipient(inputs)
        peer = self.find(recipient)
        envelope = self.letter.envelopes(context, inputs)(recipient)
        told = _Told(context)
        try:
            reply = await post(self.broker, peer, envelope, self.timeout_s)
        except BaseException as error:
            told.of(envelope, None, error)
            raise
        told.of(envelope, reply, None)
        return reply


class _Told:
    """What others hear of the messages of one firing. Keeps its context: that of a firing which went on is another's."""

    __slots__ = ("began", "context")

    def __init__(self, context: OpContext) -> None:
        self.context = copy(context) if context.run.noted else None
        self.began = perf_counter()

    def of(self, envelope: Envelope, reply: Any, error: BaseException | None) -> None:
        """One message was answered, or accepted, or failed."""
        context = self.context
        if context is None:
            return
        content = None
        if context.run.content:
            content = said_in_message(envelope.message, reply if error is None and envelope.reply else None)
        report(context, "message", envelope.to, self.began, error, content=content)


BINDERS: dict[str, Binder] = {"COMMUNICATE": bind_communicate}
