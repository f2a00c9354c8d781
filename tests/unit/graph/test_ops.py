import re
import subprocess
import sys
from pathlib import Path

import pytest

from apxm.graph.ops import ATTRIBUTE_TYPES, BY_CODE, COMMON_ATTRIBUTES, OPERATIONS, Rule, attribute_of, firing_rule

CODES = """
CONST_STR PRINT MERGE WAIT_ALL FENCE BRANCH_ON_VALUE SWITCH GUARD LOOP LOOP_START LOOP_END MAP
JUMP RETURN YIELD TRY_CATCH ERR EXC INV QMEM UMEM UPDATE_GOAL AGENT ASK
THINK REASON PLAN REFLECT VERIFY COMMUNICATE FLOW_CALL CLAIM PAUSE RESUME
""".split()  # noqa: SIM905 - one per line says nothing more


def test_the_codes_of_the_operations_never_change():
    assert [row.name for row in BY_CODE[1:]] == CODES
    assert BY_CODE[0] is None
    assert [OPERATIONS[name].code for name in CODES] == list(range(1, 35))


@pytest.mark.parametrize("row", OPERATIONS.values(), ids=OPERATIONS)
def test_a_row_is_complete_and_consistent(row):
    assert len(row.doc) > 60
    assert row.doc.endswith(".")
    spellings = [name for attribute in row.attributes for name in (attribute.name, *attribute.aliases)]
    assert len(set(spellings)) == len(spellings)
    for attribute in row.attributes:
        assert attribute.type in ATTRIBUTE_TYPES
        assert attribute.doc
        if attribute.choices and attribute.default is not None:
            assert attribute.default in attribute.choices
        for spelling in (attribute.name, *attribute.aliases):
            assert attribute_of(row, spelling) is attribute
    for group in row.needs:
        for item in group:
            assert item == "input" or item.startswith("<") or attribute_of(row, item) is not None
    assert row.inputs_max is None or row.inputs_min <= row.inputs_max


def test_common_attributes_belong_to_every_row_unless_it_has_its_own():
    fallback = COMMON_ATTRIBUTES[0]
    assert all(attribute_of(row, "fallback") is fallback for row in OPERATIONS.values())
    assert attribute_of(OPERATIONS["PAUSE"], "timeout_ms").least == 0
    assert attribute_of(OPERATIONS["ASK"], "timeout_ms").least == 1


def test_a_pattern_matches_longer_names_only():
    inv = OPERATIONS["INV"]
    assert attribute_of(inv, "arg_path").name == "arg_*"
    assert attribute_of(inv, "arg_") is None
    assert attribute_of(inv, "argument") is None


def test_the_mode_of_a_merge_decides_how_it_fires():
    assert firing_rule("MERGE", {"mode": "any"}) is Rule.ANY
    assert firing_rule("MERGE", {"mode": "first_success"}) is Rule.ANY
    assert firing_rule("MERGE", {"mode": "race"}) is Rule.RACE
    assert firing_rule("MERGE", {"mode": "sum"}) is Rule.COLLECT
    assert firing_rule("MERGE", {}) is Rule.COLLECT
    assert firing_rule("WAIT_ALL", {}) is Rule.COLLECT
    assert firing_rule("ASK", {"mode": "any"}) is Rule.ALL


def test_importing_the_table_loads_nothing_heavy():
    heavy = "numpy networkx structlog ray chromadb torch httpx rich jsonschema_rs re2"
    program = f"import sys, apxm.graph.validate, apxm.graph.flow; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_typed_methods_are_those_of_the_table(monkeypatch):
    root = Path(__file__).resolve().parents[3]
    monkeypatch.syspath_prepend(str(root / "tools"))
    import make_steps

    for path, text in make_steps.sources().items():
        assert path.read_text() == text, f"{path.name} is stale: run tools/make_steps.py"
    written = "".join(make_steps.sources().values())
    assert len(re.findall(r"^    def \w+\(", written, re.MULTILINE)) == len(OPERATIONS)
