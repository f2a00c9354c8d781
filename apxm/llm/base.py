"""What a language model is to us: LanguageModel, Prompt, Reply, Usage. No provider, no transport."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Tool:
    """What a model may call: `parameters` is the closed JSON Schema of the arguments, a map by name."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that a model asks for. `id` joins it with the message that answers it."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn; `role` is system, user, assistant or tool.

    An assistant turn may ask for `tool_calls`; each is answered by a tool turn with its id as `tool_call_id`.
    """

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """Everything a model is asked with: its turns in `messages`, what the user turns say in `text`.

    None leaves a setting to the model. `output_schema` is a JSON Schema. `thinking_tokens` bounds what a model that can may
    think before it answers; it comes on top of `max_output_tokens`, and 0 asks for none.
    """

    messages: tuple[Message, ...]
    model: str | None = None
    temperature: float | None = None
    max_output_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    output_schema: dict[str, Any] | None = None
    tools: tuple[Tool, ...] = ()
    thinking_tokens: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)  # node, op, agent, run: for scripts, traces and caches

    @property
    def text(self) -> str:
        """What the user turns say, an empty line between two."""
        return "\n\n".join(message.content for message in self.messages if message.role == "user")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call used. `estimated` is True when the provider reported nothing and we counted ourselves.

    `thinking_tokens` is the part of `output_tokens` that was thinking.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    estimated: bool = False
    thinking_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered; `finish` is stop, length, tools, filter or error. `text` is without any thinking."""

    text: str
    usage: Usage
    model: str
    finish: str = "stop"
    tool_calls: tuple[ToolCall, ...] = ()


@runtime_checkable
class LanguageModel(Protocol):
    """A model that answers prompts. Raises TransientError for what may work when tried again, else ModelError."""

    name: str

    async def complete(self, prompt: Prompt) -> Reply:
        """Answer once. Cancelling the awaiting task stops the call."""

    def count_tokens(self, text: str) -> int:
        """How many tokens `text` has for this model, exactly or estimated upwards."""


MESSAGE_TOKENS = 4  # what providers add for the frame of a message, at most


def prompt_tokens(model: LanguageModel, prompt: Prompt) -> int:
    """What a prompt is expected to be charged for as input, estimated upwards: its turns, and the tools it offers."""
    turns = sum(model.count_tokens(_said(message)) + MESSAGE_TOKENS for message in prompt.messages)
    return turns + sum(model.count_tokens(f"{tool.name} {tool.description} {tool.parameters}") for tool in prompt.tools)


def _said(message: Message) -> str:
    if not message.tool_calls:
        return message.content
    return " ".join([message.content, *(f"{call.name} {call.arguments}" for call in message.tool_calls)])
