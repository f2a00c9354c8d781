"""Collects the corpus of hostile artifacts: together its inputs take every step of the code that any known input takes.

    python -m tests.property.hostile_corpus --seed 1 --count 30000 [FOLDER ...]

Judges what is in `artifacts/corpus` and in the folders (files of a fuzzer: artifacts, or payloads without header), then
mutants, and keeps a few files that take all the steps. Mutants of mutants that took a new step were tried, and a fuzzer
guided by coverage: they find no more than plain mutants do in a fraction of the time (see artifacts/corpus/README.md).
"""

from __future__ import annotations

import argparse
import sys
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apxm.artifact.format import MAGIC, seal
from tests.property.hostile_bytes import World, judge
from tests.property.mutants import Mutator

if TYPE_CHECKING:
    from types import FrameType

FOLDER = Path(__file__).resolve().parents[2] / "artifacts" / "corpus"
FILE_BYTES_MAX = 16_384
TRACED = ("/apxm/artifact/", "/apxm/engine/binding.py", "/apxm/executor/", "/apxm/scheduler/plan.py")

Step = tuple[str, int, int, int]  # file, first line of the function, the line before, the line


class Steps:
    """The steps from line to line that a call takes within the traced files."""

    def __init__(self) -> None:
        self.taken: set[Step] = set()
        self._files: dict[str, str | None] = {}

    def of(self, data: bytes, world: World) -> set[Step]:
        self.taken = set()
        sys.settrace(self._enter)
        try:
            judge(data, world, thorough=False)
        finally:
            sys.settrace(None)
        return self.taken

    def _enter(self, frame: FrameType, event: str, arg: Any) -> Any:
        file = frame.f_code.co_filename
        if file not in self._files:
            self._files[file] = file if any(part in file for part in TRACED) else None
        if self._files[file] is None:
            return None
        first, before, taken = frame.f_code.co_firstlineno, -1, self.taken

        def step(frame: FrameType, event: str, arg: Any) -> Any:
            nonlocal before
            if event == "line":
                taken.add((file, first, before, frame.f_lineno))
                before = frame.f_lineno
            return step

        return step


def collect(seed: int, count: int, folders: list[Path]) -> None:
    mutator, world, steps = Mutator(seed), World(), Steps()
    for _ in range(2):
        judge(mutator.mutant(0)[0], world)  # what is imported, and what is kept for the next time
    seen: set[Step] = set()
    kept: list[tuple[bytes, set[Step]]] = []

    def look(data: bytes) -> None:
        taken = steps.of(data, world) if len(data) <= FILE_BYTES_MAX else set()
        if taken - seen:
            seen.update(taken)
            kept.append((data, taken))

    files = [*FOLDER.glob("*.bin"), *(path for folder in folders for path in folder.glob("*"))]
    given = [path.read_bytes() for path in sorted(files)]
    for data in sorted(given, key=len):
        look(data if data.startswith(MAGIC) else seal(data))
    print(f"{len(given)} files: {len(seen)} steps, {len(kept)} files are enough")
    for number in range(count):
        look(mutator.mutant(number)[0])
        if number + 1 in (1_000, 10_000, count):
            print(f"{number + 1} mutants: {len(seen)} steps, {len(kept)} files", flush=True)
    _write(_smallest(kept))


def _smallest(kept: list[tuple[bytes, set[Step]]]) -> list[bytes]:
    """A few of the files that take all the steps: those that take most of what is left, smaller ones first."""
    left = set().union(*(taken for _, taken in kept))
    chosen = []
    while left:
        data, taken = max(kept, key=lambda one: (len(one[1] & left), -len(one[0])))
        chosen.append(data)
        left -= taken
    return chosen


def _write(chosen: list[bytes]) -> None:
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.bin"):
        path.unlink()
    for data in chosen:
        (FOLDER / f"{blake2b(data, digest_size=8).hexdigest()}.bin").write_bytes(data)
    print(f"{len(chosen)} files, {sum(map(len, chosen))} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("folders", type=Path, nargs="*")
    options = parser.parse_args()
    collect(options.seed, options.count, options.folders)
