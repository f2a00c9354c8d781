"""Rows of the agent machine and of what agents do with each other: UPDATE_GOAL, AGENT, COMMUNICATE, FLOW_CALL, "
"CLAIM, PAUSE, RESUME."""

from __future__ import annotations

from apxm.graph.operation import Attribute, Effect, Latency, Operation

_SERVER = Attribute("server_url", "str", "use this server instead of the embedded store")

ROWS = (
    Operation(
        "UPDATE_GOAL",
        22,
        "memory",
        "Changes the goals of the agent by id: set (add or replace), complete, remove, or clear all. The description is "
        "`description`, else the first input that `goal_id` does not use, if it is text, else the id. Gives `set`, "
        "`completed`, `removed`, `not_found` or `cleared`.",
        Effect.IDEMPOTENT,
        Latency.NONE,
        attributes=(
            Attribute("goal_id", "text", "which goal; not needed to clear"),
            Attribute(
                "action",
                "str",
                "what to do",
                default="set",
                choices=("set", "complete", "remove", "clear"),
            ),
            Attribute("description", "text", "what the goal says"),
            Attribute("priority", "int", "larger is more important", default=1, least=0),
        ),
    ),
    Operation(
        "AGENT",
        23,
        "metadata",
        "Declares what the agent of this flow has: memories, beliefs, goals, capabilities. It takes effect before anything "
        "else of its flow, at most once in a run, and gives null. Beliefs, goals and memories that are there already stay as "
        "they are. With `capabilities` the agent may use no others, in none of its flows; they are not granted by this. "
        "The metadata of an agent means the same.",
        Effect.IDEMPOTENT,
        Latency.NONE,
        attributes=(
            Attribute(
                "memory",
                "json",
                "memories: a list of {name, tier, value}, or a map name -> tier. A QMEM or UMEM of exactly this key that names "
                "no tier uses this one; `value` (tier stm) is there at the start",
                aliases=("memories",),
            ),
            Attribute("beliefs", "map", "beliefs at the start"),
            Attribute("goals", "list", "goals at the start: texts, or {id, description, priority, parent}"),
            Attribute("capabilities", "names", "the only capabilities that the agent may use"),
            Attribute("context", "str", "what the agent is, for its system prompts"),
        ),
        inputs_max=0,
    ),
    Operation(
        "COMMUNICATE",
        30,
        "communication",
        "Sends a message to another agent and gives the reply. `local` runs the recipient's flow `communicate`, else `main`, "
        "as a child frame; `broadcast` those of all other agents, and gives {agent: reply}, with {error} in place of the reply "
        "of one that failed; `http` posts it as JSON to a registered peer, or to a URL that was granted, and gives the JSON "
        "value of the answer. The flow gets the message by its parameters: `message`, `sender` and `channel`, or the only one. "
        "The message is `message`, else the first input that no text uses. With `reply` false it gives {id, to, accepted} at "
        "once (to broadcast a list of them, over http when the peer has it): the recipients run besides, the flow of the sender "
        "is not over before they are, and fails when one of them does. At most 16 messages cause each other in a row.",
        Effect.GUARDED,
        Latency.MEDIUM,
        attributes=(
            Attribute("recipient", "text", "agent, peer or URL; none to broadcast", aliases=("target", "target_agent")),
            Attribute(
                "protocol",
                "str",
                "how it is sent; `https` is `http` to nobody without TLS",
                default="local",
                choices=("local", "broadcast", "http", "https"),
            ),
            Attribute("message", "filled", "what is sent"),
            Attribute("channel", "text", "a name that the recipient can tell messages apart by"),
            Attribute("reply", "bool", "wait for the reply", default=True),
            Attribute("timeout_ms", "int", "how long to wait for the reply; by default 30 s over http", least=1),
        ),
        needs=(("message", "input"),),
    ),
    Operation(
        "FLOW_CALL",
        31,
        "control_flow",
        "Runs a flow as a child frame and gives its value. Arguments are bound by name: `args`, over it the inputs with a "
        "named port; positional inputs fill the parameters that are still free, in order. `agent_name` is by "
        "default the agent of this flow.",
        None,
        Latency.HIGH,
        attributes=(
            Attribute("agent_name", "name", "whose flow; by default the own agent's", aliases=("agent",)),
            Attribute("flow_name", "name", "which flow", required=True, aliases=("flow",)),
            Attribute("args", "filled", "arguments: a map by name, or a list in order", aliases=("arguments",)),
        ),
    ),
    Operation(
        "CLAIM",
        32,
        "communication",
        "Takes a task from a queue under a lease and gives {task_id, task_data, claim_token}. The task is acknowledged when "
        "everything downstream in its frame ended live or skipped, and goes back on failure and cancellation; the attempt "
        "counts, and after too many the task is a dead letter. The lease is renewed while the run works on it. Whoever lost it "
        "nevertheless fails with the code `lease_lost`. Fails (class transient) when no task came within `max_wait_ms`.",
        Effect.IDEMPOTENT,
        Latency.LOW,
        attributes=(
            Attribute("queue", "name", "which queue", required=True),
            Attribute("lease_ms", "int", "how long the task stays ours without renewal", default=60_000, least=1),
            Attribute("max_wait_ms", "int", "how long to wait for a task", default=5_000, least=0),
            _SERVER,
        ),
    ),
    Operation(
        "PAUSE",
        33,
        "communication",
        "Asks a person and waits; only this branch waits. Stores a checkpoint with `message` and the first "
        "input, and gives the answer; one that is stored already under the same id at once. "
        "When `timeout_ms` has passed it gives `default`, or fails with class deadline if there is none. 0 waits without end: "
        "a run without a deadline does that only when it is told to wait; else it takes `default`, or is refused without one.",
        Effect.IDEMPOTENT,
        Latency.HIGH,
        attributes=(
            Attribute("message", "text", "what is asked", required=True),
            Attribute("checkpoint_id", "text", "id of the checkpoint; by default derived from run, frame path and node"),
            Attribute("timeout_ms", "int", "how long to wait for an answer; 0: without end", default=0, least=0),
            Attribute("default", "json", "the answer when nobody answered in time"),
            Attribute("answer_schema", "map", "JSON Schema of the answer"),
            Attribute("poll_interval_ms", "int", "how often a server is asked", default=2_000, least=1),
            Attribute("notification_url", "str", "where to post, once, that somebody is needed"),
            _SERVER,
        ),
    ),
    Operation(
        "RESUME",
        34,
        "control_flow",
        "Waits for the answer to a checkpoint and gives it; one that nobody asked under, or that is closed without an answer, "
        "is `Stuck`. Fails with class deadline when no answer came in time.",
        Effect.READ,
        Latency.HIGH,
        attributes=(
            Attribute("checkpoint", "text", "id of the checkpoint", required=True, aliases=("checkpoint_id",)),
            Attribute("timeout_ms", "int", "how long to wait; by default `poll_max_attempts` times `poll_interval_ms`", least=1),
            Attribute("poll_max_attempts", "int", "how often a server is asked at most", default=60, least=1),
            Attribute("poll_interval_ms", "int", "how often a server is asked", default=5_000, least=1),
            _SERVER,
        ),
    ),
)
