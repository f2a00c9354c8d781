"""W13: how long a person waits for the first result: whole processes, cold but for the file cache."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


def seconds(*command: str, folder: Path) -> float:
    """Wall time of a process that must succeed."""
    alone = {"XDG_STATE_HOME": str(folder / "state"), "XDG_CONFIG_HOME": str(folder / "config")}
    began = perf_counter()
    subprocess.run(command, cwd=folder, env={**os.environ, **alone}, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return perf_counter() - began


def test_the_first_result_comes_soon(notes: Notes, tmp_path: Path) -> None:
    apxm = [sys.executable, "-m", "apxm"]
    (tmp_path / "small.json").write_text(json.dumps(SMALL))
    seconds(*apxm, "compile", "small.json", "-o", "small.apxm", folder=tmp_path)
    run = [*apxm, "run", "small.apxm", "--param", "text=A dead token says that this path was not taken."]
    measured: dict[str, list[float]] = {"import apxm": [], "apxm --help": [], "apxm run": [], "python -c pass": []}
    for _ in range(ROUNDS):
        done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
        measured["import apxm"].append(float(done.stdout))
        measured["apxm --help"].append(seconds(*apxm, "--help", folder=tmp_path))
        measured["apxm run"].append(seconds(*run, folder=tmp_path))
        measured["python -c pass"].append(seconds(sys.executable, "-c", "pass", folder=tmp_path))
    for name, limit_ms in (("import apxm", 100), ("apxm --help", 150), ("apxm run", 350)):
        took_ms = statistics.median(measured[name]) * 1e3
        notes.note("W13", name, 1, ROUNDS, f"{took_ms:.0f} ms", f"≤ {limit_ms} ms", took_ms <= limit_ms)
    notes.note("W13", "python -c pass", 1, ROUNDS, f"{statistics.median(measured['python -c pass']) * 1e3:.0f} ms")
