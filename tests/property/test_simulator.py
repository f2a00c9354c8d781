"""P2 and P3: no token is lost or doubled in any order of queue steps; what cannot go on is reported, never silent.

APXM_SEED chooses the first seed. A failure names its seeds.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from apxm.compiler.compile import compile
from apxm.config import RunOptions, SchedulerConfig
from apxm.engine.fire import Crew
from apxm.errors import ApxmError, InternalError, RunCancelled, StuckError
from apxm.graph.contract import from_json
from apxm.testing.check import Bench
from apxm.testing.clock import VirtualClock
from apxm.testing.compare import compare
from apxm.testing.oracle import OracleMismatch
from apxm.testing.programs import Program, generate
from apxm.testing.seeded import seeded_loops
from apxm.testing.simulator import Simulation, Simulator
from apxm.testing.sketch import sketch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apxm.scheduler.dataflow import Frame
    from apxm.scheduler.work_stealing import Worker

FIRST = int(os.environ.get("APXM_SEED", "0"))
SIZE_MAX = 60  # nodes of a program; larger ones add time and no new kind of step


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench() as made:
        yield made


def simulator(bench: Bench, program: Program) -> Simulator:
    dag = compile(from_json(program.graph), level=0).into_dag()
    return Simulator(bench.runtime, dag, program.parameters, RunOptions(on_failure=program.on_failure))


def some_programs(first: int, count: int) -> Iterator[Program]:
    found = 0
    seed = FIRST + first
    while found < count:
        program = generate(seed)
        seed += 1
        if program.size <= SIZE_MAX:
            found += 1
            yield program


def agree(bench: Bench, program: Program, seed: int, **how: Any) -> None:
    """Simulate one schedule of one program, and hold it against the oracle."""
    bench.calls.clear()
    done = simulator(bench, program).run(seed, **how)
    done.seen.calls = list(bench.calls)
    compare(bench.expected(program, done.seen.choices), done.seen)
    assert done.run.left_behind() == []


def test_every_schedule_of_random_programs_does_what_the_oracle_says(bench: Bench) -> None:
    for program in some_programs(0, 300):
        for seed, workers in enumerate((1, 3)):
            try:
                agree(bench, program, seed, workers=workers)
            except Exception as error:
                raise AssertionError(f"program {program.seed}, schedule {seed}, {workers} workers: {error}") from error


def test_schedules_of_the_faster_tiers_give_the_same_values(bench: Bench) -> None:
    compared = 0
    for program in some_programs(300, 200):
        expected = bench.expected(program, None)
        if expected.determined:
            done = simulator(bench, program).run(program.seed, watched=False)
            assert (done.run.error, done.seen.value) == (None, expected.value), f"program {program.seed}"
            assert done.run.left_behind() == []
            compared += 1
    assert compared > 50


def test_a_run_that_is_cancelled_at_any_step_ends_and_leaves_nothing_behind(bench: Bench) -> None:
    for program in some_programs(500, 150):
        one = simulator(bench, program)
        whole = one.run(program.seed)
        cleanups = {path for path in whole.seen.opened if path[-1][1] == "finally"}
        steps = whole.run.steps
        for step in range(0, steps + 1, max(1, steps // 5)):
            done = one.run(program.seed, cancel_at=step)
            assert done.run.left_behind() == [], f"program {program.seed}, cancelled at step {step}"
            began = {path for path in cleanups if (*path[:-1], (path[-1][0], "try")) in done.seen.opened}
            assert began <= done.seen.opened, f"program {program.seed}, cancelled at step {step}: a finally did not run"
            assert done.run.error is None or isinstance(done.run.error, ApxmError)
            if step == 0:
                assert isinstance(done.run.error, RunCancelled)


def const(value: Any) -> tuple[str, dict[str, Any]]:
    return ("CONST_STR", {"value": value})


def inv(name: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return ("INV", {"capability": name, **more})


ONE = {"arg_x": 1}
TWO = {"arg_a": 1, "arg_b": 1}
SMALL: dict[str, Any] = {
    "a diamond": sketch({1: const(1), 2: inv("later"), 3: inv("later"), 4: inv("mix")}, "1->2 1->3 2->4 3->4"),
    "two that feed an any": sketch({1: inv("note", **ONE), 2: inv("note", arg_x=2), 3: ("MERGE", {"mode": "any"})}, "1->3 2->3"),
    "two that feed a race": sketch({1: inv("note", **ONE), 2: inv("later", **ONE), 3: ("MERGE", {"mode": "race"})}, "1->3 2->3"),
    "a failure and its finally": sketch(
        {
            1: (
                "TRY_CATCH",
                {},
                {
                    "try": sketch({1: inv("note", **ONE), 2: inv("fail_later", **ONE)}),
                    "catch": sketch({1: const(3)}),
                    "finally": sketch({1: const(2)}),
                },
            )
        }
    ),
    "a map": sketch(
        {1: const([2, 4]), 2: ("MAP", {}, {"body": sketch({1: inv("later")}, "item->1", parameters=["item"])})}, "1->2"
    ),
    "a return and an effect": sketch({1: const(1), 2: "RETURN", 3: inv("act", **ONE), 4: inv("later", **ONE)}, "1->2"),
    "a failure beside an effect": sketch({1: inv("fail_later", **ONE), 2: inv("act", **ONE)}),
    "two that join": sketch({1: inv("look", **TWO), 2: inv("look", **TWO), 3: "WAIT_ALL", 4: "PRINT"}, "1->3 2->3 3->4"),
}


@pytest.mark.parametrize("name", SMALL)
def test_all_schedules_of_small_programs_do_what_the_oracle_says(bench: Bench, name: str) -> None:
    program = Program(0, SMALL[name], {}, "fail_fast")
    one = simulator(bench, program)
    for workers in (2, 3):
        number = 0
        for done in one.every_run(limit=2_500, workers=workers):
            number += 1
            compare(bench.expected(program, done.seen.choices), done.seen)
            assert done.run.left_behind() == []
        assert number > 5
        assert number < 2_500 or (name, workers) == ("a failure and its finally", 3), "the search did not come to its end"


def test_an_any_may_take_either_input_and_some_schedule_takes_each(bench: Bench) -> None:
    one = simulator(bench, Program(0, SMALL["two that feed an any"], {}, "fail_fast"))
    assert {done.seen.value for done in one.every_run(limit=2_500, workers=2)} == {6, 7}


def test_a_finally_runs_though_the_run_fails_just_before_it_opens(bench: Bench) -> None:
    tried = ("TRY_CATCH", {}, {"try": sketch({1: const(1)}), "finally": sketch({7: const(2)})})
    program = Program(0, sketch({1: inv("fail_later", **ONE), 2: tried}), {}, "fail_fast")
    for done in simulator(bench, program).every_run(limit=500, workers=2, gives_way=True):
        compare(bench.expected(program, done.seen.choices), done.seen)


def test_of_several_effects_that_fail_after_a_return_the_first_is_the_error(bench: Bench) -> None:
    graph = sketch({1: const(1), 2: "RETURN", 3: inv("act_or_fail", arg_x=9), 4: inv("act_or_fail", arg_x=12)}, "1->2")
    program = Program(0, graph, {}, "fail_fast")
    for done in simulator(bench, program).every_run(limit=2_500, workers=3):
        compare(bench.expected(program, done.seen.choices), done.seen)


# ---- planted bugs: each must be caught, or the tests above prove nothing ---------------------------------------------------
WIDE = sketch(
    {1: const(1), 2: inv("later"), 3: inv("later"), 4: inv("note"), 5: inv("mix"), 6: inv("mix"), 7: "WAIT_ALL"},
    "1->2 1->3 1->4 2->5 3->5 3->6 4->6 5->7 6->7",
)


class LosesToken(Simulation):
    """A token that is never counted."""

    def complete(self, worker: Worker, frame: Frame, slot: int, value: Any, label: str | None = None) -> None:
        if frame.plan.dag.names[slot] == "n3" and frame.left is not None:
            frame.left[frame.plan.successors[slot][0]] += 1
        super().complete(worker, frame, slot, value, label)


class DoublesToken(Simulation):
    """A token that is counted twice."""

    def complete(self, worker: Worker, frame: Frame, slot: int, value: Any, label: str | None = None) -> None:
        if frame.plan.dag.names[slot] == "n3" and frame.left is not None:
            frame.left[frame.plan.successors[slot][0]] -= 1
        super().complete(worker, frame, slot, value, label)


class LosesJob(Simulation):
    """A thief that drops the first thing it steals."""

    def _rob(self, thief: int, victim: int) -> None:
        self.workers[victim].pop()
        super()._rob(thief, victim)


class DoublesJob(Simulation):
    """A thief that leaves behind what it took."""

    def _rob(self, thief: int, victim: int) -> None:
        kept = [list(lane) for lane in self.workers[victim].lanes]
        self.workers[victim].steal_into(self.workers[thief])
        for lane, jobs in zip(self.workers[victim].lanes, kept):
            lane[:] = jobs


def outcomes(bench: Bench, kind: type[Simulation], *, checked: bool) -> set[str]:
    """How runs of WIDE end under a planted bug, over many schedules."""
    program = Program(0, WIDE, {}, "fail_fast")
    one = simulator(bench, program)
    found = set()
    for seed in range(40):
        bench.calls.clear()
        try:
            done = one.run(seed, kind=kind, checked=checked)
            done.seen.calls = list(bench.calls)
            if isinstance(done.seen.error, StuckError):
                found.add("stuck")
                continue
            compare(bench.expected(program, done.seen.choices), done.seen)
            found.add("passed")
        except InternalError:
            found.add("broken invariant")
        except (OracleMismatch, ApxmError, AssertionError, TypeError):
            found.add("caught")
    return found


def test_the_program_passes_when_nothing_is_planted(bench: Bench) -> None:
    assert outcomes(bench, Simulation, checked=True) == {"passed"}


@pytest.mark.parametrize("kind", [LosesToken, DoublesToken])
def test_a_lost_or_doubled_token_breaks_an_invariant_in_every_schedule(bench: Bench, kind: type[Simulation]) -> None:
    assert outcomes(bench, kind, checked=True) == {"broken invariant"}


@pytest.mark.parametrize("kind", [LosesJob, DoublesJob])
def test_a_lost_or_doubled_job_breaks_an_invariant_as_soon_as_something_is_stolen(bench: Bench, kind: type[Simulation]) -> None:
    found = outcomes(bench, kind, checked=True)
    assert "broken invariant" in found
    assert found <= {"broken invariant", "passed"}


def test_a_lost_token_is_never_silent_when_nobody_checks(bench: Bench) -> None:
    assert outcomes(bench, LosesToken, checked=False) == {"stuck"}


def test_a_lost_job_is_never_silent_when_nobody_checks(bench: Bench) -> None:
    found = outcomes(bench, LosesJob, checked=False)
    assert "stuck" in found
    assert found <= {"stuck", "passed"}


def test_a_doubled_token_is_noticed_by_the_oracle_where_it_makes_a_node_fire_too_early(bench: Bench) -> None:
    assert "caught" in outcomes(bench, DoublesToken, checked=False)


def test_stuck_names_the_edges_that_wait(bench: Bench) -> None:
    one = simulator(bench, Program(0, WIDE, {}, "fail_fast"))
    error = one.run(1, kind=LosesToken, checked=False).run.error
    assert isinstance(error, StuckError)
    assert ("(nothing)", "n5") in error.edges or ("(nothing)", "n6") in error.edges
    assert ("n5", "n7") in error.edges or ("n6", "n7") in error.edges


def test_a_wait_whose_end_nobody_reports_is_stuck(bench: Bench) -> None:
    class NeverWakes(Simulation):
        def wake(self, activation: Any) -> None:
            """The wake-up is lost."""

    graph = sketch({1: ("ERR", {"message": "again", "class": "transient", "retries": 2}), 2: "PRINT"}, "1->2")
    one = simulator(bench, Program(0, graph, {}, "fail_fast"))
    error = one.run(1).run.error
    assert error is not None
    assert (error.code, error.attempt) == ("raised", 3)
    assert isinstance(one.run(1, kind=NeverWakes).run.error, StuckError)


# ---- the real engine on a loop that shuffles what is ready ---------------------------------------------------------------
def test_random_programs_pass_on_a_loop_that_runs_callbacks_in_any_order() -> None:
    for seed in range(8):
        config = SchedulerConfig(max_parallelism=(1, 2, 3, 64)[seed % 4], enable_work_stealing=seed % 3 != 2)
        with Bench(config, seeded_loops(FIRST + seed)) as bench:
            for program in some_programs(1_000 + 40 * seed, 25):
                why = bench.why(program)
                assert why is None, f"program {program.seed}, loop {FIRST + seed}, {config}: {why}"


def test_a_lost_wake_up_is_reported_and_no_run_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without stealing, parked workers must be woken for what is theirs; on a virtual clock a hang meets its deadline at once."""
    nodes: dict[int, Any] = {1: const(1)}
    edges = []
    for layer in range(1, 30, 4):
        nodes |= {layer + place: inv("note") for place in (1, 2, 3)} | {layer + 4: "WAIT_ALL"}
        edges += [f"{layer}->{layer + place} {layer + place}->{layer + 4}" for place in (1, 2, 3)]
    layers = Program(0, sketch(nodes, " ".join(edges)), {}, "fail_fast")
    config, clock = SchedulerConfig(max_parallelism=3, enable_work_stealing=False), VirtualClock()
    with Bench(config, clock.new_event_loop, clock) as bench:
        assert bench.why(layers) is None
        monkeypatch.setattr(Crew, "wake", lambda crew: None)
        why = bench.why(layers)
    assert why is not None
    assert "DeadlineError" in why or "StuckError" in why
