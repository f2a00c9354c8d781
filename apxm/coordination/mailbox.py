"""Messages between agents: the envelope around one, who may get it, and how a flow is given it. Sends nothing.

The envelope as JSON, version 1, is what goes to another process:

    {"version": 1, "id": "9c…", "from": {"agent": "editor", "run": "r-7", "node": "tell"}, "to": "critic",
     "channel": "drafts", "message": {"text": "…"}, "depth": 1, "reply": true}

`id` is the same for the same firing of the same run, so that who gets a message twice can tell. `depth` counts the messages
that led to this one, itself included: whoever answers by sending messages counts on from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from apxm.aam.agent import nearest
from apxm.errors import BindError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from apxm.aam.flows import Flows
    from apxm.dag import ExecutionDag
    from apxm.observability.events import Path

VERSION = 1
FLOWS = ("communicate", "main")  # what answers a message: the first of these that an agent has
PARAMETERS = ("message", "sender", "channel")  # what a flow may be given of a message
STEP = "message:"  # what the step of a message's frame begins with
DEPTH_MAX = 16  # messages that cause messages; people have given up long before
ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message to one recipient. `sender` is an agent, `run` and `node` say where it comes from."""

    id: str
    sender: str
    run: str
    node: str
    to: str
    message: Any
    depth: int = 1
    channel: str | None = None
    reply: bool = True

    def to_map(self) -> dict[str, Any]:
        """The JSON form, version 1."""
        return {
            "version": VERSION,
            "id": self.id,
            "from": {"agent": self.sender, "run": self.run, "node": self.node},
            "to": self.to,
            "channel": self.channel,
            "message": self.message,
            "depth": self.depth,
            "reply": self.reply,
        }

    def receipt(self) -> dict[str, Any]:
        """What the sender gets for a message that nobody replies to."""
        return {"id": self.id, "to": self.to, "accepted": True}

    def arguments(self, parameters: Sequence[str]) -> list[Any]:
        """What a flow with these parameters is called with, in their order.

        `message`, `sender` (the name of the agent) and `channel` (or null) by name; a flow with one parameter gets the
        message, whatever its name.
        """
        if len(parameters) == 1:
            return [self.message]
        given = {"message": self.message, "sender": self.sender, "channel": self.channel}
        return [given[name] for name in parameters]


def refuse_parameters(parameters: Sequence[str], flow: str) -> None:
    """InvalidError for a flow that cannot get a message: see `Envelope.arguments`."""
    odd = next((name for name in parameters if name not in PARAMETERS), None)
    if len(parameters) != 1 and (odd is not None or "message" not in parameters):
        what = "has no parameter for the message" if odd is None else f"has a parameter `{odd}`, which no message fills"
        hint = "a flow that gets messages has one parameter, or `message` and perhaps `sender` and `channel`"
        raise InvalidError(f"flow `{flow}` {what}", hint=hint)


def message_id(run: str, path: Path, node: int, to: str) -> str:
    """The id of the message of one firing to one recipient."""
    return blake2b(repr((run, path, node, to)).encode("utf-8", "surrogatepass"), digest_size=ID_BYTES).hexdigest()


def depth_of(path: Path, before: int) -> int:
    """How many messages led to a frame: those on its path, and the `before` that led to its run."""
    return before + sum(1 for _, step in path if isinstance(step, str) and step.startswith(STEP))


def refuse_depth(depth: int, where: str) -> None:
    """InvalidError for a message that too many others led to."""
    if depth > DEPTH_MAX:
        raise InvalidError(
            f"{where} would be the {depth}. message in a row of messages that cause each other, the bound is {DEPTH_MAX}",
            code="limit",
            hint="do agents answer each other without end? A reply is the value of the recipient's flow, not another message",
        )


class Recipients:
    """The agents that one program can reach: its own, and those that the host registered."""

    def __init__(self, siblings: Mapping[tuple[str, str], ExecutionDag], flows: Flows) -> None:
        self._siblings, self._flows = siblings, flows

    def flow_of(self, agent: str) -> str:
        """The name of the flow that answers; BindError names the nearest agent, or the flows that were looked for."""
        found = next(self._answering(agent), None)
        if found is not None:
            return found
        if agent in self.names():
            raise BindError(f"agent `{agent}` takes no messages: it has neither a flow `communicate` nor `main`")
        raise BindError(f"there is no agent `{agent}` to send a message to", hint=nearest(agent, self.names()))

    def everyone(self, sender: str) -> list[tuple[str, str]]:
        """(agent, flow) of all that take messages, except the sender, by name."""
        return [(agent, flow) for agent in self.names() if agent != sender for flow in (*self._answering(agent),)[:1]]

    def names(self) -> list[str]:
        return sorted({agent for agent, _ in self._siblings} | set(self._flows.list_agents()))

    def _answering(self, agent: str) -> Iterator[str]:
        """The flows of an agent that could answer, the best first; an agent of the program goes before one of its name."""
        own = any(one == agent for one, _ in self._siblings)
        return (flow for flow in FLOWS if ((agent, flow) in self._siblings if own else self._flows.has_flow(agent, flow)))
