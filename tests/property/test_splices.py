"""P13: whatever a model plans, splicing ends within its bounds, and nothing in a plan may more than the flow around it.

Each sequence is one run whose model answers from `hostile_planner`; a failure says which one, and the same seed makes it again.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from apxm.budget import Limits
from apxm.compiler.compile import compile
from apxm.config import RunOptions, RuntimeConfig, SchedulerConfig
from apxm.engine.tiers import LEASE_MAX
from apxm.errors import ApxmError
from apxm.llm.scripted import ScriptedModel
from apxm.runtime import Runtime
from apxm.testing.sketch import sketch
from tests.property.hostile_planner import HostilePlanner

if TYPE_CHECKING:
    from apxm.llm.base import Prompt

SEQUENCES, SEQUENCES_LONG = 150, 10_000
WATCHDOG_S = 60.0  # none of the runs has a limit of time: this one only tells that a run does not end
FIRINGS = 500
BOUNDS = (
    SchedulerConfig(max_splices=6, max_splice_depth=3, max_splice_nodes=40, max_spliced_firings=FIRINGS),
    SchedulerConfig(max_splices=15, max_splice_nodes=9, max_spliced_firings=FIRINGS),
)
# How a run with a hostile planner may end. What is not here (`internal`, `handler`, `stuck`, `deadline`) is a mistake of ours.
ENDS = {"done", "plan", "limit", "model", "budget", "policy", "denied", "raised", "capability", "invalid", "bind", "parameter"}


def flow(name: str, *nodes: Any) -> dict[str, Any]:
    return sketch(dict(enumerate(nodes, 1)), name=name)


def program(op: str, tools: list[str] | None) -> dict[str, Any]:
    """A flow that plans, among others that a plan may want to call: one calls back, two call each other, one is mean."""
    asks = {"prompt": "Be good", "enable_inner_plan": True} | ({} if tools is None else {"tools": tools})
    nodes = {
        1: ("CONST_STR", {"value": False}),
        2: ("BRANCH_ON_VALUE", {}),
        3: ("INV", {"capability": "look", "arg_text": "never"}),
        4: ("INV", {"capability": "post", "arg_text": "never"}),
        5: ("CONST_STR", {"value": "tea"}),
        9: (op, asks),
    }
    flows = [
        sketch(nodes, "1->2 2@true=>3 2@true=>4 5->9:topic 1->9", exits=["n9"]),
        flow("helper", ("INV", {"capability": "look", "arg_text": "for a flow"})),
        flow("mean", ("INV", {"capability": "wipe", "arg_text": "for a flow"})),
        flow("ping", ("FLOW_CALL", {"flow_name": "pong"})),
        flow("pong", ("TRY_CATCH", {}, {"try": flow("try", ("FLOW_CALL", {"flow_name": "main"}))})),
    ]
    return {"agents": [{"name": "default", "flows": flows}]}


PROGRAMS = [compile(program(op, tools)).into_dag("main") for op in ("PLAN", "REASON") for tools in (None, ["look"])]


class World:
    """One runtime for each set of bounds, its capabilities, and what was called in the sequence that runs."""

    def __init__(self, bounds: SchedulerConfig) -> None:
        self.bounds = bounds
        self.calls: list[str] = []
        self.planner: HostilePlanner | None = None
        model = ScriptedModel([(lambda prompt: True, lambda prompt: self.planner(prompt))])  # type: ignore[misc]
        self.runtime = Runtime(RuntimeConfig(scheduler_config=bounds), model=model)
        for name, effect in (("look", "read"), ("post", "guarded"), ("wipe", "guarded")):
            self._register(name, effect)

    def _register(self, name: str, effect: str) -> None:
        def called(text: str) -> str:
            self.calls.append(name)
            return f"{name} {text}"

        self.runtime.capability(name, effect=effect, run="inline")(called)


@pytest.fixture(scope="module")
def worlds():
    made = [World(bounds) for bounds in BOUNDS]
    yield made
    for world in made:
        world.runtime.close()


@dataclass
class Ended:
    """What came of one sequence."""

    how: str
    result: Any
    calls: list[str]
    granted: set[str]
    trusted: bool
    asked: int
    error: ApxmError | None


def play(worlds: list[World], name: str) -> tuple[Ended, World]:
    """One run with one hostile planner; everything about it follows from its name."""
    rng = random.Random(name)
    world, dag = rng.choice(worlds), rng.choice(PROGRAMS)
    granted = {each for each in ("look", "post") if rng.random() < 0.6}
    if "look" not in granted and dag in PROGRAMS[1::2]:
        granted.add("look")  # what `tools` names has to be granted
    trusted = rng.random() < 0.5
    limits = Limits(
        splices=rng.choice((None, None, None, 0, 3)),
        nodes=rng.choice((None, None, None, 30)),
        llm_calls=rng.choice((None, None, None, 9)),
    )
    options = RunOptions(
        deadline_s=WATCHDOG_S,
        budget=limits,
        grants=sorted(granted),
        trust=("llm:*",) if trusted else (),
        on_failure=rng.choice(("fail_fast", "fail_fast", "continue")),
        trace=rng.random() < 0.2,
    )
    world.calls, world.planner = [], HostilePlanner(name, world.bounds.max_splice_nodes)
    error, how = None, "done"
    try:
        result = world.runtime.execute(dag, run=options)
    except ApxmError as raised:
        error, result, how = raised, raised.result, raised.code
    return Ended(how, result, world.calls, granted, trusted, world.planner.asked, error), world


def judge(ended: Ended, world: World) -> None:
    """What holds of every sequence."""
    bounds, result, splices = world.bounds, ended.result, ended.result.splices
    assert ended.how in ENDS, f"{ended.error!r} at {ended.error.node if ended.error else None}"
    assert all(error.code in ENDS for error in result.errors), result.errors
    # It ends within its bounds.
    assert len(splices) <= bounds.max_splices
    assert all(1 <= plan.depth <= bounds.max_splice_depth for plan in splices)
    assert all(plan.nodes <= bounds.max_splice_nodes for plan in splices)
    assert all(
        sum(step.startswith("plan:") for _, step in plan.path if isinstance(step, str)) == plan.depth - 1 for plan in splices
    )
    assert result.stats.executed <= FIRINGS + 2 * LEASE_MAX
    # Nothing may more than what is around it.
    assert set(ended.calls) <= ended.granted, ended.calls
    assert ended.trusted or "post" not in ended.calls, "a guarded call with what a model made up"
    assert all(set(plan.capabilities) <= ended.granted for plan in splices)
    around = {(*plan.path, (plan.node, plan.step)): set(plan.capabilities) for plan in splices}
    for plan in splices:
        for path, capabilities in around.items():
            assert plan.path[: len(path)] != path or set(plan.capabilities) <= capabilities or _in_flow(plan.path[len(path) :])
    # Nothing is left over.
    ledger = result._run.ledger
    assert not any(ledger.reserved().values()), ledger.reserved()
    assert ledger.spent()["splices"] == len(splices)
    assert ledger.spent()["llm_calls"] == ended.asked
    assert not world.runtime._live
    assert world.runtime.memory.open_runs == 0


def _in_flow(path: tuple[tuple[int, str | int], ...]) -> bool:
    """Whether a flow was called on the way: it names capabilities of its own, which its grants keep within the plan's."""
    return any(isinstance(step, str) and step.startswith("default.") for _, step in path)


def test_splicing_ends_and_never_gains_privilege(worlds, seed, long_run):
    count = SEQUENCES_LONG if long_run else SEQUENCES
    ends: Counter[str] = Counter()
    splices = depth = calls = asked = 0
    for number in range(count):
        name = f"{seed}-{number}"
        ended, world = play(worlds, name)
        try:
            judge(ended, world)
        except AssertionError as error:
            error.add_note(f"the hostile planner of sequence {number} did it; see it again with --seed {seed}")
            raise
        ends[ended.how] += 1
        splices += len(ended.result.splices)
        depth = max([depth, *(plan.depth for plan in ended.result.splices)])
        calls, asked = calls + len(ended.calls), asked + ended.asked
    print({"sequences": count, "ends": dict(ends), "splices": splices, "depth": depth, "calls": calls, "asked": asked})
    # The planners are not all refused at the door: some get in, deep, and call what they may.
    assert splices > count // 3
    assert depth >= 3
    assert calls > 0
    assert {"done", "plan", *(("limit", "budget", "policy", "raised", "model") if long_run else ())} <= set(ends)


def test_splices_that_are_made_at_once_stay_within_the_bound():
    async def inner(prompt: Prompt) -> dict[str, Any]:
        await asyncio.sleep(0)  # all of them are asked before the first one splices
        return {"plan": [{"description": "x"}], "result": 1, "inner_plan": sketch({1: ("CONST_STR", {"value": 1})})}

    graph = sketch({n: ("PLAN", {"goal": "x", "enable_inner_plan": True, "fallback": "no"}) for n in range(20)})
    bounds = SchedulerConfig(max_splices=5)
    with Runtime(RuntimeConfig(scheduler_config=bounds), model=ScriptedModel([(".", inner)])) as runtime:
        result = runtime.execute(compile(graph))
    assert len(result.splices) == 5
    assert sorted(map(str, result.outputs.values())) == ["1"] * 5 + ["no"] * 15
    assert {error.code for error in result.errors} == {"limit"}
    assert result._run.ledger.spent()["splices"] == 5
    assert not any(result._run.ledger.reserved().values())


def test_the_same_planner_does_the_same_again(worlds, seed):
    for number in range(10):
        once, again = (play(worlds, f"{seed}-again-{number}")[0] for _ in range(2))
        if "max_spliced_firings" in str(once.error):
            continue  # it is looked at in each lease, and how long those are is a matter of time
        assert (once.how, once.calls, once.asked) == (again.how, again.calls, again.asked)
        assert [(p.path, p.digest) for p in once.result.splices] == [(p.path, p.digest) for p in again.result.splices]
        assert str(once.error) == str(again.error)
