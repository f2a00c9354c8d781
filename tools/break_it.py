"""Breaks a copy of the code on purpose, one rule at a time, and counts what the tests notice. Never touches the checkout.

A fault (tools/faults/*.toml) is a mistake that a programmer could make: the rule that it breaks, one change of the text,
and the tests that must fail. A fault that survives is a missing test; one whose text is gone has to be written again.

    python tools/break_it.py                 every fault; 0 when all are caught
    python tools/break_it.py -k lease        those with `lease` in their room, rule or words
    python tools/break_it.py --list          what there is, and nothing runs
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
FAULTS = Path(__file__).resolve().parent / "faults"
TIMEOUT_S, HANG_S = 120, 30  # for the tests of one fault, which take a second or two; and of one that has to hang
MEMORY_BYTES = 8 << 30  # a fault may ask for all there is
CAUGHT, SURVIVED, STALE, BROKEN, HUNG = "caught", "SURVIVED", "STALE", "BROKEN", "HUNG"
MEANING = {
    SURVIVED: "every test passed, or one of those named did: write the test that is missing",
    STALE: "the old text is not there exactly once: write the fault again",
    BROKEN: "the tests could not run at all: the change does not import, or a test is gone",
    HUNG: f"no answer within {TIMEOUT_S} s, and the fault does not say `by = 'timeout'`",
}


@dataclass(frozen=True)
class Fault:
    """One mistake. `what` says what the broken code does; every one of `tests` has to fail, or to hang with `by` timeout."""

    room: str
    rule: str
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    by: str = "failure"

    def __post_init__(self) -> None:
        if not self.tests or self.by not in ("failure", "timeout"):
            raise ValueError(f"{self.room}/{self.rule}: {self.what}: no test is named, or `by` is neither failure nor timeout")

    def applied_to(self, text: str) -> str:
        """The broken text; ValueError when `old` does not stand in it exactly once."""
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{self.file}: the old text stands there {count} times")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Room:
    """The faults of one part of the code; `rules` says in words what each id in `rule` stands for."""

    name: str
    rules: dict[str, str]
    faults: tuple[Fault, ...]


def rooms(folder: Path = FAULTS) -> list[Room]:
    """Every room, by name. Its faults stand in ROOM.toml, or in several files ROOM-PART.toml."""
    found: dict[str, tuple[dict[str, str], list[Fault]]] = {}
    for path in sorted(folder.glob("*.toml")):
        name = path.stem.partition("-")[0]
        rules, faults = found.setdefault(name, ({}, []))
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        rules |= data.get("rules", {})
        faults += [Fault(room=name, **{**each, "tests": tuple(each["tests"])}) for each in data["fault"]]
    return [Room(name, rules, tuple(faults)) for name, (rules, faults) in sorted(found.items())]


# ---- copies ----------------------------------------------------------------------------------------------------------
def copy_checkout(source: Path, target: Path) -> None:
    """Copy what git knows or would add, as it is now."""
    command = ["git", "-C", str(source), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (source / name).is_file():  # not one that was deleted
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)


class Tree:
    """A copy of the checkout in which faults are tried, one after the other."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self._environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONHASHSEED": "0", "COLUMNS": "400"}

    def prepare(self) -> None:
        """Compile once. A file that a fault changes differs from what was compiled and is compiled anew, whatever its time."""
        command = ["-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "."]
        subprocess.run([sys.executable, *command], cwd=self.folder, check=True, env=self._environment)

    def imported(self) -> Path:
        """The folder that `apxm` comes from in here."""
        command = [sys.executable, "-P", "-c", "import apxm; print(apxm.__file__)"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True, env=self._environment)
        return Path(done.stdout.strip()).resolve().parent.parent

    def run(self, tests: Sequence[str], timeout_s: float, keep: bool = False) -> tuple[int | None, list[str]]:
        """pytest's exit status, None when the time was up, and its lines. With `keep` what it compiles is kept."""
        options = ["-q", "--tb=no", "-p", "no:cacheprovider", f"--seed={self.seed}", f"--hypothesis-seed={self.seed}"]
        environment = self._environment if keep else {**self._environment, "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pytest", *options, *tests],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            env=environment,
        )
        late = False
        try:
            out, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # it leads a session of its own: what it started goes too
                out, _ = process.communicate()
        return None if late else process.returncode, out.splitlines()

    @contextmanager
    def broken(self, fault: Fault) -> Iterator[None]:
        """The tree with a fault in it."""
        path = self.folder / fault.file
        right = path.read_bytes()
        path.write_text(fault.applied_to(right.decode()), encoding="utf-8")
        try:
            yield
        finally:
            path.write_bytes(right)


def verdict(fault: Fault, tree: Tree, timeout_s: float | None = None) -> str:
    """What the tests of a fault say about it."""
    if timeout_s is None:
        timeout_s = HANG_S if fault.by == "timeout" else TIMEOUT_S
    try:
        with tree.broken(fault):
            status, lines = tree.run(fault.tests, timeout_s)
    except (ValueError, OSError):
        return STALE
    if status is None:
        return CAUGHT if fault.by == "timeout" else HUNG
    if status not in (0, 1):
        return BROKEN
    failed = [line.removeprefix("FAILED ") for line in lines if line.startswith("FAILED ")]
    noticed = all(any(line.startswith((f"{test} ", f"{test}[")) or line == test for line in failed) for test in fault.tests)
    return CAUGHT if noticed else SURVIVED


# ---- the whole -------------------------------------------------------------------------------------------------------
def judge(faults: Sequence[Fault], trees: Sequence[Tree]) -> Iterator[tuple[Fault, str, float]]:
    """Every fault with its verdict and its seconds, as they come; one fault at a time in each tree."""
    free: SimpleQueue[Tree] = SimpleQueue()
    for tree in trees:
        free.put(tree)

    def one(fault: Fault) -> tuple[Fault, str, float]:
        tree, began = free.get(), time.monotonic()
        try:
            return fault, verdict(fault, tree), time.monotonic() - began
        finally:
            free.put(tree)

    with ThreadPoolExecutor(len(trees)) as pool:
        tasks = [pool.submit(one, fault) for fault in faults]
        try:
            for task in as_completed(tasks):
                yield task.result()
        finally:
            for task in tasks:
                task.cancel()


def score(verdicts: Sequence[tuple[Fault, str]]) -> list[str]:
    """Caught of all, by room and in total."""
    every = Counter(fault.room for fault, _ in verdicts)
    caught = Counter(fault.room for fault, found in verdicts if found == CAUGHT)
    lines = [f"{room:<12} {caught[room]:>3}/{every[room]}" for room in sorted(every)]
    return [*lines, f"{'total':<12} {caught.total():>3}/{every.total()}"]


def prepared(folder: Path, jobs: int, seed: int, tests: Sequence[str]) -> list[Tree]:
    """Copies of the checkout in which the tests pass. SystemExit when they do not."""
    first = Tree(folder / "0", seed)
    first.folder.mkdir()
    copy_checkout(ROOT, first.folder)
    first.prepare()
    if first.imported() != first.folder.resolve():
        raise SystemExit(f"`import apxm` in the copy takes it from {first.imported()}")
    status, lines = first.run(tests, TIMEOUT_S * 10, keep=True)
    if status != 0:
        print("\n".join(lines[-40:]), file=sys.stderr)
        raise SystemExit("the tests do not pass without any fault: nothing can be said")
    trees = [first]
    for number in range(1, jobs):
        shutil.copytree(first.folder, folder / str(number))
        trees.append(Tree(folder / str(number), seed))
    return trees


def break_it(faults: Sequence[Fault], jobs: int, seed: int) -> int:
    """Try every fault and print what became of it; 1 when one was not caught."""
    began, verdicts = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="break-it-", ignore_cleanup_errors=True) as folder:
        tests = sorted({test for fault in faults for test in fault.tests})
        print(f"{len(faults)} faults, {len(tests)} tests; first without any fault", file=sys.stderr)
        trees = prepared(Path(folder), jobs, seed, tests)
        for number, (fault, found, seconds) in enumerate(judge(faults, trees), 1):
            verdicts.append((fault, found))
            line = f"[{number:>3}/{len(faults)}] {found:<8} {seconds:>5.1f} s  {fault.room}/{fault.rule}: {fault.what}"
            print(line, flush=True)
            if found != CAUGHT:
                print(f"          {fault.file}: {MEANING[found]}\n          " + "\n          ".join(fault.tests), flush=True)
    print()
    print("\n".join(score(verdicts)) + f" caught in {time.monotonic() - began:.0f} s (seed {seed}, {jobs} jobs)")
    return int(any(found != CAUGHT for _, found in verdicts))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Break the code on purpose and count what the tests notice.")
    parser.add_argument("-k", metavar="WORDS", default="", help="only faults with this text in their room, rule or words")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="faults at a time (default: 2)")
    parser.add_argument("--seed", type=int, default=1, help="of random choices in tests (default: 1)")
    parser.add_argument("--list", action="store_true", help="print the faults and stop")
    given = parser.parse_args(arguments)
    words = given.k.lower()
    every = [fault for room in rooms() for fault in room.faults]
    faults = [fault for fault in every if words in f"{fault.room}/{fault.rule}: {fault.what}".lower()]
    if not faults or given.jobs < 1:
        parser.error("no such fault" if not faults else "--jobs must be 1 or more")
    if given.list:
        for fault in faults:
            print(f"{fault.room}/{fault.rule}: {fault.what}\n    {fault.file}\n    " + "\n    ".join(fault.tests))
        return 0
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard), hard))
    return break_it(faults, given.jobs, given.seed)


if __name__ == "__main__":
    sys.exit(main())
