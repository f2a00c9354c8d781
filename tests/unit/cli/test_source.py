from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from apxm.cli import source
from apxm.errors import ArtifactError, GraphError, InvalidError
from apxm.graph.model import Graph

if TYPE_CHECKING:
    from pathlib import Path

HELLO = {"name": "hello", "nodes": [{"id": 1, "name": "say", "op": "CONST_STR", "attributes": {"value": "hi"}}], "edges": []}
GRAPH_PY = "from apxm.graph.model import Graph, Node\n"
ONE = GRAPH_PY + "hello = Graph('hello', [Node(1, 'say', 'CONST_STR', {'value': 'hi'})])\n"


def test_json_is_known_by_its_content_not_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "program.txt"
    file.write_text(" \n" + json.dumps(HELLO))
    program = source.load(str(file))
    assert program.kind == "json"
    assert isinstance(program.authored, Graph)
    assert program.authored.name == "hello"


def test_the_only_program_of_a_python_file_needs_no_name(tmp_path: Path) -> None:
    file = tmp_path / "only.py"
    file.write_text(ONE + "again = hello\n")
    program = source.load(str(file))
    assert isinstance(program.authored, Graph)
    assert program.authored.name == "hello"


def test_one_of_several_programs_is_chosen_by_name(tmp_path: Path) -> None:
    file = tmp_path / "several.py"
    file.write_text(ONE + "other = Graph('other', [Node(1, 'say', 'CONST_STR', {'value': 'ho'})])\n")
    chosen = source.load(f"{file}:other")
    assert isinstance(chosen.authored, Graph)
    assert chosen.authored.name == "other"
    with pytest.raises(InvalidError, match=r"2 programs; say which: .*several\.py:hello, .*several\.py:other"):
        source.load(str(file))
    with pytest.raises(InvalidError, match="named `othr`; did you mean `other`"):
        source.load(f"{file}:othr")


def test_a_python_file_is_run_once_and_may_import_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_once.py").write_text("WORD = 'hi'\n")
    file = tmp_path / "once.py"
    count = tmp_path / "count"
    file.write_text(f"import neighbour_of_once\nwith open({str(count)!r}, 'a') as f:\n    f.write('x')\n" + ONE)
    first = source.load(str(file))
    second = source.load(str(file))
    assert first.module is second.module
    assert count.read_text() == "x"


def test_a_python_file_named_like_a_library_does_not_replace_it(tmp_path: Path) -> None:
    file = tmp_path / "json.py"
    file.write_text(ONE)
    assert isinstance(source.load(str(file)).authored, Graph)
    import json as library

    assert library.loads("1") == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("raises.py", "x = 1\nraise RuntimeError('no luck')\n", r"raises\.py, line 2: RuntimeError: no luck"),
        ("syntax.py", "x = 1\ny = = 2\n", r"syntax\.py, line 2: SyntaxError: invalid syntax"),
        ("quits.py", "import sys\nsys.exit(0)\n", r"quits\.py, line 2: SystemExit"),
        ("empty.py", "x = 1\n", r"empty\.py holds no program; put a Graph"),
        ("none.dat", "", r"none\.dat is no program"),
        ("text.md", "# hello\n", r"text\.md is no program: it starts with b'# hello"),
    ],
)
def test_a_file_that_is_no_program_says_why(tmp_path: Path, name: str, content: str, said: str) -> None:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(InvalidError, match=said):
        source.load(str(file))


def test_broken_json_says_where(tmp_path: Path) -> None:
    file = tmp_path / "broken.json"
    file.write_text('{"name": "x",\n "nodes": [}')
    with pytest.raises(GraphError, match="line 2"):
        source.load(str(file))


def test_a_damaged_artifact_is_an_artifact_error(tmp_path: Path) -> None:
    file = tmp_path / "x.apxm"
    file.write_bytes(b"APXM" + bytes(100))
    with pytest.raises(ArtifactError):
        source.load(str(file))


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "hello.json").write_text("{}")
    with pytest.raises(InvalidError, match=r"no file .*helo\.json; did you mean `hello\.json`"):
        source.load(str(tmp_path / "helo.json"))
    with pytest.raises(InvalidError, match="is a folder"):
        source.load(str(tmp_path))
    with pytest.raises(InvalidError, match="no file"):
        source.load(str(tmp_path / "nowhere" / "x.json"))


def test_capabilities_come_from_a_file_or_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tools_of_mine.py"
    file.write_text(
        "from apxm.capability.record import CapabilityRecord\n"
        "def double(x: int) -> int:\n    return 2 * x\n"
        "CAPABILITIES = {'double': CapabilityRecord('Twice a number', double, effect='pure')}\n"
    )
    assert list(source.capabilities(str(file))) == ["double"]
    monkeypatch.syspath_prepend(str(tmp_path))
    assert list(source.capabilities("tools_of_mine")) == ["double"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "offers no capabilities; define CAPABILITIES"),
        ("CAPABILITIES = [1]\n", "is a list, expected"),
        ("CAPABILITIES = {'x': len}\n", r"CAPABILITIES\['x'\] .* expected a CapabilityRecord"),
        ("1 / 0\n", "line 1: ZeroDivisionError"),
    ],
)
def test_a_file_without_proper_capabilities_says_what_is_missing(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "poor.py"
    file.write_text(content)
    try:
        with pytest.raises(InvalidError, match=said):
            source.capabilities(str(file))
    finally:
        source.sys.modules.pop("poor", None)


def test_an_unknown_module_is_named() -> None:
    with pytest.raises(InvalidError, match="cannot import `no_such_module_here`"):
        source.capabilities("no_such_module_here")
