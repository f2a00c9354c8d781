"""The commands of `apxm`, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from apxm.cli import compile, examine, ops, run
from apxm.cli.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Sequence

# Plain help: the rich one costs 70 ms at every start, more than everything else of `apxm --help` together.
app = typer.Typer(
    name="apxm",
    help="Compile, run and look into agent programs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("compile")(compile.compile)
app.command("run")(run.run)
app.command("validate")(examine.validate)
app.command("inspect")(examine.inspect)
app.add_typer(ops.app, name="ops")


def _version(asked: bool) -> None:
    if asked:
        from apxm import __version__

        typer.echo(f"apxm {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")] = False,
) -> None:
    """Compile, run and look into agent programs."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Nothing but SystemExit of the interpreter itself ever leaves it."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    json = "--json" in given
    try:
        with contextlib.suppress(AttributeError, ValueError):
            sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal that cannot show a letter shows ?
        return int(app(args=given, prog_name="apxm", standalone_mode=False) or 0)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit has somewhere to go
        return Exit.PIPE
    except Exception as error:
        return _failed(error, json=json)


def _failed(error: Exception, *, json: bool) -> int:
    from apxm.cli.report import fail, say
    from apxm.errors import InvalidError

    complaint = getattr(error, "format_message", None)  # the command line itself: typer's error, whichever release it is
    if complaint is None:
        return fail(error, json=json)
    if json:
        return fail(InvalidError(complaint()), json=True)
    context = getattr(error, "ctx", None)
    if context is not None and len(complaint().splitlines()) < 3:
        say(f"{context.get_usage()}\n")
    say(complaint())
    return Exit.INVALID
