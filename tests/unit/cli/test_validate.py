"""What `apxm validate` says beyond the rules of graphs: capabilities that the program's own file does not have."""

from __future__ import annotations

import json

import pytest

from apxm.cli.main import main

FILE = """
from apxm import CapabilityRecord, flow, step

def count_words(text: str) -> int:
    return len(text.split())

CAPABILITIES = {"count_words": CapabilityRecord("Counts.", count_words, effect="pure")}

@flow
def counts(texts):
    numbers = step.map(texts, name="each")
    with numbers as text:
        step.yield_(step.inv("NAME", text=text, name="words"), name="number")
    return numbers
"""


@pytest.mark.parametrize(("name", "warnings"), [("count_words", 0), ("read", 0), ("coutn_words", 1)])
def test_a_capability_that_the_file_does_not_offer_is_a_warning(tmp_path, capsys, name, warnings):
    (tmp_path / "counts.py").write_text(FILE.replace("NAME", name))
    assert main(["validate", str(tmp_path / "counts.py"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["valid"]
    assert len(found["warnings"]) == warnings
    if warnings:
        assert found["warnings"][0]["nearest"] == "count_words"
        assert "`words`" in found["warnings"][0]["message"]


def test_a_file_that_offers_nothing_may_call_what_others_offer(tmp_path, capsys):
    (tmp_path / "calls.py").write_text("from apxm import flow, step\n\n@flow\ndef calls():\n    return step.inv('elsewhere')\n")
    assert main(["validate", str(tmp_path / "calls.py")]) == 0
    assert "warning" not in capsys.readouterr().out
