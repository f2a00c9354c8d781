"""`apxm init`: a new project with a first flow and its test. Writes nothing over anything that is there, and all or nothing."""

from __future__ import annotations

import keyword
import re
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from apxm.cli.command import Command, Option
from apxm.cli.exits import Exit

if TYPE_CHECKING:
    from argparse import Namespace

TEMPLATES = {  # file of the project -> template
    "flow.py": "flow.py.txt",
    "test_flow.py": "test_flow.py.txt",
    "apxm.toml": "apxm.toml.txt",
    "README.md": "README.md.txt",
    ".gitignore": "gitignore.txt",
}
_TAKEN = {"flow", "step", "count_words", "signed"}  # names in flow.py


def init(order: Namespace) -> int:
    """Write the files of a project; the exit code."""
    from apxm.cli import report

    folder = Path(order.folder or ".")
    name = order.name or folder.resolve().name
    content = project(name)
    _write(folder, content)
    for file in content:
        report.say(f"wrote {folder / file}")
    there = "" if folder == Path(".") else f"cd {folder}\n"
    question = '--param text="Ada wrote the notes." --param question="Who wrote the notes?"'
    report.say("next:")
    report.emit(f"{there}apxm run flow.py {question}\napxm graph flow.py\npython -m pytest")
    return Exit.OK


def project(name: str) -> dict[str, str]:
    """The files of a new project, by name."""
    from apxm.errors import InvalidError

    flow = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()
    if not flow or flow[0].isdigit() or keyword.iskeyword(flow) or flow in _TAKEN:
        raise InvalidError(
            f"{name!r} gives the flow the name {flow!r}, which it cannot have", hint="--name takes letters, digits, _ and -"
        )
    folder = files("apxm.cli") / "templates"
    texts = {file: (folder / template).read_text(encoding="utf-8") for file, template in TEMPLATES.items()}
    return {file: text.replace("@NAME@", name).replace("@FLOW@", flow) for file, text in texts.items()}


def _write(folder: Path, content: dict[str, str]) -> None:
    """All of them, or none."""
    from apxm.errors import InvalidError

    there = [file for file in content if (folder / file).exists()]
    if there:
        raise InvalidError(
            f"{folder} already has {', '.join(there)}",
            hint="`apxm init` writes over nothing; give a new folder: `apxm init NAME`",
        )
    made = not folder.exists()
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in content.items():
            with (folder / file).open("x", encoding="utf-8") as out:
                written.append(folder / file)
                out.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        if made:
            with suppress(OSError):
                folder.rmdir()
        raise InvalidError(f"cannot write {error.filename or folder}: {error.strerror}") from error


COMMANDS = {
    "init": Command(
        "init",
        "Make a new project: a first flow, its test, its settings.",
        "Writes flow.py, test_flow.py, apxm.toml, README.md and .gitignore. Files that are there are never written over.",
        (
            Option("folder", "where; made when it is not there. Default: here", "FOLDER", optional=True),
            Option("--name", "what the project and its flow are called; default: the name of the folder", "NAME"),
        ),
        init,
    )
}
