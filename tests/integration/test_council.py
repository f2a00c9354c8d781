"""The second demo: what the reviewers find, what the coordinator does with it, and what happens when one cannot work."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from shutil import copytree
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest

from apxm import Artifact, CapabilityRecord, RunOptions, Runtime, ScriptedModel

if TYPE_CHECKING:
    from types import ModuleType

HOME = Path(__file__).resolve().parents[2] / "artifacts" / "council"
SAMPLE = HOME / "sample"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"council_{name}", HOME / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


council, tools = _load("council"), _load("tools")
GRANTS = [f"{name}={SAMPLE}" for name in tools.CAPABILITIES]


@pytest.fixture(autouse=True)
def nothing_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def review(grants: list[str] = GRANTS, model: Any = None, **options: Any) -> Any:
    with Runtime(model=model) as runtime:
        for name, record in {**council.CAPABILITIES, **tools.CAPABILITIES}.items():
            runtime.capability_system().register(name, record)
        dag = Artifact.load(HOME / "council.apxm").into_dag()
        return runtime.execute(dag, folder=".", tests="tests", run=RunOptions(grants=grants, **options))


def test_the_report_on_the_sample_is_the_one_that_stands_beside_it() -> None:
    assert review().value == (HOME / "expected.md").read_text(encoding="utf-8")


def test_every_planted_mistake_is_found() -> None:
    found = {
        (one["rule"], one["path"])
        for tool in (tools.lint, tools.complexity, tools.search, tools.untested)
        for one in tool(".", roots=(str(SAMPLE),))
    }
    assert found == {
        ("B006", "shop/cart.py"),
        ("S307", "shop/discounts.py"),
        ("S110", "shop/discounts.py"),
        ("S105", "shop/mail.py"),
        ("complexity", "shop/cart.py"),
        ("secret", "shop/mail.py"),
        ("unfinished", "shop/mail.py"),
        ("untested", "shop/discounts.py"),
        ("untested", "shop/mail.py"),
    }


def test_the_reviewers_work_at_the_same_time() -> None:
    meeting = Barrier(4, timeout=20)  # of the four tools: nobody goes on before all are there

    def tool(folder: str = ".", tests: str = "tests", *, roots: tuple[str, ...]) -> list[Any]:
        meeting.wait()
        return []

    with Runtime() as runtime:
        for name, record in council.CAPABILITIES.items():
            runtime.capability_system().register(name, record)
        for name, record in tools.CAPABILITIES.items():
            waits = CapabilityRecord("Waits.", tool, effect="read", rooted=True)
            runtime.capability_system().register(name, record if name == "quote" else waits)
        dag = Artifact.load(HOME / "council.apxm").into_dag()
        report = runtime.execute(dag, folder=".", tests="tests", run=RunOptions(grants=GRANTS)).value
    assert "could not work" not in report


def test_the_report_says_once_what_kind_of_model_looked_and_has_no_heading_without_entries() -> None:
    assert review().value.count("Compared by words alone, by a model that does not reason.") == 1
    nothing = council.compose_report("empty", [council.as_review("linter", [], "")], [], "", council.changes(None, {}))
    assert "0 looked at again" in nothing
    assert "## Looked at again" not in nothing


def test_a_verdict_of_the_model_stands_in_the_report() -> None:
    no = {"reasoning": "It is meant so.", "verdict": "refuted", "confidence": 0.7}
    yes = {"reasoning": "The lines show it.", "verdict": "confirmed", "confidence": 1.0}
    model = ScriptedModel(
        rules=[("first, the most harmful", "Mend the cart. [shop/cart.py:7]"), ("mutable data structures", no), ("verdict", yes)],
        default="Some findings.",
    )
    report = review(model=model).value
    assert "**`shop/cart.py:7`** high, REFUTED (0.70): Do not use mutable data structures" in report
    assert "## What to do first\n\nMend the cart. [shop/cart.py:7]" in report
    assert report.count("\n\nIt is meant so.\n\n") == 1
    assert report.count("\n\nThe lines show it.\n\n") == 7
    asked = next(call.text for call in model.calls if "most harmful" in call.text)
    assert "mutable data structures" not in asked


def test_a_second_review_asks_nothing_again_that_is_settled_and_says_what_changed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    copytree(SAMPLE, tree)
    grants = [f"{name}={tree}" for name in tools.CAPABILITIES]
    yes = {"reasoning": "The lines show it.", "verdict": "confirmed", "confidence": 1.0}
    model = ScriptedModel(rules=[("verdict", yes)], default="Some findings.")

    def asked() -> int:
        return sum("Does the claim follow" in call.text for call in model.calls)

    assert "Since the last review" not in review(grants, model).value
    assert asked() == 8
    again = review(grants, model)
    assert "Since the last review of this tree: 0 new, 0 gone." in again.value
    assert asked() == 8
    assert again.stats.usage["model"]["scripted"]["llm_calls"] == 1  # the advice
    mail = tree / "shop" / "mail.py"
    mail.write_text(mail.read_text(encoding="utf-8").replace("correct-horse-9", ""), encoding="utf-8")
    report = review(grants, model).value
    assert "## Gone\n\n- shop/mail.py: Possible hardcoded password" in report


def test_what_a_reviewer_who_could_not_work_would_have_found_is_not_gone() -> None:
    now = council.findings_to_keep([council.absent("linter", {"message": "no ruff"}), council.as_review("tester", [], "")])
    assert council.changes({"linter": ["a"], "tester": ["b"]}, now) == {"first": False, "new": [], "gone": ["b"]}


@pytest.mark.parametrize("name", ["nowhere", "../.."])
def test_a_reviewer_who_cannot_work_is_named_and_the_others_go_on(name: str) -> None:
    with Runtime() as runtime:
        for one, record in {**council.CAPABILITIES, **tools.CAPABILITIES}.items():
            runtime.capability_system().register(one, record)
        dag = Artifact.load(HOME / "council.apxm").into_dag()
        result = runtime.execute(dag, folder="shop", tests=name, run=RunOptions(grants=GRANTS))
    assert "| tester | could not work: " in result.value
    assert "| linter | 4 | 0 | 0 |" in result.value
    assert result.stats.failed == 2  # the tool, and with it the flow that called it
