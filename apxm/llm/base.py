"""What a language model is to us: LanguageModel, Prompt, Reply, Usage. No provider, no transport."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Message:
    """One turn; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """Everything a model is asked with: its turns in `messages`, what the user turns say in `text`.

    None leaves a setting to the model. `output_schema` is a JSON Schema.
    """

    messages: tuple[Message, ...]
    model: str | None = None
    temperature: float | None = None
    max_output_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    output_schema: dict[str, Any] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)  # node, op, agent, run: for scripts, traces and caches

    @property
    def text(self) -> str:
        """What the user turns say, an empty line between two."""
        return "\n\n".join(message.content for message in self.messages if message.role == "user")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call used. `estimated` is True when the provider reported nothing and we counted ourselves."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered; `finish` is stop, length, filter or error."""

    text: str
    usage: Usage
    model: str
    finish: str = "stop"


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
    """What a prompt is expected to be charged for as input, estimated upwards."""
    return sum(model.count_tokens(message.content) + MESSAGE_TOKENS for message in prompt.messages)
