"""Artifacts of every format version that was ever written stay readable: they are kept in `artifacts/golden`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apxm.artifact import Artifact
from apxm.artifact.encode import encode
from apxm.artifact.format import HEADER, unseal
from apxm.compiler.compile import compile
from apxm.graph.ops import BY_CODE

GOLDEN = Path(__file__).parents[3] / "artifacts" / "golden"
FILES = sorted(GOLDEN.glob("v*.apxm"))


def test_there_is_a_golden_file_of_the_current_version():
    assert [path.stem for path in FILES] == ["v1.0"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_file_loads_and_is_what_its_source_says(path):
    artifact = Artifact.load(path)
    assert f"v{'.'.join(map(str, HEADER.unpack_from(path.read_bytes())[1:3]))}" == path.stem
    source = compile(json.loads(path.with_suffix(".json").read_text()))
    assert list(artifact.flows()) == list(source.flows())
    for key, dag in artifact.flows().items():
        other = source.flows()[key]
        assert [BY_CODE[code] for code in dag.ops] == [BY_CODE[code] for code in other.ops]
        assert list(dag.names) == list(other.names)
        assert [list(dag.in_edges(slot)) for slot in range(len(dag))] == [
            list(other.in_edges(slot)) for slot in range(len(other))
        ]
        assert dag.attributes == other.attributes


def test_the_current_version_is_still_written_byte_by_byte():
    data = (GOLDEN / "v1.0.apxm").read_bytes()
    assert encode(Artifact.from_bytes(data)) == unseal(data)


def test_the_digest_of_the_golden_file_never_changes():
    assert Artifact.load(GOLDEN / "v1.0.apxm").digest == "8a193f5fc97ed3b704ce734c1da9531416e43915fe1c7eb84b919e7a8b4248e3"
