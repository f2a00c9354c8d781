"""Rows that fail, catch and run code: TRY_CATCH, ERR, EXC."""

from __future__ import annotations

from apxm.graph.operation import Attribute, Effect, Latency, Operation

_CLASSES = ("invalid", "denied", "budget", "deadline", "transient", "fatal", "unknown")

ROWS = (
    Operation(
        "TRY_CATCH",
        16,
        "error_handling",
        "Runs its region `try` and gives its value. A failure inside cancels the rest of that frame and then runs `catch`, "
        "whose value is then the node's; its reserved parameter `error` is {code, class, message, node, op, attempts}. "
        "`finally` always runs last, also on cancellation, and its value is dropped. In-edges bind the "
        "parameters of all three (by port, the "
        "others in order). Without a `catch` the failure goes on outwards after `finally`. Instead of regions, out-edges "
        "labelled `try`, `catch`, `finally` may be used: the nodes reachable only through such an edge are "
        "compiled to that region.",
        None,
        Latency.NONE,
        attributes=(
            Attribute("try_label", "node", "the first node of the tried part", aliases=("try_subgraph",)),
            Attribute("catch_label", "node", "the first node of the part that runs on failure", aliases=("catch_subgraph",)),
            Attribute("finally_label", "node", "the first node of the part that always runs", aliases=("finally_subgraph",)),
        ),
        regions=("try", "catch", "finally"),
        labels=("try", "catch", "finally"),
        needs=(("<try>",),),
    ),
    Operation(
        "ERR",
        17,
        "error_handling",
        "Fails on purpose with `class`, `code` and `message`. With an input and without `message` it is the handler form "
        "instead: its input is an error, and the output is the text of `recovery_template` (by default `Error: ` and the "
        "message of the error).",
        Effect.PURE,
        Latency.NONE,
        attributes=(
            Attribute("message", "text", "what went wrong"),
            Attribute("code", "str", "the program's own code for it, in the error map", default="raised"),
            Attribute("class", "str", "the failure class", default="fatal", choices=_CLASSES),
            Attribute("recovery_template", "text", "the text of the handler form", aliases=("error_handler",)),
        ),
        needs=(("message", "input"),),
    ),
    Operation(
        "EXC",
        18,
        "tools",
        "Runs Python `code` in the sandbox, without network and within limits, with the named inputs as variables and the "
        "positional ones as the list `inputs`; gives what the code assigns to `result`, which must be a JSON value. With "
        "`message` only, it fails with that message instead. Where nothing can be isolated it is refused.",
        Effect.GUARDED,
        Latency.LOW,
        attributes=(
            Attribute("code", "str", "Python source; taken as it is, nothing in it is a placeholder"),
            Attribute("message", "text", "without code: fail with this message; with it: how its failure begins"),
            Attribute(
                "sandbox_config",
                "map",
                "limits of the code: memory_mb (by default 512), cpu_s (10), processes (64), output_bytes (1048576)",
            ),
        ),
        needs=(("code", "message"),),
    ),
)
