"""The commands of `apxm`, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from apxm.cli.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from apxm.cli.command import Command

# Name -> module with a COMMAND (or, for `ops list`, its entry of COMMANDS). One command imports one module.
COMMANDS = {
    "init": "init",
    "run": "run",
    "runs ls": "runs",
    "runs show": "runs",
    "runs gc": "runs",
    "pending": "pending",
    "answer": "pending",
    "queue put": "queue",
    "queue list": "queue",
    "queue show": "queue",
    "queue requeue": "queue",
    "queue drop": "queue",
    "queue purge": "queue",
    "memory ls": "memory",
    "memory get": "memory",
    "memory search": "memory",
    "memory put": "memory",
    "memory rm": "memory",
    "memory facts": "memory_facts",
    "memory episodes": "memory_episodes",
    "memory stats": "memory_upkeep",
    "memory verify": "memory_upkeep",
    "memory rebuild": "memory_upkeep",
    "memory compact": "memory_upkeep",
    "memory export": "memory_transfer",
    "memory import": "memory_transfer",
    "compile": "compile",
    "validate": "validate",
    "inspect": "inspect",
    "graph": "graph",
    "analyze": "analyze",
    "explain": "explain",
    "schema": "schema",
    "ops list": "ops",
    "ops show": "ops",
    "mcp serve": "mcp",
    "doctor": "doctor",
    "config show": "config",
    "completion": "completion",
}


def command(name: str) -> Command:
    """The command of that name."""
    found: Command = import_module(f"apxm.cli.{COMMANDS[name]}").COMMANDS[name]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(given)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit has somewhere to go
        return Exit.PIPE
    except SystemExit as ended:  # after --help
        return int(ended.code or 0)
    except Exception as error:
        from apxm.cli.report import fail

        return fail(error, json="--json" in given)


def _dispatch(given: list[str]) -> int:
    from apxm.cli.text import spelling
    from apxm.errors import InvalidError

    if given == ["--version"]:
        from apxm import __version__

        print(f"apxm {__version__}")
        return Exit.OK
    for words in (2, 1):
        name = " ".join(given[:words])
        if name in COMMANDS:
            chosen = command(name)
            return int(chosen.run(chosen.parse(given[words:])))
    if not given or given[0] in ("-h", "--help"):
        print(overview())
        return Exit.OK if given else Exit.INVALID
    known = [name for name in COMMANDS if name.startswith(f"{given[0]} ")]
    if known and given[1:] and given[1] in ("-h", "--help"):
        print("\n".join([f"usage: apxm {given[0]} COMMAND [options]", "", "commands:", *_listed(known)]))
        return Exit.OK
    if known:
        raise InvalidError(
            f"`apxm {given[0]}` needs to know what to do", hint=f"there are: {', '.join(f'`apxm {n}`' for n in known)}"
        )
    raise InvalidError(f"there is no command `{given[0]}`", hint=spelling(given[0], COMMANDS))


def overview() -> str:
    """What `apxm --help` prints."""
    lines = ["usage: apxm COMMAND [options]", "", "Compile, run and look into agent programs.", "", "commands:"]
    lines += _listed(COMMANDS)
    return "\n".join([*lines, "", "`apxm COMMAND --help` explains one of them, `apxm --version` prints the version."])


def _listed(names: Iterable[str]) -> list[str]:
    known = list(names)
    width = max(map(len, known))
    return [f"  {name:<{width}} {command(name).summary}" for name in known]
