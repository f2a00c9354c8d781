"""A certificate is sound: whatever a run does, no bound is exceeded. Random programs and the conformance corpus, run for real.

A bound per item of a list is held against the longest list that the MAP met in that run.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

import pytest

from apxm import Artifact, RunOptions, compile
from apxm.artifact.lift import lift
from apxm.capability.isolation.sandbox import absence
from apxm.errors import ApxmError, GraphError
from apxm.graph.bounds import bounds
from apxm.graph.contract import from_json
from apxm.observability.events import Called, Event, FrameOpened, NodeStarted, Spliced
from apxm.testing.check import DEADLINE_S, Bench
from apxm.testing.programs import generate
from tests.conformance.test_cases import cases, needs_sandbox, opened, options_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from apxm.graph.amounts import Items
    from apxm.graph.bounds import Certificate, FlowKey
    from apxm.graph.model import Graph

PROGRAMS, PROGRAMS_LONG = 300, 20_000


Where: TypeAlias = tuple[str, tuple[tuple[int, str], ...]]  # a flow, and the nodes and regions that lead to a body


def lengths(events: list[Event], flows: Mapping[FlowKey, Graph], entry: FlowKey) -> dict[Where, int]:
    """(flow, place) of every MAP -> the most items it had."""
    found: dict[Where, int] = {}
    for event in events:
        if not isinstance(event, FrameOpened) or not isinstance(event.path[-1][1], int):
            continue
        flow, graph, around = ".".join(entry), flows[entry], ()
        for node, step in event.path[:-1]:
            regions = next(one for one in graph.nodes if one.id == node).regions
            if regions:
                region = "body" if isinstance(step, int) else step
                graph, around = regions[region], (*around, (node, region))
            else:
                flow, around = str(step), ()
                graph = flows[tuple(flow.split("."))]
        key = (flow, (*around, (event.path[-1][0], "body")))
        found[key] = max(found.get(key, 0), event.total or 0)
    return found


def of_run(met: Mapping[Where, int]) -> Callable[[Items], int]:
    """The most items that a MAP had in a run."""
    return lambda items: met.get((items.flow, items.place), 0)


def exceeded(certificate: Certificate, done: Mapping[str, int], met: Mapping[Where, int]) -> list[str]:
    """Everything that was done more often than the certificate says."""

    length = of_run(met)
    said = {**certificate.quantities(), **{f"capability {name}": bound for name, bound in certificate.capabilities.items()}}
    anything = said.get("capability anything")  # where a plan or another program decides what is called
    wrong = []
    for name, number in done.items():
        one = said.get(name, anything if name.startswith("capability ") else None)
        bound = 0 if one is None else one.at(length)
        if bound is not None and number > bound:
            wrong.append(f"{name}: {number}, the bound is {one} = {bound}")
    return wrong


def counted(events: list[Event], effects: Mapping[str, str]) -> Counter[str]:
    """What a run did, by quantity. Calls of pure functions are no events of their own."""
    done = Counter({"firings": 0, "frames": 0, "splices": 0})
    for event in events:
        done["firings"] += isinstance(event, NodeStarted)
        done["frames"] += isinstance(event, FrameOpened)
        done["splices"] += isinstance(event, Spliced)
        if isinstance(event, Called) and event.kind == "model":
            for quantity, amount in (event.usage or {}).items():
                done[quantity] += amount
        elif isinstance(event, Called) and event.kind == "message":
            done["guarded_effects"] += 1
        elif isinstance(event, Called) and effects.get(event.target) != "pure":
            done[f"capability {event.target}"] += 1
            done["tool_calls"] += 1
    return done


@pytest.mark.parametrize("level", [0, 1])
def test_no_random_program_does_more_than_its_certificate_says(level: int, seed: int, long_run: bool) -> None:
    tight = wide = 0
    with Bench() as bench:
        system = bench.runtime.capability_system()
        effects = {name: system.get(name).effect.value for name in system.list_capability_names()}
        for number in range(PROGRAMS_LONG if long_run else PROGRAMS):
            program = generate(seed + number)
            artifact = compile(from_json(program.graph), level=level)
            flows = lift(artifact)
            certificate = bounds(flows, artifact.entry, effects)
            bench.calls.clear()
            options = RunOptions(trust=("*",), trace=True, on_failure=program.on_failure, deadline_s=DEADLINE_S)
            try:
                result = bench.runtime.execute(artifact, program.parameters, run=options)
            except ApxmError as error:
                result = error.result
            if result is None:
                continue  # refused before anything ran
            done = counted(result.events(), effects)
            for name, _ in bench.calls:
                done[f"capability {name}"] += effects.get(name) == "pure"
                done["guarded_effects"] += effects.get(name) == "guarded"
            met = lengths(result.events(), flows, artifact.entry)
            assert exceeded(certificate, done, met) == [], f"--seed {seed}, program {seed + number}"
            tight += certificate.firings.at(of_run(met)) == done["firings"]
            wide += certificate.firings.limit is not None
    assert tight > number / 50, "the bounds of firings are hardly ever reached: they say little"
    assert wide > number / 10, "hardly any program has a bound that is a number"


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("name", cases())
def test_no_case_of_the_corpus_does_more_than_its_certificate_says(name: str, level: int, tmp_path: Path) -> None:
    case = cases()[name]
    try:
        artifact = Artifact.from_bytes(compile(from_json(case["program"]), level=level).to_bytes())
    except GraphError:
        return  # a case about what is refused
    if needs_sandbox(case) and (reason := absence()) is not None:
        pytest.skip(f"no sandbox on this machine: {reason}")
    flows = lift(artifact)
    with opened(case, tmp_path) as (runtime, world):
        system = runtime.capability_system()
        effects = {name: system.get(name).effect.value for name in system.list_capability_names()}
        certificate = bounds(flows, artifact.entry, effects)
        try:
            result = runtime.execute(artifact, case.get("parameters"), run=options_of(case, trace=True))
        except ApxmError as error:
            result = error.result
    if result is None:
        return  # refused before anything ran
    done = counted(result.events(), effects)
    done["guarded_effects"] += sum(effects[name] == "guarded" for name, _ in world.calls)
    assert exceeded(certificate, done, lengths(result.events(), flows, artifact.entry)) == []
