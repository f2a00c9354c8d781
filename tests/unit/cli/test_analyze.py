"""`apxm analyze` and `apxm explain`, as they are typed: what they print, and how they refuse."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from apxm.cli.main import main
from apxm.memory.episodic.store import StoredEpisodes
from apxm.observability.events import Called, NodeEnded, NodeStarted, RunEnded, RunStarted, to_map
from apxm.observability.lines import read

if TYPE_CHECKING:
    from pathlib import Path

FAN = {
    "name": "fan",
    "nodes": [
        {"id": 1, "name": "items", "op": "CONST_STR", "attributes": {"value": [1, 2, 3]}},
        {
            "id": 2,
            "name": "each",
            "op": "MAP",
            "attributes": {"window": 2},
            "regions": {
                "body": {
                    "nodes": [{"id": 1, "name": "say", "op": "PRINT", "attributes": {"message": "{item}"}}],
                    "edges": [{"from": "item", "to": 1, "port": "item"}],
                    "parameters": [{"name": "item", "type_name": "json"}],
                }
            },
        },
        {"id": 3, "name": "ask", "op": "ASK", "attributes": {"prompt": "Sum up\x1b[2J {0}"}},
    ],
    "edges": [{"from": 1, "to": 2}, {"from": 2, "to": 3}],
}


@pytest.fixture
def fan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APXM_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "fan.json"
    file.write_text(json.dumps(FAN))
    return file


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    said = capsys.readouterr()
    return code, said.out, said.err


def as_map(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, _ = typed(capsys, *arguments, "--json")
    assert code == 0
    said: dict[str, Any] = json.loads(out)
    return said


def test_the_numbers_of_a_flow_are_there_for_a_script(fan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = as_map(capsys, "analyze", str(fan))
    assert said["phases"] == [["items"], ["each"], ["ask"]]
    assert said["critical_ms"] == 10 + 2 * 10 + 1000
    assert said["sequential_ms"] == 10 + 3 * 10 + 1000
    assert said["parallelism"] == {"max": 2, "average": 1.01}
    assert [(step["in"], step["name"], step["times"]) for step in said["critical_path"]] == [
        ([], "items", 1),
        (["each"], "say", 2),
        ([], "ask", 1),
    ]
    assert said["certificate"]["bounds"]["llm_calls"] == {"at_most": 4, "text": "4", "unbounded_by": []}
    assert said["certificate"]["bounds"]["cost_usd"]["at_most"] is None
    assert said["inside"][0]["phases"] == [["say"]]


def test_the_same_is_there_for_a_person_and_nothing_of_it_reaches_the_terminal(
    fan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = typed(capsys, "analyze", str(fan))
    assert code == 0
    assert "default.fan: 3 phases, times by latency class" in out
    assert "phases of each / body" in out
    assert "model calls      4" in out
    assert "prices of models are not in the program — cost in USD" in out
    code, out, _ = typed(capsys, "explain", str(fan))
    assert code == 0
    assert "does the following for each item of [1, 2, 3], at most 2 at a time, and gives the list of results:" in " ".join(
        out.split()
    )
    assert "\x1b" not in out
    assert "\\x1b" in out


def test_a_run_gives_its_times_and_its_exact_critical_path(fan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(capsys, "run", str(fan), "--events", "run.jsonl")[0] == 0
    said = as_map(capsys, "analyze", str(fan), "--run", "run.jsonl")
    run = said["run"]
    names = [step["name"] for step in run["critical_path"]]
    assert names[0] == "items"
    assert names[-1] == "ask"
    assert said["times"] == run["run_id"]
    total = sum(step["ms"] + step["waited_ms"] for step in run["critical_path"])
    assert 0 < total <= run["duration_ms"] + 0.1
    assert as_map(capsys, "analyze", str(fan), "--run", "last")["run"]["run_id"] == run["run_id"]
    code, out, err = typed(capsys, "analyze", str(fan), "--run", "run.jsonl")
    assert "critical path of the run:" in out
    assert (code, err) == (0, "")


def test_a_run_of_another_version_is_taken_with_a_note_and_one_of_another_flow_is_refused(
    fan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(capsys, "run", str(fan), "--events", "run.jsonl")[0] == 0
    fan.write_text(json.dumps(FAN).replace("Sum up", "Summarise"))
    code, _, err = typed(capsys, "analyze", str(fan), "--run", "run.jsonl")
    assert code == 0
    assert "note: the run was of another version of the program" in err
    fan.write_text(json.dumps({**FAN, "name": "other"}))
    code, _, err = typed(capsys, "analyze", str(fan), "--run", "run.jsonl")
    assert code == 2
    assert "was of the flow `default.fan`, not of `default.other`" in err


def test_a_run_that_was_killed_is_analysed_as_far_as_it_came(fan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(capsys, "run", str(fan), "--events", "run.jsonl")[0] == 0
    lines = (fan.parent / "run.jsonl").read_text().splitlines(keepends=True)
    cut = next(n for n, event in enumerate(read(fan.parent / "run.jsonl")) if getattr(event, "name", "") == "ask")
    (fan.parent / "cut.jsonl").write_text("".join(lines[: cut + 1]))
    run = as_map(capsys, "analyze", str(fan), "--run", "cut.jsonl")["run"]
    assert run["outcome"] == "unfinished"
    assert run["critical_path"][-1]["name"] == "ask"


@pytest.mark.parametrize("command", ["analyze", "explain"])
def test_a_flow_that_is_not_there_is_refused_with_the_nearest_name(
    command: str, fan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = typed(capsys, command, str(fan), "fun")
    assert (code, out) == (2, "")
    assert "has no flow `fun`" in err
    assert "fan" in err


def test_effects_come_from_the_capabilities_that_are_named(fan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (fan.parent / "tools.py").write_text(
        "from apxm import CapabilityRecord\n"
        "def pay(x: int) -> int:\n    return x\n"
        "CAPABILITIES = {'pay': CapabilityRecord('pays', pay, effect='read')}\n"
    )
    node = {"id": 1, "name": "pay", "op": "INV", "attributes": {"capability": "pay", "arg_x": 1}}
    fan.write_text(json.dumps({"name": "fan", "nodes": [node], "edges": []}))
    unknown = as_map(capsys, "analyze", str(fan))["certificate"]
    assert unknown["bounds"]["guarded_effects"]["at_most"] == 1
    known = as_map(capsys, "analyze", str(fan), "--capabilities", "tools.py")["certificate"]
    assert known["bounds"]["guarded_effects"]["at_most"] == 0
    assert "The capability `pay` only reads." in typed(capsys, "explain", str(fan), "--capabilities", "tools.py")[1]


def test_a_firing_on_the_path_of_a_run_that_used_its_fallback_says_so(fan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = {"id": 1, "name": "look", "op": "INV", "attributes": {"capability": "nowhere", "fallback": "nothing"}}
    fan.write_text(json.dumps({"name": "look", "nodes": [missing], "edges": []}))
    events = [
        RunStarted("r1", "default.look", 1),
        NodeStarted((), 1, "look", "INV", at=0.0),
        NodeEnded((), 1, "look", "INV", "done", 250.0, "it is not there", at=0.25),
        RunEnded("r1", "done", 250.0, at=0.25),
    ]
    (fan.parent / "run.jsonl").write_text("".join(json.dumps(to_map(event)) + "\n" for event in events))
    code, out, _ = typed(capsys, "analyze", str(fan), "--run", "run.jsonl")
    assert code == 0
    assert "   250 ms  look (INV)  fallback used" in out
    (step,) = as_map(capsys, "analyze", str(fan), "--run", "run.jsonl")["run"]["critical_path"]
    assert (step["ms"], step["outcome"], step["error"]) == (250, "done", "it is not there")


def test_last_is_the_last_run_of_this_program(fan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = fan.parent / "other.json"
    other.write_text(json.dumps({**FAN, "name": "other"}))
    assert typed(capsys, "run", str(other))[0] == 0
    code, _, err = typed(capsys, "analyze", str(fan), "--run", "last")
    assert code == 2
    assert "no run of `default.fan`" in err
    assert typed(capsys, "run", str(fan))[0] == 0
    assert typed(capsys, "run", str(other))[0] == 0
    assert as_map(capsys, "analyze", str(fan), "--run", "last")["run"]["outcome"] == "done"


# ---- measured times --------------------------------------------------------------------------------------------------
def events_of_a_run(file: Path, ask_ms: float, say_ms: list[float]) -> Path:
    """A file of events in which `ask` took so long, and its call of a model half of that."""
    began = [RunStarted("r-1", "default.fan", 3, 0.0, {})]
    told: list[Any] = []
    for item, ms in enumerate(say_ms):
        path = ((2, item),)
        told += [NodeStarted(path, 1, "say", "PRINT", 0), NodeEnded(path, 1, "say", "PRINT", "done", ms)]
    told += [NodeStarted((), 3, "ask", "ASK", 0), Called((), 3, "model", "m", ask_ms / 2, True)]
    told += [Called((), 3, "model", "other", 1.0, False), NodeEnded((), 3, "ask", "ASK", "done", ask_ms)]
    told += [NodeStarted((), 4, "bad", "ASK", 0), NodeEnded((), 4, "bad", "ASK", "failed", 9_999.0)]
    lines = [*began, *told, RunEnded("r-1", "done", 1_000.0, None, {})]
    for number, event in enumerate(lines, 1):
        event.stamp(number, number / 1e3)
    file.write_text("".join(json.dumps(to_map(event)) + "\n" for event in lines))
    return file


def critical(said: dict[str, Any]) -> dict[str, float]:
    return {step["name"]: step["ms"] for step in said["critical_path"]}


def test_what_was_measured_takes_the_place_of_latency_classes(fan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = events_of_a_run(fan.parent / "run.jsonl", 700.0, [1.0, 2.0, 30.0])
    said = as_map(capsys, "analyze", str(fan), "--from-run", str(run))
    # a MAP with three items and a window of two still has two rounds, of the median each
    assert critical(said) == {"items": 10, "say": 4, "ask": 700}
    assert said["times"] == f"medians of the run {run}"
    assert "run" not in said
    code, out, _ = typed(capsys, "analyze", str(fan), "--from-run", str(run))
    assert (code, "times medians of the run" in out) == (0, True)


def test_what_was_measured_holds_for_another_program_that_does_the_same(fan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = events_of_a_run(fan.parent / "run.jsonl", 700.0, [5.0])
    nodes = [
        {"id": 1, "name": "first", "op": "ASK", "attributes": {"prompt": "a"}},
        {"id": 2, "name": "second", "op": "ASK", "attributes": {"prompt": "b", "model": "m"}},
        {"id": 3, "name": "third", "op": "THINK", "attributes": {"prompt": "c"}},
    ]
    other = fan.parent / "other.json"
    other.write_text(json.dumps({"name": "other", "nodes": nodes, "edges": [{"from": 1, "to": 2}, {"from": 2, "to": 3}]}))
    said = as_map(capsys, "analyze", str(other), "--from-run", str(run))
    assert critical(said) == {"first": 525, "second": 350, "third": critical(as_map(capsys, "analyze", str(other)))["third"]}
    assert any(one.startswith("THINK: ") and "nothing of it was measured" in one for one in said["assumed"])


def test_times_come_from_episodes_too_of_one_run_or_of_all(fan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fan.parent / "state" / "memory"
    folder.mkdir(parents=True, mode=0o700)
    (fan.parent / "state").chmod(0o700)
    kept = StoredEpisodes(lambda: folder)
    for run, ms in (("r-1", 200.0), ("r-2", 400.0), ("r-2", 600.0)):
        kept.add(run, ((), 3, "ask", "ASK", "fan", "default"), "model", "m", ms)
    kept.add("r-2", ((), 3, "ask", "ASK", "fan", "default"), "model", "m", 99_999.0, "transient")
    kept.record("r-1", ((), 3, "ask", "ASK", "fan", "default"), "note", 1)
    kept.close()
    for spec, ms in (("r-1", 200), ("r-2", 500), ("all", 400)):
        assert critical(as_map(capsys, "analyze", str(fan), "--from-run", spec))["ask"] == ms, spec
    code, _, err = typed(capsys, "analyze", str(fan), "--from-run", "r-9")
    assert (code, "no run `r-9` is recorded" in err) == (2, True)


def test_from_run_without_a_time_or_beside_run_is_refused(fan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given, message in (
        (["--from-run", "all"], "no episodes are on disk"),
        (["--from-run", "last", "--run", "last"], "two ways"),
    ):
        code, _, err = typed(capsys, "analyze", str(fan), *given)
        assert (code, message in err) == (2, True), err


def test_from_run_takes_the_last_run_of_this_program(fan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(capsys, "run", str(fan))[0] == 0
    said = as_map(capsys, "analyze", str(fan), "--from-run", "last")
    assert said["times"] == "medians of the run last"
    assert 0 < critical(said)["ask"] < 1_000
