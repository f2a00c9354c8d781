"""The command as a person meets it: real processes, their exit codes, what they print where."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SECONDS_MAX = 60


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)} | {"APXM_DEBUG": "", "COLUMNS": "100"}


def apxm(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "apxm", *arguments],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


def test_the_result_is_on_standard_output_and_everything_else_on_standard_error(folder: Path) -> None:
    done = apxm(folder, "run", "greet.json", "--param", "who=Ada", "--param", "times=3")
    assert (done.returncode, json.loads(done.stdout)) == (0, ["Ada", 3])
    assert "hello Ada" in done.stderr.splitlines()
    assert "done in" in done.stderr.splitlines()[-1]


def test_quiet_says_nothing_but_the_result(folder: Path) -> None:
    done = apxm(folder, "run", "greet.json", "--param", "who=Ada", "--param", "times=3", "--quiet")
    assert (json.loads(done.stdout), done.stderr) == (["Ada", 3], "")


def test_json_is_one_object_with_outputs_value_stats_and_run_id(folder: Path) -> None:
    done = apxm(folder, "run", "greet.json", "--param", "who=Ada", "--param", "times=3", "--json")
    said = json.loads(done.stdout)
    assert set(said) == {"outputs", "value", "stats", "run_id"}
    assert (said["value"], said["outputs"]) == (["Ada", 3], {"both": ["Ada", 3]})
    assert said["stats"]["executed"] == 2


def test_trace_adds_every_event_to_the_object(folder: Path) -> None:
    done = apxm(folder, "run", "greet.json", "--param", "who=Ada", "--param", "times=3", "--json", "--trace")
    kinds = [event["event"] for event in json.loads(done.stdout)["trace"]]
    assert (kinds[0], kinds[-1]) == ("RunStarted", "RunEnded")
    assert kinds.count("NodeEnded") == 2
    assert "operation" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "nowhere.json"], 2, "there is no file nowhere.json"),
        (["run", "broken.json"], 2, "line 1, column 2"),
        (["run", "unknown.json"], 2, "there is no operation `PRNT`"),
        (["run", "greet.json", "--param", "times=3"], 2, "`who` (str) is missing"),
        (["run", "greet.json", "--param", "who=x", "--param", "times=many"], 2, "expected a whole number (type int)"),
        (["run", "tools_here.py:fails"], 7, "node `division` (INV)"),
        (["run", "tools_here.py:writes", "--param", "path=x"], 3, "write"),
        (["run", "tools_here.py:waits", "--deadline", "0.2"], 5, "deadline"),
    ],
)
def test_what_goes_wrong_is_said_in_words_and_by_exit_code(folder: Path, arguments: list[str], code: int, said: str) -> None:
    done = apxm(folder, *arguments)
    assert (done.returncode, done.stdout) == (code, ""), done
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_under_continue_the_first_failure_that_nothing_took_decides_the_exit_code(folder: Path) -> None:
    done = apxm(folder, "run", "tools_here.py:fails", "--on-failure", "continue", "--json")
    assert done.returncode == 7
    assert json.loads(done.stdout)["stats"]["failed"] == 1
    assert "node `division` (INV)" in done.stderr


def test_an_error_as_json_names_class_node_and_operation_and_has_the_partial_result(folder: Path) -> None:
    said = json.loads(apxm(folder, "run", "tools_here.py:fails", "--json").stdout)
    error = said["error"]
    assert (error["code"], error["class"], error["node"], error["op"]) == ("capability", "fatal", "division", "INV")
    assert said["partial"]["stats"]["node_status"]["before"] == "done"


def test_a_graph_an_artifact_and_its_inspection_agree(folder: Path) -> None:
    made = apxm(folder, "compile", "greet.json", "-o", "greet.apxm", "--explain", "--json")
    assert made.returncode == 0, made
    said = json.loads(apxm(folder, "inspect", "greet.apxm", "--json").stdout)
    assert said["digest"] == json.loads(made.stdout)["digest"]
    assert [node["op"] for node in said["flows"][0]["nodes"]] == ["PRINT", "WAIT_ALL"]
    assert json.loads(apxm(folder, "inspect", "greet.json", "--json").stdout) == said
    ran = apxm(folder, "run", "greet.apxm", "default.greet", "--param", "who=Ada", "--param", "times=3", "-q")
    assert json.loads(ran.stdout) == ["Ada", 3]


def test_inspect_for_a_person_shows_flows_nodes_and_capabilities(folder: Path) -> None:
    said = apxm(folder, "inspect", "tools_here.py:counts").stdout
    assert "flow default.counts(items: json)" in said
    assert "body(item):" in said
    assert "calls half (pure)" in said


def test_validate_reports_every_broken_rule(folder: Path) -> None:
    graph = {
        "name": "bad",
        "edges": [],
        "nodes": [{"id": 1, "name": "a", "op": "PRNT"}, {"id": 1, "name": "b", "op": "ASK", "attributes": {"tmp": 1}}],
    }
    (folder / "bad.json").write_text(json.dumps(graph))
    done = apxm(folder, "validate", "bad.json", "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["valid"]) == (2, False)
    assert {"graph.unknown_op", "graph.node_id", "graph.unknown_attribute"} <= {problem["code"] for problem in said["errors"]}
    good = apxm(folder, "validate", "greet.json")
    assert (good.returncode, good.stdout.splitlines()[0]) == (0, "greet.json: valid")


def test_a_map_shows_how_far_it_is_and_gives_its_results_in_order(folder: Path) -> None:
    done = apxm(folder, "run", "tools_here.py:counts", "--param", f"items={list(range(50))}", "--json")
    assert json.loads(done.stdout)["value"] == [n // 2 for n in range(50)]


def test_the_extractive_model_answers_without_a_provider(folder: Path) -> None:
    done = apxm(folder, "run", "tools_here.py:asks", "--param", "question=Which colour has grass?")
    assert "Fresh grass is green." in done.stdout
    assert "1 model call" in done.stderr


def test_a_scripted_model_answers_from_its_file(folder: Path) -> None:
    (folder / "script.json").write_text(json.dumps({"rules": [{"node": "answer", "answer": "scripted"}]}))
    done = apxm(folder, "run", "tools_here.py:asks", "--param", "question=x", "--model", "scripted:script.json", "-q")
    assert (done.returncode, done.stdout) == (0, "scripted\n")


def interrupted(folder: Path, flow: str, *signals: signal.Signals) -> tuple[int, str, str]:
    """A run that never ends by itself, sent one signal when it is at work and the next when it says that it cancels."""
    command = [sys.executable, "-u", "-m", "apxm", "run", f"tools_here.py:{flow}", "--json"]
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = ""
        try:
            for number, sign in zip(signals, ("ready", "cancelling")):
                while sign not in said:
                    text = process.stderr.readline()
                    assert text, f"the run ended before it said {sign!r}"
                    said += text
                process.send_signal(number)
            out, err = process.communicate(timeout=SECONDS_MAX)
        finally:
            process.kill()
    return process.returncode, out, said + err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_the_run_and_its_partial_result_is_printed(folder: Path, number: signal.Signals, code: int) -> None:
    returned, out, err = interrupted(folder, "waits", number)
    assert returned == code, err
    said = json.loads(out)
    assert said["error"]["class"] == "cancelled"
    assert said["partial"]["stats"]["node_status"]["first"] == "done"
    assert "Traceback" not in err


def test_a_second_signal_ends_at_once_even_when_nothing_listens(folder: Path) -> None:
    returned, out, err = interrupted(folder, "hears_nothing", signal.SIGINT, signal.SIGTERM)
    assert (returned, out) == (143, ""), err


def test_version_and_help_end_well(folder: Path) -> None:
    assert apxm(folder, "--version").stdout == "apxm 0.1.0\n"
    said = apxm(folder, "--help")
    assert said.returncode == 0
    assert all(command in said.stdout for command in ("compile", "run", "validate", "inspect", "ops"))


def test_a_reader_that_goes_away_is_no_error_to_talk_about(folder: Path) -> None:
    command = f"{sys.executable} -m apxm ops list | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment(), capture_output=True, text=True, timeout=SECONDS_MAX, check=False
    )
    assert done.stdout.startswith("CONST_STR")
    assert done.stderr == ""


def test_a_bug_shows_its_traceback_only_when_asked(folder: Path) -> None:
    (folder / "bug.py").write_text(
        "import apxm.cli.report as r\nfrom apxm import Graph, Node\n"
        "def boom(*_): raise KeyError('slot')\nr.result_text = boom\n"
        "g = Graph('g', [Node(1, 'x', 'CONST_STR', {'value': 1})])\n"
    )
    done = apxm(folder, "run", "bug.py")
    assert (done.returncode, "error [internal]: KeyError: 'slot'" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_an_exception_of_a_capability_is_shown_with_its_file_and_line(tmp_path: Path) -> None:
    source = (
        "from apxm import CapabilityRecord, flow, step\n\n\n"
        "def share(n: int) -> float:\n    return 1 / n\n\n\n"
        'CAPABILITIES = {"share": CapabilityRecord("Shares.", share, effect="read")}\n\n\n'
        "@flow\ndef shares(n: int):\n    return step.inv('share', n=n, name='share')\n"
    )
    (tmp_path / "shares.py").write_text(source)
    done = apxm(tmp_path, "run", "shares.py", "--param", "n=0")
    assert done.returncode == 7
    assert "cause: ZeroDivisionError: division by zero (shares.py, line 5, in share)" in done.stderr
    said = json.loads(apxm(tmp_path, "run", "shares.py", "--param", "n=0", "--json").stdout)
    assert said["error"]["cause"].endswith("(shares.py, line 5, in share)")
