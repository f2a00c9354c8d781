"""The walk through the operation table: row, handler, conformance case, reference page, comparison. None may miss another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from apxm.executor.dispatch import COMPILED_AWAY, binders
from apxm.graph.ops import OPERATIONS
from tests.conformance.test_cases import cases, nodes

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference" / "operations.md"
COMPARED = ROOT / "docs" / "explain" / "compared-with-the-reference.md"


def sections() -> dict[str, str]:
    """Operation -> what the reference page says of it."""
    parts = re.split(r"^### ([A-Z_]+)$", REFERENCE.read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def compared() -> dict[str, list[str]]:
    """Operation -> the four cells of its line in the comparison."""
    lines = COMPARED.read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| [A-Z_]+ \|", line)]
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0]: row for row in rows}


def test_handlers_and_rows_are_of_the_same_operations() -> None:
    assert {*binders(), *COMPILED_AWAY} == set(OPERATIONS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_row_has_a_case_a_section_and_a_comparison(name: str) -> None:
    row = OPERATIONS[name]
    section = sections()[name]
    for attribute in row.attributes:
        assert f"`{attribute.name}`" in section, f"{name}.{attribute.name} is not on the reference page"
    assert "no handler" not in section
    cells = compared()[name]
    assert len(cells) == 4
    assert all(cells)
    shown = re.findall(r"`([a-z0-9-]+)`", cells[3])
    assert shown, f"{name} is compared without a case"
    for case in shown:
        assert case in cases(), f"{name} is shown by `{case}`, which is no case"
        found = {node["op"] for node in nodes(cases()[case]["program"])}
        assert name in found, f"the case `{case}` has no {name}"


def test_the_comparison_and_the_reference_page_know_no_other_operations() -> None:
    assert set(compared()) == set(OPERATIONS)
    assert set(sections()) == set(OPERATIONS)
