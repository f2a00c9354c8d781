"""The tools `bash` and `python` as capabilities: their grants, arguments and values; limits as data."""

from __future__ import annotations

import asyncio

import pytest

from apxm.capability.grants import Grants
from apxm.capability.isolation.cell import RANGES, Limits
from apxm.capability.isolation.sandbox import absence
from apxm.capability.system import CapabilitySystem, granted
from apxm.errors import CapabilityError, DeniedError, InvalidError

ABSENT = absence()
isolated = pytest.mark.skipif(ABSENT is not None, reason=f"no sandbox on this machine: {ABSENT}")


@pytest.fixture
def system():
    one = CapabilitySystem()
    yield one
    one.close()


def call(system: CapabilitySystem, name: str, arguments: dict[str, object], *grants: str):
    return asyncio.run(system.invoke(name, arguments, grants=Grants.parse(grants)))


@pytest.mark.parametrize("name", ["bash", "python"])
def test_neither_runs_without_a_grant(system, name):
    with pytest.raises(DeniedError):
        granted(system.get(name), Grants())
    assert granted(system.get(name), Grants.parse([name])).name == name
    assert system.describe(name)["effect"] == "guarded"


@isolated
def test_a_command_is_a_list_or_text_for_the_shell(system):
    assert call(system, "bash", {"command": ["echo", "$HOME", "a  b"]}, "bash")["stdout"] == "$HOME a  b\n"
    said = call(system, "bash", {"command": "read x; echo $x-$HOME >&2; false", "stdin": "in"}, "bash")
    assert said == {"exit_code": 1, "stdout": "", "stderr": "in-/scratch\n", "truncated": False}


@isolated
def test_a_command_runs_in_the_directory_that_it_names(system, tmp_path):
    for each in (tmp_path, *list(tmp_path.parents)[:2]):
        each.chmod(0o755)
    assert call(system, "bash", {"command": "pwd", "cwd": "sub/x"}, "bash")["stdout"] == "/scratch/sub/x\n"
    assert call(system, "bash", {"command": "pwd", "cwd": str(tmp_path)}, f"bash={tmp_path}")["stdout"] == f"{tmp_path}\n"


@pytest.mark.parametrize("cwd", ["..", "/", "/usr", "../tmp", "/scratch/../usr", "/scratchy", "x\0y"])
def test_a_command_has_no_business_elsewhere(system, cwd):
    with pytest.raises(InvalidError, match="no place for a command"):
        call(system, "bash", {"command": "pwd", "cwd": cwd}, "bash")


@isolated
def test_a_command_that_does_not_end_is_ended_by_the_time_of_its_call(system):
    with pytest.raises(Exception, match="did not answer within"):
        asyncio.run(system.invoke("bash", {"command": "sleep 60"}, grants=Grants.parse(["bash"]), timeout_ms=100))


@isolated
def test_python_gives_its_result_beside_what_it_printed(system):
    said = call(system, "python", {"code": "print('x')\nresult = inputs['n'] + 1", "inputs": {"n": 1}}, "python")
    assert said == {"result": 2, "stdout": "x\n", "stderr": "", "truncated": False}
    with pytest.raises(CapabilityError, match="the code of `python` raised NameError in line 1"):
        call(system, "python", {"code": "nothing"}, "python")


@pytest.mark.parametrize("name", RANGES)
def test_a_limit_beyond_its_range_is_refused(name):
    least, most = RANGES[name]
    assert getattr(Limits(**{name: most}), name) == most
    for value in (least - 1, most + 1, float(least), True, None):
        with pytest.raises(InvalidError, match=name):
            Limits(**{name: value})
