"""Rows that decide what runs: BRANCH_ON_VALUE, SWITCH, GUARD, LOOP, LOOP_START, LOOP_END, MAP, JUMP, RETURN, YIELD."""

from __future__ import annotations

from apxm.graph.operation import Attribute, Effect, Latency, Operation

_ITERATIONS = "at most this many iterations; reaching it ends the loop with the result so far, it is no failure"
_WHILE = Attribute("while", "condition", "tested before an iteration on the carried value; false ends the loop")
_UNTIL = Attribute("until", "condition", "tested after an iteration on the body's result; true ends the loop")

ROWS = (
    Operation(
        "BRANCH_ON_VALUE",
        6,
        "control_flow",
        "Takes one of two ways. The tested input is the one with port `token`, else the first positional one. If `condition` "
        "is given it decides; otherwise the input must equal `value` (JSON equality: true is not 1). The edges labelled "
        "`true` or `false` become live, the others of the two dead; a live edge carries the input `pass` if there is one, "
        "else the tested input. Unlabelled edges are always live.",
        Effect.PURE,
        Latency.NONE,
        attributes=(
            Attribute("value", "json", "what the input is compared with", default=True),
            Attribute("condition", "condition", "decides instead of `value`"),
            Attribute("label_true", "node", "the node behind the `true` edge", aliases=("true_label",)),
            Attribute("label_false", "node", "the node behind the `false` edge", aliases=("false_label",)),
            Attribute("token", "node", "the predecessor whose value is tested"),
        ),
        inputs_min=1,
        labels=("true", "false"),
        ports=("token", "pass"),
    ),
    Operation(
        "SWITCH",
        7,
        "control_flow",
        "Takes the way of the first case that matches. The tested input (the discriminant) is the one with port "
        "`discriminant`, else the first positional one. Cases are `case_labels` in order; without that attribute, the names "
        "of the regions, then the labels of the out-edges, as they are written; `error` is no case. A value that is not text "
        "is compared as its JSON text (`true`, `3`). `exact` compares the whole text, `casefold` ignores case, `contains` "
        "looks for the label inside the text, `regex` searches it with the label as an RE2 pattern. If no case matches, "
        "`default` is chosen when there is a region or an edge of that name. A case is either a region, run as a child frame "
        "with the other inputs as its parameters (the reserved parameter `input` is the discriminant) and giving the node's "
        "value, or labelled edges, which carry `pass`, else the discriminant. The value on unlabelled edges is the region's "
        "result; for a case without a region it is `pass`, else the discriminant; when nothing is chosen it is null if the "
        "node has regions, else as for a case without one.",
        Effect.PURE,
        Latency.NONE,
        attributes=(
            Attribute("case_labels", "names", "the cases, in the order in which they are tried"),
            Attribute("cases", "node", "a list of {label, node_id}, or a map label -> node: cases and the edges they take"),
            Attribute(
                "match",
                "str",
                "how a label is compared with the input",
                default="exact",
                choices=("exact", "casefold", "contains", "regex"),
            ),
            Attribute("default", "node", "the node behind the `default` edge"),
            Attribute("discriminant", "node", "the predecessor whose value is tested", aliases=("token",)),
        ),
        inputs_min=1,
        regions=("*",),
        labels=("*",),
    ),
    Operation(
        "GUARD",
        8,
        "control_flow",
        "Lets its first input pass if `condition` holds for it. If not, `halt` fails the node with `error_message` (class "
        "fatal, code `raised`; an `error` edge or a TRY_CATCH may catch it), and `skip` makes its ordinary edges dead and its "
        "`error` edges live with the error map. Conditions: not_empty, is_empty, is_null, not_null, is_true, is_false; "
        "`== != < <= > >=` and a literal; `contains LITERAL`; `matches PATTERN` (RE2); each of the comparisons after `len` "
        "tests the length.",
        Effect.PURE,
        Latency.NONE,
        attributes=(
            Attribute("condition", "condition", "what must hold", required=True),
            Attribute("error_message", "text", "the message of the failure; by default it names condition and value"),
            Attribute("on_fail", "str", "fail, or make the branch dead", default="halt", choices=("halt", "skip")),
        ),
        inputs_min=1,
    ),
    Operation(
        "LOOP",
        9,
        "control_flow",
        "Runs its region `body` again and again, each iteration a child frame, one after the other. In-edges bind the "
        "body's parameters (by port, the others in order) and keep their value in every iteration, except for the names in "
        "`carry`: their value in the next iteration comes from the body's result. One carried name takes the whole result; "
        "several take the values under their names, so that the result must be a map with those keys (class invalid "
        "otherwise). A carried name without an in-edge starts as null. The reserved parameter `iteration` is 0, 1, 2 ... "
        "Before each iteration, `while` is tested on the current value of the first carried name; without carried names it "
        "is tested from the second iteration on, on the last result. After each iteration `until` is tested on the body's "
        "result. `while` false, `until` true, or `max_iterations` iterations end the loop. An input with port `count` (an "
        "int, not a body parameter) lowers max_iterations at run time; 0 or less runs no iteration. The node's value is the "
        "last body result; when no iteration ran, the first carried value, else null. A failure in the body is a failure of "
        "the node.",
        None,
        Latency.NONE,
        attributes=(
            Attribute("max_iterations", "int", _ITERATIONS, required=True, least=0),
            _WHILE,
            _UNTIL,
            Attribute("carry", "names", "body parameters whose next value comes from the body's result", default=()),
        ),
        regions=("body",),
    ),
    Operation(
        "LOOP_START",
        10,
        "control_flow",
        "Opens a loop written as two nodes of one graph; LOOP_END with the same `loop` closes it. The pair compiles to one "
        "LOOP whose body is everything that lies on a path between them. The value of LOOP_START is, in the first iteration, "
        "its input, and afterwards what LOOP_END received; edges into the body from outside are constants; an edge out of the "
        "body other than through LOOP_END is an error. `count_token` gives the number of iterations at run time.",
        Effect.PURE,
        Latency.NONE,
        attributes=(
            Attribute("loop", "name", "which LOOP_END belongs to it", default="loop", aliases=("label",)),
            Attribute("max_iterations", "int", _ITERATIONS, default=100, least=0),
            _WHILE,
            Attribute("count_token", "node", "the predecessor that gives the number of iterations"),
        ),
        inputs_max=2,
        ports=("count",),
    ),
    Operation(
        "LOOP_END",
        11,
        "control_flow",
        "Closes the loop that the LOOP_START of the same `loop` opens. Its first input is the result of the iteration and the "
        "carried value of the next one; its output is the last result.",
        Effect.PURE,
        Latency.NONE,
        attributes=(
            Attribute("loop", "name", "which LOOP_START belongs to it", default="loop", aliases=("label",)),
            _UNTIL,
            Attribute("count_token", "node", "the predecessor that gives the result of the iteration", aliases=("token",)),
        ),
        inputs_min=1,
        inputs_max=1,
    ),
    Operation(
        "MAP",
        12,
        "control_flow",
        "Runs its region `body` once per item of a list, at most `window` frames at a time, and gives the list of results in "
        "the order of the items. The list is the input with port `items`, else the first positional one; a value that is not "
        "a list fails with class invalid, and [] gives []. The other in-edges bind the parameters of both regions (by port, "
        "the others in order). Reserved parameters when declared: `item` and `index` in `body`, `items` (the list of results) "
        "in `reduce`. `on_item_error`: fail (the node fails, the other items are cancelled), skip (left out of the results), "
        "null (null in its place). With a region `reduce`, that region runs once at the end and gives the node's value.",
        None,
        Latency.NONE,
        attributes=(
            Attribute("window", "int", "items in flight at once; by default the run's max_parallelism", least=1),
            Attribute(
                "on_item_error", "str", "what the failure of an item does", default="fail", choices=("fail", "skip", "null")
            ),
        ),
        inputs_min=1,
        regions=("body", "reduce"),
    ),
    Operation(
        "JUMP",
        13,
        "control_flow",
        "Goes on at the node named `label` (or with that id), which must come later: a jump backwards is a LOOP. The edge to "
        "that node is live and carries the first input, else null; every other out-edge is dead, labelled or not (an Effect "
        "edge orders all the same). The edge is added where it is missing. What is passed over is skipped: where its ways and "
        "that of the jump meet, a MERGE takes the one that is live.",
        Effect.PURE,
        Latency.NONE,
        attributes=(Attribute("label", "name", "name of the node to go on at", required=True, aliases=("target",)),),
        labels=("*",),
    ),
    Operation(
        "RETURN",
        14,
        "control_flow",
        "Gives its input as the value of the enclosing flow, from any depth of regions, through every `finally`. Pure, read "
        "and paid nodes not yet done are cancelled; effects that are ready or running finish first. Two live ones in one "
        "activation fail with class invalid. It has one Data input and no out-edge.",
        Effect.PURE,
        Latency.NONE,
        inputs_min=1,
        inputs_max=1,
    ),
    Operation(
        "YIELD",
        15,
        "internal",
        "Gives its input as the value of the region it stands in; only regions may hold one. Two live ones in one region fail "
        "with class invalid. It has one Data input and no out-edge.",
        Effect.PURE,
        Latency.NONE,
        inputs_min=1,
        inputs_max=1,
    ),
)
