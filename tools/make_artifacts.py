"""Writes the JSON and the compiled bytes of every sample program artifacts/NAME/NAME.py. `--check` only compares."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from apxm.cli import source as programs  # noqa: E402  # the checkout this file lies in, installed or not
from apxm.graph.contract import to_json  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator


def sources() -> list[Path]:
    """The Python file of every sample program."""
    return sorted(path for path in (ROOT / "artifacts").glob("*/*.py") if path.stem == path.parent.name)


def outputs(source: Path) -> Iterator[tuple[Path, bytes]]:
    """The files that follow from a source, with what has to stand in them: the bytes are those of `apxm compile`."""
    program = programs.load(str(source))
    assert program.authored is not None
    yield source.with_suffix(".json"), (to_json(program.authored, indent=2) + "\n").encode()
    yield source.with_suffix(".apxm"), program.compiled(programs.offered(program, [])).to_bytes()


def main() -> int:
    """Write or compare every file; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is out of date")
    check = parser.parse_args().check
    count = stale = 0
    for source in sources():
        for path, content in outputs(source):
            count += 1
            if path.exists() and path.read_bytes() == content:
                continue
            stale += 1
            print(f"{'out of date:' if check else 'wrote'} {path.relative_to(ROOT)}")
            if not check:
                path.write_bytes(content)
    if check and stale:
        print(f"{stale} of {count} files are out of date: run tools/make_artifacts.py")
    elif not stale:
        print(f"{count} files are up to date")
    return int(check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
