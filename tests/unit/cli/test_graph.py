from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import apxm
from apxm.cli.exits import Exit
from apxm.cli.main import main
from apxm.observability.events import NodeEnded, NodeStarted, RunEnded, RunStarted, to_map

TWO_FLOWS = {
    "agents": [
        {
            "name": "bot",
            "flows": [
                {
                    "name": name,
                    "nodes": [{"id": 1, "name": f"say {name}", "op": "PRINT", "attributes": {"message": name}}],
                    "edges": [],
                }
                for name in ("hello", "bye")
            ],
        }
    ]
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def run_file(folder: Path, *, flow: str = "default.greet", artifact: str | None = None) -> Path:
    metadata = {} if artifact is None else {"artifact": artifact}
    events = [
        RunStarted("run-7", flow, 2, 0.0, metadata, seq=1),
        NodeStarted((), 1, "say", "PRINT", 0, seq=2, at=0.0),
        NodeEnded((), 1, "say", "PRINT", "failed", 250.0, "paper jam", seq=3, at=0.25),
        RunEnded("run-7", "fatal", 250.0, "paper jam", {}, seq=4, at=0.25),
    ]
    file = folder / "run.jsonl"
    file.write_text("".join(json.dumps(to_map(event)) + "\n" for event in events))
    return file


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["graph", *words])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_tree_goes_to_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, f"{folder}/greet.json")
    assert (code, err) == (Exit.OK, "")
    assert out.splitlines()[0] == "flow default.greet(who: str, times: int)"
    assert "├─ say   PRINT hello {who}  ← who=who" in out


def test_a_graph_is_drawn_as_it_is_written_and_an_artifact_as_it_was_compiled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [{"id": id, "name": f"same {id}", "op": "CONST_STR", "attributes": {"value": "x"}} for id in (1, 2)]
    both = {"id": 3, "name": "both", "op": "WAIT_ALL"}
    graph = {"name": "g", "nodes": [*nodes, both], "edges": [{"from": 1, "to": 3}, {"from": 2, "to": 3}]}
    source = tmp_path / "g.json"
    source.write_text(json.dumps(graph))
    apxm.compile(source.read_text()).save(tmp_path / "g.apxm")
    written, compiled = (said(capsys, str(tmp_path / name))[1] for name in ("g.json", "g.apxm"))
    assert "same 2" in written
    assert "same 2" not in compiled


def test_a_page_is_written_beside_the_program(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "greet.json"
    source.write_bytes((folder / "greet.json").read_bytes())
    code, out, _ = said(capsys, str(source), "--format", "html")
    target = tmp_path / "greet.html"
    assert code == Exit.OK
    assert out.startswith(f"{target}: html of 1 flow, ")
    assert target.read_text().startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["greet.html", "greet.json"]


@pytest.mark.parametrize(
    ("name", "begins"), [("a.html", "<!DOCTYPE html>"), ("a.mmd", "flowchart TD"), ("a.txt", "flow default.greet")]
)
def test_the_ending_of_the_file_says_the_format(name: str, begins: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, f"{folder}/greet.json", "-o", name)[0] == Exit.OK
    assert Path(name).read_text().startswith(begins)


def test_a_dash_sends_a_page_to_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, f"{folder}/greet.json", "--format", "html", "-o", "-")[1]
    assert out.startswith("<!DOCTYPE html>")
    assert out.endswith("</html>\n")


def test_one_flow_of_several_can_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "two.json").write_text(json.dumps(TWO_FLOWS))
    both, one = said(capsys, "two.json")[1], said(capsys, "two.json", "bye")[1]
    assert both.count("flow bot.") == 2
    assert [line for line in one.splitlines() if line.startswith("flow")] == ["flow bot.bye()"]
    code, _, err = said(capsys, "two.json", "by")
    assert code == Exit.INVALID
    assert "close: `bye`" in err


@pytest.mark.parametrize("form", ["tree", "mermaid", "html"])
def test_a_run_is_laid_over_every_format(form: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, f"{folder}/greet.json", "--run", str(run_file(tmp_path)), "--format", form, "-o", "-")
    assert (code, err) == (Exit.OK, "")
    assert "250 ms" in out
    assert "failed" in out


def test_a_recorded_run_is_found_by_its_id(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", f"{folder}/greet.json", "--param", "who=you", "--param", "times=2", "-q"]) == Exit.OK
    capsys.readouterr()
    code, out, err = said(capsys, f"{folder}/greet.json", "--run", "last")
    assert (code, err) == (Exit.OK, "")
    assert "outcome done" in out
    assert out.count("[done ") == 2


def test_a_run_alone_says_what_program_is_drawn(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph"]) == Exit.INVALID
    assert "no program is named" in capsys.readouterr().err
    assert main(["run", f"{folder}/greet.json", "--param", "who=you", "--param", "times=2", "-q"]) == Exit.OK
    capsys.readouterr()
    code, out, err = said(capsys, "--run", "last")
    assert (code, err) == (Exit.OK, "")
    assert "outcome done" in out
    assert out.count("[done ") == 2


def test_a_run_of_another_version_is_drawn_with_a_word_about_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = said(capsys, f"{folder}/greet.json", "--run", str(run_file(tmp_path, artifact="0" * 64)))
    assert code == Exit.OK
    assert "another version of the program (artifact 0000000000000000)" in err
    assert "note" not in out


@pytest.mark.parametrize("level", [0, 1])
def test_a_run_of_either_level_of_the_same_source_is_the_same_program(
    level: int, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = apxm.compile((folder / "greet.json").read_text(), level=level).digest
    assert said(capsys, f"{folder}/greet.json", "--run", str(run_file(tmp_path, artifact=digest)))[2] == ""


def test_a_run_of_another_flow_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(capsys, f"{folder}/greet.json", "--run", str(run_file(tmp_path, flow="other.flow")))
    assert code == Exit.INVALID
    assert "`other.flow`" in err
    assert "it has `default.greet`" in err


@pytest.mark.parametrize("spec", ["no-such-run", "no/such.jsonl", "nothing.jsonl"])
def test_a_run_that_is_not_there_is_refused(spec: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, f"{folder}/greet.json", "--run", spec)
    assert (code, out) == (Exit.INVALID, "")
    assert "error [record]" in err


def test_the_program_is_never_replaced_by_its_picture(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "greet.json"
    source.write_bytes((folder / "greet.json").read_bytes())
    assert said(capsys, str(source), "-o", str(source))[0] == Exit.INVALID
    assert source.read_bytes() == (folder / "greet.json").read_bytes()


def test_a_file_that_cannot_be_written_leaves_nothing_behind(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken.html").mkdir()
    code, _, err = said(capsys, f"{folder}/greet.json", "-o", "taken.html")
    assert code == Exit.INVALID
    assert "cannot write taken.html" in err
    assert [path.name for path in tmp_path.iterdir()] == ["taken.html"]


def test_json_says_where_the_picture_is_or_holds_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: dict[str, Any] = json.loads(said(capsys, f"{folder}/greet.json", "-o", "x.html", "--json")[1])
    assert told == {"file": "x.html", "format": "html", "flows": ["default.greet"], "notes": []}
    told = json.loads(said(capsys, f"{folder}/greet.json", "--json")[1])
    assert told["format"] == "tree"
    assert told["text"].startswith("flow default.greet")


def test_what_mermaid_does_not_draw_by_itself_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [{"id": id, "name": f"n{id}", "op": "WAIT_ALL"} for id in range(1, 41)]
    edges = [{"from": a, "to": b} for b in range(1, 41) for a in range(1, b)]
    (tmp_path / "dense.json").write_text(json.dumps({"name": "dense", "nodes": nodes, "edges": edges}))
    code, out, err = said(capsys, "dense.json", "--format", "mermaid")
    assert code == Exit.OK
    assert out.startswith("flowchart TD")
    assert "maxEdges 780" in err


def test_the_last_run_is_that_of_the_program_not_of_another(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("two.json").write_text(json.dumps(TWO_FLOWS))
    code, _, err = said(capsys, "two.json", "--run", "last")
    assert code == Exit.INVALID
    assert "no run of `bot.bye`, `bot.hello` of two.json is recorded" in err
    assert main(["run", "two.json", "hello", "-q"]) == Exit.OK
    assert main(["run", f"{folder}/greet.json", "--param", "who=you", "--param", "times=2", "-q"]) == Exit.OK
    capsys.readouterr()
    code, out, err = said(capsys, "two.json", "--run", "last")
    assert (code, err, out.count("[done ")) == (Exit.OK, "", 1)
    Path("two.json").write_text(json.dumps(TWO_FLOWS).replace('"message": "hello"', '"message": "good day"'))
    code, out, err = said(capsys, "two.json", "--run", "last")
    assert (code, out.count("[done ")) == (Exit.OK, 1)
    assert "another version of the program" in err


def test_a_page_knows_the_effects_of_the_built_in_tools(capsys: pytest.CaptureFixture[str]) -> None:
    tools = [{"id": id, "name": name, "op": "INV", "attributes": {"capability": name}} for id, name in ((1, "list"), (2, "mine"))]
    Path("tools.json").write_text(json.dumps({"name": "t", "nodes": tools, "edges": []}))
    out = said(capsys, "tools.json", "--format", "html", "-o", "-")[1]
    assert out.count('"effect":"read"') == 1
    assert out.count('"effect":"that of the capability"') == 1


def test_what_a_program_takes_by_id_is_named_by_inspect_too(capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [
        {"id": 1, "name": "a", "op": "CONST_STR", "attributes": {"value": "x"}},
        {"id": 2, "name": "say", "op": "PRINT", "attributes": {"message": "say {{node_1}}"}},
    ]
    Path("n.json").write_text(json.dumps({"name": "n", "nodes": nodes, "edges": []}))
    assert main(["inspect", "n.json"]) == Exit.OK
    (row,) = (row for row in capsys.readouterr().out.splitlines() if row.strip().startswith("say"))
    assert row.endswith("← a")
