"""What `import apxm` costs: nothing heavy may come with it, nor with the command line before a command needs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"numpy", "networkx", "structlog", "ray", "chromadb", "torch", "httpx", "jsonschema_rs", "re2", "asyncio"}


def modules_after(code: str) -> set[str]:
    """The top-level modules of a fresh interpreter that ran `code`."""
    probe = f"{code}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


def test_importing_apxm_loads_nothing_heavy() -> None:
    assert modules_after("import apxm") & HEAVY == set()


def test_the_probe_sees_a_heavy_module_when_there_is_one() -> None:
    assert modules_after("import apxm, numpy") & HEAVY >= {"numpy"}


def test_importing_apxm_loads_no_room_of_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, apxm; print(*[m for m in sys.modules if m.startswith('apxm.')])"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", ["RuntimeConfig", "ApxmError", "Graph", "Limits", "ExecutionDag"])
def test_plain_names_load_nothing_heavy(name: str) -> None:
    assert modules_after(f"from apxm import {name}") & HEAVY == set()


def test_the_command_line_loads_nothing_heavy_before_a_command_needs_it() -> None:
    assert modules_after("import apxm.cli.main") & (HEAVY | {"rich", "pydantic", "msgpack"}) == set()
