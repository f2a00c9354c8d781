"""The generator, the shrinker, and what surrounds them."""

from __future__ import annotations

import asyncio
import inspect
import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from apxm.config import SchedulerConfig
from apxm.graph.validate import validate_json
from apxm.testing.capabilities import CAPABILITIES, functions, number_of, recorded
from apxm.testing.check import command, main
from apxm.testing.oracle import run_oracle
from apxm.testing.programs import Program, generate, graphs_of, nodes_of, programs
from apxm.testing.seeded import SeededLoop
from apxm.testing.shrink import shrink, valid
from apxm.testing.sketch import sketch

SEEDS = range(400)


def test_every_program_keeps_every_rule_of_the_contract() -> None:
    for seed in SEEDS:
        assert validate_json(generate(seed).graph) == [], f"seed {seed}"


def test_every_program_is_json() -> None:
    for seed in SEEDS:
        graph = generate(seed).graph
        assert json.loads(json.dumps(graph)) == graph


def test_the_oracle_knows_what_every_program_means() -> None:
    ends = set()
    for seed in SEEDS:
        program = generate(seed)
        found = run_oracle(program.graph, program.parameters, capabilities=functions(), on_failure=program.on_failure)
        ends.add(found.error.failure if found.error else "done")
        assert found.fired
    assert {"done", "fatal"} < ends


def test_the_size_is_about_what_was_asked_for() -> None:
    for seed in range(50):
        main_flow = next(graphs_of(generate(seed, size=20).graph))
        assert 20 <= len(main_flow["nodes"]) < 40


def test_regions_nest_three_deep_and_no_deeper() -> None:
    def depth(graph: dict[str, object]) -> int:
        inner = [depth(region) for node in graph["nodes"] for region in node.get("regions", {}).values()]  # type: ignore[attr-defined]
        return 1 + max(inner, default=0)

    depths = {depth(generate(seed).graph) for seed in SEEDS if "agents" not in generate(seed).graph}
    assert depths == {1, 2, 3, 4}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(programs(size_max=8))
def test_the_strategy_gives_valid_programs(program: Program) -> None:
    assert valid(program)


def test_shrinking_keeps_what_makes_it_fail_and_drops_the_rest() -> None:
    program = next(p for p in map(generate, range(1000)) if p.size > 60 and any(n["op"] == "UMEM" for n in nodes_of(p.graph)))

    def writes(one: Program) -> bool:
        return any(node["op"] == "UMEM" for node in nodes_of(one.graph))

    small = shrink(program, writes)
    assert valid(small)
    assert writes(small)
    assert small.size <= 6


def test_shrinking_stops_when_its_tries_are_used_up() -> None:
    program = next(p for p in map(generate, range(1000)) if p.size > 60)
    assert shrink(program, lambda one: True, tries=0) == program


def test_a_shrunk_program_is_a_new_one() -> None:
    program = generate(7, size=10)
    before = json.dumps(program.graph)
    shrink(program, lambda one: True, tries=200)
    assert json.dumps(program.graph) == before


def test_sketch_writes_the_contract() -> None:
    graph = sketch({1: "PRINT", 2: ("WAIT_ALL", {})}, "p->1 1@error=>2 1->2:a 1~>2", parameters=["p:int"], exits=["n2"])
    assert graph["edges"] == [
        {"from": "p", "to": 1, "dependency": "Data"},
        {"from": 1, "to": 2, "dependency": "Control", "label": "error"},
        {"from": 1, "to": 2, "dependency": "Data", "port": "a"},
        {"from": 1, "to": 2, "dependency": "Effect"},
    ]
    assert graph["parameters"] == [{"name": "p", "type_name": "int"}]
    assert graph["metadata"] == {"exits": ["n2"]}


def test_a_sketch_of_no_edge_says_how_to_write_one() -> None:
    with pytest.raises(AssertionError, match="write for example"):
        sketch({1: "PRINT"}, "1-2")


def test_the_set_has_every_effect_class_and_suspends_and_fails() -> None:
    assert {one.effect for one in CAPABILITIES.values()} == {"pure", "read", "idempotent", "guarded"}
    assert any(one.fails and inspect.iscoroutinefunction(one.fn) for one in CAPABILITIES.values())


def test_a_number_depends_on_every_part_of_a_value_but_the_wording_of_errors() -> None:
    assert number_of([1, [2]]) != number_of([1, [3]])
    error = {"code": "c", "class": "fatal", "message": "one", "attempts": 1}
    assert number_of(error) == number_of({**error, "message": "another"})
    assert number_of(error) != number_of({**error, "code": "d"})


def test_a_recorded_capability_keeps_its_signature_and_writes_its_arguments() -> None:
    calls: list[tuple[str, str]] = []
    mix = recorded("mix", CAPABILITIES["mix"].fn, calls)
    later = recorded("later", CAPABILITIES["later"].fn, calls)
    assert list(inspect.signature(mix).parameters) == ["a", "b"]
    assert inspect.iscoroutinefunction(later)
    assert mix(1, b=2) == CAPABILITIES["mix"].fn(1, 2)
    assert asyncio.run(later(3)) == 10
    assert calls == [("mix", '{"a": 1, "b": 2}'), ("later", '{"x": 3}')]


def test_a_seeded_loop_runs_callbacks_in_an_order_of_its_seed() -> None:
    def order(seed: int) -> list[int]:
        loop = SeededLoop(seed)
        found: list[int] = []
        try:
            for number in range(6):
                loop.call_soon(found.append, number)
            loop.call_later(0.001, loop.stop)
            loop.run_forever()
        finally:
            loop.close()
        return found

    orders = [order(seed) for seed in range(8)]
    assert all(sorted(one) == list(range(6)) for one in orders)
    assert len({tuple(one) for one in orders}) > 4
    assert order(3) == orders[3]


def test_the_command_line_checks_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["0", "--count", "3"]) == 0
    assert "3 of 3 pass" in capsys.readouterr().out


def test_the_command_that_replays_a_seed_names_its_configuration() -> None:
    program = replace(generate(5), seed=5)
    config = SchedulerConfig(max_parallelism=2, enable_work_stealing=False)
    assert command(program, config) == "python -m apxm.testing.check 5 --parallelism 2 --no-stealing"
