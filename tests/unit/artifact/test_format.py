from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from apxm.artifact import Artifact
from apxm.artifact.format import BYTES_MAX, HEADER, MAGIC, VERSION, seal, unseal
from apxm.compiler.compile import compile
from apxm.errors import ArtifactError
from tests.unit.artifact.programs import RICH, SMALL


def test_the_header_is_64_bytes_and_says_what_follows():
    data = compile(SMALL).to_bytes()
    magic, major, minor, flags, length, digest, reserved = HEADER.unpack_from(data)
    assert (magic, (major, minor), flags, length, reserved) == (MAGIC, VERSION, 0, len(data) - 64, bytes(12))
    assert compile(SMALL).digest == digest.hex()


@pytest.mark.parametrize(
    ("offset", "value", "expected"),
    [
        (0, b"X", "not an artifact"),
        (4, b"\x02", "format 2.0"),
        (6, b"\x09", "format 1.9; this apxm reads up to 1.0"),
        (8, b"\x01", "flags"),
        (12, b"\x01\x00", "announces a payload"),
        (20, b"\x00\x00", "digest"),
        (63, b"\x01", "reserved"),
        (70, b"\xff", "digest"),
    ],
)
def test_a_wrong_header_is_refused_and_says_which_field(offset, value, expected):
    data = bytearray(compile(SMALL).to_bytes())
    data[offset : offset + len(value)] = value
    with pytest.raises(ArtifactError, match=expected):
        Artifact.from_bytes(bytes(data))


@pytest.mark.parametrize("length", [0, 3, 4, 63, 64, 65])
def test_a_file_cut_short_is_refused(length):
    with pytest.raises(ArtifactError):
        Artifact.from_bytes(compile(SMALL).to_bytes()[:length])


def test_bytes_over_the_cap_are_refused_before_anything_else_is_looked_at():
    with pytest.raises(ArtifactError, match="more than the 100 allowed") as caught:
        Artifact.from_bytes(compile(SMALL).to_bytes(), max_bytes=100)
    assert "max_bytes" in str(caught.value)


def test_a_huge_file_is_refused_without_being_read(tmp_path):
    path = tmp_path / "huge.apxm"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: reading it would take a terabyte of memory
    with pytest.raises(ArtifactError, match=r"huge\.apxm"):
        Artifact.load(path)


def test_a_large_artifact_loads_when_the_cap_is_raised():
    graph = SMALL | {
        "nodes": [{"id": i, "name": f"n{i}", "op": "CONST_STR", "attributes": {"value": f"{i}" * 4000}} for i in range(600)]
    }
    data = compile(graph, level=0).to_bytes()
    with pytest.raises(ArtifactError):
        Artifact.from_bytes(data, max_bytes=BYTES_MAX // 8)
    assert Artifact.from_bytes(data, max_bytes=len(data)).into_dag().node_count == 600


def test_the_size_that_is_allowed_bounds_the_number_of_values_too():
    data = compile(SMALL | {"metadata": {"many": [0] * 1_000}}).to_bytes()
    with pytest.raises(ArtifactError, match="values"):
        Artifact.from_bytes(data, max_bytes=len(data))
    assert Artifact.from_bytes(data, max_bytes=8 * len(data)).name == "small"


def test_saving_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "p.apxm"
    path.write_bytes(b"old")
    compile(SMALL).save(path)
    assert Artifact.load(path).name == "small"
    assert os.listdir(tmp_path) == ["p.apxm"]


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "p.apxm"
    path.write_bytes(b"old")

    def broken(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(ArtifactError, match="No space left"):
        compile(SMALL).save(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["p.apxm"]


@pytest.mark.parametrize("name", ["missing.apxm", ".", "no/folder.apxm"])
def test_a_path_that_cannot_be_read_is_an_artifact_error(tmp_path, name):
    with pytest.raises(ArtifactError, match="cannot read"):
        Artifact.load(tmp_path / name)


def test_writing_into_a_missing_folder_is_an_artifact_error(tmp_path):
    with pytest.raises(ArtifactError, match="cannot write"):
        compile(SMALL).save(tmp_path / "no" / "p.apxm")


def test_seal_and_unseal_are_inverse():
    assert unseal(seal(b"anything")) == b"anything"


def test_flows_are_found_by_agent_and_name_by_name_alone_or_as_the_entry():
    artifact = compile(RICH)
    assert list(artifact.flows()) == [("critic", "main"), ("writer", "finder"), ("writer", "main")]
    assert artifact.into_dag() is artifact.into_dag("writer.main")
    assert artifact.into_dag("finder") is artifact.into_dag("writer.finder")
    assert artifact.into_dag("critic.main").agent == "critic"


def test_a_flow_that_several_agents_have_must_be_named_with_its_agent():
    with pytest.raises(ArtifactError, match=r"`critic\.main`, `writer\.main`"):
        compile(RICH).into_dag("main")


def test_an_unknown_flow_is_refused_with_the_nearest_name():
    with pytest.raises(ArtifactError, match=r"close: `finder`"):
        compile(RICH).into_dag("findr")


def test_every_dag_and_region_knows_the_other_flows():
    artifact = Artifact.from_bytes(compile(RICH).to_bytes())
    main = artifact.into_dag()
    assert set(main.siblings) == set(artifact.flows())
    body = next(iter(main.regions.values()))["body"]
    assert body.siblings[("writer", "finder")] is artifact.into_dag("finder")
    assert body.agent == "writer"


def test_loading_leaves_the_cyclic_collector_as_it_was():
    data = compile(SMALL | {"metadata": {"x": "y" * 100_000}}).to_bytes()
    assert gc.isenabled()
    Artifact.from_bytes(data)
    assert gc.isenabled()
    gc.disable()
    try:
        Artifact.from_bytes(data)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_same_program_gives_the_same_bytes_in_every_process():
    code = (
        "import sys; from apxm.compiler.compile import compile; from tests.unit.artifact.programs import RICH;"
        "sys.stdout.write(compile(RICH).digest)"
    )
    digests = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.getcwd()}
        digests.add(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout)
    assert digests == {compile(RICH).digest.encode()}


def test_importing_the_artifact_room_stays_light():
    code = "import sys, apxm.artifact.decode, apxm.artifact.encode; print([m for m in ('numpy', 'networkx') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=os.getcwd())
    assert out.stdout.strip() == "[]"
