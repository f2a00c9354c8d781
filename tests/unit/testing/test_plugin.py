"""The pytest plugin as a user's project meets it: a project of its own, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from apxm import testing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest_plugins = ["pytester"]

QUIET = (*(f"-pno:{plugin}" for plugin in ("cacheprovider", "hypothesispytest", "benchmark", "xdist")), "-Werror")

FLOW = """
import time
from apxm import CapabilityRecord, Graph, RunOptions, flow, step
from apxm.testing import VirtualClock
import pytest

def count(text: str) -> int:
    '''How many words a text has.'''
    return len(text.split())

@flow
def review(text: str):
    answer = step.ask(f"Is this good? {text}", name="answer")
    words = step.inv("count", text=text, name="words")
    return step.wait_all(answer, words, name="both")

TRACED = RunOptions(trace=True)
"""


@pytest.fixture
def run(pytester: Any) -> Callable[..., Any]:
    """Runs pytest over files that begin with a flow; gives what it said."""

    def run(*options: str, ini: str = "", **files: str) -> Any:
        for name, text in files.items():
            (pytester.path / f"{name}.py").write_text(FLOW + text)
        (pytester.path / "pytest.ini").write_text(f"[pytest]\naddopts = --strict-markers\n{ini}\n")
        return pytester.runpytest_subprocess(*QUIET, *options)

    return run


def test_a_flow_is_tested_in_three_lines(run: Any) -> None:
    done = run(
        test_it="""
def test_review(apxm_runtime, scripted_model):
    runtime = apxm_runtime(model=scripted_model(("answer", "yes")), capabilities={"count": count})
    assert runtime.execute(review, text="two words").value == ["yes", 2]

@pytest.mark.parametrize("number", [1, 2])
def test_the_runtimes_are_gone_after_the_test(apxm_runtime, number):
    import threading
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("apxm-")]
    runtime = apxm_runtime(capabilities={"count": CapabilityRecord("Count.", count, run="thread", effect="read")})
    runtime.execute(review, text="two words")

def test_a_day_passes_at_once(apxm_runtime, virtual_clock):
    import asyncio
    async def slow() -> int:
        '''Take a day.'''
        await asyncio.sleep(86_400)
        return 1
    record = CapabilityRecord("Take a day.", slow, effect="read", timeout_ms=None)
    graph = Graph("day")
    graph.inv("slow")
    result = apxm_runtime(clock=virtual_clock, capabilities={"slow": record}).execute(graph, run=TRACED)
    assert virtual_clock.now == pytest.approx(86_400)
    assert result.events()[0].began == 0.0
"""
    )
    done.assert_outcomes(passed=4)


def test_a_strict_script_must_be_used_up_and_a_failed_test_says_so_only_once(run: Any) -> None:
    done = run(
        test_it="""
def ask(apxm_runtime, model):
    apxm_runtime(model=model, capabilities={"count": count}).execute(review, text="two words")

def test_used(apxm_runtime, scripted_model):
    ask(apxm_runtime, scripted_model(("answer", ["yes"]), strict=True))

def test_lax(apxm_runtime, scripted_model):
    ask(apxm_runtime, scripted_model(("answer", ["yes", "no"]), ("other", "x")))

def test_unused(apxm_runtime, scripted_model):
    ask(apxm_runtime, scripted_model(("answer", ["yes", "no"]), ("other", "x"), strict=True))

def test_failed(apxm_runtime, scripted_model):
    scripted_model(("answer", "yes"), strict=True)
    assert False, "for another reason"
"""
    )
    done.assert_outcomes(passed=3, failed=1, errors=1)
    done.stdout.fnmatch_lines(
        [
            "*rule 1 for match `answer`: it was asked for 1 of its 2 answers",
            "*rule 2 for match `other`: it was not asked for",
        ]
    )


def test_a_runtime_that_leaves_a_call_behind_fails_the_test(run: Any) -> None:
    done = run(
        test_it="""
import threading
stop = threading.Event()

def block() -> None:
    '''Never come back.'''
    stop.wait(30)

def start(apxm_runtime):
    from apxm import ApxmError
    graph = Graph("blocked")
    graph.inv("block", timeout_ms=50, retries=0)
    with pytest.raises(ApxmError):
        apxm_runtime(capabilities={"block": block}).execute(graph)

def test_leaves_it(apxm_runtime):
    start(apxm_runtime)

def test_lets_it_go_a_little_later(apxm_runtime):
    start(apxm_runtime)
    threading.Timer(0.3, stop.set).start()
"""
    )
    done.assert_outcomes(passed=2, errors=1)
    done.stdout.fnmatch_lines(["*an abandoned call of capability `block`, which does not return"])


def test_a_fault_plan_is_checked_seeded_and_shown(run: Any) -> None:
    text = """
def test_planned(apxm_runtime, fault_plan):
    fault_plan.capability("count").fail(calls=1)
    record = CapabilityRecord("Count.", count, effect="read")
    assert apxm_runtime(capabilities={"count": record}, faults=fault_plan).execute(review, text="a b").value[1] == 2

def test_in_vain(apxm_runtime, fault_plan):
    fault_plan.capability("count").fail(calls=5)
    fault_plan.install(apxm_runtime(capabilities={"count": count}))

def test_seed(fault_plan):
    print("seed is", fault_plan.seed)
"""
    first = run("-rA", "-vv", test_it=text)
    first.assert_outcomes(passed=3, errors=1)
    first.stdout.fnmatch_lines(["*capability `count`: fail transient on call 5; it was called never", "seed * --apxm-seed N"])

    def seeds(done: Any) -> list[str]:
        return [line for line in done.stdout.lines if line.startswith("seed is")]

    assert seeds(run("-rA", test_it=text)) == seeds(first)
    assert seeds(run("-rA", "--apxm-seed", "1", test_it=text)) != seeds(first)


# ---- snapshots -------------------------------------------------------------------------------------------------------
TAKES = """
def take(apxm_runtime, scripted_model):
    model = scripted_model(("answer", "yes"))
    return apxm_runtime(model=model, capabilities={"count": count}).execute(review, text="two words", run=TRACED)

def test_first(apxm_runtime, scripted_model, trace_snapshot):
    trace_snapshot(take(apxm_runtime, scripted_model))

class TestMore:
    @pytest.mark.parametrize("text", ["a", "b/c"])
    def test_second(self, text, trace_snapshot):
        trace_snapshot(text + "\\n")
        trace_snapshot(text + text + "\\n")
        trace_snapshot(text + "!\\n", name="loud")
"""
KEPT = """\
default.review: done
1 answer ASK done; model scripted
2 words INV done; capability count
3 both WAIT_ALL done
4 return RETURN done
"""


def kept(pytester: Any) -> dict[str, str]:
    folder: Path = pytester.path / "__snapshots__" / "test_it"
    return {file.name: file.read_text() for file in sorted(folder.glob("*"))}


def test_snapshots_are_asked_for_written_compared_and_told_when_nobody_needs_them(run: Any, pytester: Any) -> None:
    missing = run(test_it=TAKES)
    missing.assert_outcomes(failed=3)
    missing.stdout.fnmatch_lines(
        ["there is no snapshot test_first.trace;*pytest --apxm-update-snapshots 'test_it.py::test_first'"]
    )
    assert kept(pytester) == {}

    written = run("--apxm-update-snapshots", test_it=TAKES)
    written.assert_outcomes(passed=3)
    written.stdout.fnmatch_lines(["written: __snapshots__/test_it/test_first.trace"])
    files = kept(pytester)
    assert len(files) == 7
    assert files["test_first.trace"] == KEPT
    assert files["TestMore.test_second[a].loud.trace"] == "a!\n"

    again = run(test_it=TAKES)
    again.assert_outcomes(passed=3)
    again.stdout.no_fnmatch_line("*apxm snapshots*")

    (pytester.path / "__snapshots__" / "test_it" / "test_first.trace").write_text(
        KEPT.replace("words INV done", "words INV failed")
    )
    other = run("-k", "first", test_it=TAKES)
    other.assert_outcomes(failed=1, deselected=2)
    other.stdout.fnmatch_lines(["the run is not that of test_first.trace*", "-2 words INV failed;*", "+2 words INV done;*"])
    other.stdout.no_fnmatch_line("*obsolete*")
    run("test_it.py::test_first", test_it=TAKES).stdout.no_fnmatch_line("*obsolete*")

    renamed = TAKES.replace("def test_first", "def test_renamed")
    gone = run(test_it=renamed.replace('        trace_snapshot(text + "!\\n", name="loud")\n', ""))
    gone.stdout.fnmatch_lines(
        [
            "obsolete, delete it: __snapshots__/test_it/TestMore.test_second[[]a[]].loud.trace",
            "obsolete, delete it: __snapshots__/test_it/test_first.trace",
        ]
    )


# ---- the network -----------------------------------------------------------------------------------------------------
REACHES = """
import socket

@pytest.fixture
def swallowed():
    try:
        socket.create_connection(("192.0.2.1", 80), 1)
    except Exception:
        pass

def reach():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"", ("192.0.2.1", 9))
"""


def test_the_guard_names_the_address_and_the_test(run: Any) -> None:
    done = run(
        test_it=REACHES
        + """
@pytest.mark.no_network
def test_raises():
    reach()

@pytest.mark.no_network
def test_hides():
    try:
        reach()
    except Exception:
        pass

@pytest.mark.no_network
def test_fixture_hides(swallowed):
    pass

def test_expects(no_network):
    from apxm.testing import network
    assert network._guards == [no_network]
    with pytest.raises(AssertionError, match=r"test_it.py::test_expects tried to reach 192.0.2.1:9 "):
        reach()
    no_network.attempts.clear()

def test_asks_late(request):
    guard = request.getfixturevalue("no_network")
    with pytest.raises(AssertionError):
        reach()
    guard.attempts.clear()

@pytest.mark.no_network(False)
def test_is_free():
    from apxm.testing import network
    assert not network._guards
"""
    )
    done.assert_outcomes(passed=3, failed=2, errors=1)
    done.stdout.fnmatch_lines(["*the test test_it.py::test_hides tried to reach 192.0.2.1:9 (sendto), and hid the refusal*"])


def test_one_setting_guards_every_test_but_those_marked(run: Any) -> None:
    done = run(
        ini="apxm_no_network = true",
        test_it=REACHES
        + """
def test_raises():
    with pytest.raises(AssertionError):
        reach()
    raise RuntimeError("caught by the guard")

@pytest.mark.no_network(False)
def test_is_free():
    from apxm.testing import network
    assert not network._guards

def test_is_guarded():
    from apxm.testing import network
    assert len(network._guards) == 1
""",
    )
    done.assert_outcomes(passed=2, failed=1)


# ---- what it costs who does not use it -------------------------------------------------------------------------------
def test_the_plugin_loads_nothing_of_apxm_but_itself() -> None:
    probe = "import sys, pytest, apxm.testing.plugin; print(*sorted(name for name in sys.modules if name.startswith('apxm')))"
    loaded = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == ["apxm", "apxm.testing", "apxm.testing.plugin"]


def test_without_the_plugin_its_settings_are_unknown(run: Any) -> None:
    done = run("-p", "no:apxm", "--strict-config", ini="apxm_no_network = true", test_it="def test_nothing(): pass")
    assert done.ret != 0


@pytest.mark.parametrize("name", testing.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(testing, name).__name__ == name
    assert name in dir(testing)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'FaultPlans'"):
        _ = testing.FaultPlans
