"""The faults of tools/break_it.py fit the code as it is, and every rule has one. Whether they are caught is its own run."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apxm.budget import Ledger, Reservation
from apxm.errors import CODES
from apxm.graph.ops import Rule
from tools.break_it import BROKEN, CAUGHT, HUNG, STALE, SURVIVED, Fault, Tree, copy_checkout, rooms, score, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {room.name: room for room in rooms()}
FAULTS = [fault for room in ROOMS.values() for fault in room.faults]


@cache
def text_of(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


@cache
def tree_of(file: str) -> ast.Module:
    return ast.parse(text_of(file))


@cache
def statements_of(file: str) -> tuple[tuple[str, str], ...]:
    """The statements at the top of a file, in order: their text, and what they mean."""
    return meanings(text_of(file), {})


def meanings(text: str, known: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The same of a text. The statements whose meaning is `known` by their text need no second look."""
    lines = text.splitlines()
    body = ast.parse(text).body
    firsts = [min(line.lineno for line in (node, *getattr(node, "decorator_list", ()))) for node in body]
    owns = ["\n".join(lines[first - 1 : node.end_lineno]) for first, node in zip(firsts, body, strict=True)]
    return tuple((own, known.get(own) or ast.dump(node)) for own, node in zip(owns, body, strict=True))


def lines_of(fault: Fault) -> range:
    """The lines of its file that a fault changes."""
    text = text_of(fault.file)
    first = text[: text.index(fault.old)].count("\n") + 1
    return range(first, first + fault.old.strip("\n").count("\n") + 1 + fault.old.startswith("\n"))


# ---- the list --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("room", ROOMS)
def test_every_fault_changes_what_the_code_does_in_one_place(room: str) -> None:
    for fault in ROOMS[room].faults:
        broken = fault.applied_to(text_of(fault.file))
        before = statements_of(fault.file)
        after = meanings(broken, dict(before))
        assert [meant for _, meant in after] != [meant for _, meant in before], fault.what


def test_no_two_faults_are_called_the_same() -> None:
    names = [(fault.room, fault.what) for fault in FAULTS]
    assert sorted(set(names)) == sorted(names)


def test_every_test_that_a_fault_names_exists(request: pytest.FixtureRequest) -> None:
    assert all(fault.tests for fault in FAULTS)
    known = {item.nodeid.partition("[")[0] for item in request.session.items}  # nearly all, where the whole suite runs
    if unknown := sorted({test for fault in FAULTS for test in fault.tests} - known):
        command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", *unknown]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout[-4000:]


# ---- every rule has a fault ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("room", sorted(set(ROOMS) - {"validation"}))
def test_every_rule_of_a_room_has_a_fault(room: str) -> None:
    assert set(ROOMS[room].rules) == {fault.rule for fault in ROOMS[room].faults}


def test_every_code_of_a_graph_problem_has_a_fault() -> None:
    assert {code for code in CODES if code.startswith("graph.")} == {fault.rule for fault in ROOMS["validation"].faults}


def test_every_firing_rule_has_a_fault() -> None:
    assert {rule.name.lower() for rule in Rule} <= {fault.rule for fault in ROOMS["firing"].faults}


def test_every_room_that_the_list_must_have_is_there() -> None:
    assert set(ROOMS) == {
        "agents",
        "asking",
        "budget",
        "coordination",
        "capabilities",
        "decoder",
        "embedders",
        "engine",
        "episodes",
        "firing",
        "ltm",
        "mcp",
        "memory",
        "messages",
        "newcomer",
        "plans",
        "privilege",
        "provenance",
        "sandbox",
        "scheduler",
        "validation",
        "web",
    }


def refusals(file: str, names: frozenset[str]) -> Iterator[range]:
    """The lines that lead to each statement that refuses something with a call of one of `names`, from the one before."""
    for function in ast.walk(tree_of(file)):
        if isinstance(function, ast.FunctionDef) and function.name not in names:
            first, found = function.lineno, sorted(_refusing(function, names))
            if not any(isinstance(node, ast.If | ast.For | ast.Try | ast.While) for node in ast.walk(function)):
                continue  # it only says what another function found
            for last in found:
                yield range(first, last + 1)
                first = last + 1


def _refusing(node: ast.AST, names: frozenset[str]) -> Iterator[int]:
    """The last lines of the statements below a node that call one of `names`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Expr, ast.Raise)) and names.intersection(called(child)):
            yield child.end_lineno or child.lineno
        elif not isinstance(child, ast.FunctionDef):
            yield from _refusing(child, names)


def called(node: ast.AST) -> Iterator[str]:
    """The names of what a statement calls."""
    for each in ast.walk(node):
        if isinstance(each, ast.Call):
            yield each.func.attr if isinstance(each.func, ast.Attribute) else getattr(each.func, "id", "")


CHECKS = {
    "decoder": (
        [f"apxm/artifact/{name}.py" for name in ("check", "columns", "decode", "format", "scan")],
        frozenset({"ArtifactError", "_fail", "_too_large"}),
    ),
    "validation": (
        [
            *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "apxm/graph/rules").glob("*.py")),
            *(f"apxm/graph/{name}.py" for name in ("canonical", "contract", "validate")),
        ],
        frozenset({"Problem", "problem", "_problem"}),
    ),
}


@pytest.mark.parametrize("room", CHECKS)
def test_every_check_has_a_fault_of_its_own(room: str) -> None:
    files, names = CHECKS[room]
    missing = []
    for file in files:
        changed = {line for fault in FAULTS if fault.file == file for line in lines_of(fault)}
        missing += [f"{file}:{lines.start}" for lines in refusals(file, names) if changed.isdisjoint(lines)]
    assert missing == []


@pytest.mark.parametrize("kind", [Ledger, Reservation])
def test_every_way_to_spend_has_a_fault(kind: type) -> None:
    changed = {line for fault in ROOMS["budget"].faults if fault.file == "apxm/budget.py" for line in lines_of(fault)}
    (body,) = [
        node for node in ast.walk(tree_of("apxm/budget.py")) if isinstance(node, ast.ClassDef) and node.name == kind.__name__
    ]
    methods = [node for node in body.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    spending = [node for node in methods if node.name not in ("spent", "reserved", "overrun")]  # these only report
    assert [node.name for node in spending if changed.isdisjoint(range(node.lineno, (node.end_lineno or 0) + 1))] == []


# ---- the script ------------------------------------------------------------------------------------------------------
CONFTEST = "def pytest_addoption(parser):\n    parser.addoption('--seed')\n"
CODE = "def largest(a, b):\n    return a if a > b else b\n"
TEST = """
from code_of_ours import largest

def test_the_largest_is_found():
    assert largest(1, 2) == 2

def test_the_first_may_be_the_largest():
    assert largest(2, 1) == 2
"""


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    for name, text in {"conftest.py": CONFTEST, "code_of_ours.py": CODE, "test_ours.py": TEST}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    made = Tree(tmp_path, seed=1)
    made.prepare()
    return made


def fault(old: str, new: str, *tests: str, by: str = "failure") -> Fault:
    return Fault("room", "rule", "words", "code_of_ours.py", old, new, tests or ("test_ours.py::test_the_largest_is_found",), by)


@pytest.mark.parametrize(
    ("one", "found"),
    [
        (fault("a > b", "a < b"), CAUGHT),
        (fault("a > b", "a >= b"), SURVIVED),
        (
            fault("a > b", "True", "test_ours.py::test_the_largest_is_found", "test_ours.py::test_the_first_may_be_the_largest"),
            SURVIVED,
        ),
        (fault("a ? b", "a < b"), STALE),
        (fault("a", "c"), STALE),
        (fault("a > b", "a >"), BROKEN),
        (fault("a > b", "a < b", "test_ours.py::test_that_is_gone"), BROKEN),
        (fault("return a", "while True: a"), HUNG),
        (fault("return a", "while True: a", by="timeout"), CAUGHT),
    ],
)
def test_a_verdict_says_what_the_tests_said(tree: Tree, one: Fault, found: str) -> None:
    assert verdict(one, tree, timeout_s=1 if one.new.startswith("while") else 60) == found
    assert (tree.folder / "code_of_ours.py").read_text(encoding="utf-8") == CODE


def test_the_score_is_by_room_and_in_total() -> None:
    good, bad = fault("a", "b"), Fault("another", "rule", "words", "f", "a", "b", ("t",))
    lines = score([(good, CAUGHT), (good, SURVIVED), (bad, CAUGHT)])
    assert [line.split() for line in lines] == [["another", "1/1"], ["room", "1/2"], ["total", "2/3"]]


def test_a_copy_has_what_git_knows_and_what_is_new(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    subprocess.run(["git", "init", "-q", str(source)], check=True)
    for name in (".gitignore", "known.py", "gone.py", "new.py", "ignored.py"):
        (source / name).write_text("ignored.py\n", encoding="utf-8")
    subprocess.run(["git", "-C", str(source), "add", "known.py", "gone.py"], check=True)
    (source / "gone.py").unlink()
    copy_checkout(source, tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == [".gitignore", "known.py", "new.py"]
