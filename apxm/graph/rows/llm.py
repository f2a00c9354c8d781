"""Rows that ask a model: ASK, THINK, REASON, PLAN, REFLECT, VERIFY."""

from __future__ import annotations

from apxm.graph.operation import Attribute, Effect, Latency, Operation

_MODEL = (
    Attribute("system_prompt", "str", "goes before the prompt; over the configured and the built-in one"),
    Attribute("model", "name", "which model; by default the registry's default"),
    Attribute("provider", "name", "which provider, when several offer the model", aliases=("backend",)),
    Attribute("temperature", "float", "how much the answer may vary; by default the model's", least=0),
    Attribute("max_output_tokens", "int", "limit of one answer", default=1024, aliases=("max_tokens",), least=1),
    Attribute("seed", "int", "makes a model that supports it repeatable"),
    Attribute("stop", "names", "texts that end the answer"),
    Attribute("max_retries", "int", "provider calls repeated on transient errors, at most", default=3, least=0),
    Attribute("token_budget", "int", "tokens that this node may use, over all its calls", least=1),
    Attribute("context", "str", "offer the agent's beliefs and goals", default="none", choices=("none", "aam")),
)
_REPAIRS = Attribute("max_schema_retries", "int", "repair calls at most when the answer breaks the schema", default=1, least=0)
_SCHEMA = (
    Attribute("output_schema", "map", "JSON Schema of the answer: the output is then the parsed value"),
    _REPAIRS,
)
_PROMPT = Attribute(
    "template_str",
    "text",
    "the prompt; without placeholders the inputs follow it as `Context 1: ...`, an empty one is its first input",
    default="",
    aliases=("prompt", "template"),
)
_REMEMBERED = Attribute("context_key", "str", "key in memory whose value is added to the prompt")
_INNER = (
    Attribute("inner_plan_supported", "bool", "what enable_inner_plan is when it is not given", default=False),
    Attribute("enable_inner_plan", "bool", "the model may give an inner plan, which is run; by default as inner_plan_supported"),
    Attribute("bind_inner_plan_outputs", "bool", "the outputs of the inner plan are this node's", default=True),
    Attribute("tools", "names", "capabilities that an inner plan may call, all granted; by default those that its flow names"),
)

ROWS = (
    Operation(
        "ASK",
        24,
        "reasoning",
        "Asks a model and gives its answer: text, or the parsed value if `output_schema` is given. With `tools` (only those "
        "listed, each of them granted) the model may call capabilities; what they give, or how they fail, goes back to it, for "
        "at most `max_iterations` rounds.",
        Effect.PAID,
        Latency.MEDIUM,
        attributes=(
            _PROMPT,
            *_MODEL,
            *_SCHEMA,
            Attribute("tools", "names", "capabilities that the model may call", default=()),
            Attribute("tools_enabled", "bool", "false takes the tools away", default=True),
            Attribute("max_iterations", "int", "rounds of tool calls at most", default=10, least=1),
        ),
        needs=(("template_str", "input"),),
    ),
    Operation(
        "THINK",
        25,
        "reasoning",
        "Asks a model to think before it answers. `budget` bounds the thinking of a call: the model is told, it is reserved "
        "on top of `max_output_tokens`, and an answer that took more is refused. Gives the answer without the thinking.",
        Effect.PAID,
        Latency.HIGH,
        attributes=(
            _PROMPT,
            *_MODEL,
            *_SCHEMA,
            Attribute("budget", "int", "tokens of thinking", aliases=("budget_tokens", "thinking_budget"), least=0),
        ),
        needs=(("template_str", "input"),),
    ),
    Operation(
        "REASON",
        26,
        "reasoning",
        "Asks a model for {belief_updates, new_goals, inner_plan, result}; applies the first two to the agent and gives "
        "`result`, which `output_schema` describes. With an inner plan enabled the model may also give a graph, which is "
        "checked, compiled and spliced, and whose outputs are this node's.",
        Effect.PAID,
        Latency.HIGH,
        attributes=(
            _PROMPT,
            Attribute("durable", "bool", "store the belief updates in LTM as well, under their keys", default=False),
            _REMEMBERED,
            *_MODEL,
            *_SCHEMA,
            *_INNER,
        ),
        needs=(("template_str", "input"),),
    ),
    Operation(
        "PLAN",
        27,
        "reasoning",
        "Asks a model to split `goal` (else the first input) into steps: gives {plan: [{description, priority, dependencies}], "
        "result}; dependencies are positions of steps, from 0. With an inner plan enabled the model may also give a graph, "
        "which is checked, compiled and spliced, and whose outputs are this node's.",
        Effect.PAID,
        Latency.HIGH,
        attributes=(
            Attribute("goal", "text", "what is to be reached", aliases=("template_str", "prompt", "template")),
            Attribute("constraints", "json", "what the plan must respect: a text or a list of texts"),
            _REMEMBERED,
            *_MODEL,
            _REPAIRS,
            *_INNER,
        ),
        needs=(("goal", "input"),),
    ),
    Operation(
        "REFLECT",
        28,
        "reasoning",
        "Asks a model to look back: shows it the inputs that no text uses, the newest episodes of this run, and with what is "
        "left of `history_limit` earlier ones of the agent. Gives {insights, patterns, recommendations, summary}, which it also "
        "writes as an episode.",
        Effect.PAID,
        Latency.MEDIUM,
        attributes=(
            Attribute(
                "template_str", "text", "what to look for", default="", aliases=("prompt", "template", "reflection_prompt")
            ),
            Attribute(
                "trace_id",
                "text",
                "only episodes of this run, kind, type, operation or node; by default all of this run, and earlier ones",
                aliases=("trace", "trace_query"),
            ),
            Attribute("history_limit", "int", "episodes read at most", default=20, least=1),
            *_MODEL,
            _REPAIRS,
        ),
    ),
    Operation(
        "VERIFY",
        29,
        "reasoning",
        "Asks a model whether `claim` (else the first input) follows from `evidence` (else the second input), or whether the "
        "first input meets `condition`. Gives {verdict, confidence, reasoning} with verdict confirmed, refuted "
        "or insufficient; "
        "with `as_bool`, true for confirmed and false otherwise.",
        Effect.PAID,
        Latency.MEDIUM,
        attributes=(
            Attribute("claim", "text", "what is claimed"),
            Attribute("evidence", "text", "what is known"),
            Attribute("condition", "text", "what the first input is tested for, in words"),
            Attribute("template_str", "text", "the prompt, instead of the built-in one", aliases=("prompt", "template")),
            Attribute("as_bool", "bool", "give true or false", default=False),
            *_MODEL,
            _REPAIRS,
        ),
        needs=(("claim", "condition", "template_str", "input"),),
    ),
)
