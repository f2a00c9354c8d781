from __future__ import annotations

import json

import pytest

from apxm.cli.exits import Exit
from apxm.cli.main import main
from apxm.graph.ops import OPERATIONS


def test_the_list_has_every_operation_on_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ops", "list"]) == Exit.OK
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(OPERATIONS)


def test_the_list_can_be_cut_to_a_category(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ops", "list", "--category", "synchronization", "--json"]) == Exit.OK
    said = json.loads(capsys.readouterr().out)
    assert {row["category"] for row in said} == {"synchronization"}
    assert main(["ops", "list", "--category", "sync"]) == Exit.INVALID
    assert "there is no category `sync`" in capsys.readouterr().err


@pytest.mark.parametrize("name", OPERATIONS)
def test_show_names_every_attribute_of_an_operation(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ops", "show", name.lower()]) == Exit.OK
    out = capsys.readouterr().out
    assert out.startswith(f"{name}  (")
    listed = {line.split()[0] for line in out.partition("\nattributes\n")[2].splitlines() if line[2:3] != " "}
    assert listed == {attribute.name for attribute in OPERATIONS[name].attributes}


def test_show_as_json_says_the_same_as_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ops", "show", "MERGE", "--json"]) == Exit.OK
    said = json.loads(capsys.readouterr().out)
    assert (said["name"], said["rule"]) == ("MERGE", "COLLECT")
    assert said["attributes"][0]["choices"][0] == "array"


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("SWITCH", 'x = step.switch(*inputs, ...); with x.case("a") as value: ... with x.default() as value:'),
        ("TRY_CATCH", "x = step.try_(*inputs, ...); with x.try_: ... with x.catch as error: ... with x.finally_: ..."),
        ("LOOP", "x = step.loop(*inputs, max_iterations=..., ...); with x as body:"),
        ("CONST_STR", "x = step.const_str(value, ...)"),
        ("YIELD", "x = step.yield_(value, ...)"),
        ("GUARD", "x = step.guard(*inputs, condition=..., ...)"),
    ],
)
def test_show_says_how_python_writes_an_operation(name: str, spelling: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ops", "show", name]) == Exit.OK
    assert f"  in Python  {spelling}" in capsys.readouterr().out
    assert main(["ops", "show", name, "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["python"].startswith(spelling)


def test_an_unknown_operation_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ops", "show", "MERG"]) == Exit.INVALID
    assert "did you mean `MERGE`" in capsys.readouterr().err
    assert main(["ops", "show", "MERG", "--json"]) == Exit.INVALID
    assert json.loads(capsys.readouterr().out)["error"]["hint"] == "did you mean `MERGE`?"
