"""Rows that make, show and join values: CONST_STR, PRINT, MERGE, WAIT_ALL, FENCE."""

from __future__ import annotations

from apxm.graph.operation import Attribute, Effect, Latency, Operation, Rule

_TOKENS = Attribute("tokens", "node", "predecessors to join, as a list; each becomes a Data in-edge where there is none")

ROWS = (
    Operation(
        "CONST_STR",
        1,
        "internal",
        "A constant: its output is `value`, which may be any JSON value. Nothing in it is a placeholder. It takes no Data "
        "input; a Control in-edge says when it may come.",
        Effect.PURE,
        Latency.NONE,
        attributes=(Attribute("value", "json", "the constant", required=True),),
        inputs_max=0,
    ),
    Operation(
        "PRINT",
        2,
        "tools",
        "Shows a text to whoever watches the run: emits an event `print`, which the command line prints. The text is the "
        "template `message` with its inputs filled in; without placeholders the inputs are appended to it, separated by a "
        "space (strings as they are, everything else as JSON). The output is the first input, else the text.",
        Effect.IDEMPOTENT,
        Latency.NONE,
        attributes=(Attribute("message", "text", "the text to show", default=""),),
    ),
    Operation(
        "MERGE",
        3,
        "synchronization",
        "Joins branches. `array` gives the list of its live inputs in port order, `concat` their texts joined without a "
        "separator (strings as they are, everything else as JSON), `sum` the sum of numbers; these three wait for every "
        "input and leave the dead ones out (COLLECT). `any` gives the first live input (ANY) and is the default when its "
        "inputs come from the sides of one routing operation; otherwise the default is `array`. `race` also cancels what "
        "only the losing inputs wait for (RACE). `first_success` is `any` in which a branch that fails counts as dead "
        "instead of failing the run. One Data input at least.",
        Effect.PURE,
        Latency.NONE,
        Rule.COLLECT,
        attributes=(
            Attribute(
                "mode",
                "str",
                "how to join; `any` if the inputs are the sides of one routing operation, else `array`",
                choices=("array", "concat", "sum", "any", "race", "first_success"),
                aliases=("strategy",),
            ),
            _TOKENS,
        ),
        inputs_min=1,
    ),
    Operation(
        "WAIT_ALL",
        4,
        "synchronization",
        "Waits until every Data input has arrived and gives the list of the live ones in port order. It is skipped when "
        "all of them are dead; without any Data in-edge it gives [].",
        Effect.PURE,
        Latency.NONE,
        Rule.COLLECT,
        attributes=(_TOKENS,),
    ),
    Operation(
        "FENCE",
        5,
        "synchronization",
        "A memory barrier: the writes to memory of this run that come before it in the graph are durable and visible before "
        "anything after it starts. The output is its first input, else null.",
        Effect.IDEMPOTENT,
        Latency.NONE,
        attributes=(Attribute("ordering", "str", "accepted from older graphs; a fence always orders everything"),),
    ),
)
