"""P1: every enabled node fires once per activation, and a run gives what a sequential oracle gives, on the real engine.

Every day the same programs (APXM_SEED says which is the first); with --long more of them, and others each time. A failure
prints the command that replays its program alone.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from apxm.budget import Limits
from apxm.config import SchedulerConfig
from apxm.engine.fire import Firer
from apxm.errors import BudgetError, FailureClass
from apxm.observability.events import NodeEnded
from apxm.testing.capabilities import CAPABILITIES, Faults, flaky
from apxm.testing.check import Bench, command, explain, main, on_loop
from apxm.testing.firing import MODEL
from apxm.testing.programs import features, generate, nodes_of
from tests.property.kept import KEPT, kept

if TYPE_CHECKING:
    from apxm.observability.events import Event

TOOLS = {name for name, one in {**CAPABILITIES, **flaky(Faults())}.items() if one.effect != "pure"}
FIRST = int(os.environ.get("APXM_SEED", "0"))
PROGRAMS, PROGRAMS_LONG = 160, 1_000  # for each configuration

# max_parallelism, enable_work_stealing
CONFIGS = ((64, True), (1, True), (2, True), (3, False))


@pytest.mark.parametrize(("parallelism", "stealing"), CONFIGS)
def test_random_programs_do_what_the_oracle_says(parallelism: int, stealing: bool, long_run: bool, seed: int) -> None:
    config = SchedulerConfig(max_parallelism=parallelism, enable_work_stealing=stealing)
    share = PROGRAMS_LONG if long_run else PROGRAMS
    first = (seed if long_run else FIRST) + CONFIGS.index((parallelism, stealing)) * share
    failed = []
    with Bench(config) as bench:
        for number in range(first, first + share):
            if bench.why(generate(number)) is not None:
                failed.append(number)
                if len(failed) == 3:
                    break
    assert not failed, "\n\n".join(explain(generate(number), config, tries=300) for number in failed)


def test_random_programs_do_what_the_oracle_says_with_capabilities_on_threads(long_run: bool, seed: int) -> None:
    """In real time: a pause between two calls of a model would be one."""
    first, count = (seed, 1_000) if long_run else (FIRST, 60)
    config = SchedulerConfig(max_parallelism=4)
    with on_loop(config, threads=True) as bench:
        for program in map(generate, range(first, first + count)):
            texts = [str(node["attributes"].get("template_str", "")) for node in nodes_of(program.graph)]
            if not any("fails" in text for text in texts):
                why = bench.why(program)
                assert why is None, f"{why}\nreplay with `{command(program, config, threads=True)}`"


@pytest.mark.parametrize("name", KEPT)
def test_programs_that_once_showed_something_do_what_the_oracle_says(name: str) -> None:
    with Bench() as bench:
        assert bench.why(kept(name)) is None


def test_a_seed_gives_the_same_program_every_time() -> None:
    for seed in range(FIRST, FIRST + 50):
        assert generate(seed) == generate(seed)


# What the programs must hold, or the test above proves less than it says.
WANTED = [
    "ASK",
    "BRANCH_ON_VALUE",
    "CONST_STR",
    "ERR",
    "FENCE",
    "FLOW_CALL",
    "GUARD",
    "INV",
    "JUMP",
    "LOOP",
    "LOOP_END",
    "LOOP_START",
    "MAP",
    "MERGE",
    "PRINT",
    "QMEM",
    "RETURN",
    "SWITCH",
    "TRY_CATCH",
    "UMEM",
    "WAIT_ALL",
    "YIELD",
]
WANTED += [f"MERGE {mode}" for mode in ("any", "array", "concat", "first_success", "race", "sum")]
WANTED += [
    f"edge {what}"
    for what in (
        "Data",
        "Control",
        "Effect",
        "labelled",
        "labelled error",
        "labelled try",
        "labelled catch",
        "labelled finally",
        "from a parameter",
        "with a port",
    )
]
WANTED += ["region SWITCH.case", "region LOOP.body", "region MAP.body", "region MAP.reduce", "region TRY_CATCH.try"]
WANTED += ["region TRY_CATCH.catch", "region TRY_CATCH.finally", "attribute fallback", "attribute carry", "declared exits"]
WANTED += ["attribute retries", "attribute max_retries", "calls what fails at first", "names nodes in attributes"]


def test_every_feature_is_in_many_of_the_programs() -> None:
    found: Counter[str] = Counter()
    for seed in range(400):
        found.update(name for name, count in features(generate(seed)).items() if count)
    assert {name: found[name] for name in WANTED if found[name] < 20} == {}


def spent(bench: Bench, events: list[Event]) -> dict[str, int]:
    """What a run spent: nodes but those of `finally`, which a run that ends still owes; and calls of tools and of the model."""
    nodes = {
        (event.path, event.node)
        for event in events
        if isinstance(event, NodeEnded)
        and event.outcome in ("done", "failed")
        and all(step != "finally" for _, step in event.path)
    }
    called = Counter(name for name, _ in bench.calls)
    tools = sum(count for name, count in called.items() if name in TOOLS)
    return {"nodes": len(nodes), "tool_calls": tools, "llm_calls": called[MODEL]}


@pytest.mark.parametrize("quantity", ["nodes", "tool_calls", "llm_calls"])
def test_no_budget_is_ever_exceeded_and_what_is_enough_changes_nothing(quantity: str, long_run: bool, seed: int) -> None:
    """Which of the nodes in flight meets the end of a budget is a matter of order; that one does, and how many, is not."""
    ends: Counter[str] = Counter()
    first = seed if long_run else FIRST
    with Bench() as bench:
        for number in range(first, first + (1_000 if long_run else 40)):
            test = "test_no_budget_is_ever_exceeded_and_what_is_enough_changes_nothing"
            where = f"tests/property/test_oracle_programs.py::{test}[{quantity}]"
            again = f"replay with `APXM_SEED={number} python -m pytest -x '{where}'`"
            program = generate(number)
            free, _ = bench.run(program)
            whole = spent(bench, free.events())[quantity]
            if quantity == "nodes":  # a node costs as much every time it is tried, and so does that of a `finally`
                whole = free.stats.executed + free.stats.failed + free.stats.retried
            for limit in sorted({0, random.Random(number).randrange(whole + 1), whole}):
                result, error = bench.run(program, budget=Limits(**{quantity: limit}))
                assert spent(bench, result.events())[quantity] <= limit, f"budget {limit} of {whole}; {again}"
                if isinstance(error, BudgetError):
                    assert (error.code, error.failure) == ("budget", FailureClass.BUDGET), again
                    assert limit < whole or not bench.expected(program, None).determined, f"{limit} is enough; {again}"
                    ends["exhausted"] += 1
                elif limit == whole:
                    ends["enough"] += 1
    assert min(ends["exhausted"], ends["enough"]) > 5


def test_the_command_that_a_failure_prints_runs_that_program_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a bug planted in the engine: nothing is ever tried again."""
    config = SchedulerConfig(max_parallelism=2)
    with monkeypatch.context() as planted:
        planted.setattr(Firer, "retry_permit", lambda run: False)
        with Bench(config) as bench:
            small = (seed for seed in range(1_000) if generate(seed).size < 12)  # quickly made smaller still
            number = next(seed for seed in small if bench.why(generate(seed)) is not None)
        said = explain(generate(number), config, tries=60)
        commands = re.findall(r"`python -m apxm.testing.check (.*)`", said)
        assert len(commands) == 1
        assert main(commands[0].split()) == 1
        assert f"seed {number}: OracleMismatch" in capsys.readouterr().out
    assert main(commands[0].split()) == 0
    assert "1 of 1 pass" in capsys.readouterr().out
