"""P2 and P3: no token is lost or doubled in any order of queue steps; what cannot go on is reported, never silent.

Every day the same programs and schedules (APXM_SEED says which is the first program); with --long more of them, and others
each time. A failure prints the command that runs its one schedule alone.
"""

from __future__ import annotations

import itertools
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from apxm.config import SchedulerConfig
from apxm.engine.fire import Crew, Firer
from apxm.errors import ApxmError, InternalError, StuckError
from apxm.testing.check import Bench, command, main, on_loop
from apxm.testing.clock import VirtualClock
from apxm.testing.oracle import OracleMismatch
from apxm.testing.programs import Program, generate
from apxm.testing.schedules import Schedules
from apxm.testing.schedules import command as simulated
from apxm.testing.simulator import Simulation
from apxm.testing.sketch import sketch
from tests.property.kept import KEPT, const, inv, kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apxm.scheduler.dataflow import Frame
    from apxm.scheduler.work_stealing import Worker

FIRST = int(os.environ.get("APXM_SEED", "0"))
SIZE_MAX = 60  # nodes of a program; larger ones add time and no new kind of step
PROGRAMS, PROGRAMS_LONG = 300, 10_000
SCHEDULES, SCHEDULES_LONG = 2_000, 100_000
EACH = 50  # schedules of one small program
CANCELLED, CANCELLED_LONG = 100, 1_000


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench() as made:
        yield made


@pytest.fixture(scope="module")
def first(long_run: bool, seed: int) -> int:
    """The first program."""
    return seed if long_run else FIRST


def some_programs(first: int, count: int, size_max: int = SIZE_MAX) -> Iterator[Program]:
    """So many programs that are not too large."""
    small = (program for seed in itertools.count(first) if (program := generate(seed)).size <= size_max)
    return itertools.islice(small, count)


def attempt(run: Callable[[], Any], again: str) -> Any:
    """What `run` gives; when it fails, the command that does it again."""
    try:
        return run()
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}\nreplay with `{again}`") from error


# ---- random programs -----------------------------------------------------------------------------------------------------
def test_every_schedule_of_random_programs_does_what_the_oracle_says(bench: Bench, first: int, long_run: bool) -> None:
    for program in some_programs(first, PROGRAMS_LONG if long_run else PROGRAMS):
        one = Schedules(bench, program)
        for schedule, workers in enumerate((1, 3)):
            again = simulated(program, schedule, workers)
            attempt(lambda: one.check(schedule, workers=workers), again)  # noqa: B023


def test_no_order_of_steals_loses_or_doubles_a_token(bench: Bench, first: int, long_run: bool) -> None:
    steals = 0
    schedules = SCHEDULES_LONG if long_run else SCHEDULES
    for program in some_programs(first, schedules // EACH, size_max=16):
        one = Schedules(bench, program)
        for schedule in range(EACH):
            workers = 2 + schedule % 3
            again = simulated(program, schedule, workers)
            steals += attempt(lambda: one.check(schedule, workers=workers), again).run.steals  # noqa: B023
    assert steals > schedules, "the programs give thieves too little to do"


def test_schedules_of_the_faster_tiers_give_the_same_values(bench: Bench, first: int, long_run: bool) -> None:
    compared = 0
    for program in some_programs(first + 300, 2_000 if long_run else 200):
        again = simulated(program, program.seed, 3, unwatched=True)
        compared += attempt(lambda: Schedules(bench, program).check_unwatched(program.seed), again)  # noqa: B023
    assert compared > 50


def test_a_run_that_is_cancelled_at_any_step_ends_and_leaves_nothing_behind(bench: Bench, first: int, long_run: bool) -> None:
    for program in some_programs(first + 500, CANCELLED_LONG if long_run else CANCELLED):
        one = Schedules(bench, program)
        steps = one.simulator.run(0).run.steps
        for step in range(0, steps + 1, max(1, steps // 5)):
            again = simulated(program, 0, 3, cancel_at=step)
            attempt(lambda: one.check_cancelled(0, step), again)  # noqa: B023


# ---- every schedule of small programs ------------------------------------------------------------------------------------
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
    one = Schedules(bench, Program(0, SMALL[name], {}, "fail_fast"))
    for workers in (2, 3):
        number = sum(1 for _ in one.check_every(limit=1_500, workers=workers))
        assert number > 5
        assert number < 1_500 or (name, workers) == ("a failure and its finally", 3), "the search did not come to its end"


@pytest.mark.parametrize("name", KEPT)
def test_schedules_of_programs_that_once_showed_something_do_what_the_oracle_says(bench: Bench, name: str) -> None:
    assert sum(1 for _ in Schedules(bench, kept(name)).check_every(limit=400, workers=2)) >= 1


def shapes(count: int) -> Iterator[list[tuple[int, int]]]:
    """The edges of every directed acyclic graph of so many nodes, one of each form."""
    nodes = range(1, count + 1)
    pairs = list(itertools.combinations(nodes, 2))
    met: set[tuple[tuple[int, int], ...]] = set()
    for chosen in itertools.product((False, True), repeat=len(pairs)):
        edges = [pair for pair, taken in zip(pairs, chosen) if taken]
        forms = [tuple(sorted((place[a - 1], place[b - 1]) for a, b in edges)) for place in itertools.permutations(nodes)]
        if not met.intersection(forms):
            met.add(tuple(edges))
            yield edges


def test_there_are_as_many_shapes_as_there_should_be() -> None:
    assert [sum(1 for _ in shapes(count)) for count in (1, 2, 3, 4)] == [1, 2, 6, 31]


@pytest.mark.parametrize(("capability", "workers"), [("look", 2), ("look", 3), ("note", 2)])
def test_every_graph_of_up_to_four_nodes_runs_right_in_every_order(bench: Bench, capability: str, workers: int) -> None:
    """All orders with up to three preemptions: bugs of concurrency hardly ever need more (Musuvathi & Qadeer, 2007)."""
    runs = 0
    for count, edges in ((size, edges) for size in (1, 2, 3, 4) for edges in shapes(size)):
        nodes = {number: inv(capability, **(ONE if capability == "note" else TWO)) for number in range(1, count + 1)}
        graph = sketch(nodes, " ".join(f"{a}=>{b}" for a, b in edges))
        one = Schedules(bench, Program(0, graph, {}, "fail_fast"))
        runs += sum(1 for _ in one.check_every(limit=100_000, workers=workers, preemptions=3))
    assert runs > 1_000


def test_an_any_may_take_either_input_and_some_schedule_takes_each(bench: Bench) -> None:
    one = Schedules(bench, Program(0, SMALL["two that feed an any"], {}, "fail_fast"))
    assert {done.seen.value for done in one.check_every(limit=1_500, workers=2)} == {6, 7}


def test_a_finally_runs_though_the_run_fails_just_before_it_opens(bench: Bench) -> None:
    tried = ("TRY_CATCH", {}, {"try": sketch({1: const(1)}), "finally": sketch({7: const(2)})})
    one = Schedules(bench, Program(0, sketch({1: inv("fail_later", **ONE), 2: tried}), {}, "fail_fast"))
    assert sum(1 for _ in one.check_every(limit=500, workers=2, gives_way=True)) > 5


def test_of_several_effects_that_fail_after_a_return_the_first_is_the_error(bench: Bench) -> None:
    graph = sketch({1: const(1), 2: "RETURN", 3: inv("act_or_fail", arg_x=9), 4: inv("act_or_fail", arg_x=12)}, "1->2")
    one = Schedules(bench, Program(0, graph, {}, "fail_fast"))
    assert sum(1 for _ in one.check_every(limit=1_500, workers=3)) > 5


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


class LosesWakeUp(Simulation):
    """A wait that ends, and nobody hears of it."""

    def wake(self, activation: Any) -> None:
        """The wake-up is lost."""


FALTERING = sketch(
    {1: inv("wobble", arg_x=1, arg_key="a", arg_fails=1), 2: inv("wobble", arg_x=2, arg_key="b", arg_fails=2), 3: "WAIT_ALL"},
    "1->3 2->3",
)


def ways(bench: Bench, kind: type[Simulation], graph: Any = WIDE, *, checked: bool = True) -> dict[str, int]:
    """How runs end under a planted bug, over many schedules, each with the first schedule that ends so."""
    one = Schedules(bench, Program(0, graph, {}, "fail_fast"))
    found: dict[str, int] = {}
    for schedule in range(40):
        try:
            one.check(schedule, kind=kind, checked=checked)
            how = "passed"
        except InternalError:
            how = "broken invariant"
        except OracleMismatch as error:
            how = "stuck" if "StuckError" in str(error) else "caught"
        except (ApxmError, AssertionError, TypeError):
            how = "caught"
        found.setdefault(how, schedule)
    print(f"{kind.__name__}, {'checked' if checked else 'unchecked'}: first schedule of each end {found}")
    return found


@pytest.mark.parametrize("graph", [WIDE, FALTERING])
def test_the_programs_pass_when_nothing_is_planted(bench: Bench, graph: Any) -> None:
    assert ways(bench, Simulation, graph) == {"passed": 0}


@pytest.mark.parametrize("kind", [LosesToken, DoublesToken])
def test_a_lost_or_doubled_token_breaks_an_invariant_in_every_schedule(bench: Bench, kind: type[Simulation]) -> None:
    assert ways(bench, kind) == {"broken invariant": 0}


@pytest.mark.parametrize("kind", [LosesJob, DoublesJob])
def test_a_lost_or_doubled_job_breaks_an_invariant_as_soon_as_something_is_stolen(bench: Bench, kind: type[Simulation]) -> None:
    found = ways(bench, kind)
    assert found["broken invariant"] < 5, "it takes too many schedules to notice"
    assert found.keys() <= {"broken invariant", "passed"}


def test_a_doubled_job_is_found_by_the_search_through_all_small_graphs(bench: Bench) -> None:
    """With one preemption at most; and with none there is no steal, and so no bug."""
    graph = sketch({1: inv("look", **TWO), 2: inv("look", **TWO)})
    one = Schedules(bench, Program(0, graph, {}, "fail_fast"))
    with pytest.raises(InternalError):
        list(one.check_every(limit=1_000, workers=2, preemptions=1, kind=DoublesJob))
    assert sum(1 for _ in one.check_every(limit=1_000, workers=2, preemptions=0)) >= 1


def test_a_lost_token_is_never_silent_when_nobody_checks(bench: Bench) -> None:
    assert ways(bench, LosesToken, checked=False) == {"stuck": 0}


def test_a_lost_job_is_never_silent_when_nobody_checks(bench: Bench) -> None:
    found = ways(bench, LosesJob, checked=False)
    assert found["stuck"] < 5
    assert found.keys() <= {"stuck", "passed"}


def test_a_lost_wake_up_is_never_silent(bench: Bench) -> None:
    assert ways(bench, LosesWakeUp, FALTERING) == {"stuck": 0}


def test_a_doubled_token_is_noticed_by_the_oracle_where_it_makes_a_node_fire_too_early(bench: Bench) -> None:
    assert "caught" in ways(bench, DoublesToken, checked=False)


# ---- P3: what cannot go on says what it waits for --------------------------------------------------------------------------
def stuck(bench: Bench, graph: Any, kind: type[Simulation], schedule: int = 1) -> StuckError:
    error = Schedules(bench, Program(0, graph, {}, "fail_fast")).simulator.run(schedule, kind=kind, checked=False).run.error
    assert isinstance(error, StuckError)
    return error


def test_stuck_names_the_edges_that_wait(bench: Bench) -> None:
    error = stuck(bench, WIDE, LosesToken)
    assert ("(nothing)", "n5") in error.edges or ("(nothing)", "n6") in error.edges
    assert ("n5", "n7") in error.edges or ("n6", "n7") in error.edges
    assert all(f"{source} -> {target}" in str(error) for source, target in error.edges)


def test_stuck_names_the_node_whose_wake_up_was_lost_even_when_nothing_follows_it(bench: Bench) -> None:
    graph = sketch({1: ("ERR", {"message": "again", "class": "transient", "retries": 2})})
    one = Schedules(bench, Program(0, graph, {}, "fail_fast"))
    error = one.simulator.run(1).run.error
    assert error is not None
    assert (error.code, error.attempt) == ("raised", 3)
    assert stuck(bench, graph, LosesWakeUp).edges == (("(a wait)", "n1"),)


def test_whatever_node_loses_its_token_the_run_ends_and_says_who_waits(bench: Bench, first: int, long_run: bool) -> None:
    """A bug at one node of each random program: the run ends as it should, or is stuck and names who did not hear."""
    reported = 0
    for program in some_programs(first + 900, 1_000 if long_run else 120, size_max=30):
        one = Schedules(bench, program)
        lost: list[tuple[str, str]] = []

        class LosesOne(Simulation):
            def complete_plain(self, worker: Worker, frame: Frame, slot: int, value: Any, lost: Any = lost) -> None:
                targets = frame.plan.successors[slot]
                if targets and not lost and frame.left is not None and frame.left[targets[0]] > 0:
                    frame.left[targets[0]] += 1
                    lost.append((frame.plan.dag.names[slot], frame.plan.dag.names[targets[0]]))
                super().complete_plain(worker, frame, slot, value)

        error: BaseException | None
        try:
            error = one.simulator.run(program.seed, kind=LosesOne, checked=False).run.error
        except InternalError as crashed:  # in a `finally`, while the run closes: it has an error already
            error = crashed.__cause__
        if isinstance(error, StuckError):
            reported += 1
            deaf = {target for _, target in error.edges}
            test = "test_whatever_node_loses_its_token_the_run_ends_and_says_who_waits"
            again = f"APXM_SEED={program.seed - 900} python -m pytest -x tests/property/test_simulator.py::{test}"
            assert lost[0][1] in deaf, f"{lost[0]} was lost, stuck says {error.edges}; replay with `{again}`"
    assert reported > 20


# ---- the real engine on a loop that shuffles what is ready ---------------------------------------------------------------
def test_random_programs_pass_on_a_loop_that_runs_callbacks_in_any_order(first: int, long_run: bool) -> None:
    for number in range(8):
        config = SchedulerConfig(max_parallelism=(1, 2, 3, 64)[number % 4], enable_work_stealing=number % 3 != 2)
        loop = first + number
        with on_loop(config, loop) as bench:
            for program in some_programs(first + 1_000 + 400 * number, 125 if long_run else 20):
                why = bench.why(program)
                assert why is None, f"{why}\nreplay with `{command(program, config, loop)}`"


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


# ---- commands ------------------------------------------------------------------------------------------------------------
def test_the_command_that_a_failure_prints_runs_that_schedule_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a bug planted in the engine: nothing is ever tried again."""
    with monkeypatch.context() as planted:
        planted.setattr(Firer, "retry_permit", lambda run: False)
        with pytest.raises(AssertionError) as failure:
            test_every_schedule_of_random_programs_does_what_the_oracle_says(bench, 0, False)
        commands = re.findall(r"`python -m apxm.testing.check (.*)`", str(failure.value))
        assert len(commands) == 1
        assert main(commands[0].split()) == 1
        assert "OracleMismatch" in capsys.readouterr().out
    assert main(commands[0].split()) == 0


@pytest.mark.parametrize("more", ["", "--unwatched", "--cancel-at 4"])
def test_every_kind_of_schedule_has_a_command(more: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(f"3 --schedule 5 --workers 2 {more}".split()) == 0
    assert "1 of 1 pass" in capsys.readouterr().out
