"""A model that means harm: its plans ask for more, never end, fit nothing, are no plans. The same seed, the same harm."""

from __future__ import annotations

import copy
import json
import random
from typing import TYPE_CHECKING, Any, TypeAlias

from apxm.graph.ops import OPERATIONS
from apxm.testing.sketch import sketch

if TYPE_CHECKING:
    from collections.abc import Callable

    from apxm.llm.base import Prompt

CAPABILITIES = ("look", "look", "post", "wipe", "wype")  # `wipe` is never granted, the last one is not even there
FLOWS = ("main", "helper", "mean", "ping", "pong", "none")
JUNK = (None, True, -1, 0, 2**70, 1e300, "", " ", "{0}", "{{node_1}}", "\u0000", [], {}, [[]], {"a": []}, "x" * 5_000)


class HostilePlanner:
    """Answers every prompt of one run; what it answers hangs only on the seed and on how often it was asked."""

    def __init__(self, seed: str, most_nodes: int) -> None:
        self.rng, self.most = random.Random(seed), most_nodes
        self.mood = self.rng.choice((KINDS, (*self.rng.sample(KINDS, 2), *CLEVER), CLEVER))  # one that errs gets not far
        self.asked = 0

    def __call__(self, prompt: Prompt) -> Any:
        self.asked += 1
        if prompt.metadata["op"] not in ("PLAN", "REASON"):
            return self.rng.choice(("fine", "", "{0}", json.dumps({"inner_plan": self.plan()})))
        if self.rng.random() < 0.03:
            return self.rng.choice(("no", "{", "[1", '{"plan": ', json.dumps(self.rng.choice(JUNK))))
        whole: dict[str, Any] = {"result": "r", "inner_plan": self.plan()}
        if prompt.metadata["op"] == "PLAN":
            whole["plan"] = [{"description": f"d{n}", "dependencies": self._some(range(n + 1))} for n in range(3)]
        else:
            whole["belief_updates"], whole["new_goals"] = {"a": self.rng.choice(JUNK)}, [{"description": "more power"}]
        if self.rng.random() < 0.03:
            del whole[self.rng.choice(list(whole))]
        return whole

    def plan(self) -> Any:
        """One inner plan, of any kind, now and then spoiled at some place, in any form."""
        made = self.rng.choice(self.mood)(self)
        if self.rng.random() < 0.08:
            made = self.spoiled(made)
        form = self.rng.random()
        if form < 0.1:
            return json.dumps(made)
        return {"graph": made} if form < 0.2 else made

    def _some(self, several: Any) -> list[Any]:
        return [one for one in several if self.rng.random() < 0.3 and one != max(several)]

    def spoiled(self, made: Any) -> Any:
        """The same with junk at one place."""
        made = copy.deepcopy(made)
        here = made
        while isinstance(here, (dict, list)) and here:
            key = self.rng.choice(list(here) if isinstance(here, dict) else range(len(here)))
            if self.rng.random() < 0.4 or not isinstance(here[key], (dict, list)):
                here[key] = copy.deepcopy(self.rng.choice(JUNK))
                break
            here = here[key]
        return made

    # ---- kinds ---------------------------------------------------------------------------------------------------------
    def harmless(self) -> Any:
        nodes: dict[int, Any] = {1: ("CONST_STR", {"value": self.rng.choice((1, "a", [1, 2, 3]))})}
        edges = []
        for n in range(2, self.rng.randint(2, 6)):
            nodes[n] = self.rng.choice(("MERGE", "WAIT_ALL", ("ASK", {"prompt": "say"}), ("PRINT", {"message": "{0}"})))
            edges.append(f"{self.rng.randrange(1, n)}->{n}")
        return sketch(nodes, " ".join(edges), name="harmless")

    def calling(self) -> Any:
        name = self.rng.choice(CAPABILITIES)
        how = self.rng.choice(("INV", "INV", "ASK", "PLAN"))
        if how == "INV":
            return sketch({1: ("INV", {"capability": name, "arg_text": "boo"})})
        return sketch({1: (how, {"prompt": "x", "tools": self.rng.sample(CAPABILITIES, 2), **self._planning(how)})})

    def _planning(self, op: str) -> dict[str, Any]:
        return {"enable_inner_plan": True} if op in ("PLAN", "REASON") else {}

    def endless(self) -> Any:
        nodes = {n: (self.rng.choice(("PLAN", "REASON")), {"prompt": "go on", "enable_inner_plan": True}) for n in range(3)}
        wanted = self.rng.randint(1, 3)
        tools = self.rng.sample(CAPABILITIES, self.rng.randint(0, 2))
        for _, attributes in nodes.values():
            attributes.update({"tools": tools} if self.rng.random() < 0.3 else {})
        return sketch(dict(list(nodes.items())[:wanted]), self.rng.choice(("", "0->1")) if wanted > 1 else "")

    def endless_items(self) -> Any:
        again = sketch({2: ("PLAN", {"prompt": "go on {item}", "enable_inner_plan": True})}, "item->2:item", parameters=["item"])
        body = {"window": self.rng.randint(1, 3)}
        return sketch({1: ("CONST_STR", {"value": [1, 2, 3]}), 3: ("MAP", body, {"body": again})}, "1->3")

    def backwards(self) -> Any:
        size = self.rng.randint(1, 5)
        edges = " ".join(f"{n}->{(n + 1) % size}" for n in range(size))
        return sketch(dict.fromkeys(range(size), "MERGE"), edges)

    def any_operation(self) -> Any:
        op = self.rng.choice([*OPERATIONS, "SING", "ask", ""])
        attributes = {
            name: self.rng.choice(JUNK) for name in ("code", "message", "queue", "checkpoint") if self.rng.random() < 0.3
        }
        return sketch({1: (op, attributes), 2: ("CONST_STR", {"value": 1})}, self.rng.choice(("", "2->1")))

    def huge(self) -> Any:
        count = self.most + self.rng.randint(-2, 20)
        return sketch({n: ("CONST_STR", {"value": n}) for n in range(count)})

    def deep(self) -> Any:
        made = sketch(
            {1: self.rng.choice((("CONST_STR", {"value": 1}), ("EXC", {"code": "1"}), ("INV", {"capability": "wipe"})))}
        )
        for n in range(self.rng.choice((1, 5, 31, 32, 45))):
            if self.rng.random() < 0.5:
                made = sketch({n + 2: ("LOOP", {"max_iterations": self.rng.choice((1, 1, 2))}, {"body": made})})
            else:
                made = sketch({n + 2: ("TRY_CATCH", {}, {"try": made})})
        return made

    def long_loop(self) -> Any:
        body = sketch({2: ("CONST_STR", {"value": 1})})
        inner = sketch({3: ("LOOP", {"max_iterations": self.rng.choice((1, 3, 10**6))}, {"body": body})})
        return sketch({4: ("LOOP", {"max_iterations": self.rng.choice((1, 2, 10**9, 2**62))}, {"body": inner})})

    def lists_within_lists(self) -> Any:
        made = sketch({1: ("PRINT", {"message": "{item}"})}, "item->1:item", parameters=["item"])
        for _ in range(self.rng.randint(1, 5)):
            items = {1: ("CONST_STR", {"value": list(range(self.rng.choice((2, 60))))}), 2: ("MAP", {}, {"body": made})}
            made = sketch({**items, 3: "MERGE"}, "1->2 2->3 item->3", parameters=["item"])
        made["parameters"], made["edges"] = [], [edge for edge in made["edges"] if edge["from"] != "item"]
        return made

    def two_of_one(self) -> Any:
        made = sketch({1: ("CONST_STR", {"value": 1}), 2: ("CONST_STR", {"value": 2})})
        made["nodes"][1][self.rng.choice(("id", "name"))] = made["nodes"][0][self.rng.choice(("id", "name"))]
        return made

    def flow_call(self) -> Any:
        agent = {"agent_name": self.rng.choice(("default", "other", "nobody"))} if self.rng.random() < 0.5 else {}
        return sketch({1: ("FLOW_CALL", {"flow_name": self.rng.choice(FLOWS), **agent})})

    def text(self) -> Any:
        whole = json.dumps(self.harmless())
        return self.rng.choice(("do as you like", whole[: len(whole) // 2], f"```\n{whole}\n```", "[" * 5_000, whole + "}"))

    def parameters(self) -> Any:
        names = self.rng.sample(("topic", "a", "b", "c"), self.rng.randint(1, 4))
        kinds = ("str", "int", "float", "bool", "json", "secret")
        edges = " ".join(f"{name}->1" for name in names)
        return sketch({1: "WAIT_ALL"}, edges, parameters=[f"{name}:{self.rng.choice(kinds)}" for name in names])

    def in_steps(self) -> Any:
        steps = []
        for n in range(self.rng.randint(0, 4)):
            step: dict[str, Any] = {"name": f"s{n}", "op": self.rng.choice(("ASK", "PLAN", "INV", "MERGE", "EXC"))}
            step["after"] = self.rng.choice(([], "topic", [f"s{self.rng.randrange(4)}"], ["s0", "topic"], 7))
            step.update(
                self.rng.choice(({}, {"prompt": "x"}, {"attributes": {"capability": self.rng.choice(CAPABILITIES)}}, {"x": 1}))
            )
            steps.append(step)
        return {"steps": steps}

    def failing(self) -> Any:
        kind = self.rng.choice(("transient", "fatal", "denied", "budget", "unknown"))
        error = ("ERR", {"message": "no", "class": kind, **({"fallback": 1} if self.rng.random() < 0.3 else {})})
        caught = ("TRY_CATCH", {}, {"try": sketch({3: error}), "finally": self.calling()})
        return sketch({1: self.rng.choice((error, caught))})

    def routed(self) -> Any:
        nodes = {
            1: ("CONST_STR", {"value": self.rng.random() < 0.5}),
            2: ("BRANCH_ON_VALUE", {}),
            3: ("INV", {"capability": self.rng.choice(CAPABILITIES), "arg_text": "routed"}),
            4: ("PLAN", {"prompt": "or so", "enable_inner_plan": True}),
            5: "MERGE",
        }
        return sketch(nodes, "1->2 2@true=>3 2@false=>4 3->5 4->5")


Kind: TypeAlias = "Callable[[HostilePlanner], Any]"
CLEVER: tuple[Kind, ...] = (
    HostilePlanner.calling,
    HostilePlanner.endless,
    HostilePlanner.endless_items,
    HostilePlanner.flow_call,
    HostilePlanner.routed,
    HostilePlanner.lists_within_lists,
)
KINDS: tuple[Kind, ...] = (
    *CLEVER,
    HostilePlanner.harmless,
    HostilePlanner.backwards,
    HostilePlanner.any_operation,
    HostilePlanner.huge,
    HostilePlanner.deep,
    HostilePlanner.long_loop,
    HostilePlanner.two_of_one,
    HostilePlanner.text,
    HostilePlanner.parameters,
    HostilePlanner.in_steps,
    HostilePlanner.failing,
)
