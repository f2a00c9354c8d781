"""Rows for the world and memory: INV, QMEM, UMEM."""

from __future__ import annotations

from apxm.graph.operation import Attribute, Effect, Latency, Operation

TIER_ALIASES = ("space", "tier", "tier_hint")

ROWS = (
    Operation(
        "INV",
        19,
        "tools",
        "Calls a capability. The arguments are `params_json` (nested values kept), over it `arg_*`, over them the inputs with "
        "a named port; `args`, and after them the positional inputs that no placeholder uses, fill the parameters that are "
        "still free, in the order of the capability's signature. Placeholders are filled as values, not as text: `{0}` alone "
        "is the input itself. The arguments are checked against the closed schema of the capability: malformed ones are "
        "refused, never guessed. What comes from a model or the web does not reach an argument of a guarded capability, unless "
        "the run, its record or a person says so.",
        None,
        Latency.MEDIUM,
        attributes=(
            Attribute("capability", "name", "which capability", required=True),
            Attribute("params_json", "filled", "arguments, as a map or its JSON text", aliases=("parameters", "params")),
            Attribute("arg_*", "filled", "one argument by name: `arg_path` is the argument `path`"),
            Attribute("args", "filled", "leading arguments without a name, as a list"),
            Attribute("timeout_ms", "int", "limit of one call; by default the capability's own", least=1),
            Attribute(
                "retries",
                "int",
                "how often a call that may be repeated is tried again: by default twice; a guarded one only with its key, and "
                "only if this says so",
                least=0,
            ),
        ),
    ),
    Operation(
        "QMEM",
        20,
        "memory",
        "Reads memory. `key` gives the stored value, or null. `query` gives a list of {key, value, score}, best first, of at "
        "most `limit` entries with at least `min_score`. With neither, the first input is the query. STM has what this run "
        "stored, and its session if it has one; the narrowest scope goes first. LTM has what the agent stored for good, in "
        "whatever run, and its facts. Tier `episodic` has what the agent put on record (`key` gives the newest of that type) and "
        "its calls as maps. Tier `all` looks into STM, then LTM, then episodic memory, and copies what it found in LTM into STM.",
        Effect.READ,
        Latency.LOW,
        attributes=(
            Attribute("key", "text", "read exactly this key"),
            Attribute("query", "text", "search for this"),
            Attribute(
                "memory_tier",
                "str",
                "where to look",
                default="stm",
                choices=("stm", "ltm", "episodic", "all"),
                aliases=TIER_ALIASES,
            ),
            Attribute("limit", "int", "entries at most", default=10, aliases=("k",), least=1),
            Attribute("min_score", "float", "leave out entries below", default=0.0, aliases=("similarity_threshold",)),
            Attribute(
                "where",
                "map",
                'fields that the value of an entry must have (in LTM also its metadata): equal, or as in `{"$gt": 3}`',
            ),
            Attribute("staging_id", "str", "also keep the result as the belief `_stage:<id>`", aliases=("sid", "stage", "scope")),
        ),
        needs=(("key", "query", "input"),),
    ),
    Operation(
        "UMEM",
        21,
        "memory",
        "Writes `key` in memory and gives the stored value. The value is the first input that no placeholder uses, else the "
        "attribute `value`. In LTM it is kept for good, for the agent of that name, and cannot be lost any more once this is "
        "done. In the episodic tier it appends a record of that type instead of replacing.",
        Effect.IDEMPOTENT,
        Latency.LOW,
        attributes=(
            Attribute("key", "text", "under which key", required=True),
            Attribute("value", "filled", "what to store when there is no input"),
            Attribute(
                "memory_tier", "str", "where to store", default="stm", choices=("stm", "ltm", "episodic"), aliases=TIER_ALIASES
            ),
            Attribute(
                "scope",
                "str",
                "who shares it in STM: the flow, the agent, all agents of the run, or all runs of the session",
                default="agent",
                choices=("flow", "agent", "run", "session"),
            ),
            Attribute("ttl_ms", "int", "forget it after this time", least=1),
            Attribute("durable", "bool", "write through to LTM as well", default=False),
            Attribute("belief_key", "str", "also set this belief of the agent"),
        ),
        needs=(("value", "input"),),
    ),
)
