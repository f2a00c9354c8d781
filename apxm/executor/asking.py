"""Asking a model for one node: prompt, budget, call, retry, settlement, repair. What every operation that asks shares."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from math import isfinite
from time import perf_counter
from typing import TYPE_CHECKING, Any

from apxm.errors import ApxmError, BindError, BudgetError, InvalidError, ModelError, TransientError
from apxm.executor.arguments import renderer, where
from apxm.executor.reporting import report, said_to_model
from apxm.graph.ops import attribute_of
from apxm.graph.template import as_text, parse
from apxm.llm.base import Message, Prompt, prompt_tokens
from apxm.llm.structured import OutputSchema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apxm.executor.arguments import Render
    from apxm.executor.bind import NodeSpec, Services
    from apxm.executor.context import OpContext
    from apxm.llm.base import LanguageModel, Reply
    from apxm.llm.resilience import RetryPolicy

# Used where a node says nothing itself. An empty system_prompt means none at all.
SYSTEM_PROMPT = "You carry out one step of a larger program. Answer directly, with what was asked for only."


def setting(spec: NodeSpec, name: str) -> Any:
    """An attribute of a node, else the default that its row in the operation table says."""
    if name in spec.attributes:
        return spec.attributes[name]
    attribute = attribute_of(spec.op, name)
    assert attribute is not None, f"{spec.op.name} declares no `{name}`"
    return attribute.default


def prompt_renderer(spec: NodeSpec, template: str) -> Render:
    """The prompt of a node: its template filled; without placeholders the inputs follow; an empty one is the first input."""
    if parse(template).placeholders:
        return renderer(spec, template)
    if not template.strip():
        if not spec.inputs:
            raise BindError(f"{where(spec)} has neither a prompt nor an input", hint="give it `template_str`")
        return lambda inputs: as_text(inputs[0])
    return lambda inputs: "\n\n".join([template, *(f"Context {n}: {as_text(value)}" for n, value in enumerate(inputs, 1))])


def schema_of(spec: NodeSpec) -> OutputSchema | None:
    """What `output_schema` of a node says, compiled."""
    given = spec.attributes.get("output_schema")
    if given is None:
        return None
    try:
        return OutputSchema(given)
    except InvalidError as error:
        raise BindError(f"{where(spec)}: {error}") from error


class Asker:
    """One node that asks a model. What a firing changes lives in its calls, so that firings may overlap.

    `system` is what the model is told when the node has no `system_prompt`; an empty text means nothing at all. With a
    `schema` the answer is the value in it, repaired up to `repairs` times.
    """

    def __init__(
        self,
        spec: NodeSpec,
        services: Services,
        *,
        system: str = SYSTEM_PROMPT,
        schema: OutputSchema | None = None,
        repairs: int = 0,
    ) -> None:
        try:
            name, model = services.models.resolve(spec.attributes.get("model"))
        except BindError as error:
            raise BindError(f"{where(spec)}: {error.message}", hint=error.hint) from error
        self.label = f"llm:{name}"
        self.caller = Caller(
            name,
            model,
            services.models.retry,
            retries=setting(spec, "max_retries"),
            max_output_tokens=setting(spec, "max_output_tokens"),
            temperature=setting(spec, "temperature"),
            seed=setting(spec, "seed"),
            stop=tuple(setting(spec, "stop") or ()),
            token_budget=setting(spec, "token_budget"),
        )
        self.schema, self.repairs = schema, repairs
        self.system: str = spec.attributes.get("system_prompt", system)
        if schema is not None:
            wanted = f"Answer with JSON only, valid under this JSON Schema: {schema.text}"
            self.system = f"{self.system}\n\n{wanted}" if self.system else wanted

    def spending(self) -> Spending:
        """A fresh account for one firing."""
        return Spending(self.caller.token_budget)

    def messages(self, user: str) -> list[Message]:
        """The turns of a new conversation."""
        return [*([Message("system", self.system)] if self.system else []), Message("user", user)]

    async def answer(self, context: OpContext, messages: list[Message], spending: Spending) -> Any:
        """The answer to a conversation: text, or with a schema the value. `messages` grows by the repairs it took."""
        reply = await self.caller.call(context, messages, spending, self.schema)
        if self.schema is None:
            return reply.text
        value, violations = self.schema.read(reply.text)
        for _ in range(self.repairs):
            if not violations:
                break
            messages += [Message("assistant", reply.text), Message("user", _repair(violations))]
            reply = await self.caller.call(context, messages, spending, self.schema)
            value, violations = self.schema.read(reply.text)
        if violations:
            tries = f"after {self.repairs} repairs" if self.repairs else "and no repair is allowed"
            raise ModelError(
                f"the answer of model `{self.caller.name}` breaks output_schema {tries}: {'; '.join(violations)}",
                hint="raise max_schema_retries, or make the schema simpler",
            )
        return value


def _repair(violations: Sequence[str]) -> str:
    broken = "\n".join(f"- {violation}" for violation in violations)
    return f"That does not satisfy the JSON Schema:\n{broken}\nAnswer again with the corrected JSON only."


@dataclass(slots=True)
class Spending:
    """What the calls of one firing used so far, against the `token_budget` of its node."""

    limit: int | None
    used: float = 0

    def admit(self, tokens: int) -> None:
        if self.limit is not None and self.used + tokens > self.limit:
            raise BudgetError(
                f"token_budget of the node is exhausted: limit {self.limit}, spent {self.used:g}, asked for {tokens}",
                hint="raise token_budget, lower max_output_tokens, or shorten the prompt",
            )


@dataclass(frozen=True, slots=True)
class Caller:
    """One model with the settings of one node: reserves, calls, settles, tells, and tries again what may work."""

    name: str
    model: LanguageModel
    retry: RetryPolicy
    retries: int
    max_output_tokens: int
    temperature: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    token_budget: int | None = None

    async def call(
        self, context: OpContext, messages: Sequence[Message], spending: Spending, schema: OutputSchema | None = None
    ) -> Reply:
        """The reply of the model. Repeats transient failures while attempts, retry budget and time last.

        A failure that is given up is a ModelError: nobody above repeats a node whose calls went out.
        """
        prompt = self._prompt(context, messages, schema)
        failures = 0
        while True:
            try:
                reply = await self._attempt(context, prompt, spending)
            except TransientError as error:
                failures += 1
                delay_s = self.retry.delay_s(failures)
                given_up = self._given_up(context, failures, delay_s)
                if given_up is not None:
                    raise ModelError(f"model `{self.name}` failed {_times(failures)}, {given_up}: {error}") from error
                await asyncio.sleep(delay_s)
            else:
                if reply.finish in ("filter", "error"):
                    raise ModelError(f"model `{self.name}` gave no answer: it finished with `{reply.finish}`")
                return reply

    def _given_up(self, context: OpContext, failures: int, delay_s: float) -> str | None:
        """Why a failed call is not repeated, or None when it is; then a permit has been drawn."""
        if failures > self.retries:
            return "and max_retries allows no more"
        if asyncio.get_running_loop().time() + delay_s >= context.deadline:
            return "and the deadline leaves no time for another try"
        if not context.run.retry_permit():
            return "and the retry budget of the run is empty"
        return None

    def _prompt(self, context: OpContext, messages: Sequence[Message], schema: OutputSchema | None) -> Prompt:
        return Prompt(
            tuple(messages),
            model=self.name,
            temperature=self.temperature,
            max_output_tokens=self.max_output_tokens,
            seed=self.seed,
            stop=self.stop,
            output_schema=None if schema is None else schema.schema,
            metadata={"node": context.name, "op": context.op, "agent": context.agent, "run": context.run.run_id},
        )

    async def _attempt(self, context: OpContext, prompt: Prompt, spending: Spending) -> Reply:
        asked = prompt_tokens(self.model, prompt)
        spending.admit(asked + self.max_output_tokens)
        reservation = context.run.ledger.reserve(llm_calls=1, input_tokens=asked, output_tokens=self.max_output_tokens)
        # Until the call has ended it may have used all it was given: that is what a cancelled one is booked with.
        used: dict[str, float] = {"llm_calls": 1, "input_tokens": asked, "output_tokens": self.max_output_tokens}
        began = perf_counter()
        reply: Reply | None = None
        failure: BaseException | None = None
        try:
            reply = await self.model.complete(prompt)
            used |= _reported(reply, used)
            return reply
        except BaseException as error:
            failure = error
            if not isinstance(error, Exception):
                raise
            used["output_tokens"] = 0  # nothing came back that could be charged for
            if isinstance(error, ApxmError):
                raise
            raise ModelError(f"model `{self.name}` raised {type(error).__name__}: {error}") from error
        finally:
            reservation.settle(**used)
            spending.used += used["input_tokens"] + used["output_tokens"]
            run = context.run
            run.record_usage(self.name, context.agent, context.name, used)
            if run.heard:
                details: dict[str, Any] = {"temperature": prompt.temperature, "max_output_tokens": prompt.max_output_tokens}
                if reply is not None:
                    details |= {"model": reply.model, "finish": reply.finish}
                content = said_to_model(prompt, reply) if run.content else None
                report(context, "model", self.name, began, failure, usage=dict(used), details=details, content=content)


def _reported(reply: Reply, reserved: dict[str, float]) -> dict[str, float]:
    """What a reply says it used; what cannot be true counts as what was reserved."""
    usage = reply.usage
    said = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    booked: dict[str, float] = {name: n if isfinite(n) and n >= 0 else reserved[name] for name, n in said.items()}
    if isfinite(usage.cost_usd) and usage.cost_usd > 0:
        booked["cost_usd"] = usage.cost_usd
    return booked


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times in a row"
