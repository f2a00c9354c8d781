"""Runs a flow whose model plans: a PLAN node `n9`, what its model answers, and the capabilities that plans might want."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from apxm.compiler.compile import compile
from apxm.config import RunOptions, RuntimeConfig, SchedulerConfig
from apxm.errors import ApxmError
from apxm.llm.scripted import Rule, ScriptedModel
from apxm.runtime import Runtime
from apxm.testing.sketch import sketch

STEPS = [{"description": "first"}, {"description": "second", "priority": 2, "dependencies": [0]}]
VALUE = {
    "plan": [
        {"description": "first", "priority": 0, "dependencies": []},
        {"description": "second", "priority": 2, "dependencies": [0]},
    ],
    "result": "so it goes",
}


def answer(inner: Any = None, **more: Any) -> dict[str, Any]:
    """What a PLAN is answered, with an inner plan."""
    return {"plan": STEPS, "result": "so it goes", **({} if inner is None else {"inner_plan": inner}), **more}


def planning(attributes: dict[str, Any] | None = None, inputs: str = "", op: str = "PLAN", **more: Any) -> dict[str, Any]:
    """A flow with one node that plans; it names `look` and `post` without ever calling them."""
    asked = {"goal": "do it"} if op == "PLAN" else {"template_str": "do it"}
    nodes = {
        1: ("CONST_STR", {"value": False}),
        2: ("BRANCH_ON_VALUE", {}),
        3: ("INV", {"capability": "look", "arg_text": "x"}),
        4: ("INV", {"capability": "post", "arg_text": "x"}),
        9: (op, {**asked, "enable_inner_plan": True, **(attributes or {})}),
    }
    return sketch({**nodes, **more.pop("nodes", {})}, f"1->2 2@true=>3 2@true=>4 {inputs}", exits=["n9"], **more)


@dataclass
class Ran:
    """What came of one run."""

    value: Any
    error: ApxmError | None
    model: ScriptedModel
    result: Any
    calls: list[tuple[str, str]]
    machine: Any
    ledger: Any

    @property
    def asked(self) -> list[str]:
        """Which nodes asked the model, in order."""
        return [call.prompt.metadata["node"] for call in self.model.calls]


@dataclass
class World:
    """The capabilities of one run."""

    calls: list[tuple[str, str]] = field(default_factory=list)

    def look(self, text: str) -> str:
        self.calls.append(("look", text))
        return f"saw {text}"

    def post(self, text: str) -> str:
        self.calls.append(("post", text))
        return f"posted {text}"

    def wipe(self, text: str) -> str:
        self.calls.append(("wipe", text))
        return "wiped"

    def join(self, runtime: Runtime) -> None:
        for name, effect in (("look", "read"), ("post", "guarded"), ("wipe", "guarded")):
            runtime.capability(name, effect=effect, run="inline")(getattr(self, name))


def run(
    answers: Any,
    graph: dict[str, Any] | None = None,
    *,
    rules: tuple[Rule, ...] = (),
    grants: tuple[str, ...] = ("look", "post"),
    parameters: dict[str, Any] | None = None,
    scheduler: SchedulerConfig | None = None,
    prepare: Any = None,
    **options: Any,
) -> Ran:
    """Run a flow; `answers` are what the model gives to `n9`, one after the other, or one for always."""
    model = ScriptedModel([*rules, Rule(answers, node="n9")], default="an answer")
    world = World()
    with Runtime(RuntimeConfig(scheduler_config=scheduler or SchedulerConfig()), model=model) as runtime:
        world.join(runtime)
        if prepare is not None:
            prepare(runtime)
        error = result = None
        try:
            dag = compile(graph or planning()).into_dag()
            result = runtime.execute(dag, parameters, run=RunOptions(grants=grants, trace=True, **options))
        except ApxmError as raised:
            error, result = raised, raised.result
        state = result._run if result is not None else None
    return Ran(
        None if error is not None else result.value,
        error,
        model,
        result,
        world.calls,
        None if state is None else state.machine("default"),
        None if state is None else state.ledger,
    )
