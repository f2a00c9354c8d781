"""W13: how long a person waits for the first result: whole processes, cold but for the file cache.

The bytecode of every module is there, as after an install, in a folder of the bench's own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from benches.conftest import Notes

ROUNDS = 15
SMALL = {
    "name": "small",
    "parameters": [{"name": "text", "type_name": "str"}],
    "nodes": [
        {"id": 1, "name": "ask", "op": "ASK", "attributes": {"prompt": "Context 1: {text}\n\nQuestion: What is dead?"}},
        {"id": 2, "name": "say", "op": "PRINT", "attributes": {"message": "{0}"}},
    ],
    "edges": [{"from": 1, "to": 2}],
}
IMPORT = "from time import perf_counter; began = perf_counter(); import apxm; print(perf_counter() - began)"


def ended(*command: str, folder: Path) -> tuple[str, float]:
    """What a process that must succeed printed, and its wall time."""
    homes = {name: str(folder / name) for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "PYTHONPYCACHEPREFIX")}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | homes
    began = perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return done.stdout.decode(), perf_counter() - began


def test_the_first_result_comes_soon(notes: Notes, tmp_path: Path) -> None:
    apxm = [sys.executable, "-m", "apxm"]
    (tmp_path / "small.json").write_text(json.dumps(SMALL))
    ended(*apxm, "compile", "small.json", "-o", "small.apxm", folder=tmp_path)
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "apxm --help": [*apxm, "--help"],
        "apxm run": [*apxm, "run", "small.apxm", "--param", "text=A dead token says that this path was not taken."],
    }
    measured: dict[str, list[float]] = {name: [] for name in ("import apxm", *commands)}
    for turn in range(ROUNDS + 1):
        took = {name: ended(*command, folder=tmp_path)[1] for name, command in commands.items()}
        took["import apxm"] = float(ended(sys.executable, "-c", IMPORT, folder=tmp_path)[0])
        for name in measured if turn else ():  # the first turn writes the bytecode
            measured[name].append(took[name])
    for name, limit_ms in (("import apxm", 100), ("apxm --help", 150), ("apxm run", 350)):
        took_ms = statistics.median(measured[name]) * 1e3
        notes.note("W13", name, 1, ROUNDS, f"{took_ms:.0f} ms", f"≤ {limit_ms} ms", took_ms <= limit_ms)
    notes.note("W13", "python -c pass", 1, ROUNDS, f"{statistics.median(measured['python -c pass']) * 1e3:.0f} ms")
